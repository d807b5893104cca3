"""Robust accuracy: the share of images that no attack of a run fools, image by image.

Accuracy under one attack is an upper bound of it; the attacks of AutoAttack (Croce and Hein, 2020) and of RobustBench's
evaluations are joined in this way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from stressbench.contracts import Condition, Metrics
from stressbench.record import Finding
from stressbench.spec import Spec, parse
from stressbench_suites.adversarial import audit

if TYPE_CHECKING:
    import pandas as pd

CLEAN: Condition = {"attack": "none", "norm": "linf", "eps": 0}
SLACK = 1e-4  # rounding may leave an image so far outside [0, 1], or, relative, outside its budget


def robust_accuracies(conditions: Sequence[Condition], tables: Sequence[pd.DataFrame]) -> list[float | None]:
    """Of each attack's condition at a budget: the share of images right on the clean input and under all attacks there.

    An attack without a budget of its own counts where it moved an image by no more than ε, in the norm of the budgets.
    None for conditions without a budget, and for those of the audit, which are of the first images alone.
    """
    correct = [table["correct"].to_numpy(dtype=bool) for table in tables]
    unbounded = [k for k, condition in enumerate(conditions) if "eps" not in condition]
    by_budget: dict[tuple[object, object], list[int]] = {}
    for k, condition in enumerate(conditions):
        if _has_budget(condition):
            by_budget.setdefault((condition["norm"], condition["eps"]), []).append(k)
    result: list[float | None] = [None] * len(conditions)
    for (norm, eps), members in by_budget.items():
        right = np.logical_and.reduce([correct[k] for k in (list(conditions).index(CLEAN), *members)])
        for k in unbounded:
            right &= correct[k] | (tables[k][str(norm)].to_numpy() > float(str(eps)) * (1 + SLACK))
        for k in members:
            result[k] = float(right.mean())
    return result


def at_the_largest(conditions: Sequence[Condition], rows: Sequence[Metrics]) -> float | None:
    """The robust accuracy at the largest budget; None where no attack had one."""
    attacked = _at_the_largest(conditions, rows)
    return attacked[0][1].get("robust_accuracy") if attacked else None


def findings(conditions: Sequence[Condition], rows: Sequence[Metrics]) -> Iterator[Finding]:
    """Which attacks the robust accuracy is of, where there may be much stronger ones."""
    attacked = _at_the_largest(conditions, rows)
    names = [str(condition["attack"]) for condition, _ in attacked]
    whole = {spec.name for spec in map(parse, names) if _is_autoattack(spec)}
    if not names or "pyautoattack" in whole:
        return
    names += [str(condition["attack"]) for condition in conditions if "eps" not in condition]
    stronger = "stronger attacks, such as --attack autoattack, may leave fewer images right"
    if whole:
        stronger = (
            "torchattacks' AutoAttack makes 10 steps of each attack where that of its authors makes 100; --attack "
            "pyautoattack may leave fewer images right"
        )
    yield Finding(
        check="upper-bound", message=f"robust_accuracy is the worst case over {' and '.join(names)} alone; {stronger}"
    )


def _is_autoattack(spec: Spec) -> bool:
    """Whether it is one of AutoAttack's versions, and not single attacks of it."""
    return (spec.argument or spec.name).lower() in ("autoattack", "pyautoattack") and "attacks" not in spec.options


def _has_budget(condition: Condition) -> bool:
    return "eps" in condition and condition["attack"] not in (CLEAN["attack"], *audit.NAMES)


def _at_the_largest(conditions: Sequence[Condition], rows: Sequence[Metrics]) -> list[tuple[Condition, Metrics]]:
    made = [(condition, row) for condition, row in zip(conditions, rows, strict=True) if _has_budget(condition)]
    largest = max((float(condition["eps"]) for condition, _ in made), default=0)
    return [(condition, row) for condition, row in made if condition["eps"] == largest]
