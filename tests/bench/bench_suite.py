"""What the corruption suite costs beside the loop that a user would write: forward passes over images that are ready.

    python tests/bench/bench_suite.py [--model resnet20] [--images 200] [--device cpu] [--repeats 3]

The model has random weights. The suite makes its 76 conditions; the loop shows the model as many clean images in
batches of the same size, in float32 and the default memory layout. Times are of measuring alone, as a record says.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from goals import line

from stressbench import registry, weights
from stressbench._util.terminal import Screen
from stressbench.datasets.digits import digits
from stressbench.execution.device import device_name, pick_device
from stressbench.execution.plan import Failure
from stressbench.execution.request import RunRequest
from stressbench.execution.session import run
from stressbench.record import Record
from stressbench.training.provide import provider

GOALS = {"resnet18": 0.65, "resnet20": 1.05}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--device")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    device = pick_device(options.device)
    print(
        f"corruption suite, {options.model}, {options.images} images, torch {torch.__version__}, "
        f"{device_name(device)}, {torch.get_num_threads()} threads, median of {options.repeats}\n"
    )
    torch.manual_seed(0)
    data = digits("test")
    module = registry.model(options.model, data).eval().to(device)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "random.safetensors"
        weights.save(module, file, {})
        for repeat in range(options.repeats):  # in turn, so that a machine that drifts slows both down
            record = suite(options.model, file, options.images, device, Path(folder) / str(repeat))
            loop = passes(
                module, data.images.read(0, options.images), len(record.conditions), record.batch_size, device
            )
            ratios.append(record.timing.seconds / loop)
            print(f"suite {record.timing.seconds:7.2f} s   loop {loop:7.2f} s   ratio {ratios[-1]:.3f}")
    line(
        f"corruption suite, {options.model}, ÷ the loop a user writes",
        statistics.median(ratios),
        at_most=GOALS.get(options.model, 1.05),
    )


def suite(model: str, file: Path, n: int, device: torch.device, out: Path) -> Record:
    request = RunRequest(("corruption",), (model,), "digits", weights=(file,), limit=n, device=str(device))
    (finished,) = run(request, out, fresh=True, screen=Screen(), provider=provider)
    if isinstance(finished, Failure):
        raise finished.error
    return finished.record


def passes(module: torch.nn.Module, pixels: torch.Tensor, times: int, batch_size: int, device: torch.device) -> float:
    images = pixels.to(device) / 255
    with torch.inference_mode():
        module(images[:batch_size])  # warm-up
        started = time.perf_counter()
        for _ in range(times):
            for start in range(0, len(images), batch_size):
                module(images[start : start + batch_size]).argmax(dim=1).cpu()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
