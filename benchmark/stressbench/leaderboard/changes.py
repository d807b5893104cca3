"""What a branch changed, according to git: a submission is new records and the rebuilt pages only."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from stressbench.errors import UserError
from stressbench.leaderboard.numbers import Fault
from stressbench.leaderboard.paths import RECORDS, REPLAYS, generated

_DEPTH = 4  # of a record: records/dataset/suite/model.json


def since(base: str, root: Path) -> tuple[list[Path], list[tuple[Path, Fault]]]:
    """The records added since the branch left `base`, and faults for all other files that may not change.

    Only commits count. Raises `UserError` if git does not know the folder or the commit.
    """
    top = Path(git(root, "rev-parse", "--show-toplevel").removesuffix("\n"))
    options = ("--name-status", "--no-renames", "-z", "--end-of-options")
    changed = git(root, "diff", *options, f"{base}...HEAD", "--").split("\0")
    added: list[Path] = []
    faults: list[tuple[Path, Fault]] = []
    for status, name in zip(changed[::2], changed[1::2], strict=False):
        whole = top / name
        inside = whole.relative_to(root.resolve()) if whole.is_relative_to(root.resolve()) else Path("..")
        path = Path(os.path.relpath(whole))
        if generated(inside):
            if status == "D":
                faults.append((path, Fault("", "is deleted: `bench leaderboard build` writes it")))
        elif inside.parts[0] == REPLAYS:
            faults.append((path, Fault("", "is touched: who looks after the leaderboard replays a record")))
        elif ".github" in path.parts:
            faults.append((path, Fault("", "is touched: these checks cannot judge that, it is for a person to read")))
        elif _is_source(inside):
            if status != "A":
                faults.append((path, Fault("", "is changed: the source of a record stays as it is")))
        elif inside.parts[0] != RECORDS or inside.suffix != ".json":
            faults.append((path, Fault("", "is touched: a result is its record and the rebuilt pages, nothing else")))
        elif status != "A":
            done = "deleted" if status == "D" else "changed"
            faults.append((path, Fault("", f"is {done}: a record that is there stays as it is")))
        else:
            added.append(path)
    return added, faults


def _is_source(inside: Path) -> bool:
    """Whether a file is Python beside a record, in the folder of its name."""
    return inside.parts[0] == RECORDS and len(inside.parts) > _DEPTH and inside.suffix == ".py"


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    except OSError as error:
        raise UserError(f"git is needed to tell what was changed, and cannot be run: {error.strerror}") from error
    except subprocess.SubprocessError as error:
        reason = getattr(error, "stderr", None) or str(error).encode()
        raise UserError(f"git cannot tell what was changed: {reason.decode(errors='replace')}") from error
    return done.stdout.decode(errors="surrogateescape")
