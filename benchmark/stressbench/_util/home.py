"""The folder for downloads and trained weights."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from stressbench._util.files import require_text
from stressbench.errors import UserError


def home() -> Path:
    """`$STRESSBENCH_HOME`, or the platform's cache folder for stressbench; not created here.

    Raises `UserError` where neither is known (`~name` of a user who is not there, or no home folder at all), and where
    its path has bytes that are not UTF-8.
    """
    chosen = os.environ.get("STRESSBENCH_HOME")
    if chosen:
        try:
            folder = Path(chosen).expanduser().absolute()
        except RuntimeError as error:
            raise UserError(f"STRESSBENCH_HOME is '{chosen}', whose home folder does not exist: set another") from error
        return require_text(folder, "point STRESSBENCH_HOME at another folder")
    from platformdirs import user_cache_path

    with suppress(RuntimeError):  # of newer versions; older ones return a folder called ~
        folder = user_cache_path("stressbench", appauthor=False)
        if folder.is_absolute():
            return require_text(folder, "point STRESSBENCH_HOME at another folder")
    raise UserError("no home folder found to keep files in (HOME): set STRESSBENCH_HOME to a folder")
