"""From a name to what a plugin offers under it, through entry points.

Listing reads the installed distributions' metadata and imports nothing; only what is asked for is loaded. What a
plugin does wrong is said in a line about that plugin, and takes no other plugin down.
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

from stressbench import signatures
from stressbench.errors import BrokenPlugin, UserError, did_you_mean, plugin_errors
from stressbench.isolation import importing
from stressbench.spec import Spec, nested, parse, split

if TYPE_CHECKING:
    from torch import nn

    from stressbench.contracts import Dataset, Suite
    from stressbench.recipe import Recipe

KINDS = ("models", "suites", "datasets", "recipes")

# How many parameters of a callable the harness fills by position; the others are its options.
_LEADING = {"models": 1, "suites": 0, "datasets": 3, "recipes": 2}

# Fields of `Recipe` that no text can give.
_NO_OPTIONS = frozenset({"name", "augment", "loss"})

# What a model was given as.
Given = Literal["name", "callable", "module"]

# How a callable annotates an `argument` that names a model, or several joined by +: they are checked with its options.
ModelName = Annotated[str, "names of models, joined by +"]

# The plugins that a module is from: an error may come from inside a model that is made of other plugins' models.
_built: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


class Loadable(Protocol):
    """What has a plugin's callable: an entry point, or what a `Finder` found in its place."""

    def load(self) -> Any: ...


@dataclass(frozen=True)
class Entry:
    """One name that a distribution offers."""

    kind: str
    name: str
    distribution: str
    version: str
    point: Loadable
    argument: str | None = None
    """What follows a colon after the name, for `bench list`: the entry point is called `wrapper:MODEL`."""

    def __str__(self) -> str:
        return f"{self.kind[:-1]} '{self.name}' of {self.distribution} {self.version}"

    def load(self) -> Any:
        """Import the plugin; returns its callable or `Finder`. Raises `BrokenPlugin` that names it if it cannot be."""
        fault = f"{self} cannot be imported"
        try:
            with plugin_errors(fault, BrokenPlugin, "fix or uninstall that plugin"), importing():
                target = self.point.load()
        except UserError as error:  # its own words say what to do, and are no reason to stop the others
            raise error if isinstance(error, BrokenPlugin) else BrokenPlugin(f"{fault}: {error}") from error
        if not callable(target) and not isinstance(target, Finder):
            raise BrokenPlugin(f"{self} is a {type(target).__name__}, not a callable: its entry point must name one")
        return target


@runtime_checkable
class Finder(Protocol):
    """What a model's entry point names in place of a callable where the argument decides which callable it is."""

    def find(self, argument: str) -> Entry:
        """The entry that the argument stands for. Its callable takes the dataset and the options, and no argument.

        The entry's name is the model's in records and in the store of weights, and can be given in a spec: it says
        which content is meant, and nothing of this machine. Raises `UserError` where nothing is found.
        """
        ...


def entries(kind: str) -> list[Entry]:
    """All that the installed distributions offer of one of `KINDS`, by name; two of one name are both there."""
    found: dict[tuple[str, str], Entry] = {}
    offerers: dict[Distribution, tuple[str, str]] = {}  # each one's metadata is read from its file at every look
    for point in entry_points(group=f"stressbench.{kind}"):
        if point.dist is None:
            continue
        if point.dist not in offerers:
            # What is left of a package that was removed by hand may have entry points and no name.
            offerers[point.dist] = (point.dist.name or "unknown", point.dist.version or "unknown")
        # A distribution can be on the path twice (an editable install beside its sources); that is one offer.
        name, _, argument = point.name.partition(":")
        entry = Entry(kind, name, *offerers[point.dist], point, argument or None)
        found.setdefault((entry.name, entry.distribution), entry)
    return [found[key] for key in sorted(found)]


def find(kind: str, name: str) -> Entry:
    """The one entry called `name`, or `distribution/name`; raises `UserError` where there is none or more."""
    offered = entries(kind)
    distribution, _, bare = name.rpartition("/")
    matches = [e for e in offered if e.name == bare and distribution in ("", e.distribution)]
    if not matches:
        hint = did_you_mean(name, [f"{e.distribution}/{e.name}" if distribution else e.name for e in offered])
        raise UserError(f"there is no {kind[:-1]} called '{name}': {hint}`bench list {kind}` shows all")
    if len(matches) > 1:
        choices = " or ".join(f"{e.distribution}/{e.name}" for e in matches)
        raise UserError(f"{len(matches)} distributions offer a {kind[:-1]} called '{name}': write {choices}")
    return matches[0]


