"""Stressed images in files: the layout, and that a run shows the same pixels."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stressbench import randomness
from stressbench._util.terminal import Screen
from stressbench.contracts import Batch, Condition, Predictor, Stressed, StressSuite
from stressbench.datasets.cache import to_float
from stressbench.datasets.export import corrupt
from stressbench.datasets.official import CorruptionArchive
from stressbench.errors import UserError
from stressbench.sampling import Unjudged


class Stub(StressSuite):
    """Two corruptions: a shift by the severity, and noise from the keys."""

    name = "stub"
    broken_at = 99

    def conditions(self) -> list[Condition]:
        return [
            {"corruption": "none", "severity": 0},
            *({"corruption": c, "severity": s} for c in ("shift", "noise") for s in range(1, 6)),
        ]

    def stress(self, condition: Condition, batch: Batch, model: Predictor) -> Stressed:
        severity = int(condition["severity"])
        if severity == self.broken_at:
            raise KeyboardInterrupt
        if condition["corruption"] == "shift":
            return Stressed(batch.images.roll(severity, dims=-1))
        return Stressed((randomness.uniform(batch.keys, batch.images.shape[1:]) * 255).floor() / 255)

    def observe(self, *_: Any) -> Any: ...
    def score(self, *_: Any) -> Any: ...
    def aggregate(self, *_: Any) -> Any: ...


def check(data: Any, suite: StressSuite, name: str, out: Path, n: int, seed: int) -> None:
    """The folder, read as official files, holds what a run with this seed presents."""
    archive = CorruptionArchive(out, data.image_size)
    conditions = [c for c in suite.conditions() if c["corruption"] == name]
    archive.open(conditions, data.labels[:n])
    indices = torch.arange(n)
    for condition in conditions:
        keys = randomness.image_keys(randomness.derive(seed, condition), indices)
        images = to_float(data.images.read(0, n), torch.device("cpu"))
        shown = suite.stress(condition, Batch(images, data.labels[:n], indices, keys), Unjudged(nn.Identity())).images
        stored = to_float(archive.read(condition, 0, n), torch.device("cpu"))
        torch.testing.assert_close(stored, shown, rtol=0, atol=1e-7)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_files_hold_what_a_run_shows(memory: Any, tmp_path: Path, batch_size: int) -> None:
    data = memory(7)
    paths = corrupt(data, Stub(), ["noise", "shift"], tmp_path / "out", Screen(), 5, seed=3, batch_size=batch_size)
    assert paths == [tmp_path / "out" / "noise.npy", tmp_path / "out" / "shift.npy"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["labels.npy", "noise.npy", "shift.npy"]
    rows = np.load(paths[0])
    assert (rows.shape, rows.dtype) == ((25, 8, 6, 3), np.uint8)
    labels = np.load(tmp_path / "out" / "labels.npy")
    assert labels.dtype == np.uint8
    assert labels.tolist() == [0, 1, 2, 0, 1] * 5
    for name in ("noise", "shift"):
        check(data, Stub(), name, tmp_path / "out", 5, seed=3)


def test_the_real_suite(tmp_path: Path) -> None:
    suites = pytest.importorskip("stressbench_suites.corruption.suite")
    from stressbench.datasets.digits import digits

    suite = suites.CorruptionSuite(corruptions=("gaussian_noise", "brightness"))
    corrupt(digits("test"), suite, [], tmp_path, Screen(), 4, batch_size=3)
    for name in ("gaussian_noise", "brightness"):
        check(digits("test"), suite, name, tmp_path, 4, seed=0)


def test_all_corruptions_and_all_images(memory: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = corrupt(memory(7), Stub(), [], tmp_path, Screen())
    assert [p.stem for p in paths] == ["shift", "noise"]
    assert len(np.load(paths[0])) == 35
    assert "shift: 35 of 35 images" in capsys.readouterr().err


def test_a_folder_can_be_added_to(memory: Any, tmp_path: Path) -> None:
    corrupt(memory(7), Stub(), ["shift"], tmp_path, Screen())
    corrupt(memory(7), Stub(), ["noise"], tmp_path, Screen())
    with pytest.raises(UserError, match=r"noise\.npy is there already"):
        corrupt(memory(7), Stub(), ["noise"], tmp_path, Screen())


def test_folders_are_not_mixed(memory: Any, tmp_path: Path) -> None:
    corrupt(memory(7), Stub(), ["shift"], tmp_path, Screen())
    with pytest.raises(UserError, match=r"labels\.npy belongs to other images .* --out"):
        corrupt(memory(7), Stub(), ["noise"], tmp_path, Screen(), 5)
    (tmp_path / "labels.npy").write_bytes(b"")
    with pytest.raises(UserError, match=r"labels\.npy is not a whole"):
        corrupt(memory(7), Stub(), ["noise"], tmp_path, Screen())
    assert not (tmp_path / "noise.npy").exists()


def test_nothing_half_written(memory: Any, tmp_path: Path) -> None:
    suite = Stub()
    suite.broken_at = 4
    with pytest.raises(KeyboardInterrupt):
        corrupt(memory(7), suite, ["shift"], tmp_path, Screen())
    assert [p.name for p in tmp_path.iterdir()] == ["labels.npy"]


def test_too_little_room(memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(999, 0, 999))
    with pytest.raises(UserError, match=r"shift\.npy needs 0 MB, which are not free"):
        corrupt(memory(7), Stub(), ["shift"], tmp_path, Screen())
    assert [p.name for p in tmp_path.iterdir()] == ["labels.npy"]


def test_an_unknown_corruption(memory: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no corruption 'nois': did you mean 'noise'"):
        corrupt(memory(7), Stub(), ["nois"], tmp_path, Screen())


def test_a_folder_that_cannot_be_made(memory: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        corrupt(memory(7), Stub(), ["shift"], tmp_path / "file", Screen())
