"""Explains a model, a suite, a dataset or a recipe in lines of text."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from torch import nn

from stressbench import locations, passes, registry, signatures
from stressbench.contracts import Composite, Dataset, Metric, traits
from stressbench.datasets.fingerprint import fingerprint
from stressbench.errors import BrokenPlugin, UserError, did_you_mean, plugin_errors
from stressbench.execution.plan import require_conditions
from stressbench.recipe import Recipe
from stressbench.results.conditions import describe
from stressbench.spec import parse

_MOST_CONDITIONS = 20


def kind(text: str) -> str:
    """Which of `registry.KINDS` a spec is of; the first one if several have the name.

    Raises `UserError` for an unknown name.
    """
    name = parse(text).name
    offered = {of: {end for e in registry.entries(of) for end in (e.name, f"{e.distribution}/{e.name}")}
               for of in registry.KINDS}  # fmt: skip
    found = next((of for of, names in offered.items() if name in names), None)
    if found is None:
        hint = did_you_mean(name, set().union(*offered.values()))
        raise UserError(f"there is no model, suite, dataset or recipe called '{name}': {hint}`bench list` shows all")
    return found


def model(text: str, dataset: Dataset) -> Iterator[str]:
    """The lines about the model that a spec names, as it is built for a dataset; it needs no weights.

    Raises `UserError` for a spec that is wrong and a model that cannot be built or fails on the dataset's images.
    """
    if _lacks_argument("models", text):
        yield from _usage("models", text)
        return
    resolved = registry.resolve(text)
    spec, entry, module = resolved.spec, resolved.entry, resolved.build(dataset)
    height, width = dataset.image_size
    yield f"{spec}"
    yield f"{entry}, for {dataset.name} ({height}×{width}, {dataset.task.summary})"
    yield ""
    parameters = sum(p.numel() for p in module.parameters())
    yield f"parameters      {parameters:,}"
    yield f"multiply-adds   {passes.multiply_adds(module, dataset.image_size):,} for one image, one pass"
    yield f"draws           {_draws(module)}"
    if isinstance(module, Composite):
        with plugin_errors(f"{entry} does not say what it is made of"):
            parts = ", ".join(f"{part.spec} (seed {part.seed})" for part in module.parts())
        yield f"made of         {parts}"
    yield from ("", "options:", *_options("models", str(spec)))
    yield from ("", "locations, for training-free wrappers:")
    found = locations.find(module, dataset.image_size)
    for number, place in found.items():
        yield f"  {number}  {place!s:<40} {_shape(place.shape)}"
    missing = [str(number) for number in range(5) if number not in found]
    if missing:
        yield f"  {', '.join(missing)} are unknown: give a module's name"


def suite(text: str) -> Iterator[str]:
    """The lines about the suite that a spec names: tasks, options, metrics and conditions.

    Raises `UserError` for a spec that is wrong and a suite that cannot be built.
    """
    spec = parse(text)
    entry = registry.find("suites", spec.name)
    made = registry.suite(text)
    with plugin_errors(f"{entry} failed while its conditions were made", BrokenPlugin):
        conditions = list(made.conditions())
    require_conditions(conditions, entry)
    yield f"{spec}"
    yield f"{entry}, version {made.version}"
    yield ""
    yield f"tasks           {', '.join(sorted(made.tasks))}"
    if made.benchmark is not None:
        yield f"published on    {made.benchmark}"
    yield from ("", "options:", *_options("suites", spec.name))
    yield from ("", "metrics:", *_metrics(made.metrics))
    yield from ("", "metrics of each condition:", *_metrics(made.row_metrics))
    yield from ("", "conditions:", *(f"  {describe(condition)}" for condition in conditions[:_MOST_CONDITIONS]))
    if len(conditions) > _MOST_CONDITIONS:
        yield f"  and {len(conditions) - _MOST_CONDITIONS} more"


def dataset(text: str, data_dir: Path | None, dataset_name: str | None) -> Iterator[str]:
    """The lines about a dataset: its task, the images of each split, and the fingerprint of an embedded set.

    Of one that needs a folder and was given none, what its callable says of it, and its options. Raises `UserError` for
    a dataset whose test split cannot be read.
    """
    entry = registry.find("datasets", parse(text).name)
    try:
        test = registry.dataset(text, "test", data_dir, dataset_name)
    except UserError as error:
        if data_dir is not None:
            raise
        yield from (*_usage("datasets", text), "", str(error))
        return
    height, width = test.image_size
    yield test.name
    yield f"{entry}"
    yield ""
    yield f"task            {test.task.name}, {test.task.summary}"
    yield f"size            {height}×{width}"
    yield f"test            {len(test.images):,} images"
    try:
        yield f"train           {len(registry.dataset(text, 'train', data_dir, dataset_name).images):,} images"
    except UserError as error:
        yield f"train           none: {error}"
    if test.embedded:  # others are large
        yield f"fingerprint     {fingerprint(test, len(test.images))} of the test split"


def recipe(text: str) -> Iterator[str]:
    """The lines about the recipe that a spec names: its own options, and those of every recipe.

    Raises `UserError` for a spec that is wrong.
    """
    if not _lacks_argument("recipes", text):
        registry.check_recipe(text)
    yield from _usage("recipes", text)
    shared = {
        name: signatures.type_text(signatures.annotation(Recipe, option))
        for name, option in registry.recipe_options().items()
    }
    yield from ("", "options of every recipe, by default what the recipe chooses:", *_aligned(shared))


def _lacks_argument(kind: str, text: str) -> bool:
    """Whether a spec has nothing after its colon although its plugin takes something there."""
    spec = parse(text)
    if spec.argument is not None:
        return False
    return registry.find(kind, spec.name).argument is not None or "argument" in registry.options(kind, spec.name)


def _usage(kind: str, text: str) -> Iterator[str]:
    """How a plugin is named, what its docstring says of it, and its own options."""
    spec = parse(text)
    entry = registry.find(kind, spec.name)
    yield f"{spec}" if entry.argument is None or spec.argument is not None else f"{spec.name}:{entry.argument}"
    yield f"{entry}"
    told = inspect.cleandoc(getattr(entry.load(), "__doc__", None) or "").split("\n\n")[0]
    if told:
        yield from ("", *told.splitlines())
    if not isinstance(entry.load(), registry.Finder):  # whose callable, and so its options, follow from the argument
        yield from ("", "options:", *_options(kind, spec.name))


def _metrics(metrics: Sequence[Metric]) -> list[str]:
    return _aligned({m.name: f"{m.unit}, {f'{m.better} is better' if m.better else 'descriptive'}" for m in metrics})


def _aligned(texts: Mapping[str, str]) -> list[str]:
    width = max([14, *(len(name) + 2 for name in texts)])
    return [f"  {name:<{width}}{text}" for name, text in texts.items()]


def _draws(module: nn.Module) -> str:
    own = traits(module)
    if not own.stochastic:
        return "1, deterministic"
    return f"{own.default_draws} by default{f', {own.max_draws} at most' if own.max_draws else ''}"


def _options(kind: str, spec: str) -> list[str]:
    options = {key: option for key, option in registry.options(kind, spec).items() if key != "argument"}
    texts = {
        key: registry.option_type(kind, spec, option)
        + ("" if option.default is option.empty else f", default {_written(option.default)}")
        for key, option in options.items()
    }
    return _aligned(texts) or ["  none"]


def _written(default: object) -> str:
    """A default as one writes it on the command line."""
    return (",".join(map(str, default)) or "none") if isinstance(default, tuple) else str(default)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "×".join(map(str, shape or ()))


def is_run(target: str) -> bool:
    """Whether a text is a run folder's or a record's path, and so no plugin."""
    path = Path(target)
    with suppress(OSError):  # a name may be longer than paths may be
        return path.is_file() or (path / "record.json").is_file()
    return False
