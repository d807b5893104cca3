"""The figures of the leaderboard's page: which numbers are on them, and where."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from leaderboard_records import group, stressed
from stressbench import registry
from stressbench.contracts import Condition, Metric, Metrics, Suite
from stressbench.leaderboard import site
from stressbench.leaderboard.curves import Chart, Model, Scale, chart
from stressbench.leaderboard.figures import Figure, figures, heat_map
from stressbench.leaderboard.ranking import Group
from stressbench.results import selection
from stressbench.results.conditions import budget
from stressbench.results.selection import Curve

ERROR = Metric("error", "fraction", "lower")
LOSS = Metric("nll", "nats", "lower")
ONE, OTHER = Model("one", 0), Model("other", 1)
LEFT, TOP, RIGHT, BOTTOM = 58, 12, 378, 216

Rows = list[tuple[Condition, Metrics]]


def ours(suite: str, *records: Rows, ranks: Sequence[float] = ()) -> Group:
    """Models `a`, `b`, … with these rows, ranked by these numbers or in this order."""
    found: Suite = registry.suite(suite)
    sign = 1 if found.metrics[0].better == "lower" else -1
    places = ranks or [0.5 + sign * 0.01 * i for i in range(len(records))]
    return group(found, [stressed(found, chr(97 + i), places[i], rows) for i, rows in enumerate(records)])


def drawn(of: Group) -> dict[str, Figure]:
    return {figure.title: figure for figure in figures(of)}


def numbers(of: Chart) -> list[Mapping[str, str]]:
    """Each line's numbers as they are told, by what they are at."""
    return [dict(zip(of.heads, line.texts, strict=True)) for line in of.lines]


# --- where it goes --------------------------------------------------------------------------------------------


def test_places_on_a_linear_axis() -> None:
    drawn = chart("t", Scale("severity"), ERROR, [(ONE, Curve({0: 0.0, 2.5: 0.5, 5: 1.0}))])
    assert drawn.frame == (LEFT, TOP, RIGHT, BOTTOM)
    (line,) = drawn.lines
    assert line.points == [(LEFT, BOTTOM), (218, 114), (RIGHT, TOP)]
    assert line.texts == ["0.0 %", "50.0 %", "100.0 %"]
    assert [(tick.at, tick.text) for tick in drawn.across] == [(LEFT, "0"), (218, "2.5"), (RIGHT, "5")]
    assert [tick.text for tick in drawn.up] == ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]
    assert [tick.at for tick in drawn.up] == pytest.approx([216 - 40.8 * k for k in range(6)])


def test_places_on_a_logarithmic_axis() -> None:
    curves = [(ONE, Curve({1: 2.0, 100: 1.0})), (OTHER, Curve({1: 1.5, 10: 1.25}))]
    drawn = chart("t", Scale("draws", logarithmic=True), LOSS, curves)
    assert [tick.at for tick in drawn.across] == [LEFT, 218, RIGHT]
    assert drawn.lines[0].points == [(LEFT, TOP), (RIGHT, BOTTOM)]
    assert drawn.lines[1].points == [(LEFT, 114), (218, 165)]
    assert [line.texts for line in drawn.lines] == [["2.000", "–", "1.000"], ["1.500", "1.250", "–"]]
    assert [tick.text for tick in drawn.up] == ["1", "1.2", "1.4", "1.6", "1.8", "2"]


def test_an_axis_of_its_own_ends_a_level_and_what_is_held() -> None:
    axis = Scale("angle", ticks={0.0: "0", 4.0: "all"})
    drawn = chart("t", axis, ERROR, [(ONE, Curve({1: 0.25, 3: 0.5}, 0.75)), (OTHER, Curve({1: 0.25, 3: 0.5}))], (0, 1))
    assert [line.level for line in drawn.lines] == [63, None]
    assert drawn.lines[0].points == [(138, 165), (298, 114)]
    assert [(tick.at, tick.text) for tick in drawn.across] == [(LEFT, "0"), (RIGHT, "all")]
    assert drawn.heads == ["1", "3", "clean"]
    assert [line.texts[-1] for line in drawn.lines] == ["75.0 %", "–"]


def test_texts_below_the_axis_do_not_touch() -> None:
    places = [k / 255 for k in range(33)]
    drawn = chart("t", Scale("ε", budget), ERROR, [(ONE, Curve(dict.fromkeys(places, 0.5)))])
    assert len(drawn.lines[0].points) == 33
    assert drawn.across[-1].text == "32/255"  # the end of the axis is always told
    widths = [6.5 * len(tick.text) for tick in drawn.across]
    for i, (left, right) in enumerate(zip(drawn.across, drawn.across[1:], strict=False)):
        assert right.at - left.at > (widths[i] + widths[i + 1]) / 2
    assert len(drawn.across) > 4


