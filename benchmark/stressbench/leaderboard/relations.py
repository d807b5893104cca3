"""What the numbers of one condition allow each other to be: whatever the images, no model can be outside.

The standard metrics of classification are known by their names: error or accuracy, nll, brier, ece, signed_ece, aurc,
and of attacks asr, attackable, images and robust_accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from stressbench.contracts import Condition, Metrics, Suite
from stressbench.leaderboard import provenance
from stressbench.leaderboard.numbers import Fault
from stressbench.leaderboard.words import shown
from stressbench.record import Record
from stressbench.results.conditions import describe

_SLACK = 1e-5  # by how much sums in float32 stray
_COUNT = 1e-3  # images
# The least of −ln(1 − x) / 2x² over 0 < x < 1: an image's Brier score is at most 2·(1 − p)², p being its true class's.
_NLL_OF_BRIER = 1.2277
# What any predictions of classes have. An attack that stopped at its first success has shown nothing but the accuracy.
_KNOWN = {"error", "accuracy", "brier", "ece", "signed_ece"}
_ATTACKS = {"eps", "attack", "fgsm"}  # in a condition, whose images a model decides
_REPETITION = "sequence"  # in a condition, the number of a repetition with other draws
_CONSTANT, _ENOUGH = 0.5, 100  # from which error on, and below how many images, numbers may be the same
_OF_SEVERAL_DRAWS = ("corr_variance_loss", "corr_mutual_information_loss")


def rows(suite: Suite, record: Record) -> Iterator[Fault]:
    """Whether the numbers of each condition are possible together, at each number of draws."""
    if suite.rows != "image":
        return
    for i, row in enumerate(record.conditions):
        at: dict[str, Metrics] = {"metrics": row.metrics}
        for size in next(iter(row.curves.values()), {}):
            at[f"curves at {size}"] = {name: curve.get(size) for name, curve in row.curves.items()}
        for place, metrics in at.items():
            faults = [*_counts(suite, metrics, row.n)]
            if not faults and record.dataset.task == "classification":
                one_draw = place == "curves at 1" or (place == "metrics" and record.draws == 1)
                faults = [
                    *(_missing(suite, metrics) if suite.source(row.condition) is None else ()),
                    *_bounds(metrics, row.n, record.dataset.classes),
                    *_order(metrics, row.n),
                    *(_single(metrics) if one_draw else ()),
                    *_attack(metrics, row.n),
                ]
            yield from (Fault(f"conditions.{i}.{place}", message) for message in faults)
    if record.dataset.task == "classification":
        yield from _attacks(record)
        yield from _copies(record)
        yield from _sketches(suite, record)


def _counts(suite: Suite, row: Metrics, n: int) -> Iterator[str]:
    for metric in suite.row_metrics:
        value = row.get(metric.name)
        of = n if metric.share_of == "n" else row.get(metric.share_of or "")
        if value is None or of is None:
            continue
        if of > n or abs(of - round(of)) > _COUNT:
            yield f"{metric.share_of} is {of:g}: it is a number of the {n} images"
        elif abs(value * of - round(value * of)) > max(_COUNT, 1e-6 * of):
            yield f"{metric.name} is {value}: of {of:g} images, no count gives that"


def _bounds(row: Metrics, n: int, classes: int | None) -> Iterator[str]:
    accuracy = row.get("accuracy")
    error = row.get("error") if accuracy is None else 1 - accuracy
    known = {name: row.get(name) for name in ("nll", "brier", "ece", "signed_ece", "aurc")}
    nll, brier, ece, signed, aurc = known.values()
    if ece is not None and signed is not None and ece < abs(signed) - _SLACK:
        yield f"ece is {ece}, below the size of signed_ece, {signed}"
    if nll is not None and brier is not None and nll < _NLL_OF_BRIER * brier - _SLACK:
        yield f"nll is {nll}: with a brier of {brier} it is {_NLL_OF_BRIER * brier:.6g} or more"
    # An image's Brier score is at least C/(C − 1) times the square of its confidence less whether it is right.
    share = 1 - 1 / classes if classes else 1.0
    if ece is not None and brier is not None and ece > math.sqrt(share * brier) + _SLACK:
        yield f"ece is {ece}: with a brier of {brier} it is {math.sqrt(share * brier):.6g} or less"
    if error is None:
        return
    # Where the most likely class is wrong, the true one has at most half of the probability; where it is right, it has
    # at least 1/C.
    most = 1 - 1 / classes if classes else 1.0
    if ece is not None and ece > error + (1 - error) * most + _SLACK:
        yield f"ece is {ece}: with an error of {error:.6g} it is {error + (1 - error) * most:.6g} or less"
    low, high = error / 2, 2 * error + (1 - error) * most
    if brier is not None and not low - _SLACK <= brier <= high + _SLACK:
        yield f"brier is {brier}: with an error of {error:.6g} it is between {low:.6g} and {high:.6g}"
    least = error * math.log(2)
    if nll is not None and nll < least - _SLACK:
        yield f"nll is {nll}: with an error of {error:.6g} it is {least:.6g} or more"
    if signed is not None:
        confidence, least = signed + 1 - error, 1 / classes if classes else 0.0
        if not least - _SLACK <= confidence <= 1 + _SLACK:
            yield f"signed_ece is {signed}: with an error of {error:.6g} the mean confidence would be {confidence:.6g}"
    moved = row.get("accuracy_moved")
    if moved is not None and not -_SLACK <= 1 - error - moved <= 1 + _SLACK:
        yield f"accuracy_moved is {moved}: from an accuracy of {1 - error - moved:.6g} to {1 - error:.6g}"
    if moved is not None and abs(moved * n - round(moved * n)) > max(_COUNT, 1e-6 * n):
        yield f"accuracy_moved is {moved}: of {n} images, no count gives that"
    nll_moved = row.get("nll_moved")
    if nll is not None and nll_moved is not None and nll - nll_moved < -_SLACK:
        yield f"nll_moved is {nll_moved}: it would be from {nll - nll_moved:.6g}"
    if aurc is not None:
        wrong, k = round(error * n), np.arange(1, n + 1)
        best, worst = np.maximum(k - (n - wrong), 0) @ (1 / k) / n, np.minimum(k, wrong) @ (1 / k) / n
        if not best - _SLACK <= aurc <= worst + _SLACK:
            yield f"aurc is {aurc}: with an error of {error:.6g} it is between {best:.6g} and {worst:.6g}"


def _missing(suite: Suite, row: Metrics) -> Iterator[str]:
    names = {"error", "accuracy"} if "asr" in row and row.get("nll") is None else _KNOWN
    for metric in suite.row_metrics:
        if metric.name in names and row.get(metric.name) is None:
            yield f"{metric.name} is missing: any predictions have one"


def _order(row: Metrics, n: int) -> Iterator[str]:
    """Whether the area under the risk–coverage curve is possible with that under the ROC curve of the errors."""
    accuracy, auroc, aurc = row.get("accuracy"), row.get("auroc_error"), row.get("aurc")
    if accuracy is None or auroc is None:
        return
    wrong = round((1 - accuracy) * n)
    if wrong in (0, n):
        yield f"auroc_error is {auroc}, and {'all' if wrong else 'none'} of the images are wrong"
    elif aurc is not None:
        low, high = _areas(wrong, n, auroc)
        if not low - _SLACK <= aurc <= high + _SLACK:
            yield f"aurc is {aurc}: with an auroc_error of {auroc:.6g} it is between {low:.6g} and {high:.6g}"


def _areas(wrong: int, n: int, auroc: float) -> tuple[float, float]:
    """The least and the greatest AURC that the order of `wrong` of n images can have, where its AUROC is known.

    A wrong image at place r, from the surest on, adds 1/n · Σ_{k ≥ r} 1/k, which is convex in r, and the AUROC fixes
    the mean of their places: the area is least where they are one block, and greatest where they are at both ends.
    """
    added = np.cumsum(1 / np.arange(n, 0, -1))[::-1] / n
    before = auroc * (n - wrong)  # the right images that are surer than a wrong one, on average

    def block(at: float) -> float:
        return sum(float(np.interp(at + k, np.arange(n), added)) for k in range(wrong))

    def ends(first: int) -> float:
        return float(added[:first].sum() + added[n - (wrong - first) :].sum())

    first = wrong * (1 - auroc)
    k = min(math.floor(first), wrong - 1)
    return block(before), ends(k) + (first - k) * (ends(k + 1) - ends(k))


def _single(row: Metrics) -> Iterator[str]:
    for name in _OF_SEVERAL_DRAWS:
        if row.get(name) is not None:
            yield f"{name} is {row[name]} at one draw, which does not vary"


def _attack(row: Metrics, n: int) -> Iterator[str]:
    """Of the images that were right before the attack, those that are right after it."""
    accuracy, asr, images, before = (row.get(name) for name in ("accuracy", "asr", "images", "attackable"))
    if accuracy is None or images is None or before is None:
        return
    if images == 0 or before > images:
        yield f"attackable is {before:g}, and there are {images:g} images"
        return
    if asr is not None:
        low, high = (1 - asr) * before, images - asr * before
        if not low - _COUNT <= accuracy * images <= high + _COUNT:
            yield f"accuracy is {accuracy}: with an asr of {asr} it is {low / images:.6g} to {high / images:.6g}"
    robust = row.get("robust_accuracy")
    if robust is not None and images == n and robust > min(accuracy, before / n) + _SLACK:
        yield f"robust_accuracy is {robust}, more than the accuracy under this attack or without one"


def _attacks(record: Record) -> Iterator[Fault]:
    """Whether all attacks start from the images that are right without one, and their worst case is no better."""
    rows = [(i, row) for i, row in enumerate(record.conditions) if row.metrics.get("images") == row.n]
    clean = [row.metrics for _, row in rows if row.condition.get("attack") == "none"]
    if len(clean) != 1 or clean[0].get("accuracy") is None:
        return
    before = round(float(clean[0]["accuracy"] or 0) * record.dataset.n)
    if clean[0].get("asr") is not None:
        yield Fault("conditions.0.metrics.asr", "is a share of images that nothing attacked")
    worst: dict[tuple[object, object], float] = {}
    for i, row in rows:
        metrics, budget = row.metrics, (row.condition.get("norm"), row.condition.get("eps"))
        if metrics.get("attackable") != before:
            yield Fault(f"conditions.{i}.metrics.attackable", f"is {metrics.get('attackable')}: {before} are right")
        if before and metrics.get("asr") is None and metrics is not clean[0]:
            yield Fault(f"conditions.{i}.metrics.asr", f"is missing: {before} images could be attacked")
        robust = metrics.get("robust_accuracy")
        if robust is not None and robust != worst.setdefault(budget, robust):
            yield Fault(f"conditions.{i}.metrics.robust_accuracy", f"is {robust}, and {worst[budget]} at the same ε")


def _once(condition: Condition) -> Condition:
    """The condition without the number of its repetition."""
    return {key: value for key, value in condition.items() if key != _REPETITION}


def _copies(record: Record) -> Iterator[Fault]:
    """Whether a condition has another one's numbers: two sets of images do not have one mean NLL to the last bit.

    A model that answers the same to everything may; it is right for less than half of the images. So may attacks, which
    leave images as they are where a model's gradients are 0 or the budget is too small, and a deterministic model has
    the same numbers in every repetition of other draws.
    """
    seen: dict[float, int] = {}
    for i, row in enumerate(record.conditions):
        accuracy, nll = row.metrics.get("accuracy"), row.metrics.get("nll")
        error = row.metrics.get("error") if accuracy is None else 1 - accuracy
        if nll is None or error is None or not 0 < error < _CONSTANT or row.n < _ENOUGH:
            continue
        if _ATTACKS & {*row.condition, *map(str, row.condition.values())}:
            continue
        if nll in seen:
            first = record.conditions[seen[nll]].condition
            if not record.model.stochastic and _once(first) == _once(row.condition):
                continue
            other = describe(first)
            yield Fault(f"conditions.{i}.metrics.nll", f"is {shown(nll)}, to the last bit that of {other}")
        seen[nll] = i


def _sketches(suite: Suite, record: Record) -> Iterator[Fault]:
    """Whether sketches of right and wrong images are of as many right ones: sums of ±1 over them, and so whole numbers
    that are odd if they are."""
    if record.suite.distribution != provenance.OURS:
        return  # what another suite calls `correct` is its own business
    for i, (row, sketches) in enumerate(zip(record.conditions, record.sketches, strict=False)):
        accuracy = row.metrics.get("accuracy")
        error = row.metrics.get("error") if accuracy is None else 1 - accuracy
        if "correct" not in sketches or error is None:
            continue
        right = round((1 - error) * row.n)
        sums = [float(number) * math.sqrt(row.n) for number in sketches["correct"].split()]
        if any(abs(one - round(one)) > 0.1 or abs(one) > right + 0.1 or (round(one) - right) % 2 for one in sums):
            yield Fault(f"sketches.{i}.correct", f"is not of {right} right images of {row.n}")
