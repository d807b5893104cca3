"""Trains models, stores their weights, and resumes interrupted trainings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
import torchvision
from torch import nn

import stressbench
from stressbench import randomness, registry, weights
from stressbench._util.locks import hold
from stressbench._util.terminal import Screen
from stressbench.contracts import Composite, Dataset, InMemory, traits
from stressbench.datasets.cache import read
from stressbench.datasets.fingerprint import fingerprint
from stressbench.errors import UserError, describe
from stressbench.execution import models
from stressbench.execution.device import device_name
from stressbench.recipe import Options, Recipe
from stressbench.training import acquisition, checkpoint, curves
from stressbench.training.loop import Epoch, Snapshot, fresh, train

# What weights say that were trained before recipes had these fields.
_BEFORE_HOOKS = {"augment": "None", "loss": "None", "optimiser": "sgd", "start": "None"}


class Trainer:
    """Provides weights of models for a dataset, and trains those that have none.

    Beside `seed0.safetensors` in the store are the learning curves, `seed0.csv` and `seed0.png`, and, until the
    training is finished, `seed0.checkpoint`, from which the same call resumes.
    """

    def __init__(
        self,
        splits: Callable[[str], Dataset],
        options: Options,
        device: torch.device,
        screen: Screen,
        restart: bool = False,
    ) -> None:
        """`splits` returns the dataset's "train" and "test"; `restart` replaces existing files, finished or not.

        Raises `UserError` for a recipe that does not exist or has no such options.
        """
        registry.check_recipe(options.recipe)
        if options.cuda_graph and device.type != "cuda":
            raise UserError("--cuda-graph is for training on a GPU: leave it out, or pass --device cuda")
        self._splits, self._options, self._device, self._screen = splits, options, device, screen
        self._restart = restart

    def __call__(self, model: str, seed: int, build: Callable[[], nn.Module]) -> Path:
        """The file with the weights of the model of this name, which `build` makes, for a seed.

        Raises `UserError` for a model that cannot be trained, for existing weights or a checkpoint of another training,
        if another process runs the same training, if it diverges, and if a file cannot be written.
        """
        model = registry.resolve(model).canonical
        module = fresh(build, seed)
        _require_trainable(model, module)
        recipe = self._options.applied(module, self._train_set)
        identity = self._identity(model, recipe, seed) | {"start": self._begin(module, seed)}
        named, path = models.named(model, seed), weights.stored(self._train_set.name, model, seed)
        unfinished, course = path.with_suffix(".checkpoint"), path.with_suffix(".csv")
        start: Snapshot | None = None
        with _alone(path, named):
            if self._restart:
                unfinished.unlink(missing_ok=True)
            # Another kind of device rounds otherwise, so a training that moved would be neither's.
            begun = identity | {"device": self._device.type}
            match _standing(path, unfinished, identity, begun, self._restart):
                case "done":
                    self._screen.note(f"{named} is trained already: {path}")
                    return path
                case "begun":
                    start = checkpoint.load(unfinished, module)
                    self._screen.note(f"{named} goes on after epoch {len(start.epochs)} of {recipe.epochs}")

            def keep(snapshot: Snapshot) -> None:
                checkpoint.save(unfinished, snapshot, begun)
                curves.write_csv(course, snapshot.epochs)

            with self._screen.training(f"training {named}") as report:
                epochs = train(
                    module,
                    self._train_set,
                    recipe,
                    seed,
                    self._device,
                    report,
                    self._held_out,
                    start,
                    keep,
                    self._options.cuda_graph,
                )
            title = f"{model} on {self._train_set.name}, seed {seed}"
            weights.save(module, path, identity | _outcome(epochs, recipe, self._held_out, self._device))
            unfinished.unlink(missing_ok=True)
            try:
                curves.plot(path.with_suffix(".png"), epochs, title, self._held_out.split)
            except Exception as error:  # whatever ails a drawing library, the weights are what was asked for
                self._screen.note(f"the picture of the training could not be drawn: {describe(error)}")
        return path

    def _begin(self, module: nn.Module, seed: int) -> str:
        """Load the weights that a fine-tuning begins with; returns their checksum."""
        name = self._options.start
        if name is None:
            return str(None)
        stored = Path(name)
        if not stored.is_file():
            stored = weights.stored(self._train_set.name, registry.resolve(name).canonical, seed)
        if not stored.is_file():
            raise UserError(f"--start {name} has no weights for {self._train_set.name} and seed {seed}: train it first")
        weights.load(module, stored)
        return weights.checksum(module)

    def _identity(self, model: str, recipe: Recipe, seed: int) -> dict[str, str]:
        """Everything that determines the weights except the machine, as text for the metadata of files."""
        data = self._train_set
        numbers = recipe.described()
        numbers["recipe"] = numbers.pop("name")
        metadata = {
            "model": model,
            "dataset": data.name,
            "split": data.split,
            "fingerprint": self._fingerprint,
            "seed": seed,
            "validation": self._options.validation,
        }
        return {key: str(value) for key, value in metadata.items()} | numbers

    @property
    def _train_set(self) -> Dataset:
        return self._train_and_held_out[0]

    @property
    def _held_out(self) -> Dataset:
        return self._train_and_held_out[1]

    @cached_property
    def _train_and_held_out(self) -> tuple[Dataset, Dataset]:
        whole = _in_memory(self._splits("train"))
        if self._options.add is not None:
            whole = acquisition.extended(whole, Path(self._options.add), self._splits)
        if self._options.validation:
            return _divided(whole, self._options.validation)
        return whole, _in_memory(self._splits("test"))

    @cached_property
    def _fingerprint(self) -> str:
        """Of the images that are trained on."""
        return fingerprint(self._train_set, len(self._train_set.images))


def _in_memory(dataset: Dataset) -> Dataset:
    """A dataset whose images were decoded, once for all epochs and trainings."""
    return replace(dataset, images=InMemory(read(dataset, 0, len(dataset.images))))


def _divided(dataset: Dataset, n: int) -> tuple[Dataset, Dataset]:
    """A split without n of its images, and these as the split "validation", both in their order.

    The choice depends on the number of images alone, so all trainings hold out the same ones.

    Raises `UserError` if none would be left to train on.
    """
    total = len(dataset.images)
    if n >= total:
        raise UserError(f"--validation {n:,} leaves nothing to train on: {dataset.name} has {total:,} training images")
    generator = torch.Generator().manual_seed(randomness.derive("validation"))
    order = torch.randperm(total, generator=generator)
    pixels, targets = dataset.images.read(0, total), dataset.targets.read(0, total)

    def part(indices: torch.Tensor, split: str) -> Dataset:
        rows = indices.sort().values
        return replace(dataset, split=split, images=InMemory(pixels[rows]), targets=InMemory(targets[rows]))

    return part(order[n:], dataset.split), part(order[:n], "validation")


def _require_trainable(model: str, module: nn.Module) -> None:
    if isinstance(module, Composite):
        parts = " and ".join(dict.fromkeys(part.spec for part in module.parts()))
        raise UserError(
            f"{model} has no weights of its own, only its parts have: train {parts}, with --seed for each seed"
        )
    if not traits(module).untrained:
        raise UserError(f"{model} comes with weights of its own, which it would not give up for trained ones: run it")


@contextmanager
def _alone(path: Path, named: str) -> Iterator[None]:
    """Lock a training's files; raises `UserError` if another process holds them or they cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        cure = "point STRESSBENCH_HOME at a folder"
        held = hold(path.with_suffix(".lock"), f"training {named}", cure)
    except OSError as error:
        raise UserError(
            f"cannot write to {path.parent}: {error.strerror or error}. Point STRESSBENCH_HOME at another folder"
        ) from error
    with held:
        for left in path.parent.glob(f"{path.stem}.*.partial"):  # of a process that was killed while it wrote
            left.unlink()
        yield


