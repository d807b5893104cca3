"""`bench leaderboard replay`: a record's conditions are really run again, and what agrees is marked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import scipy.stats

from leaderboard_records import changed, without_intervals
from stressbench import registry
from stressbench.cli import main
from stressbench.leaderboard import notes, ranking
from stressbench.leaderboard.build import build
from stressbench.leaderboard.replay import enough
from stressbench.results.scoring import summary

LIMIT = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Whole records of small runs on the embedded set: a deterministic model, and one with draws and a curve."""
    out = tmp_path_factory.mktemp("runs")
    words = ["run", "--model", "tiny,width=4", "--model", "dropped", "--sizes", "1,3", "--limit", LIMIT, "--seed", 5]
    with pytest.raises(SystemExit) as done:
        main([*map(str, words), "--out", str(out)])
    assert done.value.code == 0
    records = [json.loads(path.read_text()) for path in out.glob("*/record.json")]
    return {record["model"]["spec"].split(",")[0]: record for record in records}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "leaderboard"


def add(record: dict[str, Any], root: Path) -> Path:
    """Put a record on the leaderboard; returns its file."""
    source = root.parent / "record.json"
    source.write_text(json.dumps(record))
    with pytest.raises(SystemExit) as done:
        main(["leaderboard", "add", "--root", str(root), str(source)])
    assert done.value.code == 0
    (path,) = (root / "records").rglob("*.json")
    return path


def replay(path: Path, root: Path, *arguments: object) -> int:
    with pytest.raises(SystemExit) as done:
        main(["leaderboard", "replay", str(path), "--root", str(root), *map(str, arguments)])
    assert isinstance(done.value.code, int)
    return done.value.code


def forged(record: dict[str, Any], by: float) -> dict[str, Any]:
    """The same record with every stressed error lower, and all that follows from it: no check can find that."""
    copy = {**without_intervals(record), "curves": {}}
    copy["conditions"] = [{**row, "curves": {}} for row in copy["conditions"]]
    for row in copy["conditions"][1:]:
        row["metrics"]["error"] = max(0.0, row["metrics"]["error"] - by)
    conditions, rows = zip(*((row["condition"], row["metrics"]) for row in copy["conditions"]), strict=True)
    copy["metrics"] = summary(registry.suite("corruption"), conditions, rows, None)
    return copy


