"""Where stressbench keeps what it downloads and trains."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """`$STRESSBENCH_HOME`, or the platform's cache folder for stressbench; not created here."""
    chosen = os.environ.get("STRESSBENCH_HOME")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("stressbench", appauthor=False)
