"""A run's record as a commit on a branch of its own, and as a pull request where GitHub's command is installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from stressbench.errors import UserError
from stressbench.leaderboard import build, changes, check, facts, records, replication
from stressbench.leaderboard.changes import git
from stressbench.leaderboard.paths import CLAIMS, result
from stressbench.record import Record, dataset_label, load
from stressbench.spec import slug


def submit(run: Path, root: Path, base: str, sources: Sequence[Path] = ()) -> list[str]:
    """Check a run's record, and commit it with the rebuilt pages on a new branch from the current commit.

    Returns the commands that are left to do: none if `gh` made the pull request. Raises `UserError` for a working tree
    with changes, before anything is written; for a record that the leaderboard refuses; and if git or gh fails.
    """
    if changed := git(root.parent, "status", "--porcelain").splitlines():
        raise UserError(f"{changed[0][3:]} has changes that are not committed: commit or stash them first")
    record = load(run)
    branch = f"result-{slug(record.model.spec)}-{result(record)[:8]}"
    title = _title(record)
    board = [other for other in records.readable(root).values() if result(other) != result(record)]
    records.require_faultless(run, [*check.faults(record, board, facts.known(root)), *check.incomplete(record)])
    git(root.parent, "switch", "--quiet", "--create", branch)
    records.add(run, root, replace=False, sources=sources)
    build.build(root)
    if (root / CLAIMS).exists():
        replication.write(root)
    git(root, "add", "--all", ".")
    git(root, "commit", "--quiet", "--message", title)
    _require_right(base, root)
    commands = [["git", "push", "--set-upstream", "origin", branch], ["gh", "pr", "create", "--fill", "--head", branch]]
    if shutil.which("gh") is None:
        return [" ".join(command) for command in commands]
    git(root, *commands[0][1:])
    done = subprocess.run(commands[1], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"{branch} is pushed, and gh made no pull request: {done.stderr.strip()}")
    return []


def _title(record: Record) -> str:
    return f"Add {record.model.spec} on {dataset_label(record)} ({record.suite.name})"


def _require_right(base: str, root: Path) -> None:
    """Raises `UserError` for the first thing that the pull request's checks would find."""
    added, found = changes.since(base, root)
    board = records.readable(root)
    for path in added:
        inside = path.resolve().relative_to(root.resolve())
        found += [(path, fault) for fault in check.file(path, root, board, datetime.now(UTC), [inside])]
    for path, fault in found:
        raise UserError(f"the branch is made, and its checks would fail: {path}: {fault}")
