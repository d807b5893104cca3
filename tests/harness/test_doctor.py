"""`bench doctor`: one screen for a bug report, whatever is wrong with the machine."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path

import pytest

from conftest import write_distribution
from harness.made_runs import bench
from stressbench import __version__


def test_what_is_right_fits_a_screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("SOME_TOKEN", "secret")
    assert bench("doctor") == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) <= 30
    assert shown.startswith(f"stressbench   {__version__}")
    assert f"torch {importlib.metadata.version('torch')}, " in shown
    assert "variable      OMP_NUM_THREADS=1" in shown
    assert "secret" not in shown
    # The test models that cannot be imported are problems, and those that can are counted.
    assert "problem: model 'not-importable' of tiny-models 1.0 cannot be imported" in shown
    assert "plugins       tiny-models 1.0: 11 models" in shown


def test_a_folder_that_cannot_be_used_and_a_broken_plugin_are_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_distribution(tmp_path / "site", "broken", {"stressbench.suites": {"boom": "no_such_module_here:Suite"}})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (tmp_path / "file").touch()
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path / "file" / "home"))
    assert bench("doctor", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["folders"]["home"]["path"] == str(tmp_path / "file" / "home")
    assert "cannot be written to" in found["folders"]["home"]["problem"]
    assert found["folders"]["here"]["problem"] is None
    assert any("suite 'boom' of broken 1.0" in problem for problem in found["plugins"]["broken"])
    assert found["plugins"]["offers"]["broken 1.0"] == {"suites": 1}
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file", tmp_path / "site"]


def test_it_needs_no_torch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert bench("doctor") == 0
    shown = capsys.readouterr().out
    assert "problem: torch cannot be used: " in shown
    assert "torch         unknown threads, CUDA not built in" in shown


def test_extras_say_what_they_lack(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    installed = importlib.metadata.version

    def version(name: str) -> str:
        if name == "h5py":
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert bench("doctor") == 0
    shown = capsys.readouterr().out
    assert "extra         dense: lacks h5py\n" in shown
    assert "extra         dev" not in shown
