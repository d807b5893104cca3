"""What `--metrics all` adds to the conditions of suites: more of calibration, and of leaving images out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from stressbench import metrics
from stressbench.contracts import Columns, Metric, Metrics

if TYPE_CHECKING:
    import pandas as pd

Which = Literal["standard", "all"]

CALIBRATION = (
    Metric("adaptive_ece", "fraction", "lower"),
    Metric("classwise_ece", "fraction", "lower"),
    Metric("mce", "fraction", "lower"),
    Metric("smooth_ece", "fraction", "lower"),
    Metric("brier_miscalibration", "number", "lower", bounds=(0, 1)),
    Metric("brier_discrimination", "number", "higher", bounds=(0, 1)),
    Metric("brier_uncertainty", "number", None, bounds=(0, 0.25)),
)
SELECTIVE = (
    Metric("e_aurc", "fraction", "lower"),
    Metric("augrc", "fraction", "lower", bounds=(0, 0.5)),
    Metric("risk_at_80", "fraction", "lower"),
    Metric("coverage_at_5", "fraction", "higher"),
    Metric("error_fpr95", "fraction", "lower"),
    Metric("acc_90", "fraction", "higher"),
    Metric("unc_90", "fraction", "higher"),
    Metric("freq_90", "fraction", "higher"),
)


def probabilities(predictions: Tensor) -> Columns:
    """The mean probabilities of draws (S, N, C) as one column, which classwise numbers need."""
    return {"probabilities": metrics.log_mean_probability(predictions).exp()}


def calibration(table: pd.DataFrame) -> Metrics:
    """`CALIBRATION` of a table with the columns of a classification and `probabilities`."""
    confidence, correct = _answers(table)
    labels = torch.tensor(table["label"].to_numpy(dtype=np.int64))
    of_classes = torch.from_numpy(np.stack(table["probabilities"].to_list()).astype(np.float64))
    parts = metrics.brier_decomposition(confidence, correct)
    return {
        "adaptive_ece": metrics.adaptive_calibration_error(confidence, correct),
        "classwise_ece": metrics.classwise_calibration_error(of_classes, labels),
        "mce": metrics.maximum_calibration_error(confidence, correct),
        "smooth_ece": metrics.smooth_calibration_error(confidence, correct),
        "brier_miscalibration": parts.miscalibration,
        "brier_discrimination": parts.discrimination,
        "brier_uncertainty": parts.uncertainty,
    }


def selective(table: pd.DataFrame) -> Metrics:
    """`SELECTIVE` of a table with the columns of a classification."""
    confidence, correct = _answers(table)
    certain = metrics.certain_images(confidence, correct)
    return {
        "e_aurc": metrics.excess_aurc(confidence, correct),
        "augrc": metrics.augrc(confidence, correct),
        "risk_at_80": metrics.risk_at_coverage(confidence, correct),
        "coverage_at_5": metrics.coverage_at_risk(confidence, correct),
        "error_fpr95": metrics.error_fpr95(confidence, correct),
        "acc_90": certain.accuracy,
        "unc_90": certain.uncertain_errors,
        "freq_90": certain.frequency,
    }


def _answers(table: pd.DataFrame) -> tuple[Tensor, Tensor]:
    """Confidence and correctness of each image."""
    return torch.tensor(table["confidence"].to_numpy(np.float64)), torch.tensor(table["correct"].to_numpy(np.float64))
