"""A model's name → the module with its weights, ready to predict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from stressbench import registry, weights
from stressbench.contracts import Dataset
from stressbench.registry import Entry
from stressbench.spec import Spec


@dataclass(frozen=True)
class Ready:
    """A module with its weights, and what a record says of it."""

    module: nn.Module
    spec: Spec
    entry: Entry
    stochastic: bool
    default_draws: int
    parameters: int
    checksum: str
    weights_source: str


def ready(
    spec: Spec, dataset: Dataset, file: Path | None, train: Callable[[Spec, Callable[[], nn.Module]], None]
) -> Ready:
    """Build a model and give it weights: from `file`, else the store, else as its plugin made them.

    Where the store has none, `train` gets a function that builds the module anew and must leave them there, or refuse.
    Raises `UserError` for weights that do not fit.
    """
    entry = registry.find("models", spec.name)
    module = registry.model(str(spec), dataset)
    source = "the plugin's own"
    if file is not None:
        weights.load(module, file)
        source = f"file {file.name}"
    elif getattr(module, "untrained", False):
        stored = weights.stored(dataset.name, str(spec), seed=0)
        if not stored.exists():
            train(spec, lambda: registry.model(str(spec), dataset))
        weights.load(module, stored)
        source = "trained here, seed 0"
    stochastic = bool(getattr(module, "stochastic", False))
    return Ready(
        module=module,
        spec=spec,
        entry=entry,
        stochastic=stochastic,
        default_draws=int(getattr(module, "default_draws", 1)),
        parameters=sum(p.numel() for p in module.parameters()),
        checksum=weights.checksum(module),
        weights_source=source,
    )
