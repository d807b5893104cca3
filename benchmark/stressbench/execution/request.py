"""What a person asked for, from the command line, a sweep or Python: plain values, which can travel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stressbench.contracts import Condition, Dataset, Suite
from stressbench.record import Precision
from stressbench.registry import ResolvedModel

Stress = Literal["official", "generated"]

ALL = "all"  # in place of a suite's name: every suite that the dataset supports


@dataclass(frozen=True)
class Shard:
    """Part `index` = 1 … `count` of all cells, for several processes that know nothing of each other."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def of(self, conditions: Sequence[Condition], place: int) -> list[Condition]:
        """The conditions of the run in this place of all runs that are in this part.

        Each run starts with another part, so that many runs with few conditions are spread evenly, too.
        """
        return [condition for i, condition in enumerate(conditions, start=place) if i % self.count == self.index - 1]


@dataclass(frozen=True)
class RunRequest:
    """What a person asked for, as the command line has it; None where they left the choice to us."""

    suites: Sequence[str | Suite]  # `ALL` alone, or names and suites
    models: Sequence[str | ResolvedModel]
    dataset: str | Dataset
    data_dir: Path | None = None
    dataset_name: str | None = None
    suite_options: Mapping[str, str] = field(default_factory=dict)  # each goes to the suites that have it
    stress: Stress | None = None
    weights: Sequence[Path] = ()
    draws: int | None = None
    sizes: Sequence[int] = ()
    limit: int | None = None
    batch_size: int | None = None
    seed: int = 0
    precision: Precision = "float32"
    compiled: bool = False  # whole batches by torch.compile
    device: str | None = None
    trainings: Sequence[int] = (0,)  # which trainings of each model
    shard: Shard | None = None  # which part of the cells; None for all
    names: Sequence[str] = ()  # what records call each model beside its spec; empty for nothing
    timeout: float | None = None  # seconds that a model, or a condition of it, may take


@dataclass(frozen=True)
class Computing:
    """Who computes the cells."""

    executor: Literal["local", "ray"] = "local"
    workers: int | None = None
    address: str | None = None  # of a Ray cluster
