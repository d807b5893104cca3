"""The file of a record: strict JSON of any schema version → the fields of the present one.

Files come from strangers, so nothing is taken that could hide text or mean two things.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from stressbench.errors import UserError

SCHEMA_VERSION: Literal[3] = 3


def _from_1(fields: dict[str, Any]) -> dict[str, Any]:
    """Version 1 had neither curves nor findings, and named only the outermost plugin."""
    fields = {**fields, "schema_version": 2, "curves": {}, "findings": []}
    if isinstance(fields.get("model"), dict):
        model = fields["model"]
        name = str(model.get("spec")).partition(",")[0].partition(":")[0]
        plugin = {"name": name, "distribution": model.get("distribution"), "version": model.get("version")}
        fields["model"] = {**model, "plugins": [plugin]}
    return fields


def _from_2(fields: dict[str, Any]) -> dict[str, Any]:
    """Version 2 had no intervals, which cannot be computed without the tables."""
    return {**fields, "schema_version": 3, "intervals": {}, "jackknife": {}}


# Upgrades from schema version k to k + 1, by k. New fields with defaults need none.
_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1, 2: _from_2}

_LARGEST = 16 * 2**20  # bytes; a typical record has some tens of thousands
_CONTROL = re.compile(r"[\x7f-\x9f]|(?<!\\)(?:\\\\)*\\(?:[bf]|u00(?:[01][0-9a-f]|7f|[89][0-9a-f]))", re.IGNORECASE)


def read(path: Path) -> dict[str, Any]:
    """The fields of a record file, or of the record in a run folder, upgraded to `SCHEMA_VERSION`.

    Raises `UserError` for a file that is missing, too large, not JSON, or of a newer schema.
    """
    path = path / "record.json" if path.is_dir() else path
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)  # a device may have no end
        if len(content) > _LARGEST:
            raise UserError(f"{path} has more than {_LARGEST / 2**20:.0f} MB: no record is that large")
        text = content.decode("utf-8-sig")
        if _CONTROL.search(text):
            raise UserError(f"{path} is not a record: it has control characters, which could hide text on a terminal")
        fields = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: give a run folder or its record.json") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a record: {error}") from error
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if type(version) is not int or version < 1:
        raise UserError(f"{path} is not a record: it has no schema_version")
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {version}, newer than this stressbench reads ({SCHEMA_VERSION}): upgrade it"
        )
    for step in range(version, SCHEMA_VERSION):
        fields = _UPGRADES[step](fields)
    return dict(fields)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("it has a key twice")
    return fields


def _refuse(constant: str) -> float:
    raise ValueError(f"it holds {constant}, which JSON does not have")
