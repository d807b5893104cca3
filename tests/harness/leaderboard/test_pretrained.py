"""`bench weights`: what is listed is what a run then uses, and no other file takes its place."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from conftest import ROOT
from stressbench import registry, weights
from stressbench.cli import main
from stressbench.datasets.digits import digits
from stressbench.execution import pretrained


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path / "home"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights as `bench train` leaves them."""
    path = tmp_path / "trained.safetensors"
    weights.save(registry.model("untrained", digits("test")), path, told("untrained", 0))
    return path


def told(model: str, seed: int) -> dict[str, str]:
    """The metadata of a file of weights that the index needs."""
    of = {"dataset": "digits", "model": model, "seed": str(seed), "recipe": "short", "epochs": "16"}
    return of | {"accuracy": "0.875", "measured_on": "test"}


def bench(*arguments: object) -> int:
    return stressbench("weights", *arguments)


def stressbench(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([*map(str, arguments)])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def test_added_weights_are_listed_and_pulled_into_the_store(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "board"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert bench("add", file, "--root", root) == 0
    assert digest in capsys.readouterr().out
    assert bench("add", file, "--root", root) == 0  # again: the same single entry
    capsys.readouterr()
    assert bench("list", "--root", root) == 0
    shown = capsys.readouterr().out
    assert shown.count("untrained") == 1
    for text in ("digits", "short, 16 epochs", "87.50% (test)", digest[:12], "in the repository"):
        assert text in shown
    stored = weights.stored("digits", "untrained", 0)
    for _ in range(2):
        assert bench("pull", "untrained", "--root", root) == 0
        assert capsys.readouterr().out == f"{stored}\n"
    assert stored.read_bytes() == file.read_bytes()


def test_published_weights_are_fetched_and_checked(file: Path, tmp_path: Path, server: str) -> None:
    root = tmp_path / "board"
    entry = pretrained.add(file, root, url=f"{server}/trained.safetensors", copy=False)
    assert not (root / "weights" / entry.path).exists()
    assert bench("pull", "--dataset", "digits", "--root", root) == 0
    assert weights.stored("digits", "untrained", 0).read_bytes() == file.read_bytes()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the files in `tmp_path`."""
    http_server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http_server.server_address[1]}"
    http_server.shutdown()
    http_server.server_close()


def test_other_weights_in_the_store_are_replaced_only_when_asked(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, stored = tmp_path / "board", weights.stored("digits", "untrained", 0)
    pretrained.add(file, root)
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"mine")
    assert bench("pull", "--root", root) == 2
    assert "holds other weights of untrained: --replace" in capsys.readouterr().err
    assert stored.read_bytes() == b"mine"
    assert bench("pull", "--replace", "--root", root) == 0
    assert stored.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_file_that_is_not_the_listed_one_is_refused(
    damage: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "board"
    beside = root / "weights" / pretrained.add(file, root).path
    if damage == "changed":
        beside.write_bytes(beside.read_bytes()[:-1] + b"\0\0")
    else:
        beside.unlink()
    assert bench("pull", "--root", root) == 2
    error = "is not the file that was listed" if damage == "changed" else "is missing and published nowhere else"
    assert error in capsys.readouterr().err
    assert not weights.stored("digits", "untrained", 0).exists()


def test_what_cannot_be_listed_or_found_is_said_in_a_line(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "board"
    bare = tmp_path / "bare.safetensors"
    weights.save(registry.model("untrained", digits("test")), bare, {})
    assert bench("add", bare, "--root", root) == 2
    assert "does not name its model and dataset" in capsys.readouterr().err
    assert bench("add", file, "--no-copy", "--root", root) == 2
    assert "pass --url" in capsys.readouterr().err
    assert bench("list", "--root", root) == 0
    assert capsys.readouterr().out == "no weights are listed\n"
    assert bench("pull", "resnet18", "--root", root) == 2
    assert "no weights of resnet18 are listed" in capsys.readouterr().err
    (root / "weights").mkdir(parents=True)
    (root / "weights" / "index.json").write_text("{}")
    assert bench("list", "--root", root) == 2
    assert "is not an index of weights" in capsys.readouterr().err


def test_a_run_and_a_replay_need_no_training_where_weights_come_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    trained = ["--model", "untrained", "--dataset", "digits"]
    assert stressbench("train", *trained, "--epochs", 1, "--seed", 1) == 0
    made = weights.stored("digits", "untrained", 1)
    few = ["--limit", 12, "--out", "runs"]
    assert stressbench("run", *trained, *few, "--weights", made) == 0
    (run,) = Path("runs").glob("*/record.json")
    assert stressbench("leaderboard", "add", run) == 0
    (record,) = Path("leaderboard").rglob("untrained.json")
    made = made.rename(tmp_path / "seed1.safetensors")
    assert stressbench("leaderboard", "replay", record, "--conditions", 1) == 2
    assert "untrained (seed 1) has no weights here" in capsys.readouterr().err
    pretrained.add(made, Path("leaderboard"))
    assert stressbench("leaderboard", "replay", record, "--conditions", 1) == 0

    weights.save(registry.model("untrained", digits("test")), tmp_path / "seed0.safetensors", told("untrained", 0))
    listed = pretrained.add(tmp_path / "seed0.safetensors", Path("leaderboard"))
    capsys.readouterr()
    assert stressbench("run", *trained, "--limit", 12, "--out", "others") == 0
    assert f"the weights that come with the leaderboard: leaderboard/weights/{listed.path}" in capsys.readouterr().err
    assert not weights.stored("digits", "untrained", 0).exists()
    Path("leaderboard/weights", listed.path).write_bytes(b"other")
    assert stressbench("run", *trained, "--limit", 12, "--out", "others") == 2
    assert "is not the file that was listed" in capsys.readouterr().err


def test_the_index_of_this_repository_fits_its_files() -> None:
    root = ROOT / "leaderboard"
    for entry in pretrained.read(root):
        path = root / "weights" / entry.path
        assert path.exists() or entry.url
        if path.exists():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256
