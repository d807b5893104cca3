"""The gradient-masking audit: signs that an attack failed because its gradients did, not because the model is robust.

The checks are those of Carlini et al. (2019), "On evaluating adversarial robustness", and of Athalye, Carlini and
Wagner (2018), "Obfuscated gradients give a false sense of security". They read the conditions' metrics alone, so that
they can be made again from a record. The first images of the split are attacked for it in conditions of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from stressbench.contracts import Condition, Metrics
from stressbench.record import Finding

# Attacks that only the audit makes, on the first images of the split.
IMAGES = 200  # of a rate of one half the standard error is then 3.5 %
NOISE = "audit-noise"  # a random corner of the budget, no gradient
ONCE = "audit-once"  # PGD from one random start
SEVERAL = "audit-several"  # PGD from several
LARGE = "audit-large"  # PGD with a budget in which any image can be turned into a grey one
NAMES = (NOISE, ONCE, SEVERAL, LARGE)
RESTARTS = 5
LARGE_EPS = 0.5

# Thresholds, as fractions of images. docs/adversarial.md says why each is where it is.
MOST_ZERO = 0.01
MOST_SATURATED = 0.01
LEAST_PROBABILITIES = 0.99
MARGIN = 0.01  # between two rates, beside twice the standard error of their difference
RESTARTS_MARGIN = 0.05
UNCONFIRMED = 0.1
BROKEN = 0.5  # an attack that fools more of the images than this was not stopped by its gradients
FEWEST = 20  # images that were right before the attack: with fewer, rates say nothing


def conditions(norm: str, eps: float) -> list[Condition]:
    """What the audit tries, at the largest budget of the run and at `LARGE_EPS`."""
    own: list[Condition] = [{"attack": name, "norm": norm, "eps": eps} for name in (NOISE, ONCE, SEVERAL)]
    return [*own, {"attack": LARGE, "norm": "linf", "eps": LARGE_EPS}]


def findings(tried: Sequence[Condition], rows: Sequence[Metrics]) -> list[Finding]:
    """What the rows say against the attack, a line a check, or that the audit was not made."""
    of = {str(condition["attack"]): row for condition, row in zip(tried, rows, strict=True)}
    if any(name not in of for name in NAMES):
        return [Finding(check="not-audited", message="the gradient-masking audit was switched off")]
    return [
        *_gradients(rows),
        *_order(tried, rows),
        *_large(of[LARGE]),
        *_restarts(of[ONCE], of[SEVERAL]),
        *_noise(of[ONCE], of[NOISE]),
        *_unconfirmed(of[ONCE]),
    ]


def _gradients(rows: Sequence[Metrics]) -> Iterator[Finding]:
    """Defects that the attacks saw in the gradients themselves."""
    zero = _highest(rows, "zero_share")
    if zero > MOST_ZERO:
        yield Finding(
            check="zero-gradients",
            message=f"up to {_percent(zero)} of the gradients are exactly zero: there the attack stood still",
        )
    nonfinite = _highest(rows, "nonfinite_share")
    if nonfinite > 0:
        yield Finding(
            check="nonfinite-gradients",
            message=f"up to {_percent(nonfinite)} of the gradients are infinite or NaN: they were taken as zero",
        )
    saturated = _highest(rows, "saturated_share")
    if saturated > MOST_SATURATED:
        yield Finding(
            check="saturated-loss",
            message=f"at up to {_percent(saturated)} of the gradients the label's probability is 1 in float32: FGSM "
            "and PGD take the loss in float64, but attacks of torchattacks go by rounded gradients there, or by none",
        )
    if _highest(rows, "probabilities_share") >= LEAST_PROBABILITIES:
        yield Finding(
            check="probability-outputs",
            message="the outputs lie in [0, 1] and have sum 1: softmax of a softmax flattens the loss; return logits",
        )


def _order(tried: Sequence[Condition], rows: Sequence[Metrics]) -> Iterator[Finding]:
    """One step must not be stronger than many."""
    at = {(c["attack"], c["norm"], c.get("eps")): row for c, row in zip(tried, rows, strict=True)}
    for (attack, norm, eps), row in at.items():
        one, many = row.get("accuracy"), at.get(("pgd", norm, eps), {}).get("accuracy")
        if attack == "fgsm" and one is not None and many is not None and _above(many, one, row):
            yield Finding(
                check="fgsm-stronger-than-pgd",
                message=f"at eps {eps:g} FGSM leaves {_percent(one)} right and PGD {_percent(many)}: PGD got stuck",
            )


def _large(row: Metrics) -> Iterator[Finding]:
    accuracy, chance = row.get("accuracy"), row.get("chance")
    if accuracy is not None and chance is not None and _evidence(row) and _above(accuracy, chance, row):
        yield Finding(
            check="robust-at-large-eps",
            message=f"at eps {LARGE_EPS}, where any image can be made grey, PGD leaves {_percent(accuracy)} right, "
            f"more than chance ({_percent(chance)})",
        )


def _restarts(once: Metrics, several: Metrics) -> Iterator[Finding]:
    first, more = once.get("asr"), several.get("asr")
    if first is not None and more is not None and _evidence(once) and more - first > RESTARTS_MARGIN:
        yield Finding(
            check="restarts-matter",
            message=f"{RESTARTS} restarts fool {_percent(more)} and one {_percent(first)}: the loss has many dead "
            "ends, and one start is too weak an attack",
        )


def _noise(attack: Metrics, noise: Metrics) -> Iterator[Finding]:
    fooled, random = attack.get("asr"), noise.get("asr")
    if fooled is None or random is None or not _evidence(attack):
        return
    if fooled < BROKEN and fooled - random <= MARGIN:
        yield Finding(
            check="noise-as-strong",
            message=f"random noise fools {_percent(random)} and PGD {_percent(fooled)}: the gradients lead nowhere, or "
            "the budget is too small to show anything",
        )


def _unconfirmed(row: Metrics) -> Iterator[Finding]:
    """The attack's own draws, or its precision, must not be what an image fools."""
    share = row.get("unconfirmed")
    if share is not None and _evidence(row) and share > UNCONFIRMED:
        yield Finding(
            check="verdicts-differ",
            message=f"{_percent(share)} of the images that PGD took for fooled are right before the judge: a "
            "stochastic model needs more --eot-draws or --draws, another one the precision float32",
        )


def _highest(rows: Sequence[Metrics], name: str) -> float:
    return max((value for row in rows if (value := row.get(name)) is not None), default=0.0)


def _evidence(row: Metrics) -> bool:
    """Whether enough images were right before the attack."""
    return (row.get("attackable") or 0) >= FEWEST


def _above(high: float, low: float, row: Mapping[str, float | None]) -> bool:
    """Whether one accuracy is above another by more than `MARGIN` and more than chance explains."""
    count = row.get("images") or 1
    spread = (high * (1 - high) + low * (1 - low)) / count
    return high - low > max(MARGIN, 2 * math.sqrt(spread))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
