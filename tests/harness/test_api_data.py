"""The Python API: images and datasets of a notebook's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.datasets import FakeData
from torchvision.transforms import ToTensor

import stressbench
from harness.notebook import LIMIT, run
from stressbench import (
    Condition,
    Dataset,
    InMemory,
    UserError,
    randomness,
    registry,
)
from stressbench.datasets.fingerprint import fingerprint
from stressbench_suites.corruption.engine import corrupt
from tiny_models import Tiny

# --- images ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def engine(pixels: Tensor, name: str, severity: int, seed: int, positions: Tensor) -> Tensor:
    condition: Condition = {"corruption": name, "severity": severity}
    keys = randomness.image_keys(randomness.derive(seed, condition), positions)
    return corrupt(pixels.float() / 255, name, severity, keys)


@pytest.mark.parametrize("name", ["gaussian_noise", "fog"])
def test_corrupt_is_the_engine_for_every_kind_of_array(name: str, pixels: Tensor) -> None:
    expected = engine(pixels, name, 4, 7, torch.arange(3))
    bytes_ = expected.mul(255).round().to(torch.uint8)
    before = pixels.clone()
    assert torch.equal(stressbench.corrupt(pixels, name, 4, 7), bytes_)
    assert torch.equal(stressbench.corrupt(pixels.float() / 255, name, 4, 7), expected)
    last = stressbench.corrupt(pixels.movedim(1, -1).numpy(), name, severity=4, seed=7)
    assert isinstance(last, np.ndarray)
    assert last.dtype == np.uint8
    assert np.array_equal(last, bytes_.movedim(1, -1).numpy())
    double = stressbench.corrupt((pixels.double() / 255).numpy(), name, 4, 7)
    assert double.dtype == np.float64
    assert double == pytest.approx(expected.numpy())
    single = stressbench.corrupt(pixels[2], name, 4, 7, positions=[2])
    assert torch.equal(single, bytes_[2])
    assert torch.equal(pixels, before)


@pytest.mark.parametrize(
    ("images", "words", "line"),
    [
        (np.zeros((2, 32, 32), np.uint8), {}, "no axis of 3 channels"),
        (np.zeros((32, 32), np.uint8), {}, "have shape"),
        (np.zeros((2, 1, 32, 32), np.uint8), {}, "repeat a single grey channel"),
        (np.zeros((2, 3, 8, 3), np.uint8), {}, "ambiguous"),
        (np.zeros((0, 8, 8, 3), np.uint8), {}, "holds no pixels"),
        (np.zeros((2, 8, 8, 3), np.int64), {}, "images are torch.int64"),
        (np.full((2, 8, 8, 3), 255.0), {}, "divide them by 255"),
        (np.full((2, 8, 8, 3), -1.0), {}, "undo the normalisation"),
        (np.full((2, 8, 8, 3), np.nan), {}, "NaN"),
        ([[1]], {}, "images are a list"),
        (np.zeros((2, 32, 32, 3), np.uint8), {"corruption": "fogg"}, "did you mean 'fog'"),
        (np.zeros((2, 32, 32, 3), np.uint8), {"corruption": "fog,snow"}, "name one corruption"),
        (np.zeros((2, 32, 32, 3), np.uint8), {"severity": 6}, "severity"),
        (np.zeros((2, 32, 32, 3), np.uint8), {"positions": [1]}, "pass one for each"),
    ],
)
def test_images_that_are_none_get_one_line(images: Any, words: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        stressbench.corrupt(images, **({"corruption": "fog"} | words))


# --- datasets -------------------------------------------------------------------------------------------------


def test_own_arrays_are_the_dataset_that_they_are_of() -> None:
    data = registry.dataset("digits", "test")
    images, labels = data.images.read(0, LIMIT), data.labels[:LIMIT]
    forms: list[tuple[Any, Any]] = [
        (images, labels),
        (images.movedim(1, -1).numpy(), labels.tolist()),
        ((images.float() / 255).numpy(), labels.numpy().astype(np.int32)),
    ]
    for pixels, targets in forms:
        own = stressbench.arrays(pixels, targets, classes=10)
        assert fingerprint(own, LIMIT) == fingerprint(data, LIMIT)
    record = run(Tiny(own), dataset=own)
    assert record.dataset.name == "arrays"
    assert record.metrics == run(Tiny(own)).metrics
    with pytest.raises(UserError, match="untrained has no weights for arrays: give files with weights="):
        run("untrained", dataset=own)


class Pairs:
    """As torchvision's datasets are: pairs by position, and the names of the classes."""

    classes = ("no", "yes", "perhaps")

    def __init__(self, images: list[Any]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.images[index], index % 2


def test_pairs_and_tables_of_images_are_datasets() -> None:
    import datasets
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 12, 3), dtype=np.uint8)
    pictures = [Image.fromarray(image) for image in pixels]
    expected = fingerprint(stressbench.arrays(pixels, [0, 1, 0, 1]), 4)
    pairs = stressbench.from_dataset(Pairs(list(pictures)))
    assert pairs.name == "pairs"
    assert pairs.classes == 3
    assert pairs.image_size == (16, 12)
    tensors = [torch.from_numpy(image).movedim(-1, 0).float() / 255 for image in pixels]
    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"]), "id": datasets.Value("int64")}
    )
    table = datasets.Dataset.from_dict({"img": pictures, "label": [0, 1, 0, 1], "id": [5, 6, 7, 8]}, features=features)
    rows = stressbench.from_dataset(table, name="mine")
    assert rows.name == "mine"
    assert rows.classes == 2
    for found in (pairs, rows, stressbench.from_dataset(Pairs(list(tensors)))):
        assert fingerprint(found, 4) == expected
    with pytest.raises(UserError, match="no column 'labels': did you mean 'label'"):
        stressbench.from_dataset(table, label="labels")
    two = table.add_column("coarse", [0, 0, 1, 1]).cast_column("coarse", datasets.ClassLabel(names=["a", "b"]))
    with pytest.raises(UserError, match="label, coarse could each be the label: name it with label="):
        stressbench.from_dataset(two)
    assert stressbench.from_dataset(two, label="coarse").labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(UserError, match="no column is known to be the label"):
        stressbench.from_dataset(table.remove_columns("label"))
    fake = FakeData(5, (3, 16, 12), 4, transform=ToTensor())
    found = stressbench.from_dataset(fake, classes=4)
    assert (found.name, found.image_size, found.labels.tolist()) == (
        "fakedata",
        (16, 12),
        [fake[n][1] for n in range(5)],
    )
    assert torch.equal(found.images.read(4, 5)[0], (fake[4][0] * 255).round().to(torch.uint8))
    part = torch.utils.data.Subset(Pairs(list(pictures)), [1, 0])  # type: ignore[arg-type]
    assert stressbench.from_dataset(part).classes == 3
    with pytest.raises(UserError, match="pass one of them, such as dataset\\['test'\\]"):
        stressbench.from_dataset(datasets.DatasetDict({"test": table}))
    grey = stressbench.from_dataset(Pairs([Image.fromarray(pixels[0, :, :, 0])]))
    assert torch.equal(grey.images.read(0, 1)[0, 2], torch.from_numpy(pixels[0, :, :, 0]))


