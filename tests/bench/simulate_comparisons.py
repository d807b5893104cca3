"""Size and power of the test of `bench compare`, and coverage of its intervals, where the truth is known.

`python tests/bench/simulate_comparisons.py [--images N ...] [--worlds W]`

A world is a test set and two models on it, under four conditions of rising severity. An image has a difficulty that
both models and all conditions share; a model is right with the probability that its own logit says. The scenarios:

    alike          the two models have the same distribution; confidences of the second are on another scale, monotone
                   for rank metrics and linear for correlations: every true difference is 0
    worse          the second model's logits are lower
    noisy          the second model's confidences have noise that its correctness knows nothing of
    overconfident  the second model's confidences are those of a logit that is 1.6 times as large
    sharper        the second model is more often right, and both are calibrated: the true ECE of both is 0

Truths that are not 0 are from one world of 400,000 images. "Ideal" is the power of a z-test that knows the standard
deviation of the difference, as it is over the worlds.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import norm

from stressbench import metrics
from stressbench.comparison.statistics import p_value
from stressbench.results.resampling import Numbers, Tables, half_width, leave_out

CONDITIONS = 4
# Each metric, and a scenario in which the two models differ in it.
METRICS = {
    "error": "worse", "nll": "worse", "signed ece": "overconfident", "aurc": "noisy", "auroc": "noisy",
    "correlation": "noisy", "worst error": "worse", "mean error": "worse", "mCE": "worse", "ece": "overconfident",
    "mean ece": "overconfident",
}  # fmt: skip
_BASELINE = (0.3, 0.35, 0.4, 0.45)


def world(n: int, scenario: str, random: np.random.Generator) -> pd.DataFrame:
    """A row an image; columns are named by model and condition."""
    difficulty = random.normal(size=(n, 1))
    luck = random.normal(size=(n, 1))
    columns: dict[str, Numbers] = {"index": np.arange(n)}
    for model in (0, 1):
        changed = model == 1
        own = random.normal(size=(2, n, CONDITIONS))
        logit = 1 + difficulty + 0.5 * own[0] - 0.3 * np.arange(CONDITIONS)
        logit += changed * {"worse": -0.5, "sharper": 1.4}.get(scenario, 0.0)
        correct = norm.cdf(0.8 * luck + 0.6 * own[1]) < _sigmoid(logit)
        shown = logit + (changed and scenario == "noisy") * 1.5 * random.normal(size=logit.shape)
        confidence = _sigmoid(shown * (1.6 if changed and scenario == "overconfident" else 1))
        loss = -np.log(np.where(correct, confidence, (1 - confidence) / 9))
        for k in range(CONDITIONS):
            of = f"{model}{k}"
            columns |= {f"correct{of}": correct[:, k], f"confidence{of}": confidence[:, k], f"loss{of}": loss[:, k]}
        columns[f"rank{model}"] = confidence[:, 0] ** 4 if changed else confidence[:, 0]
        columns[f"doubt{model}"] = (1 - confidence[:, 0]) * (0.1 if changed else 1) + 0.02
    return pd.DataFrame(columns)


def _sigmoid(x: Numbers) -> Numbers:
    return np.asarray(1 / (1 + np.exp(-x)))


def score(tables: Tables) -> Numbers:
    """Each model's metrics, in the order of `METRICS`: (2, M)."""
    (table,) = tables
    column = {name: torch.tensor(table[name].to_numpy(dtype=np.float64)) for name in table.columns}
    return np.array([_scores(column, model) for model in (0, 1)], dtype=np.float64)


def _scores(column: Mapping[str, torch.Tensor], model: int) -> list[float | None]:
    correct = [column[f"correct{model}{k}"] for k in range(CONDITIONS)]
    errors = [1 - float(one.mean()) for one in correct]
    calibration = [metrics.calibration_errors(column[f"confidence{model}{k}"], correct[k]) for k in range(CONDITIONS)]
    rank, loss = column[f"rank{model}"], column[f"loss{model}0"]
    return [
        errors[0],
        float(loss.mean()),
        calibration[0][1],
        metrics.aurc(rank, correct[0]),
        metrics.auroc(-rank, 1 - correct[0]),
        metrics.pearson(column[f"doubt{model}"], loss),
        max(errors),
        float(np.mean(errors)),
        float(np.mean(np.divide(errors, _BASELINE))),
        calibration[0][0],
        float(np.mean([ece for ece, _ in calibration])),
    ]


def truth(scenario: str) -> Numbers:
    """The true differences of the metrics: (M,)."""
    if scenario == "alike":
        return np.zeros(len(METRICS))
    one, two = score([world(400_000, scenario, np.random.default_rng(1))])
    if scenario == "sharper":
        one[-2:], two[-2:] = 0, 0
    return np.asarray(two - one)


def compared(n: int, scenario: str, worlds: int, seed: int = 0) -> NDArray[np.float64]:
    """Difference, half-width of its interval, and p, for each world and metric: (3, W, M)."""
    random = np.random.default_rng(seed)
    found = np.empty((3, worlds, len(METRICS)))
    for w in range(worlds):
        table = world(n, scenario, random)
        one, two = score([table])
        without = np.array([np.subtract(*reversed(score(part))) for part in leave_out([table])])
        found[0, w] = two - one
        found[1, w] = [half_width(each) or 0.0 for each in without.T]
        found[2, w] = [p_value(d, each) for d, each in zip(two - one, without.T, strict=True)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[100, 200, 1000])
    parser.add_argument("--worlds", type=int, default=1000)
    arguments = parser.parse_args()
    truths = {scenario: truth(scenario) for scenario in ("alike", "sharper", *sorted({*METRICS.values()}))}
    for n in arguments.images:
        found = {scenario: compared(n, scenario, arguments.worlds) for scenario in truths}
        print(f"\n{n:,} images\n")
        print("| metric | size, 5 % | size, 0.5 % | covers 0 | true difference | covers it | power | ideal |")
        print("|---|---:|---:|---:|---:|---:|---:|---:|")
        rows = [(name, i, "alike", other) for i, (name, other) in enumerate(METRICS.items())]
        rows += [(f"{name}, sharper", i, "sharper", "") for i, name in enumerate(METRICS) if "ece" in name[-4:]]
        for name, i, null, other in rows:
            if name == "signed ece, sharper":
                continue
            d, half, p = found[null][:, :, i]
            cells = [f"{100 * np.mean(p <= a):.1f} %" for a in (0.05, 0.005)] + [
                f"{100 * np.mean(abs(d) <= half):.0f} %"
            ]
            if other:
                d, half, p = found[other][:, :, i]
                true = truths[other][i]
                ideal = norm.cdf(abs(d.mean()) / d.std() - norm.ppf(0.975))
                cells += [f"{true:+.3f}", f"{100 * np.mean(abs(d - true) <= half):.0f} %"]
                cells += [f"{100 * np.mean(p <= 0.05):.0f} %", f"{100 * ideal:.0f} %"]
            print(f"| {name} | {' | '.join([*cells, *['–'] * (7 - len(cells))])} |")


if __name__ == "__main__":
    main()
