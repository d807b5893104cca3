"""From a name to what a plugin offers under it, through entry points.

Listing reads the installed distributions' metadata and imports nothing; only what is asked for is loaded. What a
plugin does wrong is said in a line about that plugin, and takes no other plugin down.
"""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

from stressbench.errors import BrokenPlugin, UserError, did_you_mean
from stressbench.spec import Spec, parse, split

if TYPE_CHECKING:
    from torch import nn

    from stressbench.contracts import Dataset, Suite

KINDS = ("models", "suites", "datasets")

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

    def __str__(self) -> str:
        return f"{self.kind[:-1]} '{self.name}' of {self.distribution} {self.version}"

    def load(self) -> Any:
        """Import the plugin; returns its callable or `Finder`. Raises `BrokenPlugin` that names it if it cannot be."""
        fault = f"{self} cannot be imported"
        try:
            with blamed(fault, BrokenPlugin, "mend or uninstall that plugin"):
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
        entry = Entry(kind, point.name, *offerers[point.dist], point)
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
    """The split of a dataset ("test" or "train"), under `dataset_name` if that is given; its labels are checked."""
    import torch

    from stressbench.contracts import Dataset

    entry = find("datasets", name)
    result: Dataset = _expect(Dataset, _call(entry, entry.load(), split, data_dir, dataset_name), entry)
    labels = result.labels
    if labels.dtype != torch.int64 or labels.shape != (len(result.images),):
        raise BrokenPlugin(
            f"{entry} has labels {tuple(labels.shape)} of {labels.dtype} for {len(result.images)} images; "
            "they must be one int64 an image"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < result.classes:
        raise BrokenPlugin(
            f"{entry} has labels from {labels.min()} to {labels.max()}; of {result.classes} classes they must be "
            f"0 … {result.classes - 1}"
        )
    return result


def suite(text: str, options: Mapping[str, str] | None = None) -> Suite:
    """The suite that a spec names, with `options` beside the spec's own."""
    from stressbench.contracts import Suite

    spec = parse(text)
    entry = find("suites", spec.name)
    factory = entry.load()
    typed = _typed(entry, factory, spec, {**spec.options, **(options or {})}, leading=0)
    result: Suite = _expect(Suite, _call(entry, factory, **typed), entry)
    return result


def model(text: str, dataset: Dataset) -> nn.Module:
    """The network that a spec names, built for a dataset and in whatever state its plugin left it."""
    from torch import nn

    entry, factory, typed = _model(text)
    result: nn.Module = _expect(nn.Module, _call(entry, factory, dataset, **typed), entry)
    first, *inner = plugins(text)
    _built[result] = f"{first} with {' and '.join(map(str, inner))}" if inner else str(first)
    return result


def origin(module: nn.Module) -> str | None:
    """The plugins that a module which `model` built is from, for an error's line; None for other modules."""
    return _built.get(module)


def check_model(text: str) -> Entry:
    """Load a model's plugin and check the spec's options without building anything; returns its entry."""
    return _model(text)[0]


def plugins(text: str) -> list[Entry]:
    """The entries of all models that a spec names, each once: its own first, then those inside its argument."""
    entry, factory, spec = _found(parse(text))
    inner = [plugin for name in _named(factory, spec) for plugin in plugins(name)]
    return list(dict.fromkeys([entry, *inner]))


def pinned(text: str) -> str:
    """A model's spec as records and the store of weights have it: what a `Finder` found is named by its content.

    Two texts of one model may differ in the folder of a file; of two that become the same, the models are the same.
    """
    _, factory, spec = _found(parse(text))
    names = [pinned(name) for name in _named(factory, spec)]
    if not names:
        return str(spec)
    joined = "+".join(f"({name})" if any(len(split(name, by)) > 1 for by in ",+") else name for name in names)
    return str(Spec(spec.name, joined, spec.options))


def options(kind: str, text: str) -> dict[str, inspect.Parameter]:
    """The options that a spec's callable takes, by name, and `argument` where it takes what follows a colon."""
    return _parameters(_callable(kind, text), leading=1 if kind == "models" else 0)


def option_type(kind: str, text: str, option: inspect.Parameter) -> str:
    """What an option of a spec's callable may be, for a person."""
    hint = _annotation(_callable(kind, text), option)
    if typing.get_origin(hint) is typing.Literal:
        return "|".join(map(str, typing.get_args(hint)))
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


@contextmanager
def blamed(
    fault: str,
    kind: type[UserError] = UserError,
    advice: str = "mend that plugin",
    passing: tuple[type[BaseException], ...] = (),
) -> Iterator[None]:
    """Code of a plugin runs inside: whatever it raises becomes an error of a `kind`: the fault, the reason, the advice.

    A `UserError` passes, and so does Ctrl-C. Else it need not be an `Exception`: a plugin may call sys.exit, and what
    extensions in Rust raise in a panic is none either.
    """
    try:
        yield
    except passing:
        raise
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise kind(f"{fault}: {describe(error)}; {advice}") from error


def describe(error: BaseException) -> str:
    """An error of somebody else's code in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _model(text: str) -> tuple[Entry, Callable[..., Any], dict[str, Any]]:
    entry, factory, spec = _found(parse(text))
    return entry, factory, _typed(entry, factory, spec, spec.options, leading=1)


def _found(spec: Spec) -> tuple[Entry, Callable[..., Any], Spec]:
    """Who offers a model, its callable, and the spec as that callable takes it."""
    entry = find("models", spec.name)
    target = entry.load()
    if not isinstance(target, Finder):
        return entry, target, spec
    if spec.argument is None:
        raise UserError(f"'{spec}' does not fit {entry}: write {entry.name}:SOMETHING")
    found = target.find(spec.argument)
    return found, found.load(), Spec(found.name, None, spec.options)


def _callable(kind: str, text: str) -> Callable[..., Any]:
    spec = parse(text)
    factory: Callable[..., Any] = _found(spec)[1] if kind == "models" else find(kind, spec.name).load()
    return factory


def _parameters(factory: Callable[..., Any], leading: int) -> dict[str, inspect.Parameter]:
    """The parameters after the ones that the harness fills by position."""
    skipped = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = list(inspect.signature(factory).parameters.values())[leading:]
    return {p.name: p for p in parameters if p.kind not in skipped}


def _typed(
    entry: Entry, factory: Callable[..., Any], spec: Spec, given: Mapping[str, str], leading: int
) -> dict[str, Any]:
    """The words of a spec as the callable's signature types them."""
    from pydantic import TypeAdapter, ValidationError

    known = _parameters(factory, leading)
    # What follows the colon reaches a callable as `argument`; one without it takes no such part.
    argument = known.pop("argument", None)
    if (argument is None) != (spec.argument is None):
        use = entry.name if argument is None else f"{entry.name}:SOMETHING"
        raise UserError(f"'{spec}' does not fit {entry}: write {use}")
    typed: dict[str, Any] = {} if spec.argument is None else {"argument": spec.argument}
    for name in _named(factory, spec):
        check_model(name)
    for name, text in given.items():
        if name not in known:
            listed = ", ".join(known) if known else "none"
            raise UserError(f"{entry} has no option '{name}': {did_you_mean(name, known)}its options are: {listed}")
        hint = _annotation(factory, known[name])
        value: object = text
        if typing.get_origin(hint) is tuple:
            value = [part for part in split(text, ",+ ") if part]
        try:
            typed[name] = TypeAdapter(hint).validate_python(value)
        except ValidationError as error:
            why = error.errors()[0]["msg"]
            raise UserError(f"option '{name}' of {entry} cannot be '{text}': {why}") from error
    return typed


def _named(factory: Callable[..., Any], spec: Spec) -> list[str]:
    """The models that a spec's argument names, where the callable says that it names some."""
    argument = _parameters(factory, leading=1).get("argument")
    if argument is None or spec.argument is None or _annotation(factory, argument) is not ModelName:
        return []
    return split(spec.argument, "+")


def _annotation(factory: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """An option's type: its annotation, else the type of its default, else text."""
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return str if parameter.default in (None, parameter.empty) else type(parameter.default)
    if not isinstance(annotation, str):
        return annotation
    # One by one, because a plugin may import the types of its other parameters for type checkers only.
    origin = inspect.unwrap(factory.func if isinstance(factory, functools.partial) else factory)
    module = sys.modules[getattr(origin, "__module__", None) or type(origin).__module__]
    return eval(annotation, vars(module))  # the text is the plugin's own code, imported a moment ago


def _call(entry: Entry, factory: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with blamed(f"{entry} failed while it was built", BrokenPlugin):
        return factory(*args, **kwargs)


def _expect(kind: Any, value: Any, entry: Entry) -> Any:
    if not isinstance(value, kind):
        raise BrokenPlugin(f"{entry} returned a {type(value).__name__}; it must return a {kind.__name__}")
    return value