def names(kind: str) -> list[str]:
    """What `find` knows each entry by: its name, with its distribution in front where two offer that."""
    offered = entries(kind)
    count = Counter(entry.name for entry in offered)
    return [e.name if count[e.name] == 1 else f"{e.distribution}/{e.name}" for e in offered]


def dataset(name: str, split: str, data_dir: Path | None = None, dataset_name: str | None = None) -> Dataset:
    """The split ("test" or "train") of the dataset that a spec names, under `dataset_name` if that is given.

    Its labels are checked. Raises `UserError` for a spec that is wrong.
    """
    from stressbench.contracts import Dataset

    spec = parse(name)
    entry = find("datasets", spec.name)
    factory = entry.load()
    typed = _typed(entry, factory, spec, spec.options, _LEADING["datasets"])
    result: Dataset = _expect(Dataset, _call(entry, factory, split, data_dir, dataset_name, **typed), entry)
    try:
        result.require_targets(entry)
    except UserError as error:
        raise BrokenPlugin(str(error)) from error
    return result


def suite(text: str, options: Mapping[str, str] | None = None, task: str | None = None) -> Suite:
    """The suite that a spec names, with `options` beside the spec's own, as it measures a task where one is given.

    Raises `UserError` for a task that it is not for.
    """
    from stressbench.contracts import Suite

    spec = parse(text)
    entry = find("suites", spec.name)
    factory = entry.load()
    given = {**spec.options, **(options or {})}
    for name, value in spec.options.items():
        if given[name] != value:
            raise UserError(f"option '{name}' appears twice, in '{text}' and as {name}={given[name]}: specify it once")
    typed = _typed(entry, factory, spec, given, leading=0)
    result: Suite = _expect(Suite, _call(entry, factory, **typed), entry)
    return result if task is None else result.for_task(task)


def recipe(text: str, dataset: Dataset, module: nn.Module) -> Recipe:
    """The recipe that a spec names, for a dataset and a network on the CPU.

    Options that its callable does not take are those of every recipe, the fields of `Recipe`. Recipes that build on
    others may be written as a sum: `short+mixup` is `mixup:short`.

    Raises `UserError` for a spec that is wrong.
    """
    from stressbench.recipe import Recipe

    entry, factory, own, common = _recipe(text := nested(text))
    result: Recipe = _expect(Recipe, _call(entry, factory, dataset, module, **own), entry)
    return replace(result.with_options(**common), name=str(parse(text)))


def recipe_options() -> dict[str, inspect.Parameter]:
    """The options of every recipe: the fields of `Recipe` that a text can specify."""
    from stressbench.recipe import Recipe

    return {name: value for name, value in signatures.parameters(Recipe, 0).items() if name not in _NO_OPTIONS}


def check_recipe(text: str) -> None:
    """Load the plugins of a recipe and of those that it builds on, and check their options; nothing is built."""
    if inner := _recipe(nested(text))[2].get("argument"):
        check_recipe(inner)


@dataclass(frozen=True)
class ResolvedModel:
    """A model after its name was looked up, or one that was given as an object."""

    spec: Spec
    """As it was given."""
    canonical: str
    """Its spec as records and the store of weights have it: what a `Finder` found is named by its content.

    Two texts of one model may differ in the folder of a file; of two that become the same, the models are the same.
    """
    plugins: tuple[Entry, ...]
    """The entries of all models that the spec names, each once: its own first, then those inside its argument."""
    factory: Callable[[Dataset], Any]
    given: Given = "name"
    """What it was given as: of a name alone, weights that are missing come from the store."""

    def __str__(self) -> str:
        return str(self.spec)

    @property
    def entry(self) -> Entry:
        """The outermost plugin, which errors and records name."""
        return self.plugins[0]

    def build(self, dataset: Dataset) -> nn.Module:
        """The network for a dataset, in whatever state its plugin left it."""
        from torch import nn

        result: nn.Module = _expect(nn.Module, _call(self.entry, self.factory, dataset), self.entry)
        first, *inner = self.plugins
        _built[result] = f"{first} with {' and '.join(map(str, inner))}" if inner else str(first)
        return result


def resolve(text: str) -> ResolvedModel:
    """Look up a model's name and all names inside it, and check their options; nothing is built.

    Raises `UserError` for a name or an option that does not exist, and `BrokenPlugin` for a plugin that cannot be used.
    """
    given = parse(text)
    entry, factory, spec = _found(given)
    inner = [resolve(name) for name in named_models(factory, spec)]
    typed = _typed(entry, factory, spec, spec.options, leading=1)
    canonical = str(spec)
    if inner:
        names = [one.canonical for one in inner]
        joined = "+".join(f"({name})" if any(len(split(name, by)) > 1 for by in ",+") else name for name in names)
        canonical = str(Spec(spec.name, joined, spec.options))
    plugins = dict.fromkeys([entry, *(plugin for one in inner for plugin in one.plugins)])
    return ResolvedModel(given, canonical, tuple(plugins), functools.partial(factory, **typed))


