"""Long conditions are measured in ranges of images: none is lost, and the record is that of one that was not split."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from stressbench.cli import main
from stressbench.execution import cells, measure
from stressbench.execution.ranges import Ranges
from stressbench.execution.store import Store
from stressbench.results.tables import columns

# Six batches of four images under each condition.
ATTACK = ("--suite", "adversarial", "--attack", "pgd", "--eps", "8/255", "--steps", "2", "--audit", "false")
SMALL = ("--limit", "24", "--batch-size", "4")
SUITES = {
    "draws": ("--suite", "corruption", "--corruptions", "fog", "--severities", "4", "--sizes", "1,3"),
    "perturbation": ("--suite", "perturbation", "--limit", "12", "--perturbations", "gaussian_noise"),
    "attack": ATTACK,
    "hessian": ("--suite", "hessian", "-o", "batch_size=8"),
    "weights": ("--suite", "weight-noise"),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def bench(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(["run", *map(str, arguments)])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def numbers(out: Path) -> dict[str, Any]:
    """The only record in a folder, without the times."""
    (path,) = out.glob("*/record.json")
    record: dict[str, Any] = json.loads(path.read_text())
    return {key: value for key, value in record.items() if key not in ("created", "timing", "environment")}


def require_equal(one: Path, two: Path) -> None:
    """The records and tables of two folders are equal in every bit, and nothing else is left."""
    assert numbers(one) == numbers(two)
    names = sorted(path.relative_to(one) for path in one.glob("*/tables/*.parquet"))
    assert names == sorted(path.relative_to(two) for path in two.glob("*/tables/*.parquet"))
    for name in names:
        pd.testing.assert_frame_equal(pd.read_parquet(one / name), pd.read_parquet(two / name), check_exact=True)
    assert not list(two.glob("*/ranges"))


@pytest.fixture
def split(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Every batch is a range of its own; the ranges that are written, in order."""
    written: list[tuple[int, int]] = []
    write = Store.write

    def noted(self: Store, condition: Any, found: Any, seconds: float, images: Any = None) -> None:
        if images is not None:
            written.append(images)
        write(self, condition, found, seconds, images)

    monkeypatch.setattr(measure, "SECONDS", 0.0)
    monkeypatch.setattr(Store, "write", noted)
    return written