def _standing(
    path: Path, unfinished: Path, identity: Mapping[str, str], begun: Mapping[str, str], restart: bool
) -> Literal["new", "begun", "done"]:
    """The state of a training; raises `UserError` if weights or a checkpoint of another one would be lost."""
    other_begun = _difference(checkpoint.identity(unfinished), begun) if unfinished.exists() else None
    if other_begun == "":
        return "begun"
    other_done = _difference(weights.metadata(path), identity) if path.exists() and not restart else None
    if other_done == "":
        return "done"
    if other_begun or other_done:
        file, other = (unfinished, other_begun) if other_begun else (path, other_done)
        raise UserError(f"{file} is of another training: {other}. Give that one's options, or --fresh to replace it")
    return "new"


def _difference(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """The first difference between a file and the requested training; empty if there is none."""
    found = _BEFORE_HOOKS | dict(found)
    others = (key for key, value in wanted.items() if found.get(key) != value)
    return next((f"{key} {found.get(key, 'unknown')}, not {wanted[key]}" for key in others), "")


def _outcome(epochs: Sequence[Epoch], recipe: Recipe, held_out: Dataset, device: torch.device) -> dict[str, str]:
    last = epochs[-1]
    metadata = {
        "train_loss": last.train_loss,
        "measured_on": held_out.split,
        **(last.held_out or {}),
        "seconds": round(sum(epoch.seconds for epoch in epochs), 3),
        "device": device.type,
        "device_name": device_name(device),
        "arithmetic": recipe.arithmetic(device),
        "stressbench": stressbench.__version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,  # whose operations augmix and randaugment are
    }
    return {key: str(value) for key, value in metadata.items()}
