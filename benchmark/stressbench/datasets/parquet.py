"""Any local folder of Parquet files as a dataset, read through `datasets.load_dataset`."""

from __future__ import annotations

import bisect
import glob
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import torch

from stressbench._util.files import reading
from stressbench._util.home import home
from stressbench._util.locks import require_locks
from stressbench.contracts import Dataset
from stressbench.datasets.encoded import EncodedImages, Fit, Fitting, fit
from stressbench.datasets.folder import Columns, File, check_range, find, inspect, numbered, unlabelled
from stressbench.datasets.own import Rows, nothing_found, own, words
from stressbench.datasets.saved import is_saved, load_saved
from stressbench.errors import UserError

if TYPE_CHECKING:
    import datasets


def parquet(
    split: str,
    data_dir: Path | None = None,
    name: str | None = None,
    *,
    image: str | None = None,
    label: str | None = None,
    test: str = "test",
    classes: int | None = None,
    size: int | None = None,
    resize: int | None = None,
) -> Dataset:
    """The folder `data_dir` of Parquet files, or one that `save_to_disk` of `datasets` wrote, called `name`.

    The columns `image` (encoded images) and `label` are the only ones with usual names unless they are given; labels
    are integers from 0, or text, whose classes are in alphabetical order. `test` is what the folder calls the split to
    test on. The number of classes is `classes`, else that of the label's ClassLabel feature, else what the labels of
    the train and the test files together have, as far as they are there, so that the two splits of a folder agree.
    With `size`, images are scaled until their shorter side is `resize` (`size`, unless it is given), and their middle,
    `size`×`size`, is cut out.

    Raises `UserError` without a folder or a name, for the name of another dataset, and for files that are not whole
    (see `folder.py`).
    """
    fitted = fit(size, resize)
    columns = Columns(image, label)

    def load(folder: Path) -> Rows:
        this, other = words(split, test)
        if is_saved(folder):
            return load_saved(folder, this, columns, classes, fitted)
        return load_folder(folder, this, columns, classes, other, fitted)

    return own("parquet", split, data_dir, name, load)


def load_folder(
    folder: Path,
    split: str,
    columns: Columns,
    classes: int | None = None,
    other: str | None = None,
    fitted: Fit | None = None,
) -> Rows:
    """Check the files of a split and open them; with `classes` given, a label that is not below it is an error.

    Without them, they are counted in the `other` split, too. Only the files that `folder.find` names are read, as
    Parquet and as nothing else. `datasets` keeps its copy of their images, which it maps into memory, under `home()`,
    not in `folder` and not in the user's own cache.
    """
    files = [inspect(path, columns) for path in _paths(folder, split)]
    siblings = [] if other is None else [inspect(path, columns) for path in find(folder, other)]
    labels, count = numbered([*files, *siblings], classes)
    for file in files:
        if pa.types.is_integer(file.labels.type):
            check_range(file, count)
    return Rows(_images(files, split, fitted), torch.cat(labels[: len(files)]), count)


def images_alone(folder: Path, fitted: Fitting) -> EncodedImages:
    """The images of a folder's test split, whatever their labels are; raises `UserError` as `load_folder` does."""
    return _images([unlabelled(path) for path in _paths(folder, "test")], "test", fitted)


def _paths(folder: Path, split: str) -> list[Path]:
    paths = find(folder, split)
    if not paths:
        raise nothing_found(
            "parquet",
            folder,
            split,
            f"{split}.parquet, {split}-00000-of-00002.parquet and so on, or a folder {split} of such files, in it or "
            "one folder down",
        )
    return paths


def _images(files: Sequence[File], split: str, fitted: Fitting | None) -> EncodedImages:
    for file in files:
        if file.image != files[0].image:
            raise UserError(
                f"{file.path} has its images in '{file.image}', not in '{files[0].image}': rename the column"
            )
    table = _load(files, split)
    ends = list(itertools.accumulate(len(file.labels) for file in files))

    def where(index: int) -> str:
        number = bisect.bisect_right(ends, index)
        return f"row {index - ends[number] + len(files[number].labels)} of {files[number].path}"

    return EncodedImages.of_table(table, files[0].image, where, fitted, [file.path for file in files])


def rows_of(
    table: datasets.Dataset,
    image: str,
    label: str,
    classes: int,
    where: Callable[[int], str],
    fitted: Fit | None = None,
) -> Rows:
    """The labels of a loaded table, and its images to be decoded as they are read."""
    labels = table.with_format("numpy", columns=[label])[:][label]
    files = [Path(file["filename"]) for file in table.cache_files]
    images = EncodedImages.of_table(table, image, where, fitted, files)
    return Rows(images, torch.from_numpy(labels).to(torch.int64), classes)


def _load(files: Sequence[File], split: str) -> datasets.Dataset:
    from datasets import Features, Image, load_dataset
    from datasets.exceptions import DatasetsError

    cache = home() / "cache" / "parquet"
    named = ", ".join(str(file.path) for file in files)
    try:
        with reading(f"{named}, or the copy in {cache},"):
            cache.mkdir(parents=True, exist_ok=True)
            require_locks(cache, "point STRESSBENCH_HOME at a folder")
            with offline(), _quiet():
                return load_dataset(
                    "parquet",
                    data_files={split: [glob.escape(str(file.path.resolve())) for file in files]},
                    split=split,
                    cache_dir=str(cache),
                    columns=[files[0].image],
                    features=Features({files[0].image: Image()}),
                )
    except (DatasetsError, OSError, ValueError) as error:
        # The library wraps what went wrong inside a file, so the reason is at the end of the chain.
        why = error.__cause__ or error
        raise UserError(f"{named} cannot be loaded: {why}. Download it again") from error


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
