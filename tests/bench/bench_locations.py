"""Where dropout disturbs a trained network least: `python tests/bench/bench_locations.py [--images N]`.

The public CIFAR-10 ResNet-20 behind `infer-dropout`, at each location and rate, on the first images of
`../shared/data/cifar10` (JPEG copies of CIFAR-10's test images); the training-free paper (Mi et al., 2019) finds that
the middle locations do. The same images and draws at each place, so the differences between places are paired.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from tabulate import tabulate

from stressbench import locations, metrics, randomness, registry
from stressbench.datasets.cache import ImageCache
from stressbench.execution.predict import Predictor
from stressbench_plugins.training_free import Disturbed, Dropout

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
sys.path.insert(0, str(ROOT / "tests"))

from public_resnet20 import trained  # noqa: E402

RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # the paper's
BATCH = 250


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500, help="default 500")
    parser.add_argument("--draws", type=int, default=8, help="default 8, as in the paper")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if not SHARED.is_dir():
        print("locations of ResNet-20: left out, the public data and weights are not beside this checkout")
        return

    net, data = trained(SHARED, options.device)
    images = ImageCache(data, options.images, torch.device(options.device))
    entry = registry.find("models", "infer-dropout")

    def measure(model: torch.nn.Module, draws: int) -> tuple[float, float]:
        """Accuracy and NLL."""
        predictor = Predictor(model, entry, data.classes, draws, draws > 1, "float32", BATCH)
        right, loss = 0, 0.0
        for start in range(0, options.images, BATCH):
            stop = min(start + BATCH, options.images)
            shown, labels = images.batch(start, stop)
            keys = randomness.image_keys(0, torch.arange(start, stop, device=options.device))
            log_p = metrics.log_mean_probability(predictor(shown, keys))
            right += int((log_p.argmax(-1) == labels).sum())
            loss += float(metrics.negative_log_likelihood(log_p, labels).double().sum())
        return right / options.images, loss / options.images

    accuracy, nll = measure(net, 1)
    print(f"infer-dropout:resnet20, {options.images:,} images, {options.draws} draws, {options.device}")
    print(f"without: accuracy {100 * accuracy:.1f} %, NLL {nll:.3f} nats")
    found = {
        (number, rate): measure(Disturbed(net, "resnet20", place, Dropout(rate)), options.draws)
        for number, place in locations.find(net, data.image_size).items()
        for rate in RATES
    }
    places = locations.find(net, data.image_size)
    places = locations.find(net, data.image_size)
    for title, which, scale, digits in (
        ("change of accuracy, points", 0, 100, 1),
        ("change of NLL, nats", 1, 1, 3),
    ):
        plain = (accuracy, nll)[which]
        rows = []
        for number, place in places.items():
            changes = [scale * (found[number, rate][which] - plain) for rate in RATES]
            rows.append([f"{number}  {place}", *(f"{c:+.{digits}f}" for c in (*changes, sum(changes) / len(changes)))])
        head = ["location", *(f"rate {rate}" for rate in RATES), "mean"]
        print(
            f"\n{title}\n{tabulate(rows, head, disable_numparse=True, colalign=['left', *['right'] * len(head[1:])])}"
        )


if __name__ == "__main__":
    main()
