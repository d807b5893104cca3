"""The dense-uncertainty suite: is a network uncertain about the pixels that it gets wrong?

After Mi et al. (2019), "Training-Free Uncertainty Estimation for Dense Regression": the correlation of the variance
over draws with the error, pixel by pixel, block by block and image by image, what the disturbance that makes the draws
costs, and sparsification curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from math import inf
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

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
    Segmentation,
    Suite,
    Task,
)
from stressbench.errors import UserError
from stressbench.locations import locate
from stressbench.record import DatasetInfo, Finding
from stressbench_suites.dense.blocks import MISSING, PROTOCOL, missing
from stressbench_suites.dense.disturb import Disturbance, Disturbed, change
from stressbench_suites.dense.maps import REGRESSION, SEGMENTATION, columns, maps

if TYPE_CHECKING:
    import pandas as pd

LOCATIONS = ("0", "1", "2", "3", "4")
RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
SAMPLES = 8

_OWN: Condition = {"disturbance": "own"}


def _row_metrics(names: Sequence[str]) -> tuple[Metric, ...]:
    correlations = (f"corr_{where}_{name}" for name in names for where in ("pixel", "block", "mean"))
    return (
        *(Metric(name, "number", "higher", bounds=(-1, 1)) for name in correlations),
        Metric("ause", "number", "lower", bounds=(0, inf)),
        Metric("aurg", "number", "higher", bounds=(-inf, 1)),
        Metric("loss", "number", "lower", bounds=(0, inf)),
        Metric("tolerability", "number", "lower", bounds=(-inf, inf)),
        Metric("uncorrelated", "fraction", None),
    )


def _axis(names: Sequence[str]) -> Axis:
    """Figure 4 of the paper: correlations against the rate, a line for each location, with the loss beside them."""
    drawn = (f"corr_pixel_{names[0]}", f"corr_block_{names[0]}", f"corr_mean_{names[0]}", "tolerability")
    return Axis("rate", label="dropout rate or σ", panels=("location",), lines=True, metrics=drawn)


class DenseUncertaintySuite(Suite):
    """A model's own draws on clean images; or a deterministic one, disturbed at locations by several amounts."""

    name = "dense-uncertainty"
    version = "1"
    tasks = frozenset({"segmentation", "regression", "super-resolution", "depth"})
    axes = (Axis("rate", panels=("disturbance", "location")),)
    scoring_options = frozenset({"disturbance", "locations", "rates"})
    row_metrics = metrics = _row_metrics(REGRESSION)
    axes = (_axis(REGRESSION),)

    def __init__(
        self,
        disturbance: Disturbance = "own",
        locations: tuple[str, ...] = LOCATIONS,
        rates: tuple[float, ...] = RATES,
        samples: int = SAMPLES,
    ) -> None:
        """`dropout` or `noise` in place of `own` disturbs a deterministic network by itself, in so many `samples`.

        It does so at each of the locations 0 … 4, or names of modules (`stressbench.locations`), by each of the rates:
        dropout rates, or standard deviations. Raises `UserError` for rates and numbers that are out of range.
        """
        self._disturbance, self._samples = disturbance, samples
        self._locations, self._rates = tuple(dict.fromkeys(locations)), sorted(set(rates))
        below = 1 if disturbance == "dropout" else inf
        if not self._locations or not self._rates or not all(0 < rate < below for rate in self._rates):
            raise UserError(f"invalid rates or locations: expected one or more, and rates above 0 and below {below}")
        if samples < 2:
            raise UserError(f"invalid samples={samples}: expected 2 or more, since one has no variance")

    def for_task(self, task: str) -> Suite:
        """Of segmentation: the entropy, and the variance of the probabilities, with the NLL."""
        super().for_task(task)
        adapted = copy(self)
        names = SEGMENTATION if task == Segmentation.name else REGRESSION
        adapted.row_metrics = adapted.metrics = _row_metrics(names)
        adapted.axes = (_axis(names),)
        return adapted

    def conditions(self) -> list[Condition]:
        if self._disturbance == "own":
            return [_OWN]
        return [
            {"disturbance": self._disturbance, "location": location, "rate": rate}
            for location in self._locations
            for rate in self._rates
        ]

    def measure(self, condition: Condition, batch: Batch, model: Predictor) -> dict[int, Columns]:
        if condition["disturbance"] != "own":
            if list(model.sizes) != [1]:
                raise UserError("a sweep disturbs a deterministic network: leave out its wrapper, and --draws")
            undisturbed = model.predict(batch.images, batch.keys)[0]
            return {1: _table(batch, self._disturbed(condition, batch, model), undisturbed, disturbed=True)}
        if model.sizes[-1] == 1 and batch.task.name != Segmentation.name:
            raise UserError(
                "one draw has no variance: name a model that makes several, such as infer-dropout:MODEL, or sweep a "
                "deterministic one with -o disturbance=dropout"
            )
        drawn = model.predict(batch.images, batch.keys)
        tested: Tensor | None = None
        if model.unwrapped is not None:
            # Keys of its own: a stochastic model's draws are independent of those that the wrapper makes of it.
            tested = _mean(batch.task, model.unwrapped.predict(batch.images, randomness.split(batch.keys, 1)[:, 0]))
        return {size: _table(batch, drawn[:size], tested, disturbed=tested is not None) for size in model.sizes}

    def _disturbed(self, condition: Condition, batch: Batch, model: Predictor) -> Tensor:
        height, width = batch.images.shape[-2:]
        place = locate(model.module, (height, width), str(condition["location"]))
        disturbed = Disturbed(model.module, place, change(self._disturbance, float(condition["rate"])))
        return model.of(disturbed, [self._samples]).predict(batch.images, batch.keys)

    def score(self, conditions: Sequence[Condition], tables: Sequence[pd.DataFrame]) -> list[Metrics]:
        return [self._row(table) for table in tables]

    def _row(self, table: pd.DataFrame) -> Metrics:
        """Means over the images that have a number; correlations of whole images over all of these."""
        column = {name: torch.tensor(table[name].to_numpy(dtype=np.float64)) for name in table.columns}
        row: Metrics = {}
        for metric in self.row_metrics:
            _, _, name = metric.name.partition("corr_mean_")
            if name:
                known = column[f"error_{name}"].isfinite()
                uncertainty, error = column[f"uncertainty_{name}"][known], column[f"error_{name}"][known]
                row[metric.name] = metrics.pearson(uncertainty, error)
            elif metric.name in column:
                row[metric.name] = _known_mean(column[metric.name])
        disturbed = _known_mean(column["disturbed_loss"]) if "disturbed_loss" in column else None
        loss = row["loss"]
        row["tolerability"] = None if disturbed is None or loss is None else disturbed - loss
        row["uncorrelated"] = float(column[self.row_metrics[0].name].isnan().double().mean())
        return row

    def aggregate(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> Metrics:
        """The only condition's metrics; null of a sweep, whose conditions are to be looked at one by one."""
        if list(conditions) == [_OWN]:
            return dict(rows[0])
        return {metric.name: None for metric in self.metrics}

    def protocol(self, data: DatasetInfo) -> str | None:
        return PROTOCOL

    def findings(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> list[Finding]:
        most = max(row.get("uncorrelated") or 0 for row in rows)
        if not most:
            return []
        message = f"up to {most:.0%} of the images have a constant uncertainty or error, and count in no correlation"
        return [Finding(check="constant-maps", message=message)]

    def unsupported(self, dataset: Dataset) -> str | None:
        return MISSING if missing() else None


def _mean(task: Task, draws: Tensor) -> Tensor:
    """The prediction of some draws (S, …)."""
    return metrics.log_mean_probability(draws) if isinstance(task, Segmentation) else draws.double().mean(dim=0)


def _table(batch: Batch, draws: Tensor, tested: Tensor | None, disturbed: bool) -> Columns:
    """A batch's columns; without a prediction under test it is the draws' mean, and nothing was disturbed."""
    tested = _mean(batch.task, draws) if tested is None else tested
    rows = []
    for n, target in enumerate(batch.targets):  # one by one, since float64 maps of all draws need much memory
        image = maps(batch.task, draws[:, n], tested[n], target)
        rows.append({**columns(image), **({"disturbed_loss": image.disturbed_loss} if disturbed else {})})
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def _known_mean(values: Tensor) -> float | None:
    known = values[values.isfinite()]
    return float(known.mean()) if len(known) else None
