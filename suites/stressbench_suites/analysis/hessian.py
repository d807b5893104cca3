"""The hessian suite: how sharp is the loss that the network was trained on, mini-batch by mini-batch?

The Hessian max-eigenvalue spectrum of Park and Kim's spatial smoothing (2022, section 2.2 and appendix A.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from stressbench import metrics, randomness
from stressbench.contracts import Batch, Columns, Condition, Dataset, Distribution, Metric, Metrics, Predictor, Suite
from stressbench.errors import UserError
from stressbench.recipe import DEFAULT, Recipe
from stressbench.record import DatasetInfo, Finding
from stressbench.sampling import sample
from stressbench_suites.analysis.eigenvalues import TOLERANCE, Hessian, density, largest
from stressbench_suites.analysis.training_images import Recipes, augmented, several_networks

if TYPE_CHECKING:
    import pandas as pd

BATCHES = 50
BATCH_SIZE = 128
STEPS = 100


class HessianSuite(Suite):
    """The largest eigenvalue of the Hessian of the regularised training loss, for each mini-batch.

    The loss of a batch is the mean NLL of its images plus (w/2)·Σ‖θ‖², whose gradient is what SGD with weight decay w
    adds. The network is in eval mode, and a stochastic one keeps one draw for each image of a batch.
    """

    name = "hessian"
    version = "1"
    rows = "batch"
    split = "train"
    draws = 1
    metrics = (
        Metric("mean_eigenvalue", "number", "lower"),
        Metric("median_eigenvalue", "number", "lower"),
        Metric("p90_eigenvalue", "number", "lower"),
        Metric("largest_eigenvalue", "number", "lower", interval=None),
        Metric("negative_share", "fraction", None, interval="proportion"),
        Metric("unconverged_share", "fraction", "lower", interval=None),
        Metric("mean_nll", "nats", "lower"),
    )
    row_metrics = metrics
    figures = (
        Distribution("eigenvalues", "eigenvalues", "largest eigenvalue of the Hessian"),
        Distribution("density_nodes", "spectrum", "eigenvalue of the Hessian", weights="density_weights"),
    )

    def __init__(
        self,
        batches: int = BATCHES,
        batch_size: int = BATCH_SIZE,
        top: int = 1,
        augment: bool = True,
        weight_decay: float | None = None,
        recipe: str = DEFAULT,
        spectrum: bool = False,
        steps: int = STEPS,
    ) -> None:
        """`top` eigenvalues for each of the first `batches` mini-batches of the training split, in its order.

        With `augment` each image is cropped and mirrored as the recipe says; the weight decay is the recipe's unless it
        is given. `spectrum` adds the spectral density by stochastic Lanczos quadrature in so many steps.

        Raises `UserError` for numbers below 1, a negative weight decay, and an unknown recipe.
        """
        for name, number in {"batches": batches, "batch_size": batch_size, "top": top, "steps": steps}.items():
            if number < 1:
                raise UserError(f"invalid {name}={number}: expected 1 or more")
        if weight_decay is not None and not 0 <= weight_decay < math.inf:
            raise UserError(f"invalid weight_decay={weight_decay}: expected 0 or more")
        self.batch_size = batch_size
        self._batches, self._top, self._augment, self._decay = batches, top, augment, weight_decay
        self._steps = steps if spectrum else 0
        self._recipes = Recipes(recipe)

    def for_dataset(self, dataset: Dataset) -> Suite:
        adapted = copy(self)
        adapted._recipes = self._recipes.on(dataset)
        return adapted

    def take(self, available: int) -> int:
        """Whole batches, since a smaller one's eigenvalues are larger; of fewer images than a batch, all of them."""
        size = self.batch_size or BATCH_SIZE
        return min(self._batches, available // size) * size or available

    def unsupported_model(self, module: nn.Module) -> str | None:
        return several_networks(module)

    def conditions(self) -> list[Condition]:
        return [{"images": "augmented" if self._augment else "clean"}]

    def protocol(self, data: DatasetInfo) -> str | None:
        decay = f"the weight decay of recipe {self._recipes.name}" if self._decay is None else f"{self._decay:g}"
        loss = f"mean NLL of a batch + (w/2)·Σ‖θ‖², w = {decay}"
        return f"{loss}; eval mode; residuals up to {TOLERANCE:g} of the eigenvalue's magnitude"

    def measure(self, condition: Condition, batch: Batch, model: Predictor) -> dict[int, Columns]:
        recipe = self._recipes.of(model.module)
        images = batch.images
        if self._augment:
            images = augmented(images, randomness.split(batch.keys, 1)[:, 0], recipe.padding, recipe.flip)
        return {size: self._columns(images, batch, model.module, recipe, size) for size in model.sizes}

    def _columns(self, images: Tensor, batch: Batch, module: nn.Module, recipe: Recipe, draws: int) -> Columns:
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        devices = [images.device] if images.is_cuda else []
        # Of the attention kernels, the plain one alone can be differentiated twice.
        with torch.enable_grad(), torch.random.fork_rng(devices), sdpa_kernel(SDPBackend.MATH):
            nll = _nll(module, images, batch, draws)
            decay = recipe.weight_decay if self._decay is None else self._decay
            decayed = [one for one in parameters if recipe.decay_norm_and_bias or one.ndim > 1]
            penalty = sum((one.square().sum() for one in decayed), torch.zeros((), device=images.device))
            hessian = Hessian(nll + decay / 2 * penalty, parameters)
            key = batch.keys[:1].cpu()
            found = largest(hessian, self._top, randomness.normal(key, (hessian.size,))[0].numpy())
            values = np.full(self._top, np.nan) if found is None else found
            columns = {
                "eigenvalue": torch.tensor(values[:1]),
                "eigenvalues": torch.tensor(values)[None],
                "converged": torch.tensor([found is not None]),
                "products": torch.tensor([hessian.products]),
                "nll": nll.detach().double()[None].cpu(),
                "classes": torch.tensor([len(torch.unique(batch.targets))]),
            }
            if self._steps:
                signs = (randomness.uniform(key, (hessian.size,), stream=1)[0] < 0.5).float().mul_(2).sub_(1)
                columns |= self._density(hessian, signs)
        return columns

    def _density(self, hessian: Hessian, signs: Tensor) -> dict[str, Tensor]:
        """Nodes and weights, (1, steps) each; where the network has fewer, the rest are NaN with weight 0."""
        found = density(hessian, self._steps, signs.numpy())
        nodes, weights = np.full(self._steps, np.nan), np.zeros(self._steps)
        nodes[: len(found.nodes)], weights[: len(found.nodes)] = found.nodes, found.weights
        return {"density_nodes": torch.tensor(nodes)[None], "density_weights": torch.tensor(weights)[None]}

    def score(self, conditions: Sequence[Condition], tables: Sequence[pd.DataFrame]) -> list[Metrics]:
        """Over the batches whose eigenvalue converged; None where none did."""
        return [_row(table) for table in tables]

    def aggregate(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> Metrics:
        (row,) = rows
        return dict(row)

    def findings(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> list[Finding]:
        (row,) = rows
        share = row.get("unconverged_share")
        if not share:
            return []
        message = (
            f"in {share:.0%} of the batches the eigenvalue did not converge to {TOLERANCE:g} of itself; they are left "
            "out of the other numbers"
        )
        return [Finding(check="unconverged-eigenvalues", message=message)]


def _nll(module: nn.Module, images: Tensor, batch: Batch, draws: int) -> Tensor:
    """The mean over images of −log p̄(y), p̄ being the mean prediction of so many draws."""
    with randomness.draw(batch.keys, 0):
        logits = sample(module, images, draws)
    log_p = metrics.log_mean_probability(torch.stack([one.float().log_softmax(dim=-1) for one in logits]))
    return torch.nn.functional.nll_loss(log_p.float(), batch.targets)


def _row(table: pd.DataFrame) -> Metrics:
    values = table["eigenvalue"].to_numpy(dtype=np.float64)
    values = values[~np.isnan(values)]
    unconverged = 1 - len(values) / len(table)
    nll = float(table["nll"].mean())
    if not len(values):
        names = (metric.name for metric in HessianSuite.metrics)
        return {**dict.fromkeys(names), "unconverged_share": unconverged, "mean_nll": nll}
    return {
        "mean_eigenvalue": float(values.mean()),
        "median_eigenvalue": float(np.median(values)),
        "p90_eigenvalue": float(np.quantile(values, 0.9)),
        "largest_eigenvalue": float(values.max()),
        "negative_share": float((values < 0).mean()),
        "unconverged_share": unconverged,
        "mean_nll": nll,
    }
