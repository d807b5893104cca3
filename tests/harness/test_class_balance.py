"""Runs on images of few classes alone say so."""

from __future__ import annotations

import pytest
import torch

from stressbench.contracts import Classification, Dataset, InMemory, Segmentation
from stressbench.execution.class_balance import doubts


def dataset(labels: list[int], classes: int = 5) -> Dataset:
    pixels = InMemory(torch.zeros(len(labels), 3, 1, 1, dtype=torch.uint8))
    return Dataset("mine", "test", Classification(classes), pixels, InMemory(torch.tensor(labels)), (1, 1))


@pytest.mark.parametrize(
    ("labels", "n", "expected"),
    [
        ([i // 100 for i in range(400)], 100, "sorted-labels"),
        ([i // 100 for i in range(400)], 400, None),
        ([i % 4 for i in range(400)], 100, None),
        ([i % 4 for i in range(400)], 3, None),
        ([i // 100 for i in range(400)], 1, None),  # one image has one class
        ([4] * 40, 40, "one-label"),
        ([0] * 38 + [1, 1], 5, None),  # a rare class
        ([i // 10 for i in range(1000)], 100, "sorted-labels"),
    ],
)
def test_images_of_few_classes(labels: list[int], n: int, expected: str | None) -> None:
    found = doubts(dataset(labels, 1 + max(labels)), n)
    assert [one.check for one in found] == ([expected] if expected else [])


def test_a_random_part_is_not_doubted() -> None:
    for seed in range(50):
        labels = torch.randint(100, (10_000,), generator=torch.Generator().manual_seed(seed)).tolist()
        assert doubts(dataset(labels, 100), 1 + 7 * seed) == []


def test_what_is_said() -> None:
    (found,) = doubts(dataset([0] * 50 + [1] * 50), 20)
    assert found.message.startswith("the first 20 images of mine have 1 of its 2 classes")
    assert found.source == "run"
    (found,) = doubts(dataset([3] * 9), 9)
    assert found.message.startswith("all 9 labels of mine are 3, of 5 classes")


def test_only_classes_are_asked_about() -> None:
    masks = InMemory(torch.zeros(2, 1, 1, dtype=torch.int64))
    pixels = InMemory(torch.zeros(2, 3, 1, 1, dtype=torch.uint8))
    assert doubts(Dataset("mine", "test", Segmentation(3, 255), pixels, masks, (1, 1)), 1) == []
    assert doubts(dataset([0, 0], classes=1), 1) == []
