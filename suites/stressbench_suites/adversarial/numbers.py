"""Numbers as people write them for attacks: `8/255`, `0.03`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stressbench.errors import UserError

if TYPE_CHECKING:
    from stressbench_suites.adversarial.attacks import Norm

# L∞: the budgets of the CIFAR and ImageNet literature. L2: RobustBench's 0.5 for CIFAR-10, its half and its double.
DEFAULT_BUDGETS: dict[Norm, tuple[str, ...]] = {
    "linf": ("1/255", "2/255", "4/255", "8/255"),
    "l2": ("0.25", "0.5", "1.0"),
}


def number(text: str, name: str) -> float:
    """A decimal number, or a fraction of two; raises `UserError` that names the option for anything else."""
    top, slash, bottom = text.partition("/")
    try:
        value = float(top) / float(bottom) if slash else float(top)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{name}={text} is not a number: write a fraction such as 8/255, or a decimal such as 0.03")
    return value


def budgets(texts: Sequence[str], norm: Norm) -> list[float]:
    """The different budgets, in rising order; those of the norm where none is given.

    Raises `UserError` for one that is not a number, not above 0, or, in L∞, above 1, the range of a pixel.
    """
    values = set()
    for text in texts or DEFAULT_BUDGETS[norm]:
        value = number(text, "eps")
        if value <= 0:
            raise UserError(f"invalid eps={text}: expected numbers above 0 (the clean images are always judged too)")
        if norm == "linf" and value > 1:
            raise UserError(f"eps={text} is more than a pixel's whole range, 0 to 1: write {text}/255 if that is meant")
        values.add(value)
    return sorted(values)
