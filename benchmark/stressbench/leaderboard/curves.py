"""Line charts of the page: the position of each point."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from stressbench.contracts import Metric
from stressbench.results.selection import Curve
from stressbench.results.show import number

WIDTH, HEIGHT = 400, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 22, 12, 44
_LETTER = 7.5  # pixels that a letter of a tick takes


@dataclass(frozen=True)
class Scale:
    """The horizontal axis; without explicit ticks it has one at each value of the lines."""

    name: str
    text: Callable[[float], str] = "{:g}".format
    logarithmic: bool = False
    ticks: Mapping[float, str] = field(default_factory=dict)  # the outer ones are its ends


class Model(NamedTuple):
    name: str
    colour: int


@dataclass(frozen=True)
class Line:
    model: Model
    points: Sequence[tuple[float, float]]
    level: float | None
    texts: Sequence[str]  # the numbers of the points and of the level, below the chart's `heads`


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Pixels from the top left corner of WIDTH × HEIGHT."""

    title: str
    axis: Scale
    lines: Sequence[Line]
    heads: Sequence[str]
    across: Sequence[Tick]
    up: Sequence[Tick]
    frame: tuple[float, float, float, float] = (_LEFT, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM)
    size: tuple[int, int] = (WIDTH, HEIGHT)


def chart(
    title: str, axis: Scale, metric: Metric, drawn: Sequence[tuple[Model, Curve]], holds: Sequence[float] = ()
) -> Chart:
    """A chart of one or more drawable curves, whose vertical axis includes `holds`."""
    curves = [curve for _, curve in drawn]
    places = sorted({at for curve in curves for at in curve.points})
    levels = [curve.level for curve in curves if curve.level is not None]
    values = _round_values([*holds, *levels, *(value for curve in curves for value in curve.points.values())])
    ticks = dict(axis.ticks) or {at: axis.text(at) for at in places}
    stretch = math.log if axis.logarithmic else float
    place = _scale(stretch(min(ticks)), stretch(max(ticks)), _LEFT, WIDTH - _RIGHT)
    y = _scale(values[0], values[-1], HEIGHT - _BOTTOM, _TOP)

    def x(at: float) -> float:
        return place(stretch(at))

    def line(model: Model, curve: Curve) -> Line:
        shown = [curve.points.get(at) for at in places] + ([curve.level] if levels else [])
        return Line(
            model,
            [(x(at), y(value)) for at, value in sorted(curve.points.items())],
            None if curve.level is None else y(curve.level),
            [number(value, metric) for value in shown],
        )

    return Chart(
        title=title,
        axis=axis,
        lines=[line(*one) for one in drawn],
        heads=[*map(axis.text, places), *(["clean"] if levels else [])],
        across=_with_room([Tick(x(at), text) for at, text in sorted(ticks.items())]),
        up=[Tick(y(value), f"{100 * value:g} %" if metric.unit == "fraction" else f"{value:g}") for value in values],
    )


def _scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    def place(value: float) -> float:
        return round(start + (value - low) / (high - low) * (stop - start), 1)

    return place


def _round_values(values: Sequence[float]) -> list[float]:
    """Two to nine ticks, multiples of 1, 2 or 5 times a power of ten, that enclose all values."""
    low, high = min(values), max(values)
    # Finer ticks would have the same texts.
    spread = max(high - low, 1e-3 * abs(low), 1e-3 * abs(high), 4e-3)
    power = 10.0 ** math.floor(math.log10(spread / 4))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= spread / 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [k * step for k in range(first, max(last, first + 1) + 1)]


def _with_room(ticks: Sequence[Tick]) -> list[Tick]:
    """The last tick, and the earlier ones whose labels do not overlap."""
    kept: list[Tick] = []
    for tick in reversed(ticks):
        if not kept or kept[-1].at - tick.at > _LETTER * (len(kept[-1].text) + len(tick.text)) / 2 + 4:
            kept.append(tick)
    return kept[::-1]
