"""Published sets from the Hugging Face hub."""

from __future__ import annotations

from stressbench.datasets.encoded import Fit
from stressbench.datasets.folder import Columns
from stressbench.datasets.own import Rows
from stressbench.datasets.parquet import offline, rows_of
from stressbench.errors import UserError

_PATIENCE = 10.0  # seconds until the hub counts as out of reach


def from_hub(name: str, repository: str, split: str, columns: Columns, classes: int, fitted: Fit | None = None) -> Rows:
    """A split of a repository, or what the hub's cache has of it.

    Raises `UserError` where it is neither there nor in reach, and where it has lost a column.
    """
    from datasets import load_dataset

    unreachable = _unreachable(repository)
    try:
        if unreachable is None:
            table = load_dataset(repository, split=split)
        else:
            with offline():
                table = load_dataset(repository, split=split)
    except Exception as error:  # whatever the hub's client raises, the way out is the same
        why = unreachable or f"{type(error).__name__}: {error}"
        raise UserError(
            f"'{name}' could not be had from the Hugging Face hub ({why}) and is not in its cache: "
            f"clone huggingface.co/datasets/{repository} where there is a network, and name the folder with --data-dir"
        ) from error
    image, label = columns.image or "image", columns.label or "label"
    missing = [column for column in (image, label) if column not in table.column_names]
    if missing:
        raise UserError(f"{repository} on the hub has no column '{missing[0]}' any more: use --data-dir")
    return rows_of(table, image, label, classes, lambda index: f"row {index} of {repository}, {split}", fitted)


def _unreachable(repository: str) -> str | None:
    """Why the hub cannot be used now, or None if it can. One request, for the library alone retries for 24 seconds."""
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(repository, timeout=_PATIENCE)
    except Exception as error:  # no name resolution, no route, a proxy's page, the hub's own trouble
        return f"{type(error).__name__}: {error}".rstrip(": ")
    return None
