"""Test images that are kept from the score, so that something can be fitted on them: the splits of `SPLITS`.

Each split is a tenth of the test images, chosen by chance but always the same ones. What is fitted on either is scored
on the other eight tenths alone. Test images can be used with any weights, a network's training images only if it was
trained without them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from stressbench import randomness
from stressbench.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from stressbench.contracts import Archive, Condition, Dataset, Source

SPLITS = ("calibration", "threshold")
"""For maps of probabilities, and for thresholds, which need images that nothing else was fitted on."""


@dataclass(frozen=True)
class Selected:
    """Some rows of a source, in ascending order."""

    source: Source
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, start: int, stop: int) -> Tensor:
        return _chosen(self.rows[start:stop], self.source.read)


@dataclass(frozen=True)
class SelectedArchive:
    """Some rows of an opened archive."""

    archive: Archive
    rows: Tensor

    def open(self, conditions: Sequence[Condition], labels: Tensor) -> None:
        raise AssertionError("the archive was opened before rows were selected")

    @property
    def verified(self) -> bool | None:
        return self.archive.verified

    @property
    def digests(self) -> Mapping[str, str]:
        return self.archive.digests

    def __contains__(self, condition: object) -> bool:
        return condition in self.archive

    def read(self, condition: Condition, start: int, stop: int) -> Tensor:
        return _chosen(self.rows[start:stop], lambda low, high: self.archive.read(condition, low, high))


def part(dataset: Dataset, split: str) -> Dataset:
    """One of `SPLITS` of a dataset's test split; raises `UserError` where there are fewer than ten test images."""
    return _selected(dataset, _rows(dataset)[SPLITS.index(split)], split)


def rest(dataset: Dataset) -> Dataset:
    """The test split without what `SPLITS` take from it; itself where it is that already."""
    return dataset if isinstance(dataset.images, Selected) else _selected(dataset, _rows(dataset)[-1], dataset.split)


def _selected(dataset: Dataset, rows: Tensor, split: str) -> Dataset:
    images, targets = Selected(dataset.images, rows), Selected(dataset.targets, rows)
    return replace(dataset, split=split, images=images, targets=targets, published=None)


def _rows(dataset: Dataset) -> Sequence[Tensor]:
    total = len(dataset.images)
    if dataset.split != "test" or total < 10:
        raise UserError(
            f"the {dataset.split} split of {dataset.name} has {total} images and none to hold out: use a test split of "
            "10 images or more"
        )
    order = torch.randperm(total, generator=torch.Generator().manual_seed(randomness.derive("held out")))
    tenth = total // 10
    return [rows.sort().values for rows in order.tensor_split([tenth, 2 * tenth])]


def _chosen(rows: Tensor, read: Callable[[int, int], Tensor]) -> Tensor:
    """Rows that lie near each other, from one reading of all that lies between the first and the last."""
    first, last = int(rows[0]), int(rows[-1])
    return read(first, last + 1)[rows - first]
