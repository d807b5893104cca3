"""The features suite: how uncertain feature maps are, and how much of them is high frequency, block by block.

After Park and Kim's spatial smoothing (2022, section 2.2, figures 5 and 6, and appendix D.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from stressbench import locations, passes, randomness
from stressbench.contracts import TASKS, Batch, Columns, Condition, Metric, Metrics, Predictor, Profile, Suite
from stressbench.errors import UserError
from stressbench.passes import Place
from stressbench_suites.analysis.maps import (
    channels_first,
    covariance,
    relative_log_amplitude,
    variance_over_space,
)
from stressbench_suites.analysis.training_images import several_networks

if TYPE_CHECKING:
    import pandas as pd

IMAGES = 500
DRAWS = 5
_CLEAN: Condition = {"images": "clean"}
_NOISE: Condition = {"images": "noise"}
_MOST_BYTES = 2**28  # of feature maps that are held at a time

_POSITIVE = (0, math.inf)


class FeaturesSuite(Suite):
    """Variance over space and over draws, and spectrum, of the feature maps after the stem and after every block.

    *Data uncertainty* is the variance over space, *model uncertainty* the variance over the draws of a stochastic model
    at each point. The network is in eval mode. The first model variance is the first stochastic block's, since what
    comes before a network's first random layer is the same in every draw.
    """

    name = "features"
    version = "2"
    tasks = frozenset(TASKS)
    draws = DRAWS
    metrics = (
        Metric(
            "data_variance_ratio",
            "number",
            "lower",
            bounds=_POSITIVE,
            about="variance over space of the last feature maps divided by that of the first",
        ),
        Metric(
            "model_variance_ratio",
            "number",
            "lower",
            bounds=_POSITIVE,
            about="variance over draws of the last feature maps divided by that of the first",
        ),
        Metric(
            "mean_amplitude",
            "number",
            "lower",
            about="relative log amplitude of the highest frequency, mean over depth",
        ),
        Metric(
            "last_amplitude",
            "number",
            "lower",
            about="relative log amplitude of the highest frequency in the last feature maps",
        ),
        Metric(
            "first_data_variance",
            "number",
            None,
            bounds=_POSITIVE,
            about="variance over space of the first feature maps",
        ),
        Metric(
            "last_data_variance", "number", None, bounds=_POSITIVE, about="variance over space of the last feature maps"
        ),
        Metric(
            "first_model_variance",
            "number",
            None,
            bounds=_POSITIVE,
            about="variance over draws of the first feature maps",
        ),
        Metric(
            "last_model_variance",
            "number",
            None,
            bounds=_POSITIVE,
            about="variance over draws of the last feature maps",
        ),
        Metric(
            "model_variance_before_smoothing",
            "number",
            None,
            bounds=_POSITIVE,
            about="variance over draws before the smoothing layers, mean over them",
        ),
        Metric(
            "model_variance_after_smoothing",
            "number",
            None,
            bounds=_POSITIVE,
            about="variance over draws after the smoothing layers, mean over them",
        ),
    )
    row_metrics = metrics
    figures = (
        Profile(
            "depth",
            "over-depth",
            "depth",
            {
                "model_variance": "model uncertainty (variance)",
                "data_variance": "data uncertainty (variance)",
                "amplitude": "relative log amplitude at π",
            },
            marks="smoothing",
            marked="after a smoothing layer",
        ),
    )

    def __init__(self, images: int = IMAGES, covariance: bool = False) -> None:
        """The first `images` of the test split; `covariance` adds that of neighbouring points, and noise as images.

        Raises `UserError` for fewer than one image.
        """
        if images < 1:
            raise UserError(f"invalid images={images}: expected 1 or more")
        self._images, self._covariance = images, covariance
        self._places: WeakKeyDictionary[nn.Module, list[Place]] = WeakKeyDictionary()

    def take(self, available: int) -> int:
        return min(self._images, available)

    def unsupported_model(self, module: nn.Module) -> str | None:
        return several_networks(module)

    def conditions(self) -> list[Condition]:
        return [_CLEAN, _NOISE] if self._covariance else [_CLEAN]

    def measure(self, condition: Condition, batch: Batch, model: Predictor) -> dict[int, Columns]:
        images = batch.images
        if condition == _NOISE:
            images = 0.5 + 0.25 * randomness.normal(randomness.split(batch.keys, 1)[:, 0], tuple(images.shape[1:]))
        places = self._found(model.module, images)
        held = 8 * sum(math.prod(place.shape or ()) for place in places)  # bytes of an image: means and squares
        step = max(1, _MOST_BYTES // held)
        parts = [
            self._columns(images[low : low + step], batch.keys[low : low + step], model, places)
            for low in range(0, len(images), step)
        ]
        return {
            size: {name: torch.cat([part[size][name] for part in parts]) for name in parts[0][size]}
            for size in parts[0]
        }

    def _found(self, module: nn.Module, images: Tensor) -> list[Place]:
        if module not in self._places:
            places = locations.blocks(module, (images.shape[-2], images.shape[-1]))
            if len(places) < 2:
                raise UserError(
                    f"the model has {len(places)} feature maps (N, C, H, W) after its blocks and the features suite "
                    "needs at least two: choose a convolutional network"
                )
            self._places[module] = places
        return self._places[module]

    def _columns(
        self, images: Tensor, keys: Tensor, model: Predictor, places: Sequence[Place]
    ) -> dict[int, dict[str, Tensor]]:
        seen = [_Seen(model.sizes, self._covariance) for _ in places]
        devices = [images.device] if images.is_cuda else []
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices),
            randomness.draw(keys, 0),
            passes.watched(model.module, places, lambda k, maps: seen[k].add(channels_first(maps.float()))),
        ):
            for index in range(model.sizes[-1]):
                with randomness.redraw(index):
                    model.module(images.clone())
        depth = torch.linspace(0, 1, len(places)).expand(len(images), -1)
        smoothing = torch.tensor([_is_smoothing(place) for place in places]).expand(len(images), -1)
        found = {}
        for size in model.sizes:
            at = [one.at[size] for one in seen]
            found[size] = {
                "depth": depth,
                "smoothing": smoothing,
                **{name: torch.stack([one[name] for one in at], dim=1) for name in ("data_variance", "model_variance")},
                "amplitude": torch.stack([one["spectrum"][:, -1] for one in at], dim=1),
                **{f"spectrum_{k}": one["spectrum"] for k, one in enumerate(at)},
                **{f"covariance_{k}": one["covariance"] for k, one in enumerate(at) if self._covariance},
            }
        return found

    def score(self, conditions: Sequence[Condition], tables: Sequence[pd.DataFrame]) -> list[Metrics]:
        """From the mean over images of each block's numbers."""
        return [_row(table) for table in tables]

    def aggregate(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> Metrics:
        """Those of clean images."""
        return dict(rows[conditions.index(_CLEAN)])


class _Seen:
    """Running means over the draws of one place, kept at each of the numbers of draws that are wanted."""

    def __init__(self, sizes: Sequence[int], with_covariance: bool) -> None:
        self.at: dict[int, dict[str, Tensor]] = {}
        self._sizes, self._with_covariance = set(sizes), with_covariance
        self._draws = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0
        self._sums: dict[str, Any] = {}

    def add(self, maps: Tensor) -> None:
        self._draws += 1
        change = maps - self._mean
        self._mean = self._mean + change / self._draws
        self._squares = self._squares + change * (maps - self._mean)  # Welford's
        measured = {"data_variance": variance_over_space(maps), "spectrum": relative_log_amplitude(maps)}
        if self._with_covariance:
            measured["covariance"] = covariance(maps)
        self._sums = {name: self._sums.get(name, 0) + value for name, value in measured.items()}
        if self._draws in self._sizes:
            over_draws = self._squares.flatten(1).mean(dim=1) / (self._draws - 1) if self._draws > 1 else None
            nothing = maps.new_full((len(maps),), math.nan)
            self.at[self._draws] = {
                "model_variance": nothing if over_draws is None else over_draws,
                **{name: total / self._draws for name, total in self._sums.items()},
            }


def _is_smoothing(place: Place) -> bool:
    """Whether what is called averages neighbours and does nothing else: by its classes' names, and without weights."""
    module = place.call.module
    names = [type(one).__name__.lower() for one in module.modules()]
    without = not any(True for _ in module.parameters())
    return without and any(word in name for name in names for word in ("smooth", "blur", "avgpool"))


def _row(table: pd.DataFrame) -> Metrics:
    data, model, amplitude, smoothing = (
        np.stack(table[name].to_list()).astype(np.float64).mean(axis=0)
        for name in ("data_variance", "model_variance", "amplitude", "smoothing")
    )
    known = not np.isnan(model).any()
    first = next((float(value) for value in model if known and value > 0), None)
    after = [k for k in np.flatnonzero(smoothing).tolist() if k > 0]
    smoothed = known and bool(after)
    return {
        "data_variance_ratio": float(data[-1] / data[0]) if data[0] else None,
        "model_variance_ratio": float(model[-1] / first) if first else None,
        "mean_amplitude": float(amplitude.mean()),
        "last_amplitude": float(amplitude[-1]),
        "first_data_variance": float(data[0]),
        "last_data_variance": float(data[-1]),
        "first_model_variance": first,
        "last_model_variance": float(model[-1]) if known else None,
        "model_variance_before_smoothing": float(model[[k - 1 for k in after]].mean()) if smoothed else None,
        "model_variance_after_smoothing": float(model[after].mean()) if smoothed else None,
    }
