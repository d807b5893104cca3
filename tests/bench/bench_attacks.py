"""What PGD costs beside torchattacks': `python tests/bench/bench_attacks.py [--images N]`.

PGD-20, L∞, ε = 8/255, step 1/255, one random start, on the public CIFAR-10 ResNet-20 and the same images, in one run:
torchattacks, ours for robust accuracy and ASR alone (an image stops once it fools), and ours in full. Each is timed
after a warm-up on a few images. The goal is that verdicts alone are at least 8 times faster than torchattacks, and 5
times on a GPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from goals import line
from torch import Tensor

from stressbench import randomness
from stressbench_suites.adversarial.attacks import Victim, noise, pgd

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
sys.path.insert(0, str(ROOT / "tests"))

from public_resnet20 import trained  # noqa: E402

GOALS = {"cpu": 8.0, "cuda": 5.0}
LINE = "PGD-20, verdicts ÷ torchattacks"
EPS, STEPS, STEP_SIZE = 8 / 255, 20, 1 / 255

Attack = Callable[[Tensor, Tensor, Tensor], Tensor]  # images, labels and keys to attacked images


def seconds(attack: Attack, data: tuple[Tensor, Tensor, Tensor], size: int) -> tuple[float, Tensor]:
    """The time for all batches, and the attacked images."""
    attack(*(part[:4] for part in data))
    start = time.perf_counter()
    attacked = torch.cat([attack(*parts) for parts in zip(*(part.split(size) for part in data), strict=True)])
    if attacked.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, attacked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200, help="default 200")
    parser.add_argument("--batch-size", type=int, default=100, help="default 100")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if not SHARED.is_dir():
        line(LINE, "skipped: the public data and weights are not beside this checkout", at_least=GOALS[options.device])
        return
    import torchattacks

    net, dataset = trained(SHARED, options.device)
    images = (dataset.images.read(0, options.images) / 255).to(options.device)
    labels = dataset.labels[: options.images].to(options.device)
    keys = randomness.image_keys(0, torch.arange(options.images, device=options.device))

    def theirs(images: Tensor, labels: Tensor, keys: Tensor) -> Tensor:
        attack = torchattacks.PGD(net, eps=EPS, alpha=STEP_SIZE, steps=STEPS)
        attacked: Tensor = attack(images.contiguous(memory_format=torch.channels_last), labels)
        return attacked

    def ours(verdicts_only: bool) -> Attack:
        def attack(images: Tensor, labels: Tensor, keys: Tensor) -> Tensor:
            starts = [noise(keys, images, EPS, "linf")]
            victim = Victim(net, keys, 1)
            return pgd(victim, images, labels, EPS, "linf", STEPS, STEP_SIZE, starts, verdicts_only).images

        return attack

    def right(images: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([net(part).argmax(dim=1) for part in images.split(options.batch_size)]) == labels

    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.device}")
    print(f"public ResNet-20, {options.images} images, {float(right(images).float().mean()):.1%} right before")
    print(f"PGD-{STEPS}, L∞, eps 8/255\n\n{'':32} {'s':>8} {'images/s':>9} {'accuracy':>9}")
    times, verdicts = {}, {}
    attacks = {"torchattacks": theirs, "ours, verdicts alone": ours(True), "ours, in full": ours(False)}
    for name, attack in attacks.items():
        times[name], attacked = seconds(attack, (images, labels, keys), options.batch_size)
        verdicts[name] = right(attacked)
        accuracy = float(verdicts[name].float().mean())
        print(f"{name:32} {times[name]:8.2f} {options.images / times[name]:9.1f} {accuracy:9.1%}", flush=True)
    # An image that is wrong before the attack may be right after torchattacks'; ours keeps it wrong.
    stops = verdicts["ours, verdicts alone"]
    for name in ("ours, in full", "torchattacks"):
        print(f"the same verdict as {name}: {float((stops == verdicts[name]).float().mean()):.1%} of the images")
    ratio = times["torchattacks"] / times["ours, verdicts alone"]
    line(LINE, ratio, at_least=GOALS[options.device])


if __name__ == "__main__":
    main()
