"""The leaderboard: what it takes in, what it refuses, and the README that it writes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from leaderboard_records import fields, group, parsed, put, write
from stressbench import record as records
from stressbench import registry
from stressbench.cli import main
from stressbench.contracts import Metric
from stressbench.errors import UserError
from stressbench.leaderboard import markdown, site
from stressbench.leaderboard.build import build
from stressbench.leaderboard.paths import paths
from stressbench.leaderboard.ranking import Entry, Group, groups
from stressbench.leaderboard.records import add
from stressbench.record import Record
from stressbench.results.show import number


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "leaderboard"


def built(root: Path) -> str:
    return build(root)[0].read_text()


def tables(root: Path) -> list[list[list[str]]]:
    """The built page's tables, as rows of cells."""
    return parsed(built(root))


def test_a_record_goes_to_its_place_and_comes_back(tmp_path: Path, root: Path) -> None:
    source = write(tmp_path / "run" / "record.json")
    path = add(tmp_path / "run", root, replace=False)
    assert path == root / "records" / "squares" / "corruption" / "tiny.json"
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
    assert (
        best["mean_nll ↓"] == f"{records.load(root / 'records/squares/corruption/best.json').metrics['mean_nll']:.3f}"
    )
    assert (best["draws"], best["evidence"]) == ("1", "self-reported")
    assert "mCE ↓" not in header  # no record has it
    assert "## corruption on squares" in (root / "README.md").read_text()
    assert (root / "records/squares/corruption/best.json").exists()
    assert "(records/squares/corruption/best.json)" in rows[0][1]


def test_a_metric_without_a_direction_does_not_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    suite = registry.suite("corruption")
    records = [Record.model_validate(fields(spec, error)) for spec, error in (("worse", 0.3), ("better", 0.1))]
    found = group(suite, records)
    described, ranking = Metric("clean_error", "fraction", None), Metric("mean_error", "fraction", "lower")
    monkeypatch.setattr(type(suite), "metrics", (described, ranking))
    assert found.by == ranking
    assert [(one.rank, one.entry.record.model.spec) for one in found.ranked()] == [(1, "better"), (2, "worse")]
    monkeypatch.setattr(type(suite), "metrics", (described,))
    found = group(suite, records)
    assert found.by is None
    assert [(one.rank, one.entry.record.model.spec) for one in found.ranked()] == [(None, "worse"), (None, "better")]
    assert "not ranked" in markdown.render([found])
    assert "not ranked" in site.pages([group(suite, records)])["index.html"]


def test_results_on_other_images_are_ranked_apart(tmp_path: Path, root: Path) -> None:
    add(write(tmp_path / "a.json", "a", 0.2), root, replace=False)
    add(write(tmp_path / "b.json", "b", 0.1, dataset={"stress": "official", "stress_verified": True}), root, False)
    add(write(tmp_path / "c.json", "c", 0.1, dataset={"fingerprint": "sha256:" + "c" * 64, "n": 10}), root, False)
    add(write(tmp_path / "d.json", "d", 0.1, dataset={"stress": "official", "stress_verified": False}), root, False)
    assert [[row[0] for row in table[2:]] for table in tables(root)] == [["1"], ["1"], ["1"], ["1"]]
    text = (root / "README.md").read_text()
    assert text.count("## corruption on squares\n") == 1
    assert "1,000 images, 76 conditions, official stress, content" in text
    assert "1,000 images, 76 conditions, official stress, of files that are not the published ones" in text
    assert "10 images, 76 conditions, generated stress, content cccccccc" in text


def test_more_conditions_than_the_suites_own_are_ranked_apart(tmp_path: Path, root: Path) -> None:
    more = registry.suite("corruption", {"corruptions": "speckle_noise"}).conditions()[1:]
    source = write(tmp_path / "a.json", "a")
    record = fields("b")
    names = ",".join(dict.fromkeys(row["condition"]["corruption"] for row in record["conditions"][1:]))
    record["suite"]["options"] = {"corruptions": f"{names},speckle_noise"}
    row = record["conditions"][1]
    record["conditions"] += [
        {**row, "condition": dict(condition), "metrics": {**row["metrics"], "nll": 1 + i / 64}}
        for i, condition in enumerate(more)
    ]
    record["timing"]["seconds"] = 810.0  # of 81 conditions, at 100 images a second
    (tmp_path / "b.json").write_text(json.dumps(record))
    add(source, root, replace=False)
    add(tmp_path / "b.json", root, replace=False)
    assert [[row[0] for row in table[2:]] for table in tables(root)] == [["1"], ["1"]]
    text = (root / "README.md").read_text()
    assert "76 conditions" in text
    assert "81 conditions" in text


