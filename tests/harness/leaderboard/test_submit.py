"""`bench leaderboard submit`: one command makes the branch that the checks pass, in real git repositories."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from leaderboard_records import changed, complete, put, without_intervals
from stressbench.cli import main

BRANCH = "result-tiny-"


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of a project with one record, as a contributor has it; no `gh` on the path."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "n")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "e@localhost")
    programs = tmp_path / "programs"
    programs.mkdir()
    found = subprocess.run(["which", "git"], check=True, capture_output=True, text=True).stdout.strip()
    (programs / "git").symlink_to(found)
    monkeypatch.setenv("PATH", str(programs))
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", str(origin))
    put(complete("old"), origin / "leaderboard" / "records" / "squares" / "corruption" / "old.json")
    git(origin, "add", "--all")
    git(origin, "commit", "--quiet", "--message", "Start")
    git(tmp_path, "clone", "--quiet", str(origin), str(clone))
    return clone


def submit(run: Path, repository: Path) -> int:
    with pytest.raises(SystemExit) as done:
        main(["leaderboard", "submit", str(run), "--root", str(repository / "leaderboard")])
    assert isinstance(done.value.code, int)
    return done.value.code


def test_a_record_becomes_a_branch_that_the_checks_pass(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(put(complete(), repository.parent / "record.json"), repository) == 0
    branch = git(repository, "branch", "--show-current").strip()
    assert branch.startswith(BRANCH)
    assert capsys.readouterr().out.splitlines() == [
        "now run:",
        f"git push --set-upstream origin {branch}",
        f"gh pr create --fill --head {branch}",
    ]
    assert git(repository, "log", "--format=%s", "origin/main..").splitlines() == ["Add tiny on squares (corruption)"]
    touched = git(repository, "diff", "--name-only", "origin/main").splitlines()
    assert {path.partition("/")[2].partition("/")[0] for path in touched} == {
        "README.md", "index.html", "models", "records", "tables",
    }  # fmt: skip
    assert "leaderboard/records/squares/corruption/tiny.json" in touched
    with pytest.raises(SystemExit) as done:
        main(["leaderboard", "check", "--base", "origin/main", "--root", str(repository / "leaderboard")])
    assert done.value.code == 0


def test_with_gh_the_branch_is_pushed_and_the_pull_request_made(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gh = repository.parent / "programs" / "gh"
    gh.write_text(f'#!/bin/sh\necho "$@" > {repository.parent}/asked\n')
    gh.chmod(0o755)
    assert submit(put(complete(), repository.parent / "record.json"), repository) == 0
    assert capsys.readouterr().out == "the pull request is open\n"
    branch = git(repository, "branch", "--show-current").strip()
    assert (repository.parent / "asked").read_text() == f"pr create --fill --head {branch}\n"
    assert branch in git(repository.parent / "origin", "branch")
    gh.write_text("#!/bin/sh\necho not logged in >&2\nexit 1\n")
    git(repository, "switch", "--quiet", "main")
    assert submit(put(complete("other"), repository.parent / "record.json"), repository) == 2
    assert "is pushed, and gh made no pull request: not logged in" in capsys.readouterr().err


def test_nothing_is_written_over_changes_or_for_a_wrong_record(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = put(changed(complete(), ("metrics", "mean_error"), 0.1), repository.parent / "record.json")
    assert submit(wrong, repository) == 2
    assert "metrics.mean_error: is 0.1" in capsys.readouterr().err
    assert submit(put(without_intervals(complete()), repository.parent / "record.json"), repository) == 2
    assert "intervals: are missing" in capsys.readouterr().err
    assert git(repository, "branch", "--show-current").strip() == "main"
    (repository / "notes.txt").write_text("mine\n")
    assert submit(put(complete(), repository.parent / "record.json"), repository) == 2
    assert "notes.txt has changes that are not committed" in capsys.readouterr().err
    assert [path.name for path in (repository / "leaderboard").iterdir()] == ["records"]
