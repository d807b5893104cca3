"""`bench plugin new`: what it writes, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from conftest import ROOT
from stressbench.cli import main, scaffold


def new(*arguments: object) -> int:
    """`bench plugin new` in this process; returns the exit code."""
    with pytest.raises(SystemExit) as exit_:
        main(["plugin", "new", *map(str, arguments)])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_says_what_it_wrote_and_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert new("my-Net.2") == 0
    lines = capsys.readouterr().out.splitlines()
    there = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert there == set(lines[: lines.index("")])
    assert {"my-Net.2/src/my_net_2/__init__.py", "my-Net.2/tests/test_my_net_2.py"} <= there
    assert lines[-3:] == ["  pip install -e my-Net.2", "  bench plugin check my-Net.2", "  bench run --model my-Net.2"]
    project = tomllib.loads((tmp_path / "my-Net.2/pyproject.toml").read_text())["project"]
    assert project["name"] == "my-Net.2"
    assert project["entry-points"]["stressbench.models"] == {"my-Net.2": "my_net_2:Net"}
    assert not any("$" in (tmp_path / path).read_text() for path in there)


def test_the_committed_example_is_what_it_writes() -> None:
    folder = ROOT / "plugins" / "example"
    for path, text in scaffold.files("example-net").items():
        assert (folder / path).read_text(encoding="utf-8") == text, f"write {folder} again with `bench plugin new`"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("my/net", "'my/net' cannot be a package's name"),
        ("net,width=3", "cannot be a package's name"),
        ("net-", "cannot be a package's name"),
        ("nét", "cannot be a package's name"),
        ("../net", "cannot be a package's name"),
        ("", "cannot be a package's name"),
        ("3net", "'3net' cannot be imported"),
        ("class", "'class' cannot be imported"),
        ("Torch", "there is a package torch "),
        ("scikit_learn", "there is a package scikit-learn "),
        ("json", "there is a module 'json' here"),
        ("tiny_models", "there is a package tiny-models 1.0 here"),
    ],
)
def test_a_name_that_cannot_be_had_is_refused(
    name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new(name) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not list(tmp_path.iterdir())


def test_a_model_of_that_name_elsewhere_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert new("resnet18", "--out", "mine") == 0
    assert "there is a model 'resnet18' of stressbench " in capsys.readouterr().err
    assert (tmp_path / "mine/pyproject.toml").exists()


@pytest.mark.parametrize("there", ["file", "folder", "link"])
def test_nothing_is_overwritten(there: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "mynet"
    match there:
        case "file":
            target.write_text("mine")
        case "folder":
            target.mkdir()
            (target / "README.md").write_text("mine")
        case "link":
            target.symlink_to(tmp_path / "nowhere")
    assert new("mynet") == 2
    assert "mynet is there already, and nothing is overwritten" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [target]
    assert there != "folder" or (target / "README.md").read_text() == "mine"


def test_all_is_written_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write, written = Path.write_text, []

    def full(self: Path, *arguments: str, **options: str) -> int:
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        written.append(self)
        return write(self, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full)
    assert new("mynet", "--out", tmp_path / "new" / "mynet") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert len(written) == 3
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not (tmp_path / "new" / "mynet").exists()


def test_nothing_heavy_is_imported_for_it() -> None:
    code = (
        "import sys; from stressbench.cli import cli; cli.main(['plugin', 'new', 'mynet'], standalone_mode=False);"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
