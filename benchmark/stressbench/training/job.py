"""Train models and keep their weights where the harness looks for them; what was stopped goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock, Timeout
from torch import nn

import stressbench
from stressbench import models, plan, registry, weights
from stressbench.contracts import Composite, Dataset
from stressbench.datasets.digits import InMemory
from stressbench.datasets.fingerprint import fingerprint
from stressbench.datasets.resident import read
from stressbench.errors import UserError
from stressbench.terminal import Screen
from stressbench.training import checkpoint, curves
from stressbench.training.loop import Epoch, Snapshot, fresh, train
from stressbench.training.recipes import Options, Recipe


class Trainer:
    """Sees to it that models have weights for a dataset, by training those that have none.

    Beside `seed0.safetensors` in the store lie the training's course, `seed0.csv` and `seed0.png`, and, until it is
    finished, `seed0.checkpoint`, from which the same call goes on.
    """

    def __init__(
        self,
        splits: Callable[[str], Dataset],
        options: Options,
        device: torch.device,
        screen: Screen,
        anew: bool = False,
    ) -> None:
        """`splits` gives the dataset's "train" and "test"; `anew` replaces what is there, finished or not."""
        self._splits, self._options, self._device, self._screen, self._anew = splits, options, device, screen, anew

    def __call__(self, model: str, seed: int, build: Callable[[], nn.Module]) -> Path:
        """The file with the weights of the model of this name, which `build` makes, for a seed.

        Raises `UserError` for a model that cannot be trained, for weights or a checkpoint of another training, where
        another process is at work on the same one, when it diverges, and when a file cannot be written.
        """
        model = registry.pinned(model)
        module = fresh(build, seed)
        _require_trainable(model, module)
        recipe = self._options.applied(module, self._train_set)
        identity = self._identity(model, recipe, seed)
        named, path = models.named(model, seed), weights.stored(self._train_set.name, model, seed)
        unfinished, course = path.with_suffix(".checkpoint"), path.with_suffix(".csv")
        start: Snapshot | None = None
        with _alone(path, named):
            if self._anew:
                unfinished.unlink(missing_ok=True)
            # Another kind of device rounds otherwise, so a training that moved would be neither's.
            begun = identity | {"device": self._device.type}
            match _standing(path, unfinished, identity, begun, self._anew):
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
                epochs = train(module, self._train_set, recipe, seed, self._device, report, self._test_set, start, keep)
            curves.plot(path.with_suffix(".png"), epochs, f"{model} on {self._train_set.name}, seed {seed}")
            weights.save(module, path, identity | _outcome(epochs, recipe, self._device))
            unfinished.unlink(missing_ok=True)
        return path

    def _identity(self, model: str, recipe: Recipe, seed: int) -> dict[str, str]:
        """All that decides the weights but the machine, in words, for the metadata of files."""
        data = self._train_set
        numbers = {"recipe" if name == "name" else name: value for name, value in asdict(recipe).items()}
        told = {
            "model": model,
            "dataset": data.name,
            "split": data.split,
            "fingerprint": self._fingerprint,
            "seed": seed,
        }
        return {key: str(value) for key, value in (told | numbers).items()}

    @cached_property
    def _train_set(self) -> Dataset:
        return _in_memory(self._splits("train"))

    @cached_property
    def _test_set(self) -> Dataset:
        return _in_memory(self._splits("test"))

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self._train_set, len(self._train_set.images))


def _in_memory(dataset: Dataset) -> Dataset:
    """A dataset whose images were decoded, once for all epochs and trainings."""
    return replace(dataset, images=InMemory(read(dataset, 0, len(dataset.images))))


def _require_trainable(model: str, module: nn.Module) -> None:
    if isinstance(module, Composite):
        parts = " and ".join(dict.fromkeys(part.spec for part in module.parts()))
        raise UserError(
            f"{model} has no weights of its own, only its parts have: train {parts}, with --seed for each seed"
        )
    if not getattr(module, "untrained", False):
        raise UserError(f"{model} comes with weights of its own, which it would not give up for trained ones: run it")


@contextmanager
def _alone(path: Path, named: str) -> Iterator[None]:
    """Hold a training's files; raises `UserError` where another process does, or they cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(path.with_suffix(".lock"), timeout=0).acquire()
    except Timeout as error:
        raise UserError(f"another process is training {named}: wait for it, or end it") from error
    except OSError as error:
        raise UserError(
            f"cannot write to {path.parent}: {error.strerror or error}. Point STRESSBENCH_HOME at another folder"
        ) from error
    with held:
        for left in path.parent.glob(f"{path.stem}.*.partial"):  # of a process that was killed while it wrote
            left.unlink()
        yield


def _standing(
    path: Path, unfinished: Path, identity: Mapping[str, str], begun: Mapping[str, str], anew: bool
) -> Literal["new", "begun", "done"]:
    """How far a training is; raises `UserError` where another one's weights or checkpoint would be lost."""
    other_begun = _difference(checkpoint.identity(unfinished), begun) if unfinished.exists() else None
    if other_begun == "":
        return "begun"
    other_done = _difference(weights.metadata(path), identity) if path.exists() and not anew else None
    if other_done == "":
        return "done"
    if other_begun or other_done:
        file, other = (unfinished, other_begun) if other_begun else (path, other_done)
        raise UserError(f"{file} is of another training: {other}. Give that one's options, or --fresh to replace it")
    return "new"


def _difference(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """The first thing in which a file is not what was asked for; empty where it is."""
    others = (key for key, value in wanted.items() if found.get(key) != value)
    return next((f"{key} {found.get(key, 'unknown')}, not {wanted[key]}" for key in others), "")


def _outcome(epochs: Sequence[Epoch], recipe: Recipe, device: torch.device) -> dict[str, str]:
    last = epochs[-1]
    told = {
        "train_loss": last.train_loss,
        **({} if last.held_out is None else asdict(last.held_out)),
        "seconds": round(sum(epoch.seconds for epoch in epochs), 3),
        "device": device.type,
        "device_name": plan.device_name(device),
        "arithmetic": recipe.arithmetic(device),
        "stressbench": stressbench.__version__,
        "torch": torch.__version__,
    }
    return {key: str(value) for key, value in told.items()}
