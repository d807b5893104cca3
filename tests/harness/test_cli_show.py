"""`bench show`, and ensembles and wrappers from the command line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from stressbench import registry, weights
from stressbench.cli import main
from stressbench.datasets.digits import digits

FEW = ("--corruptions", "fog", "--severities", "2", "--limit", "8")


def bench(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([*map(str, arguments)])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def record(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def test_a_model_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("show", "tiny,width=4") == 0
    shown = " ".join(capsys.readouterr().out.split())
    # 3·4·9 + 4 and 64·10 + 10 parameters; 16² positions of the one, one of the other.
    for words in (
        "tiny,width=4 model 'tiny' of tiny-models 1.0, for digits (32×32, 10 classes)",
        "parameters 762",
        f"multiply-adds {108 * 256 + 640:,} for one image",
        "draws 1, deterministic",
        "width int, default 8",
        "0 input of features 3×32×32",
        "4 input of head 64",
        "1, 2, 3 are unknown: give a module's name",
    ):
        assert words in shown, words


def test_wrappers_and_ensembles_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("show", "infer-transform:(ensemble:tiny+(tiny,width=4)),transforms=rotate") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "draws 8 by default, 8 at most" in shown
    assert "infer-transform:tiny,transforms=rotate (seed 0), infer-transform:(tiny,width=4),transforms=rotate" in shown
    assert "transforms flip|rotate|dihedral, default flip" in shown
    assert bench("show", "tinny") == 2
    assert "did you mean 'tiny'" in capsys.readouterr().err


def test_an_ensemble_trains_its_members_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path / "home"))
    common = ("--out", tmp_path / "runs", "--json", *FEW)
    assert bench("run", "--model", "ensemble:(untrained,width=2),size=2", *common) == 0
    first = record(capsys)
    assert first["draws"] == 2
    assert first["model"]["spec"] == "ensemble:(untrained,width=2),size=2"
    assert first["model"]["weights_source"] == "; ".join(
        f"trained here, seed {seed}, recipe fast, 10 epochs" for seed in (0, 1)
    )
    files = [weights.stored("digits", "untrained,width=2", seed) for seed in (0, 1)]

    # The same weights by folder, by hand, and perturbed: nothing is trained again.
    given = ("--weights", files[0], "--weights", files[1])
    assert bench("run", "--model", "ensemble:(untrained,width=2),size=2", *given, *common) == 0
    again = record(capsys)
    assert again["metrics"] == first["metrics"]
    assert again["model"]["weights_checksum"] == first["model"]["weights_checksum"]
    wrapped = "infer-noise:(ensemble:(untrained,width=2),size=2),location=features,sigma=0.1"
    assert bench("run", "--model", wrapped, "--weights", files[0].parent, *common) == 0
    assert (noisy := record(capsys))["draws"] == 8
    assert noisy["metrics"] != first["metrics"]

    # More draws than members, and a command that would train what has no weights of its own.
    assert bench("run", "--model", "ensemble:(untrained,width=2),size=2", "--draws", 3, *common) == 2
    assert "has 2 draws and --draws asks for 3" in capsys.readouterr().err
    assert bench("train", "--model", "ensemble:(untrained,width=2),size=2") == 2
    assert "train untrained,width=2, with --seed" in capsys.readouterr().err

    (run, *_) = (tmp_path / "runs").iterdir()
    assert bench("show", run) == 0
    assert "8 images, generated stress" in capsys.readouterr().out


def test_a_missing_member_gives_the_command_that_trains_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path / "home"))
    weights.save(registry.model("untrained", digits("test")), weights.stored("cifar10", "untrained", 0), {})
    data = ("--dataset", "cifar10", "--data-dir", shared / "data" / "cifar10")
    assert bench("run", "--model", "ensemble:untrained", *data, "--limit", 2, "--out", tmp_path / "runs") == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "untrained (seed 1) has no weights for cifar10" in last
    assert "bench train --model untrained --dataset cifar10 --data-dir" in last
    assert "--seed 1`" in last


# --- a run's tables in other forms ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stochastic model's run with a curve."""
    out = tmp_path_factory.mktemp("runs")
    few = ("--corruptions", "fog", "--severities", "1,2", "--limit", 8, "--sizes", "1,3")
    assert bench("run", "--model", "dropped", *few, "--out", out) == 0
    (folder,) = out.iterdir()
    return folder


def test_json_is_the_record(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    for target in (run, run / "record.json"):
        assert bench("show", target, "--json") == 0
        assert capsys.readouterr().out == (run / "record.json").read_text()


def test_csv_has_every_number_unrounded_with_its_unit(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert bench("show", run, "--csv") == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    told = json.loads((run / "record.json").read_text())
    found = {(x["corruption"], x["severity"], x["draws"], x["metric"]): x for x in lines}
    assert len(found) == len(lines) == 2 * (3 * 5 + 10)
    scopes = [(str(r["condition"]["corruption"]), str(r["condition"]["severity"]), r) for r in told["conditions"]]
    for corruption, severity, scope in [*scopes, ("", "", told)]:
        for size in ("1", "3"):
            for name, curve in scope["curves"].items():
                line = found[corruption, severity, size, name]
                assert line["value"] == ("" if curve[size] is None else repr(curve[size]))
                assert line["unit"] == ("nats" if "nll" in name and name != "mCNLL" else
                                        "number" if name == "brier" else "fraction")  # fmt: skip
                assert (line["model"], line["suite"], line["dataset"]) == ("dropped", "corruption", "digits")


def test_markdown_has_all_conditions_in_percent(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert bench("show", run, "--markdown") == 0
    title, *tables = capsys.readouterr().out.strip().split("\n\n")
    assert title == "dropped, 3 draws · corruption · digits, 8 images, generated stress"
    cells = [[[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()] for table in tables]
    conditions, metrics, curves = cells
    assert conditions[0][:4] == ["corruption", "severity", "error ↓", "nll ↓"]
    told = json.loads((run / "record.json").read_text())
    for line, row in zip(conditions[2:], told["conditions"], strict=True):
        assert line[:2] == [str(value) for value in row["condition"].values()]
        assert line[2:4] == [f"{100 * row['metrics']['error']:.1f} %", f"{row['metrics']['nll']:.3f}"]
    assert [line[0] for line in metrics[2:]] == ["clean_error ↓", "clean_nll ↓", "clean_ece ↓"]
    assert curves[0] == ["metric by draws", "1", "3"]
    assert curves[3][2] == metrics[3][1]


def test_a_bare_record_is_shown_and_names_no_other_file(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.json"
    file.write_bytes((run / "record.json").read_bytes())
    capsys.readouterr()
    assert bench("show", file) == 0
    shown = capsys.readouterr().out
    assert "clean_error" in shown
    assert "record.json" not in shown
    assert bench("show", run) == 0
    assert f"tables  {run / 'tables'}" in capsys.readouterr().out


def test_forms_are_of_runs_and_one_at_a_time(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("show", run, "--csv", "--markdown") == 2
    assert "--markdown and --csv exclude each other: pass one of them" in capsys.readouterr().err
    assert bench("show", "tiny", "--json") == 2
    assert "--json is for runs, and tiny is neither a run folder nor a record file" in capsys.readouterr().err


def test_a_name_longer_than_paths_may_be_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("show", "infer-dropout:" * 300 + "resnet20") == 2
    assert "more than 50 names are nested" in capsys.readouterr().err
