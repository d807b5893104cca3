"""How fast sequences are made, and what a whole type takes in memory.

`python tests/bench/bench_perturbation.py [--images N] [--sequences N] [--repeats R] [--device D]`

The images are scikit-learn's handwritten digits, enlarged to 32×32 RGB. The rate of each type is that of the median
pass over `--images` of them, after a warm-up. Then one type of `--sequences` × 31 frames (default 10,000, as published)
goes through what a run does with it, batch by batch: the frames, a network of a few thousand weights, the columns of
the table. The peak is that of the whole process, torch and all.

torch's threads wait for each other at every step, so on a machine that is busy with other work `OMP_NUM_THREADS=1`
gives the higher and the steadier figures.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time

import torch
from bench_corruptions import digits
from torch import Tensor, nn

from stressbench.contracts import Batch
from stressbench.execution.environment import cpu_name
from stressbench.randomness import image_keys
from stressbench.sampling import Unjudged
from stressbench_suites.perturbation.engine import ENGINE_VERSION, FRAMES, PERTURBATIONS, perturb
from stressbench_suites.perturbation.suite import PerturbationSuite

BATCH = 100  # the default of a run on the CPU


def seconds(images: Tensor, keys: Tensor, perturbation: str, repeats: int) -> float:
    """The median time of one pass over all images."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        for part in torch.arange(len(images)).split(BATCH):
            perturb(images[part], perturbation, keys[part])
        if images.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def whole_type(count: int, device: str) -> float:
    """Seconds for one type of `count` sequences, table included."""
    suite, condition = PerturbationSuite(), {"perturbation": "gaussian_noise"}
    images = digits(count, device)
    labels = torch.zeros(count, dtype=torch.int64, device=device)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 15 * 15, 10)).to(device)
    start = time.perf_counter()
    table: list[dict[str, Tensor]] = []
    with torch.inference_mode():
        for indices in torch.arange(count, device=device).split(BATCH):
            batch = Batch(images[indices], labels[indices], indices, image_keys(0, indices))
            frames = suite.stress(condition, batch, Unjudged(model)).images
            log_probs = model(frames.flatten(0, 1)).log_softmax(-1).view(1, len(indices), -1, 10)
            columns = suite.observe(condition, batch, log_probs)
            table.append({name: column.cpu() for name, column in columns.items()})
    joined = {name: torch.cat([part[name] for part in table]) for name in table[0]}
    assert all(len(column) == count for column in joined.values())
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300, help="for the rates (default 300)")
    parser.add_argument("--sequences", type=int, default=10_000, help="for the memory (default 10,000)")
    parser.add_argument("--repeats", type=int, default=5, help="timed passes of each type (default 5)")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    images = digits(options.images, options.device)
    keys = image_keys(0, torch.arange(options.images, device=options.device))
    device = torch.cuda.get_device_name() if images.is_cuda else cpu_name()
    print(f"engine {ENGINE_VERSION}, torch {torch.__version__}, {torch.get_num_threads()} threads, {device}")
    print(f"{options.images} images of 32×32, batches of {BATCH}, median of {options.repeats} passes\n")
    print(f"{'perturbation':18} {'frames':>6} {'frames/s':>10}")
    total = 0.0
    for perturbation in PERTURBATIONS:
        spent = seconds(images, keys, perturbation, options.repeats)
        total += spent
        print(
            f"{perturbation:18} {FRAMES[perturbation]:6} {options.images * FRAMES[perturbation] / spent:10,.0f}",
            flush=True,
        )
    print(f"{'all ten':18} {sum(FRAMES.values()):6} {options.images * sum(FRAMES.values()) / total:10,.0f}\n")

    spent = whole_type(options.sequences, options.device)
    # Kilobytes, but on macOS bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    frames = options.sequences * FRAMES["gaussian_noise"]
    print(
        f"{options.sequences:,} × {FRAMES['gaussian_noise']} frames of gaussian_noise through a small network: ", end=""
    )
    print(f"{spent:.0f} s, {frames / spent:,.0f} frames/s; peak memory of the process {peak / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
