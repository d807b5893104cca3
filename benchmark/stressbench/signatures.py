"""What the signature of a plugin's callable says of its options: their names, their types, and words as those types."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stressbench.errors import UserError
from stressbench.spec import split

if TYPE_CHECKING:
    from stressbench.registry import Entry


# A budget of pixel values as papers write it: 8/255.
_FRACTION = re.compile(r"(\d+(?:\.\d+)?)/([1-9]\d*)")


def parameters(factory: Callable[..., Any], leading: int) -> dict[str, inspect.Parameter]:
    """The parameters after the ones that the harness fills by position."""
    skipped = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = list(_signature(factory).parameters.values())[leading:]
    return {p.name: p for p in parameters if p.kind not in skipped}


def _signature(factory: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (
        3,
        14,
    ):  # where annotations are evaluated when somebody asks, and their names may be missing
        from annotationlib import Format

        return inspect.signature(factory, annotation_format=Format.STRING)
    return inspect.signature(factory)


def annotation(factory: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """An option's type: its annotation, else the type of its default, else text.

    One that cannot be evaluated, because its names are imported for type checkers alone, comes back as its text.
    """
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return str if parameter.default in (None, parameter.empty) else type(parameter.default)
    if not isinstance(annotation, str):
        return annotation
    # One by one, because a plugin may import the types of its other parameters for type checkers only.
    origin = inspect.unwrap(factory.func if isinstance(factory, functools.partial) else factory)
    module = sys.modules[getattr(origin, "__module__", None) or type(origin).__module__]
    try:
        return eval(annotation, vars(module))  # the text is the plugin's own code, imported a moment ago
    except Exception:
        return annotation


def is_several(hint: Any) -> bool:
    """Whether a type is of several values: a tuple, or one that may be None."""
    return any(typing.get_origin(one) is tuple for one in (hint, *typing.get_args(hint)))


def type_text(hint: Any) -> str:
    """A type for people, as one writes values of it on the command line.

    >>> type_text(tuple[float, ...]), type_text(typing.Literal["a", "b"]), type_text(int | None)
    ('float,float,…', 'a|b', 'int or None')
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "|".join(map(str, inner))
    if origin is typing.Annotated:
        return " ".join([type_text(inner[0]), *filter(None, map(_bound, inner[1:]))])
    if origin is tuple:
        return ",".join("…" if part is ... else type_text(part) for part in (inner[0], *inner))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(type_text, inner))
    return "None" if hint is type(None) else hint.__name__ if isinstance(hint, type) else str(hint)


def _bound(constraint: object) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [f"{sign} {getattr(constraint, name)}" for name, sign in signs.items() if hasattr(constraint, name)]
    return " and ".join(found)


def usage(entry: Entry, takes_argument: bool) -> str:
    """How a name is written that was given an argument which its callable does not take, or none where it takes one."""
    if takes_argument:
        name = f"{entry.name}:{entry.argument or 'SOMETHING'}"
        return f"write {name}, or {entry.argument}+{entry.name}" if entry.kind == "recipes" else f"write {name}"
    if entry.kind == "recipes":
        return f"it builds on no other recipe, so it comes first in a sum, and once: write {entry.name}"
    return f"write {entry.name}"


def value(owner: object, factory: Callable[..., Any], option: inspect.Parameter, text: str) -> Any:
    """An option's words as the callable's signature types them, fractions such as 8/255 as numbers too.

    Raises `UserError` that names `owner`.
    """
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    hint = annotation(factory, option)
    if isinstance(hint, str):
        raise UserError(
            f"option '{option.name}' of {owner} cannot be read, because its type '{hint}' is not known when it runs: "
            "import the names in it outside of `if TYPE_CHECKING`"
        )
    words: object = text
    if is_several(hint):
        words = [part for part in split(text, ",+ ") if part]
    elif float in (hint, *typing.get_args(hint)) and (fraction := _FRACTION.fullmatch(text)):
        words = float(fraction[1]) / float(fraction[2])
    try:
        return TypeAdapter(hint).validate_python(words)
    except PydanticUserError as error:
        raise UserError(f"option '{option.name}' of {owner} is a {type_text(hint)}, which no words can name") from error
    except ValidationError as error:
        why = error.errors()[0]["msg"]
        raise UserError(f"option '{option.name}' of {owner} cannot be '{text}': {why}") from error
