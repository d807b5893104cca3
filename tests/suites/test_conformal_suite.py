"""Conformal sets: worked examples, the promise on exchangeable images, and a whole run against NumPy."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binom

from stressbench import held_out, registry
from stressbench.cli import main
from stressbench.datasets.digits import digits
from stressbench_suites.conformal.sets import scores, threshold
from stressbench_suites.conformal.suite import METHODS


def test_scores_of_the_worked_example() -> None:
    p = torch.tensor([[0.35, 0.50, 0.15]], dtype=torch.float64)
    assert scores(p, torch.zeros(1), "thr").tolist()[0] == pytest.approx([0.65, 0.5, 0.85])
    assert scores(p, torch.zeros(1), "aps").tolist()[0] == pytest.approx([0.85, 0.5, 1])
    assert scores(p, torch.ones(1), "aps").tolist()[0] == pytest.approx([0.5, 0, 0.85])
    assert scores(p, torch.zeros(1), "raps").tolist()[0] == pytest.approx([0.95, 0.5, 1.2])


def test_the_threshold_is_an_order_statistic_with_the_images_own_place() -> None:
    own = torch.tensor([0.05, 0.10, 0.15, 0.20, 0.30, 0.40, 0.55, 0.70, 0.90], dtype=torch.float64)
    assert threshold(own, 0.8) == 0.70
    assert threshold(own, 0.9) == 0.90
    assert threshold(own, 0.95) == math.inf
    assert threshold(torch.arange(19.0), 0.95) == 18.0  # 20 · 0.95 is 19 for the field, and more for a computer


@pytest.mark.parametrize("method", METHODS)
def test_exchangeable_images_are_covered_as_promised(method: str) -> None:
    generator = np.random.default_rng(0)
    n = 4000
    p = torch.from_numpy(generator.dirichlet(np.full(10, 0.3), 2 * n))
    labels = torch.from_numpy((p.numpy().cumsum(axis=1) > generator.random((2 * n, 1))).argmax(axis=1))
    of_classes = scores(p, torch.from_numpy(generator.random(2 * n)), method)  # type: ignore[arg-type]
    own = of_classes.gather(1, labels[:, None])[:, 0]
    for level in (0.9, 0.95):
        covered = int((own[n:] <= threshold(own[:n], level)).sum())
        # The threshold's own chance makes the spread wider by √2.
        low, high = binom.ppf([1e-6, 1 - 1e-6], n, level)
        assert low - 0.5 * (n * level - low) < covered < high + 0.5 * (high - n * level)


def test_a_run_measures_the_sets_that_numpy_makes(tmp_path: Path) -> None:
    words = ("--suite", "conformal", "--model", "tiny", "--corruptions", "fog", "--severities", "1")
    with pytest.raises(SystemExit) as ended:
        main(["run", *words, "--out", str(tmp_path)])
    assert ended.value.code == 0
    (folder,) = tmp_path.iterdir()
    record = json.loads((folder / "record.json").read_text())
    assert record["dataset"]["n"] == 160
    assert [(s["name"], s["split"], s["n"]) for s in record["sources"]] == [("digits", "threshold", 20)]

    def probabilities(split: str) -> tuple[np.ndarray, np.ndarray]:
        data = digits("test")
        chosen = held_out.rest(data) if split == "rest" else held_out.part(data, split)
        with torch.no_grad():
            logits = registry.model("tiny", data).eval()(chosen.images.read(0, len(chosen.images)) / 255)
        return logits.double().softmax(dim=-1).numpy(), chosen.labels.numpy()

    (p, y), (clean, _) = probabilities("threshold"), probabilities("rest")
    limit = np.sort(1 - p[np.arange(20), y])[math.ceil(21 * 0.9) - 1]
    table = pd.read_parquet(folder / "tables" / "corruption=none-severity=0.parquet")
    sizes = (1 - clean <= limit + 1e-6).sum(axis=1)
    assert table["size_thr_90"].to_numpy() == pytest.approx(sizes)
    row = record["conditions"][0]["metrics"]
    assert row["coverage_thr_90"] == pytest.approx(table["coverage_thr_90"].mean())
    assert record["metrics"]["clean_size_thr_90"] == pytest.approx(sizes.mean())
    assert record["metrics"]["worst_gap_aps_90"] is None  # of a run that was narrowed


def test_of_draws_the_mean_probability_makes_the_sets(tmp_path: Path) -> None:
    words = (
        "--suite",
        "conformal",
        "--model",
        "dropped",
        "--sizes",
        "1,3",
        "--corruptions",
        "fog",
        "--severities",
        "1",
    )
    with pytest.raises(SystemExit) as ended:
        main(["run", *words, "--out", str(tmp_path)])
    assert ended.value.code == 0
    (path,) = tmp_path.glob("*/record.json")
    curve = json.loads(path.read_text())["curves"]["clean_size_raps_90"]
    assert curve["1"] != curve["3"]
