"""How fast the stress engine is: `python tests/bench/bench_corruptions.py [--size 32] [--images N] [--repeats R]`.

The images are scikit-learn's handwritten digits, enlarged to RGB of that size. Each of the fifteen corruptions runs at
all five severities over all images; the time of a severity is the median of the repeats, after a warm-up that also
computes whatever the engine keeps. Beside it, in turn, the public `imagecorruptions` package does a few of the images
one by one, with its own constants (ImageNet's), where `--peer` is a Python that has it; and Pillow in a loop does what
`jpeg_compression` does.

torch's threads wait for each other at every step, so on a machine that is busy with other work `OMP_NUM_THREADS=1`
gives the higher and the steadier figures.
"""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from goals import line
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from stressbench.execution.environment import cpu_name
from stressbench.randomness import image_keys
from stressbench_suites.corruption.digital import _JPEG
from stressbench_suites.corruption.engine import CORRUPTIONS, ENGINE_VERSION, corrupt

ROOT = Path(__file__).parents[2]
GOALS = {("cpu", 32): 20.0, ("cpu", 224): 10.0, ("cuda", 32): 500.0, ("cuda", 224): 500.0}
JPEG_GOAL = 1.5
SEVERITIES = range(1, 6)


class Peer:
    """`imagecorruptions` in a process of its own, on the same images."""

    def __init__(self, python: Path, images: Tensor) -> None:
        self._file = tempfile.NamedTemporaryFile(suffix=".npy")  # noqa: SIM115
        np.save(self._file, levels(images))
        self._file.flush()
        self._process = subprocess.Popen(
            [python, Path(__file__).with_name("imagecorruptions_worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def seconds(self, corruption: str, severity: int) -> float:
        assert self._process.stdin is not None, "piped"
        assert self._process.stdout is not None, "piped"
        print(corruption, severity, self._file.name, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._file.close()


def digits(count: int, size: int, device: str) -> Tensor:
    """(count, 3, size, size) on the grid of grey levels."""
    images = torch.from_numpy(load_digits().images).float()[:, None] / 16
    images = F.interpolate(images, (size, size), mode="bilinear").mul(255).round().div(255)
    return images[torch.arange(count) % len(images)].expand(-1, 3, -1, -1).contiguous().to(device)


def levels(images: Tensor) -> np.ndarray:
    """(N, H, W, 3), uint8."""
    return images.mul(255).round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The median time after a warm-up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def pillow(pictures: np.ndarray, quality: int) -> np.ndarray:
    decoded = []
    for picture in pictures:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(file)))
    return np.stack(decoded)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32, help="of the images (default 32)")
    parser.add_argument("--images", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--repeats", type=int, default=3, help="timed passes of each condition (default 3)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peer", type=Path, default=ROOT / "build" / "imagecorruptions" / "bin" / "python")
    parser.add_argument("--peer-images", type=int, help="default 20, of 224 pixels 2")
    options = parser.parse_args()

    size, count = options.size, options.images
    images = digits(count, size, options.device)
    keys = image_keys(0, torch.arange(count, device=options.device))
    goal = GOALS.get((images.device.type, size), 10.0)
    device = torch.cuda.get_device_name() if images.is_cuda else cpu_name()
    name = f"engine, fifteen corruptions, {size}×{size}, ÷ `imagecorruptions`"
    print(f"engine {ENGINE_VERSION}, torch {torch.__version__}, {torch.get_num_threads()} threads, {device}")
    print(f"{count} images of {size}×{size}, five severities, median of {options.repeats} passes\n")
    if not options.peer.exists():
        for corruption in CORRUPTIONS:
            spent = sum(_ours(images, keys, corruption, severity, options.repeats) for severity in SEVERITIES)
            print(f"{corruption:18} {len(SEVERITIES) * count / spent:10,.0f} images/s", flush=True)
        line(name, f"skipped: there is no {options.peer}", at_least=goal)
        _jpeg(images, keys)
        return
    few = options.peer_images or (20 if size < 64 else 2)
    print(f"{'corruption':18} {'images/s':>10} {'imagecorruptions':>18} {'ratio':>8}")
    ours, theirs = 0.0, 0.0
    with Peer(options.peer, images[:few]) as peer:
        for corruption in CORRUPTIONS:
            one = other = 0.0
            for severity in SEVERITIES:  # in turn, so that a machine that drifts slows both
                other += peer.seconds(corruption, severity) / few
                one += _ours(images, keys, corruption, severity, options.repeats) / count
            _row(corruption, one, other)
            ours, theirs = ours + one, theirs + other
    _row("all fifteen", ours, theirs, len(CORRUPTIONS))
    line(name, theirs / ours, at_least=goal)
    _jpeg(images, keys)


def _jpeg(images: Tensor, keys: Tensor) -> None:
    size, pictures, ratios = images.shape[3], levels(images), []
    for severity in SEVERITIES:
        quality = int(_JPEG.at(images, severity))
        loop = seconds(lambda quality=quality: pillow(pictures, quality), 1)
        ratios.append(loop / _ours(images, keys, "jpeg_compression", severity, 1))
    line(f"jpeg_compression, {size}×{size}, ÷ Pillow in a loop", statistics.median(ratios), at_least=JPEG_GOAL)


def _ours(images: Tensor, keys: Tensor, corruption: str, severity: int, repeats: int) -> float:
    return seconds(lambda: corrupt(images, corruption, severity, keys), repeats)


def _row(name: str, ours: float, theirs: float, corruptions: int = 1) -> None:
    """`ours` and `theirs` are the seconds of an image at all severities."""
    rates = [corruptions * len(SEVERITIES) / spent for spent in (ours, theirs)]
    print(f"{name:18} {rates[0]:10,.0f} {rates[1]:18,.0f} {theirs / ours:7.1f}x", flush=True)


if __name__ == "__main__":
    main()
