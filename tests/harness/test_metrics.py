"""The metrics against NumPy, SciPy and scikit-learn, and against cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import log_softmax, logsumexp
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import brier_score_loss, log_loss

from stressbench import metrics


def random_log_probs(*shape: int, seed: int = 0, scale: float = 3) -> np.ndarray:
    return log_softmax(np.random.default_rng(seed).normal(scale=scale, size=shape), axis=-1)


def ece_by_loop(confidence: np.ndarray, correct: np.ndarray, bins: int = 10) -> tuple[float, float]:
    """ECE and signed ECE image by image, with (a, b] written out."""
    gap = signed = 0.0
    for b in range(bins):
        inside = [(c, k) for c, k in zip(confidence, correct, strict=True) if b / bins < c <= (b + 1) / bins]
        if inside:
            difference = np.mean([c for c, _ in inside]) - np.mean([k for _, k in inside])
            gap += len(inside) / len(confidence) * abs(difference)
            signed += len(inside) / len(confidence) * difference
    return gap, signed


def test_the_mean_prediction_is_the_log_of_the_mean_probability() -> None:
    log_probs = random_log_probs(5, 7, 4)
    expected = logsumexp(log_probs, axis=0) - math.log(5)
    np.testing.assert_allclose(metrics.log_mean_probability(torch.from_numpy(log_probs)), expected, atol=1e-12)


def test_the_mean_of_sequences_keeps_their_frames() -> None:
    log_probs = random_log_probs(3, 2, 6, 4)
    np.testing.assert_allclose(
        metrics.log_mean_probability(torch.from_numpy(log_probs)), np.log(np.exp(log_probs).mean(0)), atol=1e-12
    )


def test_a_confident_wrong_answer_has_a_large_finite_nll() -> None:
    log_probs = torch.tensor([[[1000.0, -1000.0]]]).log_softmax(-1)
    log_p = metrics.log_mean_probability(log_probs)
    assert metrics.negative_log_likelihood(log_p, torch.tensor([1])).item() == 2000
    # Averaging probabilities would give log 0 here; a second draw that is right brings it to log 2.
    both = torch.cat([log_probs, log_probs.flip(-1)])
    nll = metrics.negative_log_likelihood(metrics.log_mean_probability(both), torch.tensor([1]))
    assert nll.item() == pytest.approx(math.log(2), abs=1e-6)


def test_many_equal_certain_draws_stay_at_probability_one() -> None:
    log_p = metrics.log_mean_probability(torch.tensor([[[0.0, -200.0]]], dtype=torch.float32).expand(50, 1, 2))
    assert log_p.max() <= 0
    assert metrics.expected_calibration_error(log_p.amax(-1).exp(), torch.tensor([True])) == pytest.approx(0, abs=1e-6)


def test_nll_brier_and_entropy_agree_with_scikit_learn_and_scipy() -> None:
    log_p = random_log_probs(200, 5)
    p = np.exp(log_p)
    labels = np.random.default_rng(1).integers(5, size=200)
    ours = torch.from_numpy(log_p), torch.from_numpy(labels)
    assert metrics.negative_log_likelihood(*ours).mean().item() == pytest.approx(log_loss(labels, p, labels=range(5)))
    brier = brier_score_loss(labels, p, labels=range(5), scale_by_half=False)
    assert metrics.brier_score(*ours).mean().item() == pytest.approx(brier)
    np.testing.assert_allclose(metrics.entropy(ours[0]), scipy_entropy(p, axis=1), atol=1e-12)


def test_a_certain_prediction_has_no_entropy() -> None:
    assert metrics.entropy(torch.tensor([[0.0, -math.inf]])).item() == 0


@pytest.mark.parametrize(
    ("confidence", "correct", "expected"),
    [
        ([1.0], [1], 0.0),  # confidence 1.0 is in the last bin, and right
        ([1.0], [0], 1.0),
        ([0.8], [0], 0.8),  # one image
        ([0.95, 1.0], [1, 0], 0.475),  # one bin: |0.5 − 0.975|
        ([0.9, 0.95], [1, 0], 0.05 + 0.475),  # (0.8, 0.9] and (0.9, 1]: an edge belongs to the bin below
        ([0.55, 0.55, 0.55, 0.55], [1, 1, 0, 0], 0.05),
        ([0.3, 0.7], [1, 1], 0.35 + 0.15),
    ],
)
def test_calibration_error_by_hand(confidence: list[float], correct: list[int], expected: float) -> None:
    value = metrics.expected_calibration_error(torch.tensor(confidence, dtype=torch.float64), torch.tensor(correct))
    assert value == pytest.approx(expected, abs=1e-12)


def test_an_edge_in_any_bin_belongs_to_the_bin_below() -> None:
    edges = torch.arange(1, 11, dtype=torch.float64) / 10
    share, confidence, _ = metrics.calibration_bins(edges, torch.ones(10))
    assert share.tolist() == [0.1] * 10
    torch.testing.assert_close(confidence, edges)


@given(
    arrays.arrays(np.float64, st.integers(1, 60), elements=st.floats(0.01, 1.0)),
    st.randoms(use_true_random=False),
)
def test_calibration_error_agrees_with_a_loop(confidence: np.ndarray, random: object) -> None:
    correct = np.array([random.random() < 0.6 for _ in confidence])  # type: ignore[attr-defined]
    gap, signed = ece_by_loop(confidence, correct)
    ours = torch.from_numpy(confidence), torch.from_numpy(correct)
    assert metrics.expected_calibration_error(*ours) == pytest.approx(gap, abs=1e-12)
    assert metrics.signed_calibration_error(*ours) == pytest.approx(signed, abs=1e-12)
    assert abs(signed) <= gap + 1e-12 <= 1 + 1e-12


def test_one_class_only() -> None:
    log_p = torch.zeros(3, 1)
    labels = torch.zeros(3, dtype=torch.int64)
    assert metrics.negative_log_likelihood(log_p, labels).tolist() == [0, 0, 0]
    assert metrics.brier_score(log_p, labels).tolist() == [0, 0, 0]
    assert metrics.expected_calibration_error(torch.ones(3), torch.ones(3)) == 0
