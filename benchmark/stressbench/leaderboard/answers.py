"""Verdicts on claims from the leaderboard's records: agrees, disagrees, undecided, or not tested with the reason."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Literal

import numpy as np

from stressbench import registry
from stressbench.contracts import Metric
from stressbench.errors import UserError, did_you_mean
from stressbench.leaderboard.claims import Claims, Comparison, Extreme, Pair, Side
from stressbench.leaderboard.paths import training
from stressbench.leaderboard.ranking import Entry, Group
from stressbench.record import Row
from stressbench.results import resampling, trainings
from stressbench.results.conditions import describe
from stressbench.results.show import change

Interval = tuple[float, float]
Verdict = Literal["agrees", "disagrees", "undecided", "not tested"]
_WHOLE = 1e-6  # images; by how much rounding moves a count


@dataclass(frozen=True)
class Number:
    """One side of a claim: its number, or the reason why no record has it."""

    model: str
    entry: Entry | None
    at: str = ""  # how many draws, or which condition
    value: float | None = None
    interval: Interval | None = None
    without: Sequence[float] | None = None  # it without each of the groups of images
    missing: str = ""  # why there is no value
    minus: Entry | None = None  # whose number was subtracted

    @property
    def half_width(self) -> float | None:
        """The longer half of the interval: the other one may be cut off at the end of the metric's range."""
        if self.value is None or self.interval is None:
            return None
        return max(self.value - self.interval[0], self.interval[1] - self.value)


@dataclass(frozen=True)
class Answer:
    """One claim: the expected difference of the second number minus the first, and the measured one."""

    metric: Metric  # the second side's; the first's has its unit
    label: str
    trainings: Sequence[tuple[Number, Number]]  # both sides of each training that both have; at least one
    expect: Literal["lower", "higher"]
    margin: float  # the difference may be on the wrong side of 0 by this much
    paper: str

    @property
    def first(self) -> Number:
        """The first side of the first training."""
        return self.trainings[0][0]

    @property
    def second(self) -> Number:
        """The second side of the first training."""
        return self.trainings[0][1]

    @property
    def values(self) -> tuple[float | None, float | None]:
        """Both numbers, as means over the trainings; None if unknown for one."""
        first, second = ([side.value for side in sides] for sides in zip(*self.trainings, strict=True))
        return _mean(first), _mean(second)

    @property
    def differences(self) -> list[float]:
        """The second number minus the first, of each training; empty if one is unknown."""
        found = [
            two.value - one.value for one, two in self.trainings if one.value is not None and two.value is not None
        ]
        return found if len(found) == len(self.trainings) else []

    @property
    def difference(self) -> float | None:
        """The mean of `differences`; None if there are none."""
        return _mean(self.differences)

    @property
    def interval(self) -> Interval | None:
        """The difference ± its half-width over images and, of several trainings, over these: see `trainings`.

        The images' part is from the jackknife of the mean difference, which is paired: both numbers are of the same
        images. Records have no jackknife of conditions; for these the half-widths of both are added in quadrature, as
        for independent images.
        """
        if self.difference is None or self._images is None:
            return None
        half = trainings.half_width(self.differences, *self._images)
        return None if half is None else (self.difference - half, self.difference + half)

    @property
    def _images(self) -> tuple[float, float] | None:
        """The standard error of the mean difference over images, and its degrees of freedom."""
        without = [np.subtract(two.without, one.without) for one, two in self.trainings if one.without and two.without]
        if len(without) == len(self.trainings):
            return resampling.standard_error(np.mean(without, axis=0)), len(without[0]) - 1
        halves = [(one.half_width, two.half_width) for one, two in self.trainings]
        known = [math.hypot(one, two) for one, two in halves if one is not None and two is not None]
        if len(known) < len(self.trainings):
            return None
        return fmean(known) / NormalDist().inv_cdf((1 + resampling.LEVEL) / 2), math.inf

    @property
    def verdict(self) -> Verdict:
        """Whether the whole interval lies on the expected side, on the other one, or on both; or there is none."""
        if self.interval is None:
            return "not tested"
        low, high = self.interval if self.expect == "lower" else (-self.interval[1], -self.interval[0])
        return "agrees" if high < self.margin else "disagrees" if low > self.margin else "undecided"

    @property
    def edge(self) -> str:
        """The bound that the difference is expected to be below or above, formatted."""
        edge = self.margin if self.expect == "lower" else -self.margin
        return change(edge, None, self.metric) if edge else "0"

    @property
    def reason(self) -> str:
        """Why the claim is undecided or not tested; empty if it is decided."""
        if self.verdict in ("agrees", "disagrees"):
            return ""
        if self.verdict == "undecided":
            return f"the interval holds {self.edge}"
        sides = [side for training in self.trainings for side in training]
        missing = "; ".join(dict.fromkeys(side.missing for side in sides if side.missing))
        if missing:
            others = [side.model for side in sides if side.entry is not None]
            return f"{missing} to compare with {others[0]}" if len(others) == 1 else missing
        lacking = dict.fromkeys(side.model for side in sides if side.interval is None and not side.without)
        return f"no interval in the record of {' and '.join(lacking)}" if lacking else "no image makes a difference"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def answers(claims: Claims, groups: Sequence[Group]) -> Iterator[tuple[Comparison | Extreme, list[Answer]]]:
    """Each of the claims with its answers.

    Raises `UserError` for a suite that is not installed or not for the task, an unknown metric, and two metrics with
    different units.
    """
    wanted: list[Comparison | Extreme] = [*claims.comparisons, *claims.extremes]
    for claim in wanted:
        suite = registry.suite(claim.suite, task=claim.task)
        dataset = claim.dataset or claims.dataset
        offer = registry.find("suites", claim.suite)
        ours = [
            group
            for group in groups
            if group.dataset == dataset and group.record.suite.offer == f"{offer.distribution}/{offer.name}"
        ]
        if isinstance(claim, Comparison):
            yield claim, list(_compared(claim, suite.metrics, ours))
        else:
            metric = _named(claim.metric, suite.row_metrics, claim)
            yield claim, [_extreme(claim, model, metric, ours) for model in claim.models]


