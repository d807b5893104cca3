"""What the corruption suite costs beside the loop that a user would write: forward passes over images that are ready.

    python tests/bench/bench_suite.py [--model resnet20] [--images 200] [--device cpu] [--repeats 3] [--data-dir DIR]
        [--compile]

The model has random weights. The suite makes its 76 conditions; the loop shows the model as many clean images in
batches of the same size, in float32 and the default memory layout. Times are of measuring alone, as a record says.
Images are digits, or with `--data-dir` CIFAR-10's, of which there are enough to fill a GPU. On a GPU, torch lets
cuDNN round a convolution's inputs to TF32, which a run does not: the loop is timed without that, and with it beside.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
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

GOALS = {("resnet18", "cpu"): 0.65, ("resnet20", "cpu"): 1.05, ("resnet18", "cuda"): 0.5, ("resnet20", "cuda"): 1.2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--device")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--compile", action="store_true", help="time the suite with `--compile`, after a run that compiles"
    )
    parser.add_argument("--data-dir", type=Path, help="CIFAR-10's folder, in place of the embedded digits")
    options = parser.parse_args()
    device = pick_device(options.device)
    print(
        f"corruption suite, {options.model}, {options.images} images, torch {torch.__version__}, "
        f"{device_name(device)}, {torch.get_num_threads()} threads, median of {options.repeats}\n"
    )
    torch.manual_seed(0)
    data = digits("test") if options.data_dir is None else registry.dataset("cifar10", "test", options.data_dir)
    module = registry.model(options.model, data).eval().to(device)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "random.safetensors"
        weights.save(module, file, {})
        for repeat in range(options.repeats):  # in turn, so that a machine that drifts slows both down
            request = RunRequest(
                ("corruption",),
                (options.model,),
                data.name,
                data_dir=options.data_dir,
                weights=(file,),
                limit=options.images,
                device=str(device),
                compiled=options.compile,
            )
            if options.compile and not repeat:
                suite(replace(request, limit=100, suite_options={"severities": "1"}), Path(folder) / "warm")
            record = suite(request, Path(folder) / str(repeat))
            pixels, times = data.images.read(0, options.images), len(record.conditions)
            loop = passes(module, pixels, times, record.batch_size, device)
            ratios.append(record.timing.seconds / loop)
            print(f"suite {record.timing.seconds:7.2f} s   loop {loop:7.2f} s   ratio {ratios[-1]:.3f}", flush=True)
        if device.type == "cuda":
            rounded = passes(module, pixels, times, record.batch_size, device, "tf32")
            print(f"{'':18}loop {rounded:7.2f} s in TF32")
    line(
        f"corruption suite, {options.model}, ÷ the loop a user writes",
        statistics.median(ratios),
        at_most=GOALS.get((options.model, device.type), 1.05),
    )


def suite(request: RunRequest, out: Path) -> Record:
    (finished,) = run(request, out, fresh=True, screen=Screen(), provider=provider)
    if isinstance(finished, Failure):
        raise finished.error
    return finished.record


def passes(
    module: torch.nn.Module,
    pixels: torch.Tensor,
    times: int,
    batch_size: int,
    device: torch.device,
    convolutions: str = "ieee",
) -> float:
    """The seconds that a user's loop takes; `convolutions` is how cuDNN is to round."""
    torch.backends.cudnn.conv.fp32_precision = convolutions  # type: ignore[attr-defined]
    images = pixels.to(device) / 255
    with torch.inference_mode():
        module(images[:batch_size]).cpu()  # warm-up
        started = time.perf_counter()
        for _ in range(times):
            for start in range(0, len(images), batch_size):
                module(images[start : start + batch_size]).argmax(dim=1).cpu()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
