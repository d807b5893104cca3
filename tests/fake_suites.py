"""Small suites with the kinds of conditions and columns that figures are drawn of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stressbench import metrics, randomness
from stressbench.contracts import Axis, Batch, Condition, Metric, Metrics, Predictor, Stressed, StressSuite


class _Accuracy(StressSuite):
    """Accuracy in each condition; what an image is under one is for the others to say."""

    version = "1"
    benchmark = "digits"
    metrics = (Metric("worst_accuracy", "fraction", "higher"),)
    row_metrics = (Metric("accuracy", "fraction", "higher"), Metric("nll", "nats", "lower"))

    def observe(self, condition: Condition, batch: Batch, log_probs: Tensor) -> dict[str, Tensor]:
        log_p = metrics.log_mean_probability(log_probs)
        return {
            "correct": log_p.argmax(dim=-1) == batch.targets,
            "confidence": log_p.amax(dim=-1).exp(),
            "nll": metrics.negative_log_likelihood(log_p, batch.targets),
        }

    def score(self, conditions: Sequence[Condition], tables: Sequence[Any]) -> list[Metrics]:
        return [{"accuracy": float(t["correct"].mean()), "nll": float(t["nll"].mean())} for t in tables]

    def aggregate(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> Metrics:
        return {"worst_accuracy": min(row["accuracy"] or 0.0 for row in rows)}


class Bands(_Accuracy):
    """Waves of two frequencies."""

    name = "bands"
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

    def conditions(self) -> list[Condition]:
        edges = [math.pi * k / 2 for k in range(3)]
        waves = [
            {"signal": s, "band": k, "low": edges[k], "high": edges[k + 1]} for s in ("noise", "sine") for k in range(2)
        ]
        return [{"signal": "none", "band": 0, "low": 0.0, "high": 0.0}, *waves]

    def stress(self, condition: Condition, batch: Batch, model: Predictor) -> Stressed:
        if condition["signal"] == "none":
            return Stressed(batch.images)
        middle = (float(condition["low"]) + float(condition["high"])) / 2
        wave = torch.sin(middle * torch.arange(batch.images.shape[-1]) + (condition["signal"] == "noise"))
        # A column that only some models' tables have.
        seen = {"seen": batch.images.mean(dim=(1, 2, 3))} if getattr(model.module, "stochastic", False) else {}
        return Stressed((batch.images + 0.2 * wave).clamp(0, 1), seen)


class Budgets(_Accuracy):
    """Random signs of two sizes, and a thing that is tried at one size alone. Scored by the images' `index`."""

    name = "budgets"
    axes = (
        Axis("eps", name="budget", kind="budget", panels=("attack", "norm"), metrics=("accuracy",), clean={"eps": 0}),
    )

    def __init__(self, half: bool = False) -> None:
        self._half = half

    def conditions(self) -> list[Condition]:
        tried = [{"attack": a, "norm": "linf", "eps": eps} for a in ("signs", "grey") for eps in (4 / 255, 16 / 255)]
        return [{"attack": "none", "norm": "linf", "eps": 0}, *tried, {"attack": "once", "norm": "linf", "eps": 0.5}]

    def stress(self, condition: Condition, batch: Batch, model: Predictor) -> Stressed:
        eps = float(condition["eps"]) / (2 if self._half else 1)
        if condition["attack"] == "grey":
            return Stressed(batch.images + (0.5 - batch.images).clamp(-eps, eps))
        signs = randomness.normal(batch.keys, tuple(batch.images.shape[1:])).sign()
        return Stressed((batch.images + eps * signs).clamp(0, 1))

    def score(self, conditions: Sequence[Condition], tables: Sequence[Any]) -> list[Metrics]:
        # As a suite may look an image up in the clean table: this fails for an image that is there twice.
        clean = tables[0].set_index("index")["correct"]
        assert all(len(clean.loc[table["index"]]) == len(clean) for table in tables)
        return super().score(conditions, tables)


class Frames(_Accuracy):
    """Images that fade, frame by frame."""

    name = "frames"
    metrics = (Metric("relative_confidence", "fraction", "higher"),)
    row_metrics = (Metric("relative_confidence", "fraction", "higher"),)

    def conditions(self) -> list[Condition]:
        return [{"perturbation": "fade"}, {"perturbation": "glow"}]

    def stress(self, condition: Condition, batch: Batch, model: Predictor) -> Stressed:
        factors = torch.linspace(1, 0.2, 12) if condition["perturbation"] == "fade" else torch.linspace(1, 2, 12)
        return Stressed((batch.images[:, None] * factors[:, None, None, None]).clamp(0, 1))

    def observe(self, condition: Condition, batch: Batch, log_probs: Tensor) -> dict[str, Tensor]:
        log_p = metrics.log_mean_probability(log_probs)
        own = log_p.gather(2, batch.targets[:, None, None].expand(-1, log_p.shape[1], 1))[..., 0]
        relative = (own - log_p.amax(dim=-1)).exp()
        frames = {f"relative_confidence_{t}": relative[:, t] for t in range(relative.shape[1])}
        return {"relative_confidence": relative.mean(dim=1), **frames}

    def score(self, conditions: Sequence[Condition], tables: Sequence[Any]) -> list[Metrics]:
        return [{"relative_confidence": float(t["relative_confidence"].mean())} for t in tables]

    def aggregate(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> Metrics:
        return {"relative_confidence": sum(row["relative_confidence"] or 0.0 for row in rows) / len(rows)}
