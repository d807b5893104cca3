"""What could not be run, as a list beside the run folders: it grows with each failure and shrinks with each success."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from stressbench.errors import UserError
from stressbench.plan import Failure
from stressbench.store import replace, writing


def update(out: Path, dataset: str, finished: Iterable[tuple[str, str]], failed: Iterable[Failure]) -> Path:
    """Take finished runs (model, suite) off the list in a folder, and put failed ones on it; returns the list.

    The file is a JSON list of {"dataset", "model", "suite", "error"}; without failures there is none. Raises
    `UserError` where it cannot be written, or is something else.
    """
    path = out / "failures.json"
    listed = {(one["dataset"], one["model"], one["suite"]): one["error"] for one in _read(path)}
    for model, suite in finished:
        listed.pop((dataset, model, suite), None)
    listed |= {(dataset, one.model, one.suite): str(one.error) for one in failed}
    entries = [{"dataset": d, "model": m, "suite": s, "error": error} for (d, m, s), error in sorted(listed.items())]
    with writing(out):
        if entries:
            out.mkdir(parents=True, exist_ok=True)
            replace(path, (json.dumps(entries, indent=2, ensure_ascii=False) + "\n").encode())
        else:
            path.unlink(missing_ok=True)
    return path


def _read(path: Path) -> list[dict[str, str]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [{key: str(entry[key]) for key in ("dataset", "model", "suite", "error")} for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is not the list of failed runs that belongs there: move it away") from error
