"""One architecture, four models: plain, smooth, MC dropout, and MC dropout with smoothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from stressbench.contracts import Dataset
from stressbench_plugins.layers import TEMPERATURE

# Images with a shorter side up to this are CIFAR-like (Tiny ImageNet's 64 too): a network must not shrink them at once.
SMALL = 64
# Passes of an MC dropout network for one prediction.
DRAWS = 50


def large(dataset: Dataset) -> bool:
    """Whether the images call for what the family does on ImageNet (stem, dropout rate), not what it does on CIFAR."""
    return min(dataset.image_size) > SMALL


@dataclass(frozen=True)
class Variant:
    """What is added to an architecture; None leaves it out."""

    temperature: float | None = None  # Smooth with this τ after every stage
    rate: float | None = None  # MC dropout at this rate

    @property
    def stochastic(self) -> bool:
        return self.rate is not None

    @property
    def default_draws(self) -> int:
        return DRAWS if self.stochastic else 1


def variants(
    build: Callable[[Dataset, Variant], nn.Module], default_rate: Callable[[Dataset], float]
) -> tuple[
    Callable[[Dataset], nn.Module],
    Callable[[Dataset, float], nn.Module],
    Callable[[Dataset, float | None], nn.Module],
    Callable[[Dataset, float | None, float], nn.Module],
]:
    """The plain, smooth, MC dropout, and smooth MC dropout models of an architecture, as entry points want them.

    `build` makes the module for a dataset. `default_rate` is the dropout rate for a dataset when the user gives none.
    """

    def choose(dataset: Dataset, rate: float | None) -> float:
        return default_rate(dataset) if rate is None else rate

    def plain(dataset: Dataset) -> nn.Module:
        return build(dataset, Variant())

    def smooth(dataset: Dataset, temperature: float = TEMPERATURE) -> nn.Module:
        return build(dataset, Variant(temperature=temperature))

    def mcdo(dataset: Dataset, rate: float | None = None) -> nn.Module:
        return build(dataset, Variant(rate=choose(dataset, rate)))

    def mcdo_smooth(dataset: Dataset, rate: float | None = None, temperature: float = TEMPERATURE) -> nn.Module:
        return build(dataset, Variant(temperature=temperature, rate=choose(dataset, rate)))

    return plain, smooth, mcdo, mcdo_smooth
