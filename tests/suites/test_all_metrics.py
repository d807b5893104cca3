"""`--metrics all`: what it adds to conditions and records, from tables that are read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stressbench import registry
from stressbench.cli import main
from stressbench.errors import UserError


def run(out: Path, suite: str, *words: str) -> tuple[dict[str, Any], pd.DataFrame]:
    """The record of thirty images under fog, and the table of the fog."""
    narrow = ("--model", "tiny", "--corruptions", "fog", "--severities", "3", "--limit", "30", "--out", str(out))
    with pytest.raises(SystemExit) as ended:
        main(["run", "--suite", suite, *narrow, *words])
    assert ended.value.code == 0
    (folder,) = out.iterdir()
    return json.loads((folder / "record.json").read_text()), pd.read_parquet(next(folder.glob("tables/*fog*")))


def test_the_corruption_suite_adds_calibration_from_probabilities(tmp_path: Path) -> None:
    record, table = run(tmp_path, "corruption", "--metrics", "all")
    fog = record["conditions"][1]["metrics"]
    p, y = np.stack(table["probabilities"].to_list()).astype(np.float64), table["label"].to_numpy()
    assert p.sum(axis=1) == pytest.approx(1, abs=1e-5)
    errors = []
    for c in range(10):
        bins = np.ceil(p[:, c] * 10).clip(1)
        gaps = [abs((y[bins == b] == c).sum() - p[bins == b, c].sum()) for b in np.unique(bins)]
        errors.append(sum(gaps) / len(y))
    assert fog["classwise_ece"] == pytest.approx(np.mean(errors), abs=1e-6)
    terms = fog["brier_miscalibration"] - fog["brier_discrimination"] + fog["brier_uncertainty"]
    assert terms == pytest.approx(np.square(table["confidence"] - table["correct"]).mean(), abs=1e-6)
    assert record["metrics"]["clean_smooth_ece"] == record["conditions"][0]["metrics"]["smooth_ece"]
    assert record["metrics"]["mean_mce"] is None  # of a run that was narrowed


def test_the_uncertainty_suite_adds_what_leaving_images_out_gains(tmp_path: Path) -> None:
    record, table = run(tmp_path, "uncertainty", "--metrics", "all")
    fog = record["conditions"][1]["metrics"]
    sure = table["confidence"] > 0.9
    assert fog["acc_90"] is None if not sure.any() else fog["acc_90"] == table.loc[sure, "correct"].mean()
    assert fog["unc_90"] == pytest.approx(1 - sure[~table["correct"]].mean())
    assert fog["freq_90"] == pytest.approx(sure.mean())
    kept = table.sort_values("confidence", ascending=False, kind="stable").head(24)
    assert fog["risk_at_80"] == pytest.approx(1 - kept["correct"].mean())
    assert {"clean_augrc", "mean_adaptive_ece"} <= record["metrics"].keys()


def test_standard_metrics_keep_tables_and_records_as_they_are(tmp_path: Path) -> None:
    record, table = run(tmp_path, "corruption")
    assert "probabilities" not in table
    assert set(record["conditions"][1]["metrics"]) == {"error", "nll", "ece", "signed_ece", "brier"}


def test_dense_tasks_have_the_standard_metrics_alone() -> None:
    with pytest.raises(UserError, match="metrics=all is for classification"):
        registry.suite("corruption", {"metrics": "all"}, "segmentation")
