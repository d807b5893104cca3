"""A model's name → the module with its weights, ready to predict."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from stressbench import registry, weights
from stressbench.contracts import Composite, Dataset, Finite, Part
from stressbench.errors import UserError
from stressbench.registry import Entry
from stressbench.spec import Spec, parse, slug

# Given a part's spec, its seed, and what builds it anew: sees to it that its weights are in the store and returns their
# file, or raises `UserError`.
Provide = Callable[[str, int, Callable[[], nn.Module]], Path]


@dataclass(frozen=True)
class Ready:
    """A module with its weights, and what a record says of it."""

    module: nn.Module
    spec: Spec
    plugins: Sequence[Entry]  # that the spec names, the outermost first
    stochastic: bool
    default_draws: int
    most_draws: int | None
    parameters: int
    checksum: str
    weights_source: str
    origins: tuple[str, ...]  # of the parts that say where they are from

    @property
    def entry(self) -> Entry:
        """The outermost plugin, which errors and records name."""
        return self.plugins[0]


def ready(spec: Spec, dataset: Dataset, files: Sequence[Path], provide: Provide, training: int = 0) -> Ready:
    """Build a model and give it weights: from `files`, else the store, else as its plugin made them.

    A model made of models takes a file for each of its parts, in their order. One folder may stand for all: it holds
    seed0.safetensors, seed1.safetensors, …, or, for parts with different names, such a folder for each, as the store
    does. What the store has to have, `provide` sees to.

    Training k of a model has its own seeds: seed k, or, of an ensemble of seeds 0 … M − 1, the seeds kM … kM + M − 1,
    so that two trainings share nothing.

    Raises `UserError` for weights that are missing, do not fit, or are the same in two members.
    """
    module = registry.model(str(spec), dataset)
    fault = f"{registry.origin(module)} does not say what it is made of and how it is drawn from"
    with registry.blamed(fault):
        parts = list(_leaves(Part(str(spec), 0, module)))
        stochastic = bool(getattr(module, "stochastic", False))
        default_draws = int(getattr(module, "default_draws", 1))
        most_draws = module.most_draws if isinstance(module, Finite) else None
    span = 1 + max(part.seed for part in parts)
    parts = [Part(part.spec, part.seed + training * span, part.module) for part in parts]
    sources = [
        _load(part, file, dataset, provide) for part, file in zip(parts, _files(spec, parts, files), strict=True)
    ]
    _require_different(spec, parts)
    return Ready(
        module=module,
        spec=spec,
        plugins=registry.plugins(str(spec)),
        stochastic=stochastic,
        default_draws=default_draws,
        most_draws=most_draws,
        parameters=sum(p.numel() for p in module.parameters()),
        checksum=weights.checksum(module),
        weights_source=textwrap.shorten("; ".join(dict.fromkeys(sources)), 300, placeholder=" …"),
        origins=tuple(dict.fromkeys(str(part.module.origin) for part in parts if hasattr(part.module, "origin"))),
    )


def named(spec: str, seed: int) -> str:
    """A training of a model, for a person; seed 0 goes without saying."""
    return f"{spec} (seed {seed})" if seed else spec


def _leaves(whole: Part) -> Iterator[Part]:
    """The parts that have weights, in their order: the model itself where it is not made of others."""
    if not isinstance(whole.module, Composite):
        yield Part(str(parse(whole.spec)), whole.seed, whole.module)
        return
    for part in whole.module.parts():
        yield from _leaves(Part(part.spec, whole.seed + part.seed, part.module))


def _files(spec: Spec, parts: Sequence[Part], given: Sequence[Path]) -> Sequence[Path | None]:
    """The file of each part; None for those that the store is asked for."""
    if not given:
        return [None] * len(parts)
    if len(given) == 1 and given[0].is_dir():
        several = len({part.spec for part in parts}) > 1
        folders = [given[0] / slug(registry.pinned(part.spec)) if several else given[0] for part in parts]
        return [folder / f"seed{part.seed}.safetensors" for folder, part in zip(folders, parts, strict=True)]
    if len(given) != len(parts):
        wanted = ", ".join(f"{part.spec} (seed {part.seed})" for part in parts)
        raise UserError(
            f"{spec} takes {len(parts)} weights files and {len(given)} are given: give --weights once for each of "
            f"{wanted}, in this order, or once with a folder of seed0.safetensors and so on"
        )
    return given


def _load(part: Part, file: Path | None, dataset: Dataset, provide: Provide) -> str:
    """Give a part its weights; returns where they are from."""
    if file is not None:
        weights.load(part.module, file)
        return f"file {file.name}"
    if not getattr(part.module, "untrained", False):
        return str(getattr(part.module, "origin", "the plugin's own"))
    stored = provide(part.spec, part.seed, lambda: registry.model(part.spec, dataset))
    weights.load(part.module, stored)
    return f"trained here, seed {part.seed}{_training(weights.metadata(stored))}"


def _training(told: Mapping[str, str]) -> str:
    """How long a training was, as its file tells: a benchmark of networks that hardly learned must say that it is."""
    if not {"recipe", "epochs"} <= told.keys():
        return ""
    return f", recipe {told['recipe']}, {told['epochs']} epoch{'' if told['epochs'] == '1' else 's'}"


def _require_different(spec: Spec, parts: Sequence[Part]) -> None:
    """Members that are copies of each other would make an ensemble that is none, and nothing would show it."""
    seen: dict[tuple[str, str], Part] = {}
    for part in parts if len(parts) > 1 else ():
        twin = seen.setdefault((part.spec, weights.checksum(part.module)), part)
        if twin is not part:
            raise UserError(
                f"{spec} has the same weights for two members, {part.spec} with seeds {twin.seed} and {part.seed}: "
                "give each its own with --weights"
            )
