"""`bench compare`: intervals and tests against independent ones, what it says, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from harness.made_runs import bench, fake_suites, made
from stressbench.compare.pairs import Comparison, compare
from stressbench.compare.statistics import Numbers, holm, interval, p_value
from stressbench.errors import UserError
from stressbench.terminal import Screen

CORRUPTION = "corruption,corruptions=fog,severities=3"
Table = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A deterministic and a stochastic model through each suite, by suite and model."""
    out = tmp_path_factory.mktemp("runs")
    with fake_suites(tmp_path_factory.mktemp("site")):
        yield {
            f"{suite} {model}": made(out, CORRUPTION if suite == "corruption" else suite, model)
            for suite in ("corruption", "bands", "budgets", "frames")
            for model in ("tiny", "dropped")
        }


def compared(paths: list[Path], resamples: int = 300, seed: int = 0) -> Comparison:
    return compare(paths, resamples, seed, Screen())


def tables(run: Path) -> list[Table]:
    """A run's tables, in the order of its record, by what they say of themselves."""
    import pyarrow.parquet as pq

    found = {}
    for path in (run / "tables").iterdir():
        table = pq.read_table(path)
        condition = json.loads(table.schema.metadata[b"stressbench"])["condition"]
        found[json.dumps(condition)] = {name: table[name].to_numpy() for name in table.column_names}
    rows = json.loads((run / "record.json").read_text())["conditions"]
    return [found[json.dumps(row["condition"])] for row in rows]


# --- metrics, written again -----------------------------------------------------------------------------------


def ece(table: Table, rows: np.ndarray) -> float:
    confidence, correct = table["confidence"][rows].astype(float), table["correct"][rows].astype(float)
    total = 0.0
    for low in range(10):
        inside = (confidence > low / 10) & (confidence <= (low + 1) / 10)
        if inside.any():
            total += inside.mean() * abs(confidence[inside].mean() - correct[inside].mean())
    return total


METRICS: dict[str, Callable[[list[Table], np.ndarray], float]] = {
    "clean_error": lambda tables, rows: float(1 - tables[0]["correct"][rows].mean()),
    "clean_nll": lambda tables, rows: float(tables[0]["nll"][rows].astype(float).mean()),
    "clean_ece": lambda tables, rows: ece(tables[0], rows),
    # Over conditions, so that an image must stay together with itself.
    "worst_accuracy": lambda tables, rows: min(float(table["correct"][rows].mean()) for table in tables),
}


def plain_bootstrap(both: list[list[Table]], metric: str, resamples: int, seed: int) -> list[tuple[float, float]]:
    """The basic intervals of the first, of the second and of the difference."""
    of, n = METRICS[metric], len(both[0][0]["index"])
    generator = np.random.default_rng(seed)
    values = np.array([[of(one, rows) for one in both] for rows in generator.integers(n, size=(resamples, n))])
    estimate = [of(one, np.arange(n)) for one in both]
    found = []
    for samples, point in ((values[:, 0], estimate[0]), (values[:, 1], estimate[1]),
                           (values[:, 1] - values[:, 0], estimate[1] - estimate[0])):  # fmt: skip
        low, high = np.percentile(samples, [2.5, 97.5])
        found.append((2 * point - high, 2 * point - low))
    return found


def assert_confirmed(comparison: Comparison, resamples: int) -> None:
    """The intervals of the one pair are those of a plain bootstrap, up to the chance in both."""
    both = [tables(run.path) for run in comparison.runs]
    for difference in comparison.pairs[0].differences:
        ours = [e.interval for e in (difference.first, difference.second, difference.difference)]
        for got, expected in zip(ours, plain_bootstrap(both, difference.metric.name, resamples, 7), strict=True):
            assert got is not None
            width = expected[1] - expected[0]
            # The standard error of a 2.5 % quantile is near 2.7 % of the interval's width from 1,000 resamples of a
            # normal number; errors come in steps of one image.
            tolerance = 5 * 0.027 * width * math.sqrt(2 * 1000 / resamples) + 1 / len(both[0][0]["index"])
            assert got == pytest.approx(expected, abs=tolerance), difference.metric.name


def test_intervals_are_those_of_a_plain_bootstrap(runs: dict[str, Path]) -> None:
    for suite, names in (("corruption", {"clean_error", "clean_nll", "clean_ece"}), ("bands", {"worst_accuracy"})):
        comparison = compared([runs[f"{suite} tiny"], runs[f"{suite} dropped"]], 250)
        (pair,) = comparison.pairs
        assert {d.metric.name for d in pair.differences} == names
        assert_confirmed(comparison, 250)


