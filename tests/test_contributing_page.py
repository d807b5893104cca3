"""CONTRIBUTING.md: the files that it names exist, and the commands of a leaderboard result work in the order shown."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT, write_distribution
from stressbench.cli import main

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# What the example's run leaves; the page has some number in the place of the digest.
RUN = re.compile(r"runs/(\S+)-[0-9a-f]{8}$")


@pytest.fixture
def mynet(tmp_path: Path) -> Iterator[None]:
    """The page's model, installed: a network of fixed weights."""
    write_distribution(tmp_path / "site", "mynet", {"stressbench.models": {"mynet": "tiny_models:Tiny"}})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path / "site"))
        yield


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e@localhost", *words], cwd=folder, check=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone of a project whose leaderboard has no record yet."""
    project = tmp_path / "project"
    (project / "leaderboard").mkdir(parents=True)
    shutil.copy(ROOT / "leaderboard" / "claims.toml", project / "leaderboard")
    (project / ".gitignore").write_text("runs/\n")
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", str(project))
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "Begin")
    git(tmp_path, "clone", "--quiet", str(project), "checkout")
    return tmp_path / "checkout"


def commands() -> list[list[str]]:
    """The words of each command of the section on results."""
    section = PAGE.partition("## A leaderboard result")[2]
    block = re.search(r"^```console\n(.*?)^```$", section, flags=re.DOTALL | re.MULTILINE)
    assert block is not None
    lines = [line.removeprefix("$ ") for line in block[1].splitlines()]
    return [shlex.split(command, comments=True) for line in lines for command in line.split(" && ")]


def test_a_result_goes_from_a_model_to_a_branch_that_passes(
    mynet: None, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(checkout)
    for program, *words in commands():
        if program == "git":
            git(checkout, *words)
            continue
        assert program == "bench"
        for place, word in enumerate(words):
            if named := RUN.match(word):
                (folder,) = checkout.glob(f"runs/{named[1]}-*")
                words[place] = str(folder.relative_to(checkout))
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main(words)
        said = capsys.readouterr()
        assert done.value.code == 0, f"bench {shlex.join(words)}: {said.err}"
    assert said.out.splitlines()[-1] == "1 record passed"
    changed = subprocess.run(
        ["git", "diff", "--name-only", "origin/main"], cwd=checkout, capture_output=True, text=True, check=True
    )
    assert "leaderboard/records/digits/corruption/mynet.json" in changed.stdout.splitlines()


def test_the_files_that_the_map_names_exist() -> None:
    places = re.search(r"## Where things are\n(.*?)\n## ", PAGE, flags=re.DOTALL)
    assert places is not None
    named = re.findall(r"`([\w/.]+(?:\.py|/))`", places[1])
    assert len(named) > 30
    there = [
        f"/{path.relative_to(ROOT)}" for top in ("benchmark", "plugins", "suites", "tests") for path in walk(ROOT / top)
    ]
    there += ["/leaderboard"]
    assert [name for name in named if not any(path.endswith(f"/{name.rstrip('/')}") for path in there)] == []


def walk(folder: Path) -> Iterator[Path]:
    yield folder
    yield from folder.rglob("*")