values = st.floats(-selection.LARGEST, selection.LARGEST)


@example(points={0: 0.3, 1: 0.3 + 1e-12}, level=None, unit=True)
@example(points={0: 1e6, 1: 1e6 + 0.01}, level=None, unit=False)
@given(points=st.dictionaries(values, values, min_size=2, max_size=9), level=values | st.none(), unit=st.booleans())
def test_whatever_is_drawable_is_inside_the_frame(points: dict[float, float], level: float | None, unit: bool) -> None:
    curve = Curve(points, level)
    assert curve.drawable
    made = chart("t", Scale("x"), ERROR if unit else LOSS, [(ONE, curve)])
    (line,) = made.lines
    for x, y in line.points:
        assert LEFT <= x <= RIGHT
        assert TOP <= y <= BOTTOM
    assert (line.level is None) == (level is None)
    # The values' ticks are from the bottom to the top, and no two say the same.
    assert (made.up[0].at, made.up[-1].at) == (BOTTOM, TOP)
    assert 2 <= len({tick.text for tick in made.up}) == len(made.up) <= 9


@pytest.mark.parametrize(
    "curve",
    [Curve({1: 0.5}), Curve({}), Curve({1: 0.5, 2: 1e300}), Curve({1: 0.5, 2: -math.inf}), Curve({1: 0, 2: 0}, 2e9)],
)
def test_what_is_no_line(curve: Curve) -> None:
    assert not curve.drawable


# --- what is drawn --------------------------------------------------------------------------------------------


def corruptions(worse: float = 0.0) -> Rows:
    """Three corruptions at two severities, and clean images."""
    cells = [(name, severity) for name in ("fog", "snow", "frost") for severity in (1, 4)]
    rows: Rows = [({"corruption": "none", "severity": 0}, {"error": 0.05 + worse, "nll": 0.5, "ece": 0.01})]
    for i, (name, severity) in enumerate(cells):
        metrics: Metrics = {"error": 0.1 * (i + 1) + worse, "nll": 1.0 + i, "ece": None if i == 0 else 0.02 * i}
        rows.append(({"corruption": name, "severity": severity}, metrics))
    return rows


def test_means_by_severity() -> None:
    figure = drawn(ours("corruption", corruptions(), corruptions(0.1)))["By severity"]
    error, nll, ece = figure.charts
    assert error.title == "error against severity (lower is better)"
    assert nll.title == "nll against severity (nats, lower is better)"
    assert figure.models == [("a", 0), ("b", 1)]
    # fog, snow and frost have the errors 0.1, 0.3, 0.5 at severity 1 and 0.2, 0.4, 0.6 at 4.
    assert numbers(error) == [
        {"0": "5.0 %", "1": "30.0 %", "4": "40.0 %"},
        {"0": "15.0 %", "1": "40.0 %", "4": "50.0 %"},
    ]
    assert numbers(nll)[0] == {"0": "0.500", "1": f"{np.mean([1, 3, 5]):.3f}", "4": f"{np.mean([2, 4, 6]):.3f}"}
    # A mean of what is known would be one over other corruptions.
    assert numbers(ece)[0] == {"0": "1.0 %", "4": f"{100 * np.mean([0.02, 0.06, 0.1]):.1f} %"}
    # The axis of the values begins at 0, and 0.3 of 0.5 is three fifths of the way up.
    assert [tick.text for tick in error.up] == ["0 %", "10 %", "20 %", "30 %", "40 %", "50 %"]
    assert error.lines[0].points[1] == (138, pytest.approx(216 - 0.6 * 204))
    assert "differ in their corruption. Severity 0 is the clean images." in figure.note


def test_a_mean_is_over_all_that_has_a_severity() -> None:
    rows = [row for row in corruptions() if row[0] != {"corruption": "snow", "severity": 4}]
    (error, *_) = drawn(ours("corruption", rows))["By severity"].charts
    assert error.heads == ["0", "1"]


