"""How commands end: exit codes, one line, reports of our own bugs, and streams that cannot show or take the output."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from stressbench._util.home import home
from stressbench.cli import cli, main
from stressbench.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden" / "record-v3.json"
BENCH = Path(sys.executable).parent / "bench"


def ended(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as done:
        main(arguments)
    return done.value.code


@pytest.fixture
def _buggy(monkeypatch: pytest.MonkeyPatch) -> None:
    def divide() -> None:
        raise ZeroDivisionError("a\x1b[31m bug\nof ours")

    def refuse() -> None:
        try:
            divide()
        except ZeroDivisionError as error:
            raise UserError("yours") from error

    monkeypatch.setitem(cli.commands, "divide", click.Command("divide", callback=divide))
    monkeypatch.setitem(cli.commands, "refuse", click.Command("refuse", callback=refuse))


@pytest.mark.usefixtures("_buggy")
def test_a_bug_of_ours_is_one_line_with_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path))
    assert ended(["divide"]) == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bench: internal error, ZeroDivisionError: a [31m bug of ours")
    (report,) = (tmp_path / "reports").iterdir()
    assert str(report) in line
    text = report.read_text()
    assert text.startswith("stressbench ")
    assert "in divide" in text


@pytest.mark.usefixtures("_buggy")
@pytest.mark.parametrize("home", ["~nobody-of-this-name", "/dev/null/home"])
def test_the_report_goes_among_the_temporary_files_where_the_home_folder_cannot_be_used(
    home: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STRESSBENCH_HOME", home)
    assert ended(["divide"]) == 70
    (line,) = capsys.readouterr().err.splitlines()
    found = re.search(r"/\S*stressbench-\S+\.txt", line)
    assert found is not None
    Path(found[0]).unlink()


@pytest.mark.usefixtures("_buggy")
@pytest.mark.parametrize(("words", "code"), [(["--debug", "divide"], 70), (["refuse", "--debug"], 2)])
def test_debug_shows_the_traceback_wherever_it_stands(
    words: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path))
    assert ended(words) == code
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last)" in shown
    assert "in divide" in shown
    assert shown.splitlines()[-1].startswith("bench: ")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "cp437", "utf-8"])
@pytest.mark.parametrize("form", [[], ["--markdown"]])
def test_a_stream_of_any_encoding_gets_the_tables(
    encoding: str, form: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding=encoding))
    assert ended(["show", str(GOLDEN), *form]) == 0
    sys.stdout.flush()
    shown = content.getvalue().decode("utf-8" if encoding == "ascii" else encoding)  # click takes ASCII for a mistake
    assert re.search(r"mean_error[ |]+[↓v]", shown)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_device_is_a_line() -> None:
    done = subprocess.run(f"{BENCH} list > /dev/full", shell=True, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line == "bench: cannot write the output: OSError: [Errno 28] No space left on device"


def test_closed_streams_are_no_error() -> None:
    assert subprocess.run(f"{BENCH} list >&- 2>&-", shell=True).returncode == 0


def test_control_characters_of_a_record_reach_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields = json.loads(GOLDEN.read_text())
    for sign in "\x1b\x07\x9b\x08":
        fields["model"]["spec"] = f"net{sign}[31m"
        for as_ascii in (True, False):
            path = tmp_path / "record.json"
            path.write_text(json.dumps(fields, ensure_ascii=as_ascii), encoding="utf-8")
            assert ended(["show", str(path)]) == 2
            assert "control characters" in capsys.readouterr().err
    fields["model"]["spec"] = r"net\u001b"  # a backslash, and no control character
    path.write_text(json.dumps(fields))
    assert ended(["show", str(path), "--json"]) == 0


@pytest.mark.parametrize("command", [["compare", "/dev/zero", "/dev/zero"], ["sweep", "/dev/zero"]])
def test_a_file_without_an_end_is_not_read_to_it(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(command) == 2
    assert "/dev/zero has more than" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"models = [" + b"[" * 5000 + b"]" * 5000 + b"]", "nested too deeply"),
        (b"a" + b".a" * 49_999 + b" = 1", "has a key of 64 parts or more"),
        (b"\xff\xfem\x00", "is not UTF-8 text"),
        (b'\xef\xbb\xbfmodels = ["\xe9t\xe9"]', "is not UTF-8 text"),
        (b"\xef\xbb\xbfmodel = 3\r\n", "model"),
    ],
)
def test_a_file_of_settings_is_read_with_a_mark_or_named_for_what_it_is(
    content: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sweep.toml").write_bytes(content)
    assert ended(["sweep", str(tmp_path / "sweep.toml")]) == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert "invalid statement" not in shown.lower()


def test_a_home_folder_that_is_none_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRESSBENCH_HOME", "~nobody-of-this-name")
    with pytest.raises(UserError, match="whose home folder does not exist"):
        home()
    monkeypatch.delenv("STRESSBENCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where neither HOME nor the user is known
    with pytest.raises(UserError, match="set STRESSBENCH_HOME"):
        home()


NO_TEXT = os.fsdecode(b"\xff")


def test_a_home_folder_whose_path_is_no_text_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path / NO_TEXT))
    with pytest.raises(UserError, match=r"\\xff has bytes that are not UTF-8.*point STRESSBENCH_HOME"):
        home()


def test_an_out_folder_whose_path_is_no_text_is_refused_before_anything_is_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / NO_TEXT / "runs"
    assert ended(["run", "--model", "resnet18", "--limit", "4", "--out", str(out)]) == 2
    shown = capsys.readouterr().err
    assert r"\xff/runs has bytes that are not UTF-8" in shown
    assert "--out" in shown
    assert not out.exists()


def test_a_relative_home_folder_stays_where_the_command_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STRESSBENCH_HOME", "store")
    found = home()
    os.chdir("/")
    assert found == tmp_path / "store"


@pytest.mark.parametrize("form", [[], ["--json"]])
@pytest.mark.parametrize("stdout", ["| true", "> /dev/full"])
def test_a_reader_that_leaves_loses_no_run(form: list[str], stdout: str, tmp_path: Path) -> None:
    models = [tmp_path / "one.py", tmp_path / "two.py"]
    for model in models:
        model.write_text(
            "import torch\n"
            "def net(dataset):\n"
            "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, dataset.classes))\n"
        )
    words = ["run", *(word for model in models for word in ("--model", f"file:{model}:net")), *form]
    words += ["--corruptions", "fog", "--severities", "1", "--limit", "4", "--out", str(tmp_path / "runs")]
    done = subprocess.run(f"{BENCH} {' '.join(words)} {stdout}", shell=True, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert len(list((tmp_path / "runs").glob("*/record.json"))) == 2


def test_drawing_takes_no_notice_of_a_notebooks_settings(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("font.family: [\nbroken\ntext.usetex: true\n")
    code = (
        "from stressbench.cli import main\ntry:\n    main(['list', 'suites'])\nexcept SystemExit:\n    pass\n"
        "import stressbench.plots.style"
    )
    environment = os.environ | {"MPLBACKEND": "nonsense"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


LEFT = """
import atexit, os, sys, threading, time
from stressbench.cli import door, main
{left}
sys.argv, door._PATIENCE = ["bench", "--version"], 0.3
main()
"""


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ("threading.Thread(target=time.sleep, args=(600,)).start()", ""),
        ("atexit.register(time.sleep, 600)", ""),
        ("atexit.register(print, 'bye')", "bye"),
        ("atexit.register(os.write, 1, b'bye')", "bye"),
    ],
)
def test_what_plugins_leave_behind_neither_holds_the_command_nor_spoils_its_output(left: str, said: str) -> None:
    words = [sys.executable, "-c", LEFT.format(left=left)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr.strip() == said


def test_a_second_ctrl_c_while_the_first_is_reported_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("stressbench.cli.door.close", interrupted)
    with pytest.raises(SystemExit) as done:
        main(["list"])
    assert done.value.code == 130
