"""What the records of a leaderboard say to a claim: agrees, disagrees, or not tested and why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from stressbench import registry
from stressbench.contracts import Metric
from stressbench.errors import UserError, did_you_mean
from stressbench.leaderboard.claims import Claims, Comparison, Extreme, Side
from stressbench.leaderboard.ranking import Entry, Group
from stressbench.record import Row
from stressbench.resampling import LEVEL, half_width
from stressbench.runner import describe
from stressbench.show import change

Interval = tuple[float, float]
_WHOLE = 1e-6  # images; by how much rounding moves a count


@dataclass(frozen=True)
class Number:
    """One side of a claim, as far as a record has it."""

    model: str
    entry: Entry | None
    at: str = ""  # how many draws, or which condition
    value: float | None = None
    interval: Interval | None = None
    without: Sequence[float] | None = None  # it without each of the groups of images
    missing: str = ""  # why there is no value

    @property
    def half(self) -> float | None:
        """The longer half of the interval: the other may have been cut off where the metric's range ends."""
        if self.value is None or self.interval is None:
            return None
        return max(self.value - self.interval[0], self.interval[1] - self.value)


@dataclass(frozen=True)
class Answer:
    """One claim: what was expected of the second number less the first, and what is known of it."""

    metric: Metric  # the second side's; the first's has its unit
    label: str
    first: Number
    second: Number
    expect: Literal["lower", "higher"]
    margin: float  # the difference may be on the wrong side of 0 by this much
    paper: str

    @property
    def difference(self) -> float | None:
        """The second number less the first, None where one is unknown."""
        if self.first.value is None or self.second.value is None:
            return None
        return self.second.value - self.first.value

    @property
    def interval(self) -> Interval | None:
        """The difference ± the jackknife's half-width of it, since both numbers are of the same images.

        Of conditions, whose numbers records do not have without some of the images, it is the half-widths of both in
        quadrature, as of independent images.
        """
        if self.difference is None:
            return None
        if self.first.without and self.second.without:
            half = half_width(np.subtract(self.second.without, self.first.without))
        elif self.first.half is not None and self.second.half is not None:
            half = math.hypot(self.first.half, self.second.half)
        else:
            return None
        return self.difference - half, self.difference + half

    @property
    def verdict(self) -> Literal["agrees", "disagrees", "not tested"]:
        """Whether the interval lies wholly on one side of what was expected."""
        if self.interval is None:
            return "not tested"
        low, high = self.interval if self.expect == "lower" else (-self.interval[1], -self.interval[0])
        return "agrees" if high < self.margin else "disagrees" if low > self.margin else "not tested"

    @property
    def edge(self) -> str:
        """What the difference is expected to be under or over, for a person."""
        edge = self.margin if self.expect == "lower" else -self.margin
        return change(edge, None, self.metric) if edge else "0"

    @property
    def reason(self) -> str:
        """Why it is not tested; nothing where it is."""
        if self.verdict != "not tested":
            return ""
        sides = (self.first, self.second)
        missing = "; ".join(dict.fromkeys(side.missing for side in sides if side.missing))
        if missing:
            others = [side.model for side in sides if side.entry is not None]
            return f"{missing} to compare with {others[0]}" if len(others) == 1 else missing
        if self.interval is None:
            lacking = dict.fromkeys(side.model for side in sides if side.interval is None and not side.without)
            return f"no interval in the record of {' and '.join(lacking)}"
        return f"not told apart: the interval holds {self.edge}"


def answers(claims: Claims, groups: Sequence[Group]) -> Iterator[tuple[Comparison | Extreme, list[Answer]]]:
    """Each of the claims with its answers.

    Raises `UserError` for a suite that is not installed, a metric that it does not have, and two of unlike units.
    """
    wanted: list[Comparison | Extreme] = [*claims.comparisons, *claims.extremes]
    for claim in wanted:
        suite = registry.suite(claim.suite)
        offer = registry.find("suites", claim.suite)
        ours = [
            group
            for group in groups
            if group.dataset == claims.dataset and group.record.suite.offer == f"{offer.distribution}/{offer.name}"
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
                Answer(two, label, _number(pair.first, one, group), _number(pair.second, two, group), way,
                       claim.margin or 0, paper)
                for group in groups or (None,)
            ]  # fmt: skip
            yield _fullest(found)


def _number(side: Side, metric: Metric, group: Group | None) -> Number:
    """A side's number: where a model has several results, of the one that knows it at the most draws."""
    found, missing = _results(side.model, group)
    if not found:
        return Number(side.model, None, missing=missing)
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
    def among(group: Group | None, inside: bool) -> Number:
        found, missing = _results(model, group)
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
        return Number(model, entry, f"under {describe(row.condition)}", value, wilson(value, row.n))

    return _fullest(
        [
            Answer(metric, metric.name, among(group, False), among(group, True), claim.expect, 0, claim.paper)
            for group in groups or (None,)
        ]
    )


def _chosen(row: Row, claim: Extreme, inside: bool) -> bool:
    """Whether a condition is inside the claim's range, or among those that it is held against."""
    place = row.condition.get(claim.field)
    if not isinstance(place, int | float) or any(row.condition.get(k) != v for k, v in claim.where.items()):
        return False
    is_inside = claim.inside[0] <= place <= claim.inside[1]
    if inside or is_inside:
        return inside and is_inside
    return claim.against is None or claim.against[0] <= place <= claim.against[1]


def wilson(share: float, n: int) -> Interval | None:
    """The interval of a share of n images (Wilson, 1927); None for a number that is no count over n."""
    count = share * n
    if not -_WHOLE <= count <= n + _WHOLE or abs(count - round(count)) > _WHOLE:
        return None
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


# --- where to look --------------------------------------------------------------------------------------------


def _named(name: str, metrics: Iterable[Metric], claim: Comparison | Extreme) -> Metric:
    known = {metric.name: metric for metric in metrics}
    if name not in known:
        hint = did_you_mean(name, known)
        raise UserError(f"'{claim.question}': {claim.suite} has no metric '{name}': {hint}known are {', '.join(known)}")
    return known[name]


def _results(model: str, group: Group | None) -> tuple[list[Entry], str]:
    """A model's results in a group, the one that came first in front, and what is missing where there are none."""
    entries = [] if group is None else group.entries
    found = [entry for entry in entries if group is not None and group.name(entry) == model]
    if not found and any(entry.record.model.spec == model for entry in entries):
        return [], f"several distributions have records of {model}"
    # The first result's file has the model's name alone, and is shorter than those with a digest behind that.
    return sorted(found, key=lambda entry: (len(str(entry.path)), str(entry.path))), f"no record of {model}"


def _fullest(found: Sequence[Answer]) -> Answer:
    """The group's answer that knows most of it; of several, that of the most images, which comes first."""

    def known(answer: Answer) -> tuple[int, int]:
        sides = (answer.first, answer.second)
        return sum(side.value is not None for side in sides), sum(side.entry is not None for side in sides)

    return max(found, key=known)
