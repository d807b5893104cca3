"""A request and its plans → the inputs of each of its runs, in whichever process computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from stressbench import held_out
from stressbench._util.terminal import Screen
from stressbench.contracts import Dataset
from stressbench.datasets.cache import ImageCache
from stressbench.errors import UserError, plugin_errors
from stressbench.execution import models, plan
from stressbench.execution.identity import Inputs, identify
from stressbench.execution.limits import limited
from stressbench.execution.models import Provide, Ready
from stressbench.execution.plan import Plan
from stressbench.execution.request import RunRequest
from stressbench.registry import ResolvedModel

# From a request, its dataset, its device and the screen to what provides weights: from the store, or by training.
Provider = Callable[[RunRequest, Dataset, torch.device, Screen], Provide]


@dataclass(frozen=True)
class Job:
    """One run of a request: plain values, from which another process builds the same."""

    request: RunRequest
    provider: Provider
    number: int = 0
    """Of the plan, among the request's."""
    training: int = 0
    """Which one of the model."""


class Prepared:
    """The models and images of a request's runs; each split of a dataset is read once, and the last model is kept."""

    def __init__(self, job: Job, dataset: Dataset, plans: Sequence[Plan], screen: Screen) -> None:
        self.plans = plans
        self._request, self._dataset, self._screen = job.request, dataset, screen
        self._provide = job.provider(job.request, dataset, plans[0].device, screen)
        self._caches: dict[tuple[str, str, int, int], ImageCache] = {}
        self._last: tuple[ResolvedModel, int, Ready] | None = None

    @classmethod
    def of(cls, job: Job, screen: Screen) -> Prepared:
        """The same from a job alone; raises `UserError` where the request is wrong here."""
        dataset = plan.read(job.request, "test")
        return cls(job, dataset, plan.make(job.request, dataset).plans, screen)

    def ready(self, model: ResolvedModel, training: int) -> Ready:
        """A training of a model with its weights; raises `UserError` where there are none."""
        if self._last is None or self._last[0] is not model or self._last[1] != training:
            with limited(self._request.timeout, f"{model}: its construction or training"):
                split = partial(plan.read, self._request)
                ready = models.ready(
                    model, self._dataset, self._request.weights, self._provide, training, split, self._require(model)
                )
            self._last = (model, training, ready)
        return self._last[2]

    def inputs(self, number: int, training: int) -> tuple[Inputs, dict[str | None, ImageCache]]:
        """The inputs of a plan's run, and its images; raises `UserError` where images or weights are not right."""
        planned = self.plans[number]
        ready = self.ready(planned.model, training)
        require_supported([planned], ready.module)
        planned = scored(planned, ready.held_out)
        images = self._images(planned)
        return identify(planned, ready, images), images

    def _require(self, model: ResolvedModel) -> Callable[[nn.Module], None]:
        """Refuses a module that no suite of its plans supports, before it is trained for them."""
        return partial(require_supported, [planned for planned in self.plans if planned.model is model])

    def _images(self, planned: Plan) -> dict[str | None, ImageCache]:
        """A run's own images, by None; those of the sources of its conditions, by name; what it learns from: `FITTED`.

        All images of the last are used, whatever the limit.
        """
        fitted = planned.fitted
        return {
            None: self._cache(planned.dataset, planned.n, planned.device),
            **{
                name: self._cache(source, plan.count(source, planned.limit), planned.device)
                for name, source in planned.sources.items()
            },
            **({} if fitted is None else {plan.FITTED: self._cache(fitted, len(fitted.images), planned.device)}),
        }

    def _cache(self, dataset: Dataset, n: int, device: torch.device) -> ImageCache:
        key = (dataset.name, dataset.split, len(dataset.images), n)
        if key not in self._caches:
            self._caches[key] = ImageCache(dataset, n, device, self._screen)
        return self._caches[key]


def require_supported(plans: Sequence[Plan], module: nn.Module) -> None:
    """Raises `UserError` where the suites of all these plans, which are of one model, do not support its module."""
    whys = []
    for planned in plans:
        with plugin_errors(f"{planned.suite_entry} failed to say whether it supports {planned.model}"):
            whys.append(planned.suite.unsupported_model(module))
    if plans and all(whys):
        names = " and ".join(planned.suite.name for planned in plans)
        suites = f"the {names} suite does" if len(plans) == 1 else f"the suites {names} do"
        raise UserError(f"{suites} not support {plans[0].model}: {whys[0]}")


def scored(planned: Plan, fitted: bool) -> Plan:
    """The plan on what is left of the test images where the suite, or the model that is `fitted`, learns from some."""
    if not fitted and planned.suite.fitted_on not in held_out.SPLITS:
        return planned
    left = held_out.rest(planned.dataset)
    assert isinstance(left.images, held_out.Selected), "of `rest`"
    archive = None if planned.archive is None else held_out.SelectedArchive(planned.archive, left.images.rows)
    n = planned.suite.take(plan.count(left, planned.limit))
    return replace(planned, dataset=left, archive=archive, n=n)
