"""A file system that fails is named as what failed, by every reader; a damaged file still is a damaged file."""

from __future__ import annotations

import errno
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors
import safetensors.torch
import torch
from datasets.exceptions import DatasetGenerationError

from stressbench import registry, weights
from stressbench._util import checkpoints, files
from stressbench.datasets import arrays, folder, masks, saved
from stressbench.datasets.encoded import EncodedImages
from stressbench.datasets.folder import Columns
from stressbench.datasets.npy import NpyFile
from stressbench.datasets.trees import files_of
from stressbench.errors import UserError

STALE = OSError(errno.ESTALE, "Stale file handle")


def fails(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ESTALE, "Stale file handle")


def wrapped(*_: Any, **__: Any) -> Any:
    raise DatasetGenerationError("An error occurred while generating the dataset") from STALE


def parquet(path: Path) -> Path:
    pixels = pa.array([{"bytes": b"\x89PNG", "path": None}])
    pq.write_table(pa.table({"image": pixels, "label": [0]}), path)
    return path


def array(path: Path) -> Path:
    np.save(path, np.arange(4))
    return path


def tensors(path: Path) -> Path:
    safetensors.torch.save_file({"a": torch.ones(1)}, path)
    return path


def pickled(path: Path) -> Path:
    torch.save({"a": torch.ones(1)}, path)
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def saved_set(path: Path) -> Path:
    (path / "test").mkdir(parents=True)
    (path / "test" / "dataset_info.json").write_text("{}")
    (path / "dataset_dict.json").write_text('{"splits": ["test"]}')
    return path


READERS: list[tuple[str, Callable[[Path], Path], Callable[[Path], object], Any, str, Any]] = [
    ("labels", parquet, lambda path: folder.inspect(path, Columns()), pq.ParquetFile, "read", fails),
    ("column", parquet, lambda path: masks.column([path], "image"), pq.ParquetFile, "read", fails),
    (
        "images",
        parquet,
        lambda path: registry.dataset("parquet", "test", path.parent, "x"),
        datasets,
        "load_dataset",
        wrapped,
    ),
    (
        "saved",
        saved_set,
        lambda path: saved.load_saved(path, "test", Columns(), 2, None),
        datasets,
        "load_from_disk",
        fails,
    ),
    ("npy header", array, lambda path: NpyFile(path, "save it again"), np.lib.format, "open_memmap", fails),
    ("npy rows", array, lambda path: NpyFile(path, "save it again").read(0, 2), np, "fromfile", fails),
    ("array", array, lambda path: arrays._load(path), np, "load", fails),
    ("image", empty, lambda path: EncodedImages.of_files([path]), Path, "read_bytes", fails),
    ("tree", empty, lambda path: files_of(path.parent, ["n1/a"], "JPEG"), os, "scandir", fails),
    ("safetensors", tensors, checkpoints.read, safetensors.torch, "load_file", fails),
    ("metadata", tensors, weights.metadata, safetensors, "safe_open", fails),
    ("zip", pickled, checkpoints.read, zipfile, "ZipFile", fails),
    ("torch", pickled, checkpoints.read, torch, "load", fails),
]


@pytest.mark.parametrize(
    ("make", "read", "place", "name", "fault"), [row[1:] for row in READERS], ids=[r[0] for r in READERS]
)
def test_a_stale_handle_is_no_damaged_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], Path],
    read: Callable[[Path], object],
    place: Any,
    name: str,
    fault: Any,
) -> None:
    path = make(tmp_path / ("test.parquet" if make is parquet else "test.npy" if make is array else "file"))
    monkeypatch.setattr(place, name, fault)
    with pytest.raises(
        UserError, match=r"cannot be read \(Stale file handle\): the file system, or the disk"
    ) as raised:
        read(path)
    assert str(tmp_path) in str(raised.value)
    assert "again, or" not in str(raised.value)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "check its permissions"),
        (errno.ENOENT, "it was moved or removed"),
        (errno.EMFILE, "raise the limit"),
        (errno.ENOSPC, "free some space"),
        (errno.ETIMEDOUT, "the file system, or the disk or network under it, failed"),
    ],
)
def test_the_advice_is_for_the_cause(number: int, advice: str) -> None:
    with pytest.raises(UserError, match=advice), files.reading("a.parquet"):
        raise OSError(number, "whatever")


@pytest.mark.parametrize(
    "fault", [OSError("Couldn't deserialize thrift"), OSError(errno.EINVAL, "seek"), ValueError("x")]
)
def test_what_is_wrong_with_the_content_passes(fault: Exception) -> None:
    with pytest.raises(type(fault)) as raised, files.reading("a.parquet"):
        raise fault
    assert raised.value is fault


def test_a_cut_file_is_a_damaged_one(tmp_path: Path) -> None:
    path = parquet(tmp_path / "test.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"is not a whole Parquet file.*Download it again"):
        folder.inspect(path, Columns())
    path = pickled(tmp_path / "file")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="cut short or damaged"):
        checkpoints.read(path)
