"""The ranking metric against the number of draws, for the page: where each point of the picture goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stressbench.contracts import Metric
from stressbench.leaderboard.ranking import Entry, Group
from stressbench.show import number

WIDTH, HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 16, 44
_MOST = 8  # lines that colours still tell apart


@dataclass(frozen=True)
class Line:
    model: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Pixels from the top left corner of WIDTH × HEIGHT; draws are on a logarithmic scale."""

    metric: Metric
    lines: Sequence[Line]
    left_out: int  # models with a curve, beyond those that fit
    draws: Sequence[Tick]
    values: Sequence[Tick]
    frame: tuple[float, float, float, float]  # left, top, right, bottom
    size: tuple[int, int] = (WIDTH, HEIGHT)


def chart(group: Group) -> Chart | None:
    """The best results that have a curve, as lines; None where no curve has two points."""
    metric = group.metrics[0]
    curves = [(ranked.entry, _curve(ranked.entry, metric)) for ranked in group.ranked()]
    known = [(entry, curve) for entry, curve in curves if len(curve) > 1]
    if not known:
        return None
    drawn = known[:_MOST]
    sizes = sorted({size for _, curve in drawn for size in curve})
    ticks = _ticks([value for _, curve in drawn for value in curve.values()])
    across = _scale(math.log(sizes[0]), math.log(sizes[-1]), _LEFT, WIDTH - _RIGHT)
    up = _scale(ticks[0], ticks[-1], HEIGHT - _BOTTOM, _TOP)

    def x(size: int) -> float:
        return across(math.log(size))

    return Chart(
        metric=metric,
        lines=[
            Line(group.name(entry), [(x(size), up(value)) for size, value in curve.items()]) for entry, curve in drawn
        ],
        left_out=len(known) - len(drawn),
        draws=[Tick(x(size), str(size)) for size in sizes],
        values=[Tick(up(value), number(value, metric)) for value in ticks],
        frame=(_LEFT, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM),
    )


def _curve(entry: Entry, metric: Metric) -> dict[int, float]:
    curve = {int(size): value for size, value in entry.record.curves.get(metric.name, {}).items()}
    return {size: value for size, value in sorted(curve.items()) if value is not None}


def _scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    def place(value: float) -> float:
        return round(start + (value - low) / (high - low) * (stop - start), 1)

    return place


def _ticks(values: Sequence[float]) -> list[float]:
    """Four to nine multiples of 1, 2 or 5 times a power of ten, the outer ones around all values."""
    low, high = min(values), max(values)
    spread = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(spread / 4))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= spread / 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [k * step for k in range(first, max(last, first + 1) + 1)]
