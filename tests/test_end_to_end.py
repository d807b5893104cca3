"""The main job on whole inputs: official files and generated stress, a public network on real images, and a demo."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Pillow
from sklearn.metrics import log_loss

from conftest import ROOT, Bench
from stressbench.cli import main
from stressbench_suites.corruption.engine import CORRUPTIONS

N = 24


@pytest.fixture(scope="module")
def cifar100(tmp_path_factory: pytest.TempPathFactory, bench: Bench) -> Path:
    """A folder in the layout of the hub's CIFAR-100, with a CIFAR-100-C beside it that the engine made with seed 3."""
    folder = tmp_path_factory.mktemp("cifar100")
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)
    images = [Pillow.fromarray(pixels).resize((32, 32), Pillow.Resampling.BICUBIC) for pixels in small]
    features = Features({"img": Image(), "fine_label": ClassLabel(100), "coarse_label": Value("int64")})
    rows = {"img": images, "fine_label": generator.integers(0, 100, N).tolist(), "coarse_label": [0] * N}
    Dataset.from_dict(rows, features=features).to_parquet(str(folder / "test-00000-of-00001.parquet"))
    written = bench("data", "corrupt", "--dataset", "cifar100", "--data-dir", folder, "--seed", 3,
                    "--out", folder / "CIFAR-100-C")  # fmt: skip
    assert written.returncode == 0, written.stderr
    return folder


