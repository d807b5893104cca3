"""What the datasets of one's own folders share: names, splits, numbers of classes, and the hint for another layout."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from stressbench import registry
from stressbench.contracts import Classification, Dataset, InMemory, Source
from stressbench.datasets.identity import identify
from stressbench.errors import UserError

# Usual names of the columns, or the arrays, of images and of labels.
IMAGE = ("image", "img", "pixel_values")
LABEL = ("label", "labels", "fine_label", "target")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VALIDATION = ("validation", "val", "valid", "dev")


class Pixels(Source, Protocol):
    """Images of one size."""

    @property
    def size(self) -> tuple[int, int]: ...

    def lossless(self) -> bool:
        """Whether no image went through a lossy format or another size, as far as can be known."""
        ...


@dataclass(frozen=True)
class InMemoryPixels(InMemory):
    """`Pixels` of one tensor, (N, 3, H, W), uint8."""

    @property
    def size(self) -> tuple[int, int]:
        return self.values.shape[2], self.values.shape[3]

    def lossless(self) -> bool:
        return True


@dataclass(frozen=True)
class Rows:
    """A split's images and labels, however they were found."""

    images: Pixels
    labels: Tensor  # (N,), int64
    classes: int


def own(of: str, split: str, data_dir: Path | None, name: str | None, load: Callable[[Path], Rows]) -> Dataset:
    """The dataset called `name` that `load` reads from `data_dir`; `of` is what the user calls this kind of folder.

    Raises `UserError` without a folder or a name, and for the name of another dataset.
    """
    if data_dir is None:
        raise UserError(f"'{of}' reads a folder of yours: name it with --data-dir")
    if name is None:
        raise UserError(f"'{of}' needs a name for the record and the leaderboard: pass one with --dataset-name")
    called = check_name(name)
    if not data_dir.exists():
        raise UserError(f"{data_dir} is not there: check --data-dir")
    rows = load(data_dir)
    published = None
    if split == "test":
        published = identify(called, rows.images, rows.labels, rows.classes, rows.images.size)
    return Dataset(
        name=called,
        split=split,
        task=Classification(rows.classes),
        images=rows.images,
        targets=InMemory(rows.labels),
        image_size=rows.images.size,
        published=published,
    )


def check_name(name: str) -> str:
    """`name`, if a dataset of one's own may be called so; raises `UserError` otherwise."""
    if not _NAME.fullmatch(name):
        raise UserError(f"'{name}' cannot name a dataset: use up to 64 letters, digits, dots, hyphens and underscores")
    if (other := stands_for(name)) is not None:
        raise UserError(f"'{name}' stands for the dataset {other}: name your own differently with --dataset-name")
    return name


def stands_for(name: str) -> str | None:
    """The installed dataset whose name this is, however it is spelt: `CIFAR-10` is `cifar10`; None for a new name."""
    known = {_plain(entry.name): entry.name for entry in registry.entries("datasets")}
    return known.get(_plain(name))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def words(split: str, test: str) -> tuple[str, str]:
    """What a folder calls a split and the other one, where its test split is called `test`.

    >>> words("test", "val"), words("train", "val")
    (('val', 'train'), ('train', 'val'))
    """
    return (test, "train") if split == "test" else (split, test)


def count_classes(low: int, high: int, given: int | None) -> int:
    """The number of classes of labels from `low` to `high`, over all splits that are there.

    Raises `UserError` for labels that are not below the `given` number, and without one for labels that may count
    from 1: each would be compared with the class before it.
    """
    cure = f"subtract 1 if the labels count from 1, or pass the dataset's option classes={high + 1}"
    if given is not None and high >= given:
        raise UserError(f"labels range from {low} to {high}, and classes={given} allows 0 to {given - 1}: {cure}")
    if given is None and low == 1 and high > 1:
        raise UserError(f"labels range from 1 to {high}, and classes count from 0: {cure}")
    return high + 1 if given is None else given


def nothing_found(of: str, folder: Path, split: str, expected: str) -> UserError:
    """The error for a folder without a split, with what to do where it holds one in another form."""
    there = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    stems = {re.split(r"[-_.]", name)[0] for name in there}
    named = next((word for word in _VALIDATION if word in stems), None)
    if split == "test" and named is not None:
        hint = f"to test on its {named} split, write --dataset {of},test={named}"
    elif of != "imagefolder" and (folder / split).is_dir() and any(p.is_dir() for p in (folder / split).iterdir()):
        hint = "a folder of class folders is --dataset imagefolder"
    elif of != "arrays" and any(name.endswith((".npz", ".npy")) for name in there):
        hint = "NumPy files are --dataset arrays"
    elif of != "parquet" and any((folder / name).suffix == ".parquet" for name in there):
        hint = "Parquet files are --dataset parquet"
    elif batches := next((name for name in there if re.fullmatch(r"cifar-100?-(batches-py|python)", name)), None):
        hint = f"CIFAR's python files are --dataset {'cifar100' if '100' in batches else 'cifar10'}"
    else:
        hint = f"check --data-dir; it holds {', '.join(there[:8]) or 'nothing'}"
    return UserError(f"{folder} holds no {split} split: expected {expected}; {hint}")