def test_a_label_stands_for_a_models_name_on_all_pages(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = fields("tiny,width=4", model={"name": "Old name"})
    put(record, root / paths(Record.model_validate(record))[0])

    def built(*words: str) -> int | str | None:
        with pytest.raises(SystemExit) as done:
            main(["leaderboard", "build", "--root", str(root), *words])
        return done.value.code

    assert built("--label", "tiny,width=4=ResNet <20>") == 0
    page = (root / "index.html").read_text()
    assert "ResNet &lt;20&gt;" in page
    assert ": ResNet &lt;20&gt; |" in (root / "README.md").read_text()
    assert "Old name" not in page
    assert built() == 0
    assert "Old name" in (root / "index.html").read_text()
    assert built("--label", "tiny,width=5=X") == 2
    assert "did you mean 'tiny,width=4'? " in capsys.readouterr().err
    for wrong in ("tiny", "tiny=", "=x"):
        assert built("--label", wrong) == 2
        assert "--label" in capsys.readouterr().err


def test_an_altered_copy_never_goes_by_the_plain_name(tmp_path: Path, root: Path) -> None:
    path = add(write(tmp_path / "a.json", dataset={"name": "cifar10", "altered": True}), root, replace=False)
    build(root)
    assert path.parents[1].name != "cifar10"
    text = (root / "README.md").read_text()
    assert "## corruption on cifar10-altered\n" in text
    assert "on cifar10\n" not in text


def test_building_twice_gives_the_same_bytes(tmp_path: Path, root: Path) -> None:
    for spec in ("b", "a", "c"):
        add(write(tmp_path / f"{spec}.json", spec, curve={1: 0.3, 2: 0.25, 5: 0.2}), root, replace=False)
    first = {path.relative_to(root): path.read_bytes() for path in build(root)}
    assert {path.parent.name for path in first} == {"", "tables", "models"}
    assert [path.read_bytes() for path in build(root)] == [*first.values()]
    # Nor does it matter in what order the file system lists them, or in which process it is done.
    other = tmp_path / "other"
    for path in sorted((root / "records").rglob("*.json"), reverse=True):
        (other / path.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, other / path.relative_to(root))
    command = [
        sys.executable,
        "-c",
        f"from stressbench.leaderboard.build import build; build(__import__('pathlib').Path({str(other)!r}))",
    ]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "1"})
    assert {name: (other / name).read_bytes() for name in first} == first


def test_an_empty_leaderboard_says_how_to_fill_it(root: Path) -> None:
    for page in build(root):
        assert "bench leaderboard add" in page.read_text()


NAMES = ["<script>alert(1)</script>", "a|b", "[x](javascript:alert(1))", "a\n# b", "`x`", "*a*", "</script>", "&amp;"]


@pytest.mark.parametrize("name", NAMES)
def test_markup_in_a_name_is_refused(name: str, tmp_path: Path, root: Path) -> None:
    for changes in ({"spec": name}, {"dataset": {"name": name}}):
        with pytest.raises(UserError, match="it may hold"):
            add(write(tmp_path / "a.json", **changes), root, replace=False)  # type: ignore[arg-type]
    assert not root.exists()


@pytest.mark.parametrize("name", NAMES)
def test_markup_in_a_name_stays_text_all_the_same(name: str) -> None:
    """What the check should one day let through is still no markup on the pages."""
    record = Record.model_validate(fields(name, dataset={"name": name}))
    group = Group(registry.suite("corruption"), name, [Entry(Path("records", f"{name}.json"), record, None)])
    text = markdown.render([group])
    (table,) = parsed(text)
    assert {len(row) for row in table} == {len(table[0])}
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
        ({"metrics": {"mean_error": 0.1}}, "metrics.mean_error: is 0.1, its conditions give 0.2; records are made"),
        ({"metrics": {"mean_error": 0.1, "mean_nll": 0.1}}, "and 1 more: `bench leaderboard check` lists them"),
        ({"suite": {"version": "0"}}, "is version 0 of corruption"),
    ],
)
def test_a_record_that_disagrees_with_itself_is_refused(
    changes: dict[str, Any], words: str, tmp_path: Path, root: Path
) -> None:
    with pytest.raises(UserError, match=words):
        add(write(tmp_path / "a.json", **changes), root, replace=False)
    assert not root.exists()
    # Put there by hand, it stops the building, which names the file.
    path = write(root / "records" / "squares" / "corruption" / "tiny.json", **changes)
    with pytest.raises(UserError, match=str(path)):
        build(root)


def test_a_narrowed_run_is_refused(tmp_path: Path, root: Path) -> None:
    source = write(tmp_path / "a.json")
    fields = json.loads(source.read_text())
    fields["conditions"] = fields["conditions"][:40]
    fields["metrics"] = {name: value if "clean" in name else None for name, value in fields["metrics"].items()}
    source.write_text(json.dumps(fields))
    with pytest.raises(UserError, match=r"is missing: the leaderboard takes whole runs \(and 35 more"):
        add(source, root, replace=False)


