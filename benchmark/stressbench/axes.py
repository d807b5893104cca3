"""What a suite declares about its figures: the numbers in its conditions, and the columns of its tables, to draw."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Axis:
    """A number in a suite's conditions against which `bench plot` and the leaderboard's page draw its row metrics.

    >>> Axis("factor").name
    'factor'
    >>> Axis(("low", "high"), name="frequency", panels=("signal",), clean={"signal": "none"}).keys
    ('low', 'high')

    Raises `ValueError` for a name that is not a valid part of a file name.
    """

    key: str | tuple[str, str]
    """The key of the number; or the keys of both ends of an interval, which is drawn at its middle."""
    name: str = ""
    """The name in titles and file names; by default the key."""
    label: str = ""
    """The label of the axis, with the unit; by default the name."""
    kind: Literal["number", "radians", "budget"] = "number"
    """The format of its ticks: numbers, multiples of π/4 from 0 to π, or fractions of 255 such as 8/255."""
    over: tuple[str, ...] = ()
    """Keys over which conditions are summarised: as a mean, as boxes, and as the rows of a heat map."""
    panels: tuple[str, ...] = ()
    """Keys whose values each have a panel."""
    lines: bool = False
    """Whether a figure of a single run has the panels as lines of one, so that they can be compared."""
    metrics: tuple[str, ...] = ()
    """The row metrics to draw; by default the first three with a direction."""
    clean: Mapping[str, str | int | float] | None = None
    """Fields that identify the condition of clean images."""
    count: str | None = None
    """The row metric with the number of measured images; conditions measured on fewer than all are not drawn."""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", "-".join(self.keys))
        if not self.label:
            object.__setattr__(self, "label", self.name)
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.name):
            raise ValueError(f"the axis '{self.name}' needs a name of letters, digits, hyphens and underscores")

    @property
    def keys(self) -> tuple[str, ...]:
        """The key, or both keys of an interval."""
        return (self.key,) if isinstance(self.key, str) else self.key


@dataclass(frozen=True)
class Plane:
    """Two numbers in a suite's conditions over which a row metric is drawn as contours and as a surface.

    Every pair of their values has a condition: a full grid.
    """

    x: str
    """The key of the horizontal axis."""
    y: str
    """The key of the other axis."""
    metric: str
    """The row metric that is the height."""
    over: tuple[str, ...] = ()
    """Keys whose values each have a panel."""


@dataclass(frozen=True)
class Distribution:
    """A column of a suite's tables whose numbers are drawn as a histogram on a logarithmic axis, or as a density.

    The numbers of a list in a cell, (N, K), count alike.
    """

    column: str
    name: str
    """The name in file names."""
    label: str
    """The label of the axis, with the unit."""
    weights: str = ""
    """A column of the same shape with the weight of each number, which makes a density of them."""


@dataclass(frozen=True)
class Profile:
    """Columns of a suite's tables, (N, K), drawn over the K positions that another column holds, (N, K).

    They are means over the rows with 95 % intervals, such as the variance of feature maps over a network's depth.
    """

    along: str
    """The column of positions, the same in each row."""
    name: str
    """The name in file names."""
    label: str
    """The label of the horizontal axis, with the unit."""
    columns: Mapping[str, str]
    """The columns to draw, each in a panel, and the labels of their axes."""
    marks: str = ""
    """A column of booleans that says which positions are marked."""
    marked: str = ""
    """What the marked positions are, for the legend."""
