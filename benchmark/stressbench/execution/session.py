"""RunRequest → records: every model that was named through every suite that was named, on one dataset."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

from torch import nn

from stressbench._util.files import require_text
from stressbench._util.terminal import Screen
from stressbench.contracts import Dataset, traits
from stressbench.errors import Interrupted, UserError
from stressbench.execution import device, models, plan
from stressbench.execution.device import pick_device
from stressbench.execution.executors import Executor, Local
from stressbench.execution.limits import require_room
from stressbench.execution.plan import Failure, Plan, Plans
from stressbench.execution.predict import Predictor
from stressbench.execution.prepare import Job, Prepared, Provider
from stressbench.execution.request import RunRequest
from stressbench.execution.runner import Run
from stressbench.record import Record


@dataclass(frozen=True)
class Part:
    """A run whose other conditions are measured elsewhere: its own are done. `bench merge` joins such parts."""

    plan: Plan
    folder: Path
    conditions: int
    """How many are its own."""
    training: int

    def __str__(self) -> str:
        return (
            f"{models.named(str(self.plan.model), self.training)} · {self.plan.suite.name}: {self.conditions} of "
            f"{len(self.plan.conditions)} conditions are done, in {self.folder}; `bench merge` joins the parts"
        )


@dataclass(frozen=True)
class Finished:
    """A run that came to its end."""

    plan: Plan
    record: Record
    folder: Path
    training: int  # which one of the model


def run(
    request: RunRequest, out: Path, fresh: bool, screen: Screen, provider: Provider, executor: Executor | None = None
) -> Iterator[Finished | Part | Failure]:
    """Each training of each model through each suite as it is finished, or what stopped it; the others go on.

    Weights that are neither given nor their plugins' own are seen to by what `provider` makes. The `executor` computes;
    without one, this process does.

    Raises `UserError` before anything is run where the request is wrong or the path of `out` is no text, and
    `Interrupted` on Ctrl-C.
    """
    dataset, asked = planned(request, out, screen)
    yield from asked.failures
    plans = asked.plans
    if not plans:
        return
    job = Job(replace(request, device=str(plans[0].device)), provider)
    upcoming = _runs(job, Prepared(job, dataset, plans, screen), out, screen)
    yield from _outcomes(upcoming, executor or Local(), fresh, screen)


def planned(request: RunRequest, out: Path, screen: Screen) -> tuple[Dataset, Plans]:
    """The test split and the plans of a request, with notes on what a person may not expect; raises `UserError`."""
    require_text(out, "choose another folder with --out")
    require_room()
    dataset = plan.read(request, "test" if isinstance(request.dataset, str) else request.dataset.split)
    asked = plan.make(request, dataset)
    for name, why in asked.left_out.items():
        screen.note(f"the {name} suite is left out, because it does not support {dataset.name}: {why}")
    if dataset.embedded:
        elsewhere = [p.suite.benchmark for p in asked.plans if p.suite.benchmark not in (None, dataset.name)]
        for benchmark in dict.fromkeys(elsewhere):
            screen.note(
                f"{dataset.name} is a small embedded sample, to try things on; "
                f"published numbers are on {benchmark} (--dataset {benchmark})"
            )
    if dataset.altered:
        screen.note(
            f"these images are a copy of {dataset.name} that was cut or re-encoded, not the published ones: no number "
            "on them compares with a published one, and the record says so (--dataset-name gives the copy its own name)"
        )
    return dataset, asked


def _outcomes(
    upcoming: Iterator[Run | Failure], executor: Executor, fresh: bool, screen: Screen
) -> Iterator[Finished | Part | Failure]:
    """What became of runs, in their order; the next ones are started whenever the executor has too little to do."""
    started: deque[Run | Failure] = deque()
    folder: Path | None = None
    more = True
    try:
        while more or started:
            head = started[0] if started else None
            if isinstance(head, Failure) or (head is not None and head.complete):
                started.popleft()
                yield _finished(head)
            elif more and executor.hungry:
                run = next(upcoming, None)
                more = run is not None
                if run is not None:
                    started.append(_started(run, executor, fresh, screen))
                    folder = run.store.folder if isinstance(run, Run) else folder
            elif head is not None:
                with head.progress(screen):
                    while not head.complete and not (more and executor.hungry):
                        _accept(executor)
    except KeyboardInterrupt as error:
        kept = f"what was finished is in {folder}, and " if folder else ""
        raise Interrupted(f"interrupted: {kept}the same command goes on from there") from error
    finally:
        for run in started:
            if isinstance(run, Run):
                run.close()


def _started(run: Run | Failure, executor: Executor, fresh: bool, screen: Screen) -> Run | Failure:
    if isinstance(run, Failure):
        return run
    try:
        run.open(fresh, screen)
    except UserError as error:
        return run.failure(error)
    if run.cells:
        executor.submit(run)
        run.executor = executor.name
    return run


def _accept(executor: Executor) -> None:
    """Commit the next cell; the first error of a run ends it."""
    run, measured = executor.next()
    try:
        if isinstance(measured, UserError):
            raise measured
        run.accept(measured)
    except UserError as error:
        run.error = run.error or error
        executor.drop(run)


def _finished(run: Run | Failure) -> Finished | Part | Failure:
    if isinstance(run, Failure):
        return run
    with closing(run):
        try:
            if run.error is not None:
                raise run.error
            if (record := run.finish()) is None:
                return Part(run.plan, run.store.folder, len(run.part), run.training)
            return Finished(run.plan, record, run.store.folder, run.training)
        except UserError as error:
            return run.failure(error)


def _runs(job: Job, prepared: Prepared, out: Path, screen: Screen) -> Iterator[Run | Failure]:
    """Each training of each model through each suite."""
    request, plans = job.request, prepared.plans
    for model, group in groupby(range(len(plans)), key=lambda number: plans[number].model):
        members = list(group)
        seen: set[str] = set()
        for turn, training in enumerate(request.trainings):
            named = models.named(str(model), training)
            try:
                ready = prepared.ready(model, training)
            except UserError as error:
                yield from (Failure(named, plans[number].suite.name, error) for number in members)
                continue
            if ready.checksum in seen:
                screen.note(f"{model} has its own weights, which no seed changes: it is run once")
                break
            seen.add(ready.checksum)
            for number in members:
                planned, shard = plans[number], request.shard
                part = None if shard is None else shard.of(planned.conditions, turn * len(plans) + number)
                try:
                    inputs, images = prepared.inputs(number, training)
                    yield Run(inputs, images, out, replace(job, number=number, training=training), part)
                except UserError as error:
                    yield Failure(named, planned.suite.name, error)


def model(request: RunRequest, dataset: Dataset, screen: Screen, provider: Provider) -> nn.Module:
    """The model that is named first, with its weights, as runs predict with it, on the CPU."""
    provide = provider(request, dataset, pick_device(request.device), screen)
    split = partial(plan.read, request)
    chosen = plan.resolved(request.models[0])
    return device.prepared(models.ready(chosen, dataset, request.weights, provide, split=split).module)


def predictor(
    request: RunRequest, dataset: Dataset, screen: Screen, provider: Provider, batch_size: int = 100
) -> Predictor:
    """The model that is named first on the requested device, with the requested number of draws, or its own."""
    module = model(request, dataset, screen, provider).to(pick_device(request.device))
    own, entry = traits(module), plan.resolved(request.models[0]).entry
    return Predictor(module, entry, dataset.task, [own.draws(request.draws)], own.stochastic, "float32", batch_size)
