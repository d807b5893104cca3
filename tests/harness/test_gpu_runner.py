"""`make gpu` at a tiny size on the CPU, so that it works on the day that a GPU is there."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu", ROOT / "tests" / "bench" / "gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu", module)
    spec.loader.exec_module(module)
    return module


def test_steps_resume(gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    count = f"import pathlib; p = pathlib.Path({str(tmp_path / 'count')!r}); p.write_text(p.read_text() + 'x')"
    (tmp_path / "count").write_text("")
    slow = f"import pathlib, time; pathlib.Path({str(tmp_path / 'there')!r}).exists() or time.sleep(60)"
    todo = [
        gpu.Step("one", [sys.executable, "-c", count]),
        gpu.Step("bad", [sys.executable, "-c", "raise SystemExit(3)"]),
        gpu.Step("slow", [sys.executable, "-c", slow]),
    ]
    assert gpu.run(todo, tmp_path / "out", limit=1.0) == gpu.AGAIN
    (tmp_path / "there").touch()
    assert gpu.run(todo, tmp_path / "out", limit=30.0) == 1
    assert (tmp_path / "count").read_text() == "x"
    assert sorted(path.name for path in (tmp_path / "out").glob("*.done")) == ["one.done", "slow.done"]
    assert "bad: failed with exit code 3" in capsys.readouterr().out


def test_all_steps_at_a_tiny_size(gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "nets.py").write_text(
        "import torch\n\ndef net(dataset):\n    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1),"
        " torch.nn.Flatten(), torch.nn.Linear(3, dataset.classes))\n"
    )
    sweep = tmp_path / "tiny.toml"
    model = f"file:{tmp_path / 'nets.py'}:net"
    sweep.write_text(
        f'dataset = "digits"\nmodels = ["{model}"]\nsuites = ["corruption,corruptions=fog,severities=1"]\nlimit = 4\n'
    )
    todo = gpu.steps("cpu", sweep, tmp_path / "out", tiny=True)
    assert [step.name for step in todo] == ["tests", "mc-dropout", "sweep"]
    assert gpu.run(todo, tmp_path / "out") == 0, [path.read_text() for path in (tmp_path / "out").glob("*.log")]
    assert list((tmp_path / "out" / "runs").glob("*/record.json"))
    assert "50 draws" not in (tmp_path / "out" / "mc-dropout.log").read_text()
