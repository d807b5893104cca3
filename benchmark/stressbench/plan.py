"""Command-line words → frozen plans: which conditions of which suite, for which model, and how.

Everything that can be wrong with the words is found here, before any model is built or anything is written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from stressbench import registry
from stressbench.contracts import Archive, Condition, Dataset, Suite
from stressbench.errors import UserError, did_you_mean
from stressbench.predict import Precision
from stressbench.registry import Entry
from stressbench.spec import Spec, parse

Stress = Literal["official", "generated"]


@dataclass(frozen=True)
class Words:
    """What a person asked for, as the command line has it; None where they left the choice to us."""

    suites: Sequence[str]
    models: Sequence[str]
    dataset: str
    data_dir: Path | None = None
    dataset_name: str | None = None
    suite_options: Mapping[str, str] = field(default_factory=dict)  # each goes to the suites that have it
    stress: Stress | None = None
    weights: Sequence[Path] = ()
    draws: int | None = None
    limit: int | None = None
    batch_size: int | None = None
    seed: int = 0
    precision: Precision = "float32"
    device: str | None = None


@dataclass(frozen=True)
class Plan:
    """One model through one suite."""

    suite: Suite
    suite_entry: Entry
    suite_options: Mapping[str, str]  # for the record: a file is named without its folder
    conditions: Sequence[Condition]
    dataset: Dataset
    archive: Archive | None  # opened and checked; None where the stress is generated
    n: int  # the first n images of the split
    model: Spec
    weights: Sequence[Path]  # one for each part of the model, or a folder of them; empty for the store's
    draws: int | None  # None: the model's own default
    seed: int
    precision: Precision
    batch_size: int
    device: torch.device

    @property
    def title(self) -> str:
        """What is run, in a few words."""
        return f"{self.dataset.name}-{self.suite.name}-{self.model}"

    @property
    def stress(self) -> Stress:
        return "generated" if self.archive is None else "official"


def make(words: Words, dataset: Dataset) -> list[Plan]:
    """A plan for each model and suite, model by model.

    Raises `UserError` for whatever is wrong: unknown names and options, official files that are asked for and not
    there or not whole, a device that this machine lacks.
    """
    for text in words.models:
        registry.check_model(text)
    if words.weights and len(words.models) > 1:
        raise UserError(
            f"--weights fits one model and {len(words.models)} are given: give one --model, or train the others"
        )
    device = pick_device(words.device)
    batch_size = words.batch_size or (1000 if device.type == "cuda" else 100)
    n = len(dataset.images) if words.limit is None else min(words.limit, len(dataset.images))
    suites = []
    for text, options in _suite_options(words):
        suite = registry.suite(text, options)
        conditions = suite.conditions()
        archive = _archive(words.stress, suite, conditions, dataset)
        # A record travels; the folders of the machine that made it stay at home. (Unlike `Path.exists`, the function
        # of `os.path` bears any text.)
        recorded = {k: Path(v).name if os.path.exists(v) else v for k, v in options.items()}  # noqa: PTH110
        suites.append((suite, registry.find("suites", parse(text).name), recorded, conditions, archive))
    return [
        Plan(
            suite=suite,
            suite_entry=suite_entry,
            suite_options=options,
            conditions=conditions,
            dataset=dataset,
            archive=archive,
            n=n,
            model=parse(text),
            weights=words.weights,
            draws=words.draws,
            seed=words.seed,
            precision=words.precision,
            batch_size=batch_size,
            device=device,
        )
        for text in words.models
        for suite, suite_entry, options, conditions, archive in suites
    ]


def _suite_options(words: Words) -> list[tuple[str, dict[str, str]]]:
    """Each suite with its own options and those of the command line that it has; one that none has is an error."""
    known = {text: registry.options("suites", parse(text).name) for text in words.suites}
    for name in words.suite_options:
        if not any(name in options for options in known.values()):
            listed = sorted({option for options in known.values() for option in options})
            raise UserError(
                f"--{name.replace('_', '-')} is no option of {', '.join(words.suites)}: "
                f"{did_you_mean(name, listed)}these are: {', '.join(listed) or 'none'}"
            )
    return [
        (text, {**parse(text).options, **{k: v for k, v in words.suite_options.items() if k in options}})
        for text, options in known.items()
    ]


def _archive(wanted: Stress | None, suite: Suite, conditions: Sequence[Condition], dataset: Dataset) -> Archive | None:
    archive = None if wanted == "generated" or suite.archive is None else dataset.archives.get(suite.archive)
    if archive is not None:
        archive.open(conditions, dataset.labels)
    elif wanted == "official":
        raise UserError(
            f"there are no official {suite.name} files for {dataset.name} here: fetch them with `bench data pull`, "
            "name their folder with --data-dir, or use --stress generated"
        )
    return archive


def pick_device(name: str | None) -> torch.device:
    """The device that a person named, else a GPU where there is one; raises `UserError` for one that is not there."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = "cpu and cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch has both for a device that is not there
        raise UserError(f"device '{name}' cannot be used ({registry.describe(error)}): here is {found}") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device '{name}' is not one that stressbench computes on: here is {found}")
    return device
