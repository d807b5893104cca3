"""AutoAttack by its authors' package alone and as the suite runs it: `python tests/bench/bench_autoattack.py`.

Robust accuracy of the public CIFAR-10 ResNet-20 on the first images, in L∞: the package called as its authors describe
(standard version, seed 0, one batch), the suite's `pyautoattack`, and its `autoattack`, which is torchattacks' copy.
The suite's conditions are kept in `runs/`, so that a command that was stopped goes on there.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

import stressbench

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
sys.path.insert(0, str(ROOT / "tests"))

from public_resnet20 import trained  # noqa: E402

SUITE = ("pyautoattack", "autoattack")


def ours(images: int, eps: list[str]) -> dict[tuple[str, float], float]:
    """The accuracy under each of the suite's attacks at each budget."""
    record = stressbench.run(
        "resnet20,normalisation=imagenet",
        "adversarial",
        "cifar10",
        weights=SHARED / "weights" / "cifar10_resnet20_public.th",
        data_dir=SHARED / "data" / "cifar10",
        dataset_name="cifar10-jpeg75",
        limit=images,
        batch_size=images,
        out=ROOT / "runs",
        attack=SUITE,
        eps=eps,
        audit=False,
    )
    rows = [(row.condition, row.metrics["accuracy"]) for row in record.conditions]
    return {(str(c["attack"]), float(c["eps"])): accuracy for c, accuracy in rows if accuracy is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200, help="default 200")
    parser.add_argument("--eps", default="1,2,8", help="times 255, default 1,2,8")
    options = parser.parse_args()
    if not SHARED.is_dir():
        print("skipped: the public data and weights are not beside this checkout")
        return
    from pyautoattack import AutoAttack

    budgets = [int(one) for one in options.eps.split(",")]
    found = ours(options.images, [f"{one}/255" for one in budgets])
    net, dataset = trained(SHARED, "cpu")
    images, labels = dataset.images.read(0, options.images) / 255, dataset.labels[: options.images]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.images} images")
    print(f"\n{'eps':>6} {'package alone':>14}" + "".join(f" {name:>14}" for name in SUITE), flush=True)
    for one in budgets:
        start = time.perf_counter()
        attack = AutoAttack(net, norm="Linf", eps=one / 255, version="standard", seed=0, device="cpu")
        attacked, _ = attack.run_standard_evaluation(images, labels, batch_size=options.images)
        with torch.no_grad():
            right = (net(images).argmax(dim=1) == labels) & (net(attacked).argmax(dim=1) == labels)
        cells = [f"{float(right.float().mean()):14.1%}", *(f"{found[name, one / 255]:14.1%}" for name in SUITE)]
        print(f"{one:>2}/255 {' '.join(cells)}   ({time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
