"""`bench show`, and ensembles and wrappers from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stressbench import registry, weights
from stressbench.cli import main
from stressbench.datasets.digits import digits

FEW = ("--corruptions", "fog", "--severities", "2", "--limit", "8")


def bench(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([*map(str, arguments)])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def record(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def test_a_model_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("show", "tiny,width=4") == 0
    shown = " ".join(capsys.readouterr().out.split())
    # 3·4·9 + 4 and 64·10 + 10 parameters; 16² positions of the one, one of the other.
    for words in (
        "tiny,width=4 model 'tiny' of tiny-models 1.0, for digits (32×32, 10 classes)",
        "parameters 762",
        f"multiply-adds {108 * 256 + 640:,} for one image",
        "draws 1, deterministic",
        "width int, default 8",
        "0 input of features 3×32×32",
        "4 input of head 64",
        "1, 2, 3 cannot be told: give a module's name",
    ):
        assert words in shown, words


def test_wrappers_and_ensembles_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("show", "infer-transform:(ensemble:tiny+(tiny,width=4)),transforms=rotate") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "draws 8 by default, 8 at most" in shown
    assert "infer-transform:tiny,transforms=rotate (seed 0), infer-transform:(tiny,width=4),transforms=rotate" in shown
    assert "transforms flip|rotate|dihedral, default flip" in shown
    assert bench("show", "tinny") == 2
    assert "did you mean 'tiny'" in capsys.readouterr().err


def test_an_ensemble_trains_its_members_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path / "home"))
    common = ("--out", tmp_path / "runs", "--json", *FEW)
    assert bench("run", "--model", "ensemble:(untrained,width=2),size=2", *common) == 0
    first = record(capsys)
    assert first["draws"] == 2
    assert first["model"]["spec"] == "ensemble:(untrained,width=2),size=2"
    assert first["model"]["weights_source"] == "trained here, seed 0; trained here, seed 1"
    files = [weights.stored("digits", "untrained,width=2", seed) for seed in (0, 1)]

    # The same weights by folder, by hand, and perturbed: nothing is trained again.
    given = ("--weights", files[0], "--weights", files[1])
    assert bench("run", "--model", "ensemble:(untrained,width=2),size=2", *given, *common) == 0
    again = record(capsys)
    assert again["metrics"] == first["metrics"]
    assert again["model"]["weights_checksum"] == first["model"]["weights_checksum"]
    wrapped = "infer-noise:(ensemble:(untrained,width=2),size=2),location=features,sigma=0.1"
    assert bench("run", "--model", wrapped, "--weights", files[0].parent, *common) == 0
    assert (noisy := record(capsys))["draws"] == 8
    assert noisy["metrics"] != first["metrics"]

    # More draws than members, and a command that would train what has no weights of its own.
    assert bench("run", "--model", "ensemble:(untrained,width=2),size=2", "--draws", 3, *common) == 2
    assert "has 2 draws and --draws asks for 3" in capsys.readouterr().err
    assert bench("train", "--model", "ensemble:(untrained,width=2),size=2") == 2
    assert "train untrained,width=2, with --seed" in capsys.readouterr().err

    (run, *_) = (tmp_path / "runs").iterdir()
    assert bench("show", run) == 0
    assert "8 images, generated stress" in capsys.readouterr().out


def test_a_missing_member_gives_the_command_that_trains_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path / "home"))
    weights.save(registry.model("untrained", digits("test")), weights.stored("cifar10", "untrained", 0), {})
    data = ("--dataset", "cifar10", "--data-dir", shared / "data" / "cifar10")
    assert bench("run", "--model", "ensemble:untrained", *data, "--limit", 2, "--out", tmp_path / "runs") == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "untrained (seed 1) has no weights for cifar10" in last
    assert "bench train --model untrained --dataset cifar10 --data-dir" in last
    assert "--seed 1`" in last
