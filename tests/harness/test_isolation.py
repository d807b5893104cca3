"""What code of a plugin changes for the whole process is as before afterwards, and no other model's record changes."""

from __future__ import annotations

import os
import random
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stressbench import record
from stressbench.cli import main
from stressbench.errors import UserError, plugin_errors
from stressbench.isolation import importing, preserved

# How code changes a state, and how it is read.
STATES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "dtype": (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype),
    "device": (lambda: torch.set_default_device("meta"), torch.get_default_device),
    "grad": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
    "threads": (lambda: torch.set_num_threads(torch.get_num_threads() + 1), torch.get_num_threads),
    "precision": (lambda: torch.set_float32_matmul_precision("medium"), torch.get_float32_matmul_precision),
    "denormals": (lambda: torch.set_flush_denormal(True), lambda: repr(sys.float_info.min / 2)),
    "deterministic": (lambda: torch.use_deterministic_algorithms(True), torch.are_deterministic_algorithms_enabled),
    "cudnn": (lambda: setattr(torch.backends.cudnn, "benchmark", True), lambda: torch.backends.cudnn.benchmark),
    "conv": (
        lambda: setattr(torch.backends.mkldnn.conv, "fp32_precision", "bf16"),  # type: ignore[attr-defined]
        lambda: torch.backends.mkldnn.conv.fp32_precision,  # type: ignore[attr-defined]
    ),
    "anomaly": (lambda: torch.autograd.set_detect_anomaly(True), torch.is_anomaly_enabled),
    "torch seed": (lambda: torch.manual_seed(3), lambda: torch.get_rng_state().tolist()),
    "numpy seed": (lambda: np.random.seed(3), lambda: np.random.get_state()[1].tolist()),  # type: ignore[index]
    "python seed": (lambda: random.seed(3), random.getstate),
    "warnings": (lambda: warnings.simplefilter("ignore", FutureWarning), lambda: list(warnings.filters)),
    "folder": (lambda: os.chdir(tempfile.gettempdir()), Path.cwd),
    "arguments": (lambda: sys.argv.append("--mine"), lambda: list(sys.argv)),
}


@pytest.mark.parametrize("state", STATES)
def test_what_code_of_a_plugin_changes_is_as_before(
    state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    change, read = STATES[state]
    before = read()
    with preserved():
        change()
        assert read() != before
    assert read() == before

    def failing() -> None:
        with plugin_errors("the plugin failed"):
            change()
            raise ValueError

    with pytest.raises(UserError, match="the plugin failed: ValueError"):
        failing()
    assert read() == before


def test_a_state_that_cannot_be_read_leaves_the_isolation_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "torch", None)
        with pytest.raises(ImportError), preserved():
            pass
    before = torch.get_rng_state()
    with preserved():
        torch.manual_seed(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_calls_inside_each_other_share_the_generators() -> None:
    with preserved():
        with preserved():
            first = torch.rand(1)
        with preserved():
            second = torch.rand(1)
    assert first != second


def test_what_is_imported_does_not_see_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    before = list(sys.argv)
    with importing():
        assert len(sys.argv) == 2
        print("a warning", file=sys.stderr)
    assert sys.argv == before
    assert capsys.readouterr().err == "a warning\n"


ONE = ["--limit", "20", "--batch-size", "10"]
SUITES = {
    "corruption": ["--suite", "corruption", "--corruptions", "fog", "--severities", "1"],
    "adversarial": ["--suite", "adversarial", "--eps", "8/255", "--steps", "2"],
}
NEIGHBOUR = '''
import os, random, warnings
import numpy as np, torch
from torch import nn

def spoil():
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    torch.set_num_threads(3)
    torch.set_flush_denormal(True)
    warnings.simplefilter("error")
    os.chdir("/")

spoil()

class Spoiler(nn.Module):
    def __init__(self, dataset):
        super().__init__()
        self.fc = nn.Linear(3, dataset.classes).float()
        spoil()

    def forward(self, images):
        spoil()
        return self.fc(images.mean(dim=(2, 3)))

class Random(nn.Module):
    """Initial weights of its own, which depend on the state of torch's generator."""
    def __init__(self, dataset):
        super().__init__()
        self.fc = nn.Linear(3, dataset.classes)

    def forward(self, images):
        return self.fc(images.mean(dim=(2, 3)))
'''


@pytest.mark.parametrize("suite", SUITES)
def test_a_neighbour_that_changes_the_process_changes_no_record(
    suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spoiler.py").write_text(NEIGHBOUR)
    Path("quiet.py").write_text(NEIGHBOUR.replace("\nspoil()\n", "\n"))

    def run(out: str, *models: str) -> record.Record:
        given = [word for model in models for word in ("--model", model)]
        torch.manual_seed(5)
        with pytest.raises(SystemExit) as done:
            main(["run", *given, *SUITES[suite], *ONE, "--out", out])
        assert done.value.code == 0
        (folder,) = Path(tmp_path, out).glob("*quiet*")
        return record.load(folder)

    alone = run("alone", "file:quiet.py:Random")
    beside = run("beside", "file:spoiler.py:Spoiler", "file:quiet.py:Random")
    for name in ("metrics", "intervals", "conditions", "model", "findings"):
        assert getattr(alone, name) == getattr(beside, name)


def test_a_file_that_reads_the_command_line_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("args.py").write_text("import argparse\nparser = argparse.ArgumentParser()\nparser.parse_args()\n")
    with pytest.raises(SystemExit) as done:
        main(["run", "--model", "file:args.py:net", "--limit", "2"])
    assert done.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "args.py cannot be imported" in line
    assert "reads the command line" in line


def test_a_plugin_that_ends_the_process_gets_an_error_and_its_forks_may() -> None:
    with (
        pytest.raises(UserError, match=r"the plugin failed: SystemExit: it called os\._exit\(0\)"),
        plugin_errors("the plugin failed"),
    ):
        os._exit(0)
    with preserved():
        child = os.fork()
        if child == 0:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert os._exit.__module__ == "posix"