def record(bench: Bench, out: Path, *arguments: object) -> dict[str, Any]:
    done = bench("run", "--suite", "corruption", "--out", out, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_official_files_are_used_where_they_are_and_give_what_generating_gives(
    cifar100: Path, bench: Bench, tmp_path: Path
) -> None:
    words = ("--model", "dropped", "--dataset", "cifar100", "--data-dir", cifar100, "--seed", 3)
    official = record(bench, tmp_path, *words)
    generated = record(bench, tmp_path, *words, "--stress", "generated")
    assert (official["dataset"]["stress"], generated["dataset"]["stress"]) == ("official", "generated")
    assert official["dataset"]["stress_verified"] is None
    assert official["conditions"] == generated["conditions"]
    assert record(bench, tmp_path, *words, "--stress", "official") == official


def test_the_uncertainty_suite_reads_the_same_official_files(
    cifar100: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = "infer-dropout:tiny,location=features"
    words = ["--suite", "uncertainty", "--model", model, "--dataset", "cifar100", "--data-dir", str(cifar100)]
    for stress in ("official", "generated"):
        with pytest.raises(SystemExit) as exit_:
            main(["run", *words, "--seed", "3", "--out", str(tmp_path), "--json", "--stress", stress])
        assert exit_.value.code == 0
    official, generated = map(json.loads, capsys.readouterr().out.splitlines())
    assert (official["dataset"]["stress"], generated["dataset"]["stress"]) == ("official", "generated")
    for read, made in zip(official["conditions"], generated["conditions"], strict=True):
        assert all(value is not None for name, value in made["metrics"].items() if name != "auroc_error")
        assert made["metrics"] == read["metrics"]


def test_the_aggregates_follow_from_the_tables_by_independent_code(
    cifar100: Path, bench: Bench, tmp_path: Path
) -> None:
    words = ("--model", "tiny", "--dataset", "cifar100", "--data-dir", cifar100)
    ours = record(bench, tmp_path / "runs", *words)
    assert (ours["dataset"]["altered"], ours["dataset"]["published"]) == (True, None)
    assert ours["suite"]["baseline"] is ours["metrics"]["mCE"] is None
    (folder,) = (tmp_path / "runs").iterdir()

    def error_nll_ece(name: str, severity: int) -> np.ndarray:
        t = pd.read_parquet(folder / "tables" / f"corruption={name}-severity={severity}.parquet")
        wrong = (t["prediction"] != t["label"]).to_numpy(dtype=float)
        ece = 0.0
        for b in range(10):
            inside = (t["confidence"] > b / 10) & (t["confidence"] <= (b + 1) / 10)
            if inside.any():
                ece += inside.mean() * abs((1 - wrong[inside]).mean() - t["confidence"][inside].astype(float).mean())
        return np.array([wrong.mean(), t["nll"].astype(float).mean(), ece])

    cells = {(c, s): error_nll_ece(c, s) for c in CORRUPTIONS for s in range(1, 6)}
    for row in ours["conditions"][1:]:
        cell = cells[row["condition"]["corruption"], row["condition"]["severity"]]
        np.testing.assert_allclose([row["metrics"][k] for k in ("error", "nll", "ece")], cell, rtol=1e-6, atol=1e-7)
    table = ROOT / "suites" / "stressbench_suites" / "corruption" / "baselines" / "alexnet_cifar100c.csv"
    with table.open() as lines:
        alexnet = {
            (r["corruption"], int(r["severity"])): np.array([float(r[k]) for k in ("error", "nll", "ece")])
            for r in csv.DictReader(lines)
        }
    # The images only look like CIFAR-100's, so AlexNet's numbers must come as a record on the same images.
    theirs = json.loads(json.dumps(ours))
    for row in theirs["conditions"][1:]:
        cell = alexnet[row["condition"]["corruption"], row["condition"]["severity"]].tolist()
        row["metrics"] |= dict(zip(("error", "nll", "ece"), cell, strict=True))
    (tmp_path / "alexnet.json").write_text(json.dumps(theirs))
    ours = record(bench, tmp_path / "runs", *words, "--baseline", tmp_path / "alexnet.json")
    ratios = [sum(cells[c, s] for s in range(1, 6)) / sum(alexnet[c, s] for s in range(1, 6)) for c in CORRUPTIONS]
    expected = np.mean(ratios, axis=0)
    np.testing.assert_allclose([ours["metrics"][k] for k in ("mCE", "mCNLL", "mCECE")], expected, rtol=1e-6)
    means = np.mean(list(cells.values()), axis=0)
    np.testing.assert_allclose([ours["metrics"][f"mean_{k}"] for k in ("error", "nll", "ece")], means, rtol=1e-6)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda c: (c / "fog.npy").write_bytes(b"PK garbage"), "fog.npy is not a whole .npy file"),
        (lambda c: np.save(c / "fog.npy", np.zeros((7, 32, 32, 3), np.uint8)), "fog.npy has shape (7, 32, 32, 3)"),
        (lambda c: (c / "fog.npy").unlink(), "fog.npy is missing"),
        (lambda c: np.save(c / "labels.npy", np.zeros(5 * N, np.uint8)), "labels.npy does not match the labels"),
    ],
)
def test_a_damaged_archive_is_named_before_anything_is_written(
    damage: Any, words: str, cifar100: Path, bench: Bench, tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "data"
    shutil.copytree(cifar100, folder)
    damage(folder / "CIFAR-100-C")
    done = bench("run", "--model", "tiny", "--dataset", "cifar100", "--data-dir", folder, "--out", tmp_path / "out")
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert words in last
    assert "--stress generated" in last
    assert not (tmp_path / "out").exists()


def test_a_public_network_on_real_images(shared: Path, bench: Bench, tmp_path: Path) -> None:
    ours = record(
        bench, tmp_path, "--model", "public-resnet20", "--weights", shared / "weights" / "cifar10_resnet20_public.th",
        "--dataset", "cifar10", "--data-dir", shared / "data" / "cifar10", "--limit", 1000, "--severities", 5,
        "--corruptions", "gaussian_noise,brightness",
    )  # fmt: skip
    assert ours["dataset"]["altered"] is True
    assert ours["metrics"]["clean_error"] == pytest.approx(0.19, abs=0.035)  # 18.97 % on all 10,000
    noise, bright = (row["metrics"]["error"] for row in ours["conditions"][1:])
    assert 0.6 < noise < 0.95
    assert 0.2 < bright < 0.4
    table = pd.read_parquet(next(tmp_path.glob("*/tables/corruption=none-severity=0.parquet")))
    assert len(table) == 1000
    # The same images through the same network by hand.
    from public_resnet20 import resnet20
    from stressbench import registry, weights

    dataset = registry.dataset("cifar10", "test", shared / "data" / "cifar10", None)
    module = resnet20(dataset).eval()
    weights.load(module, shared / "weights" / "cifar10_resnet20_public.th")
    with torch.no_grad():
        p = module(dataset.images.read(0, 1000) / 255).double().softmax(-1).numpy()
    labels = dataset.labels[:1000].numpy()
    assert ours["metrics"]["clean_error"] == pytest.approx(np.mean(p.argmax(1) != labels))
    assert ours["metrics"]["clean_nll"] == pytest.approx(log_loss(labels, p, labels=range(10)), rel=1e-4)


def test_the_embedded_sample_trains_what_lacks_weights_once(bench: Bench, tmp_path: Path) -> None:
    words = ("--model", "untrained", "--limit", 40, "--corruptions", "fog", "--severities", 1, "--out", tmp_path)
    first = bench("run", *words)
    assert first.returncode == 0, first.stderr
    assert "untrained has no weights for digits yet: training it, this once" in first.stderr
    second = bench("run", *words)
    assert "training" not in second.stderr
    assert "2 of 2 conditions are already in" in second.stderr
    ours = json.loads(next(tmp_path.glob("*/record.json")).read_text())
    assert ours["model"]["weights_source"] == "trained here, seed 0, recipe fast, 10 epochs"
    assert ours["metrics"]["clean_error"] < 0.5  # chance is 0.9
