"""A request → frozen plans: which conditions of which suite, for which model, and how.

Everything that can be wrong with the request is found here, before any model is built or anything is written.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import torch

from stressbench import held_out, registry
from stressbench.contracts import Archive, Condition, Dataset, Suite
from stressbench.datasets.elsewhere import elsewhere
from stressbench.errors import BrokenPlugin, UserError, did_you_mean, plugin_errors
from stressbench.execution import objects
from stressbench.execution.device import pick_device
from stressbench.execution.request import ALL, RunRequest, Stress
from stressbench.record import Precision
from stressbench.registry import Entry, ResolvedModel
from stressbench.spec import parse

_GROWTH = 8  # batches of the default size in a forward pass on a GPU
FITTED = "/fitted"  # in place of a source's name: the images that a suite learns from


@dataclass(frozen=True)
class Plan:
    """One model through one suite."""

    suite: Suite
    suite_entry: Entry
    suite_options: Mapping[str, str]  # for the record: a file is named without its folder
    conditions: Sequence[Condition]
    dataset: Dataset
    sources: Mapping[str, Dataset]  # the other datasets that conditions take their images from, by name
    fitted: Dataset | None  # what the suite learns from before it measures
    archive: Archive | None  # opened and checked; None where the stress is generated
    n: int  # the first n images of the split
    limit: int | None  # of images of any dataset
    model: ResolvedModel
    name: str | None  # what a person calls it
    weights: Sequence[Path]  # one for each part of the model, or a folder of them; empty for the store's
    draws: int | None  # None: the model's own default
    sizes: Sequence[int]  # a curve's numbers of draws, ascending; empty for no curve
    seed: int
    precision: Precision
    compiled: bool  # the network, for whole batches
    batch_size: int
    largest: int  # images in a forward pass, where there are more than a batch of them and memory allows
    device: torch.device

    def images(self, condition: Condition) -> int:
        """How many images are measured under a condition."""
        source = self.suite.source(condition)
        return self.n if source is None else count(self.sources[source], self.limit)

    def step(self, condition: Condition) -> int:
        """How many images a suite measures at once."""
        if self.suite.rows == "model":
            return self.images(condition)
        return self.suite.batch_size or self.batch_size if self.suite.rows == "batch" else self.batch_size

    def rows(self, condition: Condition, images: int | None = None) -> int:
        """How many rows a condition's table has for so many of its images; for all by default."""
        n = self.images(condition) if images is None else images
        return n if self.suite.rows == "image" else math.ceil(n / self.step(condition))

    @property
    def title(self) -> str:
        """What is run, in a few words."""
        return f"{self.dataset.name}-{self.suite.name}-{self.model.canonical}"

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


def make(request: RunRequest, dataset: Dataset) -> Plans:
    """A plan for each model and suite.

    Of several models or suites, one whose plugin is broken is a failure beside the plans, and of `ALL` suites also one
    whose official files cannot be used. Raises `UserError` for all else that is wrong: unknown names and options,
    official files that are asked for and not there or not whole, a device that this machine lacks.
    """
    suites = _Suites(request, dataset)
    failures: list[Failure] = []
    models: list[tuple[ResolvedModel, str | None]] = []
    if request.names and len(request.names) != len(request.models):
        raise UserError(
            f"--name is given {len(request.names)} times for {len(request.models)} models: give one for each, in order"
        )
    for text, name in zip_longest(request.models, request.names):
        try:
            models.append((resolved(text), name))
        except BrokenPlugin as error:
            failures += [Failure(str(parse(str(text))), suite, error) for suite in suites.names]
    if request.weights and len(request.models) > 1:
        raise UserError(
            f"--weights fits one model and {len(request.models)} are given: give one --model, or train the others"
        )
    sizes = sorted(set(request.sizes))
    if sizes and request.draws not in (None, sizes[-1]):
        raise UserError(f"--sizes makes {sizes[-1]} draws and --draws asks for {request.draws}: leave --draws out")
    device = pick_device(request.device)
    batch_size = request.batch_size or (1000 if device.type == "cuda" else 100)
    grows = device.type == "cuda" and not request.batch_size and not request.compiled  # compiled for one size
    plans = [
        Plan(
            suite=chosen.suite,
            suite_entry=chosen.entry,
            suite_options=chosen.options,
            conditions=chosen.conditions,
            dataset=chosen.dataset,
            sources=chosen.sources,
            fitted=chosen.fitted,
            archive=chosen.archive,
            n=chosen.suite.take(count(chosen.dataset, request.limit)),
            limit=request.limit,
            model=model,
            name=name,
            weights=request.weights,
            draws=sizes[-1] if sizes else request.draws,
            sizes=sizes,
            seed=request.seed,
            precision=request.precision,
            compiled=request.compiled,
            batch_size=batch_size,
            largest=_GROWTH * batch_size if grows else batch_size,
            device=device,
        )
        for model, name in models
        for chosen in suites.usable
    ]
    failures += [Failure(str(model), suite, error) for model, _ in models for suite, error in suites.broken.items()]
    return Plans(plans, failures, suites.left_out)


