"""The ood suite: does a model tell images of other datasets from those that it is for?

Measures and conventions are OpenOOD 1.5's (Zhang et al., 2023): images from elsewhere are the positive class, and a
mean over near or far datasets is the plain mean of their measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from stressbench import metrics
from stressbench.contracts import Batch, Columns, Condition, Dataset, Metric, Metrics, Predictor, Suite
from stressbench.errors import UserError, did_you_mean
from stressbench_suites.corruption.engine import ENGINE_VERSION
from stressbench_suites.corruption.suite import CorruptionSuite
from stressbench_suites.ood.features import Features

if TYPE_CHECKING:
    import pandas as pd

EMBEDDED = ("noise", "blobs", "photo-patches")
# OpenOOD's lists of what is near and what is far, by what a run is on.
BENCHMARKS: Mapping[str, Sequence[str]] = {
    "openood-cifar10": ("cifar100", "tiny-imagenet", "mnist", "svhn", "textures", "places365"),
    "openood-cifar100": ("cifar10", "tiny-imagenet", "mnist", "svhn", "textures", "places365"),
    "openood-imagenet": ("ssb-hard", "ninco", "inaturalist", "textures", "openimage-o"),
}
NEAR = ("cifar10", "cifar100", "tiny-imagenet", "ssb-hard", "ninco")

# Each score, and whether it is larger for images that the model is for.
SCORES: Mapping[str, bool] = {
    "msp": True,
    "max_logit": True,
    "energy": True,
    "entropy": False,
    "mutual_information": False,
    "variance": False,
    "knn": False,
    "mahalanobis": False,
}
_OF_FEATURES = {"knn", "mahalanobis"}
_BETTER: Mapping[str, Literal["lower", "higher"]] = {
    "auroc": "higher",
    "fpr95": "lower",
    "aupr_in": "higher",
    "aupr_out": "higher",
}


class OodSuite(Suite):
    """The dataset's own images, and those of each source; near and far sources have a mean of each measure."""

    name = "ood"
    version = f"1.{ENGINE_VERSION}"

    def __init__(
        self,
        sources: tuple[str, ...] = EMBEDDED,
        source_dir: Path | None = None,
        near: tuple[str, ...] = NEAR,
        scores: tuple[str, ...] = tuple(SCORES),
        metrics: Literal["standard", "all"] = "standard",
        corruptions: tuple[str, ...] = (),
        severities: tuple[int, ...] = (1, 3, 5),
    ) -> None:
        """`sources` are datasets, or a benchmark's name for all of its; those that are not in `near` are far.

        With `corruptions`, the dataset's own images count as such under these, too ("full spectrum"). `metrics=all`
        adds the areas under precision and recall.

        Raises `UserError` for unknown scores, corruptions or severities, and where no source is named.
        """
        for score in scores:
            if score not in SCORES:
                raise UserError(
                    f"there is no score '{score}': {did_you_mean(score, SCORES)}known are {', '.join(SCORES)}"
                )
        named = dict.fromkeys(one for source in sources for one in BENCHMARKS.get(source, (source,)))
        if not named or not scores:
            raise UserError("no source or no score is named: name at least one of each, or leave the option out")
        for one in set(near) - {*named, *NEAR}:
            raise UserError(
                f"--near names '{one}', which is not a source: {did_you_mean(one, named)}name it in --sources"
            )
        if "none" in named:
            raise UserError("a source cannot be called 'none': that is the run's own dataset")
        self._sources, self._near, self.source_dir = list(named), frozenset(near), source_dir
        self._scores = [score for score in SCORES if score in scores]
        self._corruption = CorruptionSuite(corruptions, severities) if corruptions else None
        self.fitted_on = "train" if _OF_FEATURES & set(scores) else None
        self._features: Features | None = None
        measures = [measure for measure in _BETTER if metrics == "all" or not measure.startswith("aupr")]
        detected = {f"{measure}_{score}": _BETTER[measure] for measure in measures for score in self._scores}
        accuracy = Metric("accuracy", "fraction", "higher", interval="proportion", share_of="n")
        self.row_metrics = (accuracy, *(Metric(name, "fraction", better) for name, better in detected.items()))
        self.metrics = (
            *(Metric(f"{far}_{m}", "fraction", better) for far in ("near", "far") for m, better in detected.items()),
            accuracy,
        )

    def conditions(self) -> list[Condition]:
        own: list[Condition] = [{"source": "none"}]
        if self._corruption is not None:
            own += [{"source": "none", **c} for c in self._corruption.conditions() if c["severity"] != 0]
        return [*own, *({"source": source} for source in self._sources)]

    def unsupported(self, dataset: Dataset) -> str | None:
        if dataset.name not in self._sources:
            return None
        return f"--sources names it, and its own images are not from elsewhere: leave {dataset.name} out"

    def source(self, condition: Condition) -> str | None:
        return None if condition["source"] == "none" else str(condition["source"])

    def fit(self, batches: Iterator[Batch], model: Predictor) -> None:
        self._features = Features(batches, model)

    def measure(self, condition: Condition, batch: Batch, model: Predictor) -> dict[int, Columns]:
        images = batch.images
        if self._corruption is not None and "corruption" in condition:
            images = self._corruption.stress(condition, batch, model).images
        logits = model.outputs(images, batch.keys)
        shared = {} if self._features is None else self._features.columns(images, batch.keys, model)
        own = self.source(condition) is None
        return {
            size: self._columns(logits[:size], batch.targets if own else None) | dict(shared) for size in model.sizes
        }

    def _columns(self, logits: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """Of logits (S, N, C): probabilities and logits are averaged over draws."""
        predictions = logits.log_softmax(dim=-1)
        log_p, mean = metrics.log_mean_probability(predictions), logits.mean(dim=0)
        columns = {
            "msp": log_p.amax(dim=-1).exp(),
            "max_logit": mean.amax(dim=-1),
            "energy": mean.logsumexp(dim=-1),
            "entropy": metrics.entropy(log_p),
            "mutual_information": metrics.mutual_information(predictions),
            "variance": metrics.predictive_variance(predictions),
        }
        return columns if labels is None else {**columns, "correct": log_p.argmax(dim=-1) == labels}

    def score(self, conditions: Sequence[Condition], tables: Sequence[pd.DataFrame]) -> list[Metrics]:
        """A source's measures are taken against all of the dataset's own images, under all that they are seen under."""
        own = [table for c, table in zip(conditions, tables, strict=True) if self.source(c) is None]
        inside = {score: np.concatenate([table[score].to_numpy() for table in own]) for score in self._scores}
        rows: list[Metrics] = []
        for condition, table in zip(conditions, tables, strict=True):
            row: Metrics = {metric.name: None for metric in self.row_metrics}
            if self.source(condition) is None:
                row["accuracy"] = float(table["correct"].mean())
            else:
                for score in self._scores:
                    row |= {
                        k: v for k, v in _measures(score, inside[score], table[score].to_numpy()).items() if k in row
                    }
            rows.append(row)
        return rows

    def aggregate(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> Metrics:
        sources = {str(c["source"]): row for c, row in zip(conditions, rows, strict=True) if self.source(c) is not None}
        own = [row["accuracy"] for c, row in zip(conditions, rows, strict=True) if self.source(c) is None]
        result: Metrics = {"accuracy": _mean(own)}
        for metric in self.row_metrics[1:]:
            for far in ("near", "far"):
                chosen = [row for source, row in sources.items() if (source in self._near) == (far == "near")]
                result[f"{far}_{metric.name}"] = _mean([row[metric.name] for row in chosen])
        return result


def _measures(score: str, inside: np.ndarray, outside: np.ndarray) -> Metrics:
    sign = -1.0 if SCORES[score] else 1.0
    values = torch.from_numpy(sign * np.concatenate([inside, outside]).astype(np.float64))
    found = metrics.detection(values, torch.arange(len(values)) >= len(inside))
    return {f"{measure}_{score}": None if found is None else getattr(found, measure) for measure in _BETTER}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
