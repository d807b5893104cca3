"""Metrics of confidence where images tie and at the edges of bins, against counting by hand over all orders."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stressbench import metrics

VALUES = (0.0, 0.05, 0.1, 0.5, 0.9, 0.95, 1.0)  # edges of bins, and few enough to tie
Array = NDArray[np.float64]


def cases() -> list[tuple[Array, Array]]:
    rng = np.random.default_rng(0)
    sizes = [int(n) for n in rng.integers(1, 7, 60)]
    return [(rng.choice(VALUES, n), rng.integers(0, 2, n).astype(np.float64)) for n in sizes]


def orders(confidence: Array) -> list[list[int]]:
    """All orders of the images from the most to the least confident one."""
    falling = [
        list(order)
        for order in itertools.permutations(range(len(confidence)))
        if (np.diff(confidence[list(order)]) <= 0).all()
    ]
    assert falling
    return falling


@pytest.mark.parametrize(("confidence", "correct"), cases())
def test_leaving_images_out(confidence: Array, correct: Array) -> None:
    f, right = torch.tensor(confidence), torch.tensor(correct)
    n, wrong = len(correct), 1 - correct
    over_orders = [np.mean(np.cumsum(wrong[order]) / np.arange(1, n + 1)) for order in orders(confidence)]
    best = np.mean(np.cumsum(np.sort(wrong)) / np.arange(1, n + 1))
    assert metrics.excess_aurc(f, right) == pytest.approx(np.mean(over_orders) - best, abs=1e-12)
    accepted = math.ceil(0.8 * n - 1e-9)
    risk = np.mean([wrong[order[:accepted]].mean() for order in orders(confidence)])
    assert metrics.risk_at_coverage(f, right) == pytest.approx(risk, abs=1e-12)

    thresholds = sorted({*confidence}, reverse=True)
    above = [confidence >= threshold for threshold in thresholds]
    points = [(0.0, 0.0), *((mask.mean(), (mask * wrong).mean()) for mask in above)]
    area = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in itertools.pairwise(points))
    assert metrics.augrc(f, right) == pytest.approx(area, abs=1e-12)
    within = [mask.mean() for mask in above if wrong[mask].mean() <= 0.05]
    assert metrics.coverage_at_risk(f, right) == (pytest.approx(max(within)) if within else None)
    if 0 < correct.sum() < n:
        first = next(mask for mask in above if mask[correct == 1].mean() >= 0.95)
        assert metrics.error_fpr95(f, right) == pytest.approx(first[correct == 0].mean())
    else:
        assert metrics.error_fpr95(f, right) is None


@pytest.mark.parametrize(("confidence", "correct"), cases())
def test_calibration(confidence: Array, correct: Array) -> None:
    f, right = torch.tensor(confidence), torch.tensor(correct)
    edges = np.arange(11) / 10
    bins = [(edges[b] < confidence) & (confidence <= edges[b + 1]) for b in range(10)]
    bins[0] |= confidence == 0
    gaps = [abs(correct[mask].mean() - confidence[mask].mean()) for mask in bins if mask.any()]
    assert metrics.maximum_calibration_error(f, right) == pytest.approx(max(gaps), abs=1e-12)

    expected = np.array([correct[confidence == value].mean() for value in confidence])
    ranked = (expected - confidence)[np.argsort(confidence, kind="stable")]
    groups = np.array_split(ranked, min(10, len(ranked)))
    adaptive = sum(abs(group.sum()) for group in groups) / len(ranked)
    assert metrics.adaptive_calibration_error(f, right) == pytest.approx(adaptive, abs=1e-12)
    parts = metrics.brier_decomposition(f, right)
    total = parts.miscalibration - parts.discrimination + parts.uncertainty
    assert total == pytest.approx(np.square(confidence - correct).mean(), abs=1e-12)
    assert min(parts.miscalibration, parts.discrimination) >= 0


def test_without_images_nothing_is_zero() -> None:
    none = torch.zeros(0)
    for metric in (
        metrics.augrc,
        metrics.excess_aurc,
        metrics.risk_at_coverage,
        metrics.maximum_calibration_error,
        metrics.adaptive_calibration_error,
        metrics.smooth_calibration_error,
    ):
        assert math.isnan(metric(none, none)), metric.__name__
    assert metrics.coverage_at_risk(none, none) is None
    assert metrics.error_fpr95(none, none) is None
    assert metrics.certain_images(none, none) == metrics.CertainImages(None, None, None)


def test_a_nan_is_not_ranked() -> None:
    f, right = torch.tensor([0.2, math.nan, 0.9, 0.4]), torch.tensor([0, 1, 1, 0])
    for metric in (
        metrics.aurc,
        metrics.augrc,
        metrics.excess_aurc,
        metrics.risk_at_coverage,
        metrics.expected_calibration_error,
        metrics.maximum_calibration_error,
        metrics.adaptive_calibration_error,
        metrics.smooth_calibration_error,
    ):
        assert math.isnan(metric(f, right)), metric.__name__
    for unknown in (metrics.auroc, metrics.detection, metrics.coverage_at_risk, metrics.error_fpr95):
        assert unknown(f, right) is None, unknown.__name__
    assert metrics.certain_images(f, right) == metrics.CertainImages(None, None, None)
    assert math.isnan(metrics.brier_decomposition(f, right).miscalibration)
    log_p = torch.tensor([[[math.nan, math.nan]], [[0.5, 0.5]]]).log()
    assert math.isnan(metrics.entropy(log_p[0]))
    assert math.isnan(metrics.mutual_information(log_p))


def test_an_infinite_score_is_the_first_or_the_last() -> None:
    f, right = torch.tensor([0.2, math.inf, 0.9, -math.inf]), torch.tensor([0, 1, 1, 0])
    finite = torch.tensor([0.2, 5.0, 0.9, -5.0])
    for metric in (metrics.aurc, metrics.augrc, metrics.auroc, metrics.detection, metrics.risk_at_coverage):
        assert metric(f, right) == metric(finite, right), metric.__name__
    assert metrics.pearson(f, right) is None


def test_of_almost_no_coverage_one_image_is_left() -> None:
    f, right = torch.tensor([0.9, 0.8]), torch.tensor([0, 1])
    assert metrics.risk_at_coverage(f, right, 0.0) == metrics.risk_at_coverage(f, right, 0.1) == 1.0


def test_answers_may_be_flags_or_whole_numbers() -> None:
    right = torch.tensor([True, True, False, False])
    for f in (torch.tensor([True, False, True, False]), torch.tensor([3, 0, 3, 0], dtype=torch.uint8)):
        assert metrics.aurc(f, right) == metrics.aurc(f.double(), right.double())
        assert metrics.augrc(f, right) == metrics.augrc(f.double(), right.double())
