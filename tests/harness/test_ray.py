"""`bench run --executor ray`: the record of one process, whatever becomes of the workers.

Most tests have a stand-in for Ray that computes in this process; one has Ray itself, where it is installed.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stressbench.cli import main
from stressbench.execution import measure, ray_pool

SMALL = ("--corruptions", "fog,gaussian_noise", "--severities", "1,4", "--limit", "24", "--batch-size", "5")


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    torch.set_num_threads(threads)


def bench(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(["run", *map(str, arguments)])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def numbers(out: Path) -> dict[str, Any]:
    """The records in a folder by their run's, without what depends on the machine and the time."""
    found = {path.parent.name: json.loads(path.read_text()) for path in out.glob("*/record.json")}
    return {
        name: {key: value for key, value in record.items() if key not in ("created", "timing", "environment")}
        for name, record in found.items()
    }


def close(one: Any, two: Any) -> bool:
    """Equal to 1e-6."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(close(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(close, one, two))
    return math.isclose(one, two, abs_tol=1e-6) if isinstance(one, float) else bool(one == two)


class _Ended(Exception):
    """A worker's process has ended."""


@dataclass
class _Call:
    function: Callable[..., Any]
    arguments: Sequence[Any]

    def __hash__(self) -> int:
        return id(self)


@dataclass
class _Method:
    function: Callable[..., Any]

    def remote(self, *arguments: Any) -> _Call:
        return _Call(self.function, arguments)


class _Actor:
    def __init__(self, worker: Any) -> None:
        self.start, self.measure = _Method(worker.start), _Method(worker.measure)


@dataclass
class FakeRay:
    """Ray with workers in this process, which end and hang over what they are told to."""

    ends: Callable[[Any], bool] = lambda cell: False
    hangs: Callable[[Any], bool] = lambda cell: False
    cells: list[Any] = field(default_factory=list)
    """What was measured, in order."""
    hired: int = 0

    class exceptions:  # noqa: N801
        RayActorError = _Ended

    def init(self, **_: Any) -> None: ...

    def shutdown(self) -> None: ...

    def kill(self, actor: Any) -> None: ...

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def remote(self, kind: type) -> FakeRay:
        self._kind = kind
        return self

    def options(self, **_: Any) -> Any:
        def hire(*arguments: Any) -> _Actor:
            self.hired += 1
            return _Actor(self._kind(*arguments))

        return _Hire(hire)

    def wait(self, calls: list[_Call], num_returns: int, timeout: float) -> tuple[list[_Call], list[_Call]]:
        able = [call for call in calls if not (call.arguments and self.hangs(call.arguments[2]))]
        return able[-1:], able[:-1]

    def get(self, call: _Call) -> Any:
        if call.arguments:
            if self.ends(call.arguments[2]):
                raise _Ended("The actor died unexpectedly before finishing this task.")
            self.cells.append(call.arguments[2])
        return call.function(*call.arguments)


@dataclass
class _Hire:
    remote: Callable[..., _Actor]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeRay:
    made = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", made)  # type: ignore[arg-type]
    return made


