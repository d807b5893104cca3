"""The leaderboard: what it takes in, what it refuses, and the tables that it writes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROOT
from stressbench import record as records
from stressbench.errors import UserError
from stressbench.leaderboard import page
from stressbench.leaderboard.records import add
from stressbench_suites.corruption.suite import CorruptionSuite

ENVIRONMENT = {
    "stressbench": "0.1.0", "commit": None, "python": "3.11.7", "packages": {"torch": "2.9.0"},
    "platform": "Linux x86_64", "device": "x86_64",
}  # fmt: skip


def write(path: Path, spec: str = "tiny", error: float = 0.2, **changes: Any) -> Path:
    """A consistent record file whose every cell has this error; `changes` go into its parts."""
    suite = CorruptionSuite()
    conditions = suite.conditions()
    generator = np.random.default_rng(0)
    rows = [
        {"error": error, "nll": float(generator.uniform(0.5, 2)), "ece": 0.125, "signed_ece": 0.1, "brier": 0.3}
        for _ in conditions
    ]
    fields: dict[str, Any] = {
        "schema_version": 1,
        "created": "2026-01-02T03:04:05Z",
        "suite": {
            "name": suite.name, "version": suite.version, "distribution": "stressbench",
            "distribution_version": "0.1.0", "options": {}, "baseline": None,
        },
        "dataset": {
            "name": "digits", "split": "test", "n": 1000, "fingerprint": "sha256:" + "a" * 64, "altered": False,
            "stress": "generated", "stress_verified": None,
        },
        "model": {
            "spec": spec, "distribution": "tiny-models", "version": "1.0", "parameters": 12, "stochastic": False,
            "weights_checksum": "sha256:" + "b" * 64, "weights_source": "the plugin's own",
        },
        "draws": 1, "seed": 0, "precision": "float32", "batch_size": 100, "device": "cpu",
        "environment": ENVIRONMENT, "timing": {"seconds": 1.5, "images_per_second": 100.0},
        "metrics": suite.aggregate(conditions, rows, None),
        "conditions": [
            {"condition": dict(c), "n": 1000, "metrics": r} for c, r in zip(conditions, rows, strict=True)
        ],
    }  # fmt: skip
    for name, value in changes.items():
        fields[name] = {**fields[name], **value} if isinstance(value, dict) else value
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "leaderboard"


def tables(root: Path) -> list[list[list[str]]]:
    """The built page's tables, as rows of cells."""
    text = page.build(root).read_text()
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.replace("\\|", "¦").strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def test_a_record_goes_to_its_place_and_comes_back(tmp_path: Path, root: Path) -> None:
    source = write(tmp_path / "run" / "record.json")
    path = add(tmp_path / "run", root, replace=False)
    assert path == root / "records" / "digits" / "corruption" / "tiny.json"
    assert records.load(path) == records.load(source)
    assert add(source, root, replace=False) == path  # the same again changes nothing


def test_the_table_is_best_first_in_percent_with_its_source(tmp_path: Path, root: Path) -> None:
    for spec, error in (("middle", 0.2), ("worst", 0.3), ("best", 0.125), ("also-middle", 0.2)):
        add(write(tmp_path / f"{spec}.json", spec, error), root, replace=False)
    (table,) = tables(root)
    header, _, *rows = table
    assert [row[0] for row in rows] == ["1", "2", "2", "4"]  # a tie is a tie
    assert [row[1].split("]")[0].strip("[") for row in rows] == ["best", "also-middle", "middle", "worst"]
    best = dict(zip(header, rows[0], strict=True))
    assert best["mean_error ↓"] == "12.5 %"
    assert best["mean_nll ↓"] == f"{records.load(root / 'records/digits/corruption/best.json').metrics['mean_nll']:.3f}"
    assert (best["images"], best["stress"], best["draws"]) == ("1,000", "generated", "1")
    assert "mCE ↓" not in header  # no record has it
    assert "## corruption on digits" in (root / "README.md").read_text()
    assert (root / "records/digits/corruption/best.json").exists()
    assert "(records/digits/corruption/best.json)" in rows[0][1]


def test_results_on_other_images_are_ranked_apart(tmp_path: Path, root: Path) -> None:
    add(write(tmp_path / "a.json", "a", 0.2), root, replace=False)
    add(write(tmp_path / "b.json", "b", 0.1, dataset={"stress": "official", "stress_verified": True}), root, False)
    add(write(tmp_path / "c.json", "c", 0.1, dataset={"fingerprint": "sha256:" + "c" * 64}), root, replace=False)
    assert [[row[0] for row in table[2:]] for table in tables(root)] == [["1"], ["1"], ["1"]]
    text = (root / "README.md").read_text()
    assert text.count("## corruption on digits\n") == 1
    assert "1,000 images, official stress" in text


