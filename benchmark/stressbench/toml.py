"""Files that a person writes: TOML, checked against a model of what may be in it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from stressbench.errors import UserError

_Model = TypeVar("_Model", bound=BaseModel)


def read(path: Path, model: type[_Model], say: Callable[[ValidationError], str]) -> _Model:
    """Read a file; `say` puts in a line what is wrong with its keys and values.

    Raises `UserError` for a file that is not there, is not TOML, or is not what the model asks for.
    """
    try:
        return model.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}; check the path") from error
    except ValidationError as error:
        raise UserError(f"{path}: {say(error)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error
