"""CamVid from a local folder, in its original layout or in SegNet's: eleven classes, at 360×480, frames in order.

Brostow et al. (2009), "Semantic object classes in video", with the classes and the split that SegNet made common.
"""

from __future__ import annotations

from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stressbench.contracts import Dataset, Segmentation
from stressbench.datasets.masks import Encoded, Images, Lookup, Masks, indices, listed, paired
from stressbench.datasets.own import check_name
from stressbench.errors import UserError

SIZE = (360, 480)
VOID = 255
# The colours of the original masks that each of the eleven classes is made of.
COLOURS: tuple[tuple[str, tuple[tuple[int, int, int], ...]], ...] = (
    ("sky", ((128, 128, 128),)),
    ("building", ((128, 0, 0), (0, 128, 64), (64, 192, 0), (64, 0, 64), (192, 0, 128))),
    ("pole", ((192, 192, 128), (0, 0, 64))),
    ("road", ((128, 64, 128), (128, 0, 192), (192, 0, 64))),
    ("pavement", ((0, 0, 192), (64, 192, 128), (128, 128, 192))),
    ("tree", ((128, 128, 0), (192, 192, 0))),
    ("sign", ((192, 128, 128), (128, 128, 64), (0, 64, 64))),
    ("fence", ((64, 64, 128),)),
    ("car", ((64, 0, 128), (64, 128, 192), (192, 64, 128), (192, 128, 192), (128, 64, 64))),
    ("pedestrian", ((64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64))),
    ("bicyclist", ((0, 128, 192), (192, 0, 192))),
)
_VOID_COLOUR = (0, 0, 0)
_UNKNOWN = 254  # in the table of colours
# Where the original's images and masks are; the split is by the frame's name.
_ORIGINAL = ("701_StillsRaw_full", "LabeledApproved_full")
_LAST_0001TP = 8520  # the last frame of this recording's first half, which is trained on
_VALIDATION_0016E5 = range(7959, 8160)
_LAYOUTS = (
    "train/, trainannot/, test/, testannot/ (index images, as SegNet has them); train/, train_labels/, test/, "
    "test_labels/ (colour images NAME_L.png); or 701_StillsRaw_full/ and LabeledApproved_full/ (as published)"
)


def camvid(split: str, data_dir: Path | None = None, name: str | None = None) -> Dataset:
    """CamVid in the folder `data_dir`: 367 frames to train on and 233 to test, in the order of the recordings.

    Layouts are told apart by their folders: `test` with `testannot` (index masks, 11 for void), `test` with
    `test_labels` (colour masks), or `701_StillsRaw_full` with `LabeledApproved_full`. Masks of colours are reduced to
    eleven classes. Other sizes than 360×480 become it: images bilinearly, masks to the nearest pixel.

    Raises `UserError` for a folder in none of these layouts, frames without masks, and unknown colours.
    """
    if data_dir is None:
        raise UserError("'camvid' reads a folder of yours: name it with --data-dir")
    if not data_dir.is_dir():
        raise UserError(f"{data_dir} is {'not a folder' if data_dir.exists() else 'not there'}: check --data-dir")
    images, masks, lookup = _files(data_dir, split)
    recordings = [list(group) for _, group in groupby(images, key=lambda path: path.stem.partition("_")[0])]
    return Dataset(
        name="camvid" if name is None else check_name(name),
        split=split,
        task=Segmentation(len(COLOURS), VOID),
        images=Images(frames := Encoded.files(images), SIZE, resize=True),
        targets=Masks(Encoded.files(masks), SIZE, resize=True, lookup=lookup, of=frames),
        image_size=SIZE,
        mean=(0.4119, 0.4251, 0.4328),
        std=(0.2741, 0.2851, 0.2828),
        recordings=torch.arange(len(recordings)).repeat_interleave(torch.tensor([len(one) for one in recordings])),
    )


def from_indices(mask: NDArray[Any], name: str) -> NDArray[Any]:
    """SegNet's indices 0 … 10, and 11 for void, as classes."""
    values = indices(mask, name)
    if values.max() > len(COLOURS):
        raise UserError(
            f"{name} has the class {values.max()}; CamVid's are 0–10, and 11 for void. For another set, use --dataset "
            "segmentation"
        )
    return np.where(values == len(COLOURS), VOID, values)


def from_colours(mask: NDArray[Any], name: str) -> NDArray[Any]:
    """The original's colours (H, W, 3) as classes."""
    if mask.ndim != 3:
        raise UserError(f"{name} is not a colour image: index masks belong in the folders trainannot and testannot")
    red, green, blue = (mask[..., channel].astype(np.int64) for channel in range(3))
    found = _table()[(red << 16) + (green << 8) + blue]
    if (found == _UNKNOWN).any():
        row, column = np.argwhere(found == _UNKNOWN)[0]
        colour = ", ".join(map(str, mask[row, column, :3]))
        raise UserError(
            f"{name} has the colour ({colour}) at row {row}, column {column}, which is none of CamVid's: masks must be "
            "PNG files as published, not resized with interpolation"
        )
    return found


@cache
def _table() -> NDArray[np.uint8]:
    table = np.full(1 << 24, _UNKNOWN, dtype=np.uint8)
    for number, (_, colours) in enumerate((*COLOURS, ("void", (_VOID_COLOUR,)))):
        for red, green, blue in colours:
            table[(red << 16) + (green << 8) + blue] = number if number < len(COLOURS) else VOID
    return table


def _files(folder: Path, split: str) -> tuple[list[Path], list[Path], Lookup]:
    """A split's images and masks in their order, and how the masks are read."""
    images, by_index, by_colour = (folder / f"{split}{ending}" for ending in ("", "annot", "_labels"))
    if images.is_dir() and by_index.is_dir():
        return *paired(listed(images), listed(by_index)), from_indices
    if images.is_dir() and by_colour.is_dir():
        return *paired(listed(images), listed(by_colour), "_L"), from_colours
    images, by_colour = (folder / part for part in _ORIGINAL)
    if images.is_dir() and by_colour.is_dir():
        frames = [path for path in listed(images) if _split(path, path.stem) == split]
        masks = [path for path in listed(by_colour) if _split(path, path.stem.removesuffix("_L")) == split]
        if frames and masks:
            return *paired(frames, masks, "_L"), from_colours
        raise UserError(f"{images} or {by_colour} has no frames of the {split} split: unpack the whole archive")
    there = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir())) or "none"
    raise UserError(f"{folder} is in none of CamVid's layouts: expected folders {_LAYOUTS}; it has {there}")


def _split(path: Path, stem: str) -> str:
    """The split of a frame of the original, as SegNet divided the recordings."""
    recording, _, number = stem.partition("_")
    if recording == "0001TP" and number.isdecimal():
        return "train" if int(number) <= _LAST_0001TP else "test"
    if recording == "0016E5" and number.isdecimal():
        return "validation" if int(number) in _VALIDATION_0016E5 else "train"
    if recording in ("0006R0", "Seq05VD"):
        return "train" if recording == "0006R0" else "test"
    raise UserError(f"{path} is of none of CamVid's four recordings: remove it, or use --dataset segmentation")
