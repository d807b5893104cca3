"""`bench train` as a person meets it: what it leaves, how it goes on after a kill, and what it refuses."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import load_file

from stressbench import registry, training, weights
from stressbench._util.terminal import Report, Screen
from stressbench.cli import main
from stressbench.contracts import Dataset
from stressbench.datasets.digits import digits
from stressbench.datasets.fingerprint import fingerprint
from stressbench.execution import models
from stressbench.training import curves

QUICK = ("--model", "untrained", "--epochs", 2)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # in the processes that are started here
    return tmp_path / "home"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As in the processes that are started here: the number of threads decides how sums are rounded."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(*arguments: object) -> int:
    """`bench train` in this process; returns the exit code."""
    with pytest.raises(SystemExit) as exit_:
        main(["train", *map(str, arguments)])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def metadata(path: Path) -> dict[str, str]:
    """What a weights file says of itself, by safetensors' own reader."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def same(a: Path, b: Path) -> bool:
    ours, theirs = load_file(a), load_file(b)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def timeless(table: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in table]


class Stopping(Screen):
    """Somebody presses Ctrl-C in the second epoch."""

    @contextmanager
    def training(self, title: str) -> Iterator[Report]:
        def report(done: int, total: int, label: str) -> None:
            if label.startswith("epoch 2 "):
                raise KeyboardInterrupt

        yield report


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only 197 digits to train on, for tests of what is not learnt."""
    monkeypatch.setattr("stressbench.datasets.digits.TEST", 1600)


@pytest.fixture
def unfinished(few: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint that `bench train --model untrained --epochs 3` leaves when it is interrupted in epoch 2."""
    with monkeypatch.context() as patch:
        patch.setattr("stressbench._util.terminal.Screen", Stopping)
        assert train("--model", "untrained", "--epochs", 3) == 130
    path = weights.stored("digits", "untrained", 0).with_suffix(".checkpoint")
    assert path.exists()
    return path


# --- for real -------------------------------------------------------------------------------------------------


