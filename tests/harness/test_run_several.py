"""Several models and suites in one command: curves over ensemble sizes, `--suite all`, and what fails beside others."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from conftest import write_distribution
from stressbench.cli import main
from stressbench.leaderboard.check import faults
from stressbench.record import load

SUITES = '''
from __future__ import annotations

from stressbench import metrics
from stressbench.contracts import Metric, Stressed, StressSuite
from stressbench.record import Finding


class Brightness(StressSuite):
    """Images times a factor; with options that break it at a place of one's choice."""

    name = "brightness"
    version = "1"
    benchmark = "digits"
    metrics = (Metric("mean_nll", "nats", "lower"),)
    row_metrics = (Metric("nll", "nats", "lower"), Metric("level", "fraction", "higher"))
    scoring_options = frozenset({"doubt"})

    def __init__(self, breaks: str = "", factor: float = 0.5, doubt: bool = False) -> None:
        self._breaks, self._factor, self._doubt = breaks, factor, doubt

    def _at(self, place):
        if self._breaks == place:
            raise RuntimeError("out of\\nbulbs")

    def conditions(self):
        return [{"factor": 1.0}, {"factor": self._factor}]

    def unsupported(self, dataset):
        return "it is too dark" if self._breaks == "dataset" else None

    def stress(self, condition, batch, model):
        self._at("stress")
        images = batch.images * condition["factor"]
        return Stressed(images, {"level": images.mean(dim=(1, 2, 3))})

    def examine(self, condition, batch, stressed, model):
        self._at("examine")
        return {"brightest": stressed.amax(dim=(1, 2, 3))}

    def observe(self, condition, batch, log_probs):
        self._at("observe")
        log_p = metrics.log_mean_probability(log_probs)
        return {"nll": metrics.negative_log_likelihood(log_p, batch.targets)}

    def score(self, conditions, tables):
        self._at("score")
        return [{"nll": float(t["nll"].mean()), "level": float(t["level"].mean())} for t in tables]

    def aggregate(self, conditions, rows):
        return {"mean_nll": sum(row["nll"] for row in rows) / len(rows)}

    def findings(self, conditions, rows):
        return [Finding(check="doubt", message="it was asked for")] if self._doubt else []


def dark():
    return Brightness(breaks="dataset")


def unbuildable():
    raise ValueError("no bulbs")
