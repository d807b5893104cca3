"""Numbers that no model can have are refused: each forgery is found, and bounds hold for any predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from leaderboard_records import around, changed, fields
from stressbench import metrics, registry
from stressbench.leaderboard import jackknife, relations
from stressbench.record import Record
from stressbench.results.scoring import summary
from stressbench.tasks.classification import Classification


def found(record: dict[str, Any]) -> list[str]:
    suite, whole = registry.suite("corruption"), Record.model_validate(record)
    return [str(fault) for fault in (*relations.rows(suite, whole), *jackknife.faults(suite, whole))]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"error": 0.2004}, "error is 0.2004: of 1000 images, no count gives that"),
        ({"ece": 0.05}, "ece is 0.05, below the size of signed_ece, 0.1"),
        ({"signed_ece": -0.1251}, "ece is 0.125, below the size of signed_ece, -0.1251"),
        ({"brier": 0.09}, "brier is 0.09: with an error of 0.2 it is between 0.1 and 1.2"),
        ({"brier": 1.3, "nll": 9}, "brier is 1.3: with an error of 0.2 it is between 0.1 and 1.2"),
        ({"nll": 0.13, "brier": 0.1}, "nll is 0.13: with an error of 0.2 it is 0.138629 or more"),
        ({"nll": 0.5, "brier": 0.6}, "nll is 0.5: with a brier of 0.6 it is 0.73662 or more"),
        (
            {"signed_ece": 0.25, "ece": 0.3},
            "signed_ece is 0.25: with an error of 0.2 the mean confidence would be 1.05",
        ),
    ],
)
def test_numbers_of_one_condition_that_cannot_be_together(values: dict[str, float], line: str) -> None:
    record = fields()
    record["conditions"][7]["metrics"] |= {"nll": 1.0} | values
    assert line in [one.partition("conditions.7.metrics: ")[2] for one in found(record)]


def test_they_are_found_at_each_number_of_draws() -> None:
    record = changed(fields(curve={1: 0.3, 5: 0.2}), ("conditions", 3, "curves", "ece", "1"), 0.01)
    assert found(record) == ["conditions.3.curves at 1: ece is 0.01, below the size of signed_ece, 0.1"]


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 5.0, 50.0])
@pytest.mark.parametrize("classes", [2, 10])
def test_no_predictions_are_out_of_bounds(sharpness: float, classes: int) -> None:
    """Real scores of random predictions, of certain and wrong ones, and of ties between two classes."""
    generator = torch.Generator().manual_seed(0)
    logits = sharpness * torch.randn(40, classes, generator=generator)
    logits[:10, :2] = logits.max() + 1
    labels = torch.randint(classes, (40,), generator=generator)
    task = Classification(classes)
    columns = task.observe(logits.log_softmax(-1)[None], labels)
    import pandas as pd

    row = task.score(pd.DataFrame({name: column.numpy() for name, column in columns.items()}))
    aurc = metrics.aurc(columns["confidence"], columns["correct"])
    assert [*relations._bounds(row | {"aurc": aurc}, 40, classes)] == []


def test_the_bound_of_nll_by_brier_is_the_least_ratio() -> None:
    p = np.linspace(1e-6, 1 - 1e-6, 200_001)  # of the true class; all the rest on one other class
    assert (-np.log(p) / (2 * (1 - p) ** 2)).min() == pytest.approx(relations._NLL_OF_BRIER, abs=1e-4)


def test_the_area_under_the_risk_coverage_curve_is_between_the_best_and_the_worst_order() -> None:
    right = torch.tensor([1.0] * 7 + [0.0] * 3)
    best, worst = (metrics.aurc(sign * torch.arange(10.0), right) for sign in (-1, 1))
    for value, faults in ((best, 0), (worst, 0), (best - 0.001, 1), (worst + 0.001, 1)):
        assert len([*relations._bounds({"accuracy": 0.7, "aurc": value}, 10, 10)]) == faults


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"accuracy": 0.3, "asr": 0.5, "images": 100, "attackable": 60}, None),
        ({"accuracy": 0.29, "asr": 0.5, "images": 100, "attackable": 60}, "with an asr of 0.5 it is 0.3 to 0.7"),
        ({"accuracy": 0.71, "asr": 0.5, "images": 100, "attackable": 60}, "with an asr of 0.5 it is 0.3 to 0.7"),
        ({"accuracy": 0.3, "asr": None, "images": 50, "attackable": 60}, "attackable is 60, and there are 50 images"),
        (
            {"accuracy": 0.3, "asr": 0.5, "images": 100, "attackable": 60, "robust_accuracy": 0.31},
            "robust_accuracy is 0.31, more than the accuracy",
        ),
    ],
)
def test_an_attacks_success_and_the_accuracy_left_agree(row: dict[str, float | None], words: str | None) -> None:
    lines = [*relations._attack(row, 100)]
    assert (not lines) if words is None else words in lines[0]


def test_a_share_of_attacked_images_is_a_count_of_them() -> None:
    suite = registry.suite("adversarial")
    row = {metric.name: None for metric in suite.row_metrics}
    right = row | {"accuracy": 0.5, "images": 40.0, "attackable": 30.0, "asr": 1 / 3}
    assert [*relations._counts(suite, right, 100)] == []
    assert [*relations._counts(suite, right | {"asr": 0.34}, 100)] == ["asr is 0.34: of 30 images, no count gives that"]
    (line,) = relations._counts(suite, row | {"images": 101.0, "accuracy": 0.5}, 100)
    assert line == "images is 101: it is a number of the 100 images"


# --- the jackknife --------------------------------------------------------------------------------------------


def shifted(name: str, by: Sequence[float] | float) -> dict[str, Any]:
    record = around()
    record["jackknife"][name]["1"] = (np.array(record["jackknife"][name]["1"]) + by).tolist()
    return record


def test_a_consistent_jackknife_is_right() -> None:
    assert found(around()) == []
    assert found(around(curve={1: 0.3, 5: 0.2})) == []


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (shifted("mean_error", 0.001), "jackknife.mean_error.1: is around 0.201, and the metric is 0.2"),
        (shifted("mean_nll", 0.001), "jackknife.mean_nll.1: is around"),
        (shifted("mean_ece", 0.1), "jackknife.mean_ece.1: is around 0.225, and the metric is 0.125"),
        (shifted("clean_error", [1e-4, -1e-4] * 10), "jackknife.clean_error.1: holds a share that no count"),
        (around(half=0.0005), "intervals.mean_error.1: is ± 0.0005, narrower than its conditions allow: 0.0007"),
    ],
)
def test_a_jackknife_that_is_not_of_the_value(record: dict[str, Any], line: str) -> None:
    assert any(one.startswith(line) for one in found(record)), found(record)


def test_a_group_does_not_have_more_errors_than_images() -> None:
    record = around()
    without = np.full(20, 0.2) * 950
    without[0], without[1] = 130, 250  # 70 and −50 of 50 images
    record["jackknife"]["clean_error"]["1"] = (without / 950).tolist()
    assert "jackknife.clean_error.1: leaves out more images than a group has" in found(record)


def test_aggregates_without_a_group_follow_from_the_conditions_without_it() -> None:
    suite, record = registry.suite("corruption"), around()
    parts = {"error": 0.2, "nll": None, "ece": 0.125}
    for row in record["conditions"]:
        row["jackknife"] = {
            name: [value if value is not None else row["metrics"]["nll"]] * 20 for name, value in parts.items()
        }
    whole = Record.model_validate(record)
    again = summary(suite, [row.condition for row in whole.conditions], [row.metrics for row in whole.conditions], None)
    lines = found(record)
    assert any(line.startswith("jackknife.") and "without group 0" in line for line in lines)
    for name, sizes in record["jackknife"].items():
        sizes["1"] = None if again[name] is None else [again[name]] * 20
    assert [line for line in found(record) if "so alike" not in line] == []
