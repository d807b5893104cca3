"""Words → records: every model that was named through every suite that was named, on one dataset."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import nn

from stressbench import models, plan, registry, training
from stressbench.datasets.resident import Resident
from stressbench.errors import Interrupted, UserError
from stressbench.plan import Plan, Words
from stressbench.record import Record
from stressbench.runner import Run
from stressbench.terminal import Screen


def run(words: Words, out: Path, fresh: bool, screen: Screen) -> Iterator[tuple[Plan, Record, Path] | UserError]:
    """Each plan with its record and run folder, as they are finished, or the error that stopped it.

    Raises `UserError` before anything is run where the words are wrong, and `Interrupted` on Ctrl-C.
    """
    dataset = registry.dataset(words.dataset, "test", words.data_dir, words.dataset_name)
    plans = plan.make(words, dataset)
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

    def train(spec: str, seed: int, build: Callable[[], nn.Module]) -> None:
        named = f"{spec} (seed {seed})" if seed else spec
        if not dataset.embedded:
            raise UserError(
                f"{named} has no weights for {dataset.name}: train it with `{_train_command(words, spec, seed)}`, "
                "or give a file with --weights"
            )
        screen.note(f"{named} has no weights for {dataset.name} yet: training it, this once")
        train_set = registry.dataset(words.dataset, "train", words.data_dir, words.dataset_name)
        with screen.training(f"training {named}") as report:
            training.train_embedded(spec, build, train_set, plans[0].device, report, seed)

    images = Resident(dataset, plans[0].n, plans[0].device)
    ready: dict[str, models.Ready] = {}
    for planned in plans:
        folder: Path | None = None
        try:
            key = str(planned.model)
            if key not in ready:
                ready = {key: models.ready(planned.model, dataset, planned.weights, train)}
            work = Run(planned, ready[key], images, out)
            folder = work.store.folder
            yield planned, work(fresh, screen), folder
        except UserError as error:
            yield error
        except KeyboardInterrupt as error:
            kept = f"what was finished is in {folder}, and " if folder else ""
            raise Interrupted(f"interrupted: {kept}the same command goes on from there") from error


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
