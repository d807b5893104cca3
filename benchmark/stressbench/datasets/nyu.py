"""NYU Depth V2 from a local folder: the labelled .mat file with its split, or Parquet files; indoor scenes by a Kinect.

Silberman et al. (2012), "Indoor Segmentation and Support Inference from RGBD Images", at the size that FCRN was
published with (Laina et al., 2016).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2

from stressbench._util.files import reading
from stressbench.contracts import Dataset, Depth, Source
from stressbench.datasets import folder as parquet_folder
from stressbench.datasets.masks import Images, Maps, column
from stressbench.datasets.own import check_name
from stressbench.errors import UserError

LABELLED, SPLITS = "nyu_depth_v2_labeled.mat", "splits.mat"
HALF = (240, 320)
SIZE = (228, 304)
"""Images are made half as large, `HALF`, and cut around their centre."""
FURTHEST = 10.0
"""Metres, where the sensor ends; what it measures there, or as 0, is not known."""
_NUMBERS = {"train": "trainNdxs", "test": "testNdxs"}  # in `SPLITS`; they count from 1
_PARQUET = {"train": ("train",), "test": ("test", "val")}  # what files of a split begin with
_DEPTH = ("depth_map", "depth")  # what the column is called
_LAYOUTS = (
    f"{LABELLED} and {SPLITS} as published, or {{}} with the columns image and depth_map of encoded images, depths in "
    "metres (TIFF of floats) or millimetres (16-bit PNG)"
)


def nyu(split: str, data_dir: Path | None = None, name: str | None = None) -> Dataset:
    """NYU Depth V2 in the folder `data_dir`: 795 images to train on and 654 to test, 228×304, depth in metres.

    The published labelled file, with the file of its split beside it, or `train*.parquet` and `test*.parquet` or
    `val*.parquet`. Depths are those that the sensor measured, without filled gaps, and NaN where they are 0 or at least
    10 m. Pictures of 3:4 are made 240×320, images bilinearly with antialiasing and depths to the nearest pixel, and cut
    to their centre.

    Raises `UserError` for a folder in neither layout, damaged files, and a missing h5py, which reads the published
    file.
    """
    if data_dir is None:
        raise UserError("'nyu' reads a folder of yours: specify it with --data-dir")
    if not data_dir.is_dir():
        raise UserError(f"{data_dir} is {'not a folder' if data_dir.exists() else 'not there'}: check --data-dir")
    images, depths = _sources(data_dir, split)
    return Dataset(
        name="nyu" if name is None else check_name(name),
        split=split,
        task=Depth(),
        images=_Images(images),
        targets=_Depths(depths),
        image_size=SIZE,
        mean=(0.485, 0.456, 0.406),  # ImageNet's, with which FCRN's encoder was trained
        std=(0.229, 0.224, 0.225),
    )


def _sources(folder: Path, split: str) -> tuple[Source, Source]:
    if (folder / LABELLED).exists():
        rows = _rows(folder / SPLITS, split)
        return _Labelled(folder / LABELLED, "images", rows), _Labelled(folder / LABELLED, "rawDepths", rows)
    for begins in _PARQUET.get(split, (split,)):
        if files := parquet_folder.find(folder, begins):
            images, depths = column(files, "image"), column(files, _depth_column(files[0]))
            size = images.size(0)
            return Images(images, size, resize=False), Maps(depths, size, resize=False, values=metres)
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    parquet = " or ".join(f"{begins}*.parquet" for begins in _PARQUET.get(split, (split,)))
    raise UserError(f"{folder} holds no {split} split: expected {_LAYOUTS.format(parquet)}; it holds {there}")


def _depth_column(path: Path) -> str:
    try:
        known = pq.read_schema(path).names
    except (pa.ArrowException, OSError):  # `column` reports what is wrong with the file
        known = []
    return next((one for one in _DEPTH if one in known), _DEPTH[0])


def _rows(path: Path, split: str) -> NDArray[np.int64]:
    """Which images of the labelled file a split has, from 0."""
    from scipy.io import loadmat

    if not path.is_file():
        raise UserError(f"{path} is missing, which has the split of {LABELLED}: download it from the dataset's page")
    if split not in _NUMBERS:
        raise UserError(f"NYU Depth V2 has no {split} split: expected {' or '.join(_NUMBERS)}")
    try:
        with reading(path):
            numbers = loadmat(path, variable_names=[_NUMBERS[split]])[_NUMBERS[split]]
            return np.asarray(numbers, dtype=np.int64).ravel() - 1
    except UserError:
        raise
    except Exception as error:  # a damaged file makes SciPy raise nearly anything
        raise UserError(f"{path} is not the published file of splits ({error}): download it again") from error


@dataclass(frozen=True)
class _Labelled:
    """A variable of the labelled file, an HDF5 file by MATLAB: images (n, 3, H, W), or maps (n, H, W)."""

    path: Path
    variable: str
    rows: NDArray[np.int64]

    def __post_init__(self) -> None:
        if find_spec("h5py") is None:
            raise UserError(f"{self.path} is an HDF5 file, which needs h5py: pip install 'stressbench[dense]'")

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, start: int, stop: int) -> Tensor:
        import h5py

        try:
            with reading(self.path), h5py.File(self.path, "r") as file:
                stored = file[self.variable]
                parts = [torch.from_numpy(stored[row]) for row in self.rows[start:stop]]
        except UserError:
            raise
        except Exception as error:  # h5py has many errors, ValueError and OSError among them
            raise UserError(f"{self.path} is not the whole published file ({error}): download it again") from error
        return torch.stack(parts).transpose(-1, -2)  # MATLAB stores columns after one another


def metres(stored: NDArray[Any], name: str) -> NDArray[np.float32]:
    """A decoded map (H, W) of metres in floats, or of millimetres in integers, as metres; raises `UserError` else."""
    if stored.ndim == 2 and stored.dtype == np.float32:
        return stored
    if stored.ndim == 2 and stored.dtype in (np.uint16, np.int32):  # Pillow may widen 16 bits
        return (stored / 1000).astype(np.float32)
    raise UserError(
        f"{name} has {stored.ndim} dimensions of {stored.dtype}, and not a depth in each pixel: write metres as TIFF "
        "of floats, or millimetres as 16-bit PNG"
    )


@dataclass(frozen=True)
class _Images:
    source: Source

    def __len__(self) -> int:
        return len(self.source)

    def read(self, start: int, stop: int) -> Tensor:
        half = v2.functional.resize(_in_ratio(self.source.read(start, stop)), list(HALF))
        return torch.as_tensor(v2.functional.center_crop(half, list(SIZE))).contiguous()


@dataclass(frozen=True)
class _Depths:
    source: Source

    def __len__(self) -> int:
        return len(self.source)

    def read(self, start: int, stop: int) -> Tensor:
        half = F.interpolate(_in_ratio(self.source.read(start, stop))[:, None], size=HALF, mode="nearest-exact")
        depth = torch.as_tensor(v2.functional.center_crop(half, list(SIZE))).contiguous()
        return torch.where((depth > 0) & (depth < FURTHEST), depth, torch.nan)


def _in_ratio(pictures: Tensor) -> Tensor:
    height, width = pictures.shape[-2:]
    if 4 * height != 3 * width:
        raise UserError(f"its pictures are {width}×{height}; those of NYU Depth V2 are 640×480, or smaller alike")
    return pictures
