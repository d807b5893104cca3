"""Any pairs of images and target maps in a local folder: .npy files, or Parquet files with both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stressbench.contracts import Dataset, Regression, Source
from stressbench.datasets import folder as parquet_folder
from stressbench.datasets.masks import Images, Maps, column
from stressbench.datasets.npy import NpyFile
from stressbench.datasets.own import check_name
from stressbench.errors import UserError

_LAYOUTS = (
    "{split}_images.npy, uint8 (N, H, W, 3) or (N, 3, H, W), with {split}_targets.npy, float (N, K, H, W), H and W a "
    "multiple of the images'; or {split}*.parquet with the columns image and target of encoded images"
)
_SAVE = "save the array with numpy.save"
_HIGHEST = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}  # of encoded targets, which are then in [0, 1]


def pairs(split: str, data_dir: Path | None = None, name: str | None = None) -> Dataset:
    """Dense regression of the pairs in the folder `data_dir`, called `name`: K values for each pixel of an image.

    Targets are as high and wide as the images, or a whole number of times more; NaN where there is none. Layouts are
    `test_images.npy`, uint8 (N, H, W, 3) or (N, 3, H, W), with `test_targets.npy`, float (N, K, H, W), and
    `test*.parquet` with the columns `image` and `target` of encoded images. Of those, 8 and 16 bits are read as 0 … 1
    and a TIFF of floats as it is.

    Raises `UserError` without a folder or a name, for another layout, and for arrays that do not fit each other.
    """
    if data_dir is None:
        raise UserError("'pairs' reads a folder of yours: specify it with --data-dir")
    if name is None:
        raise UserError("'pairs' needs a name for the record and the leaderboard: specify --dataset-name")
    called = check_name(name)
    if not data_dir.is_dir():
        raise UserError(f"{data_dir} is {'not a folder' if data_dir.exists() else 'not there'}: check --data-dir")
    images, targets, size = _sources(data_dir, split)
    if len(images) != len(targets):
        raise UserError(f"{data_dir} has {len(images)} {split} images and {len(targets)} targets: it must have as many")
    _, channels, height, width = targets.read(0, 1).shape
    scale = height // size[0]
    if (height, width) != (scale * size[0], scale * size[1]) or scale == 0:
        raise UserError(
            f"{data_dir} has targets of {width}×{height} for images of {size[1]}×{size[0]}: they must have the same "
            "size, or a multiple of it"
        )
    return Dataset(
        name=called,
        split=split,
        task=Regression(channels, "1", scale),
        images=images,
        targets=targets,
        image_size=size,
    )


def _sources(folder: Path, split: str) -> tuple[Source, Source, tuple[int, int]]:
    """Images, targets, and the size of an image."""
    paths = folder / f"{split}_images.npy", folder / f"{split}_targets.npy"
    if all(path.is_file() for path in paths):
        pixels, targets = (NpyFile(path, _SAVE) for path in paths)
        if len(pixels.shape) != 4 or pixels.dtype != np.uint8 or 3 not in (pixels.shape[1], pixels.shape[3]):
            raise UserError(f"{paths[0]} is {_form(pixels)}: expected uint8 (N, H, W, 3) or (N, 3, H, W)")
        if len(targets.shape) != 4 or targets.dtype.kind != "f":
            raise UserError(f"{paths[1]} is {_form(targets)}: expected floats (N, K, H, W)")
        last = pixels.shape[3] == 3
        height, width = pixels.shape[1:3] if last else pixels.shape[2:]
        return _Array(pixels, np.uint8, last), _Array(targets, np.float32), (height, width)
    if files := parquet_folder.find(folder, split):
        encoded, target = column(files, "image"), column(files, "target")
        size = encoded.size(0)
        maps = Maps(target, target.size(0), resize=False, values=_values)
        return Images(encoded, size, resize=False), maps, size
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    layouts = _LAYOUTS.format(split=split)
    raise UserError(f"{folder} holds no {split} split: expected {layouts}; it holds {there}")


def _form(array: NpyFile) -> str:
    return f"{array.dtype} ({', '.join(map(str, array.shape))})"


@dataclass(frozen=True)
class _Array:
    file: NpyFile
    dtype: type[np.generic]
    channels_last: bool = False

    def __len__(self) -> int:
        return len(self.file)

    def read(self, start: int, stop: int) -> Tensor:
        rows = self.file.read(start, stop)
        rows = np.moveaxis(rows, 3, 1) if self.channels_last else rows
        return torch.from_numpy(np.array(rows, dtype=self.dtype, order="C"))


def _values(stored: NDArray[Any], name: str) -> NDArray[np.float32]:
    """A decoded target (H, W) or (H, W, K) as values (K, H, W)."""
    channels_first = np.atleast_3d(stored).transpose(2, 0, 1)
    if stored.dtype == np.float32:
        return channels_first
    if stored.dtype not in _HIGHEST:
        raise UserError(f"{name} has pixels of {stored.dtype}: use 8 or 16 bits, or floats")
    return (channels_first / _HIGHEST[stored.dtype]).astype(np.float32)
