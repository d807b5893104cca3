"""What draws of MC dropout cost: `python tests/bench/bench_mc_dropout.py [--draws 50]`.

Draws of the MC dropout ResNet-18, as a run makes them, beside as many forward passes of the network without dropout.
Both have random weights and are timed in turn, after a warm-up.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from goals import line

from stressbench import randomness, registry
from stressbench.datasets.digits import digits
from stressbench.execution.device import prepared
from stressbench.execution.predict import Predictor

GOALS = {"cpu": 1.10, "cuda": 1.15}


def seconds(work: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--images", type=int, default=16, help="in one batch (default 16)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    data = digits("test")
    plain = prepared(registry.model("resnet18", data)).to(options.device)
    drawn = registry.model("resnet18-mcdo", data).to(options.device)
    entry = registry.resolve("resnet18-mcdo").entry
    predictor = Predictor(drawn, entry, data.task, [options.draws], True, "float32", options.images)
    images = (data.images.read(0, options.images) / 255).to(options.device, memory_format=torch.channels_last)
    keys = randomness.image_keys(0, torch.arange(options.images, device=options.device))

    def passes() -> None:
        for _ in range(options.draws):
            plain(images)

    with torch.no_grad():
        times = [
            (seconds(lambda: predictor.predict(images, keys), options.device), seconds(passes, options.device))
            for _ in range(options.repeats + 1)
        ][1:]
    ratio = statistics.median(ours / theirs for ours, theirs in times)
    print(
        f"resnet18-mcdo, {options.draws} draws of {options.images} images, torch {torch.__version__}, {options.device}"
    )
    print(f"ratios: {', '.join(f'{ours / theirs:.3f}' for ours, theirs in times)}")
    line(
        f"{options.draws} draws of MC dropout ÷ {options.draws} passes without dropout",
        ratio,
        at_most=GOALS[options.device],
    )


if __name__ == "__main__":
    main()
