"""The command line's own manners: help, unknown words, and readers that leave."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from stressbench.cli import main


@pytest.mark.parametrize("arguments", [[], ["data"], ["leaderboard"]])
def test_a_group_without_a_command_shows_its_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 2
    assert "Commands:\n" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["run", "-h"], ["data", "pull", "--help"], ["--version"]])
def test_help_is_on_stdout(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 0
    shown = capsys.readouterr()
    assert shown.out
    assert not shown.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["runn"], "'run'"), (["run", "--sed", "1"], "--seed"), (["list", "modles"], "models")],
)
def test_an_unknown_word_gets_one_line_with_a_suggestion(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bench: ")
    assert words in line


@pytest.mark.parametrize("command", ["list", "show docs/records/uncertainty.json"])
def test_a_reader_that_leaves_early_gets_no_traceback(command: str) -> None:
    bench = Path(sys.executable).parent / "bench"
    done = subprocess.run(f"{bench} {command} | true", shell=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == ""
