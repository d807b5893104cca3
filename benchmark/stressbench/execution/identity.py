"""A plan, its model and its images → what decides a run's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stressbench.contracts import Dataset, Regression, Traits
from stressbench.datasets.cache import ImageCache
from stressbench.errors import UserError
from stressbench.execution.models import Ready
from stressbench.execution.plan import FITTED, Plan
from stressbench.record import DatasetInfo


@dataclass(frozen=True)
class Inputs:
    """All that a run is made from."""

    plan: Plan
    ready: Ready
    data: DatasetInfo
    sources: Sequence[DatasetInfo]
    """The other datasets that conditions take their images from, and the one that the suite is fitted on."""
    draws: int
    """The record's number of draws: a single one of a deterministic model, whose draws are all the same."""
    curve: Sequence[int]
    """The numbers of draws of the curves; empty for none."""

    @property
    def sizes(self) -> list[int]:
        """The numbers of draws that there are tables of, ascending."""
        return sorted({*self.curve, self.draws})

    def identity(self) -> dict[str, Any]:
        """All that decides the tables. The batch size does not, and a baseline changes only what is made from them."""
        plan, ready = self.plan, self.ready
        return {
            "suite": {
                "name": plan.suite.name,
                "version": plan.suite.version,
                "distribution": plan.suite_entry.distribution,
                "options": {k: v for k, v in plan.suite_options.items() if k not in plan.suite.scoring_options},
                "conditions": [dict(condition) for condition in plan.conditions],
            },
            "dataset": self.data.content,
            **({"official files": dict(plan.archive.digests)} if plan.archive is not None else {}),
            **({"sources": [source.content for source in self.sources]} if self.sources else {}),
            "model": {
                "spec": plan.model.canonical,
                # The wrapped ones too: what any of them computes may change with its version.
                "plugins": [[plugin.name, plugin.distribution, plugin.version] for plugin in ready.model.plugins],
                "weights": ready.checksum,
                **({"sources": list(ready.sources)} if ready.sources else {}),
                **({"fitted": list(ready.fitted)} if ready.fitted else {}),
            },
            "draws": self.draws,
            "sizes": self.curve,
            "seed": plan.seed,
            "precision": plan.precision,
            **({"compiled": True} if plan.compiled else {}),
            "device": plan.device.type,
            **(
                {}
                if plan.suite.rows == "image"
                else {"images in a row": [plan.step(condition) for condition in plan.conditions]}
            ),
        }


def identify(plan: Plan, ready: Ready, images: Mapping[str | None, ImageCache]) -> Inputs:
    """The inputs of a run; `images` are its own, by None, and those of its sources, by name.

    Raises `UserError` for more draws than the model has, and where it is to be compiled and cannot be.
    """
    if plan.compiled and ready.traits.stochastic:
        raise UserError(
            f"{plan.model} is stochastic, and only networks without random draws are compiled: leave --compile out"
        )
    others = plan.sources if plan.fitted is None else {**plan.sources, FITTED: plan.fitted}
    return Inputs(
        plan=plan,
        ready=ready,
        data=_dataset_info(plan.dataset, images[None], plan),
        sources=[_dataset_info(other, images[name], plan) for name, other in others.items()],
        draws=draws_of(plan, ready.traits),
        curve=plan.sizes if ready.traits.stochastic else (),
    )


def draws_of(plan: Plan, traits: Traits) -> int:
    """How many draws a plan's run makes; raises `UserError` for more than the model has."""
    draws = plan.draws or traits.draws(plan.suite.draws) if traits.stochastic else 1
    if traits.max_draws is not None and draws > traits.max_draws:
        option = "--sizes" if plan.sizes else "--draws"
        raise UserError(
            f"{plan.model} has {traits.max_draws} draws and {option} asks for {draws}: more would repeat them"
        )
    return draws


def _dataset_info(dataset: Dataset, images: ImageCache, plan: Plan) -> DatasetInfo:
    return DatasetInfo(
        name=dataset.name,
        split=dataset.split,
        n=len(images),
        fingerprint=images.fingerprint,
        altered=dataset.altered,
        stress=plan.stress,
        stress_verified=None if plan.archive is None else plan.archive.verified,
        published=dataset.published,
        classes=None if isinstance(dataset.task, Regression) else dataset.classes,
        image_size=dataset.image_size,
        task=dataset.task.name,
    )
