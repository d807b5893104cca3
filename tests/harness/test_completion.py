"""Shell completion: names of what is installed, from a process that imports none of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from stressbench.cli import cli


def offered(*words: str) -> list[str]:
    """What may stand in place of the last word."""
    shell = ShellComplete(cli, {}, "bench", "_BENCH_COMPLETE")
    return [item.value for item in shell.get_completions([*words[:-1]], words[-1])]


@pytest.mark.parametrize(
    ("words", "some", "not_these"),
    [
        (("run", "--model", "resnet1"), {"resnet18", "resnet18-smooth"}, {"alexnet"}),
        (("run", "tin"), {"tiny"}, {"resnet18"}),
        (("run", "infer-"), {"infer-dropout:", "infer-noise:"}, {"infer-dropout"}),
        (("run", "ensemble:resnet18+alex"), {"ensemble:resnet18+alexnet"}, {"alexnet"}),
        (("run", "infer-noise:(tin"), {"infer-noise:(tiny"}, set()),
        (("run", "tiny", "--suite", "c"), {"corruption", "conformal"}, {"tiny"}),
        (("run", "--eps", "1", "--suite", "c"), {"corruption"}, set()),
        (("run", "--dataset", "cifar"), {"cifar10", "cifar100"}, {"digits"}),
        (("train", "--recipe", "pa"), {"paper"}, set()),
        (("show", "fa"), {"fast"}, set()),
        (("show", "./runs/a"), {"./runs/a"}, set()),  # which a shell takes for a file's path
        (("data", "preview", "--suite", "freq"), {"frequency"}, set()),
        (("plugin", "check", "tin"), {"tiny"}, set()),
        (("runs", ""), {"ls", "rm"}, set()),
        (("run", "--dry"), {"--dry-run"}, set()),
    ],
)
def test_names_that_may_follow(words: tuple[str, ...], some: set[str], not_these: set[str]) -> None:
    found = offered(*words)
    assert some <= set(found)
    assert not not_these & set(found)
    assert found == [one for one in found if one.startswith(words[-1])]


def test_options_of_a_model_are_not_completed() -> None:
    assert offered("run", "tiny,wi") == []


def test_a_shell_gets_its_answer_without_torch() -> None:
    code = "import sys; from stressbench.__main__ import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    asked = {"_BENCH_COMPLETE": "bash_complete", "COMP_WORDS": "bench run --model resnet18-sm", "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    assert done.stdout == "plain,resnet18-smooth\nFalse\n"
    assert (done.returncode, done.stderr) == (0, "")


def test_a_shell_gets_its_script() -> None:
    bench = Path(sys.executable).parent / "bench"
    environment = {**os.environ, "_BENCH_COMPLETE": "zsh_source"}
    done = subprocess.run([bench], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("#compdef bench")
    assert (done.returncode, done.stderr) == (0, "")