def test_accuracy_against_the_middle_of_a_band() -> None:
    edges = (0.0, 1.0, 2.0, 3.1416)
    rows: Rows = [({"signal": "none", "band": 0, "low": 0.0, "high": 0.0}, {"accuracy": 0.75})]
    for signal in ("noise", "fgsm"):
        for k in (2, 0, 1):  # in any order
            bounds = {"low": edges[k], "high": edges[k + 1]}
            rows.append(({"signal": signal, "band": k, **bounds}, {"accuracy": 0.5 - 0.125 * k * (signal == "noise")}))
    figure = drawn(ours("frequency", rows))["By frequency"]
    assert [one.title for one in figure.charts] == [
        f"accuracy against frequency: {signal} (higher is better)" for signal in ("noise", "fgsm")
    ]
    noise, fgsm = figure.charts
    assert numbers(noise) == [{"0.50": "50.0 %", "1.50": "37.5 %", "2.57": "25.0 %", "clean": "75.0 %"}]
    assert numbers(fgsm) == [{"0.50": "50.0 %", "1.50": "50.0 %", "2.57": "50.0 %", "clean": "75.0 %"}]
    assert [tick.text for tick in noise.across] == ["0", "π/4", "π/2", "3π/4", "π"]
    # The axis is from 0 to π, and from 0 to 100 %.
    expected = [LEFT + 320 * middle / math.pi for middle in (0.5, 1.5, 2.5708)]
    assert [x for x, _ in noise.lines[0].points] == pytest.approx(expected, abs=0.06)
    assert [y for _, y in noise.lines[0].points] == [114, 139.5, 165]
    assert noise.lines[0].level == 63


def test_accuracy_against_the_budget_of_an_attack() -> None:
    rows: Rows = [({"attack": "none", "norm": "linf", "eps": 0}, {"accuracy": 0.8, "images": 1000.0})]
    for attack in ("fgsm", "pgd"):
        for k in (2, 8):
            metrics: Metrics = {"accuracy": 0.4 if attack == "fgsm" else 0.1 * (8 - k), "images": 1000.0}
            rows.append(({"attack": attack, "norm": "linf", "eps": k / 255}, metrics))
    rows.append(({"attack": "audit", "norm": "linf", "eps": 8 / 255}, {"accuracy": 0.0, "images": 200.0}))
    rows.append(({"attack": "audit", "norm": "linf", "eps": 0.5}, {"accuracy": 0.0, "images": 200.0}))
    rows.append(({"attack": "once", "norm": "l2", "eps": 0.5}, {"accuracy": 0.1, "images": 1000.0}))
    rows.append(({"attack": "square", "norm": "linf"}, {"accuracy": 0.1, "images": 1000.0}))
    figure = drawn(ours("adversarial", rows))["By budget"]
    fgsm, pgd = figure.charts
    assert pgd.title == "accuracy against ε: pgd, linf (higher is better)"
    assert numbers(fgsm) == [{"0": "80.0 %", "2/255": "40.0 %", "8/255": "40.0 %"}]
    assert numbers(pgd) == [{"0": "80.0 %", "2/255": "60.0 %", "8/255": "0.0 %"}]
    assert pgd.lines[0].points == [(LEFT, 52.8), (138, 93.6), (RIGHT, BOTTOM)]


def test_the_eight_best_keep_their_colours() -> None:
    suite = registry.suite("corruption")
    curve = {"stochastic": True}
    ranks = [0.2, 0.1, 0.3]
    records = [
        stressed(suite, name, rank, corruptions(), model=curve, draws=5, curves={"mCE": {"1": 0.5, "5": rank}})
        if name != "best"
        else stressed(suite, name, rank, corruptions())
        for name, rank in zip(("second", "best", "third"), ranks, strict=True)
    ]
    made = drawn(group(suite, records))
    assert made["By severity"].models == [("best", 0), ("second", 1), ("third", 2)]
    assert made["By number of draws"].models == [("second", 1), ("third", 2)]
    assert [line.model for line in made["By number of draws"].charts[0].lines] == [("second", 1), ("third", 2)]
    # With more models than colours, a figure has the best that it can show, in colours of its own.
    ten = ours("corruption", *(corruptions(0.01 * i) for i in range(10)), ranks=[0.1 * (10 - i) for i in range(10)])
    figure = drawn(ten)["By severity"]
    assert [name for name, _ in figure.models] == list("jihgfedc")
    assert [colour for _, colour in figure.models] == list(range(8))
    assert figure.left_out == 2


def test_the_heat_map_is_the_best_models() -> None:
    shown = heat_map(ours("corruption", corruptions(0.1), corruptions(), ranks=[0.4, 0.2]))
    assert shown is not None
    assert shown.title == "error by corruption and severity: b, the best"
    assert shown.heads == ["1", "4"]
    assert [name for name, _ in shown.rows] == ["fog", "snow", "frost"]
    assert [[cell.text for cell in cells] for _, cells in shown.rows] == [
        ["10.0 %", "20.0 %"], ["30.0 %", "40.0 %"], ["50.0 %", "60.0 %"],
    ]  # fmt: skip
    # Eighths of the way from 10 % to 60 %.
    assert [[cell.shade for cell in cells] for _, cells in shown.rows] == [[0, 1], [3, 4], [6, 7]]


