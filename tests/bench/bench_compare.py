"""What `bench compare` costs: `python tests/bench/bench_compare.py [--images 200] [--repeats 3]`.

Three runs of linear models through the corruption suite, 76 conditions each. The time is that of the processor in the
whole command, imports included. Its intervals and tests are made of 20 scorings, by leaving out groups of the images;
a bootstrap takes about 1,000.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from goals import line

GOAL = 5.0
NETS = """
import torch

def net(dataset, seed: int = 0):
    height, width = dataset.image_size
    layer = torch.nn.Linear(3 * height * width, dataset.classes)
    with torch.no_grad():
        layer.weight.copy_(0.05 * torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(seed)))
    return torch.nn.Sequential(torch.nn.Flatten(), layer)
"""


def cpu_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    bench = str(Path(sys.executable).parent / "bench")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("nets.py").write_text(NETS, encoding="utf-8")
        for seed in range(3):
            words = ["run", "--suite", "corruption", "--model", f"file:nets.py:net,seed={seed}", "--out", "runs"]
            cpu_seconds([bench, *words, "--dataset", "digits", "--limit", str(options.images)])
        runs = sorted(map(str, Path("runs").iterdir()))
        spent = [cpu_seconds([bench, "compare", *runs]) for _ in range(options.repeats)]
    print(f"bench compare, 3 runs × 76 conditions × {options.images} images: {statistics.median(spent):.2f} s of CPU")
    line("`bench compare`, 3 runs × 76 conditions × 200 images, s of CPU", statistics.median(spent), at_most=GOAL)


if __name__ == "__main__":
    main()