@pytest.mark.parametrize(
    ("images", "labels", "words", "line"),
    [
        (np.zeros((2, 8, 8, 3), np.uint8), [0], {}, r"labels have shape \(1,\) for 2 images"),
        (np.zeros((2, 8, 8, 3), np.uint8), [0.0, 1.0], {}, "labels are torch.float64"),
        (np.zeros((2, 8, 8, 3), np.uint8), [0, -1], {}, "a label is -1"),
        (np.zeros((2, 8, 8, 3), np.uint8), ["cat", "dog"], {}, "labels are not numbers"),
        (
            np.zeros((2, 8, 8, 3), np.uint8),
            [0, 5],
            {"classes": 5},
            "to 5, and classes=5 allows 0 to 4",
        ),
        (
            np.zeros((2, 8, 8, 3), np.uint8),
            [1, 2],
            {},
            "from 1 to 2, .*subtract 1 if .* or pass classes=3",
        ),
        (np.zeros((0, 8, 8, 3), np.uint8), [], {}, "holds no pixels"),
        (np.zeros((2, 3, 8, 3), np.uint8), [0, 1], {}, "ambiguous"),
        (np.zeros((8, 8, 3), np.uint8), [0], {}, r"have shape \(8, 8, 3\)"),
        (np.full((2, 8, 8, 3), np.nan), [0, 1], {}, "NaN"),
        (np.full((2, 8, 8, 3), 255.0), [0, 1], {}, "divide them by 255"),
        (np.zeros((2, 8, 8, 3), np.int64), [0, 1], {}, "images are torch.int64"),
    ],
)
def test_arrays_that_do_not_fit_get_one_line(images: Any, labels: Any, words: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        stressbench.arrays(images, labels, **words)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (Pairs([]), "empty"),
        (iter([1]), "no length or no items"),
        ([1, 2], "item 0 is not an image with a label"),
        (Pairs([torch.rand(3, 8, 8), torch.rand(3, 9, 8)]), "item 1 has 9×8 pixels .* bring all images to one size"),
        (Pairs([torch.rand(3, 8, 8) - 1]), "item 0: .*undo the normalisation"),
    ],
)
def test_a_sequence_that_is_no_dataset_gets_one_line(given: Any, line: str) -> None:
    with pytest.raises(UserError, match=line):
        stressbench.from_dataset(given)


class Mask(nn.Module):
    """Three classes by the brightest channel."""

    def forward(self, images: Tensor) -> Tensor:
        return 5 * images


def test_own_masks_are_a_segmentation() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    masks = pixels.argmax(-1)
    task = stressbench.Segmentation(classes=3)
    record = run(Mask(), dataset=stressbench.arrays(pixels, masks, name="mine", task=task))
    logits = 5 * pixels.astype(np.float64) / 255
    nll = np.log(np.exp(logits).sum(-1)) - logits.max(-1)
    assert record.dataset.task == "segmentation"
    assert record.to_frame().loc[0, "nll"] == pytest.approx(nll.mean(), rel=1e-5)
    with pytest.raises(UserError, match="the dataset mine has a mask with class 2; of 2 classes"):
        stressbench.arrays(pixels, masks, name="mine", task=stressbench.Segmentation(classes=2))
    with pytest.raises(UserError, match="leave classes= out"):
        stressbench.arrays(pixels, masks, task=task, classes=3)


def test_a_dataset_made_by_hand_is_checked() -> None:
    data = stressbench.arrays(np.zeros((2, 8, 8, 3), np.uint8), [0, 1])
    wrong = replace(data, targets=InMemory(torch.tensor([0, 2])))
    with pytest.raises(UserError, match="the dataset arrays has labels from 0 to 2; of 2 classes"):
        run(Tiny(wrong), dataset=wrong)


def test_a_dataset_is_a_dataset() -> None:
    assert isinstance(stressbench.arrays(np.zeros((1, 8, 8, 3), np.uint8), [0]), Dataset)