def test_what_is_unknown_has_no_shade_and_what_is_all_alike_the_first() -> None:
    rows = [(condition, {**metrics, "error": 0.5}) for condition, metrics in corruptions()]
    rows[1] = (rows[1][0], {"error": None})
    shown = heat_map(ours("corruption", rows))
    assert shown is not None
    assert [(cell.text, cell.shade) for _, cells in shown.rows for cell in cells] == [("–", None), *[("50.0 %", 0)] * 5]


# --- strangers' conditions ------------------------------------------------------------------------------------

BAND = {"signal": "noise", "band": 0, "low": 0.0, "high": 1.0}
HIT = {"attack": "pgd", "norm": "linf", "eps": 0.1}
FOG = {"corruption": "fog", "severity": 1}


@pytest.mark.parametrize(
    ("suite", "condition", "odd"),
    [
        ("corruption", FOG, {"severity": "high"}),
        ("corruption", FOG, {"severity": 10**400}),
        ("corruption", FOG, {"severity": math.inf}),
        ("frequency", BAND, {"low": "0"}),
        ("frequency", BAND, {"low": 1.0}),
        ("frequency", BAND, {"low": -1.0}),
        ("frequency", BAND, {"high": 7.0}),
        ("frequency", BAND, {"high": 1e308, "low": 1e308}),
        ("frequency", BAND, {"low": 1.0, "high": 2.0, "phase": 3}),  # two at one place
        ("adversarial", HIT, {"eps": "8/255"}),
        ("adversarial", HIT, {"eps": 1e300}),
        ("adversarial", HIT, {"eps": 0.2, "steps": 7}),
    ],
)
def test_odd_conditions_leave_their_panel_out(suite: str, condition: Condition, odd: dict[str, Any]) -> None:
    places: dict[str, dict[str, Any]] = {
        "corruption": {"severity": 2}, "frequency": {"low": 1.0, "high": 2.0}, "adversarial": {"eps": 0.2},
    }  # fmt: skip
    metric = registry.suite(suite).row_metrics[0].name
    clean = dict.fromkeys(condition, "none") | dict.fromkeys(("severity", "low", "high", "eps", "band"), 0)
    sound = [{key: clean[key] for key in condition}, condition, {**condition, **places[suite]}]
    (whole,) = drawn(ours(suite, [(one, {metric: 0.5}) for one in sound])).values()
    assert len(whole.charts) == 1
    rows: Rows = [(one, {metric: 0.5}) for one in [*sound, {**condition, **odd}]]
    assert drawn(ours(suite, rows)) == {}
    site.pages([ours(suite, rows)])


@pytest.mark.parametrize("value", [1e308, -1e308, None])
def test_numbers_that_no_axis_has_leave_their_line_out(value: float | None) -> None:
    odd: Rows = [(condition, {"error": value}) for condition, _ in corruptions()]
    made = ours("corruption", odd, corruptions())
    figure = drawn(made)["By severity"]
    assert [line.model.name for one in figure.charts for line in one.lines] == ["b"] * 3
    assert figure.models == [("b", 1)]
    assert heat_map(made) is None
    site.pages([made])


usual = st.sampled_from([0, 0.1, 1, 2, 3])
odd = st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
places = st.integers(0, 9).flatmap(lambda k: usual if k else odd)
fractions = st.floats(0, 1)
known = st.integers(0, 9).flatmap(lambda k: fractions if k else st.none() | st.floats(-1e308, 1e308))
names = st.sampled_from(["one", "none"])
conditions = [
    st.fixed_dictionaries({"corruption": names, "severity": places}),
    st.fixed_dictionaries({"signal": names, "low": places, "high": places}),
    st.fixed_dictionaries({"attack": names, "eps": places}),
]
measured = st.fixed_dictionaries({"accuracy": known, "nll": known})


@given(rows=st.one_of([st.lists(st.tuples(one, measured), min_size=1, max_size=4) for one in conditions]))
def test_no_condition_breaks_the_page(rows: Rows) -> None:
    made = ours("adversarial", rows, rows)
    heat_map(made)
    for figure in figures(made):
        event(figure.title)
        for one in figure.charts:
            assert all(LEFT <= tick.at <= RIGHT for tick in one.across)
            for line in one.lines:
                assert len(line.points) > 1
                assert all(LEFT <= x <= RIGHT and TOP <= y <= BOTTOM for x, y in line.points)


def test_conditions_without_an_axis_have_no_figure() -> None:
    made = ours("perturbation", [({"perturbation": "tilt"}, {"consistency": 0.5})])
    assert drawn(made) == {}
    assert heat_map(made) is None
    assert not any("<figure" in page for page in site.pages([made]).values())