def read(request: RunRequest, split: str) -> Dataset:
    """A split of the dataset that was asked for; raises `UserError` where one that was given as an object lacks it."""
    if split in held_out.SPLITS:
        return held_out.part(read(request, "test"), split)
    if isinstance(request.dataset, str):
        return registry.dataset(request.dataset, split, request.data_dir, request.dataset_name)
    if split != request.dataset.split:
        raise UserError(
            f"{request.dataset.name} was given with its {request.dataset.split} split alone: it has no {split}"
        )
    return request.dataset


def resolved(model: str | ResolvedModel) -> ResolvedModel:
    """The model that a name stands for."""
    return registry.resolve(model) if isinstance(model, str) else model


@dataclass(frozen=True)
class _Chosen:
    suite: Suite
    entry: Entry
    options: Mapping[str, str]
    conditions: Sequence[Condition]
    dataset: Dataset
    sources: Mapping[str, Dataset]
    fitted: Dataset | None
    archive: Archive | None


class _Suites:
    """The suites that were asked for, with the options that are theirs."""

    def __init__(self, request: RunRequest, dataset: Dataset) -> None:
        everything = ALL in request.suites
        if everything and len(request.suites) > 1:
            raise UserError(f"--suite {ALL} stands for every suite: give it alone")
        self._given = {suite.name: suite for suite in request.suites if isinstance(suite, Suite)}
        named = [suite if isinstance(suite, str) else suite.name for suite in request.suites]
        self.names = registry.names("suites") if everything else named
        self.usable: list[_Chosen] = []
        self.broken: dict[str, UserError] = {}
        self.left_out: dict[str, str] = {}
        for name, options in self._options(request).items():
            given = self._given.get(name)
            entry = registry.find("suites", parse(name).name) if given is None else objects.suite_entry(given)
            try:
                suite = registry.suite(name, options) if given is None else given
                with plugin_errors(f"{entry} failed while its conditions were made for {dataset.name}", BrokenPlugin):
                    why = _other_task(suite, dataset)
                    if why is None:
                        suite = suite.for_task(dataset.task.name)
                        why = suite.unsupported(dataset)
                    conditions = [] if why else list(suite.conditions())
                if why is None:
                    require_conditions(conditions, entry)
            except BrokenPlugin as error:
                self.broken[name] = error
                continue
            if why is not None and not everything:
                raise UserError(f"the {name} suite does not support {dataset.name}: {why}")
            if why is not None:
                self.left_out[name] = why
                continue
            try:
                measured = dataset
                if suite.split != dataset.split:
                    measured = read(request, suite.split)
                suite = suite.for_dataset(measured)
                sources = _sources(suite, conditions, measured)
                fitted = None if suite.fitted_on is None else read(request, suite.fitted_on)
                with plugin_errors(f"{entry} failed to find its published files for {dataset.name}", BrokenPlugin):
                    archive = _archive(request.stress, suite, conditions, measured)
            except UserError as error:
                if not everything:
                    raise
                self.broken[name] = error
                continue
            # A record travels; the folders of the machine that made it stay at home. (Unlike `Path.exists`, the
            # function of `os.path` bears any text.)
            recorded = {k: Path(v).name if os.path.exists(v) else v for k, v in options.items()}  # noqa: PTH110
            self.usable.append(_Chosen(suite, entry, recorded, conditions, measured, sources, fitted, archive))

    def _options(self, request: RunRequest) -> dict[str, dict[str, str]]:
        """Each suite's own options and those of the command line that it has; one that none has is an error."""
        known: dict[str, Collection[str]] = {}
        for name in self.names:
            try:
                known[name] = () if name in self._given else registry.options("suites", parse(name).name)
            except BrokenPlugin as error:
                self.broken[name] = error
        for option in request.suite_options if known else ():
            if not any(option in options for options in known.values()):
                listed = sorted({one for options in known.values() for one in options})
                raise UserError(
                    f"no option '{option}' in {', '.join(known)}: {did_you_mean(option, listed)}"
                    f"known options are: {', '.join(listed) or 'none'}"
                )
        return {
            name: objects.suite_options(self._given[name])
            if name in self._given
            else {**parse(name).options, **{k: v for k, v in request.suite_options.items() if k in options}}
            for name, options in known.items()
        }


