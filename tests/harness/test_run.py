"""`bench run` as a person meets it: what it writes, how it goes on, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import Bench, write_distribution
from stressbench.cli import main
from stressbench.record import load

# Fast enough for every test: two corruptions, two severities, twelve images, a network of a few thousand weights.
SMALL = ("--corruptions", "fog,gaussian_noise", "--severities", "1,4", "--limit", "12")


def run(*arguments: object) -> int:
    """`bench run` in this process; returns the exit code."""
    with pytest.raises(SystemExit) as exit_:
        main(["run", *map(str, arguments)])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def the_record(out: Path) -> dict[str, Any]:
    (path,) = out.glob("*/record.json")
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def timeless(record: dict[str, Any]) -> dict[str, Any]:
    """A record without the parts that differ between two equal runs."""
    return {
        key: value for key, value in record.items() if key not in ("created", "timing", "batch_size", "environment")
    }


def test_the_record_has_the_keys_that_other_tools_rely_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", "tiny,width=4", *SMALL, "--out", tmp_path) == 0
    record = the_record(tmp_path)
    assert record["schema_version"] == 3
    assert record["suite"]["name"] == "corruption"
    assert record["dataset"]["name"] == "digits"
    assert record["dataset"]["n"] == 12
    assert record["dataset"]["fingerprint"].startswith("sha256:")
    assert record["dataset"]["stress"] == "generated"
    assert record["model"]["spec"] == "tiny,width=4"
    assert record["model"]["distribution"] == "tiny-models"
    assert record["model"]["plugins"] == [{"name": "tiny", "distribution": "tiny-models", "version": "1.0"}]
    assert (record["draws"], record["seed"]) == (1, 0)
    assert [c["condition"] for c in record["conditions"]] == [
        {"corruption": "none", "severity": 0},
        *({"corruption": c, "severity": s} for c in ("gaussian_noise", "fog") for s in (1, 4)),
    ]
    for row in record["conditions"]:
        assert row["n"] == 12
        assert {"nll", "error", "ece"} <= row["metrics"].keys()
        assert all(isinstance(value, float) for value in row["metrics"].values())
    clean = record["conditions"][0]["metrics"]
    assert record["metrics"]["clean_error"] == clean["error"]
    # A narrowed run has no aggregate: never a mean over a part.
    for name in ("mean_error", "mean_nll", "mean_ece", "mCE", "mCNLL", "mCECE", "relative_mCE"):
        assert record["metrics"][name] is None
    shown = capsys.readouterr()
    assert str(next(tmp_path.glob("*/record.json"))) in shown.out
    assert "small embedded sample" in shown.err
    assert "--dataset cifar100" in shown.err


def test_the_tables_hold_a_row_for_each_image(tmp_path: Path) -> None:
    run("--model", "tiny", *SMALL, "--out", tmp_path)
    (folder,) = tmp_path.iterdir()
    tables = sorted((folder / "tables").glob("*.parquet"))
    assert len(tables) == 5
    record = the_record(tmp_path)
    for row in record["conditions"]:
        name = "-".join(f"{key}={value}" for key, value in row["condition"].items())
        table = pd.read_parquet(folder / "tables" / f"{name}.parquet")
        assert table["index"].tolist() == list(range(12))
        assert row["metrics"]["error"] == pytest.approx(1 - np.mean(table["prediction"] == table["label"]))
        assert row["metrics"]["nll"] == pytest.approx(table["nll"].astype(float).mean())


@pytest.mark.parametrize("model", ["tiny", "dropped"])
def test_any_batch_size_gives_the_same_metrics(model: str, tmp_path: Path) -> None:
    records = []
    for size in (1, 5, 100):
        run("--model", model, *SMALL, "--batch-size", size, "--out", tmp_path / str(size))
        records.append(the_record(tmp_path / str(size)))
    for other in records[1:]:
        for ours, theirs in zip(records[0]["conditions"], other["conditions"], strict=True):
            for name, value in ours["metrics"].items():
                assert theirs["metrics"][name] == pytest.approx(value, rel=1e-4, abs=1e-6)


def test_the_seed_decides_the_noise_and_the_draws(tmp_path: Path) -> None:
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        run("--model", "dropped", *SMALL, "--seed", seed, "--out", tmp_path / out)
    a, b, c = (the_record(tmp_path / out) for out in "abc")
    assert timeless(a) == timeless(b)
    assert a["draws"] == 3
    for ours, theirs in zip(a["conditions"], c["conditions"], strict=True):
        assert ours["metrics"]["nll"] != theirs["metrics"]["nll"]


def test_draws_are_asked_for_and_a_deterministic_model_has_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("--model", "dropped", "--model", "tiny", *SMALL, "--draws", 5, "--out", tmp_path)
    (told,) = (line for line in capsys.readouterr().err.splitlines() if "deterministic" in line)
    assert told.startswith("tiny is deterministic: it has one draw")
    draws = {load(path).model.spec: load(path).draws for path in tmp_path.glob("*/record.json")}
    assert draws == {"dropped": 5, "tiny": 1}


def test_a_second_identical_command_computes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("--model", "tiny", *SMALL, "--out", tmp_path)
    first = the_record(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    capsys.readouterr()
    assert run("--model", "tiny", *SMALL, "--out", tmp_path) == 0
    assert "5 of 5 conditions are already in" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == before
    assert the_record(tmp_path) == first  # it says when and where it was made, not when it was looked at
    assert run("--model", "tiny", *SMALL, "--out", tmp_path, "--fresh") == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} != before
    assert timeless(the_record(tmp_path)) == timeless(first)


@pytest.mark.parametrize("field", ["intervals", "jackknife", "timing"])
def test_an_edited_record_is_written_again(field: str, tmp_path: Path) -> None:
    run("--model", "tiny", *SMALL, "--out", tmp_path)
    (path,) = tmp_path.glob("*/record.json")
    whole = path.read_text()
    record = json.loads(whole)
    edited = {"seconds": 1e-3} if field == "timing" else {n: dict.fromkeys(v) for n, v in record[field].items()}
    path.write_text(json.dumps({**record, field: {**record[field], **edited}}))
    assert run("--model", "tiny", *SMALL, "--out", tmp_path) == 0
    again = json.loads(path.read_text())
    assert again[field] == record[field] or field == "timing"
    assert again["timing"]["seconds"] == pytest.approx(record["timing"]["seconds"])


def test_damaged_tables_are_named_and_computed_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("--model", "tiny", *SMALL, "--out", tmp_path)
    first = the_record(tmp_path)
    (fog,) = tmp_path.glob("*/tables/corruption=fog-severity=4.parquet")
    (noise,) = tmp_path.glob("*/tables/corruption=gaussian_noise-severity=1.parquet")
    (none,) = tmp_path.glob("*/tables/corruption=none-severity=0.parquet")
    fog.write_bytes(fog.read_bytes()[:-20])
    noise.write_text("not a table")
    none.unlink()
    capsys.readouterr()
    assert run("--model", "tiny", *SMALL, "--out", tmp_path) == 0
    told = capsys.readouterr().err
    assert f"{fog} is damaged" in told
    assert f"{noise} is damaged" in told
    assert "2 of 5 conditions are already in" in told
    assert timeless(the_record(tmp_path)) == timeless(first)


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(tmp_path: Path, bench: Bench) -> None:
    words = ("run", *SMALL, "--batch-size", 5, "--out", tmp_path, "--model", "wrong,answer=killed")
    killed = bench(*words)
    assert killed.returncode == -signal.SIGKILL
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.glob("tables/*.parquet"))) == 2
    assert not (folder / "record.json").exists()
    again = bench(*words)
    assert again.returncode == -signal.SIGKILL
    assert "2 of 5 conditions are already in" in again.stderr
    last = bench(*words)
    assert last.returncode == 0, last.stderr
    whole = tmp_path / "whole"
    assert run(*SMALL, "--out", whole, "--model", "wrong,answer=nothing") == 0
    for ours, theirs in zip(the_record(tmp_path)["conditions"], the_record(whole)["conditions"], strict=True):
        assert ours == theirs


def test_ctrl_c_leaves_a_resumable_run_and_exit_code_130(tmp_path: Path) -> None:
    command = [
        Path(sys.executable).parent / "bench",
        "run",
        *SMALL,
        "--batch-size",
        "1",
        "--model",
        "wrong,answer=slow",
    ]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/tables/*.parquet")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    last = told.strip().splitlines()[-1]
    (folder,) = tmp_path.iterdir()
    assert last == f"bench: interrupted: what was finished is in {folder}, and the same command goes on from there"
    assert not list(folder.rglob("*.partial"))


def test_json_is_the_record_and_nothing_else(tmp_path: Path, bench: Bench) -> None:
    done = bench("run", "--model", "tiny", *SMALL, "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == the_record(tmp_path)
    two = bench("run", "--model", "tiny", "--model", "dropped", *SMALL, "--out", tmp_path, "--json")
    assert [json.loads(line)["model"]["spec"] for line in two.stdout.splitlines()] == ["tiny", "dropped"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "resnet81"], ["no model called 'resnet81'", "did you mean 'resnet"]),
        (["--suite", "coruption"], ["no suite called 'coruption'", "did you mean 'corruption'"]),
        (["--dataset", "digit"], ["no dataset called 'digit'", "did you mean 'digits'"]),
        (["--modell", "tiny"], ["--modell", "--model"]),
        (["--model", "tiny,widht=3"], ["no option 'widht'", "did you mean 'width'"]),
        (["--model", "tiny,width=wide"], ["'width'", "'wide'"]),
        (["--corruptions", "fogg"], ["no corruption 'fogg'", "did you mean 'fog'"]),
        (["--severities", "9"], ["severity 9", "1 to 5"]),
        (["--severities", "high"], ["'severities'", "'high'"]),
        (["--limit", "0"], ["--limit"]),
        (["--draws", "-1"], ["--draws"]),
        (["--device", "abacus"], ["device 'abacus'", "cpu"]),
        (["--device", "meta"], ["device 'meta'", "cpu"]),
        (["--stress", "official"], ["no official corruption files for digits", "--stress generated"]),
        (["--baseline", "nowhere"], ["nowhere", "does not exist"]),
        (["--weights", "nowhere.safetensors"], ["nowhere.safetensors"]),
        (["--weights", "x", "--model", "dropped"], ["--weights fits one model and 2 are given"]),
        (["--data-dir", "nowhere"], ["--data-dir"]),
        (["--dataset", "parquet"], ["--data-dir"]),
        (["--dataset", "cifar10", "--data-dir", "nowhere"], ["nowhere"]),
    ],
)
def test_wrong_words_get_one_line_and_nothing_is_written(
    arguments: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = [] if arguments[0] == "--model" else ["--model", "tiny"]
    assert run(*model, *arguments, "--out", tmp_path / "out") == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = [line for line in shown.err.splitlines() if "embedded sample" not in line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("bench: ")
    for word in words:
        assert word in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("answer", "words"),
    [("shape", "returned shape (12, 9)"), ("nan", "NaN or infinite"), ("raise", "RuntimeError: the flux capacitor")],
)
def test_a_model_that_fails_is_named_with_the_condition(
    answer: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--model", f"wrong,answer={answer}", "--model", "tiny", *SMALL, "--out", tmp_path) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("bench: under none, severity 0, model 'wrong' of tiny-models 1.0")
    assert words in last
    # The other model went on.
    assert the_record(tmp_path)["model"]["spec"] == "tiny"


@pytest.mark.parametrize(("known", "words"), [(3, "a logit of −∞ for the label of"), (0, "NaN or infinite logits")])
def test_classes_are_ruled_out_only_where_no_label_has_them(
    known: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--model", f"masked,known={known}", *SMALL, "--out", tmp_path) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("bench: under none, severity 0, model 'masked' of tiny-models 1.0 returned")
    assert words in last


def test_weights_that_are_missing_say_how_to_get_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shared: Path
) -> None:
    data = shared / "data" / "cifar10"
    assert run("--model", "untrained", "--dataset", "cifar10", "--data-dir", data, "--limit", 2, "--out", tmp_path) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "untrained has no weights for cifar10" in last
    assert "bench train --model untrained --dataset cifar10 --data-dir" in last
    assert "--weights" in last


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert run("--model", "tiny", *SMALL, "--out", tmp_path / "out") == 2
    assert "--out" in capsys.readouterr().err


def test_an_out_that_is_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("")
    assert run("--model", "tiny", *SMALL, "--out", tmp_path / "out") == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"bench: cannot write to {tmp_path / 'out'}")


def test_a_full_disk_is_refused_and_the_run_can_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))  # what a full disk does, for files of more than 2 KB
    try:
        assert run("--model", "tiny", *SMALL, "--out", tmp_path) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write to" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.rglob("*.parquet"))
    assert run("--model", "tiny", *SMALL, "--out", tmp_path) == 0


def test_another_models_record_is_the_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", "tiny", *SMALL, "--out", tmp_path / "a") == 0
    (folder,) = (tmp_path / "a").iterdir()
    assert run("--model", "dropped", *SMALL, "--baseline", folder, "--out", tmp_path / "b") == 0
    baseline = the_record(tmp_path / "b")["suite"]["baseline"]
    assert baseline["model"] == "tiny"
    assert baseline["conditions"] == the_record(tmp_path / "a")["conditions"]
    assert str(tmp_path) not in (next((tmp_path / "b").glob("*/record.json"))).read_text()
    assert run("--model", "dropped", *SMALL[:-1], 13, "--baseline", folder, "--out", tmp_path / "c") == 2
    assert "the baseline is of other data: its n is 12 and this run's is 13" in capsys.readouterr().err


def test_suites_take_options_in_their_name_too(tmp_path: Path) -> None:
    assert run("--suite", "corruption,corruptions=fog+snow,severities=2", "--model", "tiny", "--limit", 3,
               "--out", tmp_path) == 0  # fmt: skip
    assert len(the_record(tmp_path)["conditions"]) == 3


@pytest.mark.parametrize("model", ["zoo", "infer-noise:zoo,location=4", "ensemble:zoo+tiny"])
def test_a_new_version_of_any_plugin_in_the_name_is_another_run(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, version in (("a", "1.0"), ("b", "1.0"), ("c", "1.1")):
        site = tmp_path / f"site-{name}"
        write_distribution(site, "some-zoo", {"stressbench.models": {"zoo": "tiny_models:dropped"}})
        metadata = site / "some_zoo-1.0.dist-info" / "METADATA"
        metadata.write_text(metadata.read_text().replace("Version: 1.0", f"Version: {version}"))
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(site))
            assert run("--model", model, *SMALL, "--out", tmp_path / "runs") == 0
    folders = list((tmp_path / "runs").iterdir())
    assert len(folders) == 2
    versions = {
        tuple(plugin)
        for folder in folders
        for plugin in json.loads((folder / "run.json").read_text())["model"]["plugins"]
    }
    assert {("zoo", "some-zoo", "1.0"), ("zoo", "some-zoo", "1.1")} <= versions
