"""Optional attributes and methods of a model; `contracts` exports them to plugins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stressbench.contracts import Dataset


@dataclass(frozen=True)
class Traits:
    """Properties that a module may declare by attributes of these names; `traits` reads them.

    A `torch.nn.Module` without any is a trained, deterministic model. It takes images (N, 3, H, W), float in [0, 1],
    normalises them itself, and returns the outputs of the dataset's task, such as logits (N, C). The harness calls
    `.eval()` on it once, before anything else.
    """

    stochastic: bool = False
    """Whether two passes differ. Random numbers must come from `stressbench.randomness` or torch's generator."""
    default_draws: int = 1
    """Passes for one prediction unless `--draws` is given."""
    max_draws: int | None = None
    """The number of different draws, such as an ensemble's members; None if there is no limit."""
    untrained: bool = False
    """Whether its weights are only initialised, so that the harness must load or train some."""
    source: str | None = None
    """What else determines its outputs beside plugin and weights, such as a library's version."""
    frame_weights: tuple[float, ...] = (1.0,)
    """For video: a frame's prediction is the mean of its own and those of the frames before it, by these weights."""

    def draws(self, wanted: int | None = None) -> int:
        """The number of draws to make if `wanted` are requested, or by default; 1 for a deterministic model."""
        if not self.stochastic:
            return 1
        return min(wanted or self.default_draws, self.max_draws or math.inf)  # type: ignore[return-value]


def traits(module: nn.Module) -> Traits:
    """The traits that a module declares; raises ValueError for an invalid number of draws or source.

    >>> import torch
    >>> traits(torch.nn.Identity()).draws(10)
    1
    """
    given = declared(module)
    for name in ("default_draws", "max_draws"):
        value = given[name]
        if not (name == "max_draws" and value is None) and (type(value) is not int or value < 1):
            raise ValueError(f"{name} is {value!r}; it must be a number from 1")
    if not isinstance(given["source"], str | None):
        raise ValueError(f"source is a {type(given['source']).__name__}; it must be a text")
    found = Traits(**given)
    return found if found.stochastic else replace(found, max_draws=1)


def declared(module: object) -> dict[str, Any]:
    """The attributes of a module that `traits` reads, by name, valid or not; the default where it has none."""
    return {field.name: getattr(module, field.name, field.default) for field in fields(Traits)}


@dataclass(frozen=True)
class Part:
    """A model inside a model, such as a member of an ensemble or a wrapped model. It may have parts itself."""

    spec: str
    """Its name with options; its weights are stored under it."""
    seed: int
    """Which of its trainings; seeds of inner parts count from the outer part's."""
    module: nn.Module


@runtime_checkable
class Composite(Protocol):
    """A module made of models. All its weights belong to its parts, in this order."""

    def parts(self) -> Sequence[Part]: ...


@runtime_checkable
class Sampler(Protocol):
    """A module that makes n draws faster than by n passes."""

    def draws(self, images: Tensor, n: int) -> Tensor:
        """Logits (n, N, C) of n draws for images (N, 3, H, W).

        Draw s must equal a pass inside `randomness.redraw(s)`, so that fewer draws are the first of more.
        """
        ...


@runtime_checkable
class Wrapper(Protocol):
    """A module that disturbs another one, which is also evaluated alone to measure the cost of the disturbance."""

    @property
    def unwrapped(self) -> nn.Module: ...


@runtime_checkable
class Fitted(Protocol):
    """A module, or a part of one, that learns something from images once its weights are there."""

    fitted_on: str
    """The split that it learns from: `"train"`, or one of `held_out.SPLITS`, test images that are then not scored."""

    def fit(self, data: Dataset) -> str:
        """Fit it, once, to that split; returns what was found and on what, which the record keeps."""
        ...


@runtime_checkable
class KeptFit(Fitted, Protocol):
    """A `Fitted` whose fit the harness keeps for other runs with the same weights and images, by the next members."""

    fit_version: str | None
    """Of `fit`'s code, with all options that decide what it finds: another text is another fit. None to keep none."""

    def evidence(self, data: Dataset) -> Tensor:
        """What `fit` would learn from, of the first images of the split: a kept fit is used only where it is equal."""
        ...

    def found(self) -> Mapping[str, Tensor]:
        """What `fit` has found, by name."""
        ...

    def restore(self, found: Mapping[str, Tensor]) -> None:
        """Become as `fit` left the module that returned `found`."""
        ...
