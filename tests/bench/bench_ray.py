"""What a second worker is worth: `python tests/bench/bench_ray.py [--images 400] [--repeats 3]`.

The corruption suite with a ResNet-20 of random weights, measured by one and by two workers of one thread each, in turn.
The time is that of the run without the start of Ray and its workers, who have done a small run before.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
from goals import line

from stressbench import registry, weights
from stressbench._util.terminal import Screen
from stressbench.datasets.digits import digits
from stressbench.execution.executors import Executor, executor
from stressbench.execution.plan import Failure
from stressbench.execution.request import Computing, RunRequest
from stressbench.execution.session import run
from stressbench.training.provide import provider

GOAL = 0.56
LINE = "Ray, two workers of one thread ÷ one worker of one thread"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if importlib.util.find_spec("ray") is None:
        line(LINE, "skipped: Ray is not installed", at_most=GOAL)
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "random.safetensors"
        torch.manual_seed(0)
        weights.save(registry.model(options.model, digits("test")), file, {})
        for repeat in range(options.repeats):
            spent = {}
            for workers in (1, 2):
                out = Path(folder) / f"{repeat}-{workers}"
                small, whole = (request(options.model, file, images) for images in (2, options.images))
                with executor(Computing("ray", workers), small, Screen(quiet=True)) as pool:
                    seconds(pool, small, out / "warm")
                    spent[workers] = seconds(pool, whole, out / "timed")
            ratios.append(spent[2] / spent[1])
            print(f"one worker {spent[1]:7.2f} s   two {spent[2]:7.2f} s   ratio {ratios[-1]:.3f}", flush=True)
    line(LINE, statistics.median(ratios), at_most=GOAL)


def request(model: str, file: Path, images: int) -> RunRequest:
    return RunRequest(("corruption",), (model,), "digits", weights=(file,), limit=images, batch_size=50)


def seconds(pool: Executor, asked: RunRequest, out: Path) -> float:
    """A run's time in a pool that is there."""
    started = time.perf_counter()
    (finished,) = run(asked, out, fresh=True, screen=Screen(quiet=True), provider=provider, executor=pool)
    spent = time.perf_counter() - started
    if isinstance(finished, Failure):
        raise finished.error
    return spent


if __name__ == "__main__":
    main()
