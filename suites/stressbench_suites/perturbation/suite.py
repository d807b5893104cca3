"""The perturbation suite: how steady predictions are along the sequences of small changes of CIFAR-10-P and ImageNet-P.

After Hendrycks and Dietterich (2019) and, for consistency, CEC and relative confidence, Park and Kim (2022).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Literal

import numpy as np
from torch import Tensor

from stressbench import metrics
from stressbench.contracts import (
    Archive,
    Batch,
    Columns,
    Condition,
    Dataset,
    Metric,
    Metrics,
    Predictor,
    Stressed,
    StressSuite,
)
from stressbench.errors import UserError, did_you_mean
from stressbench_suites.perturbation import stability
from stressbench_suites.perturbation.engine import ENGINE_VERSION, NOISES, PERTURBATIONS, perturb

if TYPE_CHECKING:
    import pandas as pd

_SIZE = (32, 32)
# ImageNet-P has a type of its own in place of spatter.
_SETS: Mapping[str, tuple[str, ...]] = {
    "cifar": PERTURBATIONS,
    "imagenet": tuple("snow" if perturbation == "spatter" else perturbation for perturbation in PERTURBATIONS),
}

# Each of the record's metrics, and the condition's metric that it is the mean of.
_MEANS = {
    "consistency": "consistency",
    "mFP": "flip_probability",
    "mT5D": "top5_distance",
    "cec": "cec",
    "cec_paper": "cec_paper",
    "relative_confidence": "relative_confidence",
    "error": "error",
}


class PerturbationSuite(StressSuite):
    """The ten types of sequences of a set, or the ones that are named."""

    name = "perturbation"
    version = f"1.{ENGINE_VERSION}"
    benchmark = "cifar10"
    scoring_options = frozenset({"perturbations"})
    metrics = (
        Metric(
            "consistency",
            "fraction",
            "higher",
            interval="proportion",
            about="share of consecutive frames with the same most probable class",
        ),
        Metric(
            "mFP",
            "fraction",
            "lower",
            interval="proportion",
            about="share of consecutive frames, or of noisy ones and the first, with different classes",
        ),
        Metric(
            "mT5D",
            "number",
            "lower",
            about="mean distance between the five most probable classes of two frames by their ranks, 0 to 15",
        ),
        Metric("cec", "nats", "lower", about="cross-entropy between the predictions of consecutive frames"),
        Metric("cec_paper", "nats", "lower", about="cec divided by the number of classes, as one paper prints it"),
        Metric(
            "relative_confidence",
            "fraction",
            "higher",
            interval="proportion",
            about="the true class's probability divided by the most probable one's",
        ),
        Metric("error", "fraction", "lower", interval="proportion", about="share of frames that are classified wrong"),
    )
    row_metrics = (
        Metric("consistency", "fraction", "higher"),
        Metric("cec", "nats", "lower"),
        Metric("cec_paper", "nats", "lower"),
        Metric("flip_probability", "fraction", "lower"),
        Metric("top5_distance", "number", "lower"),
        Metric("relative_confidence", "fraction", "higher"),
        Metric("error", "fraction", "lower"),
    )

    def __init__(
        self,
        perturbations: tuple[str, ...] | None = None,
        set: Literal["cifar", "imagenet"] = "cifar",  # noqa: A002
    ) -> None:
        """`set` is `cifar`, the types of CIFAR-10-P, or `imagenet`, those of ImageNet-P, which are read from its files.

        Raises `UserError` for a perturbation that the set does not have, and where none is named.
        """
        self._set = _SETS[set]
        perturbations = self._set if perturbations is None else perturbations
        for perturbation in perturbations:
            if perturbation not in self._set:
                raise UserError(
                    f"there is no perturbation '{perturbation}': {did_you_mean(perturbation, self._set)}"
                    f"known are {', '.join(self._set)}"
                )
        if not perturbations:
            raise UserError("no perturbation is named: name at least one, or leave the option out")
        self._perturbations = [perturbation for perturbation in self._set if perturbation in perturbations]

    def conditions(self) -> list[Condition]:
        return [{"perturbation": perturbation} for perturbation in self._perturbations]

    def published(self, dataset: Dataset) -> Archive | None:
        return dataset.archives.get("perturbation")

    def stress(self, condition: Condition, batch: Batch, model: Predictor) -> Stressed:
        if self._from_files:
            raise UserError("ImageNet-P has no generator here: leave out --stress generated")
        return Stressed(perturb(batch.images, str(condition["perturbation"]), batch.keys))

    def observe(self, condition: Condition, batch: Batch, predictions: Tensor) -> Columns:
        """A row a sequence; relative confidence also frame by frame, as it is plotted along a sequence."""
        log_p = metrics.log_mean_probability(predictions)
        order = stability.ranking(log_p)
        anchored = condition["perturbation"] in NOISES
        cec = stability.cross_entropy_consistency(log_p)
        relative = stability.relative_confidence(log_p, batch.targets)
        return {
            "consistency": stability.consistency(order),
            "cec": cec,
            "cec_paper": cec / log_p.shape[-1],
            "flip_probability": stability.flip_probability(order, anchored),
            "top5_distance": stability.top5_distance(order, anchored),
            "relative_confidence": relative.mean(dim=1),
            "error": (order[..., 0] != batch.targets[:, None]).float().mean(dim=1),
            **{f"relative_confidence_{t}": frame for t, frame in enumerate(relative.unbind(1))},
        }

    def score(self, conditions: Sequence[Condition], tables: Sequence[pd.DataFrame]) -> list[Metrics]:
        return [{metric.name: _known_mean(table[metric.name]) for metric in self.row_metrics} for table in tables]

    def aggregate(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> Metrics:
        """Means over the ten types. Null where one of them, or its number, is missing: never a mean over a part."""
        row = {str(condition["perturbation"]): values for condition, values in zip(conditions, rows, strict=True)}
        return {
            name: _mean([row.get(perturbation, {}).get(of) for perturbation in self._set])
            for name, of in _MEANS.items()
        }

    def unsupported(self, dataset: Dataset) -> str | None:
        is_small = dataset.image_size == _SIZE
        if self._from_files:
            if "perturbation" in dataset.archives and not is_small:
                return None
            return "the sequences of ImageNet-P are read from their files: name the folder above it with --data-dir"
        if is_small:
            return None
        height, width = dataset.image_size
        return (
            f"CIFAR-10-P's changes are sized for 32×32 pixels, and the images of {dataset.name} are {height}×{width}; "
            "for the files of ImageNet-P, use set=imagenet"
        )

    @property
    def _from_files(self) -> bool:
        return self._set is not _SETS["cifar"]


def _known_mean(column: pd.Series) -> float | None:
    mean = float(column.to_numpy(dtype=np.float64).mean())
    return None if math.isnan(mean) else mean


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None
