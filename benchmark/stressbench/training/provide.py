"""Weights for runs: those in the store, and trainings that fill it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from stressbench import registry, weights
from stressbench._util.terminal import Screen
from stressbench.contracts import Dataset
from stressbench.errors import UserError
from stressbench.execution import models, plan, pretrained
from stressbench.execution.models import Provide, ToBeTrained
from stressbench.execution.request import RunRequest
from stressbench.recipe import Options
from stressbench.training.job import Trainer


def provider(
    request: RunRequest, dataset: Dataset, device: torch.device, screen: Screen, options: Options | None = None
) -> Provide:
    """What gives models their weights for a dataset: the store, and training for those that it lacks.

    They are trained where there are `options` to train them by. Without, those that come with the leaderboard are used,
    and only models on embedded sets are trained.
    """

    def split(name: str) -> Dataset:
        return plan.read(request, name)

    trainer = Trainer(split, options or Options(), device, screen)

    def provide(spec: str, seed: int, build: Callable[[], nn.Module]) -> Path:
        if options is None:
            if (found := _found(request, dataset, spec, seed, screen)) is not None:
                return found
            screen.note(f"{models.named(spec, seed)} has no weights for {dataset.name} yet: training it, this once")
        return trainer(spec, seed, build)

    return provide


def finder(request: RunRequest, dataset: Dataset, _device: torch.device, screen: Screen) -> Provide:
    """The same for a look ahead: it trains nothing, and raises `ToBeTrained` for what `provider` would train."""

    def provide(spec: str, seed: int, _build: Callable[[], nn.Module]) -> Path:
        if (found := _found(request, dataset, spec, seed, screen)) is None:
            raise ToBeTrained(f"none yet for {models.named(spec, seed)} on {dataset.name}: it is trained first")
        return found

    return provide


def _found(request: RunRequest, dataset: Dataset, spec: str, seed: int, screen: Screen) -> Path | None:
    """Weights of the store, or those that come with the leaderboard; None where they are to be trained.

    Raises `UserError` where no run trains them.
    """
    canonical = registry.resolve(spec).canonical
    stored = weights.stored(dataset.name, canonical, seed)
    if stored.exists():
        return stored
    named = models.named(spec, seed)
    if (listed := pretrained.beside(dataset.name, canonical, seed)) is not None:
        screen.note(f"{named} has the weights that come with the leaderboard: {listed}")
        return listed
    if not isinstance(request.dataset, str):
        raise UserError(f"{named} has no weights for {dataset.name}: give files with weights=, or the trained network")
    if not dataset.embedded:
        command = _train_command(request, spec, seed)
        raise UserError(
            f"{named} has no weights for {dataset.name}: train it with `{command}`, or give a file with --weights"
        )
    return None


def _train_command(request: RunRequest, spec: str, seed: int) -> str:
    options = {
        "model": spec,
        "dataset": request.dataset,
        "data-dir": request.data_dir,
        "dataset-name": request.dataset_name,
        "seed": seed or None,
    }
    given = [part for name, value in options.items() if value is not None for part in (f"--{name}", str(value))]
    return shlex.join(["bench", "train", *given])