@pytest.mark.parametrize("suite", SUITES)
def test_ranges_join_to_what_was_not_split(suite: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run = ("--model", "dropped" if suite == "draws" else "tiny,width=4", *SMALL, *SUITES[suite])
    assert bench(*run, "--out", tmp_path / "one") == 0
    written = request.getfixturevalue("split")
    assert bench(*run, "--out", tmp_path / "split") == 0
    assert len(written) > 1
    require_equal(tmp_path / "one", tmp_path / "split")


NET = """
import os, signal
from pathlib import Path
import torch
from stressbench.execution import measure

if "LAST_CALL" in os.environ:
    measure.SECONDS = 0.0  # every batch is a range of its own

class Net(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.calls = 0
        self.register_buffer("weight", torch.linspace(-1, 1, 3 * classes).view(3, classes))

    def forward(self, images):
        if len(images) == 4 and images.requires_grad:  # a step of the attack
            self.calls += 1
            if self.calls > int(os.environ.get("LAST_CALL", "1000")):
                os.kill(os.getpid(), signal.SIGKILL)
        return images.mean(dim=(2, 3)) @ self.weight

def net(dataset):
    return Net(dataset.classes)
"""


def test_a_condition_that_was_killed_goes_on_from_its_ranges(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NET)
    run = ("--model", f"file:{tmp_path}/nets.py:net", *SMALL, *ATTACK)

    def killed(calls: int) -> subprocess.CompletedProcess[str]:
        command = [Path(sys.executable).parent / "bench", "run", *run, "--out", tmp_path / "killed"]
        environment = {**os.environ, "LAST_CALL": str(calls), "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    assert killed(5).returncode == -signal.SIGKILL
    (folder,) = (tmp_path / "killed").iterdir()
    there = sorted(path.stem for path in folder.glob("ranges/*/*.parquet"))
    assert there[0] == "0-4"
    assert 0 < len(there) < 6
    last = killed(1000)
    assert last.returncode == 0, last.stderr
    assert f"{4 * len(there)} of 24 images are already there under pgd, linf, eps 8/255" in last.stderr
    assert bench(*run, "--out", tmp_path / "one") == 0
    require_equal(tmp_path / "one", tmp_path / "killed")


LONG = ("--model", "tiny,width=4", *SMALL, *ATTACK)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one")
    assert bench(*LONG, "--out", out) == 0
    return out


def stopped(out: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> Path:
    """A run that Ctrl-C ended after so many ranges; its folder."""
    add = Ranges.add
    count = itertools.count(1)

    def interrupted(self: Ranges, measured: Any) -> None:
        add(self, measured)
        if next(count) == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ranges, "add", interrupted)
        assert bench(*LONG, "--out", out) == 130
    (folder,) = out.iterdir()
    return folder


def test_a_damaged_range_is_named_and_computed_again(
    one: Path,
    split: list[tuple[int, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = stopped(tmp_path, monkeypatch, after=10)  # six of the clean images, four of the attack
    there = {path.stem: path for path in folder.glob("ranges/*/*.parquet")}
    assert sorted(there) == ["0-4", "12-16", "4-8", "8-12"]
    there["4-8"].write_bytes(there["4-8"].read_bytes()[:-20])
    there["8-12"].write_bytes(there["0-4"].read_bytes())  # whole, but of other images
    split.clear()
    assert bench(*LONG, "--out", tmp_path) == 0
    told = capsys.readouterr().err
    assert f"{there['4-8']} is damaged" in told
    assert f"{there['8-12']} is damaged (it belongs to another run)" in told
    assert "8 of 24 images are already there under pgd, linf, eps 8/255" in told
    assert split == [(4, 8), (8, 12), (16, 20)]  # and the last one with the whole table
    require_equal(one, tmp_path)


def test_a_run_that_ended_before_its_ranges_were_joined_joins_them(
    one: Path, split: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stopped(tmp_path, monkeypatch, after=11)
    (attack,) = folder.glob("ranges/*")
    assert bench(*LONG, "--out", tmp_path / "other") == 0
    (other,) = tmp_path.glob("other/*")
    whole = Store(other, (other / "run.json").read_text().removesuffix("\n"))
    condition = {"attack": "pgd", "norm": "linf", "eps": 8 / 255}
    found = whole.read(condition, 24)
    assert found is not None
    last = {size: {name: column[20:] for name, column in columns(table).items()} for size, table in found[0].items()}
    Store(folder, (folder / "run.json").read_text().removesuffix("\n")).write(condition, last, 1.0, (20, 24))
    assert len(list(attack.iterdir())) == 6
    assert bench(*LONG, "--out", tmp_path) == 0
    shutil.rmtree(tmp_path / "other")
    require_equal(one, tmp_path)


def test_fresh_runs_use_no_ranges(
    one: Path, split: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(tmp_path, monkeypatch, after=10)
    split.clear()
    assert bench(*LONG, "--fresh", "--out", tmp_path) == 0
    assert len(split) == 10
    require_equal(one, tmp_path)


def test_short_ranges_are_kept_together_when_they_hold_enough_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: list[tuple[int, int]]
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(cells, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))  # one second a range
    add = Ranges.add

    def later(self: Ranges, measured: Any) -> None:
        monkeypatch.setattr(measure, "SECONDS", 4.0)
        add(self, measured)
        monkeypatch.setattr(measure, "SECONDS", 0.0)

    monkeypatch.setattr(Ranges, "add", later)
    assert bench(*LONG, "--out", tmp_path) == 0
    assert split == [(0, 4), (4, 8), (8, 12), (12, 16)] * 2
