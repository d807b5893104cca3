"""Train a model and keep its weights where the harness looks for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import stressbench
from stressbench import weights
from stressbench.contracts import Composite, Dataset
from stressbench.errors import UserError
from stressbench.training.loop import Report, TrainingResult, fresh, train
from stressbench.training.recipes import Recipe, recipe_for


def train_and_store(
    model: str,
    module: nn.Module,
    train_set: Dataset,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    report: Report,
    held_out: Dataset | None = None,
) -> tuple[Path, TrainingResult]:
    """Train a `fresh` module, which the spec `model` names; returns the weights file and what came of it.

    The file says how its weights were made. Raises `UserError` for a model that comes with its weights, when training
    diverges, and when the file cannot be written.
    """
    if isinstance(module, Composite):
        parts = " and ".join(dict.fromkeys(part.spec for part in module.parts()))
        raise UserError(
            f"{model} has no weights of its own, only its parts have: train {parts}, with --seed for each seed"
        )
    if not getattr(module, "untrained", False):
        raise UserError(f"{model} comes with weights of its own, which it would not give up for trained ones: run it")
    result = train(module, train_set, recipe, seed, device, report, held_out)
    told: dict[str, object] = {
        "stressbench": stressbench.__version__,
        "torch": torch.__version__,
        "model": model,
        "dataset": train_set.name,
        "split": train_set.split,
        "seed": seed,
        "device": device.type,
        "recipe": recipe.name,
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "flip": recipe.flip,
        "train_loss": result.loss,
        "accuracy": result.accuracy,
        "nll": result.nll,
    }
    path = weights.stored(train_set.name, model, seed)
    weights.save(module, path, {key: str(value) for key, value in told.items() if value is not None})
    return path, result


def train_embedded(
    model: str, build: Callable[[], nn.Module], train_set: Dataset, device: torch.device, report: Report, seed: int = 0
) -> Path:
    """Train a model on the embedded set, in about a minute on two CPU cores; returns the weights file."""
    module = fresh(build, seed)
    recipe = recipe_for(module, train_set)
    return train_and_store(model, module, train_set, recipe, seed, device, report)[0]
