"""Models and suites that were given as objects, in the form that names resolve to."""

from __future__ import annotations

import copy
import functools
import importlib.metadata
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from stressbench import registry
from stressbench.contracts import Dataset, Suite
from stressbench.errors import UserError, describe
from stressbench.registry import Entry, ResolvedModel
from stressbench.spec import Spec

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_PLAIN = (str, int, float)


@dataclass(frozen=True)
class Given:
    """What stands in an entry in place of an entry point."""

    value: Any

    def load(self) -> Any:
        return self.value


def model(given: nn.Module | Callable[[Dataset], nn.Module], name: str | None = None) -> ResolvedModel:
    """A network, or a callable that makes one for a dataset, under a `name` or its class's.

    A network is copied, so that a run leaves the original's mode, device and hooks as they are. Raises `UserError` for
    another object, for one that cannot be copied, and for a name that records cannot have.
    """
    if not callable(given):
        raise UserError(
            f"the model is a {type(given).__name__}: pass a torch.nn.Module, a callable of a dataset, or a model's name"
        )
    network = given if isinstance(given, nn.Module) else None
    function = given.func if isinstance(given, functools.partial) else given
    kind = type(given).__name__
    called = name or (kind if network is not None else str(getattr(function, "__name__", kind)))
    if not _NAME.fullmatch(called):
        raise UserError(
            f"'{called}' cannot name a model: pass name= with up to 64 letters, digits, dots, hyphens and underscores"
        )
    if called in registry.names("models"):
        raise UserError(f"a plugin offers a model called '{called}': give this one another name with name=")
    entry = _entry("models", called, type(given) if network is not None else function)
    return ResolvedModel(
        spec=Spec(called),
        canonical=called,
        plugins=(entry,),
        factory=given if network is None else functools.partial(_copied, network, called),
        given="callable" if network is None else "module",
    )


def suite_entry(suite: Suite) -> Entry:
    """The entry of a suite that was given: the installed one that its class is of, where there is one."""
    for entry in registry.entries("suites"):
        if entry.name == suite.name and entry.load() is type(suite):
            return entry
    return _entry("suites", suite.name, type(suite))


def suite_options(suite: Suite) -> dict[str, str]:
    """The options of a suite that was given, as a record has them: its constructor's arguments, read from the suite.

    Raises `UserError` for an argument that decides the tables and is not an attribute of plain values, with or without
    an underscore in front: two suites that differ in it would pass for the same.
    """
    found: dict[str, str] = {}
    for option in inspect.signature(type(suite)).parameters:
        value = getattr(suite, option, getattr(suite, f"_{option}", suite))
        values = list(value) if isinstance(value, tuple | list) else [value]
        if value is None:
            continue
        if all(isinstance(one, _PLAIN) for one in values):
            found[option] = ",".join(map(str, values))
        elif option not in suite.scoring_options:
            raise UserError(
                f"the {suite.name} suite does not tell its option '{option}': keep it as self.{option}, a number, a "
                "text or a tuple of them, or pass an installed suite by its name"
            )
    return found


def _copied(module: nn.Module, name: str, dataset: Dataset) -> nn.Module:
    try:
        return copy.deepcopy(module)
    except Exception as error:  # a module may hold anything
        raise UserError(
            f"{name} cannot be copied ({describe(error)}): pass a callable of a dataset that builds it"
        ) from error


def _entry(kind: str, name: str, target: Any) -> Entry:
    """An entry whose distribution is the top-level module that defines the target, such as `__main__`."""
    package = str(getattr(target, "__module__", None) or "__main__").partition(".")[0]
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    return Entry(kind, name, package, version, Given(target))
