"""`bench sweep`: what it reads, what it trains and runs, and that its tables are the records' numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import ROOT
from stressbench import registry, weights
from stressbench.cli import main
from stressbench.errors import UserError
from stressbench.training.sweep import read

MODELS = ("untrained,width=2", "tiny", "dropped", "ensemble:(untrained,width=2),size=2")
FILE = f"""
models = {list(MODELS)}
suites = ["corruption,corruptions=fog,severities=2"]
seeds = [0, 2]
sizes = [1, 2]
limit = 20

[train]
epochs = 1
"""
HOW = ", recipe fast, 1 epoch"  # as FILE says it


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("stressbench.datasets.digits.TEST", 1600)  # 197 digits to train on


def bench(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([*map(str, arguments)])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def records(out: Path) -> dict[str, list[dict[str, Any]]]:
    """All records by model, in the order of where their weights are from."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in out.glob("*/record.json"):
        record = json.loads(path.read_text())
        found.setdefault(record["model"]["spec"], []).append(record)
    return {spec: sorted(several, key=lambda r: r["model"]["weights_source"]) for spec, several in found.items()}


def cells(page: str, heading: str) -> dict[str, dict[str, str]]:
    """A table of a Markdown page, as model → column → cell, by splitting its lines."""
    (part,) = [part for part in page.split("\n## ") if part.startswith(heading)]
    header, _, *lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("|")
    ]
    return {line[0].replace("\\", ""): dict(zip(header, line, strict=True)) for line in lines}


def test_a_sweep_trains_runs_and_says_what_the_records_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "my sweep.toml", tmp_path / "runs"
    file.write_text(FILE)
    assert bench("sweep", file, "--out", out) == 0
    shown = capsys.readouterr()
    found = records(out)
    assert {spec: [r["model"]["weights_source"] for r in several] for spec, several in found.items()} == {
        "untrained,width=2": [f"trained here, seed {seed}{HOW}" for seed in (0, 2)],
        # Trainings 0 and 2 of an ensemble of two share no member.
        "ensemble:(untrained,width=2),size=2": [
            f"trained here, seed {first}{HOW}; trained here, seed {first + 1}{HOW}" for first in (0, 4)
        ],
        "tiny": ["the plugin's own"],
        "dropped": ["the plugin's own"],
    }
    assert "tiny has its own weights, which no seed changes: it is run once" in shown.err
    assert all(r["dataset"]["n"] == 20 and len(r["conditions"]) == 2 for several in found.values() for r in several)

    (page,) = out.glob("*.md")
    (table,) = out.glob("*.csv")
    assert page.read_text() in shown.out
    assert str(page) in shown.out
    fingerprint = found["tiny"][0]["dataset"]["fingerprint"]
    assert f"digits, test split, 20 images, {fingerprint[:15]}…" in page.read_text()
    clean, stressed = (cells(page.read_text(), heading) for heading in ("clean images", "corruption,"))
    assert list(clean) == list(stressed) == list(MODELS)
    assert list(clean["tiny"]) == ["model", "draws", "trainings", "NLL ↓", "accuracy ↑", "ECE ↓"]
    # A narrowed run has no aggregates, and what no model has makes no column.
    assert list(stressed["tiny"]) == ["model", "draws", "trainings", "clean_error ↓", "clean_nll ↓", "clean_ece ↓"]
    for spec, several in found.items():
        line = clean[spec]
        assert line["trainings"] == str(len(several))
        assert line["draws"] == ("1" if spec in ("tiny", "untrained,width=2") else "2")
        nll, error, ece = (
            np.array([r["metrics"][name] for r in several]) for name in ("clean_nll", "clean_error", "clean_ece")
        )
        if len(several) == 1:
            assert line["NLL ↓"] == f"{nll[0]:.3f}"
            assert line["accuracy ↑"] == f"{100 - 100 * error[0]:.1f} %"
        else:
            assert line["NLL ↓"] == f"{nll.mean():.3f} ± {nll.std(ddof=1):.3f}"
            assert line["accuracy ↑"] == f"{100 - 100 * error.mean():.1f} ± {100 * error.std(ddof=1):.1f} %"
            assert line["ECE ↓"] == f"{100 * ece.mean():.1f} ± {100 * ece.std(ddof=1):.1f} %"
            assert stressed[spec]["clean_nll ↓"] == line["NLL ↓"]

    # The CSV has every number, at every number of draws.
    frame = pd.read_csv(table).set_index(["model", "draws", "metric"])
    assert frame["suite"].unique().tolist() == ["corruption,corruptions=fog,severities=2"]
    for spec, several in found.items():
        own = {str(several[0]["draws"]): 0.0}
        for size in several[0]["curves"].get("clean_nll", own):
            values = np.array([r["curves"].get("clean_nll", {size: r["metrics"]["clean_nll"]})[size] for r in several])
            row = frame.loc[(spec, int(size), "clean_nll")]
            assert row["mean"] == pytest.approx(values.mean(), rel=1e-12)
            assert row["trainings"] == len(values)
            spread = values.std(ddof=1) if len(values) > 1 else np.nan
            assert row["standard_deviation"] == pytest.approx(spread, rel=1e-9, nan_ok=True)
        assert np.isnan(frame.loc[(spec, several[0]["draws"], "mCE")]["mean"])

    # The same command again: nothing is trained or run again, and the tables stay as they are.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.suffix in (".safetensors", ".json")}
    assert bench("sweep", file, "--out", out) == 0
    again = capsys.readouterr()
    assert again.out == shown.out
    assert "untrained,width=2 (seed 2) is trained already" in again.err
    changed = {path for path, stamp in before.items() if path.stat().st_mtime_ns != stamp}
    assert {path.name for path in changed} <= {"run.json"}


