"""One architecture, four models: plain, smooth, MC dropout, and MC dropout with smoothing; and the options of each."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from stressbench.contracts import Dataset
from stressbench.errors import UserError
from stressbench_plugins.heads import HeadName
from stressbench_plugins.layers import MCDropout, ProbName, Smooth

# Images with a shorter side up to this are CIFAR-like (Tiny ImageNet's 64 too): a network must not shrink them at once.
SMALL = 64
# Passes of an MC dropout network for one prediction.
DRAWS = 50

# The options of the models that have Smooth layers, and of those that have MC dropout.
_SMOOTH = ("prob", "temperature", "kernel", "stages")
_DROPOUT = ("rate",)


def large(dataset: Dataset) -> bool:
    """Whether the images call for what the family does on ImageNet (stem, dropout rate), not what it does on CIFAR."""
    return min(dataset.image_size) > SMALL


def usual_rate(dataset: Dataset) -> float:
    """The paper's dropout rate for all but AlexNet: 5 % on ImageNet, 30 % on CIFAR."""
    return 0.05 if large(dataset) else 0.3


@dataclass(frozen=True)
class Variant:
    """How an architecture is to be built: a model's options, with their defaults."""

    head: HeadName
    stages: str | None  # how many Smooth follow each stage, a digit for each; None for none at all
    rate: float | None = None  # of MC dropout; None leaves it out
    activation: Literal["relu", "relu6"] = "relu"
    downsample: Literal["stride", "blurpool"] = "stride"
    normalisation: Literal["dataset", "imagenet"] = "dataset"  # whose mean and std the input is normalised with
    prob: ProbName = "tanh"
    temperature: float | None = None  # τ; None for what `prob` has by default
    kernel: int = 2
    width: int = 64  # channels of the first stage

    @property
    def stochastic(self) -> bool:
        return self.rate is not None

    @property
    def default_draws(self) -> int:
        return DRAWS if self.stochastic else 1

    def dropout(self) -> nn.Module:
        """What stands where MC dropout may be."""
        return nn.Identity() if self.rate is None else MCDropout(self.rate)

    def smooth(self, stage: int) -> list[nn.Module]:
        """The Smooth layers after a stage, of which the first is 0."""
        count = 0 if self.stages is None else int(self.stages[stage])
        return [Smooth(self.temperature, self.prob, self.kernel) for _ in range(count)]


Model = Callable[..., nn.Module]


def variants(
    build: Callable[[Dataset, Variant], nn.Module],
    default_rate: Callable[[Dataset], float] = usual_rate,
    *,
    head: HeadName | None,
    stages: str,
    options: tuple[str, ...] = (),
) -> tuple[Model, Model, Model, Model]:
    """The plain, smooth, MC dropout, and smooth MC dropout models of an architecture, as entry points want them.

    `build` makes the module for a dataset. `default_rate`, `head` and `stages` are what its models have when the user
    chooses nothing else, `head` None where there is no choice; `options` names the fields of `Variant` that are options
    of this architecture's four models beside `head` and `activation`. Their signatures say which options a model has,
    each with its type and default.
    """
    common = (*(("head",) if head else ()), "activation", *options)
    defaults = Variant(head or "gap", stages)

    def model(*names: str) -> Model:
        smooth, dropout = "stages" in names, "rate" in names

        def make(dataset: Dataset, **given: Any) -> nn.Module:
            chosen = dataclasses.replace(defaults, **signature.bind(dataset, **given).kwargs)
            _check(chosen, len(stages))
            rate = default_rate(dataset) if chosen.rate is None else chosen.rate
            chosen = dataclasses.replace(
                chosen, rate=rate if dropout else None, stages=chosen.stages if smooth else None
            )
            net = build(dataset, chosen)
            if chosen.activation == "relu6":
                _bound_activations(net)
            return net

        # The harness types a model's options by its signature; a hand-written one for each of the four, in each
        # family, would be eight near-copies.
        signature = inspect.Signature(
            [
                inspect.Parameter("dataset", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Dataset),
                *(
                    inspect.Parameter(
                        n, inspect.Parameter.KEYWORD_ONLY, default=getattr(defaults, n), annotation=_HINTS[n]
                    )
                    for n in (*common, *names)
                ),
            ],
            return_annotation=nn.Module,
        )
        make.__signature__ = signature  # type: ignore[attr-defined]
        return make

    return model(), model(*_SMOOTH), model(*_DROPOUT), model(*_DROPOUT, *_SMOOTH)


_HINTS = typing.get_type_hints(Variant)


def _check(variant: Variant, stages: int) -> None:
    for name, hint in _HINTS.items():
        value, allowed = getattr(variant, name), typing.get_args(hint)
        if typing.get_origin(hint) is Literal and value not in allowed:
            raise UserError(f"{name}={value} is not one of {', '.join(allowed)}")
    if variant.width < 1:
        raise UserError(f"invalid width={variant.width}: expected 1 or more channels")
    if not re.fullmatch(f"[0-9]{{{stages}}}", variant.stages or ""):
        raise UserError(
            f"stages={variant.stages} does not fit: give {stages} digits, how many Smooth follow each stage, "
            f"for example {'1' * stages}"
        )


def _bound_activations(net: nn.Module) -> None:
    """Put ReLU6 in the place of every ReLU."""
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.ReLU:
                setattr(parent, name, nn.ReLU6(inplace=child.inplace))
