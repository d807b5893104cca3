"""The figures of the analyses against their tables and records: what is drawn, on which scale, and what is left out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from scipy import stats

from harness.made_runs import bench
from stressbench.plots import planes, style
from stressbench.plots.draw import figures
from stressbench.results.runs import Run, load_alike

NETS = """
import torch
from torch import nn

from stressbench_plugins.layers import MCDropout, Smooth


def net(dataset, smooth: bool = False, rate: float = 0.0):
    torch.manual_seed(0)
    between = [Smooth()] if smooth else []
    first, last = nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 3, stride=2)
    noisy = nn.Sequential(nn.Conv2d(4, 4, 1), MCDropout(rate))
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, dataset.classes)
    return Net(rate, first, nn.ReLU(), noisy, *between, last, nn.ReLU(), *head)


class Net(nn.Sequential):
    def __init__(self, rate, *layers):
        super().__init__(*layers)
        self.stochastic, self.default_draws = rate > 0, 2
"""
SUITES = {
    "hessian": "hessian,batches=4,batch_size=16,top=3,spectrum=true,steps=12",
    "landscape": "landscape,points=3,extent=1,images=12,sequences=2",
    "features": "features,images=12",
}
DRAWN = {
    "hessian": {"eigenvalues", "spectrum"},
    "landscape": {"contour-of-nll", "surface-of-nll"},
    "features": {"over-depth"},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """A deterministic network, and a stochastic one with a smoothing layer, through each suite."""
    out = tmp_path_factory.mktemp("runs")
    (out / "nets.py").write_text(NETS)
    found: dict[str, list[Path]] = {}
    for name, suite in SUITES.items():
        for options in ("", ",smooth=true,rate=0.3"):
            there = out / name / f"net{len(options)}"
            assert bench("run", "--suite", suite, "--model", f"file:{out}/nets.py:net{options}", "--out", there) == 0
            found.setdefault(name, []).extend(there.iterdir())
    return found


def figure(name: str, runs: list[Run]) -> Figure:
    with mpl.rc_context(style.RC):
        drawn = figures(runs)[name](runs)
        drawn.draw_without_rendering()
    return drawn


def cells(run: Run, column: str) -> np.ndarray:
    return np.stack(run.tables[0][column].to_list()).astype(np.float64)


def test_the_histogram_has_each_runs_share_of_eigenvalues_in_common_bins(folders: dict[str, list[Path]]) -> None:
    runs = load_alike(folders["hessian"])
    drawn = figure("eigenvalues", runs)
    (ax,) = drawn.axes
    assert (ax.get_xscale(), ax.get_xlabel()) == ("log", "largest eigenvalue of the Hessian")
    medians = [line.get_xdata()[0] for line in ax.lines]
    for i, run in enumerate(runs):
        values = cells(run, "eigenvalues").ravel()
        shares, edges, _ = ax.patches[2 * i].get_data()
        assert len(shares) == math.ceil(2 * len(values) ** (1 / 3))
        assert shares == pytest.approx(
            [100 * np.mean((values >= a) & (values < b)) for a, b in np.lib.stride_tricks.sliding_window_view(edges, 2)]
        )
        assert sum(shares) == pytest.approx(100 * np.mean(values > 0))
        assert np.median(values) in medians or np.median(values) <= 0
        text = drawn.legends[0].get_texts()[i].get_text().replace("\n", " ")
        assert ("not positive" in text) == bool((values <= 0).any())
    assert np.array_equal(ax.patches[0].get_data().edges, ax.patches[2].get_data().edges)
    assert not any("$" in label.get_text() for label in ax.get_xticklabels())


def test_the_spectrum_is_the_weighted_density_of_all_batches(folders: dict[str, list[Path]]) -> None:
    runs = load_alike(folders["hessian"])
    (ax,) = figure("spectrum", runs).axes
    assert ax.get_yscale() == "log"
    every = np.concatenate([cells(run, "density_nodes").ravel() for run in runs])
    width = (np.nanmax(every) - np.nanmin(every)) / 200
    for line, run in zip(ax.lines, runs, strict=True):
        x, y = (np.asarray(values, dtype=float) for values in line.get_data())
        assert np.trapezoid(y, x) == pytest.approx(1, abs=1e-3)
        batches = zip(cells(run, "density_nodes"), cells(run, "density_weights"), strict=True)
        at = x[::97]
        expected = sum(
            w * stats.norm.pdf(at, t, width)
            for nodes, weights in batches
            for t, w in zip(nodes, weights, strict=True)
            if w
        )
        assert y[::97] == pytest.approx(expected / 4, rel=1e-6, abs=1e-12)


def heights(run: Run, sequence: int) -> dict[tuple[float, float], float]:
    rows = [(row.condition, row.metrics["nll"]) for row in run.record.conditions]
    return {(float(c["x"]), float(c["y"])): nll or 0.0 for c, nll in rows if c["sequence"] == sequence}


def test_contours_and_surfaces_have_one_scale(folders: dict[str, list[Path]]) -> None:
    runs = load_alike(folders["landscape"])
    *flat, bar = figure("contour-of-nll", runs).axes
    *solid, _ = figure("surface-of-nll", runs).axes
    every = [value for run in runs for sequence in (0, 1) for value in heights(run, sequence).values()]
    panels = [(run, sequence) for run in runs for sequence in (0, 1)]
    for (run, sequence), ax, deep in zip(panels, flat, solid, strict=True):
        expected = heights(run, sequence)
        filled = next(one for one in ax.collections if isinstance(one, QuadContourSet) and one.filled)
        assert filled.levels[[0, -1]] == pytest.approx([min(every), max(every)])
        assert (filled.zmin, filled.zmax) == pytest.approx((min(expected.values()), max(expected.values())))
        highest = max(expected, key=lambda at: expected[at])
        band = np.searchsorted(filled.levels, expected[highest]) - 1
        assert filled.get_paths()[band].contains_point([0.999 * place for place in highest], radius=1e-3)
        assert deep.get_zlim() == pytest.approx((min(every), max(every)))
        assert ax.get_title().split("\n")[-1] == f"sequence {sequence}"
        assert ax.get_title() == deep.get_title()
    assert bar.get_ylabel() == "NLL (nats) ↓"


def test_sequences_that_are_all_the_same_are_drawn_once(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    fields = json.loads((folders["landscape"][0] / "record.json").read_text())
    first = {(r["condition"]["x"], r["condition"]["y"]): r for r in reversed(fields["conditions"])}
    for row in fields["conditions"]:
        row["metrics"] = first[row["condition"]["x"], row["condition"]["y"]]["metrics"]
    (tmp_path / "record.json").write_text(json.dumps(fields))
    runs = load_alike([tmp_path / "record.json"])
    for name in ("contour-of-nll", "surface-of-nll"):
        ax, _bar = figure(name, runs).axes
        assert "sequence" not in ax.get_title()


def test_a_grid_has_its_points_in_place(folders: dict[str, list[Path]]) -> None:
    (run, _) = load_alike(folders["landscape"])
    grid, *_ = planes._drawing(run.suite.figures[0], [run]).grids  # type: ignore[arg-type]
    for (x, y), value in heights(run, 0).items():
        assert grid.z[list(grid.y).index(y), list(grid.x).index(x)] == value


def test_levels_are_at_equal_ratios_where_heights_differ_much(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    fields = json.loads((folders["landscape"][0] / "record.json").read_text())
    for row in fields["conditions"]:
        row["metrics"]["nll"] = 0.01 + row["condition"]["x"] ** 2
    (tmp_path / "record.json").write_text(json.dumps(fields))
    ax = figure("contour-of-nll", load_alike([tmp_path / "record.json"])).axes[0]
    levels = next(one for one in ax.collections if isinstance(one, QuadContourSet)).levels
    assert levels == pytest.approx(0.01 * 101 ** (np.arange(13) / 12))


def test_curves_over_depth_are_means_over_images_with_intervals(folders: dict[str, list[Path]]) -> None:
    runs = load_alike(folders["features"])
    drawn = figure("over-depth", runs)
    assert len(drawn.axes) == 3
    for ax, column in zip(drawn.axes, ("model_variance", "data_variance", "amplitude"), strict=True):
        curves = [one for one in ax.lines if one.get_markerfacecolor() != "none"]
        shown = [run for run in runs if not np.isnan(cells(run, column)).any()]
        assert len(shown) == (1 if column == "model_variance" else 2)  # of one draw there is no variance over draws
        for run, curve, band in zip(shown, curves, ax.collections, strict=True):
            values = cells(run, column)
            assert list(curve.get_xdata()) == pytest.approx(list(cells(run, "depth")[0]))
            assert list(curve.get_ydata()) == pytest.approx(list(values.mean(axis=0)))
            for k in range(values.shape[1]):
                if not values[:, k].std():
                    continue
                low, high = stats.t.interval(0.95, 11, values[:, k].mean(), stats.sem(values[:, k]))
                ends = {round(float(y), 9) for x, y in band.get_paths()[0].vertices if x == cells(run, "depth")[0, k]}
                assert {round(low, 9), round(high, 9)} <= ends
        smooth = cells(runs[1], column).mean(axis=0)
        (ring,) = [one for one in ax.lines if one.get_markerfacecolor() == "none" and len(one.get_xdata())]
        assert [*ring.get_xdata(), *ring.get_ydata()] == pytest.approx([2 / 3, smooth[2]])
    assert drawn.legends[0].get_texts()[-1].get_text() == "after a smoothing layer"


@pytest.mark.parametrize("suite", SUITES)
def test_the_files_are_the_same_each_time(suite: str, folders: dict[str, list[Path]], tmp_path: Path) -> None:
    assert bench("plot", folders[suite][1], "--out", tmp_path / "a") == 0
    assert {path.stem for path in (tmp_path / "a").iterdir()} == DRAWN[suite]
    with mpl.rc_context({"font.size": 20, "lines.linewidth": 9, "image.cmap": "gray"}):
        assert bench("plot", folders[suite][1], "--out", tmp_path / "b") == 0
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("spectrum", lambda run: run.tables[0].pop("density_weights"), "no column 'density_w"),
        ("eigenvalues", lambda run: run.tables[0].__setitem__("eigenvalues", [[-1.0] * 3] * 4), "is positive"),
    ],
)
def test_what_has_nothing_to_show_is_left_out(
    name: str, change: Callable[[Run], None], why: str, folders: dict[str, list[Path]]
) -> None:
    (run, _) = load_alike(folders["hessian"])
    change(run)
    with pytest.raises(style.LeftOut, match=why):
        figure(name, [run])


def test_a_record_alone_has_nothing_of_tables(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes((folders["features"][0] / "record.json").read_bytes())
    with pytest.raises(style.LeftOut, match="record without its tables"):
        figure("over-depth", load_alike([path]))
