"""Calibration after training, against SciPy and scikit-learn, and on images that are then left out of the score."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.isotonic import IsotonicRegression

from stressbench import held_out
from stressbench.cli import main
from stressbench.datasets.digits import digits
from stressbench.errors import UserError
from stressbench_plugins.calibrated import Histogram, Isotonic, Temperature, Vector


@pytest.fixture
def answers() -> tuple[torch.Tensor, torch.Tensor]:
    """Overconfident logits of 300 images of four classes, one draw, and their labels."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (1, 300, 4))
    labels = [generator.choice(4, p=p) for p in softmax(logits[0] / 2.5 + [0.5, 0, 0, -0.5], axis=1)]
    return torch.from_numpy(logits), torch.tensor(labels)


def nll(logits: np.ndarray, labels: torch.Tensor) -> float:
    return float(-log_softmax(logits, axis=-1)[np.arange(len(labels)), labels.numpy()].mean())


def test_the_temperature_of_the_worked_example() -> None:
    logits = torch.tensor([[2.0, 0.0]] * 4, dtype=torch.float64)[None]
    labels = torch.tensor([0, 0, 0, 1])
    fitted = Temperature(2)
    assert fitted.fit(logits, labels) == "temperature 1.82"
    assert float(fitted.temperature) == pytest.approx(2 / math.log(3), rel=1e-4)
    assert nll(fitted(logits[0]).numpy(), labels) == pytest.approx(0.5623, abs=1e-4)


