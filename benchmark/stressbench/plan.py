"""Command-line words → frozen plans: which conditions of which suite, for which model, and how.

Everything that can be wrong with the words is found here, before any model is built or anything is written.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from stressbench import record, registry
from stressbench.contracts import Archive, Condition, Dataset, Suite
from stressbench.errors import BrokenPlugin, UserError, did_you_mean
from stressbench.predict import Precision
from stressbench.registry import Entry
from stressbench.spec import Spec, parse

Stress = Literal["official", "generated"]

ALL = "all"  # in place of a suite's name: every suite that the dataset supports


@dataclass(frozen=True)
class Words:
    """What a person asked for, as the command line has it; None where they left the choice to us."""

    suites: Sequence[str]  # `ALL` alone, or names
    models: Sequence[str]
    dataset: str
    data_dir: Path | None = None
    dataset_name: str | None = None
    suite_options: Mapping[str, str] = field(default_factory=dict)  # each goes to the suites that have it
    stress: Stress | None = None
    weights: Sequence[Path] = ()
    draws: int | None = None
    sizes: Sequence[int] = ()
    limit: int | None = None
    batch_size: int | None = None
    seed: int = 0
    precision: Precision = "float32"
    device: str | None = None
    trainings: Sequence[int] = (0,)  # which trainings of each model


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
    pinned: str  # the model for the record: a file is named by its content, without its folder
    weights: Sequence[Path]  # one for each part of the model, or a folder of them; empty for the store's
    draws: int | None  # None: the model's own default
    sizes: Sequence[int]  # a curve's numbers of draws, ascending; empty for no curve
    seed: int
    precision: Precision
    batch_size: int
    device: torch.device

    @property
    def title(self) -> str:
        """What is run, in a few words."""
        return f"{self.dataset.name}-{self.suite.name}-{self.pinned}"

    @property
    def stress(self) -> Stress:
        return "generated" if self.archive is None else "official"


@dataclass(frozen=True)
class Failure:
    """One model through one suite that could not be run to its end, and why."""

    model: str
    suite: str
    error: UserError


@dataclass(frozen=True)
class Plans:
    """All that was asked for: what can be run, model by model; what cannot; and the suites that `all` leaves out."""

    plans: Sequence[Plan]
    failures: Sequence[Failure]
    left_out: Mapping[str, str]  # a suite's name → why


def make(words: Words, dataset: Dataset) -> Plans:
    """A plan for each model and suite.

    Of several models or suites, one whose plugin is broken is a failure beside the plans, and of `ALL` suites also one
    whose official files cannot be used. Raises `UserError` for all else that is wrong: unknown names and options,
    official files that are asked for and not there or not whole, a device that this machine lacks.
    """
    suites = _Suites(words, dataset)
    failures: list[Failure] = []
    models: list[Spec] = []
    for text in words.models:
        try:
            registry.check_model(text)
        except BrokenPlugin as error:
            failures += [Failure(text, suite, error) for suite in suites.names]
        else:
            models.append(parse(text))
    if words.weights and len(words.models) > 1:
        raise UserError(
            f"--weights fits one model and {len(words.models)} are given: give one --model, or train the others"
        )
    sizes = sorted(set(words.sizes))
    if sizes and words.draws not in (None, sizes[-1]):
        raise UserError(f"--sizes makes {sizes[-1]} draws and --draws asks for {words.draws}: leave --draws out")
    device = pick_device(words.device)
    plans = [
        Plan(
            suite=chosen.suite,
            suite_entry=chosen.entry,
            suite_options=chosen.options,
            conditions=chosen.conditions,
            dataset=dataset,
            archive=chosen.archive,
            n=len(dataset.images) if words.limit is None else min(words.limit, len(dataset.images)),
            model=model,
            pinned=registry.pinned(str(model)),
            weights=words.weights,
            draws=sizes[-1] if sizes else words.draws,
            sizes=sizes,
            seed=words.seed,
            precision=words.precision,
            batch_size=words.batch_size or (1000 if device.type == "cuda" else 100),
            device=device,
        )
        for model in models
        for chosen in suites.usable
    ]
    failures += [Failure(str(model), name, error) for model in models for name, error in suites.broken.items()]
    return Plans(plans, failures, suites.left_out)


@dataclass(frozen=True)
class _Chosen:
    suite: Suite
    entry: Entry
    options: Mapping[str, str]
    conditions: Sequence[Condition]
    archive: Archive | None


class _Suites:
    """The suites that were asked for, with the options that are theirs."""

    def __init__(self, words: Words, dataset: Dataset) -> None:
        everything = ALL in words.suites
        if everything and len(words.suites) > 1:
            raise UserError(f"--suite {ALL} stands for every suite: give it alone")
        self.names = registry.names("suites") if everything else list(words.suites)
        self.usable: list[_Chosen] = []
        self.broken: dict[str, UserError] = {}
        self.left_out: dict[str, str] = {}
        for name, options in self._options(words).items():
            entry = registry.find("suites", parse(name).name)
            try:
                suite = registry.suite(name, options)
                with registry.blamed(f"{entry} failed while its conditions were made for {dataset.name}", BrokenPlugin):
                    why = suite.unsupported(dataset)
                    conditions = [] if why else suite.conditions()
            except BrokenPlugin as error:
                self.broken[name] = error
                continue
            if why is not None and not everything:
                raise UserError(f"the {name} suite says nothing about {dataset.name}: {why}")
            if why is not None:
                self.left_out[name] = why
                continue
            try:
                archive = _archive(words.stress, suite, conditions, dataset)
            except UserError as error:
                if not everything:
                    raise
                self.broken[name] = error
                continue
            # A record travels; the folders of the machine that made it stay at home. (Unlike `Path.exists`, the
            # function of `os.path` bears any text.)
            recorded = {k: Path(v).name if os.path.exists(v) else v for k, v in options.items()}  # noqa: PTH110
            self.usable.append(_Chosen(suite, entry, recorded, conditions, archive))

    def _options(self, words: Words) -> dict[str, dict[str, str]]:
        """Each suite's own options and those of the command line that it has; one that none has is an error."""
        known: dict[str, Collection[str]] = {}
        for name in self.names:
            try:
                known[name] = registry.options("suites", parse(name).name)
            except BrokenPlugin as error:
                self.broken[name] = error
        for option in words.suite_options if known else ():
            if not any(option in options for options in known.values()):
                listed = sorted({one for options in known.values() for one in options})
                raise UserError(
                    f"--{option.replace('_', '-')} is no option of {', '.join(known)}: "
                    f"{did_you_mean(option, listed)}these are: {', '.join(listed) or 'none'}"
                )
        return {
            name: {**parse(name).options, **{k: v for k, v in words.suite_options.items() if k in options}}
            for name, options in known.items()
        }


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


def device_name(device: torch.device) -> str:
    """What the device calls itself."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else record.cpu_name()
