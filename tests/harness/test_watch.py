"""What becomes of a command whose process is ended, crashed or killed by what a plugin brings along."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCH = Path(sys.executable).parent / "bench"
MODEL = """
import ctypes, os, signal, torch

class Net(torch.nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.passes = how, 0

    def forward(self, images):
        self.passes += 1
        if self.passes > 6 and not os.path.exists("mended"):
            if self.how == "exit":
                ctypes.CDLL(None)._exit(0)
            if self.how == "segfault":
                ctypes.string_at(0)
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "wait":
                open("waiting", "w").close()
                import time
                time.sleep(60)
        return images.flatten(1)[:, :10]

def net(dataset, how: str):
    return Net(how)
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="commands are watched on Linux alone")


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "nets.py").write_text(MODEL)
    suite = "corruption,corruptions=fog,severities=1"
    return [str(BENCH), "run", "--suite", suite, "--limit", "20", "--batch-size", "5", "--out", "runs", "--model"]


@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        ("exit", 70, "ended the command with exit code 0"),
        ("segfault", -signal.SIGSEGV, "crashed (SIGSEGV)"),
        ("kill", -signal.SIGKILL, "was killed"),
    ],
)
def test_the_end_of_a_process_has_a_message_and_a_code(
    how: str, code: int, message: str, command: list[str], tmp_path: Path
) -> None:
    command.append(f"file:nets.py:net,how={how}")
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == code, ended.stderr
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("bench: ")
    assert message in line
    assert "under none, severity 0, file:nets.py:net" in line
    assert not list(tmp_path.glob("runs/*/record.json"))
    (tmp_path / "mended").touch()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    (record,) = tmp_path.glob("runs/*/record.json")
    assert len(json.loads(record.read_text())["conditions"]) == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_signals_are_passed_on(number: signal.Signals, code: int, command: list[str], tmp_path: Path) -> None:
    process = subprocess.Popen([*command, "file:nets.py:net,how=wait"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "waiting").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in said


@pytest.mark.parametrize("after", [0.05, 0.2, 0.4, 0.8, 1.6])
def test_an_interrupted_start_has_no_traceback(after: float, command: list[str], tmp_path: Path) -> None:
    process = subprocess.Popen([*command, "file:nets.py:net,how=wait"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT)
    assert after < 0.2 or "Traceback" not in said  # Python itself has one before it runs our first line


def test_a_killed_command_leaves_nothing_behind(command: list[str], tmp_path: Path) -> None:
    process = subprocess.Popen([*command, "file:nets.py:net,how=wait"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    while not (tmp_path / "waiting").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    (tmp_path / "mended").touch()
    again = subprocess.run([*command, "file:nets.py:net,how=wait"], cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr  # nobody holds the folder
