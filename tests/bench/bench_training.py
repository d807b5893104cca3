"""How many images a second training gets through: `python tests/bench/bench_training.py [--model NAME]`.

The training loop itself, with recipe fast, on random images of CIFAR's size: cropping, mirroring, the forward and the
backward pass and the optimiser, without the measuring. The first epoch warms up; the median of the others counts. The
goal on a GPU of the H100 kind is 25,000 with a ResNet-18.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace

import torch

from stressbench import registry, training
from stressbench.contracts import Classification, Dataset, InMemory
from stressbench.execution.device import device_name, pick_device
from stressbench_plugins.recipes import FAST

GOAL = 25_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18", help="default resnet18")
    parser.add_argument("--images", type=int, help="in an epoch (default 50,000 on a GPU, 512 on a CPU)")
    parser.add_argument("--epochs", type=int, default=4, help="the first one included (default 4)")
    parser.add_argument("--device")
    options = parser.parse_args()

    device = pick_device(options.device)
    n = options.images or (50_000 if device.type == "cuda" else 512)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (n,), generator=generator)
    data = Dataset("random", "train", Classification(10), InMemory(images), InMemory(labels), (32, 32))
    module = training.fresh(lambda: registry.model(options.model, data), 0)
    recipe = replace(FAST.with_epochs(options.epochs), learning_rate=0.001)  # random labels: only the time counts
    epochs = training.train(module, data, recipe, 0, device, lambda *_: None)
    speeds = [epoch.images_per_second for epoch in epochs]
    print(f"torch {torch.__version__}, {device_name(device)}, {torch.get_num_threads()} threads")
    print(f"{options.model}, {n:,} images of 32×32 an epoch, batches of {recipe.batch_size}")
    print("images/s by epoch: " + ", ".join(f"{speed:,.0f}" for speed in speeds))
    goal = f"  (goal: {GOAL:,} with resnet18)" if device.type == "cuda" else ""
    print(f"median after the first: {statistics.median(speeds[1:]):,.0f}{goal}")


if __name__ == "__main__":
    main()
