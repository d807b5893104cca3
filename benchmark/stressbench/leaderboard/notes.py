"""Notes of successful replays: replays/<dataset>/<suite>/<model>.json beside the records.

A note holds the digest of the record file, so a record that is changed later no longer counts as replayed.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from stressbench._util.files import replace, writing
from stressbench.errors import UserError
from stressbench.leaderboard.paths import RECORDS, REPLAYS
from stressbench.record import Digest, Number, Text, display_name

_LARGEST = 2**20  # bytes; a real note is some hundreds


class Note(BaseModel):
    """What was run again, on which machine, and the largest differences from the record."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    record: Digest  # of the record file's bytes
    replayed: datetime
    by: Annotated[str, AfterValidator(display_name)] | None = None  # who, where the record is another's
    stressbench: Text
    device: Text
    seed: int  # it chose the conditions
    conditions: list[dict[str, str | int | float]]
    differences: dict[str, Number]  # metric → the largest over the conditions, in the metric's unit
    rows: dict[str, Number] | None = None  # column → the largest root mean square difference from image to image


def digest(path: Path) -> str:
    """Of a file's bytes, as `"sha256:<64 hex digits>"`."""
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def write(root: Path, record: Path, note: Note) -> Path:
    """Write the note of a record, given by its path in the leaderboard's folder; returns the note's file."""
    path = _place(root, record)
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, (note.model_dump_json(indent=2) + "\n").encode())
    return path


def read(root: Path, record: Path) -> Note | None:
    """The note of a record; None if there is none or the record has changed. Raises `UserError` for an invalid note."""
    path = _place(root, record)
    if not path.exists():
        return None
    if path.stat().st_size > _LARGEST:
        raise UserError(f"{path} is too large for the note of a replay: delete it")
    try:
        note = Note.model_validate_json(path.read_bytes())
    except (ValidationError, RecursionError) as error:
        raise UserError(f"{path} is not the note of a replay: delete it, or replay the record again") from error
    return note if note.record == digest(root / record) else None


def _place(root: Path, record: Path) -> Path:
    return root / REPLAYS / record.relative_to(RECORDS)
