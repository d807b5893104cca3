"""Claims of papers, read from a leaderboard's claims.toml: which numbers of which records would show them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from stressbench._util import toml
from stressbench.errors import UserError, did_you_mean
from stressbench.record import Text
from stressbench.spec import parse

_Count = Annotated[int, Field(ge=1)]
_Real = Annotated[float, Field(allow_inf_nan=False)]


def _canonical(text: str) -> str:
    """A model's spec as in records, optionally followed by its distribution in brackets."""
    spec, space, distribution = text.partition(" (")
    try:
        return f"{parse(spec)}{space}{distribution}"
    except UserError as error:
        raise ValueError(str(error)) from error


def _ordered(bounds: list[float]) -> list[float]:
    if bounds[0] > bounds[1]:
        raise ValueError("it ends before it starts")
    return bounds


_Model = Annotated[Text, AfterValidator(_canonical)]
_Range = Annotated[list[_Real], Field(min_length=2, max_length=2), AfterValidator(_ordered)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Side(_Part):
    """One of the two numbers of a comparison."""

    model: _Model
    draws: _Count | None = None  # the record's own, which are its most, where none are given
    or_most: bool = False  # a record that does not know its number at these draws gives the one at its most
    metric: Text | None = None  # in place of the comparison's
    minus: _Model | None = None  # a model whose number is subtracted: the side is what a change of the model brings

    @model_validator(mode="after")
    def _most_of_what(self) -> Self:
        if self.or_most and self.draws is None:
            raise ValueError("or_most goes with draws: without them a record's most are taken")
        return self


class Pair(_Part):
    first: Side
    second: Side
    paper: dict[str, Text] = {}  # what the paper has, by metric


class _Claim(_Part):
    question: Text
    source: Text  # where the paper's numbers are from
    suite: Text
    dataset: Text | None = None  # its label on the leaderboard; that of the file where none is given
    task: Text | None = None  # of the dataset, where it is not classification: a suite's metrics differ by task


class Comparison(_Claim):
    """The second model's numbers against the first's: a claim for each pair and metric."""

    metrics: Annotated[list[Text], Field(min_length=1)]
    expect: Literal["lower", "higher", "no-worse"]
    margin: Annotated[_Real, Field(gt=0)] | None = None  # by how much it may be worse, in the metrics' unit
    pairs: Annotated[list[Pair], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.margin is not None) != (self.expect == "no-worse"):
            raise ValueError("a margin goes with expect = 'no-worse', and with nothing else")
        unknown = {name for pair in self.pairs for name in pair.paper} - set(self.metrics)
        if unknown:
            raise ValueError(f"the paper's '{min(unknown)}' is none of the comparison's metrics")
        return self


class Extreme(_Claim):
    """The minimum or maximum over some conditions of a record, compared with that over other conditions."""

    models: Annotated[list[_Model], Field(min_length=1)]
    metric: Text  # of a condition
    expect: Literal["lower", "higher"]
    where: dict[str, str | int | float] = {}  # what all these conditions have in common
    field: Text  # the number in a condition that distinguishes them
    inside: _Range  # where the claim has the extreme; both ends belong to it
    against: _Range | None = None  # the others; all that are not inside where none are given
    paper: Text


class Claims(_Part):
    """The content of the file."""

    dataset: Text  # its label on the leaderboard, for the claims that do not name another
    about: Annotated[str, Field(min_length=1)]  # what to know before comparing with the papers
    comparisons: list[Comparison] = []
    extremes: list[Extreme] = []

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.comparisons and not self.extremes:
            raise ValueError("it has neither [[comparisons]] nor [[extremes]]")
        return self


def read(path: Path) -> Claims:
    """Read a file of claims.

    Raises `UserError` for a missing file, invalid TOML, and unknown keys or values.
    """
    if not path.exists():
        raise UserError(f"there is no {path}, which would say what to look for: docs/leaderboard.md has its keys")
    return toml.read(path, Claims, _first)


def _first(error: ValidationError) -> str:
    """The first error, in one line."""
    # A key that is not known explains one that is missing.
    fault = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    where = ".".join(map(str, fault["loc"]))
    if fault["type"] != "extra_forbidden":
        return f"{where}: {fault['msg']}" if where else fault["msg"]
    parts = (Side, Pair, Comparison, Extreme, Claims)
    known = sorted({name for part in parts for name in part.model_fields})
    return f"there is no key '{where}': {did_you_mean(str(fault['loc'][-1]), known)}docs/leaderboard.md has the keys"