def test_the_public_resnet20_with_and_without_dropout(shared: Path, tmp_path: Path) -> None:
    found = [
        made(tmp_path, CORRUPTION, model, "--dataset", "cifar10", "--data-dir", shared / "data" / "cifar10",
             "--weights", shared / "weights" / "cifar10_resnet20_public.th", "--limit", 100, "--draws", 4)
        for model in ("public-resnet20", "infer-dropout:public-resnet20,rate=0.1,location=2")
    ]  # fmt: skip
    comparison = compared(found, 250)
    assert [run.record.draws for run in comparison.runs] == [1, 4]
    assert_confirmed(comparison, 250)
    values = {d.metric.name: (d.first.value, d.second.value) for d in comparison.pairs[0].differences}
    for run, place in zip(found, (0, 1), strict=True):
        recorded = json.loads((run / "record.json").read_text())["metrics"]
        assert all(pair[place] == recorded[name] for name, pair in values.items())


# --- the test -------------------------------------------------------------------------------------------------


def test_p_is_that_of_all_exchanges(tmp_path: Path) -> None:
    found = [made(tmp_path, CORRUPTION, model, "--limit", 8) for model in ("tiny", "dropped")]
    resamples = 400
    (pair,) = compared(found, resamples).pairs
    clean = [tables(run)[0] for run in found]
    n = len(clean[0]["index"])
    for difference in pair.differences:
        of, observed, extreme = METRICS[difference.metric.name], None, 0
        for exchanged in product((False, True), repeat=n):
            mixed = [[{name: np.where(exchanged, b[name], a[name]) for name in a}] for a, b in (clean, reversed(clean))]
            change = of(mixed[1], np.arange(n)) - of(mixed[0], np.arange(n))
            observed = change if observed is None else observed
            extreme += abs(change) >= abs(observed) - 1e-9
        exact = extreme / 2**n
        assert difference.p == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / resamples) + 2 / resamples)
    assert any(difference.p < 1 for difference in pair.differences)


def test_p_is_small_by_chance_as_often_as_it_says() -> None:
    """Two models that differ by chance alone: p ≤ 0.05 in about one comparison of twenty."""
    generator = np.random.default_rng(0)
    found = 0
    for _ in range(400):
        differences = generator.exponential(size=60) * generator.choice([-1, 1], size=60)
        permuted = (generator.choice([-1, 1], size=(199, 60)) * differences).mean(axis=1)
        found += p_value(differences.mean(), permuted) <= 0.05
    assert 0.025 <= found / 400 <= 0.08


def test_p_counts_what_is_as_large_and_what_is_not_defined() -> None:
    assert p_value(-2.0, np.array([2.0, 1.9, -2.0 - 1e-13, math.nan])) == 4 / 5
    assert p_value(2.0, np.zeros(99)) == 1 / 100
    assert p_value(0.0, np.zeros(9)) == 1


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []


# --- the interval ---------------------------------------------------------------------------------------------


@given(
    st_numpy.arrays(float, st.integers(2, 30), elements=st.floats(-100, 100)),
    st.floats(-100, 100),
    st.floats(0.1, 10),
    st.floats(-10, 10),
)
def test_an_interval_moves_with_its_numbers(values: Numbers, estimate: float, scale: float, shift: float) -> None:
    found = interval(estimate, values)
    assert found is not None
    moved = interval(scale * estimate + shift, scale * values + shift)
    assert moved == pytest.approx([scale * end + shift for end in found], abs=1e-6)
    turned = interval(-estimate, -values)
    assert turned == pytest.approx([-found[1], -found[0]], abs=1e-6)


