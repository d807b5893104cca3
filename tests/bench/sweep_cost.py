"""What a sweep of many models over five suites costs: `python tests/bench/sweep_cost.py [--set cifar] [--model NAME]`.

Measures on this machine how many images a second a model of random weights passes, and takes gradients of, and how
long the images of each condition take to make, or, of ImageNet-P, to decode from films; counts the conditions, frames,
passes and steps of the suites; and multiplies. `--passes` and `--gradients` stand for rates that were measured
elsewhere, and leave the images out. Not in it: reading of clean images, the tables' writing, and a process's start,
which do not grow with the passes; and that attacks leave out images that are misclassified anyway, which saves steps.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from stressbench import registry
from stressbench.contracts import Classification, Dataset, InMemory
from stressbench.datasets.videos import IMAGENET_P, VideoArchive
from stressbench.execution.device import device_name, pick_device, prepared
from stressbench.randomness import image_keys
from stressbench_suites.adversarial.suite import STEPS
from stressbench_suites.corruption.engine import corrupt
from stressbench_suites.perturbation.engine import FRAMES, perturb

BATCH = 100


@dataclass(frozen=True)
class Cost:
    """Of one image under all conditions of a suite."""

    suite: str
    passes: int
    gradients: int = 0
    stress: Callable[[], float] = lambda: 0.0  # seconds


SETS = {"cifar": (32, 10, 10_000, "resnet20"), "imagenet": (224, 1000, 50_000, "resnet50")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=SETS, default="cifar")
    parser.add_argument("--model", help="default resnet20 for cifar, resnet50 for imagenet")
    parser.add_argument("--models", type=int, default=1000, help="in the sweep (default 1000)")
    parser.add_argument("--device")
    parser.add_argument("--passes", type=float, help="images a second, in place of measuring them")
    parser.add_argument("--gradients", type=float, help="images a second; a third of the passes where these are given")
    options = parser.parse_args()
    side, classes, images, name = SETS[options.set]
    name = options.model or name
    if options.passes is None:
        device = pick_device(options.device)
        print(f"torch {torch.__version__}, {device_name(device)}, {torch.get_num_threads()} threads")
        passes, gradients = _rates(name, side, classes, device)
        given = False
    else:
        passes, gradients, given = options.passes, options.gradients or options.passes / 3, True
    print(
        f"{name} on {images:,} images of {side}×{side}: {_rate(passes)} passes and {_rate(gradients)} gradients "
        "a second\n"
    )
    print(f"| suite | passes | gradients | images, s | one model, s | {options.models:,} models, h |\n{'|---' * 6}|")
    total = 0.0
    for cost in _costs(options.set, side, torch.device("cpu") if given else device):
        stress = 0.0 if given else images * cost.stress()
        spent = images * (cost.passes / passes + cost.gradients / gradients) + stress
        total += spent
        counts = f"{images * cost.passes:,} | {images * cost.gradients:,} | {'–' if given else f'{stress:,.1f}'}"
        print(f"| {cost.suite} | {counts} | {spent:,.1f} | {options.models * spent / 3600:,.1f} |", flush=True)
    print(f"| all | | | | {total:,.1f} | {options.models * total / 3600:,.1f} |")


def _rate(of: float) -> str:
    return f"{of:,.0f}" if of >= 100 else f"{of:.1f}"


def _costs(of: str, side: int, device: torch.device) -> Iterator[Cost]:
    corruption, uncertainty = (registry.suite(name).conditions() for name in ("corruption", "uncertainty"))
    yield Cost("corruption", len(corruption), stress=lambda: _corrupting(corruption, side, device))
    yield Cost("uncertainty", len(uncertainty), stress=lambda: _corrupting(uncertainty, side, device))
    if of == "cifar":
        yield Cost("perturbation", sum(FRAMES.values()), stress=lambda: _perturbing(side, device))
    else:
        yield Cost("perturbation, films", sum(IMAGENET_P.values()), stress=_decoding)
    bands = registry.suite("frequency").conditions()
    yield Cost("frequency", len(bands), sum(condition["signal"] == "fgsm" for condition in bands))
    attacks = registry.suite("adversarial", {"audit": "false"}).conditions()
    steps = {"none": 0, "fgsm": 1, "pgd": STEPS}
    yield Cost("adversarial", len(attacks), sum(steps[str(condition["attack"])] for condition in attacks))


def _rates(name: str, side: int, classes: int, device: torch.device) -> tuple[float, float]:
    """Images a second, forward, and forward and back to the image, as runs do them: float32, channels last."""
    torch.manual_seed(0)
    count = BATCH if side < 64 or device.type == "cuda" else 8
    pixels = torch.rand(count, 3, side, side)
    held = InMemory(torch.zeros(1, 3, side, side, dtype=torch.uint8))
    data = Dataset(
        "x", "test", Classification(classes), held, InMemory(torch.zeros(1, dtype=torch.int64)), (side, side)
    )
    module: nn.Module = prepared(registry.model(name, data)).to(device, memory_format=torch.channels_last)
    images = pixels.to(device, memory_format=torch.channels_last)

    def forward() -> None:
        with torch.no_grad():
            module(images)

    def backward() -> None:
        wanted = images.clone().requires_grad_()
        torch.autograd.grad(module(wanted).logsumexp(1).sum(), wanted)

    return count / _seconds(forward, device), count / _seconds(backward, device)


def _corrupting(conditions: list[dict[str, object]], side: int, device: torch.device) -> float:
    """Seconds that an image's stressed versions take."""
    images, keys = _some(side, device)
    stressed = [(str(c["corruption"]), int(str(c["severity"]))) for c in conditions if c["corruption"] != "none"]

    def all_of_them() -> None:
        for corruption, severity in stressed:
            corrupt(images, corruption, severity, keys)

    return _seconds(all_of_them, device, times=1) / len(images)


def _perturbing(side: int, device: torch.device) -> float:
    images, keys = _some(side, device)
    return sum(_seconds(lambda name=name: perturb(images, name, keys), device, times=1) for name in FRAMES) / len(
        images
    )


def _decoding() -> float:
    """Seconds that an image's ten films take on this CPU."""
    import av

    noise = np.random.default_rng(0).integers(0, 256, (254, 224, 3), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(noise[::16, ::16]).resize((224, 254), Image.Resampling.BICUBIC))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        film: Any = av.open(path, "w")
        with film:
            stream = film.add_stream("libx264", rate=30, options={"crf": "20"})
            stream.width, stream.height, stream.pix_fmt = 224, 224, "yuv420p"
            for t in range(31):
                film.mux(stream.encode(av.VideoFrame.from_ndarray(soft[t : t + 224].copy(), format="rgb24")))
            film.mux(stream.encode())
        archive = VideoArchive(Path(folder), ["film"], (224, 224))
        archive._paths["scale"] = [path] * 10
        spent = _seconds(lambda: archive.read({"perturbation": "scale"}, 0, 10), torch.device("cpu"))
    return spent * sum(IMAGENET_P.values()) / 310


def _some(side: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    count = 2000 if device.type == "cuda" else 100 if side < 64 else 4
    images = torch.rand(count, 3, side, side).mul_(255).round_().div_(255).to(device)
    return images, image_keys(0, torch.arange(count, device=device))


def _seconds(work: Callable[[], object], device: torch.device, times: int = 3) -> float:
    """The shortest time after a warm-up."""
    spent = []
    for _ in range(times + 1):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - started)
    return min(spent[1:])


if __name__ == "__main__":
    main()
