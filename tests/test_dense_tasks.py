"""Segmentation and regression through the corruption suite, against numpy and scikit-learn on the same pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score, log_loss

import dense_plugins
from conftest import ROOT, write_distribution
from dense_plugins import CLASSES, VOID, Dropping, Pixelwise
from stressbench import metrics, randomness
from stressbench.cli import main
from stressbench.contracts import Classification, Regression, Segmentation
from stressbench.errors import UserError
from stressbench_suites.corruption.engine import corrupt

FOG = {"corruption": "fog", "severity": 3}
SMALL = ("--corruptions", "fog", "--severities", "3", "--batch-size", "4")


@pytest.fixture(autouse=True, scope="module")
def _plugins(tmp_path_factory: pytest.TempPathFactory) -> Any:
    site = tmp_path_factory.mktemp("dense")
    points = {
        "stressbench.datasets": {"masks": "dense_plugins:masks", "depths": "dense_plugins:depths"},
        "stressbench.models": {"pixelwise": "dense_plugins:pixelwise", "dropping": "dense_plugins:dropping"},
    }
    write_distribution(site, "dense-plugins", points)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.syspath_prepend(str(ROOT / "tests"))
        yield


def bench(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def record(out: Path, *words: object) -> dict[str, Any]:
    assert bench("run", *words, *SMALL, "--out", out) == 0
    (path,) = out.glob("*/record.json")
    return json.loads(path.read_text())


def foggy(dataset: Any) -> torch.Tensor:
    images = dataset.images.read(0, dense_plugins.N) / 255
    keys = randomness.image_keys(randomness.derive(0, FOG), torch.arange(dense_plugins.N))
    return corrupt(images, "fog", 3, keys)


def test_segmentation_metrics_are_those_of_all_pixels_that_are_not_void(tmp_path: Path) -> None:
    found = record(tmp_path, "--model", "pixelwise", "--dataset", "masks")
    assert found["dataset"]["task"] == "segmentation"
    (row,) = (row["metrics"] for row in found["conditions"] if row["condition"] == FOG)
    data = dense_plugins.masks("test", None, None)
    with torch.no_grad():
        p = Pixelwise(CLASSES)(foggy(data)).softmax(dim=1).movedim(1, -1).flatten(0, 2).double().numpy()
    target = data.targets.read(0, dense_plugins.N).flatten().numpy()
    p, target = p[target != VOID], target[target != VOID]
    prediction, confidence = p.argmax(1), p.max(1)
    assert row["error"] == pytest.approx(np.mean(prediction != target))
    assert row["nll"] == pytest.approx(log_loss(target, p / p.sum(1, keepdims=True), labels=range(CLASSES)), rel=1e-5)
    there = sorted({*target.tolist(), *prediction.tolist()})
    assert row["miou"] == pytest.approx(jaccard_score(target, prediction, labels=there, average="macro"))
    ece = 0.0
    for low in np.arange(10) / 10:
        inside = (confidence > low) & (confidence <= low + 0.1)
        ece += abs(confidence[inside].sum() - (prediction == target)[inside].sum()) / len(target)
    assert row["ece"] == pytest.approx(ece, rel=1e-6)
    # A narrowed run has no mean over the fifteen corruptions, and an interval where there is a number.
    assert found["metrics"]["mean_miou"] is None
    low, high = found["intervals"]["clean_miou"]["1"]
    assert low <= found["metrics"]["clean_miou"] <= high


def test_regression_metrics_are_those_of_all_values_that_are_known(tmp_path: Path) -> None:
    found = record(tmp_path, "--model", "pixelwise", "--dataset", "depths")
    (row,) = (row["metrics"] for row in found["conditions"] if row["condition"] == FOG)
    data = dense_plugins.depths("test", None, None)
    with torch.no_grad():
        values = Pixelwise(2)(foggy(data)).double().numpy()
    target = data.targets.read(0, dense_plugins.N).double().numpy()
    error = (values - target)[np.isfinite(target)]
    assert row == {
        "mae": pytest.approx(np.abs(error).mean(), rel=1e-6),
        "rmse": pytest.approx(np.sqrt(np.square(error).mean()), rel=1e-6),
    }


@pytest.mark.parametrize("dataset", ["masks", "depths"])
def test_draws_are_averaged_and_a_curve_is_made_of_the_first_ones(dataset: str, tmp_path: Path) -> None:
    curve = record(tmp_path / "curve", "--model", "dropping", "--dataset", dataset, "--sizes", "1,3")
    single = record(tmp_path / "one", "--model", "dropping", "--dataset", dataset, "--draws", "1", "--batch-size", "3")
    for row, other in zip(curve["conditions"], single["conditions"], strict=True):
        assert {name: sizes["1"] for name, sizes in row["curves"].items()} == pytest.approx(other["metrics"])
        assert row["metrics"] != other["metrics"]
    data = getattr(dense_plugins, dataset)("test", None, None)
    keys = randomness.image_keys(randomness.derive(0, {"corruption": "none", "severity": 0}), torch.arange(6))
    module = Dropping(dense_plugins.outputs(data))
    with torch.no_grad(), randomness.draw(keys, 0):
        draws = []
        for index in range(3):
            with randomness.redraw(index):
                draws.append(data.task.predictions(module(data.images.read(0, 6) / 255), data.images.read(0, 6)))
    target = data.targets.read(0, 6)
    if dataset == "depths":
        error = (torch.stack(draws).mean(0).movedim(-1, 1) - target)[target.isfinite()]
        assert curve["metrics"]["clean_mae"] == pytest.approx(float(error.abs().mean()), rel=1e-5)
    else:
        wrong = (torch.stack(draws).exp().mean(0).argmax(-1) != target)[target != VOID]
        assert curve["metrics"]["clean_error"] == pytest.approx(float(wrong.float().mean()))


def test_a_suite_that_is_not_for_a_task_is_left_out_or_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("run", "--suite", "adversarial", "--model", "pixelwise", "--dataset", "masks") == 2
    assert "it is for classification, and masks is for segmentation" in capsys.readouterr().err


def test_dense_runs_are_shown_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model in ("pixelwise", "dropping"):
        record(tmp_path / model, "--model", model, "--dataset", "masks")
    folders = [next((tmp_path / model).iterdir()) for model in ("pixelwise", "dropping")]
    capsys.readouterr()
    assert bench("show", folders[0]) == 0
    assert "miou" in capsys.readouterr().out
    assert bench("compare", *folders) == 0
    assert "clean_miou" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "raw", "words"),
    [
        (Segmentation(4), torch.zeros(6, 4, 6, 10), r"returned shape \(6, 4, 6, 10\) .* it must return logits"),
        (Segmentation(4), torch.full((6, 4, 12, 20), torch.nan), "NaN or infinite logits for 6 of 6 images"),
        (Regression(2, "m"), torch.zeros(6, 12, 20, 2), "it must return values"),
        (Regression(2, "m"), torch.full((6, 2, 12, 20), torch.inf), "NaN or infinite values for 6 of 6"),
        (Classification(4), {"logits": 1}, "returned a dict"),
    ],
)
def test_a_wrong_output_is_named(task: Any, raw: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        task.predictions(raw, torch.zeros(6, 3, 12, 20))


@pytest.mark.parametrize(
    ("task", "target", "words"),
    [
        (Segmentation(4), torch.zeros(2, 12, 20), "int64"),
        (Segmentation(4), torch.full((2, 12, 20), 7), "class 7; of 4 classes"),
        (Segmentation(4), torch.zeros(2, 6, 20, dtype=torch.int64), "for 2 images of 12×20"),
        (Regression(1, "m"), torch.zeros(2, 2, 12, 20), "float32"),
        (Classification(4), torch.tensor([0, 4]), "labels from 0 to 4; of 4 classes"),
    ],
)
def test_wrong_targets_are_named(task: Any, target: torch.Tensor, words: str) -> None:
    with pytest.raises(UserError, match=words):
        task.require_targets(target, 2, (12, 20))


def test_losses_are_means_over_what_counts() -> None:
    logits, target = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 3, 3).long()
    target[0, 0] = VOID
    target[1] = VOID
    each = -logits.log_softmax(1)[0, 0]
    loss = Segmentation(4).loss(logits, target)
    assert loss.tolist() == pytest.approx([float(each[1:].mean()), 0.0])
    values, known = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[3.0, torch.nan]]]])
    assert Regression(1, "m").loss(values, known).tolist() == [4.0]


def test_a_picture_without_anything_to_measure_has_no_numbers() -> None:
    import pandas as pd

    columns = Segmentation(4).observe(torch.zeros(1, 1, 2, 2, 4).log_softmax(-1), torch.full((1, 2, 2), VOID))
    table = pd.DataFrame({name: list(values.numpy()) for name, values in columns.items()})
    assert set(Segmentation.score(table).values()) == {None}
    sums = metrics.calibration_sums(torch.ones(1, 3), torch.ones(1, 3), torch.zeros(1, 3))
    assert not sums.any()


def test_batches_are_as_small_as_memory_asks_for_and_numbers_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stressbench.execution import measure

    usual = record(tmp_path / "usual", "--model", "dropping", "--dataset", "masks")
    passed: list[int] = []
    forward = Dropping.forward

    def counting(self: Dropping, images: torch.Tensor) -> torch.Tensor:
        passed.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(Dropping, "forward", counting)
    monkeypatch.setattr("stressbench.execution.cells.CellWorker._drifted", lambda _: [])
    # Room for three draws of four classes of all pixels of one image and a half, in float32.
    height, width = dense_plugins.SIZE
    monkeypatch.setattr(measure, "MEMORY", 3 * 4 * height * width * 4 * 3 // 2)
    small = record(tmp_path / "small", "--model", "dropping", "--dataset", "masks")
    assert passed[-3 * dense_plugins.N :] == [1] * (3 * dense_plugins.N)
    assert small["metrics"] == pytest.approx(usual["metrics"])
