"""The measures of detection against scikit-learn's curves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score, roc_curve

from stressbench import metrics


def reference(score: np.ndarray, positive: np.ndarray) -> tuple[float, float, float, float]:
    """As OpenOOD 1.5 computes them."""
    fpr, tpr, _ = roc_curve(positive, score, drop_intermediate=False)
    precision_out, recall_out, _ = precision_recall_curve(positive, score)
    precision_in, recall_in, _ = precision_recall_curve(1 - positive, -score)
    return (
        float(roc_auc_score(positive, score)),
        float(fpr[np.argmax(tpr >= 0.95)]),
        float(auc(recall_out, precision_out)),
        float(auc(recall_in, precision_in)),
    )


@given(
    st.lists(st.tuples(st.integers(-6, 6), st.booleans()), min_size=2, max_size=120).filter(
        lambda rows: len({positive for _, positive in rows}) == 2
    )
)
def test_measures_are_scikit_learns_with_and_without_ties(rows: list[tuple[int, bool]]) -> None:
    score = np.array([value for value, _ in rows], dtype=np.float64)
    positive = np.array([positive for _, positive in rows], dtype=np.int64)
    found = metrics.detection(torch.from_numpy(score), torch.from_numpy(positive))
    assert found is not None
    ours = (found.auroc, found.fpr95, found.aupr_out, found.aupr_in)
    assert ours == pytest.approx(reference(score, positive), abs=1e-12)


def test_scores_far_from_one_are_ranked_as_they_are() -> None:
    # torchmetrics passes such scores through a sigmoid, which makes ties of them.
    score = torch.tensor([20.0, 30.0, 40.0, 50.0, 60.0, 70.0])
    found = metrics.detection(score, torch.arange(6) >= 3)
    assert found == metrics.Detection(auroc=1.0, fpr95=0.0, aupr_out=1.0, aupr_in=1.0)


@pytest.mark.parametrize(
    ("score", "positive"), [([1.0, 2.0], [1, 1]), ([1.0, 2.0], [0, 0]), ([1.0, float("nan")], [0, 1]), ([], [])]
)
def test_without_one_of_the_two_kinds_or_with_a_nan_nothing_is_known(score: list[float], positive: list[int]) -> None:
    assert metrics.detection(torch.tensor(score), torch.tensor(positive)) is None
