"""Reads TOML files and validates them against a pydantic model."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from stressbench._util.files import text
from stressbench.errors import UserError

_LARGEST = 2**20  # bytes; a person's file has some hundreds

_PARTS = 64  # joined by dots, of a key
_DEEP = re.compile(rf"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){{{_PARTS}}}""")

_Model = TypeVar("_Model", bound=BaseModel)


def read(path: Path, model: type[_Model], say: Callable[[ValidationError], str]) -> _Model:
    """Read a file; `say` formats errors of its keys and values in one line.

    Raises `UserError` for a missing file, invalid TOML, and invalid keys or values.
    """
    return checked(load(path), str(path), model, say)


def load(path: Path) -> dict[str, Any]:
    """A file's keys and values; raises `UserError` for a missing file and invalid TOML."""
    found = text(path, _LARGEST).replace("\r\n", "\n")
    if _DEEP.search(found):  # which the parser takes a time for that grows with their square
        raise UserError(f"{path} is not TOML for people: it has a key of {_PARTS} parts or more")
    try:
        return tomllib.loads(found)
    except RecursionError as error:
        raise UserError(f"{path} is not TOML: it is nested too deeply") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}") from error


def checked(data: Mapping[str, Any], source: str, model: type[_Model], say: Callable[[ValidationError], str]) -> _Model:
    """Validate keys and values from `source`; raises `UserError` if they are invalid."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{source}: {say(error)}") from error
