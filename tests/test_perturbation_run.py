"""`bench run --suite perturbation`: the record, the tables, and official files in place of generated ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Pillow

from stressbench.cli import main
from stressbench.randomness import derive, image_keys
from stressbench_suites.perturbation.engine import FRAMES, PERTURBATIONS, perturb

N = 12
TWO = "perturbation,perturbations=translate+gaussian_noise"


def run(out: Path, *arguments: object) -> tuple[dict[str, Any], Path]:
    """`bench run` in this process: the record, and the run's folder."""
    with pytest.raises(SystemExit) as exit_:
        main(["run", "--out", str(out), *map(str, arguments)])
    assert exit_.value.code == 0
    (path,) = out.glob("*/record.json")
    return json.loads(path.read_text()), path.parent


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the layout of the hub's CIFAR-10, with a CIFAR-10-P beside it that the engine made with seed 3."""
    folder = tmp_path_factory.mktemp("cifar10")
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)
    images = [Pillow.fromarray(pixels).resize((32, 32), Pillow.Resampling.BICUBIC) for pixels in small]
    rows = {"img": images, "label": generator.integers(0, 10, N).tolist()}
    features = Features({"img": Image(), "label": ClassLabel(10)})
    Dataset.from_dict(rows, features=features).to_parquet(str(folder / "test-00000-of-00001.parquet"))
    clean = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    (folder / "CIFAR-10-P").mkdir()
    for name in PERTURBATIONS:
        keys = image_keys(derive(3, {"perturbation": name}), torch.arange(N))
        levels = (perturb(clean, name, keys) * 255).round().byte()
        np.save(folder / "CIFAR-10-P" / f"{name}.npy", levels.permute(0, 1, 3, 4, 2).numpy())
    return folder


def test_all_ten_types_on_the_embedded_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record, folder = run(tmp_path, "--suite", "perturbation", "--model", "dropped", "--limit", N)
    assert [row["condition"] for row in record["conditions"]] == [{"perturbation": name} for name in PERTURBATIONS]
    for row in record["conditions"]:
        assert row["n"] == N
        assert all(isinstance(value, float) for value in row["metrics"].values())
        table = pd.read_parquet(folder / "tables" / f"perturbation={row['condition']['perturbation']}.parquet")
        assert len(table) == N
        for name, value in row["metrics"].items():
            assert value == pytest.approx(table[name].astype(float).mean())
        frames = [name for name in table if name.startswith("relative_confidence_")]
        assert len(frames) == FRAMES[row["condition"]["perturbation"]]
        np.testing.assert_allclose(table[frames].mean(axis=1), table["relative_confidence"], rtol=1e-5)
    metrics = {
        name: [row["metrics"][name] for row in record["conditions"]] for name in record["conditions"][0]["metrics"]
    }
    for name, of in (("consistency", "consistency"), ("mFP", "flip_probability"), ("mT5D", "top5_distance")):
        assert record["metrics"][name] == pytest.approx(np.mean(metrics[of]))
    assert "unknown for this run" not in capsys.readouterr().out


def test_numbers_do_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    words = ("--suite", TWO, "--model", "dropped", "--limit", N)
    whole, _ = run(tmp_path / "whole", *words, "--batch-size", N)
    parts, _ = run(tmp_path / "parts", *words, "--batch-size", 5)
    for one, other in zip(whole["conditions"], parts["conditions"], strict=True):
        assert one["metrics"] == pytest.approx(other["metrics"], rel=1e-5)
    another, _ = run(tmp_path / "another", *words, "--seed", 1)
    assert another["conditions"][0]["metrics"] != whole["conditions"][0]["metrics"]


def test_a_narrowed_run_has_no_means(tmp_path: Path) -> None:
    record, _ = run(tmp_path, "--suite", TWO, "--model", "tiny", "--limit", 3)
    assert set(record["metrics"].values()) == {None}
    assert [row["condition"]["perturbation"] for row in record["conditions"]] == ["gaussian_noise", "translate"]


def test_official_files_give_what_generating_gives(cifar10: Path, tmp_path: Path) -> None:
    words = (
        "--suite",
        "perturbation",
        "--model",
        "dropped",
        "--dataset",
        "cifar10",
        "--data-dir",
        cifar10,
        "--seed",
        3,
    )
    official, _ = run(tmp_path / "official", *words, "--stress", "official")
    generated, _ = run(tmp_path / "generated", *words, "--stress", "generated")
    default, _ = run(tmp_path / "default", *words)
    assert official["dataset"]["stress"] == default["dataset"]["stress"] == "official"
    assert generated["dataset"]["stress"] == "generated"
    assert official["dataset"]["stress_verified"] is None
    assert official["conditions"] == generated["conditions"] == default["conditions"]


def test_official_files_in_another_order_are_refused_in_one_line(
    cifar10: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rotate = cifar10 / "CIFAR-10-P" / "rotate.npy"
    rows = np.load(rotate)
    np.save(rotate, rows[::-1])
    try:
        with pytest.raises(SystemExit) as exit_:
            main(["run", "--suite", "perturbation", "--model", "tiny", "--dataset", "cifar10",
                  "--data-dir", str(cifar10), "--out", str(tmp_path)])  # fmt: skip
    finally:
        np.save(rotate, rows)
    assert exit_.value.code == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "rotate.npy" in line)
    assert "another order" in line
    assert not list(tmp_path.iterdir())
