"""The corruption suite: CIFAR-C's corruptions at five severities, summed up as mCE, mCNLL and mCECE.

After Hendrycks and Dietterich (2019) and, for NLL and ECE, Park and Kim's spatial smoothing (2022).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from importlib import resources
from math import inf
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from stressbench import metrics, record
from stressbench.contracts import Batch, Condition, Metric, Metrics, Stressed, Suite
from stressbench.errors import UserError, did_you_mean
from stressbench.record import Baseline, DatasetInfo, Row
from stressbench_suites.corruption.engine import CORRUPTIONS, ENGINE_VERSION, EXTRA_CORRUPTIONS, corrupt

if TYPE_CHECKING:
    import pandas as pd

SEVERITIES = (1, 2, 3, 4, 5)

# The tables of AlexNet's errors that the literature normalises by, for the datasets that have one.
_PUBLISHED = {"cifar100": "alexnet_cifar100c.csv", "imagenet": "alexnet_imagenetc.csv"}

# Each normalised metric, and the condition's metric that it sums.
_NORMALISED = {"mCE": "error", "mCNLL": "nll", "mCECE": "ece"}

_Cell = tuple[str, int]
_CLEAN: _Cell = ("none", 0)


class CorruptionSuite(Suite):
    """Clean images and the fifteen corruptions at five severities, or the ones that are named."""

    name = "corruption"
    version = f"1.{ENGINE_VERSION}"
    benchmark = "cifar100"
    archive = "corruption"
    free_options = frozenset({"corruptions", "severities", "baseline"})
    metrics = (
        Metric("mCE", "fraction", "lower", bounds=(0, inf)),
        Metric("mean_error", "fraction", "lower"),
        Metric("mCNLL", "fraction", "lower", bounds=(0, inf)),
        Metric("mCECE", "fraction", "lower", bounds=(0, inf)),
        Metric("relative_mCE", "fraction", "lower", bounds=(-inf, inf)),
        Metric("mean_nll", "nats", "lower"),
        Metric("mean_ece", "fraction", "lower"),
        Metric("clean_error", "fraction", "lower"),
        Metric("clean_nll", "nats", "lower"),
        Metric("clean_ece", "fraction", "lower"),
    )
    row_metrics = (
        Metric("error", "fraction", "lower"),
        Metric("nll", "nats", "lower"),
        Metric("ece", "fraction", "lower"),
        Metric("signed_ece", "fraction", "lower", bounds=(-1, 1)),
        Metric("brier", "number", "lower", bounds=(0, 2)),
    )

    def __init__(
        self,
        corruptions: tuple[str, ...] = CORRUPTIONS,
        severities: tuple[int, ...] = SEVERITIES,
        baseline: Path | None = None,
    ) -> None:
        """`baseline` is another model's record on the same data; without it, published AlexNet numbers are used.

        Raises `UserError` for unknown corruptions or severities, and for a baseline that is not a record of this suite.
        """
        known = (*CORRUPTIONS, *EXTRA_CORRUPTIONS)
        for corruption in corruptions:
            if corruption not in known:
                raise UserError(
                    f"there is no corruption '{corruption}': {did_you_mean(corruption, known)}"
                    f"known are {', '.join(known)}"
                )
        for severity in severities:
            if severity not in SEVERITIES:
                raise UserError(f"severity {severity} does not exist: severities are 1 to 5")
        if not corruptions or not severities:
            raise UserError("no corruption or no severity is named: name at least one of each, or leave the option out")
        self._corruptions = [corruption for corruption in known if corruption in corruptions]
        self._severities = sorted(set(severities))
        self._baseline = None if baseline is None else record.load(baseline)
        if self._baseline is not None and self._baseline.suite.name != self.name:
            raise UserError(f"{baseline} is a record of the {self._baseline.suite.name} suite, not of {self.name}")

    def conditions(self) -> list[Condition]:
        stressed = [(corruption, severity) for corruption in self._corruptions for severity in self._severities]
        return [{"corruption": corruption, "severity": severity} for corruption, severity in (_CLEAN, *stressed)]

    def present(self, condition: Condition, batch: Batch, model: nn.Module) -> Stressed:
        corruption, severity = _cell(condition)
        if corruption == "none":
            return Stressed(batch.images)
        return Stressed(corrupt(batch.images, corruption, severity, batch.keys))

    def observe(self, condition: Condition, batch: Batch, log_probs: Tensor) -> dict[str, Tensor]:
        log_p = metrics.log_mean_probability(log_probs)
        prediction = log_p.argmax(dim=-1)
        return {
            "prediction": prediction,
            "correct": prediction == batch.labels,
            "confidence": log_p.amax(dim=-1).exp(),
            "nll": metrics.negative_log_likelihood(log_p, batch.labels),
            "brier": metrics.brier_score(log_p, batch.labels),
            "entropy": metrics.entropy(log_p),
        }

    def score(self, conditions: Sequence[Condition], tables: Sequence[pd.DataFrame]) -> list[Metrics]:
        return [_row(table) for table in tables]

    def baseline(self, data: DatasetInfo) -> Baseline | None:
        if self._baseline is None:
            return _published(data)
        other = self._baseline.dataset
        for field in ("name", "split", "n", "fingerprint", "stress"):
            if getattr(other, field) != getattr(data, field):
                raise UserError(
                    f"the baseline is of other data: its {field} is {getattr(other, field)} and this run's is "
                    f"{getattr(data, field)}; run the baseline's model on this data first"
                )
        return Baseline(
            model=self._baseline.model.spec,
            source="record on the same data",
            conditions=self._baseline.conditions,
        )

    def aggregate(self, conditions: Sequence[Condition], rows: Sequence[Metrics], baseline: Baseline | None) -> Metrics:
        """Definitions: CE_c = Σ_s E_{s,c} / Σ_s E^base_{s,c}, and mCE its mean over the fifteen; CNLL and CECE alike.

        Relative mCE has E − E_clean in place of E. Null where a cell or the baseline is missing, or where the
        baseline's sum is zero: never a mean over a part.
        """
        ours = {_cell(condition): row for condition, row in zip(conditions, rows, strict=True)}
        theirs = {_cell(row.condition): row.metrics for row in baseline.conditions} if baseline else {}
        result: Metrics = {f"clean_{name}": ours.get(_CLEAN, {}).get(name) for name in ("error", "nll", "ece")}
        for name in ("error", "nll", "ece"):
            result[f"mean_{name}"] = _mean([ours.get((c, s), {}).get(name) for c in CORRUPTIONS for s in SEVERITIES])
        for name, summed in _NORMALISED.items():
            result[name] = _mean([_ratio(ours, theirs, c, summed) for c in CORRUPTIONS])
        result["relative_mCE"] = _mean([_ratio(ours, theirs, c, "error", relative=True) for c in CORRUPTIONS])
        return {metric.name: result[metric.name] for metric in self.metrics}


def _cell(condition: Condition) -> _Cell:
    return str(condition["corruption"]), int(condition["severity"])


def _row(table: pd.DataFrame) -> Metrics:
    names = ("correct", "confidence", "nll", "brier")
    column = {name: torch.from_numpy(table[name].to_numpy(dtype=np.float64)) for name in names}
    ece, signed_ece = metrics.calibration_errors(column["confidence"], column["correct"])
    return {
        "error": float((1 - column["correct"]).mean()),
        "nll": float(column["nll"].mean()),
        "ece": ece,
        "signed_ece": signed_ece,
        "brier": float(column["brier"].mean()),
    }


def _published(data: DatasetInfo) -> Baseline | None:
    file = _PUBLISHED.get(data.name)
    if file is None:
        return None
    with (resources.files(__package__) / "baselines" / file).open(encoding="utf-8") as lines:
        return Baseline(
            model="alexnet",
            source=file,
            conditions=[
                Row(
                    condition={"corruption": line["corruption"], "severity": int(line["severity"])},
                    n=10_000 if data.name == "cifar100" else 50_000,
                    metrics={name: float(line[name]) for name in ("error", "nll", "ece", "brier")},
                )
                for line in csv.DictReader(lines)
            ],
        )


def _ratio(
    ours: Mapping[_Cell, Metrics],
    theirs: Mapping[_Cell, Metrics],
    corruption: str,
    name: str,
    relative: bool = False,
) -> float | None:
    """Σ_s of ours over Σ_s of theirs, each less its clean value if `relative`."""
    sums = []
    for cells in (ours, theirs):
        values = [cells.get((corruption, severity), {}).get(name) for severity in SEVERITIES]
        clean = cells.get(_CLEAN, {}).get(name) if relative else 0.0
        if clean is None or any(value is None for value in values):
            return None
        sums.append(sum(value - clean for value in values if value is not None))
    return sums[0] / sums[1] if sums[1] else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None