# --- two models -----------------------------------------------------------------------------------------------


def _compared(claim: Comparison, metrics: Sequence[Metric], groups: Sequence[Group]) -> Iterator[Answer]:
    for pair in claim.pairs:
        for name in claim.metrics:
            one, two = (_named(side.metric or name, metrics, claim) for side in (pair.first, pair.second))
            if one.unit != two.unit:
                raise UserError(
                    f"'{claim.question}' takes {one.name} ({one.unit}) from {two.name} ({two.unit}): metrics of unlike "
                    "units have no difference"
                )
            way = two.better if claim.expect == "no-worse" else claim.expect
            if way is None:
                raise UserError(f"'{claim.question}' asks whether {two.name} is no worse: neither way of it is better")
            label = two.name if one == two else f"{one.name} → {two.name}"
            paper = pair.paper.get(name, "–")
            found = [
                Answer(two, label, sides, way, claim.margin or 0, paper)
                for group in groups or (None,)
                if (sides := _trainings(pair, one, two, group))
            ]
            yield _fullest(found)


def _trainings(pair: Pair, one: Metric, two: Metric, group: Group | None) -> list[tuple[Number, Number]]:
    """Both sides of each training that both have; where they share none, of the first one of each."""
    firsts, seconds = _numbers(pair.first, one, group), _numbers(pair.second, two, group)
    common = [number for number in firsts if number in seconds]
    first_of_each = (next(iter(firsts.values())), next(iter(seconds.values())))
    return [(firsts[number], seconds[number]) for number in common] or [first_of_each]


def _numbers(side: Side, metric: Metric, group: Group | None) -> dict[int | None, Number]:
    """A side's number by training; one that is missing if there is none."""
    found, missing = _results(side.model, group)
    numbers = {number: _number(side, metric, entries) for number, entries in found.items()}
    numbers = numbers or {None: Number(side.model, None, missing=missing)}
    if side.minus is None:
        return numbers
    others = _numbers(side.model_copy(update={"model": side.minus, "minus": None}), metric, group)
    common = [number for number in numbers if number in others]
    pairs = {number: (numbers[number], others[number]) for number in common}
    pairs = pairs or {None: (next(iter(numbers.values())), next(iter(others.values())))}
    return {number: _less(one, other) for number, (one, other) in pairs.items()}


def _less(one: Number, other: Number) -> Number:
    known = one.value is not None and other.value is not None
    return Number(
        f"{one.model} − {other.model}",
        one.entry,
        one.at,
        one.value - other.value if one.value is not None and other.value is not None else None,
        without=np.subtract(one.without, other.without).tolist() if one.without and other.without else None,
        missing="" if known else "; ".join(filter(None, (one.missing, other.missing))),
        minus=other.entry,
    )


