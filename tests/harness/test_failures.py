"""The list of failed runs: what takes an entry off, and several processes that write it at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stressbench.cli import main
from stressbench.errors import UserError
from stressbench.execution.failures import update
from stressbench.execution.plan import Failure

NET = """
from pathlib import Path

import torch

class Net(torch.nn.Module):
    def __init__(self, dataset):
        super().__init__()
        Path(__file__).with_suffix(".txt").read_text()
        self.classes = dataset.classes

    def forward(self, images):
        return images.mean((2, 3))[:, :1].repeat(1, self.classes)
"""


def listed(out: Path) -> set[tuple[str, str]]:
    path = out / "failures.json"
    entries = json.loads(path.read_text()) if path.exists() else []
    return {(one["model"], one["suite"]) for one in entries}


def failure(model: str, suite: str = "corruption") -> Failure:
    return Failure(model, suite, UserError("it failed"))


def test_a_model_of_a_file_that_runs_again_is_taken_off_the_list(tmp_path: Path) -> None:
    out, file = tmp_path / "runs", tmp_path / "net.py"
    (tmp_path / "other.py").write_text(NET)
    file.write_text(NET)
    short = ["--suite", "corruption", "--corruptions", "fog", "--severities", "1", "--limit", "10", "--out", str(out)]
    names = [f"file:{file}:Net", f"file:{tmp_path / 'other.py'}:Net"]
    with pytest.raises(SystemExit):
        main(["run", "--model", names[0], "--model", names[1], *short])
    assert listed(out) == {(name, "corruption") for name in names}
    file.with_suffix(".txt").touch()  # what it lacked
    with pytest.raises(SystemExit) as ended:
        main(["run", "--model", names[0], *short])
    assert ended.value.code in (0, None)
    assert listed(out) == {(names[1], "corruption")}


def test_a_suite_goes_by_its_name_whatever_its_options(tmp_path: Path) -> None:
    update(tmp_path, "digits", [], [failure("a", "corruption,severities=1"), failure("a", "uncertainty")])
    update(tmp_path, "digits", [("a", "corruption")], [])
    assert listed(tmp_path) == {("a", "uncertainty")}


def test_a_success_on_other_data_or_with_another_model_takes_nothing_off(tmp_path: Path) -> None:
    update(tmp_path, "digits", [], [failure("a")])
    update(tmp_path, "cifar10", [("a", "corruption")], [])
    update(tmp_path, "digits", [("ab", "corruption")], [])
    assert listed(tmp_path) == {("a", "corruption")}


def test_no_entry_is_lost_between_several_processes(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from stressbench.errors import UserError
from stressbench.execution.failures import update
from stressbench.execution.plan import Failure
for i in range(10):
    update(Path(sys.argv[1]), "digits", [], [Failure(f"{sys.argv[2]}-{i}", "corruption", UserError("it failed"))])
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(n)]) for n in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert listed(tmp_path) == {(f"{n}-{i}", "corruption") for n in range(3) for i in range(10)}