def count(dataset: Dataset, limit: int | None) -> int:
    """How many images of a dataset are used."""
    return min(limit or len(dataset.images), len(dataset.images))


def _sources(suite: Suite, conditions: Sequence[Condition], dataset: Dataset) -> dict[str, Dataset]:
    """The other datasets that a suite's conditions name, with images of this one's size.

    Raises `UserError` that names each one that is missing.
    """
    names = dict.fromkeys(name for condition in conditions if (name := suite.source(condition)) is not None)
    found: dict[str, Dataset] = {}
    missing: dict[str, UserError] = {}
    for name in names:
        try:
            found[name] = elsewhere(name, suite.source_dir, dataset)
        except UserError as error:
            missing[name] = error
    if len(missing) == 1:
        raise next(iter(missing.values()))
    if missing:
        raise UserError(
            f"{len(missing)} of {len(names)} sources are missing: {', '.join(missing)}; install them, put a folder of "
            f"images for each into --source-dir, or leave them out ({next(iter(missing.values()))})"
        )
    return found


def _other_task(suite: Suite, dataset: Dataset) -> str | None:
    """Why a suite cannot measure a dataset's task; None where it can."""
    if dataset.task.name in suite.tasks:
        return None
    return (
        f"it is for {' and '.join(sorted(suite.tasks))}, and {dataset.name} is for {dataset.task.name}; "
        "`bench list datasets` shows others"
    )


def require_conditions(conditions: Sequence[Condition], entry: Entry) -> None:
    """Raises `BrokenPlugin` unless there are conditions, all are flat and JSON-able, and no two are equal."""
    if not conditions:
        raise BrokenPlugin(f"{entry} has no conditions: return at least one")
    seen = set()
    for condition in conditions:
        if not isinstance(condition, Mapping) or not condition or not all(map(_flat, condition.items())):
            raise BrokenPlugin(
                f"{entry} has the condition {condition!r}: a condition must map text to text or finite numbers, "
                "as {'factor': 0.5}"
            )
        if (key := frozenset(condition.items())) in seen:
            raise BrokenPlugin(f"{entry} has the condition {dict(condition)} twice: return each once")
        seen.add(key)


def _flat(item: tuple[object, object]) -> bool:
    key, value = item
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(key, str) and (number or isinstance(value, str))


def _archive(wanted: Stress | None, suite: Suite, conditions: Sequence[Condition], dataset: Dataset) -> Archive | None:
    archive = None if wanted == "generated" else suite.published(dataset)
    if archive is not None:
        archive.open(conditions, dataset.labels)
    elif wanted == "official":
        raise UserError(
            f"there are no official {suite.name} files for {dataset.name} here: fetch them with `bench data pull`, "
            "name their folder with --data-dir, or use --stress generated"
        )
    return archive