def _number(side: Side, metric: Metric, found: Sequence[Entry]) -> Number:
    """A side's number; of several results of a training, from the one with the most draws."""
    known = [entry for entry in found if entry.value(metric, side.draws) is not None]
    draws = side.draws
    if not known and side.or_most:
        known, draws = [entry for entry in found if entry.value(metric) is not None], None
    entry = max(known or found, key=lambda entry: entry.record.draws)
    if not known:
        most = entry.record.draws
        where = "" if draws is None or draws == most else f" at {draws} draws (most is {most})"
        return Number(side.model, entry, missing=f"the record of {side.model} has no {metric.name}{where}")
    at = ""
    if entry.record.model.stochastic:
        used = entry.record.draws if draws is None else draws
        asked = f" ({side.draws} asked)" if side.draws not in (None, used) else ""
        at = f"at {used} draw{'s' * (used > 1)}{asked}"
    return Number(side.model, entry, at, entry.value(metric, draws), without=entry.without(metric, draws))


# --- conditions of one model ----------------------------------------------------------------------------------


def _extreme(claim: Extreme, model: str, metric: Metric, groups: Sequence[Group]) -> Answer:
    def among(found: Sequence[Entry], missing: str, inside: bool) -> Number:
        if not found:
            return Number(model, None, missing=missing)
        entry = max(found, key=lambda entry: entry.record.draws)
        rows = [row for row in entry.record.conditions if _chosen(row, claim, inside)]
        values = [row.metrics.get(metric.name) for row in rows]
        known = [value for value in values if value is not None]
        if not rows or len(known) < len(rows):
            what = f"all of the claim's conditions with {metric.name}"
            return Number(model, entry, missing=f"the record of {model} has not {what}")
        value = min(known) if claim.expect == "lower" else max(known)
        row = rows[values.index(value)]
        return Number(model, entry, f"under {describe(row.condition)}", value, share_interval(value, row.n))

    def both(group: Group | None) -> list[tuple[Number, Number]]:
        found, missing = _results(model, group)
        results = list(found.values()) or [[]]
        return [(among(one, missing, False), among(one, missing, True)) for one in results]

    return _fullest(
        [Answer(metric, metric.name, both(group), claim.expect, 0, claim.paper) for group in groups or (None,)]
    )


def _chosen(row: Row, claim: Extreme, inside: bool) -> bool:
    """Whether a condition is in the claim's range, or in the range that it is compared with."""
    place = row.condition.get(claim.field)
    if not isinstance(place, int | float) or any(row.condition.get(k) != v for k, v in claim.where.items()):
        return False
    is_inside = claim.inside[0] <= place <= claim.inside[1]
    if inside or is_inside:
        return inside and is_inside
    return claim.against is None or claim.against[0] <= place <= claim.against[1]


def share_interval(share: float, n: int) -> Interval | None:
    """The interval of a share of n images; None for a number that is not a count divided by n."""
    count = share * n
    if not -_WHOLE <= count <= n + _WHOLE or abs(count - round(count)) > _WHOLE:
        return None
    return resampling.wilson(share, n)


# --- where to look --------------------------------------------------------------------------------------------


def _named(name: str, metrics: Iterable[Metric], claim: Comparison | Extreme) -> Metric:
    known = {metric.name: metric for metric in metrics}
    if name not in known:
        hint = did_you_mean(name, known)
        raise UserError(f"'{claim.question}': {claim.suite} has no metric '{name}': {hint}known are {', '.join(known)}")
    return known[name]


def _results(model: str, group: Group | None) -> tuple[dict[int | None, list[Entry]], str]:
    """A model's results in a group, by the number of its training, and what is missing if there are none.

    The earliest results are first; trainings are in order, those of unknown number first.
    """
    entries = [] if group is None else group.entries
    found = [entry for entry in entries if group is not None and group.name(entry) == model]
    if not found and any(entry.record.model.spec == model for entry in entries):
        return {}, f"several distributions have records of {model}"
    numbers = sorted({training(entry.record) for entry in found}, key=lambda number: -1 if number is None else number)
    # The first result's file has the model's name alone, and is shorter than those with a digest behind that.
    found.sort(key=lambda entry: (len(str(entry.path)), str(entry.path)))
    return {
        number: [entry for entry in found if training(entry.record) == number] for number in numbers
    }, f"no record of {model}"


def _fullest(found: Sequence[Answer]) -> Answer:
    """The most complete of the groups' answers; of several, the first, which has the most images."""

    def known(answer: Answer) -> tuple[int, int]:
        sides = [side for training in answer.trainings for side in training]
        return sum(side.value is not None for side in sides), sum(side.entry is not None for side in sides)

    return max(found, key=known)