def test_temperature_is_the_optimum_that_scipy_finds(answers: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = answers
    fitted = Temperature(4)
    fitted.fit(logits, labels)
    best = minimize(
        lambda t: nll(logits[0].numpy() / t[0], labels), [1.0], method="Nelder-Mead", options={"xatol": 1e-8}
    )
    assert float(fitted.temperature) == pytest.approx(best.x[0], rel=1e-4)
    scaled = fitted(logits[0])
    # At the optimum the expected logit is the mean logit of the true classes.
    expected = (scaled.softmax(dim=-1) * logits[0]).sum(dim=-1).mean()
    assert float(expected) == pytest.approx(float(logits[0].gather(1, labels[:, None]).mean()), abs=1e-3)
    assert bool((scaled.argmax(dim=-1) == logits[0].argmax(dim=-1)).all())


def test_a_temperature_at_the_end_of_the_range_is_reported(answers: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, _ = answers
    assert "the end of what was tried" in Temperature(4).fit(logits, logits[0].argmax(dim=-1))


def test_a_temperature_of_draws_is_that_of_their_mean_probability(answers: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = answers
    draws = torch.cat([logits, logits.flip(1)])
    fitted = Temperature(4)
    fitted.fit(draws, labels)

    def loss(t: np.ndarray) -> float:
        p = softmax(draws.numpy() / t[0], axis=-1).mean(axis=0)
        return float(-np.log(p[np.arange(300), labels.numpy()]).mean())

    best = minimize(loss, [2.0], method="Nelder-Mead", options={"xatol": 1e-8})
    assert float(fitted.temperature) == pytest.approx(best.x[0], rel=1e-3)


def test_vector_scaling_meets_the_share_of_each_class(answers: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = answers
    vector, temperature = Vector(4), Temperature(4)
    vector.fit(logits, labels)
    temperature.fit(logits, labels)
    assert nll(vector(logits[0]).numpy(), labels) < nll(temperature(logits[0]).numpy(), labels)
    shares = vector(logits[0]).softmax(dim=-1).mean(dim=0)
    assert shares.tolist() == pytest.approx((labels.bincount() / 300).tolist(), abs=2e-3)


def test_a_class_that_the_model_rules_out_changes_nothing_for_the_others(
    answers: tuple[torch.Tensor, torch.Tensor],
) -> None:
    logits, labels = answers
    more = torch.cat([torch.full((1, 300, 1), -torch.inf, dtype=logits.dtype), logits], dim=2)
    for kind in (Temperature, Vector):
        four, five = kind(4), kind(5)
        four.fit(logits, labels)
        five.fit(more, labels + 1)
        p = five(more[0]).softmax(dim=-1)
        assert bool((p[:, 0] == 0).all())
        assert p[:, 1:].numpy() == pytest.approx(four(logits[0]).softmax(dim=-1).numpy(), abs=1e-3), kind


def test_isotonic_is_scikit_learns(answers: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = answers
    fitted = Isotonic(4)
    fitted.fit(logits[:, :200], labels[:200])
    p = softmax(logits[0].numpy(), axis=1)
    columns = [
        IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p[:200, c], labels[:200] == c).predict(p[:, c])
        for c in range(4)
    ]
    expected = np.stack(columns, axis=1).clip(1e-7)
    found = fitted(logits[0].float()).exp().numpy()
    assert found == pytest.approx(expected / expected.sum(axis=1, keepdims=True), abs=2e-3)


def test_histogram_bins_hold_the_share_of_their_class(answers: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = answers
    fitted = Histogram(4)
    fitted.fit(logits, labels)
    p = softmax(logits[0].numpy(), axis=1)
    bins = np.ceil(p * 10).clip(1).astype(int) - 1
    for c in range(4):
        for b in range(10):
            here = labels.numpy()[bins[:, c] == b] == c
            assert float(fitted.values[c, b]) == pytest.approx(here.mean() if len(here) else (b + 0.5) / 10, abs=1e-6)
    assert fitted(logits[0].float()).exp().sum(dim=-1).numpy() == pytest.approx(1, abs=1e-5)


def test_held_out_images_are_chosen_once_and_never_scored() -> None:
    data = digits("test")
    parts = [held_out.part(data, split) for split in held_out.SPLITS]
    left = held_out.rest(data)
    assert [len(one.images) for one in (*parts, left)] == [20, 20, 160]
    rows = torch.cat([one.images.rows for one in (*parts, left)])  # type: ignore[attr-defined]
    assert rows.sort().values.tolist() == list(range(200))
    chosen = left.images.rows[5:9]  # type: ignore[attr-defined]
    assert torch.equal(left.images.read(5, 9), data.images.values[chosen])  # type: ignore[attr-defined]
    assert torch.equal(left.targets.read(5, 9), data.labels[chosen])
    assert held_out.rest(left) is left
    with pytest.raises(UserError, match="the train split of digits has 1597 images and none to hold out"):
        held_out.part(digits("train"), "calibration")


def record(out: Path, model: str, limit: int = 200) -> dict[str, Any]:
    words = ("--suite", "corruption", "--corruptions", "fog", "--severities", "3", "--model", model, "--out", str(out))
    with pytest.raises(SystemExit) as ended:
        main(["run", *words, "--limit", str(limit)])
    assert ended.value.code == 0
    (path,) = out.glob("*/record.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_calibrated_model_is_scored_on_other_images(tmp_path: Path) -> None:
    plain = record(tmp_path / "a", "calibrated:tiny,method=none")
    scaled = record(tmp_path / "b", "calibrated:tiny")
    assert plain["dataset"]["n"] == scaled["dataset"]["n"] == 160
    assert plain["dataset"]["fingerprint"] == scaled["dataset"]["fingerprint"]
    assert "fitted on 20 held-out images" in scaled["model"]["weights_source"]
    assert scaled["metrics"]["clean_error"] == plain["metrics"]["clean_error"]
    assert scaled["metrics"]["clean_nll"] < plain["metrics"]["clean_nll"]


def test_draws_of_a_stochastic_model_are_calibrated_each(tmp_path: Path) -> None:
    found = record(tmp_path, "calibrated:dropped,method=isotonic", limit=10)
    assert (found["draws"], found["model"]["stochastic"], found["dataset"]["n"]) == (3, True, 10)
    assert "a curve a class, fitted on 20 held-out images" in found["model"]["weights_source"]
