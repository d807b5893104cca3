"""What a network comes to on a held-out set, while it is trained and at its end."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from torch import nn

from stressbench import randomness
from stressbench.contracts import Dataset
from stressbench.datasets.cache import read, read_targets, to_float
from stressbench.execution.device import forbid_tf32

# The metrics of the dataset's task that have a better direction, by name, with accuracy in place of error.
Measured = Mapping[str, float]

_BATCH = {"cpu": 100, "cuda": 1000}
_PIXELS = {"cpu": 1 << 18, "cuda": 1 << 21}  # of a dense task's batch, whose maps keep the images' size to the end
_PERCENT = {"accuracy": "accuracy", "ece": "ECE", "miou": "mean IoU"}


def evaluate(module: nn.Module, dataset: Dataset, device: torch.device) -> Measured:
    """Measure single passes over a dataset in float32, in eval mode, which the network is left in.

    Of a stochastic network this is one draw for each image, always the same: less than an ensemble of draws reaches.
    """
    module.eval()
    forbid_tf32()
    task, size, seed = dataset.task, _batch_size(dataset, device), randomness.derive("evaluation")
    tables: list[pd.DataFrame] = []
    devices = [device] if device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        for begin in range(0, len(dataset.images), size):
            end = min(begin + size, len(dataset.images))
            images = to_float(read(dataset, begin, end), device)
            targets = read_targets(dataset, begin, end).to(device)
            with randomness.draw(randomness.image_keys(seed, torch.arange(begin, end, device=device)), 0):
                predictions = task.predictions(module(images), images)
            columns = task.observe(predictions[None], targets)
            tables.append(pd.DataFrame({name: list(values.cpu().numpy()) for name, values in columns.items()}))
    scored = task.score(pd.concat(tables, ignore_index=True))
    found = {metric.name: scored[metric.name] for metric in task.row_metrics if metric.better is not None}
    if (error := found.pop("error", None)) is not None:
        found = {"accuracy": 1 - error, **found}
    return {name: value for name, value in found.items() if value is not None}


def describe(measured: Measured, more_digits: int = 0) -> str:
    """The numbers for a person, without the Brier score.

    >>> describe({"accuracy": 0.912, "nll": 0.31, "ece": 0.02, "brier": 0.13})
    'accuracy 91.2%, NLL 0.310, ECE 2.0%'
    >>> describe({"rmse": 0.25, "mae": 0.125}, more_digits=1)
    'rmse 0.2500, mae 0.1250'
    """

    def one(name: str, value: float) -> str:
        if name in _PERCENT:
            return f"{_PERCENT[name]} {value:.{1 + more_digits}%}"
        return f"{'NLL' if name == 'nll' else name} {value:.{3 + more_digits}f}"

    return ", ".join(one(name, value) for name, value in measured.items() if name != "brier")


def _batch_size(dataset: Dataset, device: torch.device) -> int:
    if dataset.task.name == "classification":
        return _BATCH[device.type]
    height, width = dataset.image_size
    return max(1, _PIXELS[device.type] // (height * width))
