"""`bench plot`: what each figure shows, against the records and tables; the files; and what is left out."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from harness.made_runs import bench, fake_suites, made
from stressbench.contracts import Axis
from stressbench.plots import by_axis, style
from stressbench.plots.draw import figures
from stressbench.results import selection
from stressbench.results.resampling import interval
from stressbench.results.runs import Run, load_alike

SUITES = {
    "corruption": "corruption,corruptions=fog+contrast+pixelate,severities=1+4",
    "bands": "bands",
    "budgets": "budgets",
    "frames": "frames",
}
DRAWN = {
    "corruption": {"heat-map-by-severity", "by-severity", "ensemble-size", "reliability", "risk-coverage"},
    "bands": {"ensemble-size", "reliability", "risk-coverage", "by-frequency"},
    "budgets": {"ensemble-size", "reliability", "risk-coverage", "by-budget"},
    "frames": {"ensemble-size", "sequence"},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Path]]]:
    """A deterministic and a stochastic model through each suite."""
    out = tmp_path_factory.mktemp("runs")
    with fake_suites(tmp_path_factory.mktemp("site")):
        yield {
            name: [made(out, suite, model, "--sizes", "1,2,4") for model in ("tiny", "dropped")]
            for name, suite in SUITES.items()
        }


def figure(name: str, runs: list[Run]) -> Figure:
    with mpl.rc_context(style.RC):
        drawn = figures(runs)[name](runs)
        drawn.draw_without_rendering()
    return drawn


def values(runs: list[Run], metric: str, **condition: object) -> list[float]:
    """A metric of each run under one condition, as the records say."""
    return [
        row.metrics[metric]
        for run in runs
        for row in run.record.conditions
        if condition.items() <= row.condition.items() and row.metrics[metric] is not None
    ]


def lines(ax: Axes) -> list[tuple[list[float], list[float]]]:
    """The lines with markers, or of more than two points, as x and y."""
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines]


def legend(drawn: Figure) -> list[str]:
    return [" ".join(text.get_text().split()) for text in drawn.legends[0].get_texts()]


# --- what is drawn --------------------------------------------------------------------------------------------


def test_the_heat_map_shows_the_error_of_each_cell(folders: dict[str, list[Path]]) -> None:
    runs = load_alike(folders["corruption"])
    drawn = figure("heat-map-by-severity", runs)
    *panels, bar = drawn.axes
    assert bar.get_ylabel() == "error (%) ↓"
    for ax, run in zip(panels, runs, strict=True):
        cells = np.asarray(ax.images[0].get_array())
        names = ("pixelate", "contrast", "fog")
        shown = [label.get_text() for label in panels[0].get_yticklabels()]
        assert sorted(shown) == sorted(names)
        for y, corruption in enumerate(shown):
            for x, severity in enumerate((1, 4)):
                (error,) = values([run], "error", corruption=corruption, severity=severity)
                assert cells[y, x] == pytest.approx(100 * error)
        (clean,) = values([run], "error", corruption="none")
        assert ax.get_title().split("\n") == [run.label, f"clean {100 * clean:.1f}"]
        assert ax.get_xlabel() == "severity"
        assert len(ax.texts) == 6
    assert panels[0].images[0].get_clim() == panels[1].images[0].get_clim()


def test_the_boxes_are_over_corruptions(folders: dict[str, list[Path]]) -> None:
    runs = load_alike(folders["corruption"])
    drawn = figure("by-severity", runs)
    assert [ax.get_ylabel() for ax in drawn.axes] == ["error (%) ↓", "NLL (nats) ↓", "ECE (%) ↓"]
    assert legend(drawn) == ["tiny", "dropped, 4 draws"]
    for ax, (metric, unit) in zip(drawn.axes, (("error", 100), ("nll", 1), ("ece", 100)), strict=True):
        assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "4"]
        assert len(ax.patches) == 4
        heights = {round(float(y), 9) for _, ys in lines(ax) for y in ys}
        for run in runs:
            for severity in (1, 4):
                cells = unit * np.array(values([run], metric, severity=severity))
                for number in (cells.min(), np.median(cells), cells.max()):
                    assert round(float(number), 9) in heights
            assert round(unit * values([run], metric, severity=0)[0], 9) in heights


def test_metrics_over_ensemble_sizes(folders: dict[str, list[Path]]) -> None:
    runs = load_alike(folders["frames"])
    drawn = figure("ensemble-size", runs)
    (ax,) = drawn.axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("ensemble size (draws)", "relative confidence (%) ↑")
    (flat, curve) = lines(ax)
    once = 100 * (runs[0].record.metrics["relative_confidence"] or 0)
    assert flat == ([1, 4], pytest.approx([once, once]))
    known = runs[1].record.curves["relative_confidence"]
    assert curve == ([1, 2, 4], pytest.approx([100 * (known[size] or 0) for size in ("1", "2", "4")]))
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "4"]


@pytest.mark.parametrize(
    ("suite", "titles"),
    [
        ("corruption", ["clean", "severity 1", "severity 4"]),
        ("bands", ["clean", *(f"{s}, frequency {f}" for s in ("noise", "sine") for f in ("0.79", "2.36"))]),
        (
            "budgets",
            ["clean", *(f"{a}, linf, budget {e}/255" for a in ("signs", "grey") for e in (4, 16))],
        ),
    ],
)
def test_the_reliability_diagram(suite: str, titles: list[str], folders: dict[str, list[Path]]) -> None:
    runs = load_alike(folders[suite])
    drawn = figure("reliability", runs)
    tops, bottoms = drawn.axes[::2], drawn.axes[1::2]
    assert [ax.get_title() for ax in tops] == titles
    for ax, below, title in zip(tops, bottoms, titles, strict=True):
        assert (ax.get_ylabel(), below.get_xlabel()) == ("accuracy (%)", "confidence (%)")
        for i, run in enumerate(runs):
            tables = [run.tables[place] for place, c in enumerate(run.conditions) if _in_panel(title, dict(c))]
            confidence = np.concatenate([table["confidence"] for table in tables]).astype(float)
            correct = np.concatenate([table["correct"] for table in tables]).astype(float)
            bins = np.ceil(confidence * 10 - 1e-12).astype(int)
            there = sorted(set(bins))
            x, y = lines(ax)[1 + i]
            assert x == pytest.approx([100 * confidence[bins == k].mean() for k in there])
            assert y == pytest.approx([100 * correct[bins == k].mean() for k in there])
            shares = below.patches[i].get_data().values
            assert shares == pytest.approx([100 * (bins == k).mean() for k in range(1, 11)])


def test_the_error_of_the_most_confident_images(folders: dict[str, list[Path]]) -> None:
    runs = load_alike(folders["corruption"])
    drawn = figure("risk-coverage", runs)
    assert [ax.get_title() for ax in drawn.axes] == ["clean", "severity 1", "severity 4"]
    for ax in drawn.axes:
        for run, (x, y) in zip(runs, lines(ax), strict=True):
            places = [place for place, c in enumerate(run.conditions) if _in_panel(ax.get_title(), dict(c))]
            expected = [_risks(run.tables[place]) for place in places]
            assert x == pytest.approx([100 * k / len(y) for k in range(1, len(y) + 1)])
            assert y == pytest.approx(100 * np.mean(expected, axis=0))
            assert np.mean(y) == pytest.approx(100 * np.mean([np.mean(risks) for risks in expected]))


def _risks(table: pd.DataFrame) -> list[float]:
    """Image by image from the most confident one, each with the mean error of those that are as confident."""
    ties = table.groupby("confidence")["correct"].mean()
    ranked = table["confidence"].sort_values(ascending=False)
    wrong = [1 - ties[confidence] for confidence in ranked]
    return [sum(wrong[:k]) / k for k in range(1, len(wrong) + 1)]


def test_bands_are_intervals_over_images(folders: dict[str, list[Path]]) -> None:
    """From the tables without a group of images for each point of a curve, from the record for numbers of draws."""
    runs = load_alike(folders["bands"])
    axis = runs[0].suite.axes[0]
    drawn = figure("by-frequency", runs)
    for ax in drawn.axes[:1]:
        for collection, run in zip(ax.collections, runs, strict=True):
            corners = collection.get_paths()[0].vertices
            for row in run.record.conditions:
                if row.condition.get("signal") != ax.get_title():
                    continue
                correct = run.tables[run.record.conditions.index(row)]["correct"].to_numpy(dtype=float)
                group = np.random.default_rng(0).permutation(len(correct)) % min(20, len(correct))
                without = np.array([correct[group != g].mean() for g in range(group.max() + 1)])
                low, high = interval(correct.mean(), without, (0, 1)) or (math.nan, math.nan)
                at = selection.place(axis, row.condition)
                heights = sorted({round(float(y), 6) for x, y in corners if at is not None and abs(x - at) < 1e-9})
                assert heights == sorted({round(100 * low, 6), round(100 * high, 6)})
    (ax,) = figure("ensemble-size", load_alike(folders["frames"])).axes
    ends = load_alike(folders["frames"])[1].record.intervals["relative_confidence"]["4"]
    assert ends is not None
    heights = {round(float(y), 6) for x, y in ax.collections[1].get_paths()[0].vertices if x == 4}
    assert heights == {round(100 * end, 6) for end in ends}


def test_labels_that_would_touch_are_apart() -> None:
    """On a logarithmic axis where that helps, upright where it does not, and left out where even that is too dense."""
    ax = Figure().subplots()
    by_axis._ticks(ax, Axis("rate"), [0.01, 0.02, 0.05, 0.1, 0.2, 0.5])
    assert ax.get_xscale() == "log"
    first, second, *_ = ax.get_xticklabels()
    assert (first.get_text(), second.get_text(), second.get_rotation()) == ("0.01", "0.02", 0)
    ax = Figure().subplots()
    by_axis._ticks(ax, Axis("rate"), [0, 1, 2, 4, 8])
    assert {label.get_rotation() for label in ax.get_xticklabels()} == {90}
    ax = Figure().subplots()
    by_axis._ticks(ax, Axis("rate"), range(0, 101))
    shown = [float(label.get_text()) for label in ax.get_xticklabels()]
    assert min(b - a for a, b in pairwise(shown)) >= 6
    assert shown[-1] == 100


def test_a_papers_column_its_metric_and_its_format(
    folders: dict[str, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--metric", "nll", "--width", 3.3, "--font-size", 6, "--pdf"]
    for out in ("a", "b"):
        assert bench("plot", *folders["corruption"], *words, "--out", tmp_path / out) == 0
    for name in ("by-severity", "heat-map-by-severity"):
        assert (tmp_path / "a" / f"{name}.pdf").read_bytes() == (tmp_path / "b" / f"{name}.pdf").read_bytes()
        with Image.open(tmp_path / "a" / f"{name}.png") as drawn:
            assert drawn.width <= 3.3 * 200
        assert "NLL" in (tmp_path / "a" / f"{name}.svg").read_text()
    assert not list(tmp_path.glob("a/reliability*"))
    capsys.readouterr()
    assert bench("plot", *folders["corruption"], "--metric", "nl", "--out", tmp_path) == 2
    assert "no metric 'nl': did you mean 'nll'? it has error, nll" in capsys.readouterr().err


def _in_panel(title: str, condition: dict[str, object]) -> bool:
    if "none" in condition.values():
        return title == "clean"
    if "severity" in condition:
        return title == f"severity {condition['severity']}"
    if "signal" in condition:
        return title == f"{condition['signal']}, frequency {'0.79' if condition['band'] == 0 else '2.36'}"
    return title == f"{condition['attack']}, linf, budget {255 * float(str(condition['eps'])):.0f}/255"


def test_accuracy_over_frequency(folders: dict[str, list[Path]]) -> None:
    runs = load_alike(folders["bands"])
    drawn = figure("by-frequency", runs)
    assert [ax.get_title() for ax in drawn.axes] == ["noise", "sine"]
    for ax in drawn.axes:
        assert ax.get_xlim() == (0, math.pi)
        assert ax.get_xlabel() == "frequency (radians per pixel)"
        assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "π/4", "π/2", "3π/4", "π"]
        for i, run in enumerate(runs):
            (_, clean), (x, y) = lines(ax)[2 * i : 2 * i + 2]
            assert clean == pytest.approx([100 * values([run], "accuracy", signal="none")[0]] * 2)
            assert x == pytest.approx([math.pi / 4, 3 * math.pi / 4])
            assert y == pytest.approx([100 * value for value in values([run], "accuracy", signal=ax.get_title())])


def test_accuracy_over_the_budget(folders: dict[str, list[Path]]) -> None:
    runs = load_alike(folders["budgets"])
    drawn = figure("by-budget", runs)
    # What was tried at one budget alone is left out.
    assert [ax.get_title() for ax in drawn.axes] == ["signs, linf", "grey, linf"]
    for ax in drawn.axes:
        assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "4/255", "16/255"]
        for (x, y), run in zip(lines(ax), runs, strict=True):
            clean = values([run], "accuracy", attack="none")
            attacked = values([run], "accuracy", attack=ax.get_title().partition(",")[0])
            assert x == pytest.approx([0, 4 / 255, 16 / 255])
            assert y == pytest.approx([100 * value for value in clean + attacked])


def test_relative_confidence_along_a_sequence(folders: dict[str, list[Path]]) -> None:
    runs = load_alike(folders["frames"])
    drawn = figure("sequence", runs)
    assert [ax.get_title() for ax in drawn.axes] == ["fade", "glow"]
    for place, ax in enumerate(drawn.axes):
        for (x, y), run in zip(lines(ax), runs, strict=True):
            frames = [run.tables[place][f"relative_confidence_{t}"].mean() for t in range(12)]
            assert (x, y) == (list(range(12)), pytest.approx(frames))


# --- the files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
def test_the_files_are_the_same_each_time(
    suite: str, folders: dict[str, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("plot", *folders[suite], "--out", tmp_path / "a") == 0
    shown = capsys.readouterr()
    assert {Path(line) for line in shown.out.splitlines()} == set((tmp_path / "a").iterdir())
    assert {path.stem for path in (tmp_path / "a").iterdir()} == DRAWN[suite]
    left = {line.split(",")[0].removeprefix("left out: ") for line in shown.err.splitlines()}
    assert left == set(figures(load_alike(folders[suite]))) - DRAWN[suite]
    with mpl.rc_context({"font.size": 20, "lines.linewidth": 9, "savefig.dpi": 30}):  # a person's own settings
        assert bench("plot", *folders[suite], "--out", tmp_path / "b") == 0
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        if path.suffix == ".svg":
            assert ET.fromstring(path.read_bytes()).tag.endswith("svg")
        else:
            with Image.open(path) as picture:
                assert 500 < picture.width <= style.WIDTH * 200
                assert len(set(picture.convert("L").tobytes())) > 10


def test_a_record_file_has_the_figures_that_need_no_tables(
    folders: dict[str, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = folders["corruption"][1] / "record.json"
    assert bench("plot", record, "--out", tmp_path) == 0
    assert {path.stem for path in tmp_path.iterdir()} == DRAWN["corruption"] - {"reliability", "risk-coverage"}
    assert f"left out: reliability, because {record} is a record without its tables" in capsys.readouterr().err


def test_models_of_one_name_go_by_their_folders_too(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    other = tmp_path / "an_$other$_folder"
    other.symlink_to(folders["frames"][0])
    runs = load_alike([folders["frames"][0], other])
    assert legend(figure("sequence", runs)) == [f"tiny ({run.path.name})" for run in runs]


def test_runs_that_do_not_compare_are_not_drawn_together(
    folders: dict[str, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("plot", folders["bands"][0], folders["frames"][0], "--out", tmp_path) == 2
    assert "its suite is frames and the other's is bands" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_told(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert bench("plot", folders["frames"][0], "--out", tmp_path / "file" / "figures") == 2


def test_unknown_numbers_are_left_out(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    fields = json.loads((folders["corruption"][0] / "record.json").read_text())
    for row in fields["conditions"]:
        if row["condition"]["corruption"] in ("fog", "none"):
            row["metrics"]["error"] = None
    (tmp_path / "record.json").write_text(json.dumps(fields))
    runs = load_alike([tmp_path / "record.json"])
    ax = figure("heat-map-by-severity", runs).axes[0]
    assert np.isnan(np.ma.filled(ax.images[0].get_array(), np.nan)).sum() == 2
    assert len(ax.texts) == 4
    assert ax.get_title() == "tiny"
    assert len(figure("by-severity", runs).axes) == 3
