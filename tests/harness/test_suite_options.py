"""Options of suites on the command line: `-o key=value`, and `--key value` made from the suites' signatures."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from stressbench.cli import cli, main
from stressbench.cli.data import preview
from stressbench.cli.run import run


def parsed(command: click.Command, *arguments: str) -> object:
    above = click.Context(cli, info_name="bench", **cli.context_settings)
    return command.make_context("run", list(arguments), parent=above).params["suite_options"]


def options(*arguments: str) -> object:
    return parsed(run, *arguments)


ADVERSARIAL = ("--suite", "adversarial")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), {}),
        (("--severities", "1,3"), {"severities": "1,3"}),
        (("-o", "severities=1,3"), {"severities": "1,3"}),
        (("--option", "severities = 1,3"), {"severities": "1,3"}),
        (("--severities=1", "--corruptions", "fog,snow"), {"severities": "1", "corruptions": "fog,snow"}),
        # Of several suites, each option of any of them.
        ((*ADVERSARIAL, "--suite", "corruption", "--eps", "8/255", "--severities", "1"),
         {"eps": "8/255", "severities": "1"}),
        # A name with an underscore, either way; and every suite.
        ((*ADVERSARIAL, "--eot-draws", "3"), {"eot_draws": "3"}),
        ((*ADVERSARIAL, "-o", "eot-draws=3"), {"eot_draws": "3"}),
        (("--suite", "all", "--eot-draws", "3"), {"eot_draws": "3"}),
        # Repeated values are joined, each with its own options in brackets, where the option takes several.
        ((*ADVERSARIAL, "--attack", "pgd,steps=5", "--attack", "fgsm"), {"attack": "(pgd,steps=5)+fgsm"}),
        ((*ADVERSARIAL, "--attack", "pgd,steps=5", "-o", "attack=fgsm"), {"attack": "fgsm+(pgd,steps=5)"}),
        (("--corruptions", "fog,snow", "--corruptions", "frost"), {"corruptions": "fog,snow+frost"}),
        # A value of one that takes one is left as it is.
        (("--baseline", "runs/a,b=3/record.json"), {"baseline": "runs/a,b=3/record.json"}),
    ],
)  # fmt: skip
def test_both_forms_reach_the_suites(arguments: tuple[str, ...], expected: dict[str, str]) -> None:
    assert options(*arguments) == expected


def test_a_preview_takes_them_too() -> None:
    words = ["--out", "x.png", "--suite", "frequency", "--bands", "3", "-o", "signals=noise"]
    assert parsed(preview, *words) == {"signals": "noise", "bands": "3"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--limt", "5"), "no option --limt in `bench run` or in corruption: did you mean '--limit'?"),
        (("--severity", "5"), "no option --severity in `bench run` or in corruption: did you mean '--severities'?"),
        (("--xyz", "5"), "no option --xyz in `bench run` or in corruption: `bench show corruption` lists"),
        (("-o", "severity=5"), "no option 'severity' in corruption: did you mean 'severities'? known options are: bas"),
        (("-o", "severities"), "'severities' is not an option: write KEY=VALUE"),
        (("--suite", "corruption,severities=1", "--severities", "2"), "option 'severities' appears twice, in 'corr"),
        ((*ADVERSARIAL, "--eps"), "Option '--eps' requires an argument"),
        ((*ADVERSARIAL, "--steps", "1", "-o", "steps=2"), "option 'steps' takes one value, not 2: specify it once"),
        ((*ADVERSARIAL, "--steps", "many"), "option 'steps' of suite 'adversarial' of stressbench"),
        (("--suite", "adversary", "--steps", "1"), "there is no suite called 'adversary': did you mean 'adversarial'?"),
    ],
)
def test_wrong_options_are_one_line(
    arguments: tuple[str, ...], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["run", "--model", "tiny", "--out", str(tmp_path / "runs"), *arguments])
    told = capsys.readouterr().err
    assert exit_.value.code == 2
    assert line in told
    assert told.count("\n") == 1
    assert not (tmp_path / "runs").exists()
