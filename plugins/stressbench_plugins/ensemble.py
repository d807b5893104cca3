"""Ensembles: models of the same task that are trained apart and predict together.

`ensemble:resnet18,size=5` is a deep ensemble (Lakshminarayanan et al., 2017): the trainings of seeds 0 … 4. Names
joined by + make a mixed one: `ensemble:resnet18+vgg16` has seed 0 of each, and `size` counts the seeds of each name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from stressbench import randomness, registry
from stressbench.contracts import Dataset, Part, Wrapper, traits
from stressbench.errors import UserError
from stressbench.registry import ModelName
from stressbench.sampling import sample
from stressbench.spec import parse, split

SIZE = 5  # of a deep ensemble, unless it is given


class Ensemble(nn.Module):
    """Draw s is a pass of member s mod M, of M members; where members are stochastic it is their draw s div M.

    So an ensemble of MC dropout networks goes round its members, each time with new masks; each member's masks are
    its own. Of deterministic members there are M draws and no more. A single call outside of any draw is member 0's.
    """

    stochastic = True

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__()
        self._parts = tuple((part.spec, part.seed) for part in parts)
        self.members = nn.ModuleList(part.module for part in parts)
        own = [traits(member) for member in self.members]
        limits = [of_member.max_draws for of_member in own]
        wanted = max(of_member.default_draws for of_member in own)
        self.max_draws: int | None = None
        if None in limits:
            self.default_draws = len(parts) * math.ceil(wanted / len(parts))
        else:
            self.default_draws = self.max_draws = len(parts) * max(limit or 1 for limit in limits)

    def parts(self) -> list[Part]:
        return [Part(spec, seed, member) for (spec, seed), member in zip(self._parts, self.members, strict=True)]

    def each(self, wrap: Callable[[nn.Module, str], nn.Module], name: Callable[[str], str]) -> Ensemble:
        """The ensemble of the wrapped members: `wrap` gets a member and its spec, `name` makes the wrapped one's."""
        return joined([Part(name(part.spec), part.seed, wrap(part.module, part.spec)) for part in self.parts()])

    def forward(self, images: Tensor) -> Tensor:
        turn, member = divmod(randomness.draw_index(), len(self.members))
        with randomness.redraw(turn, part=member):
            logits: Tensor = self.members[member](images)
        return logits

    def draws(self, images: Tensor, n: int) -> Tensor:
        """Member by member, so that each can make its own draws as it does best."""
        draws: dict[int, Tensor] = {}
        for member, module in enumerate(self.members[:n]):  # of fewer draws than members, the rest has no turn
            turns = range(member, n, len(self.members))
            with randomness.redraw(0, part=member):
                draws.update(zip(turns, sample(module, images, len(turns)), strict=True))
        return torch.stack([draws[s] for s in range(n)])


class WrappedEnsemble(Ensemble):
    """An ensemble of which each member disturbs another model."""

    @property
    def unwrapped(self) -> Ensemble:
        """The ensemble of the members without their disturbance."""
        return Ensemble([Part(part.spec, part.seed, cast(Wrapper, part.module).unwrapped) for part in self.parts()])


def joined(parts: Sequence[Part]) -> Ensemble:
    """The ensemble of some models, which can be unwrapped where each of them can."""
    return (WrappedEnsemble if all(isinstance(part.module, Wrapper) for part in parts) else Ensemble)(parts)


def ensemble(dataset: Dataset, argument: ModelName, size: int | None = None) -> nn.Module:
    """One name: seeds 0 … size − 1, five of them by default. Several, joined by +: so many seeds of each, 1 by default.

    Members are in the order of their seeds, and of their names for each seed, so that fewer draws mix them too.
    Raises `UserError` for a size below 1, a name that is given twice, or an ensemble inside.
    """
    names = [str(parse(name)) for name in split(argument, "+")]
    if len(set(names)) < len(names):
        raise UserError(f"ensemble:{argument} names a model twice: name it once and give size=2 for two seeds of each")
    size = (SIZE if len(names) == 1 else 1) if size is None else size
    if size < 1:
        raise UserError(f"invalid size={size}: expected 1 or more")
    members = [Part(name, seed, registry.model(name, dataset)) for seed in range(size) for name in names]
    for member in members:
        if isinstance(member.module, Ensemble):
            raise UserError(f"ensemble:{argument} has an ensemble inside: join all names with + in one ensemble")
    return joined(members)
