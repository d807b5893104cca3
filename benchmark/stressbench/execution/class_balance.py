"""What a run asks about the labels of the images that it is limited to."""

from __future__ import annotations

import math

import torch

from stressbench.contracts import Classification, Dataset
from stressbench.record import Finding

_ONE, _SORTED = "one-label", "sorted-labels"
CHECKS = (_ONE, _SORTED)
"""The names of its findings."""
_CHANCE = 1e-3


def doubts(dataset: Dataset, n: int) -> list[Finding]:
    """Why numbers of the first n images may be of few classes alone: all labels are equal, or sorted.

    Sorted means that n images drawn at random would hardly be of so few classes: with k of K classes seen, which p of
    all images have, the chance is at most about C(K, k) · pⁿ, and images are doubted where that is below 0.001.
    """
    if not isinstance(dataset.task, Classification) or dataset.classes < 2:
        return []
    labels = dataset.labels
    frequencies = torch.bincount(labels).double() / len(labels)
    occurring = int((frequencies > 0).sum())
    if occurring == 1:
        message = (
            f"all {len(labels):,} labels of {dataset.name} are {int(labels[0])}, of {dataset.classes} classes: they "
            "may stand for labels that are not published"
        )
        return [Finding(check=_ONE, message=message, source="run")]
    present = torch.bincount(labels[:n], minlength=len(frequencies)) > 0
    seen = int(present.sum())
    if math.comb(occurring, seen) * float(frequencies[present].sum()) ** n < _CHANCE:
        message = (
            f"the first {n:,} images of {dataset.name} have {seen} of its {occurring} classes, so that all numbers are "
            "of those alone: the set is sorted by class; shuffle it, or leave --limit out"
        )
        return [Finding(check=_SORTED, message=message, source="run")]
    return []