RAY = ("--executor", "ray", "--workers", "3")
GOOD = ("--model", "tiny,width=4", "--model", "dropped", "--sizes", "1,3", *SMALL)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of a single process."""
    out = tmp_path_factory.mktemp("one")
    assert bench(*GOOD, "--out", out) == 0
    return out


def test_ranges_of_images_join_to_the_records_of_one_process(one: Path, fake: FakeRay, tmp_path: Path) -> None:
    assert bench(*GOOD, *RAY, "--out", tmp_path) == 0
    assert numbers(tmp_path) == numbers(one)
    # Three workers, batches of five: two batches a worker, and what is left; ten conditions of two runs.
    assert sorted({(cell.start, cell.stop) for cell in fake.cells}) == [(0, 10), (10, 20), (20, 24)]
    assert len(fake.cells) == 30
    assert fake.hired == 3


def test_workers_share_what_a_long_range_has_left(
    fake: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ("--model", "tiny,width=4", "--corruptions", "fog", "--severities", "4", "--limit", "24", "--batch-size", "2")
    assert bench(*run, "--out", tmp_path / "one") == 0
    monkeypatch.setattr(measure, "SECONDS", 0.0)  # a worker gives back what it has after each batch
    assert bench(*run, *RAY, "--out", tmp_path / "ray") == 0
    assert numbers(tmp_path / "ray") == numbers(tmp_path / "one")
    asked = [(cell.start, cell.stop) for cell in fake.cells if cell.condition["corruption"] == "fog"]
    # The first ranges of three workers, and what each has left while others wait.
    assert {(0, 8), (2, 8), (4, 8), (8, 16), (10, 16), (16, 24)} <= set(asked)
    # When none waits, what is left is for all of them.
    assert asked[-3:] == [(18, 20), (20, 22), (22, 24)]


def test_what_a_lost_worker_had_is_done_by_another(
    one: Path, fake: FakeRay, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = iter([True, False, False, True, True])
    fake.ends = lambda _cell: next(lost, False)
    assert bench(*GOOD, *RAY, "--out", tmp_path) == 0
    assert numbers(tmp_path) == numbers(one)
    assert fake.hired == 6
    assert "another takes its images" in capsys.readouterr().err


def test_a_model_that_ends_every_worker_fails_and_the_others_go_on(
    one: Path, fake: FakeRay, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tries: list[object] = []

    def ends(cell: Any) -> bool:
        fatal = cell.condition.get("severity") == 4 and cell.start == 10 and len(tries) < 3
        tries.extend([cell] * fatal)
        return fatal

    fake.ends = ends
    assert bench(*GOOD, *RAY, "--out", tmp_path) == 2
    error = capsys.readouterr().err
    assert "as did 2 before: fix that model or suite" in error
    assert "The actor died unexpectedly" in error
    (name,) = numbers(tmp_path)
    assert numbers(tmp_path)[name] == numbers(one)[name]
    # The same command goes on.
    assert bench(*GOOD, *RAY, "--out", tmp_path) == 0
    assert numbers(tmp_path) == numbers(one)
    executors = {json.loads(path.read_text())["environment"]["executor"] for path in (*tmp_path.glob("*/record.json"),)}
    assert any(re.fullmatch(r"Ray, \d+ workers?", name) for name in executors)


def test_a_worker_that_hangs_is_ended_after_the_timeout(
    fake: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.hangs = lambda cell: cell.condition.get("corruption") == "fog"
    clock = itertools.count(step=100)
    monkeypatch.setattr(ray_pool, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert bench("--model", "tiny,width=4", *SMALL, *RAY, "--timeout", "3600", "--out", tmp_path) == 2
    assert "took more than 3600 seconds (--timeout)" in capsys.readouterr().err
    assert fake.hired > 3  # those that hung were replaced


def test_a_worker_with_other_inputs_is_refused(
    fake: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray_pool.Worker, "measure", _with_another_seed(ray_pool.Worker.measure))
    assert bench("--model", "tiny,width=4", *SMALL, *RAY, "--out", tmp_path) == 2
    assert "has another seed than this process" in capsys.readouterr().err


def _with_another_seed(measure: Callable[..., Any]) -> Callable[..., Any]:
    def changed(self: Any, job: Any, identity: dict[str, Any], *rest: Any) -> Any:
        return measure(self, job, {**identity, "seed": 7}, *rest)

    return changed


def test_ray_itself_makes_the_record_with_a_worker_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    (tmp_path / "nets.py").write_text(FAULTY)
    monkeypatch.setenv("FAULTY_OWNER", str(os.getpid()))
    run = ("--model", f"file:{tmp_path}/nets.py:faulty,mark={tmp_path}/m", *SMALL)
    assert bench(*run, "--out", tmp_path / "one") == 0
    assert not (tmp_path / "m").exists()
    assert bench(*run, "--executor", "ray", "--workers", "2", "--out", tmp_path / "two") == 0
    assert (tmp_path / "m").exists()
    assert "another takes its images" in capsys.readouterr().err
    assert close(numbers(tmp_path / "one"), numbers(tmp_path / "two"))


FAULTY = """
import os, signal
from pathlib import Path
import torch

class Faulty(torch.nn.Module):
    def __init__(self, classes, mark):
        super().__init__()
        self.mark, self.calls = Path(mark), 0
        self.register_buffer("weight", torch.linspace(-1, 1, 3 * classes).view(3, classes))

    def forward(self, images):
        self.calls += 1
        if os.environ["FAULTY_OWNER"] != str(os.getpid()) and self.calls > 2 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return images.mean(dim=(2, 3)) @ self.weight

def faulty(dataset, mark: str):
    return Faulty(dataset.classes, mark)
"""


def test_a_missing_ray_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert bench("--executor", "ray", "--out", tmp_path / "out") == 2
    assert "Ray is not installed: pip install 'stressbench[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_options_of_ray_alone_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--workers", "2", "--out", tmp_path / "out") == 2
    assert "--workers and --address are for --executor ray" in capsys.readouterr().err
