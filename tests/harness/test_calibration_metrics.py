"""Calibration and selective-classification measures against worked examples and independent computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

from stressbench import metrics

# Ten images with their confidence and whether the answer is right; and five images of three classes with their labels.
F = torch.tensor([0.95, 0.92, 0.90, 0.85, 0.80, 0.75, 0.65, 0.55, 0.50, 0.45], dtype=torch.float64)
R = torch.tensor([1, 1, 0, 1, 1, 0, 1, 1, 0, 0])
P = torch.tensor(
    [[0.75, 0.17, 0.08], [0.55, 0.33, 0.12], [0.26, 0.65, 0.09], [0.13, 0.24, 0.63], [0.46, 0.36, 0.18]],
    dtype=torch.float64,
)
Y = torch.tensor([0, 1, 1, 2, 0])

ANSWERS = st.lists(st.tuples(st.sampled_from([0.2, 0.35, 0.5, 0.7, 0.95, 1.0]), st.booleans()), min_size=1, max_size=40)


def tensors(answers: list[tuple[float, bool]]) -> tuple[torch.Tensor, torch.Tensor]:
    confidence, correct = zip(*answers, strict=True)
    return torch.tensor(confidence, dtype=torch.float64), torch.tensor(correct)


def test_calibration_errors_of_the_worked_examples() -> None:
    assert metrics.maximum_calibration_error(F, R) == pytest.approx(0.475)
    assert metrics.adaptive_calibration_error(F, R, bins=4) == pytest.approx(0.158)
    assert metrics.adaptive_calibration_error(F, R, bins=5) == pytest.approx(0.318)
    assert metrics.classwise_calibration_error(P, Y, bins=5) == pytest.approx(0.416 / 3)
    assert metrics.smooth_calibration_error(F, R) == pytest.approx(0.1321, abs=1e-4)


def test_the_smooth_error_of_two_groups_lets_opposite_signs_cancel() -> None:
    confidence = torch.tensor([0.3] * 4 + [0.9] * 4)
    correct = torch.tensor([1, 1, 0, 0] * 2)
    # ∫ |−0.1·K_σ(t, 0.3) + 0.2·K_σ(t, 0.9)| dt at σ = 245/1024, by quadrature.
    assert metrics.smooth_calibration_error(confidence, correct) == pytest.approx(0.2387, abs=2e-4)
    assert metrics.expected_calibration_error(confidence, correct) == pytest.approx(0.3)


def test_the_smooth_error_is_an_integral_over_reflected_kernels() -> None:
    generator = np.random.default_rng(0)
    f = generator.uniform(0.2, 1, 15)
    right = generator.random(15) < f**2
    centres = np.concatenate([sign * f + 2 * k for k in range(-1, 2) for sign in (-1, 1)])
    residuals = np.tile((f - right) / len(f), 6)
    grid = np.linspace(0, 1, 1001)

    def error(width: float) -> float:
        return float(np.trapezoid(np.abs(norm.pdf(grid[:, None], centres, width) @ residuals), grid))

    width = brentq(lambda width: error(width) - width, 0.01, 1)
    found = metrics.smooth_calibration_error(torch.from_numpy(f), torch.from_numpy(right))
    assert found == pytest.approx(error(math.ceil(1024 * width) / 1024), abs=1e-4)


@settings(max_examples=30)
@given(ANSWERS)
def test_the_order_of_images_changes_no_measure(answers: list[tuple[float, bool]]) -> None:
    for measure in (
        metrics.adaptive_calibration_error,
        metrics.augrc,
        metrics.risk_at_coverage,
        metrics.coverage_at_risk,
        metrics.error_fpr95,
        metrics.excess_aurc,
    ):
        forth, back = measure(*tensors(answers)), measure(*tensors(answers[::-1]))
        assert forth == pytest.approx(back, abs=1e-12), measure.__name__


@given(ANSWERS)
def test_the_terms_of_the_brier_score_sum_up(answers: list[tuple[float, bool]]) -> None:
    confidence, correct = tensors(answers)
    parts = metrics.brier_decomposition(confidence, correct)
    assert min(parts.miscalibration, parts.discrimination, parts.uncertainty) >= 0
    total = parts.miscalibration - parts.discrimination + parts.uncertainty
    assert total == pytest.approx(float((confidence - correct.double()).square().mean()))


def test_the_brier_decomposition_of_the_worked_examples() -> None:
    parts = metrics.brier_decomposition(F, R)
    assert (parts.miscalibration, parts.discrimination, parts.uncertainty) == pytest.approx(
        (0.088807, 0.106667, 0.24), abs=1e-6
    )
    murphy = metrics.brier_decomposition(
        torch.tensor([0.9] * 3 + [0.6] * 2 + [0.2] * 3, dtype=torch.float64), torch.tensor([1, 1, 0, 1, 0, 0, 0, 1])
    )
    assert murphy.miscalibration == pytest.approx(0.0295833, abs=1e-6)
    assert murphy.discrimination == pytest.approx(0.0208333, abs=1e-6)
    fitted = IsotonicRegression().fit_transform(F.numpy(), R.numpy())
    assert fitted[np.argsort(F.numpy())].tolist() == pytest.approx([0, 0, *[2 / 3] * 6, 1, 1])


def test_selective_measures_of_the_worked_example() -> None:
    assert metrics.excess_aurc(F, R) == pytest.approx(0.125952, abs=1e-6)
    assert metrics.augrc(F, R) == pytest.approx(0.14)
    assert metrics.risk_at_coverage(F, R) == pytest.approx(0.25)
    assert [metrics.coverage_at_risk(F, R, risk) for risk in (0.05, 0.2, 0.3)] == [0.2, 0.5, 0.8]
    assert metrics.error_fpr95(F, R) == pytest.approx(0.5)
    assert metrics.certain_images(F, R) == metrics.CertainImages(1.0, 1.0, 0.2)
    assert metrics.certain_images(F, R, 0.6) == metrics.CertainImages(5 / 7, 0.5, 0.7)


@given(ANSWERS)
def test_augrc_follows_from_the_auroc_of_failures(answers: list[tuple[float, bool]]) -> None:
    confidence, correct = tensors(answers)
    accuracy = float(correct.double().mean())
    ranked = 0.5 if accuracy in (0, 1) else float(roc_auc_score(correct.numpy(), confidence.numpy()))
    expected = (1 - ranked) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2
    assert metrics.augrc(confidence, correct) == pytest.approx(expected, abs=1e-12)


def test_of_one_sure_error_and_later_right_answers_the_largest_coverage_counts() -> None:
    confidence = torch.linspace(1, 0.1, 10)
    correct = torch.tensor([0, 1, 1, 1, 1, 1, 1, 1, 1, 0])
    assert metrics.coverage_at_risk(confidence, correct, 0.15) == pytest.approx(0.9)
    assert metrics.coverage_at_risk(confidence, correct, 0.05) is None


def test_ties_at_the_threshold_count_with_their_mean() -> None:
    confidence, correct = torch.tensor([1.0, 0.5, 0.5, 0.5]), torch.tensor([1, 0, 1, 1])
    assert metrics.risk_at_coverage(confidence, correct, 0.5) == pytest.approx((1 / 3) / 2)
    assert metrics.coverage_at_risk(confidence, correct, 0.05) == 0.25


def test_without_images_measures_are_unknown() -> None:
    none = torch.zeros(0)
    assert math.isnan(metrics.adaptive_calibration_error(none, none))
    assert math.isnan(metrics.smooth_calibration_error(none, none))
    assert math.isnan(metrics.augrc(none, none))
    assert metrics.certain_images(none, none) == metrics.CertainImages(None, None, None)
