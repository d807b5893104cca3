"""A whole suite in one small file of a package of its own, with every command that a suite goes through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT, write_distribution
from stressbench import registry
from stressbench.cli import main
from stressbench.datasets.digits import digits

DUSK = """\
from stressbench import Metric, Stressed, StressSuite
from stressbench.metrics import log_mean_probability


class Dusk(StressSuite):
    name = "dusk"
    version = "1"
    metrics = (Metric("mean_error", "fraction", "lower"),)
    row_metrics = (Metric("error", "fraction", "lower"),)

    def __init__(self, factors: tuple[float, ...] = (0.5, 0.25)) -> None:
        self.factors = factors

    def conditions(self):
        return [{"factor": factor} for factor in self.factors]

    def stress(self, condition, batch, model):
        return Stressed(batch.images * condition["factor"])

    def observe(self, condition, batch, predictions):
        return {"error": log_mean_probability(predictions).argmax(-1) != batch.targets}
"""
# What a suite may not return as its conditions.
FAULTY = """\
from dusk_suite import Dusk

class Faulty(Dusk):
    name = "faulty"
    def __init__(self, fault: str = "none"):
        self.fault = fault
    def conditions(self):
        return {
            "none": [],
            "twice": [{"factor": 1}, {"factor": 1.0}],
            "nested": [{"factor": [1, 2]}],
            "nothing": [{}],
            "nan": [{"factor": float("nan")}],
            "number": [3],
            "key": [{1: "x"}],
        }[self.fault]
"""
RUN = ("run", "--suite", "dusk", "--limit", "40", "-o", "factors=0.5,0.1")


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    site = tmp_path_factory.mktemp("dusk")
    (site / "dusk_suite.py").write_text(DUSK)
    (site / "faulty_suite.py").write_text(FAULTY)
    points = {"dusk": "dusk_suite:Dusk", "faulty": "faulty_suite:Faulty"}
    write_distribution(site, "dusk-suite", {"stressbench.suites": points})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        yield


def bench(*arguments: object) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*map(str, arguments)])
    assert exit_.value.code == 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of one draw, and one of several with a curve."""
    out = tmp_path_factory.mktemp("runs")
    bench(*RUN, "--model", "tiny", "--model", "tiny,width=16", "--out", out)
    bench(*RUN, "--model", "dropped", "--sizes", "1,2,5", "--out", out)
    return out


def record(runs: Path, model: str) -> dict[str, Any]:
    (path,) = runs.glob(f"*-{model}-[0-9a-f]*/record.json")
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def test_its_numbers_are_those_of_the_darkened_images(runs: Path) -> None:
    data = digits("test")
    images, labels = data.images.read(0, 40).float() / 255, data.targets.read(0, 40)
    model = registry.model("tiny", data).eval()
    errors = [float((model(factor * images).argmax(-1) != labels).double().mean()) for factor in (0.5, 0.1)]
    made = record(runs, "tiny")
    assert [row["condition"] for row in made["conditions"]] == [{"factor": 0.5}, {"factor": 0.1}]
    assert [row["metrics"]["error"] for row in made["conditions"]] == errors
    assert made["metrics"] == {"mean_error": float(np.mean(errors))}
    assert list(made["intervals"]) == ["mean_error"]
    assert list(record(runs, "dropped")["curves"]["mean_error"]) == ["1", "2", "5"]
    (folder,) = runs.glob("*-tiny-[0-9a-f]*")
    tables = [pd.read_parquet(path) for path in sorted((folder / "tables").rglob("*.parquet"))]
    assert sorted(float(table["error"].mean()) for table in tables) == sorted(errors)


