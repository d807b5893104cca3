"""Parquet files in a folder: finds those of a split, and checks that they are complete and valid.

Only the files' metadata and the label columns are read here; `encoded.py` reads the images.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from stressbench._util.checkpoints import is_lfs_pointer, lfs_pointer
from stressbench._util.files import reading, refused
from stressbench.datasets.own import IMAGE, LABEL, count_classes
from stressbench.errors import UserError, did_you_mean

# The number of a shard, "-00001-of-00003" or "_1", and the fingerprint that some versions of `datasets` add.
_NAME = re.compile(r"(?P<stem>.*?)(?:[-_.]?(?P<number>\d+)(?:-of-(?P<total>\d+))?)?(?:-[0-9a-f]{16})?\.parquet")


@dataclass(frozen=True)
class Columns:
    """The names of the two columns that are read; None for the only one with a usual name."""

    image: str | None = None
    label: str | None = None

    def of(self, path: Path, names: Sequence[str]) -> tuple[str, str]:
        """The columns' names in a file; raises `UserError` where one is missing or more than one could be meant."""
        return _column(path, names, self.image, "image", IMAGE), _column(path, names, self.label, "label", LABEL)


@dataclass(frozen=True)
class File:
    """A complete Parquet file."""

    path: Path
    image: str  # its columns
    label: str
    labels: pa.ChunkedArray  # (rows,), some integer type, or text
    class_names: list[str] | None  # of its ClassLabel feature, where it has one


def find(folder: Path, split: str) -> list[Path]:
    """The Parquet files of a split in `folder`, or one folder down as in a clone from the hub; empty if there are none.

    They are `{split}.parquet`, numbered shards (`{split}-00001-of-00003.parquet`), or what a folder `{split}` holds.

    Raises `UserError` where the folder is missing, where two places hold such files, where a shard is missing, and for
    a copy, a backup or a second numbering: each file of a split is read once, and part of it must not pass for the
    whole.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is {'not a folder' if folder.exists() else 'not there'}: check --data-dir")
    try:
        places = [folder, *_folders(folder)]
        inner = {place / split: _parquet_files(place / split) for place in places if (place / split).is_dir()}
        found = {place: [path for path in _parquet_files(place) if _begins(path, split)] for place in places}
    except OSError as error:
        raise refused(folder, error) from error
    found = {place: files for place, files in [*found.items(), *inner.items()] if files}
    if not found:
        return []
    if len(found) > 1:
        first, second, *_ = found
        raise UserError(
            f"both {first} and {second} hold the {split} split: pass the one that is meant to --data-dir, "
            "or move the other away"
        )
    ((place, files),) = found.items()
    _check_shards(files, split, inside=place in inner)
    return files


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _parquet_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.parquet") if p.is_file() and not p.name.startswith("."))


def _begins(path: Path, split: str) -> bool:
    """Whether a file's name begins with the split's, and not with a longer word, as `testing.parquet` does."""
    return path.name.startswith(split) and not path.name[len(split)].isalpha()


def _check_shards(files: Sequence[Path], split: str, inside: bool) -> None:
    """Raise `UserError` unless the files are the shards of one numbering; `inside` a split's folder of any name."""
    names = {path: match for path in files if (match := _NAME.fullmatch(path.name))}
    stem = names[files[0]]["stem"] if inside else split
    cure = f"move one of them away, or number all as {split}-00000-of-{len(files):05d}.parquet and so on"
    for path, match in names.items():
        if match["stem"] != stem:
            raise UserError(f"{path} is not a shard of the {split} split that it is beside: {cure}")
    if len(files) == 1 and names[files[0]]["number"] is None:
        return
    shards: dict[int, Path] = {}
    for path, match in names.items():
        first = next(iter(shards.values()), path)
        number = -1 if match["number"] is None else int(match["number"])
        if number < 0 or number in shards or match["total"] != names[first]["total"]:
            raise UserError(f"{shards.get(number, first)} and {path} are not of one numbering: {cure}")
        shards[number] = path
    total = names[files[0]]["total"]
    expected = range(int(total)) if total else range(min(*shards, 1), max(shards) + 1)
    if missing := sorted(set(expected) - shards.keys()):
        raise UserError(
            f"{files[0].parent} does not hold all {len(expected)} shards that {files[0].name} belongs to: download "
            f"the missing ones, such as number {missing[0]}"
        )


def inspect(path: Path, columns: Columns) -> File:
    """Open a Parquet file and check its columns, its types and its labels.

    Raises `UserError` that names the file if it is truncated or not Parquet, has no rows or lacks a column, if the
    images are not encoded bytes or the labels neither integers nor text, or if a label is missing or negative.
    """
    with _opened(path) as file:
        schema = file.schema_arrow
        image, label = columns.of(path, schema.names)
        labels = file.read(columns=[label]).column(0)
    return checked(path, schema, image, label, labels)


