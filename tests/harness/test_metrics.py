"""The metrics against NumPy, SciPy and scikit-learn, and against cases worked by hand."""

from __future__ import annotations

import inspect
import math
from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import log_softmax, logsumexp
from scipy.stats import entropy as scipy_entropy
from scipy.stats import pearsonr
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

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


# --- uncertainty ----------------------------------------------------------------------------------------------


def test_variance_and_mutual_information_agree_with_numpy_and_scipy() -> None:
    log_probs = random_log_probs(7, 50, 4)
    p = np.exp(log_probs)
    ours = torch.from_numpy(log_probs)
    np.testing.assert_allclose(metrics.predictive_variance(ours), p.var(axis=0).mean(axis=-1), atol=1e-15)
    expected = scipy_entropy(p.mean(axis=0), axis=-1) - scipy_entropy(p, axis=-1).mean(axis=0)
    np.testing.assert_allclose(metrics.mutual_information(ours), expected, atol=1e-13)


def test_two_certain_draws_that_disagree_know_one_bit() -> None:
    log_probs = torch.tensor([[[0.0, -math.inf, -math.inf]], [[-math.inf, 0.0, -math.inf]]])
    assert metrics.mutual_information(log_probs).tolist() == [pytest.approx(math.log(2))]
    # p of two of the three classes is 0 or 1, by turns.
    assert metrics.predictive_variance(log_probs).tolist() == [pytest.approx((0.25 + 0.25 + 0) / 3)]


@given(st.integers(2, 9), st.integers(1, 6), st.floats(0.1, 50), st.integers(0, 1000))
def test_equal_draws_have_no_variance_and_no_information(draws: int, classes: int, scale: float, seed: int) -> None:
    one = torch.from_numpy(random_log_probs(1, 5, classes, seed=seed, scale=scale)).float()
    for value in (metrics.predictive_variance, metrics.mutual_information):
        assert value(one.expand(draws, -1, -1)).tolist() == [0] * 5
        assert value(one).isnan().all()  # one draw has neither
        different = value(torch.from_numpy(random_log_probs(draws, 5, classes, seed=seed, scale=scale)).float())
        assert (different >= 0).all()
        limit = 0.25 if value is metrics.predictive_variance else math.log(min(draws, classes))
        assert (different <= limit + 1e-6).all()


@given(
    arrays.arrays(np.float64, st.integers(2, 40), elements=st.floats(-1e3, 1e3).map(lambda x: round(x, 3))),
    st.integers(0, 1000),
)
def test_correlation_agrees_with_scipy(a: np.ndarray, seed: int) -> None:
    b = 0.3 * a + np.random.default_rng(seed).normal(size=a.shape)
    ours = metrics.pearson(torch.from_numpy(a), torch.from_numpy(b))
    if np.ptp(a) == 0:
        assert ours is None
    else:
        assert ours == pytest.approx(pearsonr(a, b).statistic, abs=1e-9)


def test_correlation_by_hand_and_where_there_is_none() -> None:
    def pearson(a: list[float], b: list[float]) -> float | None:
        return metrics.pearson(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64))

    assert pearson([1, 2, 3], [2, 4, 6]) == pytest.approx(1)
    assert pearson([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert pearson([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(0)
    assert pearson([0, 0, 1], [0, 1, 1]) == pytest.approx(0.5)
    assert pearson([1e-200, 2e-200, 3e-200], [1e200, 2e200, 3e200]) == pytest.approx(1)  # neither lost nor infinite
    assert pearson([0.1, 0.1, 0.1], [1, 2, 3]) is None
    assert pearson([1, 2, 3], [7, 7, 7]) is None
    assert pearson([1, math.nan, 3], [1, 2, 3]) is None
    assert pearson([1], [2]) is None
    assert pearson([], []) is None


# Few different values, so that there are ties; and all right or all wrong among them.
RANKED = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=40)


@given(RANKED)
def test_auroc_agrees_with_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    score, positive = (np.array(values) for values in zip(*pairs, strict=True))
    ours = metrics.auroc(torch.from_numpy(score / 4), torch.from_numpy(positive))
    if positive.all() or not positive.any():
        assert ours is None
    else:
        assert ours == pytest.approx(roc_auc_score(positive, score), abs=1e-12)
        swapped = metrics.auroc(torch.from_numpy(-score / 4), torch.from_numpy(positive))
        assert swapped == pytest.approx(1 - ours, abs=1e-12)


def test_auroc_by_hand() -> None:
    def auroc(score: list[float], positive: list[int]) -> float | None:
        return metrics.auroc(torch.tensor(score), torch.tensor(positive))

    assert auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75
    assert auroc([0.5, 0.5, 0.5], [0, 1, 1]) == 0.5
    assert auroc([0.2, 0.9], [0, 1]) == 1
    assert auroc([0.2, 0.9], [1, 1]) is None
    assert auroc([], []) is None


def risk_coverage(correct: tuple[int, ...]) -> float:
    """The mean over k of the error among the first k, the images already in order."""
    return float(np.mean([1 - np.mean(correct[:k]) for k in range(1, len(correct) + 1)]))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=6))
def test_aurc_is_the_mean_over_all_orders_of_what_ties(pairs: list[tuple[int, int]]) -> None:
    orders = [order for order in permutations(pairs) if all(a[0] >= b[0] for a, b in pairwise(order))]
    expected = np.mean([risk_coverage(tuple(correct for _, correct in order)) for order in orders])
    confidence, correct = (torch.tensor(values) for values in zip(*pairs, strict=True))
    assert metrics.aurc(confidence / 2, correct) == pytest.approx(expected, abs=1e-12)


@given(RANKED, st.randoms(use_true_random=False))
def test_aurc_does_not_depend_on_the_order_of_the_images(pairs: list[tuple[int, bool]], random: object) -> None:
    confidence, correct = (torch.tensor(values) for values in zip(*pairs, strict=True))
    random.shuffle(pairs)  # type: ignore[attr-defined]
    other, right = (torch.tensor(values) for values in zip(*pairs, strict=True))
    area = metrics.aurc(confidence, correct)
    assert metrics.aurc(other, right) == pytest.approx(area, abs=1e-12)
    assert 0 <= area <= 1


def test_aurc_by_hand() -> None:
    def aurc(confidence: list[float], correct: list[int]) -> float:
        return metrics.aurc(torch.tensor(confidence), torch.tensor(correct))

    assert aurc([0.9, 0.8, 0.7], [1, 1, 0]) == pytest.approx(1 / 9)
    assert aurc([0.9, 0.8, 0.7], [0, 1, 1]) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert aurc([0.5, 0.5], [1, 0]) == pytest.approx(0.5)  # no order: the error rate
    assert aurc([0.9, 0.2, 0.4], [1, 1, 1]) == 0
    assert aurc([0.9, 0.2, 0.4], [0, 0, 0]) == 1
    assert math.isnan(aurc([], []))


def test_every_public_metric_has_a_runnable_example() -> None:
    public = [
        f
        for name, f in inspect.getmembers(metrics, inspect.isfunction)
        if f.__module__.startswith(metrics.__name__) and name[0] != "_"
    ]
    assert public
    assert [f.__name__ for f in public if ">>>" not in inspect.getdoc(f)] == []