@pytest.mark.parametrize("model", ["tiny", "dropped"])
def test_a_record_that_holds_is_marked_until_it_is_changed(
    model: str, made: dict[str, dict[str, Any]], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = add(made[model], root)
    (before,) = (group.entries[0].evidence for group in ranking.groups(root))
    assert before == "self-reported"
    capsys.readouterr()
    assert replay(path, root, "--conditions", 3, "--seed", 1, "--batch-size", 5) == 0
    shown = capsys.readouterr()
    note = root / "replays" / path.relative_to(root / "records")
    *agreed, last = shown.out.splitlines()
    assert len(agreed) == 4  # the clean images, and three
    assert agreed[0] == "none, severity 0: agrees"
    assert all(line.endswith(": agrees") for line in agreed)
    assert last == str(note)
    assert "--seed 1" in shown.err
    (after,) = (group.entries[0] for group in ranking.groups(root))
    assert after.evidence == "replayed, 4 of 76"
    assert after.replay is not None
    assert after.replay.record == notes.digest(path)
    assert len(after.replay.conditions) == 4
    assert max(after.replay.differences.values()) < 1e-3
    assert after.replay.rows is not None
    assert after.replay.rows.keys() == made[model]["sketches"][0].keys()
    assert max(after.replay.rows.values()) < 1e-3
    # Other bytes are another record, even if they say the same.
    path.write_text(json.dumps(json.loads(path.read_text())))
    (changed_since,) = (group.entries[0].evidence for group in ranking.groups(root))
    assert changed_since == "self-reported"


def test_who_replayed_it_is_told_apart_on_all_pages(
    made: dict[str, dict[str, Any]], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = add(made["tiny"], root)
    seen = []
    for by in (None, (), ("--by", "Ada <Lovelace>")):
        if by is not None:
            assert replay(path, root, "--conditions", 2, *by) == 0
        build(root)
        pages = "".join(page.read_text() for page in [root / "index.html", *(root / "models").glob("tiny*.html")])
        seen.append((root / "README.md").read_text() + pages)
    assert [text.count(", 3 of 76") for text in seen] == [0, 2, 2]  # README.md and the table
    assert "self-reported | " in seen[0]
    assert "| replayed, 3 of 76 |" in seen[1]
    assert "replayed by its author or whoever looks after this page on 20" in seen[1]
    assert "| replayed by another, 3 of 76 |" in seen[2]
    assert "replayed by Ada &lt;Lovelace&gt; on 20" in seen[2]
    assert "rows, from image to image, of 3 of 76 conditions agreed, with stressbench" in seen[2]
    capsys.readouterr()
    assert replay(path, root, "--by", "a\nb") == 2
    assert "--by" in capsys.readouterr().err


NET = """
import torch
from torch import nn

def net(dataset):
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, dataset.classes))
"""


@pytest.mark.parametrize("suite", ["ood", "conformal"])  # with other datasets, and fitted to a part of the images
def test_a_file_model_is_replayed_from_its_source_on_all_of_the_suites_images(
    suite: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.py").write_text(NET)
    words = ["run", "--suite", suite, "--model", f"file:{tmp_path}/net.py:net", "--limit", str(LIMIT)]
    with pytest.raises(SystemExit):
        main([*words, "--out", str(tmp_path / "runs")])
    (run,) = (tmp_path / "runs").iterdir()
    with pytest.raises(SystemExit) as done:
        main(["leaderboard", "add", "--root", str(root), str(run), "--source", str(tmp_path / "net.py")])
    assert done.value.code == 0
    (path,) = (root / "records").rglob("*.json")
    (tmp_path / "net.py").unlink()
    monkeypatch.chdir(root)
    capsys.readouterr()
    assert replay(path.relative_to(root), Path(), "--conditions", 1) == 0
    assert capsys.readouterr().out.count(": agrees") == 2
    assert len(list((root / "replays").rglob("*.json"))) == 1


def test_the_seed_chooses_the_conditions(
    made: dict[str, dict[str, Any]], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = add(made["tiny"], root)
    chosen = []
    for seed in (1, 1, 2):
        capsys.readouterr()
        assert replay(path, root, "--conditions", 3, "--seed", seed) == 0
        chosen.append(capsys.readouterr().out)
    assert chosen[0] == chosen[1] != chosen[2]


def test_forged_numbers_do_not_hold(
    made: dict[str, dict[str, Any]], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = add(forged(made["tiny"], 0.25), root)
    assert replay(path, root, "--conditions", 2, "--seed", 0) == 2
    shown = capsys.readouterr()
    lines = [line for line in shown.out.splitlines() if "error is" in line]
    assert len(lines) == 2
    assert "in the record and" in lines[0]
    assert shown.err.splitlines()[-1] == f"bench: {path} does not hold: 2 of 3 conditions differ"
    assert not (root / "replays").exists()


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        (("model", "weights_checksum"), "sha256:" + "0" * 64, "these are other weights than the record's"),
        (("model", "distribution"), "somebody-else", "is not the record's, which is of somebody-else"),
        (("metrics", "mean_error"), 0.0, "metrics.mean_error: is 0.0, its co"),
    ],
)
def test_a_record_of_something_else_is_refused_before_anything_runs(
    where: tuple[str, str], value: Any, words: str, made: dict[str, dict[str, Any]], root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = root.parent / "record.json"
    record = changed(made["tiny"], where, value)
    record["model"]["plugins"][0]["distribution"] = record["model"]["distribution"]
    path.write_text(json.dumps(record))
    assert replay(path, root) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_a_record_that_is_not_on_the_leaderboard_is_compared_and_not_marked(
    made: dict[str, dict[str, Any]], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root.parent / "record.json"
    path.write_text(json.dumps(made["tiny"]))
    assert replay(path, root, "--conditions", 1) == 0
    assert "there is nothing to mark" in capsys.readouterr().out
    assert not root.exists()


def test_a_faulty_note_stops_the_building(made: dict[str, dict[str, Any]], root: Path) -> None:
    path = add(made["tiny"], root)
    note = root / "replays" / path.relative_to(root / "records")
    note.parent.mkdir(parents=True)
    for content in ("{}", "[" * 10_000, " " * (2 << 20)):
        note.write_text(content)
        with pytest.raises(Exception, match="delete it"):
            list(ranking.groups(root))


def test_a_small_lie_in_one_direction_does_not_hold(
    made: dict[str, dict[str, Any]], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An image less in each condition is within the tolerance of two, and not what rounding does nine times."""
    path = add(forged(made["tiny"], 1 / LIMIT), root)
    assert replay(path, root, "--conditions", 9, "--seed", 0) == 2
    shown = capsys.readouterr()
    *conditions, mean = shown.out.splitlines()[1:]
    assert all(line.endswith(": agrees") for line in conditions)
    assert mean == "error: 0.075 lower in the record on average, over 0.056"
    assert "differ in one direction" in shown.err.splitlines()[-1]
    assert not (root / "replays").exists()


def test_rows_that_were_not_measured_do_not_hold_although_their_means_do(
    made: dict[str, dict[str, Any]], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads(json.dumps(made["tiny"]))
    for sketches in record["sketches"]:
        sketches["entropy"] = " ".join(reversed(sketches["entropy"].split()))
    path = add(record, root)
    assert replay(path, root, "--conditions", 3, "--seed", 0) == 2
    shown = capsys.readouterr()
    assert all("entropy is" in line and "from image to image, over" in line for line in shown.out.splitlines()[1:])
    assert shown.err.splitlines()[-1] == f"bench: {path} does not hold: 4 of 4 conditions differ"
    assert not (root / "replays").exists()


def test_a_record_without_sketches_is_compared_by_its_means(
    made: dict[str, dict[str, Any]], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = add({name: value for name, value in made["tiny"].items() if name != "sketches"}, root)
    assert replay(path, root, "--conditions", 1, "--seed", 0) == 0
    assert "has no sketches of its rows" in capsys.readouterr().err
    assert "sketches" not in json.loads(path.read_text())


def test_a_default_replay_finds_eight_made_up_conditions_of_75_in_95_of_100() -> None:
    for total in (75, 12, 20, 1):
        count, made_up = enough(total), -(-total * 8 // 75)
        draw = scipy.stats.hypergeom(total, made_up, count)
        assert draw.pmf(0) <= 0.05
        assert count == 1 or scipy.stats.hypergeom(total, made_up, count - 1).pmf(0) > 0.05
    assert enough(75) == 23