def test_an_interrupted_run_resumes(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (*RUN, "--model", "tiny", "--out", tmp_path, "--json")
    bench(*words)
    whole = json.loads(capsys.readouterr().out)
    (folder,) = tmp_path.iterdir()
    (folder / "record.json").unlink()
    first, second = sorted((folder / "tables").rglob("*.parquet"))
    second.unlink()
    before = first.stat().st_mtime_ns
    bench(*words)
    again = json.loads(capsys.readouterr().out)
    assert again["conditions"] == whole["conditions"]
    assert first.stat().st_mtime_ns == before
    assert second.exists()


def test_it_is_compared_plotted_and_shown(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = sorted(runs.glob("*-tiny*"))
    bench("compare", *folders)
    assert "mean_error" in capsys.readouterr().out
    bench("plot", *folders, next(runs.glob("*-dropped*")), "--out", tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {"by-factor.png", "ensemble-size.png"}
    bench("show", folders[0])
    capsys.readouterr()
    bench("show", "dusk")
    assert (
        capsys.readouterr().out
        == """\
dusk
suite 'dusk' of dusk-suite 1.0, version 1

tasks           classification

options:
  factors       float,float,…, default 0.5,0.25

metrics:
  mean_error    fraction, lower is better

metrics of each condition:
  error         fraction, lower is better

conditions:
  factor 0.5
  factor 0.25
"""
    )
    bench("show", "dusk,factors=1")
    assert capsys.readouterr().out.endswith("conditions:\n  factor 1\n")


def test_a_leaderboard_takes_it(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "board"
    for words in (
        (*RUN[:3], "--model", "tiny", "--out", tmp_path / "runs"),
        ("leaderboard", "add", next(runs.glob("*-tiny-[0-9a-f]*")), "--root", root),
    ):
        bench(*words)
    (added,) = (root / "records").rglob("*.json")
    bench("leaderboard", "check", added, "--root", root)
    bench("leaderboard", "build", "--root", root)
    assert "dusk" in (root / "README.md").read_text()
    page = (root / "index.html").read_text()
    assert "tiny" in page
    assert "error against factor (lower is better)" in page


def test_it_is_listed_with_its_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    bench("list", "suites")
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("  dusk-suite 1.0")
    assert lines[start + 1].split() == ["dusk", "classification"]
    assert lines[start + 2].startswith("    faulty")


def test_a_dataset_is_shown_by_its_facts(capsys: pytest.CaptureFixture[str]) -> None:
    bench("show", "digits")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["digits", "dataset 'digits' of stressbench " + lines[1].split()[-1]]
    facts = dict(line.split(maxsplit=1) for line in lines[3:])
    assert (facts["task"], facts["size"], facts["test"]) == ("classification, 10 classes", "32×32", "200 images")
    assert facts["fingerprint"].startswith("sha256:")


def test_a_recipe_is_shown_with_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    bench("show", "short")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "short"
    assert lines[3].startswith("One cycle in 16 epochs")
    start = lines.index("options of every recipe, by default what the recipe chooses:")
    told = dict(line.split(maxsplit=1) for line in lines[start + 1 :])
    assert (told["epochs"], told["learning_rate"], told["flip"]) == ("int ≥ 1", "float > 0", "bool")
    assert not {"name", "augment", "loss"} & told.keys()


def test_what_a_model_takes_behind_a_colon_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    bench("show", "ensemble")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ensemble:MODEL"
    assert lines[lines.index("options:") + 1].split()[0] == "size"
    bench("show", "file")
    assert capsys.readouterr().out.startswith("file:PATH.py:NAME\n")


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("none", "has no conditions: return at least one"),
        ("twice", "has the condition {'factor': 1.0} twice: return each once"),
        ("nested", "has the condition {'factor': [1, 2]}: a condition must map text to text or finite numbers"),
        ("nothing", "has the condition {}: a condition must map"),
        ("nan", "has the condition {'factor': nan}: a condition must map"),
        ("number", "has the condition 3: a condition must map"),
        ("key", "has the condition {1: 'x'}: a condition must map"),
    ],
)
def test_faulty_conditions_stop_the_suite_before_anything_runs(
    fault: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["run", "--suite", "faulty", "-o", f"fault={fault}", "--model", "tiny", "--out", str(tmp_path)])
    told = capsys.readouterr().err.splitlines()[-1]
    assert exit_.value.code == 2
    assert told.startswith("bench: suite 'faulty' of dusk-suite 1.0 ")
    assert line in told
    assert not list(tmp_path.iterdir())


def test_the_page_on_plugins_shows_this_file() -> None:
    assert DUSK in (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
