"""Suites that look into one network refuse an ensemble before its members are trained, and go on with the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from stressbench import weights
from stressbench.cli import main

ENSEMBLE = "ensemble:resnet20,size=2"


def bench(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["run", *words])
    return int(ended.value.code or 0)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("suite", ["hessian", "landscape", "features"])
@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_an_ensemble_is_refused_with_its_members(
    suite: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("--suite", suite, "--model", ENSEMBLE, *words) == 2
    said = capsys.readouterr().err
    assert f"the {suite} suite does not support {ENSEMBLE}" in said
    assert "run its members one by one, resnet20 (seed 0), resnet20 (seed 1)" in said
    assert not weights.stored("digits", "resnet20", 0).exists()


def test_all_suites_that_refuse_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--suite", "hessian", "--suite", "features", "--model", ENSEMBLE) == 2
    assert "the suites hessian and features do not support" in capsys.readouterr().err
    assert not weights.stored("digits", "resnet20", 0).exists()


def test_what_supports_an_ensemble_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--suite", "features", "--suite", "weight-noise", "-o", "repeats=1", "--limit", "4"]
    assert bench(*words, "--model", "ensemble:tiny+(tiny,width=4)") == 2
    assert "features suite does not support" in capsys.readouterr().err
    assert [path.parent.name[:19] for path in Path("runs").glob("*/record.json")] == ["digits-weight-noise"]
