"""Coverage of the replication report's intervals over images and trainings, where the truth is known.

`python tests/bench/simulate_trainings.py [--images N ...] [--trainings K ...] [--worlds W]`

A world is a test set and K trainings of each of two models. Training k of a model is right on an image if

    mean of the model + difficulty of the image + effect of the training + effect of the training on this image > 0

with normally distributed effects of standard deviations 1 (shared by all trainings of both models), τ, and 0.5, so that
the true error is Φ(−mean / √(1 + τ² + 0.25)). The second model has the higher mean. "Images alone" is what the interval
is without the trainings' term.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import norm

from stressbench.results import trainings
from stressbench.results.resampling import Numbers, groups, half_width, standard_error

_MEANS = (1.0, 1.1)
_OWN = 0.5


def truth(spread: float) -> float:
    """The true difference of the two models' errors."""
    one, two = (norm.cdf(-mean / np.sqrt(1 + spread**2 + _OWN**2)) for mean in _MEANS)
    return float(two - one)


def world(n: int, count: int, spread: float, random: np.random.Generator) -> Numbers:
    """Error of the second model less that of the first, of each training and image: (K, N)."""
    difficulty = random.normal(size=n)
    wrong = []
    for mean in _MEANS:
        training = spread * random.normal(size=(count, 1))
        wrong.append(mean + difficulty + training + _OWN * random.normal(size=(count, n)) < 0)
    return np.asarray(wrong[1].astype(float) - wrong[0])


def intervals(differences: Numbers, random: np.random.Generator) -> tuple[float, float, float]:
    """The mean difference, and the half-widths over images and trainings, and over images alone."""
    n = differences.shape[1]
    count = groups(n)
    group = random.permutation(n) % count
    without = np.array([differences[:, group != g].mean(axis=1) for g in range(count)]).T
    mean = without.mean(axis=0)
    both = trainings.half_width(differences.mean(axis=1).tolist(), standard_error(mean), count - 1)
    return float(differences.mean()), both or 0.0, half_width(mean) or 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[500, 1000])
    parser.add_argument("--trainings", type=int, nargs="+", default=[1, 2, 3, 5])
    parser.add_argument("--worlds", type=int, default=2000)
    arguments = parser.parse_args()
    print("| images | trainings | τ | true difference | covers it | images alone | mean width | images alone |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for n in arguments.images:
        for count in arguments.trainings:
            for spread in (0.0, 0.05, 0.2):
                random = np.random.default_rng(0)
                worlds = [intervals(world(n, count, spread, random), random) for _ in range(arguments.worlds)]
                differences, both, alone = np.array(worlds).T
                off = abs(differences - truth(spread))
                cells = [f"{n:,}", count, spread, f"{100 * truth(spread):+.2f} pp"]
                cells += [f"{100 * np.mean(off <= half):.1f} %" for half in (both, alone)]
                cells += [f"{200 * half.mean():.2f} pp" for half in (both, alone)]
                print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
