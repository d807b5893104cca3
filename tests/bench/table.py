"""The table of speed: `python tests/bench/table.py [--device cuda]`.

Runs the scripts that have goals one after the other, shows what they print, and ends with one line for each goal. Each
ratio is of two things that were measured in turn in one process or a few, so a machine that is busy slows both.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from goals import fields

from stressbench.execution.environment import cpu_name

HERE = Path(__file__).parent
SCRIPTS = {
    "cpu": (
        "bench_suite.py --model resnet18 --images 50",
        "bench_suite.py --model resnet20",
        "bench_corruptions.py --size 32",
        "bench_corruptions.py --size 224 --images 30",
        "bench_mc_dropout.py",
        "bench_compare.py",
        "bench_ray.py",
        "bench_attacks.py",
    ),
    # Enough images to fill a GPU; the public ones, of which the digits have too few.
    "cuda": (
        "bench_mc_dropout.py --images 500",
        "bench_attacks.py --images 1000 --batch-size 1000",
        "bench_suite.py --model resnet20 --images 10000 --repeats 2 --data-dir ../shared/data/cifar10",
        "bench_suite.py --model resnet18 --images 5000 --repeats 2 --data-dir ../shared/data/cifar10",
        "bench_corruptions.py --size 32 --images 5000",
        "bench_corruptions.py --size 224 --images 500 --peer-images 1",
    ),
}

WITH_A_DEVICE = ("bench_suite.py", "bench_corruptions.py", "bench_mc_dropout.py", "bench_attacks.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--device", default="cpu", choices=SCRIPTS, help="of the scripts that compute on one (default cpu)"
    )
    device = parser.parse_args().device
    found = []
    for script in SCRIPTS[device]:
        name, *arguments = script.split()
        if name in WITH_A_DEVICE:
            arguments += ["--device", device]
        print(f"\n{script}\n", flush=True)
        with subprocess.Popen(
            [sys.executable, str(HERE / name), *arguments], stdout=subprocess.PIPE, text=True, encoding="utf-8"
        ) as process:
            assert process.stdout is not None, "piped"
            for text in process.stdout:
                print(text, end="", flush=True)
                if (measured := fields(text)) is not None:
                    found.append(measured)
        if process.returncode:
            found.append([script, f"failed with exit code {process.returncode}", "", "no"])
    name = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads, {cpu_name()}"
    print(f"\ntorch {torch.__version__}, {name}\n")
    print("| line | measured | goal | met |\n|---|---|---|---|")
    print("\n".join(f"| {' | '.join(measured)} |" for measured in found))


if __name__ == "__main__":
    main()
