"""What a run notices about its model on the first images: in the record, on stderr, or as an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dense_plugins
from conftest import write_distribution
from faulty_models import (
    Base,
    BatchSize,
    BatchStatistics,
    Counting,
    DropoutOff,
    Halved,
    Members,
    Noisy,
    NumpyNoise,
    SaysItIsRandom,
    Silent,
    Switched,
)
from stressbench import registry, testing
from stressbench.cli import main
from stressbench.contracts import Dataset
from stressbench.errors import UserError
from stressbench.execution.first_batch import Drift, judge
from stressbench.execution.predict import Predictor
from stressbench.record import Finding, load

SMALL = ("--corruptions", "fog", "--severities", "4", "--limit", "12")
DATASET = testing.random_dataset(classes=5, image_size=(12, 16))
IMAGES = DATASET.images.read(0, 4) / 255


def run(*arguments: object) -> int:
    """`bench run` in this process; returns the exit code."""
    with pytest.raises(SystemExit) as exit_:
        main(["run", *map(str, arguments)])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def judged(build: Callable[[Dataset], nn.Module], precision: Any = "float32") -> list[Finding]:
    module = build(DATASET)
    stochastic = getattr(module, "stochastic", False)
    return judge(
        Predictor(module, registry.find("models", "tiny"), 5, [3], stochastic, precision, 100), DATASET, IMAGES
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("model", [Base, Noisy, Members, Switched])
def test_nothing_is_said_of_a_model_that_keeps_its_promises(model: type[Base], precision: str) -> None:
    assert judged(model, precision) == []


class Softmax(Base):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).softmax(1)


class Percent(Base):
    def forward(self, images: Tensor) -> Tensor:
        return 100 * super().forward(images).softmax(1)


class TorchNoise(Base):
    """Dropout that a layer's own switch leaves on, from torch's generator."""

    stochastic = True

    def maps(self, images: Tensor) -> Tensor:
        return nn.functional.dropout(super().maps(images), 0.3, training=True)


class OneSize(Base):
    """Works for the batch that it was written for."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.view(4, 3, 12, 16))


@pytest.mark.parametrize(
    ("model", "check", "words"),
    [
        (DropoutOff, "equal-draws", "it says that it is stochastic, and 4 draws of an image are the same"),
        (SaysItIsRandom, "equal-draws", "8 draws of an image are the same"),
        (Softmax, "probability-outputs", "add up to 1, as probabilities do"),
        (Percent, "probability-outputs", "add up to 100, as percentages do"),
        (BatchStatistics, "batch-dependent", "when only the other images of the batch are changed"),
        (BatchSize, "batch-dependent", "between a batch of 4 and batches of 1 and 1"),
        (OneSize, "batch-dependent", "RuntimeError"),
        (TorchNoise, "batch-dependent", "another batch size gives others"),
        (Counting, "changed-weights", "changed 1 of 5 tensors, passes first"),
        (Halved, "changed-input", "changed its input by up to"),
        (NumpyNoise, "not-reproducible", "between two passes of the same draw"),
    ],
)
def test_what_makes_numbers_doubtful_is_a_finding(model: type[Base], check: str, words: str) -> None:
    (finding,) = judged(model)
    assert (finding.check, finding.source) == (check, "run")
    assert words in finding.message


class Stateful(Base):
    """Remembers how many batches it has seen, outside of its weights."""

    seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += 1
        return super().forward(images) * self.seen


@pytest.mark.parametrize("model", [Silent, Stateful])
def test_passes_that_differ_without_a_word_are_an_error_with_the_cure(model: type[Base]) -> None:
    with pytest.raises(UserError, match=r"^model 'tiny' .*two passes differ by .*; set `stochastic = True`"):
        judged(model)


# --- dense tasks ----------------------------------------------------------------------------------------------

MASKS, DEPTHS = dense_plugins.masks("test", None, None), dense_plugins.depths("test", None, None)


def judged_pixels(dataset: Dataset, module: nn.Module) -> list[Finding]:
    stochastic = getattr(module, "stochastic", False)
    predictor = Predictor(module, registry.find("models", "tiny"), dataset.task, [3], stochastic, "float32", 100)
    return judge(predictor, dataset, dataset.images.read(0, 4) / 255)


@pytest.mark.parametrize("dataset", [MASKS, DEPTHS], ids=lambda dataset: dataset.name)
@pytest.mark.parametrize("build", [dense_plugins.pixelwise, dense_plugins.dropping])
def test_nothing_is_said_of_a_dense_model_that_keeps_its_promises(
    build: Callable[[Dataset], nn.Module], dataset: Dataset
) -> None:
    assert judged_pixels(dataset, build(dataset)) == []


