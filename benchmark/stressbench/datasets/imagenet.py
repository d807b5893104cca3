"""ImageNet's validation images and the sets of other images of its classes, from local folders or the hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import torch

from stressbench._util.home import home
from stressbench.contracts import Archive, Classification, Dataset, InMemory
from stressbench.datasets.encoded import EncodedImages, Fit, fit
from stressbench.datasets.folder import Columns
from stressbench.datasets.from_hub import from_hub
from stressbench.datasets.identity import identify
from stressbench.datasets.imagenet_classes import A, R
from stressbench.datasets.masks import SUFFIXES
from stressbench.datasets.own import Rows, check_name
from stressbench.datasets.parquet import load_folder
from stressbench.datasets.trees import TreeArchive
from stressbench.datasets.videos import VideoArchive
from stressbench.errors import UserError

CLASSES = 1000
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WNID = re.compile(r"n\d{8}")
_REPOSITORY = "ILSVRC/imagenet-1k"
_SPLITS = {"test": "validation", "train": "train"}  # as the hub calls them
_FOLDERS = {"test": ("val", "validation"), "train": ("train",)}
# The folders of the stressed sets, by the kind of archive that suites ask for.
_STRESSED: Mapping[str, tuple[Callable[[Path, Sequence[str], tuple[int, int]], Archive], tuple[str, ...]]] = {
    "corruption": (TreeArchive, ("ImageNet-C", "imagenet-c")),
    "c-bar": (TreeArchive, ("imagenet-c-bar", "ImageNet-C-bar")),
    "3dcc": (TreeArchive, ("ImageNet-3DCC", "imagenet-3dcc")),
    "perturbation": (VideoArchive, ("ImageNet-P", "imagenet-p")),
}


def imagenet(
    split: str, data_dir: Path | None = None, name: str | None = None, *, size: int = 224, resize: int = 256
) -> Dataset:
    """ImageNet of ILSVRC 2012: 1,000 classes, 50,000 validation images to test on, and the train split.

    Images are scaled until their shorter side is `resize`, and their middle, `size`×`size`, is cut out. `data_dir`
    holds `val/WNID/IMAGE` (and `train/`), the class folders alone, or the hub's Parquet files; without it, the hub is
    asked. Images come in turns, the first of each class, then the second. Stressed sets lie in `ImageNet-C`,
    `ImageNet-P`, `imagenet-c-bar` and `ImageNet-3DCC` in it, or in the store.

    Raises `UserError` for other folders, where the hub is out of reach, and for a `name` without a `data_dir`.
    """
    fitted = _fit(size, resize)
    called = "imagenet" if name is None else check_name(name)
    names: Sequence[str] = ()
    if data_dir is None:
        if name is not None:
            raise UserError("the published 'imagenet' keeps its name: --dataset-name goes with --data-dir")
        rows = from_hub("imagenet", _REPOSITORY, _SPLITS[split], Columns("image", "label"), CLASSES, fitted)
    elif (classes := _class_folders(data_dir, _FOLDERS[split])) is not None:
        found = _tree(classes, range(CLASSES), "ImageNet", fitted)
        rows, names = found.rows, found.names
    else:
        rows = load_folder(data_dir, _SPLITS[split], Columns("image", "label"), CLASSES, None, fitted)
    content = None
    if split == "test":
        content = identify("imagenet" if name is None else called, rows.images, rows.labels, CLASSES, rows.images.size)
    return Dataset(
        name=called,
        split=split,
        task=Classification(CLASSES),
        images=rows.images,
        targets=InMemory(rows.labels),
        image_size=rows.images.size,
        mean=_MEAN,
        std=_STD,
        altered=name is None and split == "test" and content is None,
        published=content,
        archives=_archives(data_dir or home() / "data", names, rows.images.size) if split == "test" else {},
    )


def imagenet_a(split: str, data_dir: Path | None = None, name: str | None = None, *, size: int = 224) -> Dataset:
    """ImageNet-A: 7,500 natural adversarial images of 200 classes, in `imagenet-a/WNID/IMAGE`; see `_part`."""
    return _part("imagenet-a", A, 7500, split, data_dir, name, size)


def imagenet_r(split: str, data_dir: Path | None = None, name: str | None = None, *, size: int = 224) -> Dataset:
    """ImageNet-R: 30,000 renditions of 200 classes, in `imagenet-r/WNID/IMAGE`; see `_part`."""
    return _part("imagenet-r", R, 30_000, split, data_dir, name, size)


def imagenet_v2(split: str, data_dir: Path | None = None, name: str | None = None, *, size: int = 224) -> Dataset:
    """ImageNet-V2: 10,000 new images of the 1,000 classes, in folders that are named by the classes' numbers.

    Their parent is `imagenetv2-matched-frequency-format-val`, or the folder that is given; see `_part`.
    """
    return _part("imagenet-v2", None, 10_000, split, data_dir, name, size)


def _part(
    of: str,
    within: tuple[int, ...] | None,
    count: int,
    split: str,
    data_dir: Path | None,
    name: str | None,
    size: int,
) -> Dataset:
    """A published set of test images, scaled to 256 and cut to `size` pixels as ImageNet's are.

    Of 200 classes, `subset:MODEL` restricts a model of all 1,000 to them. A set without all `count` images is altered.

    Raises `UserError` without a folder, for other folders, and for another split than test.
    """
    if split != "test":
        raise UserError(f"{of} has test images alone: choose another dataset to train on")
    place = home() / "data" if data_dir is None else data_dir
    fitted = _fit(size, size * 256 // 224)
    if within is None:
        folders = ("imagenetv2-matched-frequency-format-val", "imagenetv2-matched-frequency", "ImageNetV2")
        classes = _class_folders(place, folders, r"\d{1,3}")
        labels: Sequence[int] = [] if classes is None else [int(folder.name) for folder in classes]
    else:
        classes = _class_folders(place, (of, of.replace("imagenet", "ImageNet")))
        labels = range(len(within))
    if classes is None:
        raise UserError(
            f"{place} does not hold {of}: pass the folder of its class folders with --data-dir, as its archive has them"
        )
    rows = _tree(classes, labels, of, fitted).rows
    whole = len(rows.images) == count
    return Dataset(
        name=of if name is None else check_name(name),
        split=split,
        task=Classification(len(labels)),
        images=rows.images,
        targets=InMemory(rows.labels),
        image_size=rows.images.size,
        mean=_MEAN,
        std=_STD,
        altered=name is None and not whole,
        published=of if whole and size == 224 else None,
        subset=None if within is None else (CLASSES, within),
    )


@dataclass(frozen=True)
class _Tree:
    rows: Rows
    names: Sequence[str]
    """Of the images, `<class>/<image>` without suffix."""


def _fit(size: int, resize: int) -> Fit:
    found = fit(size, resize)
    assert found is not None, "with a size"
    return found


def _class_folders(place: Path, names: Sequence[str], pattern: str = _WNID.pattern) -> list[Path] | None:
    """The class folders in one of the named folders of a place, or in the place itself; None where there are none."""
    for folder in (*(place / name for name in names), place):
        if folder.is_dir():
            found = [path for path in folder.iterdir() if re.fullmatch(pattern, path.name) and path.is_dir()]
            if found:
                return sorted(found, key=lambda path: path.name)
    return None


def _tree(classes: Sequence[Path], labels: Sequence[int], of: str, fitted: Fit) -> _Tree:
    """The images in class folders, in turns; raises `UserError` unless there is a folder for each label."""
    if len(classes) != len(labels) or (labels and sorted(labels) != list(range(len(labels)))):
        raise UserError(
            f"{classes[0].parent} has {len(classes)} class folders, and {of} has {len(labels)}: complete it, or read a "
            "part of it with --dataset imagefolder"
        )
    found = [[(path, label) for path in _images(folder)] for folder, label in zip(classes, labels, strict=True)]
    pairs = [pair for turn in zip_longest(*found) for pair in turn if pair is not None]
    images = EncodedImages.of_files([path for path, _ in pairs], fitted)
    rows = Rows(images, torch.tensor([label for _, label in pairs]), len(classes))
    return _Tree(rows, [f"{path.parent.name}/{path.stem}" for path, _ in pairs])


def _images(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    if not found:
        raise UserError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}): complete it")
    return sorted(found)


def _archives(place: Path, names: Sequence[str], size: tuple[int, int]) -> dict[str, Archive]:
    """The stressed sets beside the clean images; those of Parquet files have no names to go by."""
    return {
        kind: of_kind(place / folder, names, size)
        for kind, (of_kind, folders) in _STRESSED.items()
        for folder in folders
        if names and (place / folder).is_dir()
    }