def model(text: str, dataset: Dataset) -> nn.Module:
    """The network that a spec names, built for a dataset and in whatever state its plugin left it."""
    return resolve(text).build(dataset)


def built_by(module: nn.Module) -> str | None:
    """The plugins that a module which `model` built is from, for an error's line; None for other modules."""
    return _built.get(module)


def options(kind: str, text: str) -> dict[str, inspect.Parameter]:
    """The options that a spec's callable takes, by name, and `argument` where it takes what follows a colon."""
    return signatures.parameters(_callable(kind, text), _LEADING[kind])


def option_type(kind: str, text: str, option: inspect.Parameter) -> str:
    """What an option of a spec's callable may be, for a person."""
    return signatures.type_text(signatures.annotation(_callable(kind, text), option))


def takes_several(kind: str, text: str, option: inspect.Parameter) -> bool:
    """Whether an option of a spec's callable is a tuple, written with commas or plus signs between its values."""
    return signatures.is_several(signatures.annotation(_callable(kind, text), option))


def _recipe(text: str) -> tuple[Entry, Callable[..., Any], dict[str, Any], dict[str, Any]]:
    """A recipe's entry and callable, with the options that are its own and those that every recipe has."""
    from stressbench.recipe import Recipe

    spec = parse(text)
    entry = find("recipes", spec.name)
    factory = entry.load()
    common = recipe_options()
    shared = {name: value for name, value in spec.options.items() if name in common.keys() - options("recipes", text)}
    given = {name: value for name, value in spec.options.items() if name not in shared}
    own = _typed(entry, factory, spec, given, _LEADING["recipes"], known_too=common)
    settings = {name: signatures.value(entry, Recipe, common[name], text) for name, text in shared.items()}
    return entry, factory, own, settings


def _found(spec: Spec) -> tuple[Entry, Callable[..., Any], Spec]:
    """Who offers a model, its callable, and the spec as that callable takes it."""
    entry = find("models", spec.name)
    target = entry.load()
    if not isinstance(target, Finder):
        return entry, target, spec
    if spec.argument is None:
        raise UserError(f"'{spec}' does not fit {entry}: write {entry.name}:{entry.argument or 'SOMETHING'}")
    found = target.find(spec.argument)
    return found, found.load(), Spec(found.name, None, spec.options)


def _callable(kind: str, text: str) -> Callable[..., Any]:
    spec = parse(text)
    factory: Callable[..., Any] = _found(spec)[1] if kind == "models" else find(kind, spec.name).load()
    return factory


def _typed(
    entry: Entry,
    factory: Callable[..., Any],
    spec: Spec,
    given: Mapping[str, str],
    leading: int,
    known_too: Collection[str] = (),
) -> dict[str, Any]:
    """The words of a spec as the callable's signature types them."""
    known = signatures.parameters(factory, leading)
    # What follows the colon reaches a callable as `argument`; one without it takes no such part.
    argument = known.pop("argument", None)
    if (argument is None) != (spec.argument is None):
        raise UserError(f"'{spec}' does not fit {entry}: {signatures.usage(entry, argument is not None)}")
    typed: dict[str, Any] = {} if spec.argument is None else {"argument": spec.argument}
    for name, text in given.items():
        if name not in known:
            names = [*known, *known_too]
            listed = ", ".join(names) if names else "none"
            raise UserError(f"{entry} has no option '{name}': {did_you_mean(name, names)}its options are: {listed}")
        typed[name] = signatures.value(entry, factory, known[name], text)
    return typed


def named_models(factory: Callable[..., Any], spec: Spec) -> list[str]:
    """The models that a spec's argument names, where the callable says that it names some."""
    argument = signatures.parameters(factory, leading=1).get("argument")
    if argument is None or spec.argument is None or signatures.annotation(factory, argument) is not ModelName:
        return []
    return split(spec.argument, "+")


def _call(entry: Entry, factory: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with plugin_errors(f"{entry} failed while it was built", BrokenPlugin):
        return factory(*args, **kwargs)


def _expect(kind: Any, value: Any, entry: Entry) -> Any:
    if not isinstance(value, kind):
        raise BrokenPlugin(f"{entry} returned a {type(value).__name__}; it must return a {kind.__name__}")
    return value
