"""A network disturbed at one location, by any amount: the conditions of a sweep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from stressbench import passes, randomness
from stressbench.passes import Place

Disturbance = Literal["own", "dropout", "noise"]

Change = Callable[[Tensor], Tensor]


def change(disturbance: str, rate: float) -> Change:
    """What dropout of a rate, or Gaussian noise of a standard deviation, makes of a tensor."""
    if disturbance == "dropout":
        return lambda x: randomness.dropout(x, rate)
    return lambda x: x + rate * randomness.normal_like(x)


class Disturbed(nn.Module):
    """A deterministic network whose draws have the tensor at one place changed; what is before it runs once."""

    stochastic = True

    def __init__(self, module: nn.Module, place: Place, change: Change) -> None:
        super().__init__()
        self.module, self._place, self._change = module, place, change

    def forward(self, images: Tensor) -> Tensor:
        return passes.changed(self.module, images, self._place, self._change)

    def draws(self, images: Tensor, n: int) -> Tensor:
        return passes.changed(self.module, images, self._place, self._change, n)
