"""NumPy files of images and labels."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stressbench._util.files import reading
from stressbench.contracts import Dataset
from stressbench.datasets.own import IMAGE, LABEL, InMemoryPixels, Rows, count_classes, nothing_found, own, words
from stressbench.datasets.pixels import CHANNELS, channels_first, to_bytes
from stressbench.errors import UserError

_IMAGES, _LABELS = (*IMAGE, "images", "x", "X", "data"), (*LABEL, "y", "targets")


def arrays(
    split: str,
    data_dir: Path | None = None,
    name: str | None = None,
    *,
    test: str = "test",
    classes: int | None = None,
) -> Dataset:
    """Images and labels in NumPy files in the folder `data_dir`, called `name`.

    The layouts are `SPLIT.npz` with arrays such as "images" and "labels", `SPLIT_images.npy` with `SPLIT_labels.npy`,
    and one file `.npz`, alone in the folder or as `data_dir` itself, with `SPLIT_images` and `SPLIT_labels` (as
    MedMNIST has them) or `x_SPLIT` and `y_SPLIT` (as Keras). `test` is what it calls the split to test on. Images are
    (N, H, W, 3), (N, 3, H, W), or (N, H, W) if they are grey: uint8, or floats in [0, 1]. Labels are whole numbers (N,)
    or (N, 1). The number of classes is `classes`, else 1 + the highest label of both splits.

    Raises `UserError` without a folder or a name, for another layout, arrays of Python objects, and images of another
    shape or range.
    """

    def load(place: Path) -> Rows:
        this, other = words(split, test)
        found = _pair(place, this)
        if found is None:
            folder = place if place.is_dir() else place.parent
            raise nothing_found(
                "arrays", folder, this, f"{this}.npz, {this}_images.npy with {this}_labels.npy, or one .npz"
            )
        pixels, labels = found
        sibling = _pair(place, other)
        numbers = _numbers(labels, place)
        every = [numbers] if sibling is None else [numbers, _numbers(sibling[1], place)]
        try:
            images = _pixels(pixels)
            low, high = min(int(one.min()) for one in every), max(int(one.max()) for one in every)
            if low < 0:
                raise UserError(f"a label is {low}: classes count from 0")
            count = count_classes(low, high, classes)
        except UserError as error:
            raise UserError(f"{place}, {this} split: {error}") from error
        if len(numbers) != len(images):
            raise UserError(f"{place} has {len(images)} {this} images and {len(numbers)} labels: it must have as many")
        return Rows(InMemoryPixels(images), numbers, count)

    return own("arrays", split, data_dir, name, load)


def _pair(place: Path, split: str) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """A split's images and labels as they are stored; None where there are none."""
    paths = place / f"{split}_images.npy", place / f"{split}_labels.npy"
    if all(path.is_file() for path in paths):
        first, second = map(_load, paths)
        return first, second
    alone = [place] if place.is_file() else sorted(place.glob("*.npz"))
    own_file = place / f"{split}.npz"
    if own_file.is_file():
        return _named(own_file, _IMAGES, _LABELS)
    if len(alone) != 1:
        return None
    images, labels = (f"{split}_images", f"x_{split}"), (f"{split}_labels", f"y_{split}")
    return _named(alone[0], images, labels, needed=False)


def _named(
    path: Path, images: tuple[str, ...], labels: tuple[str, ...], needed: bool = True
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    file: Mapping[str, Any] = _load(path)
    found = [[name for name in file if name in usual] for usual in (images, labels)]
    if not needed and not any(found):
        return None
    for names, usual in zip(found, (images, labels), strict=True):
        if len(names) != 1:
            raise UserError(
                f"{path} holds {', '.join(file) or 'nothing'}: expected one of {', '.join(usual)}, and not "
                f"{' with '.join(names) or 'none'}"
            )
    try:
        with reading(path):
            return file[found[0][0]], file[found[1][0]]
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read: {error}. Save plain arrays of numbers with numpy.savez") from error


def _load(path: Path) -> Any:
    try:
        with reading(path):
            return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read: {error}. Save plain arrays of numbers with numpy.save") from error


def _numbers(labels: NDArray[Any], place: Path) -> Tensor:
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.ndim != 1 or not np.issubdtype(flat.dtype, np.integer) or len(flat) == 0:
        form = f"{labels.dtype} {labels.shape}"
        raise UserError(f"{place} has labels {form}: expected whole numbers (N,), the classes counted from 0")
    return torch.from_numpy(flat.astype(np.int64))


def _pixels(images: NDArray[Any]) -> Tensor:
    """Stored images as (N, 3, H, W), uint8; grey ones have three equal channels."""
    grey = images[..., None] if images.ndim == 3 else images
    if grey.ndim == 4 and grey.shape[3] == 1:
        grey = grey.repeat(CHANNELS, 3)
    return to_bytes(channels_first(grey, 4)[0])