def test_a_killed_training_ends_in_the_weights_of_one_that_was_not_and_they_are_good(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = weights.stored("digits", "small", 0)
    bench = [str(Path(sys.executable).parent / "bench"), "train", "--model", "small"]
    process = subprocess.Popen(bench, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    course = path.with_suffix(".csv")
    deadline = time.monotonic() + 200
    while not course.exists() or len(rows(course)) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert path.with_suffix(".checkpoint").exists()
    assert not path.exists()
    assert train("--model", "small") == 0
    assert "small goes on after epoch" in capsys.readouterr().err
    monkeypatch.setenv("STRESSBENCH_HOME", str(home / "other"))
    assert train("--model", "small") == 0
    shown = capsys.readouterr()
    assert "goes on" not in shown.err
    whole = weights.stored("digits", "small", 0)
    assert whole != path
    assert same(path, whole)
    assert timeless(rows(course)) == timeless(rows(whole.with_suffix(".csv")))
    assert {file.suffix for file in whole.parent.iterdir()} == {".safetensors", ".csv", ".png", ".lock"}
    assert float(metadata(whole)["accuracy"]) > 0.95
    assert shown.out.splitlines()[0] == str(whole)
    assert f"test accuracy {float(metadata(whole)['accuracy']):.2%}" in shown.out


KILLED_WHILE_IT_WRITES = """
import os, sys
from stressbench._util import files
from stressbench.cli import main

calls, fsync = 0, os.fsync

def killing(file):
    global calls
    calls += 1
    if calls == {call}:
        os.kill(os.getpid(), 9)
    fsync(file)

files.os.fsync = killing
main(sys.argv[1:])
"""


def test_kills_inside_a_write_lose_no_more_than_the_epoch(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--model", "untrained", "--epochs", "3"]
    path = weights.stored("digits", "untrained", 0)
    # Files are written in turn: an epoch's checkpoint and its course, in the end the weights and the picture.
    for call, goes_on in ((3, ""), (5, "after epoch 1 of 3")):  # in the second checkpoint, then in the weights
        script = KILLED_WHILE_IT_WRITES.format(call=call)
        killed = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert goes_on in killed.stderr
        assert not path.exists()
        assert len(list(path.parent.glob("*.partial"))) == 1
    assert train(*words[1:]) == 0
    assert "after epoch 3 of 3" in capsys.readouterr().err
    assert not list(path.parent.glob("*.partial"))
    assert not path.with_suffix(".checkpoint").exists()
    monkeypatch.setenv("STRESSBENCH_HOME", str(home / "other"))
    assert train(*words[1:]) == 0
    assert same(path, weights.stored("digits", "untrained", 0))


# --- what it leaves -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("few")
def test_the_weights_say_how_they_were_made(home: Path) -> None:
    assert train(*QUICK, "--seed", 5, "--no-flip", "--learning-rate", 0.01, "--precision", "bfloat16") == 0
    path = weights.stored("digits", "untrained", 5)
    told, course = metadata(path), rows(path.with_suffix(".csv"))
    train_set = digits("train")
    expected = {
        "model": "untrained",
        "dataset": "digits",
        "split": "train",
        "fingerprint": fingerprint(train_set, len(train_set.images)),
        "seed": "5",
        "recipe": "fast",
        "epochs": "2",
        "batch_size": "16",
        "learning_rate": "0.01",
        "momentum": "0.9",
        "nesterov": "True",
        "weight_decay": "0.0005",
        "schedule": "one-cycle",
        "flip": "False",
        "draws": "1",
        "device": "cpu",
        "precision": "bfloat16",
        "arithmetic": "bfloat16",
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    assert expected.items() <= told.items()
    module = registry.model("untrained", digits("test"))
    weights.load(module, path)
    measured = training.evaluate(module, digits("test"), torch.device("cpu"))
    for name, column in (("accuracy", "val_accuracy"), ("nll", "val_nll"), ("ece", "val_ece")):
        assert float(told[name]) == pytest.approx(measured[name], rel=1e-6)  # layouts of memory differ
        assert float(course[-1][column]) == float(told[name])
    assert float(told["train_loss"]) == float(course[-1]["train_loss"])
    measures = ("val_accuracy", "val_nll", "val_ece", "val_brier")
    assert tuple(course[0]) == (*curves.COLUMNS[0], *measures, *curves.COLUMNS[1])
    assert [(row["epoch"], row["step"]) for row in course] == [("1", "13"), ("2", "26")]
    assert all(float(row["seconds"]) > 0 and float(row["images_per_second"]) > 0 for row in course)
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    # A record has it typed, whether the weights are the store's or given as a file.
    for files in ((), (path,)):
        ready = models.ready(registry.resolve("untrained"), digits("test"), files, lambda *_: path)
        (info,) = ready.training
        assert (info.spec, info.seed, info.recipe, info.epochs, info.precision) == (
            "untrained",
            5,
            "fast",
            2,
            "bfloat16",
        )
        assert (info.split, info.fingerprint, info.validation) == ("train", expected["fingerprint"], 0)
        assert (info.settings["learning_rate"], info.settings["flip"]) == ("0.01", "False")
        values = {name: float(told[name]) for name in (*measured, "train_loss")}
        assert (info.measured_on, info.metrics) == ("test", values)
        assert (info.versions["torch"], info.versions["torchvision"]) == (torch.__version__, torchvision.__version__)


def test_the_same_course_is_the_same_picture(tmp_path: Path) -> None:
    measured = {"accuracy": 0.9, "nll": 0.3, "ece": 0.02}
    epochs = [training.Epoch(k, 10 * k, 0.1 / k, 1 / k, measured if k > 1 else None, 1.0, 10.0) for k in (1, 2, 3)]
    for name in ("a.png", "b.png"):
        curves.plot(tmp_path / name, epochs, "a training", "test")
    curves.plot(tmp_path / "c.png", epochs[:2], "a training", "test")
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.usefixtures("few")
def test_a_finished_training_is_left_alone_unless_it_is_wanted_fresh(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*QUICK) == 0
    path = weights.stored("digits", "untrained", 0)
    first, before = capsys.readouterr().out, path.stat().st_mtime_ns
    assert train(*QUICK) == 0
    shown = capsys.readouterr()
    assert "untrained is trained already" in shown.err
    assert shown.out == first
    assert path.stat().st_mtime_ns == before
    assert train(*QUICK, "--fresh") == 0
    assert path.stat().st_mtime_ns != before
    assert capsys.readouterr().out == first


@pytest.mark.usefixtures("few")
def test_weights_of_another_training_are_not_lost(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(*QUICK) == 0
    path = weights.stored("digits", "untrained", 0)
    before = path.read_bytes()
    assert train("--model", "untrained", "--epochs", 1) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bench: ")]
    assert f"{path} is of another training: epochs 2, not 1" in line
    assert "--fresh" in line
    assert path.read_bytes() == before
    # Weights that do not say how they were made are nobody's to replace either.
    weights.save(registry.model("untrained", digits("test")), path, {})
    assert train(*QUICK) == 2
    assert "model unknown, not untrained" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "other"),
    [
        (("--epochs", 2), "epochs 3, not 2"),
        (("--epochs", 3, "--learning-rate", 0.03), "learning_rate 0.02, not 0.03"),
        (("--epochs", 3, "--flip"), "flip False, not True"),
    ],
)
def test_a_checkpoint_of_another_training_is_neither_taken_nor_lost(
    unfinished: Path, words: tuple[object, ...], other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = unfinished.read_bytes()
    assert train("--model", "untrained", *words) == 2
    assert f"{unfinished} is of another training: {other}" in capsys.readouterr().err
    assert unfinished.read_bytes() == before
    assert train("--model", "untrained", *words, "--fresh") == 0
    assert not unfinished.exists()
    assert metadata(unfinished.with_suffix(".safetensors"))["epochs"] == str(words[1])


def test_other_images_are_another_training(
    unfinished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stressbench.datasets.digits.TEST", 1601)  # one image fewer to train on
    assert train("--model", "untrained", "--epochs", 3) == 2
    assert "is of another training: fingerprint sha256:" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["short", "empty", "other"])
def test_a_damaged_checkpoint_is_named(unfinished: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    content = unfinished.read_bytes()
    if damage == "other":
        weights.save(registry.model("untrained", digits("test")), unfinished, {"identity": "[]"})
    else:
        unfinished.write_bytes(content[:-100] if damage == "short" else b"")
    assert train("--model", "untrained", "--epochs", 3) == 2
    assert str(unfinished) in capsys.readouterr().err
    assert unfinished.exists()


def test_a_network_that_has_changed_does_not_take_its_old_checkpoint(
    unfinished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tiny_models.untrained", registry.find("models", "small").load())
    assert train("--model", "untrained", "--epochs", 3) == 2
    assert "not a whole checkpoint" in capsys.readouterr().err


@pytest.mark.usefixtures("few")
def test_two_processes_do_not_train_the_same(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = weights.stored("digits", "untrained", 0)
    path.parent.mkdir(parents=True)
    with FileLock(path.with_suffix(".lock")):
        assert train(*QUICK) == 2
    assert "another process is training untrained" in capsys.readouterr().err
    assert train(*QUICK) == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_without_permission_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.mkdir(mode=0o500)
    assert train(*QUICK) == 2
    assert "STRESSBENCH_HOME" in capsys.readouterr().err


# --- a validation split ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("few")
def test_held_out_training_images_are_measured_on_and_the_test_split_is_not_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read: list[tuple[Dataset, Dataset]] = []

    def spy(module: torch.nn.Module, train_set: Dataset, *others: Any) -> list[training.Epoch]:
        read.append((train_set, others[4]))
        return training.train(module, train_set, *others)

    monkeypatch.setattr("stressbench.training.job.train", spy)
    monkeypatch.setattr(registry, "dataset", lambda _name, split, **_: digits({"train": "train"}[split]))
    for seed in (0, 1):
        assert train("--model", "untrained", "--epochs", 1, "--validation", 60, "--seed", seed) == 0
    assert capsys.readouterr().out.count("\nvalidation accuracy ") == 2
    whole = digits("train")
    pixels = whole.images.read(0, len(whole.images))
    for kept, held_out in read:
        assert (kept.split, held_out.split) == ("train", "validation")
        assert (len(kept.images), len(held_out.images)) == (137, 60)
        rows = {
            image.numpy().tobytes(): int(label)
            for part in (kept, held_out)
            for image, label in zip(part.images.read(0, len(part.images)), part.labels, strict=True)
        }
        assert rows == {i.numpy().tobytes(): int(label) for i, label in zip(pixels, whole.labels, strict=True)}
    assert torch.equal(read[0][1].images.read(0, 60), read[1][1].images.read(0, 60))
    told = metadata(weights.stored("digits", "untrained", 0))
    assert (told["validation"], told["measured_on"]) == ("60", "validation")
    assert told["fingerprint"] == fingerprint(read[0][0], 137)


@pytest.mark.usefixtures("few")
def test_a_training_with_fewer_images_is_another_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(*QUICK) == 0
    assert train(*QUICK, "--validation", 60) == 2
    assert "is of another training: " in capsys.readouterr().err
    assert metadata(weights.stored("digits", "untrained", 0))["measured_on"] == "test"


# --- words ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("few")
def test_several_seeds_are_several_trainings(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--model", "untrained", "--epochs", 1, "--seeds", "3,0-1") == 0
    paths = [weights.stored("digits", "untrained", seed) for seed in (3, 0, 1)]
    shown = capsys.readouterr()
    assert [line for line in shown.out.splitlines() if line.endswith(".safetensors")] == list(map(str, paths))
    assert "training untrained (seed 3): " in shown.err
    assert [metadata(path)["seed"] for path in paths] == ["3", "0", "1"]
    assert not same(paths[0], paths[1])
    alone = weights.stored("digits", "untrained", 1)
    before = alone.stat().st_mtime_ns
    assert train("--model", "untrained", "--epochs", 1, "--seed", 1) == 0
    assert alone.stat().st_mtime_ns == before


@pytest.mark.parametrize("seeds", ["", "a", "4-2", "1-", "-1", "1,,2", "0-9999999", "3000000000", "٣"])
def test_what_is_no_list_of_seeds_is_refused(seeds: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--model", "untrained", "--seeds", seeds) == 2
    assert "is not a list of seeds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--model", "untrained", "--seed", 1, "--seeds", "1,2"), "pass one of them"),
        (("--model", "tiny"), "tiny comes with weights of its own"),
        (("--model", "untrained", "--draws", 2), "training with 2 draws is for stochastic models"),
        (("--model", "untrained", "--recipe", "papr"), "there is no recipe called 'papr': did you mean 'paper'"),
        (("--model", "untrained", "--cuda-graph", "--device", "cpu"), "--cuda-graph is for training on a GPU"),
        (("--model", "untrained", "--validation", 1597), "--validation 1,597 leaves nothing to train on"),
        (("--model", "untrained", "--learning-rate", 1e30), "training diverged in epoch 1"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_line(
    words: tuple[object, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*words) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bench: ")]
    assert told in line


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("stressbench._util.terminal.Screen", Stopping)
    for words, told in ((), "the same command"), (("--fresh",), "the same command without --fresh"):
        assert train(*QUICK, *words) == 130
        assert capsys.readouterr().err.endswith(f"bench: interrupted: {told} goes on after the last whole epoch\n")


@pytest.mark.usefixtures("few")
def test_a_picture_that_cannot_be_drawn_loses_no_weights(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def plot(*_: object) -> None:
        raise ValueError("no such backend")

    monkeypatch.setattr(curves, "plot", plot)
    assert train("--model", "untrained", "--epochs", 1) == 0
    assert weights.stored("digits", "untrained", 0).exists()
    assert not list(home.rglob("*.checkpoint"))
    assert "could not be drawn: ValueError: no such backend" in capsys.readouterr().err
