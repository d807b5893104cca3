"""What draws cost that share the layers before a location: `python tests/bench/bench_draws.py [--draws S]`.

A ResNet-18 for 32×32 images, at each location, with dropout there. The time of S draws is compared with the time of S
passes of the plain network, each the median of the repeats after a warm-up, taken in turn so that a busy machine slows
both. The goal is less than 0.45 at location 3 with 32 draws.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from stressbench import locations, passes, randomness
from stressbench.datasets.digits import digits
from stressbench_plugins.resnet import resnet18

GOAL = 0.45  # at location 3, with 32 draws


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=32, help="default 32")
    parser.add_argument("--images", type=int, default=16, help="in one batch (default 16)")
    parser.add_argument("--repeats", type=int, default=3, help="default 3")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    data = digits("test")
    net: nn.Module = resnet18(data).eval().to(options.device, memory_format=torch.channels_last)
    images = (data.images.read(0, options.images) / 255).to(options.device, memory_format=torch.channels_last)
    keys = randomness.image_keys(0, torch.arange(options.images, device=options.device))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.device}")
    print(f"resnet18, {options.draws} draws of {options.images} images of 32×32, median of {options.repeats}\n")
    print(f"{'location':28} {'draws, s':>10} {'passes, s':>10} {'ratio':>7}")

    def plain() -> None:
        for _ in range(options.draws):
            net(images)

    for number, place in locations.find(net, data.image_size).items():

        def drawn(place: passes.Place = place) -> None:
            with randomness.draw(keys, 0):
                passes.changed(net, images, place, lambda x: randomness.dropout(x, 0.1), options.draws)

        with torch.inference_mode():
            times = [(seconds(drawn), seconds(plain)) for _ in range(options.repeats + 1)][1:]
        ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
        goal = f"  (goal: below {GOAL})" if number == 3 else ""
        print(f"{f'{number}  {place}':28} {ours:10.2f} {theirs:10.2f} {ours / theirs:7.3f}{goal}", flush=True)


if __name__ == "__main__":
    main()
