"""`bench compare`: intervals and tests against independent ones, what it says, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from bench.simulate_comparisons import METRICS as METRIC_KINDS
from bench.simulate_comparisons import compared as simulate
from fake_suites import Bands
from harness.made_runs import bench, fake_suites, made
from stressbench._util.terminal import Screen
from stressbench.comparison.pairs import Comparison, compare
from stressbench.comparison.statistics import holm, p_value
from stressbench.contracts import Metric
from stressbench.errors import UserError
from stressbench.results.show import change

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


def compared(paths: list[Path]) -> Comparison:
    return compare(paths, Screen())


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


def assert_confirmed(comparison: Comparison) -> None:
    """Intervals and p of the one pair are those of a jackknife that is written again."""
    both = [tables(run.path) for run in comparison.runs]
    n = len(both[0][0]["index"])
    group = np.random.default_rng(0).permutation(n) % 20
    for found in comparison.pairs[0].differences:
        of = METRICS[found.metric.name]
        values = np.array([of(each, np.arange(n)) for each in both])
        without = np.array([[of(each, np.flatnonzero(group != g)) for each in both] for g in range(20)])
        for got, value, left in (
            (found.first, values[0], without[:, 0]),
            (found.second, values[1], without[:, 1]),
            (found.difference, values[1] - values[0], without[:, 1] - without[:, 0]),
        ):
            error = math.sqrt(19 / 20 * ((left - left.mean()) ** 2).sum())
            low, high = value + np.array([-1, 1]) * scipy.stats.t.ppf(0.975, 19) * error
            if got is not found.difference:
                low, high = max(low, found.metric.range[0]), min(high, found.metric.range[1])
            assert got.value == pytest.approx(value, abs=1e-6)
            if np.ptp(left) < 1e-12:
                assert got.interval is None
                continue
            assert got.interval == pytest.approx((low, high), abs=1e-6), found.metric.name
        if error > 1e-12:
            assert found.p == pytest.approx(2 * scipy.stats.t.sf(abs(values[1] - values[0]) / error, 19), abs=1e-5)


def test_intervals_and_tests_are_those_of_a_jackknife(runs: dict[str, Path]) -> None:
    for suite, names in (("corruption", {"clean_error", "clean_nll", "clean_ece"}), ("bands", {"worst_accuracy"})):
        comparison = compared([runs[f"{suite} tiny"], runs[f"{suite} dropped"]])
        (pair,) = comparison.pairs
        assert {d.metric.name for d in pair.differences} == names
        assert_confirmed(comparison)


def test_the_public_resnet20_with_and_without_dropout(shared: Path, tmp_path: Path) -> None:
    found = [
        made(tmp_path, CORRUPTION, model, "--dataset", "cifar10", "--data-dir", shared / "data" / "cifar10",
             "--weights", shared / "weights" / "cifar10_resnet20_public.th", "--limit", 100, "--draws", 4)
        for model in ("public-resnet20", "infer-dropout:public-resnet20,rate=0.1,location=2")
    ]  # fmt: skip
    comparison = compared(found)
    assert [run.record.draws for run in comparison.runs] == [1, 4]
    assert_confirmed(comparison)
    for run, place in zip(found, ("first", "second"), strict=True):
        record = json.loads((run / "record.json").read_text())
        for difference in comparison.pairs[0].differences:
            estimate, name = getattr(difference, place), difference.metric.name
            assert estimate.value == pytest.approx(record["metrics"][name], abs=1e-12)
            assert estimate.interval == pytest.approx(record["intervals"][name][str(record["draws"])], abs=1e-9)


def test_a_baseline_is_without_the_same_images(tmp_path: Path) -> None:
    first = made(tmp_path / "first", "corruption", "tiny", "--limit", 30)
    baseline = ("--limit", 30, "--baseline", first / "record.json")
    own, other = (made(tmp_path / model, "corruption", model, *baseline) for model in ("tiny", "dropped"))
    record = json.loads((own / "record.json").read_text())
    assert record["metrics"]["mCE"] == 1
    assert record["jackknife"]["mCE"]["1"] == [1] * 20
    assert record["intervals"]["mCE"]["1"] is None  # and not 92 to 108 %
    errors = [np.stack([~table["correct"].astype(bool) for table in tables(run)[1:]], 1) for run in (first, other)]
    group = np.random.default_rng(0).permutation(30) % 20
    sums = [[each[group != g].mean(0).reshape(15, 5).sum(1) for each in errors] for g in range(20)]
    again = [float((theirs / base).mean()) for base, theirs in sums]
    record = json.loads((other / "record.json").read_text())
    assert record["jackknife"]["mCE"][str(record["draws"])] == pytest.approx(again)
    (pair,) = compared([own, other]).pairs
    (found,) = (d for d in pair.differences if d.metric.name == "mCE")
    assert found.difference.value == pytest.approx(record["metrics"]["mCE"] - 1)
    assert found.difference.interval == pytest.approx(
        np.subtract(record["intervals"]["mCE"][str(record["draws"])], 1), abs=1e-9
    )


# --- the test -------------------------------------------------------------------------------------------------


def test_of_a_mean_of_few_images_it_is_the_paired_t_test(tmp_path: Path) -> None:
    (pair,) = compared([made(tmp_path, CORRUPTION, model, "--limit", 8) for model in ("tiny", "dropped")]).pairs
    one, two = (tables(run)[0]["nll"].astype(float) for run in sorted(tmp_path.iterdir()))
    (nll,) = (d for d in pair.differences if d.metric.name == "clean_nll")
    assert nll.p == pytest.approx(max(scipy.stats.ttest_rel(one, two).pvalue, 2**-7), abs=1e-6)


def test_it_finds_true_differences_of_every_kind_and_no_others() -> None:
    """Ranking metrics and correlations too, of models whose confidences are on different scales."""
    kinds = list(METRIC_KINDS)
    smooth = [i for i, kind in enumerate(kinds) if "ece" not in kind]
    alike = simulate(200, "alike", 12)[2] <= 0.05
    assert alike[:, smooth].mean() < 0.15
    assert (alike.sum(axis=0) <= 4).all()  # of 12 at 5 %: more in one of 5,000
    noisy = simulate(1000, "noisy", 6)[2] <= 0.05
    for kind in ("aurc", "auroc", "correlation"):
        assert noisy[:, kinds.index(kind)].mean() > 0.5


def test_p_is_never_below_what_the_groups_can_show() -> None:
    assert p_value(1.0, np.ones(3)) == 1 / 4  # all three agree: 2 of 8 signs
    assert p_value(-1.0, -np.ones(20)) == 2**-19
    assert p_value(1.0, 1 + 1e-9 * np.arange(5.0)) == 1 / 16
    assert p_value(0.0, np.array([-0.1, 0.1])) == 1


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []


# --- what it says ---------------------------------------------------------------------------------------------


def test_the_same_model_and_seed_are_equal(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = made(tmp_path, CORRUPTION, "dropped")
    arguments = ("compare", runs["corruption dropped"], again)
    assert bench(*arguments) == 0
    assert "A and B are equal: every number in every table is the same" in capsys.readouterr().out
    assert bench(*arguments, "--json") == 0
    (pair,) = json.loads(capsys.readouterr().out)["pairs"]
    assert pair["identical"]
    for metric in pair["metrics"].values():
        assert (metric["verdict"], metric["p"], metric["difference"]) == ("equal", 1, 0)
        assert metric["difference_low"] is metric["difference_high"] is None
        assert metric["first_low"] < metric["first"] < metric["first_high"]
    assert bench(*arguments, "--markdown") == 0
    assert "A and B are equal: every number in every table is the same." in capsys.readouterr().out


def test_a_large_difference_is_told_from_noise_and_all_forms_agree(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("compare", runs["bands tiny"], runs["bands dropped"], runs["bands tiny"])
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
        assert lines[0][name] == ("" if metric[name] is None else str(metric[name]))
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
    comparison = compared([bad, good, near, bad])
    assert [pair.differences[0].verdict for pair in comparison.pairs] == [
        "second is better", "second is better", "equal"
    ]  # fmt: skip
    (pair,) = compared([good, bad]).pairs
    assert pair.differences[0].verdict == "first is better"
    assert pair.differences[0].p_holm == pair.differences[0].p < 0.001
    (pair,) = compared([good, near]).pairs
    assert pair.differences[0].verdict == "within noise"
    assert pair.differences[0].p == pytest.approx(0.33, abs=0.02)  # one image of 40


def test_no_run_is_better_in_a_metric_without_a_direction(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = (fails(runs["bands tiny"], tmp_path / name, wrong) for name, wrong in (("bad", 30), ("good", 5)))
    monkeypatch.setattr(Bands, "metrics", (Metric("worst_accuracy", "fraction", None),))
    for both in ([bad, good], [good, bad]):
        (pair,) = compared(both).pairs
        assert pair.differences[0].verdict == "different"


def test_the_place_of_a_maximum_is_not_tested(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [fails(runs["bands tiny"], tmp_path / name, wrong) for name, wrong in (("bad", 30), ("good", 5))]
    monkeypatch.setattr(Bands, "metrics", (Metric("worst_accuracy", "fraction", "higher", interval=None),))
    (pair,) = compared(both).pairs
    (found,) = pair.differences
    assert (found.verdict, found.p, found.p_holm) == ("not tested", None, None)
    assert found.first.interval is found.second.interval is found.difference.interval is None
    assert bench("compare", *both) == 0
    assert re.search(r"\+62.50 pp +– +not tested", capsys.readouterr().out)


def test_a_table_is_whole_in_a_narrow_window(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert bench("compare", runs["corruption tiny"], runs["corruption dropped"]) == 0
    shown = capsys.readouterr().out
    assert "…" not in shown
    (pair,) = compared([runs["corruption tiny"], runs["corruption dropped"]]).pairs
    for found in pair.differences:
        (line,) = (line for line in shown.splitlines() if line.strip().startswith(found.metric.name))
        assert change(found.difference.value, found.difference.interval, found.metric) in line


def test_a_suite_may_look_images_up_by_their_index(runs: dict[str, Path]) -> None:
    (pair,) = compared([runs["budgets tiny"], runs["budgets dropped"]]).pairs
    assert pair.differences[0].difference.interval is not None


# --- what it refuses ------------------------------------------------------------------------------------------


def refused(*arguments: object, capsys: pytest.CaptureFixture[str]) -> str:
    assert bench("compare", *arguments) == 2
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


FADE, GLOW = ("tables/perturbation=fade.parquet", "tables/perturbation=glow.parquet")


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        (
            lambda run: (run / FADE).unlink(),
            "perturbation=fade.parquet is missing: run the same `bench run`",
        ),
        (
            lambda run: (run / FADE).write_bytes(b"PAR1"),
            "is damaged (it does not read)",
        ),
        (
            lambda run: shutil.copy(run / GLOW, run / FADE),
            "another run",
        ),
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
    assert "--csv and --json exclude each other" in refused(one, one, "--json", "--csv", capsys=capsys)
    assert "does not exist" in refused(one, one.parent / "nothing", capsys=capsys)


def test_a_record_alone_has_the_numbers_of_its_tables(runs: dict[str, Path], tmp_path: Path) -> None:
    both = [runs["corruption tiny"], runs["corruption dropped"]]
    alone = [tmp_path / f"{number}.json" for number in range(2)]
    for folder, file in zip(both, alone, strict=True):
        shutil.copy(folder / "record.json", file)
    tables, records = compared(both).pairs[0], compared(alone).pairs[0]
    for one, two in zip(tables.differences, records.differences, strict=True):
        assert (one.metric, one.verdict) == (two.metric, two.verdict)
        assert one.p == pytest.approx(two.p)
        assert one.difference.interval == pytest.approx(two.difference.interval)
    record = json.loads(alone[0].read_text())
    alone[0].write_text(json.dumps({**record, "jackknife": {}}))
    with pytest.raises(UserError, match=r"0\.json is a record without its tables"):
        compared(alone)


def test_a_single_image_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = [made(tmp_path, CORRUPTION, model, "--limit", 1) for model in ("tiny", "dropped")]
    assert "runs on a single image have no intervals" in refused(*both, capsys=capsys)
