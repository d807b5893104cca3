"""Parquet files in a folder: finds those of a split, and checks that they are complete and valid.

Only the files' metadata and the label columns are read here; `encoded.py` reads the images.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stressbench.errors import UserError, did_you_mean

_SHARD = re.compile(r"-(\d+)-of-(\d+)\.parquet$")


@dataclass(frozen=True)
class Columns:
    """The names of the two columns that are read."""

    image: str
    label: str


@dataclass(frozen=True)
class File:
    """A complete Parquet file."""

    path: Path
    rows: int
    labels: pa.ChunkedArray  # (rows,), some integer type
    class_names: list[str] | None  # of its ClassLabel feature, where it has one


def find(folder: Path, split: str) -> list[Path]:
    """The files `{split}*.parquet` in `folder`, or one folder down as in a clone from the hub; empty if there are none.

    Raises `UserError` where the folder is missing, where two places hold such files, or where a numbered shard
    (`-00001-of-00003.parquet`) is missing: part of a split must not pass for the whole.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is {'not a folder' if folder.exists() else 'not there'}: check --data-dir")
    try:
        places = [folder, *sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))]
        found = {place: sorted(p for p in place.glob(f"{split}*.parquet") if p.is_file()) for place in places}
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}. Check its permissions") from error
    found = {place: files for place, files in found.items() if files}
    if not found:
        return []
    if len(found) > 1:
        first, second, *_ = found
        raise UserError(
            f"both {first} and {second} hold {split}*.parquet: pass the one that is meant to --data-dir, "
            "or move the other away"
        )
    (files,) = found.values()
    _check_shards(files)
    return files


def _check_shards(files: Sequence[Path]) -> None:
    shards = [match for path in files if (match := _SHARD.search(path.name))]
    for match in shards:
        total = int(match[2])
        if {int(m[1]) for m in shards if int(m[2]) == total} != set(range(total)):
            raise UserError(
                f"{files[0].parent} does not hold all {total} shards that {match.string} belongs to: "
                "download the missing ones"
            )


def inspect(path: Path, columns: Columns) -> File:
    """Open a Parquet file and check its columns, its types and its labels.

    Raises `UserError` that names the file if it is truncated or not Parquet, has no rows or lacks a column, if the
    images are not encoded bytes or the labels not integers, or if a label is missing or negative.
    """
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            _check_types(path, schema, columns)
            labels = file.read(columns=[columns.label]).column(0)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a whole Parquet file: {error}. Download it again") from error
    if len(labels) == 0:
        raise UserError(f"{path} has no rows: remove it, or download it again")
    if labels.null_count:
        raise UserError(f"{path}: row {pc.index(pc.is_null(labels), True)} has no label: fix or remove that row")
    _refuse(path, labels, pc.less(labels, 0), "labels count from 0")
    return File(path, len(labels), labels, _class_names(path, schema, columns.label))


def check_range(file: File, classes: int) -> None:
    """Raises `UserError` that names the first row whose label is not below `classes`."""
    _refuse(file.path, file.labels, pc.greater_equal(file.labels, classes), f"there are {classes} classes")


def _check_types(path: Path, schema: pa.Schema, columns: Columns) -> None:
    for name in (columns.image, columns.label):
        if name not in schema.names:
            hint = did_you_mean(name, schema.names)
            raise UserError(f"{path} has no column '{name}': {hint}it has {', '.join(schema.names)}. Rename the column")
    image, label = schema.field(columns.image).type, schema.field(columns.label).type
    if pa.types.is_struct(image) and image.get_field_index("bytes") >= 0:
        image = image.field("bytes").type
    if not (pa.types.is_binary(image) or pa.types.is_large_binary(image)):
        raise UserError(
            f"{path}: column '{columns.image}' is {image}, not encoded images: write it with the Image feature of "
            "`datasets`, or as the bytes of PNG files"
        )
    if not pa.types.is_integer(label):
        raise UserError(f"{path}: column '{columns.label}' is {label}, not integers: number the classes from 0")


def _refuse(path: Path, labels: pa.ChunkedArray, wrong: pa.ChunkedArray, why: str) -> None:
    row = pc.index(wrong, True).as_py()
    if row >= 0:
        raise UserError(f"{path}: row {row} has label {labels[row]}, but {why}: fix or remove that row")


def _class_names(path: Path, schema: pa.Schema, label: str) -> list[str] | None:
    from datasets import ClassLabel, Features

    try:
        feature = Features.from_arrow_schema(schema).get(label)
    except Exception as error:  # the metadata is anybody's JSON, and the library checks little of it
        raise UserError(f"{path} has metadata that `datasets` cannot read ({error}): write the file again") from error
    return feature.names if isinstance(feature, ClassLabel) else None
