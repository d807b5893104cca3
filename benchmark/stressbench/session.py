"""Words → records: every model that was named through every suite that was named, on one dataset."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from torch import nn

from stressbench import models, plan, registry, weights
from stressbench.contracts import Dataset
from stressbench.datasets.resident import Resident
from stressbench.errors import Interrupted, UserError
from stressbench.models import Provide
from stressbench.plan import Failure, Plan, Words
from stressbench.predict import prepared
from stressbench.record import Record
from stressbench.runner import Run
from stressbench.spec import parse
from stressbench.terminal import Screen
from stressbench.training import Options, Trainer


@dataclass(frozen=True)
class Finished:
    """A run that came to its end."""

    plan: Plan
    record: Record
    folder: Path
    training: int  # which one of the model


def run(
    words: Words, out: Path, fresh: bool, screen: Screen, options: Options | None = None
) -> Iterator[Finished | Failure]:
    """Each training of each model through each suite as it is finished, or what stopped it; the others go on.

    Models that lack weights are trained where there are `options` to train them by; without, on embedded sets alone.

    Raises `UserError` before anything is run where the words are wrong, and `Interrupted` on Ctrl-C.
    """
    dataset = registry.dataset(words.dataset, "test", words.data_dir, words.dataset_name)
    asked = plan.make(words, dataset)
    for name, why in asked.left_out.items():
        screen.note(f"the {name} suite is left out, because it says nothing about {dataset.name}: {why}")
    yield from asked.failures
    plans = asked.plans
    if not plans:
        return
    if dataset.embedded:
        for benchmark in dict.fromkeys(p.suite.benchmark for p in plans if p.suite.benchmark != dataset.name):
            screen.note(
                f"{dataset.name} is a small embedded sample, to try things on; "
                f"published numbers are on {benchmark} (--dataset {benchmark})"
            )
    if dataset.altered:
        screen.note(
            f"these images are a copy of {dataset.name} that was cut or re-encoded, not the published ones: no number "
            "on them compares with a published one, and the record says so (--dataset-name gives the copy its own name)"
        )

    provide = provider(words, dataset, plans[0].device, screen, options)
    images = Resident(dataset, plans[0].n, plans[0].device)
    folder: Path | None = None
    try:
        for model, group in groupby(plans, key=lambda planned: planned.model):
            members = list(group)
            seen: set[str] = set()
            for training in words.trainings:
                named = models.named(str(model), training)
                try:
                    ready = models.ready(model, dataset, words.weights, provide, training)
                except UserError as error:
                    yield from (Failure(named, planned.suite.name, error) for planned in members)
                    continue
                if ready.checksum in seen:
                    screen.note(f"{model} has its own weights, which no seed changes: it is run once")
                    break
                seen.add(ready.checksum)
                for planned in members:
                    try:
                        work = Run(planned, ready, images, out)
                        folder = work.store.folder
                        yield Finished(planned, work(fresh, screen), folder, training)
                    except UserError as error:
                        yield Failure(named, planned.suite.name, error)
    except KeyboardInterrupt as error:
        kept = f"what was finished is in {folder}, and " if folder else ""
        raise Interrupted(f"interrupted: {kept}the same command goes on from there") from error


def provider(
    words: Words, dataset: Dataset, device: torch.device, screen: Screen, options: Options | None = None
) -> Provide:
    """What gives models their weights for a dataset: the store, and training where `run` says that they are trained."""

    def split(name: str) -> Dataset:
        return registry.dataset(words.dataset, name, words.data_dir, words.dataset_name)

    trainer = Trainer(split, options or Options(), device, screen)

    def provide(spec: str, seed: int, build: Callable[[], nn.Module]) -> Path:
        stored = weights.stored(dataset.name, registry.pinned(spec), seed)
        if options is None:
            if stored.exists():
                return stored
            named = models.named(spec, seed)
            if not dataset.embedded:
                raise UserError(
                    f"{named} has no weights for {dataset.name}: train it with `{_train_command(words, spec, seed)}`, "
                    "or give a file with --weights"
                )
            screen.note(f"{named} has no weights for {dataset.name} yet: training it, this once")
        return trainer(spec, seed, build)

    return provide


def model(words: Words, dataset: Dataset, screen: Screen) -> nn.Module:
    """The model that is named first, with its weights, as runs predict with it, on the CPU."""
    provide = provider(words, dataset, plan.pick_device(words.device), screen)
    return prepared(models.ready(parse(words.models[0]), dataset, words.weights, provide).module)


def _train_command(words: Words, spec: str, seed: int) -> str:
    options = {
        "model": spec,
        "dataset": words.dataset,
        "data-dir": words.data_dir,
        "dataset-name": words.dataset_name,
        "seed": seed or None,
    }
    given = [part for name, value in options.items() if value is not None for part in (f"--{name}", str(value))]
    return shlex.join(["bench", "train", *given])
