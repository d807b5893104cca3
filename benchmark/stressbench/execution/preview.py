"""What runs would do, without training, measuring or writing anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from stressbench import held_out
from stressbench._util.terminal import Screen
from stressbench.contracts import Condition, Dataset, InMemory, traits
from stressbench.errors import UserError
from stressbench.execution import models, session
from stressbench.execution.identity import draws_of
from stressbench.execution.plan import Failure, Plan
from stressbench.execution.prepare import Job, Prepared, Provider, require_supported, scored
from stressbench.execution.request import RunRequest
from stressbench.execution.store import Store
from stressbench.results.tables import Damaged
from stressbench.spec import slug


@dataclass(frozen=True)
class Preview:
    """One model through one suite, as it would be run."""

    plan: Plan
    parameters: int
    draws: int
    weights: str
    """Where they are from, or that they are trained first."""
    folder: Path | None
    """The run folder; None where its name follows from what is still to be made or read."""
    done: int
    """How many conditions are in the folder already."""

    def lines(self, out: Path) -> Iterator[str]:
        """The preview in words; `out` is the folder of run folders."""
        plan, data = self.plan, self.plan.dataset
        total = sum(map(plan.images, plan.conditions))
        draws = f"{self.draws} draw{'s' * (self.draws > 1)} of each"
        folder = self.folder or f"{out / slug(plan.title)}-…, ending in 8 digits that the images and weights decide"
        yield f"{plan.model} · {plan.suite.name}"
        yield f"  images      {plan.n:,} of {data.name}, {data.split} split, {plan.stress} stress"
        yield f"  conditions  {len(plan.conditions):,}, together {total:,} images, {draws}"
        yield f"  model       {self.parameters:,} parameters, on {plan.device.type} in {plan.precision}"
        yield f"  weights     {self.weights}"
        yield f"  folder      {folder}"
        if self.done:
            yield f"              {self.done:,} of {len(plan.conditions):,} conditions are there already"


def preview(request: RunRequest, out: Path, screen: Screen, finder: Provider) -> Iterator[Preview | Failure]:
    """What `session.run` would do, model by model and suite by suite; `finder` finds weights and trains none.

    Raises `UserError` for what is wrong with the request.
    """
    dataset, asked = session.planned(request, out, screen)
    yield from asked.failures
    if not asked.plans:
        return
    device = asked.plans[0].device
    find = finder(request, dataset, device, screen)
    prepared = Prepared(Job(replace(request, device=str(device)), finder), dataset, asked.plans, Screen(quiet=True))
    for number, plan in enumerate(asked.plans):
        try:
            yield _preview(prepared, number, request, dataset, out, find)
        except UserError as error:
            yield Failure(str(plan.model), plan.suite.name, error)


def _preview(
    prepared: Prepared, number: int, request: RunRequest, dataset: Dataset, out: Path, find: models.Provide
) -> Preview:
    plan = prepared.plans[number]
    module = plan.model.build(dataset)
    require_supported([plan], module)
    try:
        _, _, loaded = models.load(module, plan.model, dataset, request.weights, find)
        weights = "; ".join(dict.fromkeys(source for source, _ in loaded))
    except models.ToBeTrained as missing:
        loaded, weights = (), str(missing)
    learning = models.to_be_fitted(module)
    plan = scored(plan, any(inner.fitted_on in held_out.SPLITS for inner in learning))
    folder, done = None, 0
    # Other images may be decoded into a cache on disk, and fitting takes its time.
    if loaded and not learning and _at_hand(plan):
        inputs, _ = prepared.inputs(number, training=0)
        store = Store.of(out, plan.title, inputs.identity())
        folder, done = (
            store.folder,
            sum(_finished(store, condition, plan.rows(condition)) for condition in plan.conditions),
        )
    return Preview(
        plan=plan,
        parameters=sum(p.numel() for p in module.parameters()),
        draws=draws_of(plan, traits(module)),
        weights=weights,
        folder=folder,
        done=done,
    )


def _at_hand(plan: Plan) -> bool:
    """Whether all images of a plan are in memory."""
    datasets = [plan.dataset, *plan.sources.values(), *([] if plan.fitted is None else [plan.fitted])]
    return all(isinstance(one.images, InMemory) for one in datasets)


def _finished(store: Store, condition: Condition, rows: int) -> bool:
    try:
        return store.read(condition, rows) is not None
    except Damaged:
        return False
