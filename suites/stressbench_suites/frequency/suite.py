"""The frequency suite: accuracy under noise, and under FGSM steps, that lie in one band of frequencies.

After Shao et al. (2021) and Park and Kim's spatial smoothing (2022), section 2.2 and appendix E. What is added to an
image has the same norm in every band, so that a band is not worse for having more coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from stressbench import metrics, randomness
from stressbench.contracts import (
    Axis,
    Batch,
    Columns,
    Condition,
    Dataset,
    Metric,
    Metrics,
    Predictor,
    Stressed,
    StressSuite,
    traits,
)
from stressbench.errors import UserError, did_you_mean
from stressbench.record import Finding
from stressbench_suites.frequency.bands import empty, keep
from stressbench_suites.gradients import loss_gradient

if TYPE_CHECKING:
    import pandas as pd

SIGNALS = ("noise", "fgsm")
BANDS = 10
# Root mean squares over the pixels, in [0, 1]: a common network's accuracy falls somewhere between the bands.
NOISE_RMS = 0.05
FGSM_RMS = 0.008

_MOST_BANDS = 100
_MOST_GRADIENT_DRAWS = 10  # a network with dropout has no end of them, an ensemble its members
# Of the whole signal's norm: what a transform there and back leaves in an empty band is rounding and not a signal.
_ROUNDING = 1e-5

_CLEAN: Condition = {"signal": "none", "band": 0, "low": 0.0, "high": 0.0}


class FrequencySuite(StressSuite):
    """Clean images, and images with noise or an FGSM step of one norm in each of equally wide bands from 0 to π."""

    name = "frequency"
    version = "1"
    benchmark = "cifar10"
    axes = (
        Axis(
            ("low", "high"),
            name="frequency",
            label="frequency (radians per pixel)",
            kind="radians",
            panels=("signal",),
            metrics=("accuracy",),
            clean={"signal": "none"},
        ),
    )
    scoring_options = frozenset({"signals", "bands"})
    metrics = (
        Metric(
            "noise_auc",
            "fraction",
            "higher",
            interval="proportion",
            about="mean accuracy over bands of frequency, each with noise of the same strength",
        ),
        Metric(
            "fgsm_auc",
            "fraction",
            "higher",
            interval="proportion",
            about="mean accuracy over bands of frequency, each with a gradient step of the same strength",
        ),
        Metric("clean_accuracy", "fraction", "higher", interval="proportion", about="accuracy without stress"),
        Metric(
            "noise_worst_accuracy",
            "fraction",
            "higher",
            interval="proportion",
            about="accuracy in the band of frequency where noise does the most harm",
        ),
        Metric(
            "noise_worst_frequency",
            "number",
            None,
            bounds=(0, math.pi),
            interval=None,
            about="middle of that band, in radians a pixel",
        ),
        Metric(
            "fgsm_worst_accuracy",
            "fraction",
            "higher",
            interval="proportion",
            about="accuracy in the band of frequency where a gradient step does the most harm",
        ),
        Metric(
            "fgsm_worst_frequency",
            "number",
            None,
            bounds=(0, math.pi),
            interval=None,
            about="middle of that band, in radians a pixel",
        ),
    )
    row_metrics = (
        Metric("accuracy", "fraction", "higher", share_of="n"),
        Metric("nll", "nats", "lower"),
        Metric("norm", "number", None),
        Metric("clipped_norm", "number", None),
        Metric("unchanged", "fraction", "lower"),
    )

    def __init__(
        self,
        signals: tuple[str, ...] = SIGNALS,
        bands: int = BANDS,
        noise_rms: float = NOISE_RMS,
        fgsm_rms: float = FGSM_RMS,
    ) -> None:
        """What is added to an image of H×W pixels has the L2 norm rms·√(3HW): that of noise of this standard deviation.

        Raises `UserError` for unknown signals, a number of bands that cannot be, and strengths that are not positive.
        """
        for signal in signals:
            if signal not in SIGNALS:
                raise UserError(f"there is no signal '{signal}': {did_you_mean(signal, SIGNALS)}known are noise, fgsm")
        if not signals:
            raise UserError("no signal is named: name noise or fgsm, or leave the option out")
        if not 1 <= bands <= _MOST_BANDS:
            raise UserError(f"invalid bands={bands}: expected 1 to {_MOST_BANDS}, for example {BANDS}")
        for name, rms in (("noise_rms", noise_rms), ("fgsm_rms", fgsm_rms)):
            if not 0 < rms < math.inf:
                raise UserError(f"invalid {name}={rms}: expected a number above 0, for example {NOISE_RMS}")
        self._signals = [signal for signal in SIGNALS if signal in signals]
        self._bands = bands
        self._rms = {"noise": noise_rms, "fgsm": fgsm_rms}

    def conditions(self) -> list[Condition]:
        edges = [round(band * math.pi / self._bands, 4) for band in range(self._bands + 1)]
        stressed: list[Condition] = [
            {"signal": signal, "band": band, "low": low, "high": high}
            for signal in self._signals
            for band, (low, high) in enumerate(pairwise(edges))
        ]
        return [_CLEAN, *stressed]

    def unsupported(self, dataset: Dataset) -> str | None:
        return self._too_small(*dataset.image_size)

    def _too_small(self, height: int, width: int) -> str | None:
        without = empty(height, width, self._bands)
        if not without:
            return None
        return (
            f"images of {height}×{width} pixels have no frequency in band {without[0]} of {self._bands}: "
            "give fewer bands, as --suite frequency,bands=4"
        )

    def stress(self, condition: Condition, batch: Batch, model: Predictor) -> Stressed:
        if condition["signal"] == "none":
            nothing = torch.zeros(len(batch.images), device=batch.images.device)
            return Stressed(batch.images, {"norm": nothing, "clipped_norm": nothing})
        height, width = batch.images.shape[2:]
        if (why := self._too_small(height, width)) is not None:
            raise UserError(why)
        whole = _whole(condition, batch, model.module)
        added = self.added(whole, condition)
        stressed = (batch.images + added).clamp_(0, 1)
        return Stressed(stressed, {"norm": _norm(added), "clipped_norm": _norm(stressed - batch.images)})

    def added(self, whole: Tensor, condition: Condition) -> Tensor:
        """What signals (N, 3, H, W) have in the condition's band, scaled to its norm; 0 where that is nothing."""
        band = keep(whole, int(condition["band"]), self._bands)
        norm = _norm(band)
        wanted = self._rms[str(condition["signal"])] * math.sqrt(whole[0].numel())
        scale = torch.where(norm > _ROUNDING * _norm(whole), wanted / norm, 0)
        return band * scale[:, None, None, None]

    def observe(self, condition: Condition, batch: Batch, predictions: Tensor) -> Columns:
        log_p = metrics.log_mean_probability(predictions)
        prediction = log_p.argmax(dim=-1)
        return {
            "prediction": prediction,
            "correct": prediction == batch.targets,
            "nll": metrics.negative_log_likelihood(log_p, batch.targets),
        }

    def score(self, conditions: Sequence[Condition], tables: Sequence[pd.DataFrame]) -> list[Metrics]:
        return [_row(condition, table) for condition, table in zip(conditions, tables, strict=True)]

    def aggregate(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> Metrics:
        """The area under accuracy over frequency, divided by π, and the band with the least accuracy.

        Accuracy is constant within a band, so with bands of equal width the area is the mean over bands. Of bands with
        the same accuracy the lowest is the worst; its frequency is its middle, in radians per pixel. Null unless the
        bands reach from 0 to π without a gap.
        """
        result: Metrics = {metric.name: None for metric in self.metrics}
        for condition, row in zip(conditions, rows, strict=True):
            if condition["signal"] == "none":
                result["clean_accuracy"] = row.get("accuracy")
        for signal in SIGNALS:
            curve = _curve(signal, conditions, rows)
            if curve is not None:
                worst = min(curve, key=lambda middle: (curve[middle], middle))
                result[f"{signal}_auc"] = fmean(curve.values())
                result[f"{signal}_worst_accuracy"] = curve[worst]
                result[f"{signal}_worst_frequency"] = worst
        return result

    def findings(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> list[Finding]:
        found = []
        for condition, row in zip(conditions, rows, strict=True):
            share = row.get("unchanged")
            if condition["signal"] == "fgsm" and share:
                message = (
                    f"{100 * share:.3g} % of the images have no gradient in band {condition['band']} and were shown "
                    "unchanged: the accuracy there is too good"
                )
                found.append(Finding(check="no_gradient", message=message))
        return found


def _whole(condition: Condition, batch: Batch, model: nn.Module) -> Tensor:
    """The signal over all frequencies: standard normal noise, or the sign of the loss's gradient."""
    if condition["signal"] == "noise":
        return randomness.normal(batch.keys, tuple(batch.images.shape[1:]))
    draws = min(traits(model).draws(), _MOST_GRADIENT_DRAWS)
    # Keys of its own, or the step would know the draws that it is judged by.
    keys = randomness.split(batch.keys, 1)[:, 0]
    return loss_gradient(model, batch.images, batch.targets, keys, draws).sign()


def _norm(images: Tensor) -> Tensor:
    """The L2 norm of each image over pixels and channels: (N, 3, H, W) to (N,)."""
    norm: Tensor = torch.linalg.vector_norm(images, dim=(1, 2, 3))
    return norm


def _row(condition: Condition, table: pd.DataFrame) -> Metrics:
    column = {name: table[name].to_numpy(dtype=np.float64) for name in ("correct", "nll", "norm", "clipped_norm")}
    return {
        "accuracy": float(column["correct"].mean()),
        "nll": float(column["nll"].mean()),
        "norm": float(column["norm"].mean()),
        "clipped_norm": float(column["clipped_norm"].mean()),
        "unchanged": None if condition["signal"] == "none" else float((column["norm"] == 0).mean()),
    }


def _curve(signal: str, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> Mapping[float, float] | None:
    """Accuracy by the middle of each band; None unless the bands are whole, from 0 to π without a gap."""
    curve: dict[float, float] = {}
    reached = 0.0
    ours = [(c, r) for c, r in zip(conditions, rows, strict=True) if c["signal"] == signal]
    for condition, row in sorted(ours, key=lambda pair: pair[0]["band"]):
        low, high, accuracy = float(condition["low"]), float(condition["high"]), row.get("accuracy")
        if accuracy is None or low != reached:
            return None
        curve[(low + high) / 2] = accuracy
        reached = high
    return curve if reached == round(math.pi, 4) else None
