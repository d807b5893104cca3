"""`bench run --shard` and `bench merge`: parts of a run, made apart, are the run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from stressbench.cli import main
from stressbench.execution.request import Shard

SMALL = ("--corruptions", "fog,gaussian_noise", "--severities", "1,4", "--limit", "12", "--model", "tiny,width=4")


def bench(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([*map(str, arguments)])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def records(out: Path) -> dict[str, dict[str, Any]]:
    """The records in a folder by their run's, without what differs between two equal runs."""
    found = {path.parent.name: json.loads(path.read_text()) for path in out.glob("*/record.json")}
    return {
        name: {key: value for key, value in record.items() if key not in ("created", "timing")}
        for name, record in found.items()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    assert bench("run", *SMALL, "--model", "dropped", "--sizes", "1,3", "--out", out) == 0
    return out


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same two runs in three parts, each made without knowing the others."""
    out = tmp_path_factory.mktemp("parts")
    folders = [out / str(i) for i in (1, 2, 3)]
    for i, folder in enumerate(folders, start=1):
        run = ("run", *SMALL, "--model", "dropped", "--sizes", "1,3", "--shard", f"{i}/3", "--out", folder)
        assert bench(*run) == 0
    return folders


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("place", [0, 1, 5])
def test_each_condition_is_in_one_part(count: int, place: int) -> None:
    conditions = [{"level": i} for i in range(5)]
    dealt = [condition for i in range(count) for condition in Shard(i + 1, count).of(conditions, place)]
    assert sorted(condition["level"] for condition in dealt) == list(range(5))


def test_runs_of_one_condition_are_spread_over_the_parts() -> None:
    one = [{"level": 0}]
    assert [len(Shard(1, 4).of(one, place)) for place in range(8)] == [1, 0, 0, 0, 1, 0, 0, 0]


def test_merged_parts_are_the_record_of_a_single_run(
    whole: Path, parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not list(parts[0].glob("*/record.json"))
    assert bench("merge", *parts, "--out", tmp_path) == 0
    merged = records(tmp_path)
    assert len(merged) == 2
    assert merged == records(whole)
    for table in whole.glob("*/tables/*.parquet"):
        assert (tmp_path / table.relative_to(whole)).is_file()
    assert "clean_error" in capsys.readouterr().out
    # The run that was merged is finished for `bench run`, too.
    before = {path: path.read_bytes() for path in tmp_path.glob("*/record.json")}
    assert bench("run", *SMALL, "--model", "dropped", "--sizes", "1,3", "--out", tmp_path) == 0
    assert {path: path.read_bytes() for path in tmp_path.glob("*/record.json")} == before


def test_a_merge_that_lacks_conditions_says_which_and_takes_them_later(
    whole: Path, parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = next(path for path in parts[0].iterdir() if "tiny" in path.name)
    assert bench("merge", run, parts[2] / run.name, "--out", tmp_path) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / run.name} lacks 2 of 5 conditions: " in error
    assert "severity 1" in error
    assert "run the shards that are missing" in error
    assert not records(tmp_path)
    assert bench("merge", parts[1] / run.name, "--out", tmp_path) == 0
    assert records(tmp_path)[run.name] == records(whole)[run.name]


def test_a_damaged_table_counts_as_missing(
    parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = next(path for path in parts[0].iterdir() if "tiny" in path.name)
    folders = [shutil.copytree(part / run.name, tmp_path / str(i) / run.name) for i, part in enumerate(parts)]
    table = next(folders[0].glob("tables/*.parquet"))
    table.write_bytes(table.read_bytes()[:-7])
    assert bench("merge", *folders, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert f"{table} is damaged (it does not read): it is left out" in error
    assert "lacks 1 of 5 conditions" in error


@pytest.mark.parametrize("content", ["{}", "[" * 40_000, '{"record": 1}', "\x00"])
def test_a_foreign_part_is_refused(
    content: str, parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = next(parts[0].iterdir())
    copy = shutil.copytree(run, tmp_path / run.name)
    (copy / "part.json").write_text(content)
    assert bench("merge", copy, "--out", tmp_path / "out") == 2
    assert "is not what `bench run --shard` wrote" in capsys.readouterr().err


def test_parts_of_other_weights_do_not_mix(
    parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = next(parts[0].iterdir())
    copy = shutil.copytree(run, tmp_path / run.name)
    told = json.loads((copy / "part.json").read_text())
    told["record"]["model"]["weights_checksum"] = f"sha256:{'0' * 64}"
    (copy / "part.json").write_text(json.dumps(told))
    assert bench("merge", copy, parts[1] / run.name, "--out", tmp_path / "out") == 2
    assert "are of different runs" in capsys.readouterr().err


def test_what_is_no_part_is_refused(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("merge", tmp_path, "--out", tmp_path / "out") == 2
    assert "is not a run, and no folder in it is" in capsys.readouterr().err
    assert bench("merge", next(whole.iterdir()), "--out", tmp_path / "out") == 2
    assert "is not a part of a run that is done" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3", "-1/2", "²/3"])
def test_a_part_that_cannot_be_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("run", *SMALL, "--shard", text, "--out", tmp_path / "out") == 2
    assert f"'{text}' is not a part" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_parts_in_one_folder_need_no_merge(whole: Path, tmp_path: Path) -> None:
    for i in (1, 2):
        assert bench("run", *SMALL, "--shard", f"{i}/2", "--out", tmp_path) == 0
    (name,) = (name for name in records(whole) if "tiny" in name)
    assert records(tmp_path)[name] == records(whole)[name]
