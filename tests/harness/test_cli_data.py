"""`bench data`, from the words to the exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stressbench.cli import main


def bench(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["data", *words])
    return int(end.value.code or 0)


def test_corrupt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("corrupt", "--dataset", "digits", "--limit", "3", "--batch-size", "2", "--out", str(tmp_path))
    assert bench(*words, "--corruption", "brightness", "--corruption", "contrast") == 0
    out, err = capsys.readouterr()
    assert out.split() == [str(tmp_path / "brightness.npy"), str(tmp_path / "contrast.npy")]
    assert "brightness: 15 of 15 images" in err
    assert np.load(tmp_path / "brightness.npy").shape == (15, 32, 32, 3)
    assert bench(*words, "--corruption", "contrast") == 2
    assert "is there already" in capsys.readouterr().err


def test_seeds_differ(tmp_path: Path) -> None:
    for seed in (0, 0, 1):
        place = tmp_path / f"{seed}{len(list(tmp_path.iterdir()))}"
        words = ("--dataset", "digits", "--limit", "1", "--seed", str(seed), "--out", str(place))
        assert bench("corrupt", *words, "--corruption", "gaussian_noise") == 0
    first, again, other = (np.load(p / "gaussian_noise.npy") for p in sorted(tmp_path.iterdir()))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--dataset", "digitz", "--out", "x"), "did you mean 'digits'"),
        (("--dataset", "digits", "--out", "x", "--corruption", "fogg"), "did you mean 'fog'"),
        (("--dataset", "digits", "--out", "x", "--data-dir", "."), "takes no --data-dir"),
        (("--dataset", "parquet", "--out", "x", "--dataset-name", "mine"), "--data-dir"),
        (("--dataset", "digits"), "--out"),
    ],
)
def test_faults_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bench("corrupt", *words) == 2
    err = capsys.readouterr().err
    assert line in err
    assert err.startswith("bench: ")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_pull(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from stressbench.datasets.pull import ARCHIVES

    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    for name in ARCHIVES["cifar10-c"].holds:
        (folder / name).touch()
    assert bench("pull", "cifar10-c", "--data-dir", str(tmp_path)) == 0
    assert capsys.readouterr().out == f"{folder} is there already\n"
    assert bench("pull", "cifar10c", "--data-dir", str(tmp_path)) == 2
    assert "did you mean 'cifar10-c'" in capsys.readouterr().err
    assert bench("pull", "cifar10-p", "--data-dir", str(tmp_path), "--url", "file:///etc/passwd") == 2
    assert "not a web address" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("cli.data", ("torch", "numpy", "datasets", "pyarrow", "rich", "PIL", "filelock")),
        ("datasets.pull", ("torch", "numpy", "datasets", "pyarrow", "rich", "PIL")),
    ],
)
def test_nothing_heavy_is_imported(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import stressbench.{module}, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
