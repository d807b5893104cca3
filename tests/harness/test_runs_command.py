"""`bench runs`: what is in a folder of run folders, and deleting some of it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from harness.made_runs import bench, made
from stressbench._util.locks import hold

FEW = ("--corruptions", "fog", "--severities", 3)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run, one that lost its record and a table, and a part."""
    folder = tmp_path_factory.mktemp("made")
    made(folder, "corruption", "tiny", *FEW, "--name", "net")
    partial = made(folder, "corruption", "dropped", *FEW, "--draws", 2)
    (partial / "record.json").unlink()
    next((partial / "tables").glob("*fog*")).unlink()
    made(folder, "corruption", "masked", *FEW, "--shard", "1/2")
    return folder


@pytest.fixture
def out(three: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(three, tmp_path / "runs"))


def test_runs_are_listed_with_their_state(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / "damaged").mkdir()
    (out / "damaged" / "run.json").write_text("{}")
    failed = [{"dataset": "digits", "model": "bad", "suite": "ood", "error": "why"}]
    (out / "failures.json").write_text(json.dumps(failed))
    capsys.readouterr()
    assert bench("runs", out) == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    dated = [line.split() for line in lines if re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d  ", line)]
    assert {re.sub(r"-[0-9a-f]{8}$", "", Path(words[3]).name): words[2] for words in dated} == {
        "digits-corruption-tiny": "complete",
        "digits-corruption-dropped": "partial",
        "digits-corruption-masked": "part",
        "damaged": "damaged",
    }
    assert "net on digits, 40 images: clean_error " in shown
    assert shown.count("1 of 2 conditions") == 2
    assert lines[-1] == "failed: bad · ood on digits: why"
    assert bench("runs", "ls", out, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    complete = next(one for one in found["runs"] if one["state"] == "complete")
    assert complete["metrics"] == json.loads((Path(complete["folder"]) / "record.json").read_text())["metrics"]
    assert (complete["label"], complete["model"], complete["n"]) == ("net", "tiny", 40)
    assert found["failed"] == failed


def test_a_folder_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("runs", tmp_path) == 0
    assert "there are no runs" in capsys.readouterr().out
    assert bench("runs", tmp_path / "no") == 2
    assert "is not a folder" in capsys.readouterr().err


def test_rm_asks_and_deletes(out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = sorted(out.glob("digits*"))
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    assert bench("runs", "rm", first, second) == 0
    assert "nothing was deleted" in capsys.readouterr().err
    assert first.exists()
    assert bench("runs", "rm", first, second, f"{first}/", "--yes") == 0
    assert capsys.readouterr().out.splitlines() == [f"deleted {first}", f"deleted {second}"]
    assert list(out.glob("digits*")) == [third]


def test_rm_refuses_whatever_is_not_a_run(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = next(out.glob("digits*"))
    project, link, mine = tmp_path / "project", tmp_path / "link", run / "figures"
    project.mkdir()
    (project / "run.json").write_text('{"scripts": []}')
    link.symlink_to(run)
    for bad, words in (
        (out, "is not a run folder"),
        (link, "is not a run folder"),
        (project, "is damaged"),
        (tmp_path / "no", "is not a run folder"),
    ):
        assert bench("runs", "rm", run, bad, "--yes") == 2
        assert words in capsys.readouterr().err
        assert run.exists()
    mine.mkdir()
    assert bench("runs", "rm", run, "--yes") == 2
    assert "also holds figures, and nothing was deleted" in capsys.readouterr().err
    mine.rmdir()
    with hold(run / "run.lock", "", ""):
        assert bench("runs", "rm", run, "--yes") == 2
    assert "another process is at work in" in capsys.readouterr().err
    assert project.exists()
    assert run.exists()