'''


@pytest.fixture
def suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution with suites of its own, good and bad; returns an output folder."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "bright_suites.py").write_text(SUITES)
    points = {"brightness": "bright_suites:Brightness", "dark": "bright_suites:dark", "gone": "bright_suites:gone",
              "unbuildable": "bright_suites:unbuildable"}  # fmt: skip
    write_distribution(site, "bright-suites", {"stressbench.suites": points})
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "bright_suites", raising=False)
    return tmp_path / "out"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(["run", "--limit", "12", *map(str, arguments)])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def records(out: Path) -> dict[tuple[str, str], Any]:
    found = [json.loads(path.read_text()) for path in out.glob("*/record.json")]
    return {(record["model"]["spec"], record["suite"]["name"]): record for record in found}


# --- ensemble sizes -------------------------------------------------------------------------------------------


def test_each_size_of_a_curve_is_what_a_run_of_that_many_draws_gives(suites: Path) -> None:
    corruption = ("--suite", "corruption,corruptions=fog,severities=2")
    assert run("--model", "dropped", *corruption, "--suite", "brightness", "--sizes", "5,1,2", "--out", suites) == 0
    for size in (1, 2, 5):
        alone = suites / str(size)
        assert run("--model", "dropped", *corruption, "--suite", "brightness", "--draws", size, "--out", alone) == 0
        for key, single in records(alone).items():
            whole = records(suites)[key]
            assert whole["draws"] == 5
            assert {name: curve[str(size)] for name, curve in whole["curves"].items()} == single["metrics"]
            for row, other in zip(whole["conditions"], single["conditions"], strict=True):
                assert {name: curve[str(size)] for name, curve in row["curves"].items()} == other["metrics"]
            assert single["curves"] == {}
    for record in records(suites).values():
        assert list(next(iter(record["curves"].values()))) == ["1", "2", "5"]
        assert record["metrics"] == {name: curve["5"] for name, curve in record["curves"].items()}
    (path,) = suites.glob("digits-brightness-*/tables/factor=0.5.parquet")
    table = pd.read_parquet(path)
    assert {"level", "brightest", "nll"} == set(table) - {"draws", "index", "label"}
    assert {size: len(part) for size, part in table.groupby("draws")} == dict.fromkeys((1, 2, 5), len(table) // 3)


def test_a_curve_is_shown_and_checked(suites: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", "dropped", "--suite", "brightness", "--sizes", "1,4", "--out", suites) == 0
    shown = capsys.readouterr().out
    assert "metric by draws" in shown
    (path,) = suites.glob("*/record.json")
    assert faults(load(path), []) == []
    fields = json.loads(path.read_text())
    fields["curves"]["mean_nll"]["1"] += 0.1
    path.write_text(json.dumps(fields))
    assert [fault.field for fault in faults(load(path), [])] == ["curves.mean_nll.1", "intervals.mean_nll.1"]


def test_sizes_make_no_other_run_of_a_deterministic_model(suites: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", "tiny", "--suite", "brightness", "--out", suites) == 0
    (before,) = suites.glob("*/record.json")
    told = before.read_bytes()
    assert run("--model", "tiny", "--suite", "brightness", "--sizes", "2,4", "--out", suites) == 0
    assert "tiny is deterministic: it has one draw, and --sizes 2,4 changes nothing" in capsys.readouterr().err
    assert [path.read_bytes() for path in suites.glob("*/record.json")] == [told]


def test_intervals_are_around_every_metric_at_every_size(suites: Path) -> None:
    suite = ("--suite", "corruption,corruptions=fog,severities=2")
    assert run("--model", "dropped", *suite, "--sizes", "1,3", "--out", suites) == 0
    (path,) = suites.glob("*/record.json")
    record = load(path)
    assert not [fault for fault in faults(record, []) if fault.field.startswith("intervals")]
    for name, value in record.metrics.items():
        ends = record.intervals[name]
        assert list(ends) == ["1", "3"]
        for size, at in record.curves[name].items():
            assert (ends[size] is None) == (at is None)
        if value is not None:
            low, high = ends["3"] or (0, 0)
            assert low < value < high
    # The same as of a mean of zeros and ones, so far as twenty groups tell, in the units of the metric.
    n, error = record.dataset.n, record.curves["clean_error"]["1"] or 0
    low, high = record.intervals["clean_error"]["1"] or (0, 0)
    assert (high - low) / 2 == pytest.approx(1.96 * (error * (1 - error) / n) ** 0.5, rel=0.5)


def test_a_record_without_intervals_gets_them_from_its_tables(suites: Path) -> None:
    call = ("--model", "tiny", "--suite", "brightness", "--out", suites)
    assert run(*call) == 0
    (path,) = suites.glob("*/record.json")
    record = json.loads(path.read_text())
    path.write_text(
        json.dumps({**{k: v for k, v in record.items() if k not in ("intervals", "jackknife")}, "schema_version": 2})
    )
    assert run(*call) == 0
    again = json.loads(path.read_text())
    assert [again[key] for key in ("intervals", "jackknife")] == [record[key] for key in ("intervals", "jackknife")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sizes", "1,x"], "'1,x' is not a list of numbers of draws"),
        (["--sizes", "0,1"], "'0,1' is not a list of numbers of draws"),
        (["--sizes", "1,2", "--draws", "5"], "--sizes makes 2 draws and --draws asks for 5"),
        (["--sizes", "1,3", "--model", "infer-transform:tiny"], "has 2 draws and --sizes asks for 3"),
        (["--suite", "all", "--suite", "corruption"], "--suite all stands for every suite"),
        (["--suite", "dark"], "the dark suite does not support digits: it is too dark"),
        (["--suite", "brightness", "--attack", "fgsm"], "no option --attack in `bench run` or in brightness"),
    ],
)
def test_wrong_words(arguments: list[str], words: str, suites: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", "tiny", *arguments, "--out", suites) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in told


# --- failures -------------------------------------------------------------------------------------------------


def test_what_fails_does_not_stop_the_others(suites: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = ("tiny", "not-importable", "unbuildable", "dropped")
    words = [word for model in models for word in ("--model", model)]
    names = ("brightness", "gone", "corruption,corruptions=fog,severities=2")
    code = run(*words, *(word for name in names for word in ("--suite", name)), "--out", suites)
    assert code == 2
    assert set(records(suites)) == {(m, s) for m in ("tiny", "dropped") for s in ("brightness", "corruption")}
    listed = json.loads((suites / "failures.json").read_text())
    assert {(one["model"], one["suite"].partition(",")[0]) for one in listed} == {
        *((model, suite) for model in ("not-importable", "unbuildable") for suite in ("brightness", "corruption")),
        *((model, "gone") for model in ("tiny", "dropped", "unbuildable", "not-importable")),
    }
    assert all(one["dataset"] == "digits" for one in listed)
    told = capsys.readouterr().err.strip().splitlines()
    assert told[-1].startswith("bench: 8 of 12 runs failed;")
    assert str(suites / "failures.json") in told[-1]
    assert any("tiny · gone: suite 'gone' of bright-suites 1.0 cannot be imported" in line for line in told)
    assert any("unbuildable · brightness: model 'unbuildable' of tiny-models 1.0" in line for line in told)


def test_a_run_that_succeeds_is_taken_off_the_list(suites: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = ("--suite", "brightness,breaks=observe")
    assert run("--model", "tiny", "--model", "dropped", *bad, "--out", suites) == 2
    assert len(json.loads((suites / "failures.json").read_text())) == 2
    assert run("--model", "tiny", "--suite", "brightness", "--out", suites) == 0
    assert [one["model"] for one in json.loads((suites / "failures.json").read_text())] == ["dropped"]
    assert run("--model", "dropped", "--suite", "brightness", "--out", suites) == 0
    assert not (suites / "failures.json").exists()


@pytest.mark.parametrize("place", ["stress", "examine", "observe", "score"])
def test_a_suite_that_fails_is_named_in_a_line(place: str, suites: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", "tiny", "--suite", f"brightness,breaks={place}", "--out", suites) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "suite 'brightness' of bright-suites 1.0 failed with model 'tiny' of tiny-models 1.0" in last
    assert "RuntimeError: out of bulbs" in last


def test_all_is_every_suite_that_the_dataset_supports(
    suites: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stressbench import registry

    entries = registry.entries
    mine = {"brightness", "dark", "unbuildable"}
    monkeypatch.setattr(
        registry, "entries", lambda kind: [e for e in entries(kind) if kind != "suites" or e.name in mine]
    )
    assert run("--model", "tiny", "--suite", "all", "--out", suites) == 2
    told = capsys.readouterr().err
    assert set(records(suites)) == {("tiny", "brightness")}
    assert "the dark suite is left out, because it does not support digits: it is too dark" in told
    assert "bench: suite 'unbuildable' of bright-suites 1.0 failed while it was built: ValueError: no bulbs" in told
    (listed,) = json.loads((suites / "failures.json").read_text())
    assert (listed["model"], listed["suite"]) == ("tiny", "unbuildable")


# --- what a table depends on ----------------------------------------------------------------------------------


def test_options_that_change_tables_make_another_run_and_others_do_not(suites: Path) -> None:
    assert run("--model", "tiny", "--suite", "brightness", "--out", suites) == 0
    assert run("--model", "tiny", "--suite", "brightness,breaks=nowhere", "--out", suites) == 0
    assert len(list(suites.iterdir())) == 2
    assert run("--model", "tiny", "--suite", "brightness,doubt=true", "--out", suites) == 0
    assert len(list(suites.iterdir())) == 2


def test_findings_are_in_the_record_on_the_terminal_and_checked(
    suites: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--model", "tiny", "--suite", "brightness,doubt=true", "--out", suites) == 0
    assert "doubtful (doubt): it was asked for" in capsys.readouterr().out
    (record,) = records(suites).values()
    assert record["findings"] == [{"check": "doubt", "message": "it was asked for", "source": "suite"}]
    (path,) = suites.glob("*/record.json")
    # On a leaderboard they are those of the suite as it is, without options that change what is made of the tables.
    (fault,) = faults(load(path), [])
    assert fault.field == "findings"


# --- sweeps ---------------------------------------------------------------------------------------------------


def test_a_sweeps_page_says_what_is_doubtful(suites: Path, tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('models = ["tiny", "dropped"]\nsuites = ["brightness,doubt=true", "dark"]\nlimit = 12\n')
    with pytest.raises(SystemExit) as refused:  # a suite that is named must say something about the dataset
        main(["sweep", str(file), "--out", str(suites)])
    assert refused.value.code == 2
    assert not suites.exists()
    file.write_text('models = ["tiny", "dropped"]\nsuites = ["brightness,doubt=true"]\nlimit = 12\n')
    with pytest.raises(SystemExit) as done:
        main(["sweep", str(file), "--out", str(suites)])
    assert done.value.code == 0
    header, _, *lines = [line for line in (suites / "s.md").read_text().splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in header.split("|")[1:-1]] == ["model", "draws", "trainings", "mean_nll ↓", "audit"]
    assert [line.split("|")[-2].strip() for line in lines] == ["doubt", "doubt"]
    assert "clean images" not in (suites / "s.md").read_text()  # this suite has no metric of them