def test_the_projects_own_pages_are_fresh(root: Path) -> None:
    shutil.copytree(ROOT / "leaderboard", root)
    committed = {path: path.read_bytes() for path in (root / "README.md", *root.rglob("*.html"))}
    again = {path: path.read_bytes() for path in build(root)}
    assert again == committed, "run `bench leaderboard build` and commit what it writes"


@pytest.mark.parametrize("page", sorted((ROOT / "leaderboard/tables").glob("*.html")), ids=lambda page: page.name)
def test_a_table_is_said_to_rank_nothing_where_it_does(page: Path) -> None:
    """Also one at a number of draws, whose ranks are not those at the results' own."""
    text = page.read_text()
    ranks = {int(rank) for rank in re.findall(r'<tr data-kind="[^"]*"><td>(\d+)', text)}
    images = re.search(r'<p class="about">([\d,]+) images', text)
    assert ranks
    assert images
    few = int(images[1].replace(",", "")) < 100
    assert ("This table ranks nothing" in text) == (few or ranks == {1})


def test_a_stale_page_is_seen(root: Path) -> None:
    """What the test above rests on: any change of a record changes both pages."""
    shutil.copytree(ROOT / "leaderboard", root)
    first = {page: page.read_bytes() for page in build(root)}
    next((root / "records/cifar10-jpeg75/corruption").glob("resnet20-*.json")).unlink()
    now = {page: page.read_bytes() for page in build(root)}
    assert {page.name for page in first if now.get(page) != first[page]} >= {"README.md", "index.html", "resnet20.html"}


def test_pages_of_what_is_gone_are_deleted(tmp_path: Path, root: Path) -> None:
    for spec in ("a", "b"):
        add(write(tmp_path / f"{spec}.json", spec), root, replace=False)
    build(root)
    (root / "records/squares/corruption/a.json").unlink()
    build(root)
    assert sorted(path.name for path in (root / "models").iterdir()) == ["b.html", "index.html"]


def test_findings_have_a_column_where_there_are_some() -> None:
    doubtful = {"findings": [{"check": "masking", "message": "x"}, {"check": "masking", "message": "y"}]}
    records = [Record.model_validate(fields(spec, **changes)) for spec, changes in (("a", doubtful), ("b", {}))]
    entries = [Entry(Path(f"{i}.json"), record, None) for i, record in enumerate(records)]
    header, _, *rows = parsed(markdown.render([Group(registry.suite("corruption"), "squares", entries)]))[0]
    assert [row[header.index("audit")] for row in rows] == ["masking", "no findings"]
    header, *_ = parsed(markdown.render([Group(registry.suite("corruption"), "squares", entries[1:])]))[0]
    assert "audit" not in header


def test_pull_requests_are_checked_without_rights_or_secrets_and_by_trusted_code() -> None:
    text = (ROOT / ".github" / "workflows" / "leaderboard.yml").read_text()
    workflow = yaml.safe_load(text)
    assert set(workflow[True]) == {"pull_request"}  # YAML 1.1 reads the key `on` as true
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets." not in text
    (job,) = workflow["jobs"].values()
    assert "permissions" not in job
    trusted, submitted = (step["with"] for step in job["steps"] if "checkout" in step.get("uses", ""))
    assert (trusted["ref"], trusted["path"]) == ("${{ github.event.pull_request.base.sha }}", "trusted")
    assert "ref" not in submitted
    assert not any(given["persist-credentials"] for given in (trusted, submitted))
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert not any("${{" in command for command in commands)  # what a stranger named would become a command
    assert [command for command in commands if "install" in command] == ["python -m pip install --quiet ./trusted"]


def test_a_table_says_where_numbers_are_rounded_more(tmp_path: Path, root: Path) -> None:
    add(write(tmp_path / "a.json", "tiny"), root, replace=False)
    assert "bfloat16" not in built(root)
    add(write(tmp_path / "b.json", "dropped", precision="bfloat16"), root, replace=False)
    assert "generated stress, in bfloat16 and float32, content" in built(root)


def test_the_readmes_rows_are_the_leaderboards() -> None:
    (table,) = (table for table in parsed((ROOT / "README.md").read_text()) if table[0][:2] == ["#", "model"])
    (group,) = (group for group in groups(ROOT / "leaderboard") if group.metrics[0].name == "mCE")
    columns = [metric for metric in group.metrics if any(head.startswith(f"{metric.name} ") for head in table[0])]
    assert len(table[0]) == 4 + len(columns)
    for row, one in zip(table[2:], group.ranked(), strict=True):
        assert row[:2] == [str(one.rank), group.name(one.entry)]
        assert row[3] == str(one.entry.record.draws)
        assert [cell.split(" (")[0] for cell in row[4:]] == [number(one.entry.value(m), m) for m in columns]
