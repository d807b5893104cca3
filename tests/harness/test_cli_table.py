"""`bench table`, and the shortest words of `bench run`."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness.made_runs import bench, made

FEW = ("--corruptions", "fog", "--severities", 3)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("runs")
    return {
        "a": made(out, "corruption", "tiny", *FEW),
        "b": made(out, "corruption", "tiny,width=4", *FEW),
        "other": made(out, "frequency", "tiny"),
    }


def record(run: Path) -> dict[str, dict[str, dict[str, list[float]]]]:
    return json.loads((run / "record.json").read_text())  # type: ignore[no-any-return]


def test_ties_are_what_the_paired_interval_says(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert bench("table", runs["a"], runs["b"], "--metrics", "clean_nll,clean_ece", "--csv") == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(lines) == 4
    for metric in ("clean_nll", "clean_ece"):
        by_model = {line["model"]: line for line in lines if line["metric"] == metric}
        values = {name: float(line["value"]) for name, line in by_model.items()}
        best = min(values, key=lambda name: values[name])
        (other,) = values.keys() - {best}
        assert (by_model[best]["best"], by_model[best]["tied"]) == ("True", "False")
        # Kott's delete-a-group jackknife of the difference, by hand.
        left, right = (np.array(record(runs[key])["jackknife"][metric]["1"]) for key in ("a", "b"))
        differences = left - right
        groups = len(differences)
        error = np.sqrt((groups - 1) / groups * ((differences - differences.mean()) ** 2).sum())
        told = abs(values[best] - values[other]) > stats.t.ppf(0.975, groups - 1) * error
        assert by_model[other]["tied"] == str(not told)


def test_suites_stand_side_by_side(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert bench("table", *runs.values(), "--metrics", "noise_auc,clean_nll") == 0
    heading, _, first, second = capsys.readouterr().out.splitlines()
    assert [cell.split()[0] for cell in heading.strip("|").split("|")] == ["model", "noise\\_auc", "clean\\_nll"]
    assert first.count("–") in (2, 3)  # two intervals
    assert second.split("|")[2].strip() == "–"  # no run of this model through the frequency suite
    assert (first + second).count("**") == 2  # the best clean_nll; noise_auc has nothing beside it


def test_latex_compiles_by_its_looks(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert bench("table", runs["a"], runs["b"], "--metrics", "clean_error", "--latex") == 0
    text = capsys.readouterr().out
    assert text.startswith("\\begin{tabular}{lr}\n\\toprule\nmodel & clean\\_error $\\downarrow$ \\\\\n")
    assert "%" not in text.replace("\\%", "")
    assert text.isascii()


@pytest.mark.parametrize(
    ("which", "metrics", "words"),
    [
        (("a", "a"), "clean_nll", "both of this model and suite: leave one out"),
        (("a", "b"), "clean_nl", "did you mean 'clean_nll'"),
    ],
)
def test_what_makes_no_table_is_a_line(
    runs: dict[str, Path], which: tuple[str, ...], metrics: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert bench("table", *(runs[one] for one in which), "--metrics", metrics) == 2
    assert words in capsys.readouterr().err


def test_a_model_needs_no_option_and_the_module_is_the_command(tmp_path: Path) -> None:
    words = ["tiny", "--model", "tiny,width=4", "--limit", "4", "--corruptions", "fog", "--severities", "1", "--json"]
    command = [sys.executable, "-m", "stressbench", "run", *words, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["model"]["spec"] for line in done.stdout.splitlines()] == ["tiny", "tiny,width=4"]
