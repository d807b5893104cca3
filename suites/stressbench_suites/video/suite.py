"""The video suite: segmentation of consecutive frames, and whether the prediction stays when the scene does.

After Park and Kim (2022), section 3.2 and table E.4. Models that average over frames (`temporal:MODEL`) are given the
frames before each one in the same recording, under the same stress.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Literal

import torch

from stressbench import metrics
from stressbench.contracts import (
    Batch,
    Columns,
    Condition,
    Dataset,
    Metric,
    Metrics,
    Predictor,
    Segmentation,
    Stressed,
    Suite,
    traits,
)
from stressbench.errors import UserError, did_you_mean
from stressbench.record import DatasetInfo
from stressbench_suites.corruption.engine import CORRUPTIONS, ENGINE_VERSION, EXTRA_CORRUPTIONS, corrupt

if TYPE_CHECKING:
    import pandas as pd

# One of each group: noise, blur, weather, digital.
CHOSEN = ("gaussian_noise", "motion_blur", "fog", "jpeg_compression")
_CLEAN: Condition = {"corruption": "none", "severity": 0}

_SUMMARISED = (*Segmentation.row_metrics, Metric("consistency", "fraction", "higher"))
# Passes of the network for each frame, when frames are predicted one after the other.
_PASSES = Metric("passes", "number", None, bounds=(0, inf), interval=None)


class VideoSuite(Suite):
    """Clean frames and chosen corruptions: NLL, pixel error, ECE, mean IoU and consistency of consecutive frames."""

    name = "video"
    version = f"1.{ENGINE_VERSION}"
    tasks = frozenset({Segmentation.name})
    history = 1
    scoring_options = frozenset({"corruptions", "severities"})
    row_metrics = (*_SUMMARISED, _PASSES)
    metrics = (
        *(replace(metric, name=f"{where}_{metric.name}") for where in ("mean", "clean") for metric in _SUMMARISED),
        _PASSES,
    )

    def __init__(
        self,
        corruptions: tuple[str, ...] = CHOSEN,
        severities: tuple[int, ...] = (3,),
        stress_seed: Literal["recording", "frame"] = "recording",
    ) -> None:
        """`stress_seed`: whether all frames of a recording are stressed with the same random numbers, as by a dirty
        lens, or each with its own, as by a sensor's noise.

        Raises `UserError` for unknown corruptions and severities.
        """
        known = (*CORRUPTIONS, *EXTRA_CORRUPTIONS)
        for corruption in corruptions:
            if corruption not in known:
                raise UserError(
                    f"unknown corruption '{corruption}': {did_you_mean(corruption, known)}expected some of "
                    f"{', '.join(known)}"
                )
        if not severities or not set(severities) <= {1, 2, 3, 4, 5}:
            raise UserError(f"invalid severities={','.join(map(str, severities))}: expected some of 1–5")
        self._corruptions = [corruption for corruption in known if corruption in corruptions]
        self._severities = sorted(set(severities))
        self._stress_seed = stress_seed

    def conditions(self) -> list[Condition]:
        stressed: list[Condition] = [
            {"corruption": corruption, "severity": severity}
            for corruption in self._corruptions
            for severity in self._severities
        ]
        return [_CLEAN, *stressed]

    def unsupported(self, dataset: Dataset) -> str | None:
        return None if dataset.recordings is not None else "it has no recordings of consecutive frames"

    def protocol(self, data: DatasetInfo) -> str | None:
        return f"random numbers of the stress: one set for each {self._stress_seed}"

    def measure(self, condition: Condition, batch: Batch, model: Predictor) -> dict[int, Columns]:
        assert batch.recordings is not None, "`unsupported` refuses datasets without"
        parts = [batch] if batch.earlier is None else [batch.earlier, batch]
        images = torch.cat([self.stress(condition, part, model).images for part in parts])
        recordings = torch.cat([part.recordings for part in parts if part.recordings is not None])
        drawn = model.predict(images, torch.cat([part.keys for part in parts]))
        weights = traits(model.module).frame_weights
        tables: dict[int, Columns] = {}
        for size in model.sizes:
            log_p = metrics.over_time(metrics.log_mean_probability(drawn[:size]), recordings, weights)
            same, compared = metrics.unchanged(log_p.argmax(dim=-1).flatten(1), recordings)
            n = len(batch.indices)
            tables[size] = {
                **batch.task.observe(log_p[None, -n:], batch.targets),
                "same": same[-n:],
                "compared": compared[-n:],
                "passes": torch.full_like(batch.indices, size),
            }
        return tables

    def stress(self, condition: Condition, batch: Batch, model: Predictor) -> Stressed:
        """The frames of a batch as a model receives them."""
        if condition == _CLEAN:
            return Stressed(batch.images)
        keys = batch.keys if self._stress_seed == "frame" else batch.recording_keys
        assert keys is not None, "`unsupported` refuses datasets without recordings"
        return Stressed(corrupt(batch.images, str(condition["corruption"]), int(condition["severity"]), keys))

    def score(self, conditions: Sequence[Condition], tables: Sequence[pd.DataFrame]) -> list[Metrics]:
        return [_row(table) for table in tables]

    def aggregate(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> Metrics:
        """Values on clean frames, and means over the corrupted conditions that were chosen."""
        clean = [row for condition, row in zip(conditions, rows, strict=True) if condition == _CLEAN]
        stressed = [row for condition, row in zip(conditions, rows, strict=True) if condition != _CLEAN]
        result: Metrics = {"passes": rows[0]["passes"]}
        for where, group in (("clean", clean), ("mean", stressed)):
            for metric in _SUMMARISED:
                result[f"{where}_{metric.name}"] = _mean([row[metric.name] for row in group])
        return result


def _row(table: pd.DataFrame) -> Metrics:
    compared = float(table["compared"].sum())
    return {
        **Segmentation.score(table),
        "consistency": float(table["same"].sum()) / compared if compared else None,
        "passes": float(table["passes"].iloc[0]),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
