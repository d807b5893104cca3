"""How fast the stress engine is: `python tests/bench/bench_corruptions.py [--images N] [--repeats R] [--device D]`.

The images are scikit-learn's handwritten digits, enlarged to 32×32 RGB. Each of the fifteen corruptions runs at all
five severities over all images; the time of a severity is the median of the repeats, after a warm-up that also
computes whatever the engine keeps. The rate of the published code is quoted, not measured here: it works image by
image, on one CPU core.

torch's threads wait for each other at every step, so on a machine that is busy with other work `OMP_NUM_THREADS=1`
gives the higher and the steadier figures.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor

from stressbench.execution.environment import cpu_name
from stressbench.randomness import image_keys
from stressbench_suites.corruption.engine import CORRUPTIONS, ENGINE_VERSION, corrupt

# Images a second of the published per-image code on one CPU core, as the protocol's notes quote it.
PUBLISHED = {
    "gaussian_noise": 9300,
    "shot_noise": 4200,
    "impulse_noise": 8900,
    "defocus_blur": 5600,
    "glass_blur": 150,
    "motion_blur": 730,
    "zoom_blur": 510,
    "snow": 520,
    "frost": 210,
    "fog": 3500,
    "brightness": 2800,
    "contrast": 17300,
    "elastic_transform": 2500,
    "pixelate": 21700,
    "jpeg_compression": 8600,
}
PUBLISHED_TOGETHER = 800


def digits(count: int, device: str) -> Tensor:
    """(count, 3, 32, 32) on the grid of grey levels."""
    images = torch.from_numpy(load_digits().images).float()[:, None] / 16
    images = F.interpolate(images, (32, 32), mode="bilinear").mul(255).round().div(255)
    return images[torch.arange(count) % len(images)].expand(-1, 3, -1, -1).contiguous().to(device)


def seconds(images: Tensor, keys: Tensor, corruption: str, severity: int, repeats: int) -> float:
    """The median time of one pass over all images."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        corrupt(images, corruption, severity, keys)
        if images.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--repeats", type=int, default=5, help="timed passes of each condition (default 5)")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    images = digits(options.images, options.device)
    keys = image_keys(0, torch.arange(options.images, device=options.device))
    device = torch.cuda.get_device_name() if images.is_cuda else cpu_name()
    print(f"engine {ENGINE_VERSION}, torch {torch.__version__}, {torch.get_num_threads()} threads, {device}")
    print(f"{options.images} images of 32×32, five severities, median of {options.repeats} passes\n")
    print(f"{'corruption':18} {'images/s':>10} {'published (quoted)':>20} {'ratio':>7}")
    total = 0.0
    for corruption in CORRUPTIONS:
        spent = sum(seconds(images, keys, corruption, severity, options.repeats) for severity in range(1, 6))
        total += spent
        row(corruption, 5 * options.images / spent, PUBLISHED[corruption])
    row("all fifteen", 5 * len(CORRUPTIONS) * options.images / total, PUBLISHED_TOGETHER)


def row(name: str, rate: float, published: int) -> None:
    print(f"{name:18} {rate:10,.0f} {published:20,} {rate / published:6.1f}x", flush=True)


if __name__ == "__main__":
    main()