def unlabelled(path: Path) -> File:
    """A Parquet file whose labels are not read, if it has any: all count as 0. Raises `UserError` as `inspect` does."""
    with _opened(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        image = _column(path, schema.names, None, "image", IMAGE)
    _check_image(path, schema, image)
    _require_rows(path, rows)
    return File(path, image, "", pa.chunked_array([pa.array(np.zeros(rows, dtype=np.int64))]), None)


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with reading(path), pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        if is_lfs_pointer(path):
            raise UserError(lfs_pointer(path)) from error
        raise UserError(f"{path} is not a whole Parquet file: {error}. Download it again") from error


def checked(path: Path, schema: pa.Schema, image: str, label: str, labels: pa.ChunkedArray) -> File:
    """A file whose columns are known; raises `UserError` as `inspect` does."""
    _check_types(path, schema, image, label)
    _require_rows(path, len(labels))
    if labels.null_count:
        raise UserError(f"{path}: row {pc.index(pc.is_null(labels), True)} has no label: fix or remove that row")
    if pa.types.is_integer(labels.type):
        if pc.max(labels).as_py() < 0:
            raise UserError(
                f"{path}: no label is above {pc.max(labels)}: the labels of this split are not published, so that "
                "nothing can be measured on it; use the validation split"
            )
        _refuse(path, labels, pc.less(labels, 0), "labels count from 0")
    return File(path, image, label, labels, _class_names(path, schema, label))


def numbered(files: Sequence[File], given: int | None) -> tuple[list[Tensor], int]:
    """The labels of each file as numbers, int64, and the number of classes of all.

    Raises `UserError` where files have labels of different kinds or name different classes, and for integers that may
    count from 1.
    """
    texts = [file for file in files if not pa.types.is_integer(file.labels.type)]
    if texts:
        if len(texts) < len(files):
            raise UserError(f"{texts[0].path} has labels of text, and another file of the set has integers: use one")
        distinct = sorted(set().union(*(file.labels.unique().to_pylist() for file in texts)))
        codes = [pc.index_in(file.labels, pa.array(distinct, file.labels.type)) for file in texts]
        return [_tensor(one) for one in codes], count_classes(0, len(distinct) - 1, given)
    labels = [_tensor(file.labels) for file in files]
    named = [file for file in files if file.class_names is not None]
    for file in named:
        if file.class_names != named[0].class_names:
            raise UserError(f"{named[0].path} and {file.path} name different classes: bring them to one list")
    if given is not None or named:  # each file is checked against them, so that an error names it
        return labels, given or len(named[0].class_names or ())
    low, high = (int(pick([pick(one) for one in labels])) for pick in (min, max))
    try:
        return labels, count_classes(low, high, given)
    except UserError as error:
        raise UserError(f"{files[0].path.parent}: {error}") from error


def _tensor(labels: pa.ChunkedArray) -> Tensor:
    return torch.from_numpy(labels.to_numpy().astype("int64"))


def check_range(file: File, classes: int) -> None:
    """Raises `UserError` that names the first row whose label is not below `classes`."""
    _refuse(file.path, file.labels, pc.greater_equal(file.labels, classes), f"there are {classes} classes")


def _column(path: Path, names: Sequence[str], wanted: str | None, what: str, usual: Sequence[str]) -> str:
    if wanted is not None:
        if wanted not in names:
            hint = did_you_mean(wanted, names)
            raise UserError(f"{path} has no column '{wanted}': {hint}it has {', '.join(names)}. Rename the column")
        return wanted
    found = [name for name in names if name in usual]
    if len(found) != 1:
        many = f"{' and '.join(found)} could each be the {what}" if found else f"no column is known to be the {what}"
        raise UserError(
            f"{path}: {many}: name it with the dataset's option {what}=NAME; the columns are {', '.join(names)}"
        )
    return found[0]


def _check_types(path: Path, schema: pa.Schema, image_column: str, label_column: str) -> None:
    _check_image(path, schema, image_column)
    label = schema.field(label_column).type
    if not (pa.types.is_integer(label) or pa.types.is_string(label) or pa.types.is_large_string(label)):
        raise UserError(
            f"{path}: column '{label_column}' is {label}, not integers or text: number the classes from 0, or name them"
        )


def _check_image(path: Path, schema: pa.Schema, image_column: str) -> None:
    image = schema.field(image_column).type
    if pa.types.is_struct(image) and image.get_field_index("bytes") >= 0:
        image = image.field("bytes").type
    if not (pa.types.is_binary(image) or pa.types.is_large_binary(image)):
        raise UserError(
            f"{path}: column '{image_column}' is {image}, not encoded images: write it with the Image feature of "
            "`datasets`, or as the bytes of PNG files"
        )


def _require_rows(path: Path, rows: int) -> None:
    if rows == 0:
        raise UserError(f"{path} has no rows: remove it, or download it again")


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
