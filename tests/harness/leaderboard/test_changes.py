"""`bench leaderboard check --base`: what a branch may touch, in real git repositories."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from leaderboard_records import changed, complete, put, without_intervals
from stressbench.cli import main

Check = Callable[[], tuple[int, list[str]]]


def git(folder: Path, *arguments: str) -> None:
    words = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e@localhost", *arguments]
    subprocess.run(words, check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Change")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A project with one record on `main`, and a branch of it checked out."""
    folder = tmp_path / "project"
    put(complete("old"), folder / "leaderboard" / "records" / "squares" / "corruption" / "old.json")
    (folder / "leaderboard" / "README.md").write_text("old\n")
    (folder / "code.py").write_text("old\n")
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", str(folder))
    commit(folder)
    git(folder, "checkout", "--quiet", "-b", "result")
    return folder


@pytest.fixture
def check(repository: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Commit everything and check it beside `main`; the exit code and the lines on stdout."""

    def run() -> tuple[int, list[str]]:
        commit(repository)
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main(["leaderboard", "check", "--base", "main", "--root", str(repository / "leaderboard")])
        assert isinstance(done.value.code, int)
        return done.value.code, capsys.readouterr().out.splitlines()

    return run


def new(repository: Path) -> Path:
    return repository / "leaderboard" / "records" / "squares" / "corruption" / "tiny.json"


def test_a_new_record_with_the_rebuilt_pages_is_right(repository: Path, check: Check) -> None:
    put(complete(), new(repository))
    (repository / "leaderboard" / "README.md").write_text("new\n")
    (repository / "leaderboard" / "index.html").write_text("new\n")
    for folder in ("tables", "models"):
        (repository / "leaderboard" / folder).mkdir()
        (repository / "leaderboard" / folder / "one.html").write_text("new\n")
    assert check() == (0, ["1 record passed"])


def test_what_happened_on_main_meanwhile_is_not_blamed_on_the_branch(repository: Path, check: Check) -> None:
    git(repository, "checkout", "--quiet", "main")
    (repository / "code.py").write_text("newer\n")
    commit(repository)
    git(repository, "checkout", "--quiet", "result")
    put(complete(), new(repository))
    assert check() == (0, ["1 record passed"])


def test_a_new_record_of_an_old_version_has_what_every_record_has(repository: Path, check: Check) -> None:
    put(without_intervals(complete()), new(repository))
    assert check()[1][0].partition(": ")[2].startswith("intervals: are missing")


def test_a_new_record_is_checked(repository: Path, check: Check) -> None:
    put(changed(complete(), ("metrics", "mean_error"), 0.1), new(repository))
    code, lines = check()
    assert code == 2
    assert lines[0] == f"{os.path.relpath(new(repository))}: metrics.mean_error: is 0.1, its conditions give 0.2"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("code.py", "new\n", "is touched: a result is its record and the rebuilt pages, nothing else"),
        ("code.py", None, "is touched: a result is its record and the rebuilt pages, nothing else"),
        (".github/workflows/x.yml", "on: push\n", "it is for a person to read"),
        ("leaderboard/records/squares/net.py", "1\n", "is touched: a result is"),
        ("leaderboard/page.js", "alert(1)\n", "is touched: a result is"),
        ("leaderboard/tables/page.js", "alert(1)\n", "is touched: a result is"),
        ("leaderboard/tables/more/one.html", "alert(1)\n", "is touched: a result is"),
        ("leaderboard/records/squares/corruption/tiny.html", "<b>\n", "is touched: a result is"),
        ("leaderboard/replays/squares/corruption/old.json", "{}\n", "is touched: who looks after the leaderboard"),
        (
            "leaderboard/records/squares/corruption/old.json",
            "{}\n",
            "is changed: a record that is there stays as it is",
        ),
        ("leaderboard/records/squares/corruption/old.json", None, "is deleted: a record that is there stays as it is"),
        ("leaderboard/README.md", None, "is deleted: `bench leaderboard build` writes it"),
        ("::warning ::x\x1b[31m", "x\n", "is touched: a result is"),
    ],
)
def test_anything_else_that_is_touched_is_found(
    name: str, content: str | None, words: str, repository: Path, check: Check
) -> None:
    put(complete(), new(repository))
    path = repository / name
    if content is None:
        path.unlink()
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    code, lines = check()
    assert code == 2
    (line,) = lines
    assert words in line
    assert line.isprintable()


def test_a_renamed_record_is_one_deleted_and_one_in_the_wrong_place(repository: Path, check: Check) -> None:
    old = new(repository).with_name("old.json")
    old.rename(new(repository))
    code, lines = check()
    assert code == 2
    assert sorted(line.partition(": ")[2].split(":")[0] for line in lines) == [
        f"belongs in {old}",
        "is deleted",
    ]


@pytest.mark.parametrize("base", ["no-such-commit", "--output=x", "main..main"])
def test_a_commit_that_is_none_is_a_line(base: str, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["leaderboard", "check", f"--base={base}", "--root", str(repository / "leaderboard")])
    assert done.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bench: git cannot tell what was changed: ")
    assert not (repository / "x...HEAD").exists()


def test_outside_a_repository_git_cannot_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["leaderboard", "check", "--base", "main", "--root", str(tmp_path)])
    assert done.value.code == 2
    assert "git cannot tell what was changed" in capsys.readouterr().err