class PixelsOffCentre(dense_plugins.Pixelwise):
    """Centres a batch by its own mean."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images - images.mean(0, keepdim=True))


class HalvedPixels(dense_plugins.Pixelwise):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.mul_(0.5))


class PixelsSayTheyAreRandom(dense_plugins.Pixelwise):
    stochastic = True
    default_draws = 3


class CountedPixels(dense_plugins.Pixelwise):
    def __init__(self, outputs: int) -> None:
        super().__init__(outputs)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.passes += 1
        return super().forward(images)


@pytest.mark.parametrize("dataset", [MASKS, DEPTHS], ids=lambda dataset: dataset.name)
@pytest.mark.parametrize(
    ("model", "check"),
    [
        (PixelsOffCentre, "batch-dependent"),
        (HalvedPixels, "changed-input"),
        (PixelsSayTheyAreRandom, "equal-draws"),
        (CountedPixels, "changed-weights"),
    ],
)
def test_what_makes_dense_numbers_doubtful_is_a_finding(
    model: type[dense_plugins.Pixelwise], check: str, dataset: Dataset
) -> None:
    (finding,) = judged_pixels(dataset, model(dense_plugins.outputs(dataset)))
    assert (finding.check, finding.source) == (check, "run")


class PixelProbabilities(dense_plugins.Pixelwise):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).softmax(1)


def test_probabilities_are_noticed_where_there_are_classes() -> None:
    (finding,) = judged_pixels(MASKS, PixelProbabilities(dense_plugins.CLASSES))
    assert finding.check == "probability-outputs"
    assert judged_pixels(DEPTHS, PixelProbabilities(2)) == []


class SilentPixels(dense_plugins.Pixelwise):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(images, 0.3))


@pytest.mark.parametrize("dataset", [MASKS, DEPTHS], ids=lambda dataset: dataset.name)
def test_dense_passes_that_differ_without_a_word_are_an_error(dataset: Dataset) -> None:
    with pytest.raises(UserError, match=r"two passes differ by .*; set `stochastic = True`"):
        judged_pixels(dataset, SilentPixels(dense_plugins.outputs(dataset)))


def test_the_check_leaves_no_trace_in_the_weights_and_torchs_generator() -> None:
    counting = Counting(DATASET)
    before = torch.get_rng_state()
    judged(lambda _: counting)
    assert counting.passes == 0
    assert torch.equal(torch.get_rng_state(), before)


# --- the command ----------------------------------------------------------------------------------------------


@pytest.fixture
def _zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = {"off": "faulty_models:dropout_off", "silent": "faulty_models:Silent"}
    write_distribution(tmp_path / "site", "zoo", {"stressbench.models": points})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))


@pytest.mark.usefixtures("_zoo")
def test_a_run_reports_equal_draws_once_and_remembers_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, words = tmp_path / "runs", ("--model", "off", *SMALL, "--draws", 50)
    assert run(*words, "--out", out) == 0
    (folder,) = out.iterdir()
    reported = [line for line in capsys.readouterr().err.splitlines() if line.startswith("doubtful (equal-draws)")]
    assert len(reported) == 1
    first = load(folder)
    assert [finding.check for finding in first.findings] == ["equal-draws"]
    # A run that was stopped has them from its folder, and so has one that is complete.
    (folder / "record.json").unlink()
    next(folder.glob("tables/*fog*.parquet")).unlink()
    for _ in range(2):
        judged_at = (folder / "findings.json").stat().st_mtime_ns
        assert run(*words, "--out", out) == 0
        assert (folder / "findings.json").stat().st_mtime_ns == judged_at
        assert "doubtful (equal-draws)" in capsys.readouterr().err
        assert load(folder).findings == first.findings
    # Found again where the file is lost or damaged.
    (folder / "findings.json").write_text('[{"check"')
    assert run(*words, "--out", out) == 0
    assert load(folder).findings == first.findings


@pytest.mark.usefixtures("_zoo")
def test_a_run_of_a_model_whose_passes_differ_ends_before_it_writes_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--model", "silent", *SMALL, "--out", tmp_path / "runs") == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "model 'silent' of zoo 1.0: it does not say that it is stochastic, and two passes differ" in last
    assert not list((tmp_path / "runs").rglob("*.parquet"))


@pytest.mark.parametrize("model", ["tiring", "worn"])
def test_state_between_batches_that_shows_late_is_a_finding(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = {"tiring": "faulty_models:Tiring", "worn": "faulty_models:Worn"}
    write_distribution(tmp_path / "site", "zoo", {"stressbench.models": points})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    words = ("--model", model, "--corruptions", "fog,brightness,contrast", "--limit", 12, "--batch-size", 3)
    assert run(*words, "--out", tmp_path / "runs") == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("doubtful")]
    assert "predictions of the same images changed by up to" in line
    assert "it keeps state between batches" in line
    (path,) = (tmp_path / "runs").glob("*/record.json")
    assert [finding.check for finding in load(path).findings] == ["not-reproducible"]


@pytest.mark.parametrize(("floats", "expected"), [(1 << 10, 4), (1 << 22, 2), (1 << 23, 1), (1 << 24, 1)])
def test_predictions_that_are_kept_are_few_where_they_are_large(floats: int, expected: int) -> None:
    """50 draws of 360×480 pixels and 11 classes are 380 MB an image."""

    class Dense:
        name, precision, images = "dense", "float32", 0

        def outputs(self, images: Tensor, keys: Tensor) -> Tensor:
            self.images = len(images)
            return torch.zeros(2, len(images), floats)

    dense = Dense()
    drift = Drift(dense, torch.rand(4, 3, 8, 8))  # type: ignore[arg-type]
    assert dense.images == expected
    assert drift.findings() == []
