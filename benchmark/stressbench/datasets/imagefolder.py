"""A folder of class folders, as torchvision's `ImageFolder` reads it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch

from stressbench.contracts import Dataset
from stressbench.datasets.encoded import EncodedImages, fit
from stressbench.datasets.masks import SUFFIXES
from stressbench.datasets.own import Rows, nothing_found, own, words
from stressbench.errors import UserError

_SPLITS = {"train", "test", "val", "valid", "validation"}


def imagefolder(
    split: str,
    data_dir: Path | None = None,
    name: str | None = None,
    *,
    test: str = "test",
    size: int | None = None,
    resize: int | None = None,
) -> Dataset:
    """The images in `SPLIT/CLASS/` below the folder `data_dir`, called `name`.

    `test` is what the folder calls the split to test on; a folder of class folders without splits is a test split.
    The classes are the names of the class folders of the train and the test split, in alphabetical order. Images come
    in turns, the first of each class, then the second of each, and so on, so that the first N are of all classes.
    With `size`, they are scaled until their shorter side is `resize` (`size`, unless it is given), and their middle,
    `size`×`size`, is cut out.

    Raises `UserError` without a folder or a name, for another layout, and for a class without images.
    """
    fitted = fit(size, resize)

    def load(folder: Path) -> Rows:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: check --data-dir")
        this, other = words(split, test)
        places = [folder / word for word in (this, other) if (folder / word).is_dir()]
        if split == test == "test" and not any(path.name.lower() in _SPLITS for path in _folders(folder)):
            places = [folder]
        if not places or places[0] not in (folder, folder / this):
            raise nothing_found("imagefolder", folder, this, f"{this}/CLASS/IMAGE")
        classes = {path.name: number for number, path in enumerate(_classes(places))}
        found = [_images(path) for path in _folders(places[0])]
        if not found:
            raise nothing_found("imagefolder", folder, this, f"{this}/CLASS/IMAGE")
        turns = itertools.zip_longest(*found)
        paths = [path for turn in turns for path in turn if path is not None]
        labels = [classes[path.relative_to(places[0]).parts[0]] for path in paths]
        images = EncodedImages.of_files(paths, fitted)
        return Rows(images, torch.tensor(labels), len(classes))

    return own("imagefolder", split, data_dir, name, load)


def _classes(places: Sequence[Path]) -> list[Path]:
    """One folder of each class, by name."""
    named = {path.name: path for place in places for path in _folders(place)}
    return [named[name] for name in sorted(named)]


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    """The images of a class, by name; raises `UserError` where there are none."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    found = [path for path in found if not path.name.startswith(".")]
    if not found:
        raise UserError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}): add some, or remove the folder")
    return found
