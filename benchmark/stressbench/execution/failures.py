"""What could not be run, as a list beside the run folders: it grows with each failure and shrinks with each success."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from stressbench._util.files import refused, replace, writing
from stressbench._util.locks import hold
from stressbench.errors import UserError
from stressbench.execution.plan import Failure
from stressbench.spec import parse

_NAME = "failures.json"
_PATIENCE = 10.0  # seconds that another process may take to write the list


def read(out: Path) -> list[dict[str, str]]:
    """The list in a folder; raises `UserError` where it is something else."""
    return _entries(out / _NAME)


def update(out: Path, dataset: str, finished: Iterable[tuple[str, str]], failed: Iterable[Failure]) -> Path:
    """Take finished runs (model, suite) off the list in a folder, and put failed ones on it; returns the list.

    A model goes by the name that was typed, since the canonical name of a file changes when the file is fixed; a
    suite goes by its name without options. Processes that end together wait for each other, so that no entry is lost.

    The file is a JSON list of {"dataset", "model", "suite", "error"}; without failures there is none. Raises
    `UserError` where it cannot be written, or is something else.
    """
    path = out / _NAME
    finished, failed = list(finished), list(failed)
    if not failed and not path.exists():
        return path
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            _write(path, dataset, finished, failed)
    return path


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the list; where the file system has no locks, or one is stuck, go on without: the failures are kept."""
    with ExitStack() as stack:
        with suppress(UserError, OSError):
            stack.enter_context(hold(path.with_name(f".{path.name}.lock"), "", "", timeout=_PATIENCE))
        yield


def _write(path: Path, dataset: str, finished: Iterable[tuple[str, str]], failed: Iterable[Failure]) -> None:
    listed = {(one["dataset"], one["model"], one["suite"]): one["error"] for one in _entries(path)}
    done = {(dataset, model, _bare(suite)) for model, suite in finished}
    listed = {(d, m, s): error for (d, m, s), error in listed.items() if (d, m, _bare(s)) not in done}
    listed |= {(dataset, one.model, one.suite): str(one.error) for one in failed}
    entries = [{"dataset": d, "model": m, "suite": s, "error": error} for (d, m, s), error in sorted(listed.items())]
    if entries:
        replace(path, (json.dumps(entries, indent=2, ensure_ascii=False) + "\n").encode())
    else:
        path.unlink(missing_ok=True)


def _bare(suite: str) -> str:
    return parse(suite).name


def _entries(path: Path) -> list[dict[str, str]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [{key: str(entry[key]) for key in ("dataset", "model", "suite", "error")} for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise refused(path, error) from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is not the list of failed runs that belongs there: move it away") from error
