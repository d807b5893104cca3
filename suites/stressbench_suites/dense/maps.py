"""What is uncertain and what is wrong, pixel by pixel: the maps of one image, and its columns in a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stressbench import metrics
from stressbench.contracts import Segmentation, Task
from stressbench.dense_metrics import block_means, map_correlation, sparsification
from stressbench_suites.dense.blocks import blocks

# What is correlated, by the ending of a metric's name: of regression an error with the variance, of segmentation an
# uncertainty with the loss.
REGRESSION, SEGMENTATION = ("l1", "l2"), ("entropy", "variance")


@dataclass(frozen=True)
class Maps:
    """One image's maps, float64 (H, W), and what else a table has of it."""

    pairs: Mapping[str, tuple[Tensor, Tensor]]
    """Uncertainty and error, by the ending of the metric's name."""
    valid: Tensor
    """Which pixels count, (H, W), bool."""
    prediction: Tensor
    """The prediction under test, (H, W, K): values, or probabilities."""
    loss: Tensor
    """Its mean squared error, or its NLL in nats, over the pixels that count."""
    disturbed_loss: Tensor
    """The same of each draw, and the mean over draws."""


def maps(task: Task, draws: Tensor, tested: Tensor, target: Tensor) -> Maps:
    """The maps of draws (S, H, W, K) and a prediction under test (H, W, K) against the target of one image.

    Of regression: the variance over draws of each value, and its error; where a pixel has several values, their mean.
    Of segmentation: the entropy of the mean prediction, or the variance of the probabilities summed over classes; and
    the NLL. Draws and prediction are log-probabilities then.
    """
    draws, tested = draws.double(), tested.double()
    if isinstance(task, Segmentation):
        valid = target != task.ignore
        label = torch.where(valid, target, 0)[..., None]
        nll = -tested.gather(-1, label)[..., 0]
        each = -draws.gather(-1, label.expand(len(draws), *label.shape))[..., 0]
        variance = draws.exp().var(dim=0, correction=0).sum(dim=-1)
        entropy = metrics.entropy(metrics.log_mean_probability(draws))
        pairs = {"entropy": (entropy, nll), "variance": (variance, nll)}
        return Maps(pairs, valid, tested.exp(), nll[valid].mean(), each[:, valid].mean())
    target = target.movedim(0, -1)
    valid = target.isfinite().all(dim=-1)
    known = torch.where(valid[..., None], target.double(), 0)
    error, variance = (tested - known).abs(), draws.var(dim=0, correction=0).mean(dim=-1)
    pairs = {"l1": (variance, error.mean(dim=-1)), "l2": (variance, error.square().mean(dim=-1))}
    squares = (draws - known).square().mean(dim=-1)
    return Maps(pairs, valid, tested, pairs["l2"][1][valid].mean(), squares[:, valid].mean())


def columns(image: Maps) -> dict[str, Tensor]:
    """An image's numbers, each a float64 scalar; NaN where there is none."""
    valid, found = image.valid.flatten()[None], {}
    inside = blocks(image.prediction, image.valid).flatten()[None]
    for name, both in image.pairs.items():
        uncertainty, error = (one.flatten()[None] for one in both)
        found[f"corr_pixel_{name}"] = map_correlation(uncertainty, error, valid)[0]
        averaged = block_means(uncertainty, inside), block_means(error, inside)
        found[f"corr_block_{name}"] = map_correlation(*averaged, valid)[0]
        found[f"uncertainty_{name}"] = uncertainty[valid].mean()
        found[f"error_{name}"] = error[valid].mean()
        if "ause" not in found:  # of the first pair
            ause, aurg = sparsification(uncertainty, error, valid)
            found["ause"], found["aurg"] = ause[0], aurg[0]
    return {**found, "loss": image.loss}
