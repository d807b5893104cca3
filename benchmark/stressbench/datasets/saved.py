"""Folders that `save_to_disk` of the `datasets` library wrote."""

from __future__ import annotations

from pathlib import Path

from stressbench._util.files import reading
from stressbench.datasets.encoded import EncodedImages, Fitting
from stressbench.datasets.folder import Columns, check_range, checked, numbered
from stressbench.datasets.own import Rows
from stressbench.errors import UserError, describe

_ONE, _SPLITS = "dataset_info.json", "dataset_dict.json"


def is_saved(folder: Path) -> bool:
    """Whether a folder holds a saved dataset, or a dictionary of them."""
    return (folder / _ONE).is_file() or (folder / _SPLITS).is_file()


def load_saved(folder: Path, split: str, columns: Columns, classes: int | None, fitted: Fitting | None) -> Rows:
    """The rows of a split; a folder that was saved without splits is all of one, which can only be tested on.

    Raises `UserError` for a split that is not there, a folder that is not whole, and what `folder.inspect` refuses.
    """
    import pyarrow as pa
    from datasets import load_from_disk

    splits = (folder / _SPLITS).is_file()
    path = folder / split if splits else folder
    if not (path / _ONE).is_file() or (not splits and split == "train"):
        there = sorted(p.parent.name for p in folder.glob(f"*/{_ONE}"))
        raise UserError(
            f"{folder} has no split '{split}'; it has {', '.join(there) or 'one split without a name, to test on'}: "
            "the dataset's option test=NAME says which is tested on"
        )
    try:
        with reading(path):
            table = load_from_disk(str(path), keep_in_memory=False)
            schema = table.features.arrow_schema
            image, label = columns.of(path, schema.names)
            labels = table.select_columns([label]).with_format("arrow")[:].column(label)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read as a saved dataset: {describe(error)}. Save it again") from error
    file = checked(path, schema, image, label, labels)
    (numbers,), count = numbered([file], classes)
    check_range(file, count)
    return Rows(EncodedImages.of_table(table, image, lambda index: f"row {index} of {path}", fitted), numbers, count)