def test_an_interval_of_what_is_not_defined_is_none() -> None:
    assert interval(1.0, np.array([1.0, math.nan])) is None


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Error and NLL as they say; the ECE of few images less often, but far more often than by percentiles."""
    generator = np.random.default_rng(0)
    n, resamples, worlds = 150, 300, 300

    def draw(size: int) -> tuple[Numbers, Numbers, Numbers]:
        confidence = generator.uniform(0.2, 0.95, size)
        correct = (generator.random(size) < confidence - 0.05).astype(float)
        return confidence, correct, np.where(correct == 1, -np.log(confidence), -np.log1p(-confidence))

    def numbers(confidence: Numbers, correct: Numbers, nll: Numbers, weights: Numbers) -> Numbers:
        gaps = np.eye(10)[np.minimum((confidence * 10).astype(int), 9)] * (correct - confidence)[:, None]
        total = weights.sum(axis=1)
        return (
            np.stack([1 - weights @ correct, weights @ nll, np.abs(weights @ gaps).sum(axis=1)], axis=1)
            / total[:, None]
        )

    truth = numbers(*draw(400_000), np.ones((1, 400_000)))[0]
    assert truth[2] == pytest.approx(0.05, abs=0.005)
    basic, percentile = np.zeros(3), np.zeros(3)
    for _ in range(worlds):
        seen = draw(n)
        estimate = numbers(*seen, np.ones((1, n)))[0]
        resampled = numbers(*seen, generator.multinomial(n, np.full(n, 1 / n), resamples).astype(float))
        for i in range(3):
            ends = interval(estimate[i], resampled[:, i])
            assert ends is not None
            basic[i] += ends[0] <= truth[i] <= ends[1]
            low, high = np.quantile(resampled[:, i], [0.025, 0.975])
            percentile[i] += low <= truth[i] <= high
    basic, percentile = basic / worlds, percentile / worlds
    assert (np.abs(basic[:2] - 0.95) < 0.045).all()
    assert basic[2] > 0.75
    assert percentile[2] < 0.5


# --- what it says ---------------------------------------------------------------------------------------------


def test_the_same_model_and_seed_are_equal(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = made(tmp_path, CORRUPTION, "dropped")
    arguments = ("compare", runs["corruption dropped"], again, "--resamples", 60)
    assert bench(*arguments) == 0
    assert "A and B are equal: every number in every table is the same" in capsys.readouterr().out
    assert bench(*arguments, "--json") == 0
    (pair,) = json.loads(capsys.readouterr().out)["pairs"]
    assert pair["identical"]
    for metric in pair["metrics"].values():
        assert (metric["verdict"], metric["p"], metric["difference"]) == ("equal", 1, 0)
        assert metric["difference_low"] == metric["difference_high"] == 0
        assert metric["first_low"] < metric["first"] < metric["first_high"]
    assert bench(*arguments, "--markdown") == 0
    assert "A and B are equal: every number in every table is the same." in capsys.readouterr().out


def test_a_large_difference_is_told_from_noise_and_all_forms_agree(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("compare", runs["bands tiny"], runs["bands dropped"], runs["bands tiny"], "--resamples", 20)
    assert bench(*arguments, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [(pair["first"], pair["second"], pair["identical"]) for pair in told["pairs"]] == [
        (0, 1, False),
        (0, 2, True),
    ]
    metric = told["pairs"][0]["metrics"]["worst_accuracy"]
    assert bench(*arguments, "--csv") == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [line["second_model"] for line in lines] == ["dropped", "tiny"]
    for name in ("first", "second_high", "difference_low", "p_holm"):
        assert float(lines[0][name]) == metric[name]
    assert bench(*arguments) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"worst_accuracy ↑ {100 * metric['first']:.1f} % {100 * metric['second']:.1f} %" in shown
    assert "A tiny (" in shown
    assert "B dropped, 3 draws (" in shown
    assert "A and C are equal" in shown
    assert bench(*arguments, "--markdown") == 0
    marked = capsys.readouterr().out
    assert f"{100 * metric['difference']:+.2f} pp" in marked
    assert r"worst\_accuracy" in marked


def fails(run: Path, where: Path, wrong: int) -> Path:
    """A copy of a run whose clean table has every prediction right but `wrong` of them, and a record that says so."""
    import pyarrow.parquet as pq

    shutil.copytree(run, where)
    for path in (where / "tables").iterdir():
        table = pq.read_table(path)
        frame = table.to_pandas()
        frame["correct"] = np.arange(len(frame)) >= wrong
        written = pd.DataFrame(frame)
        import pyarrow

        pq.write_table(
            pyarrow.Table.from_pandas(written, preserve_index=False).replace_schema_metadata(table.schema.metadata),
            path, write_page_checksum=True,
        )  # fmt: skip
    record = json.loads((where / "record.json").read_text())
    record["metrics"]["worst_accuracy"] = 1 - wrong / 40
    (where / "record.json").write_text(json.dumps(record))
    return where


def test_verdicts_name_the_better_run(runs: dict[str, Path], tmp_path: Path) -> None:
    bad, good, near = (
        fails(runs["bands tiny"], tmp_path / name, wrong) for name, wrong in (("bad", 30), ("good", 5), ("near", 6))
    )
    comparison = compared([bad, good, near, bad], 50)
    assert [pair.differences[0].verdict for pair in comparison.pairs] == [
        "second is better", "second is better", "equal"
    ]  # fmt: skip
    (pair,) = compared([good, bad], 50).pairs
    assert pair.differences[0].verdict == "first is better"
    assert pair.differences[0].p_holm == 1 / 51
    (pair,) = compared([good, near], 50).pairs
    assert pair.differences[0].verdict == "within noise"
    assert pair.differences[0].p == 1


def test_the_same_seed_gives_the_same_numbers(runs: dict[str, Path]) -> None:
    both = [runs["frames tiny"], runs["frames dropped"]]
    assert compared(both, 60).pairs == compared(both, 60).pairs
    assert compared(both, 60).pairs != compared(both, 60, seed=1).pairs


def test_a_suite_may_look_images_up_by_their_index(runs: dict[str, Path]) -> None:
    (pair,) = compared([runs["budgets tiny"], runs["budgets dropped"]], 60).pairs
    assert pair.differences[0].difference.interval is not None


# --- what it refuses ------------------------------------------------------------------------------------------


def refused(*arguments: object, capsys: pytest.CaptureFixture[str]) -> str:
    assert bench("compare", "--resamples", 60, *arguments) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("suite", "arguments", "words"),
    [
        ("bands", (), "its suite is bands and the other's is budgets"),
        ("budgets", ("--limit", 12), "its number of images is 12 and the other's is 40"),
        ("budgets", ("--seed", 3), "its seed is 3 and the other's is 0"),
        ("budgets,half=true", (), "its list of suite options is half=true and the other's is empty"),
    ],
)
def test_runs_of_something_else_are_refused(
    suite: str, arguments: tuple[object, ...], words: str,
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    other = made(tmp_path, suite, "tiny", *arguments)
    line = refused(runs["budgets tiny"], other, capsys=capsys)
    assert line.startswith(f"bench: {other} does not compare with {runs['budgets tiny']}: ")
    assert words in line


def test_other_conditions_and_baselines_are_refused(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = made(tmp_path / "a", "corruption,corruptions=snow,severities=3", "tiny")
    assert "fog, severity 3 is in" in refused(runs["corruption tiny"], other, capsys=capsys)
    normalised = made(tmp_path / "b", CORRUPTION, "tiny", "--baseline", runs["corruption tiny"] / "record.json")
    assert "different baselines" in refused(runs["corruption tiny"], normalised, capsys=capsys)


def changed(run: Path, **fields: Any) -> None:
    record = json.loads((run / "record.json").read_text())
    for name, value in fields.items():
        record[name] = {**record[name], **value} if isinstance(value, dict) else value
    (run / "record.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        (lambda run: (run / "tables" / "fade.parquet").unlink(), "fade.parquet is missing: give the same `bench run`"),
        (lambda run: (run / "tables" / "fade.parquet").write_bytes(b"PAR1"), "is damaged (it does not read)"),
        (lambda run: shutil.copy(run / "tables" / "glow.parquet", run / "tables" / "fade.parquet"), "another run"),
        (lambda run: (run / "run.json").unlink(), "has no run.json that can be read"),
        (lambda run: (run / "run.json").write_text("{}"), "is damaged (it belongs to another run)"),
        (lambda run: (run / "record.json").unlink(), "record.json does not exist"),
        (lambda run: changed(run, metrics={"relative_confidence": 0.5}), "its record says 0.5"),
        (lambda run: changed(run, suite={"version": "0"}), "its suite's version is 0"),
    ],
)
def test_a_broken_run_is_told_in_a_line(
    breaks: Callable[[Path], object], words: str,
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    copy = tmp_path / "copy"
    shutil.copytree(runs["frames tiny"], copy)
    breaks(copy)
    assert words in refused(runs["frames tiny"], copy, capsys=capsys)


def test_an_outdated_version_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    copies = [tmp_path / "a", tmp_path / "b"]
    for copy in copies:
        shutil.copytree(runs["frames tiny"], copy)
        changed(copy, suite={"version": "0"})
    with pytest.raises(UserError, match="version 0 of the frames suite and version 1 is installed: run it again"):
        compared(copies)


def test_wrong_words(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    one = runs["corruption tiny"]
    assert "takes 2 to 26 runs, and 1 are given" in refused(one, capsys=capsys)
    assert "record.json is a record without its tables" in refused(one, one / "record.json", capsys=capsys)
    assert "--csv and --json exclude each other" in refused(one, one, "--json", "--csv", capsys=capsys)
    assert "does not exist" in refused(one, one.parent / "nothing", capsys=capsys)
    line = refused(one, runs["corruption dropped"], "--resamples", 59, capsys=capsys)
    assert "59 resamples cannot show a difference in any of 3 metrics: give --resamples 60 or more" in line
