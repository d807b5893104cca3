"""What `bench run` shows before, while and after it computes: --help, --dry-run, -q and -v."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from harness.made_runs import bench
from stressbench import record
from stressbench.cli.run import run

FEW = ("--corruptions", "fog", "--severities", "2", "--limit", "8")


def test_every_option_of_run_is_in_a_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("run", "--help") == 0
    shown = capsys.readouterr().out
    own = [option.opts[0] for option in run.params if isinstance(option, click.Option)]
    before_the_rest = shown[: shown.index("\nOptions:\n")]
    assert [name for name in own if f"\n  {name}" not in before_the_rest] == []
    headings = [line for line in shown.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Suites and models:", "Images:", "Computing:", "Output:", "Options:"]


def test_a_dry_run_names_the_folder_that_the_run_then_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs"
    assert bench("run", "tiny", *FEW, "--out", out, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert not out.exists()
    assert bench("run", "tiny", *FEW, "--out", out) == 0
    (folder,) = out.iterdir()
    capsys.readouterr()
    # fog at one severity, and clean images
    for words in (
        "tiny · corruption\n",
        "8 of digits, test split, generated stress",
        "2, together 16 images, 1 draw of each",
        "parameters, on cpu in float32",
        "the plugin's own",
        f"folder      {folder}\n",
    ):
        assert words in shown
    assert "already" not in shown
    assert bench("run", "tiny", *FEW, "--out", out, "--dry-run") == 0
    assert "2 of 2 conditions are there already" in capsys.readouterr().out


def test_a_dry_run_trains_nothing_and_says_what_would_be_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert bench("run", "small", "--sizes", "1,3", *FEW, "--dry-run") == 0
    assert list(tmp_path.iterdir()) == []
    shown = capsys.readouterr().out
    assert "none yet for small on digits: it is trained first" in shown
    assert "runs/digits-corruption-small-…, ending in 8 digits" in shown.replace("\\", "/")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("dropped", "2, together 400 images, 3 draws of each"),
        ("dropped --draws 2", "2, together 400 images, 2 draws of each"),
        ("calibrated:tiny,method=temperature", "160 of digits"),  # the other two tenths of 200 are for fitting
    ],
)
def test_a_dry_run_counts_draws_and_images(model: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("run", *model.split(), *FEW[:4], "--dry-run") == 0
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "dataset"),
    [
        ("tiny", "digits"),
        ("tiny --suite hessian", "digits"),
        ("unet,width=8 --suite video", "scenes"),
        ("infer-dropout:(unet,width=8) --suite dense-uncertainty", "scenes"),
        ("infer-dropout:(srresnet,width=8) --suite dense-uncertainty --dataset photos", "photos"),
    ],
)
def test_an_embedded_dataset_of_the_suite_is_the_default(
    command: str, dataset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("run", *command.split(), "--dry-run") == 0
    assert f" of {dataset}, " in capsys.readouterr().out


def test_embedded_scenes_are_not_told_of_published_numbers_for_classifiers(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("run", "unet,width=8", "--dataset", "scenes", "--dry-run") == 0
    assert "published" not in capsys.readouterr().err
    assert bench("run", "tiny", "--dry-run") == 0
    assert "published numbers are on cifar100" in capsys.readouterr().err


def test_a_model_of_another_task_is_told_the_dataset_to_take(capsys: pytest.CaptureFixture[str]) -> None:
    for model, dataset in (("unet", "scenes"), ("srresnet", "photos"), ("fcrn", "scenes-depth")):
        assert bench("run", model) == 2
        assert capsys.readouterr().err.strip().endswith(f"dataset such as {dataset}")


def test_a_dry_run_fails_where_the_run_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("run", "tiny", "wrong", "--weights", tmp_path / "no", "--dry-run") == 2
    assert "--weights fits one model" in capsys.readouterr().err
    assert bench("run", "tiny", "unbuildable", "small", *FEW, "--dry-run", "--out", tmp_path / "runs") == 2
    shown = capsys.readouterr()
    assert "tiny · corruption\n" in shown.out
    assert "small · corruption\n" in shown.out
    assert "unbuildable" in shown.err
    assert list(tmp_path.iterdir()) == []


def test_a_quiet_run_prints_the_path_and_the_first_metrics(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert bench("run", "tiny", *FEW, "--out", tmp_path, "-q") == 0
    shown = capfd.readouterr()
    (folder,) = tmp_path.iterdir()
    (line,) = shown.out.splitlines()
    assert line.startswith(f"{folder / 'record.json'}: clean_error ")
    assert "(" in line
    assert shown.err == ""


def test_a_verbose_run_prints_each_condition(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = ("--corruptions", "fog,frost,snow,contrast,brightness,pixelate,glass_blur", "--limit", "4")
    assert bench("run", "tiny", *many, "--out", tmp_path) == 0
    assert "fog, 3" not in capsys.readouterr().out
    assert bench("run", "tiny", *many, "--out", tmp_path, "-v") == 0
    shown = capsys.readouterr().out
    for corruption in ("fog", "glass_blur"):
        for severity in range(1, 6):
            assert f"{corruption}, {severity}" in shown


@pytest.mark.parametrize("both", [("-q", "-v"), ("-q", "--json"), ("--dry-run", "--json")])
def test_flags_that_decide_what_is_printed_exclude_each_other(
    both: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("run", "tiny", *both) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_several_runs_end_with_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suites = ("--suite", "corruption,corruptions=fog,severities=2", "--suite", "frequency,bands=2")
    assert (
        bench("run", "tiny", "tiny,width=4", *suites, "--limit", 8, "--out", tmp_path, "--name", "a", "--name", "b")
        == 0
    )
    shown = capsys.readouterr().out
    table = shown[shown.rindex("model ") :]
    heading, _, first, second = table.splitlines()[:4]
    columns = [word for word in heading.split() if word not in ("↓", "↑")]
    assert columns[:3] == ["model", "clean_error", "clean_nll"]
    assert len(columns) == 5
    found = {path: record.load(path) for path in tmp_path.glob("digits*")}
    for line, name in ((first, "a"), (second, "b")):
        (corruption,) = [one for one in found.values() if (one.model.name, one.suite.name) == (name, "corruption")]
        value = corruption.metrics["clean_nll"]
        assert value is not None
        assert line.split()[0] == name
        assert f"{value:.3f} (" in line
    assert bench("run", "tiny", *suites[:2], "--limit", 8, "--out", tmp_path) == 0
    assert "bench table" not in capsys.readouterr().out


def test_runs_that_have_no_common_table_are_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("run", "tiny", "tiny", *FEW, "--out", tmp_path) == 0
    assert "there is no table of all runs: " in capsys.readouterr().err
