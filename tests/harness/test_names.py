"""Display names: in the record beside the spec, in legends and tables, and never in what a run is."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from harness.made_runs import bench, made
from harness.test_record import FIELDS
from stressbench import record
from stressbench.errors import UserError
from stressbench.leaderboard import markdown, tables
from stressbench.leaderboard.ranking import Entry, Group
from stressbench.leaderboard.words import strange
from stressbench.results import runs

FEW = ("--corruptions", "fog", "--severities", 3)
NAME = "ResNet-20 + dropout"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    out = tmp_path_factory.mktemp("runs")
    return made(out, "corruption", "tiny", *FEW), made(out, "corruption", "tiny,width=4", *FEW)


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert bench(*arguments) == 0
    return capsys.readouterr().out


def test_another_name_computes_nothing_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made(tmp_path, "corruption", "tiny", *FEW)
    before = (folder / "record.json").read_text()
    assert "name" not in json.loads(before)["model"]
    files = {path: path.stat().st_mtime_ns for path in (folder / "tables").iterdir()}
    capsys.readouterr()
    assert bench("run", "tiny", *FEW, "--limit", 40, "--out", tmp_path, "--name", NAME) == 0
    printed = capsys.readouterr()
    assert "2 of 2 conditions are already in" in printed.err
    assert f"{NAME} (tiny) · corruption" in printed.out
    named = json.loads((folder / "record.json").read_text())
    assert named["model"].pop("name") == NAME
    assert named == json.loads(before)  # the date too: it is the same result
    assert {path: path.stat().st_mtime_ns for path in (folder / "tables").iterdir()} == files
    assert list(tmp_path.glob("*/run.json")) == [folder / "run.json"]
    assert bench("run", "tiny", *FEW, "--limit", 40, "--out", tmp_path) == 0
    assert (folder / "record.json").read_text() == before


def test_each_model_has_its_own_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("run", "tiny", "tiny,width=4", *FEW, "--limit", 8, "--out", tmp_path, "--name", NAME) == 2
    assert "--name is given 1 times for 2 models" in capsys.readouterr().err
    names = ("--name", "eight", "--name", "four")
    assert bench("run", "tiny", "tiny,width=4", *FEW, "--limit", 8, "--out", tmp_path, *names) == 0
    found = {one.model.spec: one.model.name for one in map(record.load, tmp_path.glob("digits*"))}
    assert found == {"tiny": "eight", "tiny,width=4": "four"}


@pytest.mark.parametrize("bad", ["", " ", "a\nb", "a\tb", "a\x1b[31m", "\u202eevil", " blank first", "x" * 81])
def test_what_is_no_name(bad: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("run", "tiny", "--name", bad) == 2
    assert "invalid name" in capsys.readouterr().err
    fields: dict[str, Any] = {**FIELDS, "model": {**FIELDS["model"], "name": bad}}
    (tmp_path / "record.json").write_text(json.dumps(fields))
    with pytest.raises(UserError, match="is not a record"):
        record.load(tmp_path)


def test_labels_are_what_runs_are_called(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    labels = ("--label", "wide", "--label", "a|b *narrow*")
    assert "\nwide (tiny) · corruption" in shown(capsys, "show", two[0], "--label", "wide")
    rows = csv.DictReader(io.StringIO(shown(capsys, "show", two[0], "--label", "wide", "--csv")))
    assert {(row["model"], row["label"]) for row in rows} == {("tiny", "wide")}
    heading = shown(capsys, "compare", *two, *labels)
    assert f"A  wide  ({two[0]})" in heading
    assert f"B  a|b *narrow*  ({two[1]})" in heading
    assert [run["label"] for run in json.loads(shown(capsys, "compare", *two, *labels, "--json"))["runs"]] == [
        "wide", "a|b *narrow*",
    ]  # fmt: skip
    table = shown(capsys, "table", *two, *labels)
    assert "| a\\|b \\*narrow\\* " in table
    assert "tiny" not in table
    assert [line["model"] for line in csv.DictReader(io.StringIO(shown(capsys, "table", *two, *labels, "--csv")))] == [
        "wide", "wide", "a|b *narrow*", "a|b *narrow*",
    ]  # fmt: skip


def test_labels_are_in_legends(two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown(capsys, "plot", *two, "--label", "<b>wide", "--label", "narrow", "--out", tmp_path)
    comments = (tmp_path / "reliability.svg").read_text().replace("&lt;", "<").replace("&gt;", ">")
    assert "<!-- <b>wide -->" in comments
    assert "<!-- narrow -->" in comments
    assert "tiny" not in comments


def test_there_is_a_label_for_each_run(
    two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (("compare", *two), ("table", *two), ("plot", *two, "--out", tmp_path)):
        assert bench(*command, "--label", "one") == 2
        assert "--label is given 1 times for 2 runs" in capsys.readouterr().err
    assert bench("show", "tiny", "--label", "one") == 2
    assert "--label is for runs" in capsys.readouterr().err


def test_models_of_one_name_stay_apart_in_a_table(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    table = shown(capsys, "table", *two, "--label", "net", "--label", "net")
    assert "| net (tiny) " in table
    assert "| net (tiny,width=4) " in table


def test_the_board_shows_names_beside_specs(two: tuple[Path, Path]) -> None:
    entries = [
        Entry(Path("records/a.json"), record.load(two[0]).named("<wide> net"), None),
        Entry(Path("records/b.json"), record.load(two[1]), None),
    ]
    group = Group(runs.load(two[0]).suite, "digits", entries)
    assert [group.label(one) for one in entries] == ["<wide> net: tiny", "tiny,width=4"]
    page = markdown.render([group])
    assert "[tiny](records/a.json): &lt;wide&gt; net" in page
    rows = {row["model"]: row["which"] for row in tables.table(group, None, group.name)["rows"]}
    assert rows == {"tiny": "<wide> net", "tiny,width=4": ""}
    assert {field for field, _ in strange(entries[0].record)} == {"model.name"}
    assert [*strange(entries[0].record.named(NAME))] == []
