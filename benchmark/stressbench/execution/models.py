"""A model's name → the module with its weights, ready to predict."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from stressbench import held_out, registry, weights
from stressbench.contracts import Composite, Dataset, Fitted, Part, Traits, traits
from stressbench.errors import UserError, plugin_errors
from stressbench.execution import fits
from stressbench.execution.layout import arrange
from stressbench.recipe import training_info
from stressbench.record import TrainingInfo
from stressbench.registry import Entry, Given, ResolvedModel
from stressbench.spec import parse, slug

# From a part's spec, its seed and a builder of its module to the file of its weights, which are trained first where
# they are missing. Raises `UserError` where there can be none.
Provide = Callable[[str, int, Callable[[], nn.Module]], Path]


class ToBeTrained(UserError):
    """Of a model's part whose weights a run trains first; raised by what looks ahead and trains nothing."""


@dataclass(frozen=True)
class Ready:
    """A module with its weights, and what a record says of it."""

    module: nn.Module
    model: ResolvedModel
    traits: Traits
    parameters: int
    checksum: str
    weights_source: str
    training: tuple[TrainingInfo, ...]  # of the parts whose weights were trained by us
    sources: tuple[str, ...]  # of the parts that say where they are from
    fitted: tuple[str, ...]  # what was fitted to images
    held_out: bool  # whether some of these were test images, which are kept from the score

    @property
    def entry(self) -> Entry:
        """The outermost plugin, which errors and records name."""
        return self.model.entry


def _no_other(split: str) -> Dataset:
    raise UserError(f"a {split} split is needed here and there is none")


def _anything(module: nn.Module) -> None:
    """All modules are good."""


def ready(
    model: ResolvedModel,
    dataset: Dataset,
    files: Sequence[Path],
    provide: Provide,
    training: int = 0,
    split: Callable[[str], Dataset] = _no_other,
    require: Callable[[nn.Module], None] = _anything,
) -> Ready:
    """Build a model and give it weights: from `files`, else the store, else as its plugin made them.

    A model made of models takes a file for each of its parts, in their order. One folder may stand for all: it holds
    seed0.safetensors, seed1.safetensors, …, or, for parts with different names, such a folder for each, as the store
    does. What the store has to have, `provide` sees to. What is fitted to training images gets them from `split`.

    Training k of a model has its own seeds: seed k, or, of an ensemble of seeds 0 … M − 1, the seeds kM … kM + M − 1,
    so that two trainings share nothing.

    `require` sees the module before it has weights, and may refuse it with a `UserError`.

    Raises `UserError` for weights that are missing, do not fit, or are the same in two members.
    """
    module = model.build(dataset)
    require(module)
    own, parts, loaded = load(module, model, dataset, files, provide, training)
    for part in parts:
        arrange(part.module, dataset.image_size)
    learning = to_be_fitted(module)
    splits = {inner.fitted_on for inner in learning}
    read = {name: held_out.part(dataset, name) if name in held_out.SPLITS else split(name) for name in sorted(splits)}
    with plugin_errors(f"{registry.built_by(module)} could not be fitted to images"):
        fitted = tuple(fits.fit(inner, read[inner.fitted_on]) for inner in learning)
    return Ready(
        module=module,
        model=model,
        traits=own,
        parameters=sum(p.numel() for p in module.parameters()),
        checksum=weights.checksum(module),
        weights_source=textwrap.shorten(
            "; ".join(dict.fromkeys((*(source for source, _ in loaded), *fitted))), 300, placeholder=" …"
        ),
        training=tuple(training for _, training in loaded if training is not None),
        fitted=fitted,
        held_out=bool(splits.intersection(held_out.SPLITS)),
        sources=tuple(dict.fromkeys(str(name) for part in parts if (name := traits(part.module).source) is not None)),
    )


def to_be_fitted(module: nn.Module) -> list[Fitted]:
    """The parts of a module that are fitted to images; what is inside of another is fitted first."""
    return [inner for inner in reversed(list(module.modules())) if isinstance(inner, Fitted)]


def load(
    module: nn.Module,
    model: ResolvedModel,
    dataset: Dataset,
    files: Sequence[Path],
    provide: Provide,
    training: int = 0,
) -> tuple[Traits, Sequence[Part], Sequence[tuple[str, TrainingInfo | None]]]:
    """Give a model that was built its weights, as `ready` does.

    Returns what it says of itself, its parts, and where the weights of each part are from and how they were trained.
    """
    with plugin_errors(f"{registry.built_by(module)} does not say what it is made of and how it is drawn from"):
        parts = list(_leaves(Part(str(model), 0, module)))
        own = traits(module)
    span = 1 + max(part.seed for part in parts)
    parts = [Part(part.spec, part.seed + training * span, part.module) for part in parts]
    loaded = [
        _load(part, file, dataset, provide, model.given)
        for part, file in zip(parts, _files(model, parts, files), strict=True)
    ]
    _require_different(model, parts)
    return own, parts, loaded


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


def _files(model: ResolvedModel, parts: Sequence[Part], given: Sequence[Path]) -> Sequence[Path | None]:
    """The file of each part; None for those that the store is asked for."""
    if not given:
        return [None] * len(parts)
    if len(given) == 1 and given[0].is_dir():
        several = len({part.spec for part in parts}) > 1
        folders = [given[0] / slug(registry.resolve(part.spec).canonical) if several else given[0] for part in parts]
        return [folder / f"seed{part.seed}.safetensors" for folder, part in zip(folders, parts, strict=True)]
    if len(given) != len(parts):
        wanted = ", ".join(f"{part.spec} (seed {part.seed})" for part in parts)
        raise UserError(
            f"{model} takes {len(parts)} weights files and {len(given)} are given: pass --weights once for each of "
            f"{wanted}, in this order, or once with a folder of seed0.safetensors and so on"
        )
    return given


def _load(
    part: Part, file: Path | None, dataset: Dataset, provide: Provide, given: Given
) -> tuple[str, TrainingInfo | None]:
    """Give a part its weights; returns where they are from, and how they were trained where their file says it."""
    if file is not None:
        weights.load(part.module, file)
        told = weights.metadata(file) if file.suffix == ".safetensors" else {}
        return f"file {file.name}", training_info(told)
    own = traits(part.module)
    if given == "module" or not own.untrained:
        return str(own.source or ("the plugin's own" if given == "name" else "as given in Python")), None
    if given == "callable":
        raise UserError(f"{part.spec} is untrained: give files with weights=, or the trained network in its place")
    stored = provide(part.spec, part.seed, lambda: registry.model(part.spec, dataset))
    weights.load(part.module, stored)
    told = weights.metadata(stored)
    return f"trained here, seed {part.seed}{_length(told)}", training_info(told)


def _length(metadata: Mapping[str, str]) -> str:
    """How long a training was, as its file tells: readers have to know that a network had an epoch or two."""
    if not {"recipe", "epochs"} <= metadata.keys():
        return ""
    return f", recipe {metadata['recipe']}, {metadata['epochs']} epoch{'' if metadata['epochs'] == '1' else 's'}"


def _require_different(model: ResolvedModel, parts: Sequence[Part]) -> None:
    """Members that are copies of each other would make an ensemble that is none, and nothing would show it."""
    seen: dict[tuple[str, str], Part] = {}
    for part in parts if len(parts) > 1 else ():
        twin = seen.setdefault((part.spec, weights.checksum(part.module)), part)
        if twin is not part:
            raise UserError(
                f"{model} has the same weights for two members, {part.spec} with seeds {twin.seed} and {part.seed}: "
                "give each its own with --weights"
            )
