"""Any local folder of Parquet files as a dataset, read through `datasets.load_dataset`."""

from __future__ import annotations

import bisect
import glob
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stressbench import registry
from stressbench._util.home import home
from stressbench._util.locks import require_locks
from stressbench.contracts import Classification, Dataset, InMemory
from stressbench.datasets.encoded import EncodedImages
from stressbench.datasets.folder import Columns, File, check_range, find, inspect
from stressbench.datasets.identity import claimed, identify
from stressbench.errors import UserError

if TYPE_CHECKING:
    import datasets

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_OTHER = {"test": "train", "train": "test"}


@dataclass(frozen=True)
class Rows:
    """A split's images and labels, however they were found."""

    images: EncodedImages
    labels: Tensor  # (N,), int64
    classes: int


def parquet(split: str, data_dir: Path | None = None, name: str | None = None) -> Dataset:
    """The folder `data_dir` of Parquet files with columns `img` (encoded images) and `label`, called `name`.

    The number of classes is that of the label's ClassLabel feature, else 1 + the highest label of the train and the
    test files together, as far as they are there, so that the two splits of a folder agree. A test split called
    `imagenet` counts as altered unless it has that set's form (see `identity.py`).

    Raises `UserError` without a folder or a name, for the name of another dataset, and for files that are not whole
    (see `folder.py`).
    """
    if data_dir is None:
        raise UserError("'parquet' reads a folder of yours: name it with --data-dir")
    if name is None:
        raise UserError("'parquet' needs a name for the record and the leaderboard: pass one with --dataset-name")
    called = check_name(name)
    rows = load_folder(data_dir, split, Columns("img", "label"))
    published = None
    if split == "test":
        published = identify(called, rows.images, rows.labels, rows.classes, rows.images.size)
    return Dataset(
        name=called,
        split=split,
        task=Classification(rows.classes),
        images=rows.images,
        targets=InMemory(rows.labels),
        image_size=rows.images.size,
        altered=split == "test" and claimed(called) != published and claimed(called) is not None,
        published=published,
    )


def check_name(name: str) -> str:
    """`name`, if a dataset of one's own may be called so; raises `UserError` otherwise."""
    if not _NAME.fullmatch(name):
        raise UserError(f"'{name}' cannot name a dataset: use up to 64 letters, digits, dots, hyphens and underscores")
    if (other := stands_for(name)) is not None:
        raise UserError(f"'{name}' stands for the dataset {other}: name your own differently with --dataset-name")
    return name


def stands_for(name: str) -> str | None:
    """The installed dataset whose name this is, however it is spelt: `CIFAR-10` is `cifar10`; None for a new name."""
    known = {_plain(entry.name): entry.name for entry in registry.entries("datasets")}
    return known.get(_plain(name))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def load_folder(folder: Path, split: str, columns: Columns, classes: int | None = None) -> Rows:
    """Check the files of a split and open them; with `classes` given, a label that is not below it is an error.

    Only the files that `folder.find` names are read, as Parquet and as nothing else. `datasets` keeps its copy of
    them, which it maps into memory, under `home()`, not in `folder` and not in the user's own cache.
    """
    paths = find(folder, split)
    if not paths:
        raise UserError(
            f"{folder} holds no {split}*.parquet, neither itself nor one folder down: check --data-dir, or bring the "
            "set into that form"
        )
    files = [inspect(path, columns) for path in paths]
    if classes is None:
        siblings = [inspect(path, columns) for path in find(folder, _OTHER[split])]
        classes = _count_classes([*files, *siblings])
    for file in files:
        check_range(file, classes)
    table = _load(files, split, columns)
    ends = list(itertools.accumulate(file.rows for file in files))

    def where(index: int) -> str:
        number = bisect.bisect_right(ends, index)
        return f"row {index - ends[number] + files[number].rows} of {files[number].path}"

    return rows_of(table, columns, classes, where)


def rows_of(table: datasets.Dataset, columns: Columns, classes: int, where: Callable[[int], str]) -> Rows:
    """The labels of a loaded table, and its images to be decoded as they are read."""
    labels = table.with_format("numpy", columns=[columns.label])[:][columns.label]
    return Rows(EncodedImages(table, columns.image, where), torch.from_numpy(labels).to(torch.int64), classes)


def _count_classes(files: Sequence[File]) -> int:
    import pyarrow.compute as pc

    named = [file for file in files if file.class_names is not None]
    for file in named:
        if file.class_names != named[0].class_names:
            raise UserError(f"{named[0].path} and {file.path} name different classes: bring them to one list")
    if named:
        return len(named[0].class_names or ())
    return 1 + max(int(pc.max(file.labels).as_py()) for file in files)


def _load(files: Sequence[File], split: str, columns: Columns) -> datasets.Dataset:
    from datasets import Features, Image, Value, load_dataset
    from datasets.exceptions import DatasetsError

    cache = home() / "cache" / "parquet"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        require_locks(cache, "point STRESSBENCH_HOME at a folder")
        with offline(), _quiet():
            return load_dataset(
                "parquet",
                data_files={split: [glob.escape(str(file.path.resolve())) for file in files]},
                split=split,
                cache_dir=str(cache),
                columns=[columns.image, columns.label],
                features=Features({columns.image: Image(), columns.label: Value("int64")}),
            )
    except (DatasetsError, OSError, ValueError) as error:
        # The library wraps what went wrong inside a file, so the reason is at the end of the chain.
        why = error.__cause__ or error
        named = ", ".join(str(file.path) for file in files)
        raise UserError(f"{named} cannot be loaded: {why}. Download it again, or free space under {home()}") from error


@contextmanager
def offline() -> Iterator[None]:
    """The library's offline mode: the hub is not asked but looked up in its cache, and local files are read without
    the request by which the library counts its uses, which takes seconds where there is no network."""
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's own bars, which take a moment each and say nothing about a run."""
    import datasets

    hidden = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not hidden:
            datasets.enable_progress_bars()
