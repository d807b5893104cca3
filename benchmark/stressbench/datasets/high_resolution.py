"""Super-resolution ×4 of image files: DIV2K, Set14 or any folder, in tiles of one size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stressbench.contracts import Dataset, SuperResolution
from stressbench.datasets.bicubic import shrink
from stressbench.datasets.encoded import FORMATS, rgb
from stressbench.datasets.masks import SUFFIXES, Encoded, listed
from stressbench.datasets.own import check_name
from stressbench.datasets.super_resolution import PATCH, SCALE
from stressbench.errors import UserError

TRAIN_TILES = 16
"""At most so many of an image in train and pool: all of DIV2K's need more memory than most machines have."""
# Where DIV2K has its splits.
_DIV2K = {"train": "DIV2K_train_HR", "test": "DIV2K_valid_HR"}
_SMALL = PATCH // SCALE
_SPLITS = ("train", "test", "pool")
# Archives of Set14 and others may have an image, and what was made of it, in one folder.
_HIGH = "_HR"


def super_resolution(split: str, data_dir: Path | None = None, name: str | None = None) -> Dataset:
    """The images in the folder `data_dir`, called `name`, in tiles of 96×96 pixels, to be made from 24×24.

    Layouts are `DIV2K_train_HR` with `DIV2K_valid_HR`, which is tested on; `train`, `test` and, for `bench acquire`,
    `pool`; or images in the folder itself, as those of Set14, which are all tested on. Where files are
    called NAME_HR, they alone are taken.

    An image is cut to multiples of 4 at the right and at the bottom and made four times smaller as a whole, by MATLAB's
    bicubic interpolation. Tiles lie side by side around its middle, so that less than a tile's width is left out at
    each border; test has all of them, and other splits at most 16 of an image, evenly spread.

    Raises `UserError` without a folder or a name, for another layout, and for images that cannot be read or are smaller
    than a tile.
    """
    if data_dir is None:
        raise UserError("'super-resolution' reads a folder of yours: specify it with --data-dir")
    if name is None:
        raise UserError("'super-resolution' needs a name for the record and the leaderboard: specify --dataset-name")
    called = check_name(name)
    if not data_dir.is_dir():
        raise UserError(f"{data_dir} is {'not a folder' if data_dir.exists() else 'not there'}: check --data-dir")
    paths = _files(data_dir, split)
    places = [
        (number, *corner)
        for number, path in enumerate(paths)
        for corner in _spread(corners(*_size(path)), None if split == "test" else TRAIN_TILES)
    ]
    # One picture is kept, since tiles are read in order.
    picture = lru_cache(maxsize=1)(partial(_picture, Encoded.files(paths)))
    return Dataset(
        name=called,
        split=split,
        task=SuperResolution(scale=SCALE),
        images=_Images(places, picture),
        targets=_Targets(places, picture),
        image_size=(_SMALL, _SMALL),
    )


def corners(height: int, width: int) -> list[tuple[int, int]]:
    """The upper left corners of an image's tiles, row by row, in pixels of the small image.

    >>> corners(96, 200)
    [(0, 1), (0, 25)]
    >>> corners(96, 96 + 8 * 4)
    [(0, 4)]
    """
    tops, lefts = (
        [side // SCALE % _SMALL // 2 + _SMALL * number for number in range(side // SCALE // _SMALL)]
        for side in (height, width)
    )
    return [(top, left) for top in tops for left in lefts]


def _spread(all_corners: Sequence[tuple[int, int]], most: int | None) -> list[tuple[int, int]]:
    """At most so many, at equal distances in their order."""
    if most is None or len(all_corners) <= most:
        return list(all_corners)
    return [all_corners[number * len(all_corners) // most] for number in range(most)]


@dataclass(frozen=True)
class _Tiles:
    """The tiles of pictures: of each, the number of its picture, and its corner in the small picture."""

    places: Sequence[tuple[int, int, int]]
    picture: Callable[[int], tuple[Tensor, Tensor]]

    def __len__(self) -> int:
        return len(self.places)

    def cut(self, start: int, stop: int, scale: int) -> Tensor:
        """Tiles (n, 3, H, W), uint8: of the small pictures for a `scale` of 1, else of the large ones."""
        side, found = _SMALL * scale, []
        for number, top, left in self.places[start:stop]:
            whole = self.picture(number)[scale > 1]
            found.append(whole[:, scale * top :, scale * left :][:, :side, :side])
        return torch.stack(found)


class _Images(_Tiles):
    def read(self, start: int, stop: int) -> Tensor:
        return self.cut(start, stop, 1)


class _Targets(_Tiles):
    def read(self, start: int, stop: int) -> Tensor:
        return self.cut(start, stop, SCALE).to(torch.float32) / 255


def _picture(pictures: Encoded, number: int) -> tuple[Tensor, Tensor]:
    """A picture (3, H, W), uint8, four times smaller, and as it is but for what 4 does not divide."""
    try:
        pixels = np.array(rgb(pictures.decoded(number)))
    except ValueError as error:
        raise UserError(f"{pictures.names[number]}: {error}") from error
    height, width = (side // SCALE * SCALE for side in pixels.shape[:2])
    whole = torch.from_numpy(pixels[:height, :width]).permute(2, 0, 1)
    return shrink(whole[None], SCALE)[0], whole


def _size(path: Path) -> tuple[int, int]:
    """Height and width, from the head of the file; raises `UserError` for what is less than a tile."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            height, width = picture.height, picture.width
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise UserError(f"{path} cannot be decoded: {error}. Fix or remove it") from error
    if min(height, width) < PATCH:
        raise UserError(f"{path} is {width}×{height}, less than a tile of {PATCH}×{PATCH} pixels: remove it")
    return height, width


def _files(folder: Path, split: str) -> list[Path]:
    """The image files of a split, by name."""
    for place in (_DIV2K.get(split, split), split):
        if (folder / place).is_dir():
            return _originals(listed(folder / place))
    apart = any((folder / place).is_dir() for place in (*_DIV2K.values(), *_SPLITS))
    if split == "test" and not apart and any(path.suffix.lower() in SUFFIXES for path in folder.iterdir()):
        return _originals(listed(folder))
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    flat = ", or image files in the folder itself" if split == "test" else ""
    wanted = " or ".join(dict.fromkeys(f"{place}/" for place in (split, _DIV2K.get(split, split))))
    raise UserError(f"{folder} holds no {split} split: expected {wanted}{flat}; it holds {there}")


def _originals(paths: list[Path]) -> list[Path]:
    """Without what was made of others: the files NAME_HR where there are any."""
    return [path for path in paths if path.stem.endswith(_HIGH)] or paths
