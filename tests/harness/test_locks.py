"""File systems without locks, and several processes in one folder."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest
from filelock import FileLock

from stressbench._util.locks import hold, require_locks
from stressbench.cli import main
from stressbench.errors import UserError


@pytest.fixture(params=["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def without_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    code = getattr(errno, request.param)

    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.usefixtures("without_locks")
def test_a_file_system_without_locks_is_named_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "run.lock").touch()  # of an earlier process, where locks worked
    with pytest.raises(UserError, match=r"not support file locks .*: choose another folder on another file system"):
        hold(tmp_path / "run.lock", "at work here", "choose another folder")
    assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]


@pytest.mark.usefixtures("without_locks")
@pytest.mark.parametrize(
    ("command", "cure"),
    [
        (["run", "--model", "tiny", "--corruptions", "fog", "--limit", "2", "--out", "runs"], "--out"),
        (["train", "--model", "untrained", "--epochs", "1"], "STRESSBENCH_HOME"),
        (["data", "pull", "cifar10-c", "--data-dir", "pulled", "--url", "http://127.0.0.1:9/x.tar"], "--data-dir"),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else None,
)
def test_commands_that_lock_say_so_in_a_line(
    command: list[str], cure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as done:
        main(command)
    assert done.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "does not support file locks" in line
    assert cure in line
    assert "another process" not in line


def test_a_lock_that_is_held_is_another_process(tmp_path: Path) -> None:
    require_locks(tmp_path, "")
    with (
        FileLock(tmp_path / "a.lock"),
        pytest.raises(UserError, match="another process is at work here: wait for it, or end it"),
    ):
        hold(tmp_path / "a.lock", "at work here", "")
    with hold(tmp_path / "a.lock", "", ""):
        pass
    with hold(tmp_path / "a.lock", "", ""):  # released above
        pass
