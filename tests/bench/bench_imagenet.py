"""What a set of ImageNet's size costs: `python tests/bench/bench_imagenet.py [--images 20000] [--batches 6]`.

Makes JPEG files of 224×224 pixels in ImageNet's layout, in `--folder` or a temporary one, and looks at two runs on
them, in processes of their own: how long it takes until the first image is computed on, the peak of the resident
memory, and a ResNet-18 over some batches of 100 beside the same passes on images that are in memory, in turn.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image

from stressbench import registry
from stressbench._util.terminal import Screen
from stressbench.datasets.cache import ImageCache

CLASSES, SIZE, BATCH = 1000, 224, 100


def make(folder: Path, count: int) -> None:
    random = np.random.default_rng(0)
    for i in range(count):
        place = folder / "val" / f"n{1_440_764 + i % CLASSES:08d}"
        place.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(random.integers(0, 256, (28, 28, 3), dtype=np.uint8))
        whole = small.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        whole.save(place / f"ILSVRC2012_val_{i + 1:08d}.JPEG", quality=85)


def run(folder: Path, images: int, batches: int) -> None:
    started = time.perf_counter()
    data = registry.dataset("imagenet", "test", folder)
    listed = time.perf_counter() - started
    held = ImageCache(data, min(images, len(data.images)), torch.device("cpu"), Screen(quiet=True))
    held.batch(0, BATCH)
    ready = time.perf_counter() - started
    net = torchvision.models.resnet18(num_classes=CLASSES).eval()
    in_memory = held.batch(0, BATCH)[0]
    ratios = []
    with torch.inference_mode():
        net(in_memory)
        for number in range(1, batches + 1):
            begin = time.perf_counter()
            net(held.batch(number * BATCH, (number + 1) * BATCH)[0])
            middle = time.perf_counter()
            net(in_memory)
            ratios.append((middle - begin) / (time.perf_counter() - middle))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    ratio = f", passes with reading ÷ without {statistics.median(ratios):.3f}" if ratios else ""
    print(
        f"folder read in {listed:.1f} s, first batch after {ready:.1f} s, peak memory {peak:.2f} GiB{ratio}", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--run", action="store_true", help="one run alone, on the folder")
    options = parser.parse_args()
    if options.run:
        run(options.folder, options.images, options.batches)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch) / "imagenet"
        if not folder.exists():
            make(folder, options.images)
        print(
            f"{options.images:,} JPEG files, torch {torch.__version__}, {torch.get_num_threads()} threads", flush=True
        )
        command = [sys.executable, __file__, "--run", "--folder", str(folder), "--images", str(options.images)]
        environment = {**os.environ, "STRESSBENCH_HOME": str(Path(scratch) / "home")}
        for which in ("first", "second"):
            print(f"{which} run: ", end="", flush=True)
            subprocess.run([*command, "--batches", str(options.batches)], check=True, env=environment)


if __name__ == "__main__":
    main()