def test_what_fails_is_listed_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("train", "--model", "untrained", "--epochs", 2, "--seed", 1) == 0
    file, out = tmp_path / "s.toml", tmp_path / "runs"
    text = FILE.replace(str(list(MODELS)), '["untrained", "tiny"]').replace("seeds = [0, 2]", "seeds = [1, 0]")
    file.write_text(text)
    assert bench("sweep", file, "--out", out) == 2
    told = capsys.readouterr().err
    assert "is of another training: epochs 2, not 1" in told
    (failed,) = json.loads((out / "failures.json").read_text())
    assert (failed["model"], failed["suite"]) == ("untrained (seed 1)", "corruption")
    assert cells((out / "s.md").read_text(), "clean images")["untrained"]["trainings"] == "1"
    # Weights that were made as the file has it are taken.
    file.write_text(text.replace("epochs = 1", "epochs = 2").replace("seeds = [1, 0]", "seeds = [1]"))
    assert bench("sweep", file, "--out", out) == 0
    assert not (out / "failures.json").exists()


def test_words_and_options_are_those_of_the_other_commands(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(
        'models = ["a"]\nsuites = ["all"]\ndataset = "parquet"\ndata_dir = "x"\ndataset_name = "mine"\ndraws = 3\n'
        'stress = "generated"\nbatch_size = 7\nseed = 4\nprecision = "bfloat16"\ndevice = "cpu"\n'
        '[train]\nrecipe = "paper,milestones=text"\nepochs = 3\nlearning_rate = 1\nflip = false\ndraws = 2\n'
    )
    (sweep,) = read(file, "digits").values()
    words = sweep.request
    assert (words.models, words.suites, words.dataset, words.data_dir) == (["a"], ["all"], "parquet", Path("x"))
    assert (words.dataset_name, words.draws, words.stress, words.batch_size) == ("mine", 3, "generated", 7)
    assert (words.seed, words.precision, words.device, words.trainings) == (4, "bfloat16", "cpu", [0])
    options = sweep.options
    assert (options.recipe, options.epochs) == ("paper,milestones=text", 3)
    assert (options.learning_rate, options.flip, options.draws) == (1, False, 2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models = [", "is not TOML"),
        ('suites = ["corruption"]', "models: Field required"),
        ('model = ["a"]\nsuites = ["c"]', "no key 'model' in a sweep's file: did you mean 'models'?"),
        ('models = []\nsuites = ["c"]', "models: List should have at least 1 item"),
        ('models = ["a", "a"]\nsuites = ["c"]', "models: Value error, it has an entry twice"),
        (
            'models = ["a", "b"]\nsuites = ["c"]\nnames = ["A"]',
            "names: Value error, it has 1 for 2 models",
        ),
        ('models = ["a"]\nsuites = ["c"]\nnames = ["A\\nB"]', "names.0: Value error, expected 1 to 80 printable"),
        ('models = ["a", "b"]\nsuites = ["c"]\nnames = ["A", "A"]', "names: Value error, it has an entry twice"),
        ('models = "a"\nsuites = ["c"]', "models: Input should be a valid list"),
        ('models = ["a"]\nsuites = ["c"]\nseeds = ["1"]', "seeds.0: Input should be a valid integer"),
        ('models = ["a"]\nsuites = ["c"]\nseeds = [-1]', "seeds.0: Input should be greater than or equal to 0"),
        ('models = ["a"]\nsuites = ["c"]\nlimit = true', "limit: Input should be a valid integer"),
        ('models = ["a"]\nsuites = ["c"]\ndatset = "d"', "no key 'datset' in a sweep's file: did you mean 'dataset'?"),
        ('models = ["a"]\nsuites = ["c"]\n[train]\nrecipe = 3', "train.recipe: Input should be a valid string"),
        ('models = ["a"]\nsuites = ["c"]\n[train]\nepoch = 1', "no key 'epoch' in [train]: did you mean 'epochs'?"),
        ('models = ["a"]\nsuites = ["c"]\n[train]\nlearning_rate = inf', "train.learning_rate: "),
        ('models = ["a"]\nparts = 3', "parts: Input should be a valid dictionary"),
        ('models = ["a"]\n[parts.p]\nlimit = 1', "[parts.p]: suites: Field required"),
        ('models = ["a"]\nsuites = ["c"]\ntrain = 1\n[parts.p.train]\nepoch = 1', "no key 'epoch' in [train]"),
        ('models = ["a"]\nsuites = ["c"]\n[parts.p]\n[parts.q]\ndataset = "x"', "different datasets"),
        ('models = ["a"]\nsuites = ["c"]\n[train]\nlimit = 3', "no key 'limit' in [train]: 'limit' goes above [train]"),
    ],
)
def test_what_does_not_belong_is_named(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        read(file, "digits")
    assert told in str(caught.value)
    assert str(file) in str(caught.value)


SWEEPS = {"table_e1_cifar100": 20, "table_e4_camvid": 5, "study": 15, "section5": 2}  # and how many models each is of
SWEEPS |= {"tables_e1_e2_imagenet": 4, "dense_study/scenes": 5, "dense_study/photos": 4, "dense_study/scenes-depth": 3}


@pytest.mark.parametrize(("name", "count"), SWEEPS.items())
def test_the_files_in_the_documentation_are_sweeps(name: str, count: int) -> None:
    sweeps = read(ROOT / "docs" / f"{name}.toml", "digits").values()
    assert len({str(registry.resolve(model).entry) for sweep in sweeps for model in sweep.models}) == count
    for sweep in sweeps:
        registry.find("datasets", sweep.dataset)
        for suite in sweep.suites:
            registry.suite(suite)


def test_each_sweep_in_the_documentation_is_tried() -> None:
    docs = ROOT / "docs"
    assert {file.relative_to(docs).with_suffix("").as_posix() for file in docs.rglob("*.toml")} == SWEEPS.keys()


def test_parts_share_what_they_do_not_set(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(
        'suites = ["c"]\nlimit = 5\n[train]\nrecipe = "short"\nepochs = 3\n'
        '[parts.one]\nmodels = ["a"]\n[parts.two]\nmodels = ["b"]\nlimit = 7\ntrain.epochs = 4\n'
    )
    one, two = read(file, "digits").values()
    assert list(read(file, "digits")) == ["s-one", "s-two"]
    assert (one.models, one.limit, one.train.recipe, one.train.epochs) == (["a"], 5, "short", 3)
    assert (two.models, two.limit, two.train.recipe, two.train.epochs) == (["b"], 7, "short", 4)
    assert one.suites == two.suites == ["c"]


def test_a_sweep_of_parts_runs_each_and_writes_its_tables(tmp_path: Path) -> None:
    file, out = tmp_path / "s.toml", tmp_path / "runs"
    file.write_text(
        'models = ["tiny"]\nsuites = ["corruption,corruptions=fog,severities=2"]\n'
        "[parts.few]\nlimit = 10\n[parts.more]\nlimit = 20\n"
    )
    assert bench("sweep", file, "--out", out) == 0
    assert ", 10 images, " in (out / "s-few.md").read_text()
    assert ", 20 images, " in (out / "s-more.md").read_text()


def test_names_are_in_records_and_tables(tmp_path: Path) -> None:
    file, out = tmp_path / "s.toml", tmp_path / "runs"
    file.write_text(
        'models = ["tiny", "tiny,width=4"]\nnames = ["Tiny | net", "Wider"]\nlimit = 10\n'
        'suites = ["corruption,corruptions=fog,severities=2"]\n'
    )
    assert bench("sweep", file, "--out", out) == 0
    found = {r["model"]["spec"]: r["model"]["name"] for several in records(out).values() for r in several}
    assert found == {"tiny": "Tiny | net", "tiny,width=4": "Wider"}
    assert "| Tiny \\| net |" in (out / "s.md").read_text()
    frame = pd.read_csv(out / "s.csv")
    assert dict(zip(frame["model"], frame["name"], strict=True)) == found


def test_a_file_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("sweep", tmp_path / "no.toml") == 2
    assert "no.toml cannot be read: No such file or directory; check the path" in capsys.readouterr().err
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    assert bench("sweep", tmp_path / "binary.toml") == 2
    assert "is not UTF-8 text" in capsys.readouterr().err


def test_unknown_models_stop_a_sweep_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "s.toml"
    file.write_text(FILE.replace("'tiny'", "'tinny'"))
    assert bench("sweep", file, "--out", tmp_path / "runs") == 2
    assert "did you mean 'tiny'?" in capsys.readouterr().err
    assert not weights.stored("digits", "untrained,width=2", 0).exists()
