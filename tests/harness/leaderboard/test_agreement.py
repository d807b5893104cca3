"""When a replay agrees with its record: tolerances of metrics, of their mean over conditions, and of rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from leaderboard_records import fields
from stressbench.contracts import Metric
from stressbench.leaderboard.agreement import Agreement, allowed, allowed_rows, compare, systematic
from stressbench.record import Precision, Record
from stressbench.results.sketches import sketch

METRICS = (Metric("error", "fraction", "lower"), Metric("nll", "nats", "lower"))
CONDITIONS, N = 24, 1000
Change = Callable[[pd.DataFrame, np.random.Generator], None]


def tables() -> list[pd.DataFrame]:
    """Tables as a classifier leaves them, of 20 % wrong images with heavy-tailed losses."""
    generator, found = np.random.default_rng(1), []
    for _ in range(CONDITIONS):
        right = generator.random(N) > 0.2
        nll = generator.exponential(np.where(right, 0.3, 2.5))
        found.append(pd.DataFrame({"correct": right, "nll": nll.astype(np.float32)}))
    return found


def record(of: list[pd.DataFrame], with_sketches: bool = True) -> Record:
    made = fields()
    made["conditions"] = made["conditions"][:CONDITIONS]
    for row, table in zip(made["conditions"], of, strict=True):
        row["metrics"] = {"error": 1 - float(table["correct"].mean()), "nll": float(table["nll"].mean())}
    made["sketches"] = [sketch(table) for table in of] if with_sketches else []
    return Record.model_validate(made)


def compared(change: Change, precision: Precision = "float32", with_sketches: bool = True) -> Agreement:
    """A record of changed tables against one of the true ones."""
    true, claimed, generator = tables(), tables(), np.random.default_rng(2)
    for table in claimed:
        change(table, generator)
    return compare(METRICS, record(claimed, with_sketches), record(true), true, precision)


def rounding(scale: float, flips: int) -> Change:
    """What another device does: every loss a little, and some images to the other side."""

    def change(table: pd.DataFrame, generator: np.random.Generator) -> None:
        table["nll"] *= 1 + scale * generator.normal(0, 1, N)
        turned = generator.choice(N, flips, replace=False)
        table.loc[turned, "correct"] = ~table.loc[turned, "correct"]

    return change


def lower_error(by: float) -> Change:
    """As many more right images as that, chosen among the wrong ones."""

    def change(table: pd.DataFrame, _: np.random.Generator) -> None:
        wrong = table.index[~table["correct"]][: round(by * N)]
        table.loc[wrong, "correct"] = True

    return change


def shuffled(table: pd.DataFrame, generator: np.random.Generator) -> None:
    """Every mean is right to the last bit, and no row is."""
    for name in table:
        table[name] = generator.permutation(table[name])


@pytest.mark.parametrize(("precision", "scale", "flips"), [("float32", 1e-5, 2), ("bfloat16", 1e-2, 10)])
def test_rounding_agrees(precision: Precision, scale: float, flips: int) -> None:
    found = compared(rounding(scale, flips), precision)
    assert (found.differing, found.biased) == (0, [])
    assert 0 < found.rows["nll"] < 0.05


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_systematic_lie_below_the_tolerance_does_not_hold(precision: Precision) -> None:
    """0.015 less error in each condition, in bfloat16 within its tolerance of 0.02, with sketches to match or none."""
    for with_sketches in (True, False):
        found = compared(lower_error(0.015), precision, with_sketches)
        assert any(line.startswith("error: 0.015 lower in the record on average") for line in found.biased)
        assert (found.differing == CONDITIONS) == (precision == "float32")


@pytest.mark.parametrize(("precision", "least"), [("float32", CONDITIONS), ("bfloat16", 0.9 * CONDITIONS)])
def test_made_up_rows_do_not_hold_where_their_means_do(precision: Precision, least: float) -> None:
    assert compared(shuffled, precision, with_sketches=False).differing == 0
    found = compared(shuffled, precision)
    assert found.differing >= least
    assert found.biased == []
    assert "from image to image, over" in found.lines[0]
    assert found.rows["nll"] == pytest.approx(np.sqrt(2) * tables()[0]["nll"].std(), rel=0.8)


def test_columns_that_one_side_lacks_are_not_compared() -> None:
    true = tables()
    theirs = record([table.drop(columns="nll").assign(nll=table["nll"], other=1.0) for table in true])
    assert compare(METRICS, theirs, record(true), true, "float32").rows.keys() == {"correct", "nll"}
    assert compared(rounding(1e-5, 2), with_sketches=False).rows == {}


def test_the_tolerances_are_what_they_are_said_to_be() -> None:
    fraction, nats = METRICS
    assert allowed(fraction, 0.3, 10_000, "float32") == 0.005
    assert allowed(fraction, 0.3, 100, "float32") == 0.02  # two images
    assert allowed(nats, 0.5, 100, "float32") == 0.001
    assert allowed(nats, 4.0, 100, "float32") == 0.004
    assert allowed(nats, 4.0, 100, "bfloat16") == 0.08
    assert systematic(24) * allowed(fraction, 0.3, 1000, "bfloat16") == pytest.approx(0.02 / 3)
    ones = np.ones(100)
    assert allowed_rows(ones, 100, "float32") == pytest.approx(2 * (0.001 + np.sqrt(0.02)))  # whole numbers differ by 1
    assert allowed_rows(ones / 2, 100, "float32") == pytest.approx(2 * 0.001)
    values = np.array([0.5, 8.5])
    assert allowed_rows(values, 10_000, "float32") == pytest.approx(2 * (0.0085 + 8 * np.sqrt(0.005)))
    assert scipy.stats.chi2(8).sf(8 * 2**2) < 1e-4