def test_an_altered_copy_never_goes_by_the_plain_name(tmp_path: Path, root: Path) -> None:
    path = add(write(tmp_path / "a.json", dataset={"name": "cifar10", "altered": True}), root, replace=False)
    page.build(root)
    assert path.parents[1].name != "cifar10"
    text = (root / "README.md").read_text()
    assert "## corruption on cifar10-altered\n" in text
    assert "on cifar10\n" not in text


def test_building_twice_gives_the_same_bytes(tmp_path: Path, root: Path) -> None:
    for spec in ("b", "a", "c"):
        add(write(tmp_path / f"{spec}.json", spec), root, replace=False)
    first = page.build(root).read_bytes()
    assert page.build(root).read_bytes() == first


def test_an_empty_leaderboard_says_how_to_fill_it(root: Path) -> None:
    assert "bench leaderboard add" in page.build(root).read_text()


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "a|b", "[x](javascript:alert(1))", "a\n# b", "`x`", "*a*"]
)
def test_markup_in_a_name_stays_text(name: str, tmp_path: Path, root: Path) -> None:
    path = add(write(tmp_path / "a.json", name, dataset={"name": name}), root, replace=False)
    assert path.resolve().is_relative_to(root.resolve())
    (table,) = tables(root)
    assert {len(row) for row in table} == {len(table[0])}
    text = (root / "README.md").read_text()
    assert "<script" not in text
    assert not re.search(r"(?<!\\)\]\(javascript", text)
    assert "\n# b" not in text


def test_another_result_of_the_same_model_has_a_file_of_its_own(tmp_path: Path, root: Path) -> None:
    first = add(write(tmp_path / "a.json"), root, replace=False)
    second = add(write(tmp_path / "b.json", draws=50, model={"stochastic": True}), root, replace=False)
    assert first != second
    assert len(tables(root)[0]) == 4


def test_other_numbers_for_the_same_run_need_a_decision(tmp_path: Path, root: Path) -> None:
    add(write(tmp_path / "a.json", error=0.2), root, replace=False)
    with pytest.raises(UserError, match="other numbers for the same run"):
        add(write(tmp_path / "b.json", error=0.3), root, replace=False)
    path = add(tmp_path / "b.json", root, replace=True)
    assert records.load(path).metrics["mean_error"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metrics": {"mean_error": 0.1}}, r"metrics.mean_error is 0.1, and its conditions give 0.2"),
        ({"metrics": {"mCE": 0.5}}, "metrics.mCE is 0.5, and its conditions give None"),
        ({"metrics": {"mean_error": None}}, "metrics.mean_error is None"),
        ({"metrics": {"mean_luck": 0.5}}, "metrics.mean_luck is not what"),
        ({"suite": {"version": "0"}}, "of version 0 of the corruption suite"),
        ({"suite": {"name": "corupted"}}, "no suite called 'corupted'"),
    ],
)
def test_a_record_that_disagrees_with_itself_is_refused(
    changes: dict[str, Any], words: str, tmp_path: Path, root: Path
) -> None:
    with pytest.raises(UserError, match=words):
        add(write(tmp_path / "a.json", **changes), root, replace=False)
    assert not root.exists()
    # Put there by hand, it stops the building, which names the file.
    write(root / "records" / "digits" / "corruption" / "a.json", **changes)
    with pytest.raises(UserError):
        page.build(root)


def test_a_narrowed_run_is_refused(tmp_path: Path, root: Path) -> None:
    source = write(tmp_path / "a.json")
    fields = json.loads(source.read_text())
    fields["conditions"] = fields["conditions"][:40]
    fields["metrics"] = {name: value if "clean" in name else None for name, value in fields["metrics"].items()}
    source.write_text(json.dumps(fields))
    with pytest.raises(UserError, match="over 40 conditions and the corruption suite has 76"):
        add(source, root, replace=False)


def test_a_missing_metric_in_the_rows_is_a_line_and_not_a_crash(tmp_path: Path, root: Path) -> None:
    source = write(tmp_path / "a.json")
    fields = json.loads(source.read_text())
    for row in fields["conditions"]:
        row["metrics"] = {"err": 0.1}
    source.write_text(json.dumps(fields))
    with pytest.raises(UserError, match=r"a\.json"):
        add(source, root, replace=False)


def test_the_projects_own_page_is_fresh(root: Path) -> None:
    shutil.copytree(ROOT / "leaderboard" / "records", root / "records")
    assert page.build(root).read_text() == (ROOT / "leaderboard" / "README.md").read_text()
