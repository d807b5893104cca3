"""Sketches: what eight numbers a column tell of the difference of two tables, and what a record keeps of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stressbench import record as records
from stressbench.cli import main
from stressbench.results import tables
from stressbench.results.sketches import MOST_COLUMNS, column, distance, sketch


def of(values: np.ndarray) -> str:
    return sketch(pd.DataFrame({"x": list(values) if values.ndim > 1 else values}))["x"]


@pytest.mark.parametrize("width", [(), (3,)])
def test_the_distance_is_that_of_the_rows_row_by_row(width: tuple[int, ...]) -> None:
    """Over tables of 400 lengths, the mean square is the true one, and the bounds are those of the docstring."""
    generator, ratios = np.random.default_rng(0), []
    for n in generator.integers(20, 1000, 400):
        one, other = generator.normal(5, 1, (n, *width)), generator.exponential(5, (n, *width))
        ratios.append(distance(of(one), of(other)) / np.sqrt(np.mean((one - other) ** 2)))
        assert distance(of(one), of(one)) == 0
    assert np.mean(np.square(ratios)) == pytest.approx(1, abs=0.1)
    assert np.mean((np.array(ratios) > 0.45) & (np.array(ratios) < 1.6)) > 0.95


def test_rows_in_another_order_have_the_same_mean_and_another_sketch() -> None:
    values = np.random.default_rng(0).normal(0, 1, 1000)
    assert distance(of(values), of(np.roll(values, 1))) == pytest.approx(np.sqrt(2), rel=0.5)


def test_what_is_not_a_measurement_or_unknown_is_left_out() -> None:
    table = pd.DataFrame({"index": [0, 1], "label": [3, 4], "draws": [1, 1], "right": [True, False]})
    assert list(sketch(table)) == ["right"]
    assert of(np.array([1.0, np.nan])) == of(np.array([1.0, 0.0]))
    assert column(pd.DataFrame({"x": [[1.0, 2.0], [3.0, np.nan]]}), "x").tolist() == [1, 2, 3, 0]
    assert of(np.array([], dtype=float)) == " ".join(["0"] * 8)


def test_a_record_has_the_sketches_of_its_tables_and_they_stay_small(tmp_path: Path) -> None:
    words = ["--model", "tiny,width=4", "--limit", "7", "--out", str(tmp_path), "-o", "severities=1,2"]
    with pytest.raises(SystemExit) as done:
        main(["run", *words, "-o", "corruptions=fog"])
    assert done.value.code == 0
    (folder,) = tmp_path.iterdir()
    record = records.load(folder)
    stored = tables.finished(folder)
    for row, sketches in zip(record.conditions, record.sketches, strict=True):
        found = stored.read(row.condition, row.n)
        assert found is not None
        assert sketches == sketch(found[0][record.draws])
        assert {"correct", "nll", "confidence"} <= sketches.keys()
    wide = sketch(pd.DataFrame(np.full((5, 200), -1.23456789e-17)).add_prefix("x"))
    assert len(wide) == MOST_COLUMNS
    assert max(len(text) for text in wide.values()) < 8 * 13
