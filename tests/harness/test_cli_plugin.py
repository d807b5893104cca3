"""`bench plugin check`: a line for each check, and an exit code for scripts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import write_distribution
from stressbench.cli import main

BROKEN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.head = nn.Linear(3, classes)

    def forward(self, images):
        return self.head(images.detach().mean((2, 3))).squeeze()

def net(dataset):
    return Net(dataset.classes)
"""


def check(*arguments: str) -> int:
    """`bench plugin check` in this process; returns the exit code."""
    with pytest.raises(SystemExit) as exit_:
        main(["plugin", "check", *arguments])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def test_a_clean_model_gets_a_line_for_each_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("infer-noise:(tiny,width=4),location=features") == 0
    shown = capsys.readouterr()
    assert not shown.err
    first, second, third, blank, *lines, space, last = shown.out.splitlines()
    assert first.startswith("model 'infer-noise' of stressbench ")
    assert second == "model 'tiny' of tiny-models 1.0"
    assert third == "for random images of 32×32 pixels, 10 classes"
    assert blank == space == ""
    assert len(lines) == 18
    assert {line[0] for line in lines} <= {"✓", "–"}
    assert "✓ gradient      gradients reach the images" in lines
    assert "✓ parts         its parts hold all of its weights" in lines
    passed = sum(line[0] == "✓" for line in lines)
    assert last == f"{passed} passed" + (f", {18 - passed} skipped" if passed < 18 else "")


def test_findings_say_what_to_change_and_the_exit_code_is_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken_net.py").write_text(BROKEN)
    write_distribution(tmp_path, "broken-zoo", {"stressbench.models": {"broken": "broken_net:net"}})
    monkeypatch.syspath_prepend(str(tmp_path))
    assert check("broken") == 2
    shown = capsys.readouterr()
    assert shown.out.startswith("model 'broken' of broken-zoo 1.0\n")
    wrong = [line for line in shown.out.splitlines() if line.startswith("✗")]
    assert [line.split()[1] for line in wrong] == ["one-image", "gradient"]
    assert wrong[0].endswith("it returned shape (10,); return logits (1, 10)")
    assert "the gradient of a pass does not reach the images; keep no_grad, detach" in wrong[1]
    assert shown.out.splitlines()[-1].startswith("12 passed, 2 failed, ")
    assert shown.err == "bench: broken fails 2 of 18 checks (one-image, gradient): change it\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tinny"], "did you mean 'tiny'"),
        (["tiny,depth=3"], "no option 'depth'"),
        (["not-importable"], "model 'not-importable' of tiny-models 1.0 cannot be imported: ModuleNotFoundError"),
        (["unbuildable"], "failed while it was built: ValueError: no such checkpoint"),
        (["not-a-module"], "returned a int; it must return a Module"),
        (["tiny", "--dataset", "digit"], "did you mean 'digits'"),
    ],
)
def test_what_cannot_be_built_is_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bench: ")
    assert words in line


def test_the_dataset_and_the_meta_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("resnet152", "--dataset", "digits", "--meta") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "for digits images of 32×32 pixels, 10 classes"
    assert lines[-1] == "3 passed, 15 skipped"
    assert "– gradient      the meta device has no numbers" in lines


def test_the_command_line_imports_nothing_heavy_for_it() -> None:
    code = "import sys, stressbench.cli; print(sorted({'torch', 'stressbench.testing'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
