"""The corruption suite: a set of corruptions at five severities, summed up as mCE, mCNLL and mCECE.

After Hendrycks and Dietterich (2019) and, for NLL and ECE, Park and Kim's spatial smoothing (2022). The sets are
CIFAR-C's and ImageNet-C's fifteen, their four extra ones, and C-bar's ten (Mintun, Kirillov and Xie, 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from math import inf
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from stressbench import record
from stressbench.contracts import (
    TASKS,
    Archive,
    Axis,
    Batch,
    Classification,
    Columns,
    Condition,
    Dataset,
    Metric,
    Metrics,
    Predictor,
    Stressed,
    StressSuite,
    Suite,
    Task,
)
from stressbench.errors import UserError, did_you_mean
from stressbench.record import Baseline, DatasetInfo
from stressbench_suites.all_metrics import CALIBRATION, Which, calibration, probabilities
from stressbench_suites.corruption.constants import describe, small
from stressbench_suites.corruption.engine import (
    ALL,
    CIFAR_BAR,
    CORRUPTIONS,
    ENGINE_VERSION,
    EXTRA_CORRUPTIONS,
    IMAGENET_BAR,
    corrupt,
)
from stressbench_suites.corruption.published import published

if TYPE_CHECKING:
    import pandas as pd

Set = Literal["c", "c-extra", "c-bar", "imagenet-c-bar", "3dcc"]
# What is read from official files alone (Kar et al., 2022).
THREE_D = (
    "near_focus", "far_focus", "bit_error", "color_quant", "flash", "fog_3d", "h265_abr", "h265_crf", "iso_noise",
    "low_light", "xy_motion_blur", "z_motion_blur",
)  # fmt: skip
SETS: Mapping[Set, tuple[str, ...]] = {
    "c": CORRUPTIONS,
    "c-extra": EXTRA_CORRUPTIONS,
    "c-bar": CIFAR_BAR,
    "imagenet-c-bar": IMAGENET_BAR,
    "3dcc": THREE_D,
}
_KNOWN = (*ALL, *THREE_D)
# What C-bar has for images of one size alone, and the set to name for the other.
_ONLY_SMALL = (set(CIFAR_BAR) - set(IMAGENET_BAR), "imagenet-c-bar", "of up to 64 pixels")
_ONLY_LARGE = (set(IMAGENET_BAR) - set(CIFAR_BAR), "c-bar", "of more than 64 pixels")
SEVERITIES = (1, 2, 3, 4, 5)

# Each normalised metric, and the condition's metric that it sums.
_NORMALISED = {"mCE": "error", "mCNLL": "nll", "mCECE": "ece"}

_Cell = tuple[str, int]
_CLEAN: _Cell = ("none", 0)


class CorruptionSuite(StressSuite):
    """Clean images and the corruptions of a set at five severities, or the ones that are named."""

    name = "corruption"
    version = f"1.{ENGINE_VERSION}"
    benchmark: str | None = "cifar100"
    axes = (Axis("severity", over=("corruption",), clean={"corruption": "none"}),)
    scoring_options = frozenset({"corruptions", "severities", "baseline"})
    baseline_metrics: tuple[str, ...] = ("error", "nll", "ece")
    metrics: tuple[Metric, ...] = (
        Metric(
            "mCE",
            "fraction",
            "lower",
            bounds=(0, inf),
            about="a corruption's error over its severities divided by the baseline's, mean over corruptions",
        ),
        Metric(
            "mean_error",
            "fraction",
            "lower",
            interval="proportion",
            about="mean over corruptions and severities: share of images whose most probable class is wrong",
        ),
        Metric(
            "mCNLL",
            "fraction",
            "lower",
            bounds=(0, inf),
            about="as mCE, with negative log-likelihood in place of error",
        ),
        Metric(
            "mCECE",
            "fraction",
            "lower",
            bounds=(0, inf),
            about="as mCE, with expected calibration error in place of error",
        ),
        Metric(
            "relative_mCE",
            "fraction",
            "lower",
            bounds=(-inf, inf),
            about="as mCE, with the rise of the error over that on clean images in place of error",
        ),
        Metric(
            "mean_nll",
            "nats",
            "lower",
            about="mean over corruptions and severities: −log of the true class's probability",
        ),
        Metric(
            "mean_ece",
            "fraction",
            "lower",
            about="how far accuracy and confidence are apart in ten bins of confidence, mean over conditions",
        ),
        Metric(
            "clean_error",
            "fraction",
            "lower",
            interval="proportion",
            about="on clean images: share of images whose most probable class is wrong",
        ),
        Metric("clean_nll", "nats", "lower", about="on clean images: mean of −log of the true class's probability"),
        Metric(
            "clean_ece",
            "fraction",
            "lower",
            about="on clean images: how far accuracy and confidence are apart in ten bins of confidence",
        ),
    )
    row_metrics: tuple[Metric, ...] = Classification.row_metrics
    tasks = frozenset(TASKS)

    def __init__(
        self,
        corruptions: tuple[str, ...] | None = None,
        severities: tuple[int, ...] = SEVERITIES,
        baseline: Path | None = None,
        metrics: Which = "standard",
        set: Set = "c",  # noqa: A002
    ) -> None:
        """`set` is `c`, the fifteen of CIFAR-C and ImageNet-C; `c-extra`, their four others; `c-bar`, the ten of
        CIFAR-10-C-bar; or `imagenet-c-bar`, for images of more than 64 pixels. All means are over the set.

        `3dcc`, the twelve of ImageNet-3DCC, is read from its official files alone.

        `baseline` is another model's record on the same data; without it, AlexNet's published results are used on
        the test sets that they are of. `metrics=all` adds those of `all_metrics.CALIBRATION`.

        Raises `UserError` for unknown corruptions or severities, and for a baseline that is not a record of this suite.
        """
        self._set = SETS[set]
        corruptions = self._set if corruptions is None else corruptions
        for corruption in corruptions:
            if corruption not in _KNOWN:
                hint = did_you_mean(corruption, _KNOWN)
                raise UserError(f"there is no corruption '{corruption}': {hint}known are {', '.join(_KNOWN)}")
        for severity in severities:
            if severity not in SEVERITIES:
                raise UserError(f"severity {severity} does not exist: severities are 1 to 5")
        if not corruptions or not severities:
            raise UserError("no corruption or no severity is named: name at least one of each, or leave the option out")
        self._corruptions = [corruption for corruption in _KNOWN if corruption in corruptions]
        self._severities = sorted({*severities})
        self._task: type[Task] = Classification
        self._all = metrics == "all"
        if self._all:
            self.row_metrics = (*self.row_metrics, *CALIBRATION)
            self.metrics = (*self.metrics, *summed(CALIBRATION))
        self._baseline = None if baseline is None else record.load(baseline)
        if self._baseline is not None and self._baseline.suite.name != self.name:
            raise UserError(f"{baseline} is a record of the {self._baseline.suite.name} suite, not of {self.name}")

    def conditions(self) -> list[Condition]:
        stressed = [(corruption, severity) for corruption in self._corruptions for severity in self._severities]
        return [{"corruption": corruption, "severity": severity} for corruption, severity in (_CLEAN, *stressed)]

    def stress(self, condition: Condition, batch: Batch, model: Predictor) -> Stressed:
        corruption, severity = _cell(condition)
        if corruption == "none":
            return Stressed(batch.images)
        if corruption in THREE_D:
            raise UserError("3DCC has no generator here: leave out --stress generated")
        return Stressed(corrupt(batch.images, corruption, severity, batch.keys))

    def for_task(self, task: str) -> Suite:
        """Of a dense task, the means and the clean values of the task's own metrics."""
        super().for_task(task)
        if task == self._task.name:
            return self
        if self._all:
            raise UserError(f"metrics=all is for classification, not for {task}: leave it out")
        adapted = copy(self)
        adapted._task = TASKS[task]
        adapted.row_metrics, adapted.baseline_metrics = adapted._task.row_metrics, ()
        adapted.metrics = summed(adapted.row_metrics)
        adapted.benchmark = None  # published numbers are of classifiers
        return adapted

    def observe(self, condition: Condition, batch: Batch, predictions: Tensor) -> Columns:
        observed = batch.task.observe(predictions, batch.targets)
        return {**observed, **probabilities(predictions)} if self._all else observed

    def score(self, conditions: Sequence[Condition], tables: Sequence[pd.DataFrame]) -> list[Metrics]:
        scored = [self._task.score(table) for table in tables]
        return [row | calibration(table) for row, table in zip(scored, tables, strict=True)] if self._all else scored

    def baseline(self, data: DatasetInfo) -> Baseline | None:
        if self._baseline is None:
            found = published(data)
            known = {row.condition["corruption"] for row in found.conditions} if found else {}
            return found if set(self._set) <= set(known) else None
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

    def unsupported(self, dataset: Dataset) -> str | None:
        if self._is_3d and "3dcc" not in dataset.archives:
            return "the corruptions of 3DCC are read from their official files: name their folder with --data-dir"
        foreign, instead, size = _ONLY_LARGE if small(dataset.image_size) else _ONLY_SMALL
        if found := [corruption for corruption in self._corruptions if corruption in foreign]:
            return f"{', '.join(found)} {'is' if len(found) == 1 else 'are'} for images {size}: use set={instead}"
        return None

    def published(self, dataset: Dataset) -> Archive | None:
        return dataset.archives.get("3dcc" if self._is_3d else "c-bar" if self._is_bar else "corruption")

    def protocol(self, data: DatasetInfo) -> str | None:
        """The set of constants that generated images have been made with."""
        if data.image_size is None or data.stress == "official":
            return None
        return describe(data.image_size, "C-bar" if self._is_bar else "C")

    @property
    def _is_3d(self) -> bool:
        return bool({*THREE_D} & {*self._corruptions})

    @property
    def _is_bar(self) -> bool:
        return not {*CORRUPTIONS, *EXTRA_CORRUPTIONS} & {*self._corruptions}

    def aggregate(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> Metrics:
        """Means over the set's corruptions at five severities, null where a cell is missing; and the clean values."""
        ours = {_cell(condition): row for condition, row in zip(conditions, rows, strict=True)}
        names = [metric.name for metric in self.row_metrics]
        result: Metrics = {f"clean_{name}": ours.get(_CLEAN, {}).get(name) for name in names}
        for name in names:
            result[f"mean_{name}"] = _mean([ours.get((c, s), {}).get(name) for c in self._set for s in SEVERITIES])
        return result

    def normalise(self, conditions: Sequence[Condition], rows: Sequence[Metrics], baseline: Baseline | None) -> Metrics:
        """Definitions: CE_c = Σ_s E_{s,c} / Σ_s E^base_{s,c}, and mCE its mean over the set; CNLL and CECE alike.

        Relative mCE has E − E_clean in place of E. Null where a cell or the baseline is missing, or where the
        baseline's sum is zero: never a mean over a part.
        """
        ours = {_cell(condition): row for condition, row in zip(conditions, rows, strict=True)}
        theirs = {_cell(row.condition): row.metrics for row in baseline.conditions} if baseline else {}
        result = {
            name: _mean([_ratio(ours, theirs, c, summed) for c in self._set]) for name, summed in _NORMALISED.items()
        }
        result["relative_mCE"] = _mean([_ratio(ours, theirs, c, "error", relative=True) for c in self._set])
        return result


def summed(row_metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    """The mean over the stressed conditions, and the clean value, of each."""
    return tuple(
        replace(m, name=f"{where}_{m.name}", about=m.about and f"{m.about}; {of}")
        for where, of in (("mean", "mean over the stressed conditions"), ("clean", "on clean images"))
        for m in row_metrics
    )


def _cell(condition: Condition) -> _Cell:
    return str(condition["corruption"]), int(condition["severity"])


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
