"""The landscape suite: the training loss on a grid around the trained weights.

After Li et al. (2018, "Visualizing the loss landscape of neural nets") and Park and Kim's spatial smoothing (2022,
figures 7 and C.2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from statistics import fmean
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from stressbench import metrics, randomness
from stressbench.contracts import Batch, Columns, Condition, Dataset, Metric, Metrics, Plane, Predictor, Suite
from stressbench.errors import UserError
from stressbench.recipe import DEFAULT
from stressbench.record import DatasetInfo
from stressbench_suites.analysis.directions import Norm, direction, step
from stressbench_suites.analysis.training_images import Recipes, augmented, several_networks

POINTS = 21
EXTENT = 0.1
IMAGES = 1000

Grid = NDArray[np.float64]


class LandscapeSuite(Suite):
    """NLL of training images at the weights θ + x·a + y·b, for a grid of x and y and random directions a and b.

    The directions come from a kept seed, the same for all networks of one architecture, and are scaled to the norms of
    the weights. The network is in eval mode; a stochastic one has new draws at each point and in each sequence.
    """

    name = "landscape"
    version = "1"
    split = "train"
    draws = 1
    metrics = (
        Metric("curvature", "number", "lower"),
        Metric("roughness", "nats", "lower"),
        Metric("rim_rise", "nats", "lower", bounds=(-math.inf, math.inf)),
        Metric("sequence_variance", "number", "lower", bounds=(0, math.inf)),
        Metric("centre_nll", "nats", "lower"),
    )
    row_metrics = (Metric("nll", "nats", "lower"), Metric("accuracy", "fraction", "higher", share_of="n"))
    figures = (Plane("x", "y", "nll", over=("sequence",)),)

    def __init__(
        self,
        points: int = POINTS,
        extent: float = EXTENT,
        norm: Norm = "filter",
        images: int = IMAGES,
        sequences: int = 1,
        augment: bool = True,
        recipe: str = DEFAULT,
        directions: int = 0,
    ) -> None:
        """A grid of `points` × `points` over [−extent, extent]², on the first `images` of the training split.

        `norm` scales the directions to each filter or to each layer. Several `sequences` are of the same points with
        other draws of a stochastic model. `augment`: cropped and mirrored as the recipe says, each image always the
        same way. `directions` is the seed of another pair of directions.

        Raises `UserError` for a grid without a centre, numbers below 1, and an unknown norm or recipe.
        """
        if points < 3 or points % 2 == 0:
            raise UserError(f"invalid points={points}: expected an odd number from 3, so that the centre is a point")
        if not 0 < extent < math.inf:
            raise UserError(f"invalid extent={extent}: expected a number above 0, such as {EXTENT}")
        for name, number in {"images": images, "sequences": sequences}.items():
            if number < 1:
                raise UserError(f"invalid {name}={number}: expected 1 or more")
        self._points, self._extent, self._norm, self._images = points, extent, norm, images
        self._sequences, self._augment, self._seed = sequences, augment, directions
        self._recipes = Recipes(recipe)
        self._directions: WeakKeyDictionary[nn.Module, tuple[list[Tensor], list[Tensor]]] = WeakKeyDictionary()

    def for_dataset(self, dataset: Dataset) -> Suite:
        adapted = copy(self)
        adapted._recipes = self._recipes.on(dataset)
        return adapted

    def take(self, available: int) -> int:
        return min(self._images, available)

    def unsupported_model(self, module: nn.Module) -> str | None:
        return several_networks(module)

    def conditions(self) -> list[Condition]:
        half = self._points // 2
        line = [round(self._extent * k / half, 9) for k in range(-half, half + 1)]
        return [{"sequence": s, "x": x, "y": y} for s in range(self._sequences) for y in line for x in line]

    def protocol(self, data: DatasetInfo) -> str | None:
        shown = f"cropped and mirrored as recipe {self._recipes.name} does" if self._augment else "as they are"
        return f"training images {shown}; directions of seed {self._seed}, scaled to each {self._norm}; eval mode"

    @contextmanager
    def deploy(self, condition: Condition, module: nn.Module) -> Iterator[nn.Module]:
        if module not in self._directions:
            a, b = (randomness.derive("landscape", axis, self._seed) for axis in ("x", "y"))
            self._directions[module] = direction(module, a, self._norm), direction(module, b, self._norm)
        for along, axis in zip(self._directions[module], ("x", "y"), strict=True):
            step(module, along, float(condition[axis]))
        yield module

    def measure(self, condition: Condition, batch: Batch, model: Predictor) -> dict[int, Columns]:
        images = batch.images
        if self._augment:
            recipe = self._recipes.of(model.module)
            # Keys of the image alone: the loss differs from point to point by the weights, and not by the crops.
            keys = randomness.image_keys(randomness.derive("landscape crops"), batch.indices)
            images = augmented(images, keys, recipe.padding, recipe.flip)
        predictions = model.predict(images, batch.keys)
        found: dict[int, Columns] = {}
        for size in model.sizes:
            log_p = metrics.log_mean_probability(predictions[:size])
            found[size] = {
                "nll": metrics.negative_log_likelihood(log_p, batch.targets),
                "accuracy": (log_p.argmax(dim=-1) == batch.targets).float(),
            }
        return found

    def aggregate(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> Metrics:
        """Means over the sequences; None where a point has no number, or where there is but one sequence."""
        nll = [row.get("nll") for row in rows]
        known = [value for value in nll if value is not None]
        line = sorted({float(condition["x"]) for condition in conditions})
        if len(known) < len(nll) or len(nll) % len(line) ** 2:
            return {metric.name: None for metric in self.metrics}
        grids = np.array(known).reshape(-1, len(line), len(line))  # in the order of `conditions`
        centre = len(line) // 2
        return {
            "curvature": fmean(curvature(grid, line) for grid in grids),
            "roughness": fmean(roughness(grid) for grid in grids),
            "rim_rise": fmean(rim_rise(grid) for grid in grids),
            "sequence_variance": float(grids.var(axis=0, ddof=1).mean()) if len(grids) > 1 else None,
            "centre_nll": float(grids[:, centre, centre].mean()),
        }


def curvature(grid: Grid, line: Sequence[float]) -> float:
    """The mean second derivative at the centre, ½ (∂²L/∂x² + ∂²L/∂y²), of a fitted paraboloid: nats per unit².

    The least-squares fit of c + b·p + ½ pᵀA p to the points of a (K, K) grid whose |x| and |y| are at most half the
    largest; to all of them where K is 3.

    >>> line = [-1.0, -0.5, 0.0, 0.5, 1.0]
    >>> y, x = np.meshgrid(line, line, indexing="ij")
    >>> round(curvature(3 * x**2 + x * y + 2 * y**2 + x, line), 6)
    5.0
    """
    places = np.array(line)
    near = np.abs(places) <= places.max() / 2 + 1e-9 if len(line) > 3 else np.full(3, True)
    scale = places[near].max()
    y, x = (axis.ravel() / scale for axis in np.meshgrid(places[near], places[near], indexing="ij"))
    terms = np.stack([np.ones_like(x), x, y, x * y, x**2 / 2, y**2 / 2], axis=1)
    fitted = np.linalg.lstsq(terms, grid[np.ix_(near, near)].ravel(), rcond=None)[0]
    return float(fitted[4] + fitted[5]) / 2 / float(scale) ** 2


def roughness(grid: Grid) -> float:
    """The standard deviation of a grid's noise, in its unit: 0 of any surface of second degree.

    √mean((g ∗ k ⊗ k / 6)²) over the inner points with k = (1, −2, 1), which is σ for independent noise of standard
    deviation σ (Immerkær, 1996, "Fast noise variance estimation").

    >>> y, x = np.mgrid[0:5, 0:5]
    >>> roughness(1.0 + x**2 + x * y - 3 * y**2)
    0.0
    """
    second = np.diff(np.diff(grid, 2, axis=0), 2, axis=1)
    return float(np.sqrt(np.mean((second / 6) ** 2)))


def rim_rise(grid: Grid) -> float:
    """The mean of a grid's outermost points less its centre's.

    >>> rim_rise(np.array([[1.0, 2.0, 1.0], [2.0, 0.5, 2.0], [1.0, 2.0, 1.0]]))
    1.0
    """
    rim = np.ones(grid.shape, dtype=bool)
    rim[1:-1, 1:-1] = False
    return float(grid[rim].mean() - grid[grid.shape[0] // 2, grid.shape[1] // 2])
