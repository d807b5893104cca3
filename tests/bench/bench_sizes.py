"""What a curve over ensemble sizes costs: `python tests/bench/bench_sizes.py [--sizes 1,2,5,10]`.

`bench run --sizes` makes one set of draws, as many as the largest size; the other way is a run for each size. Both go
through the command itself, on the embedded digits with the untrained MC dropout ResNet-18 (its draws cost what a
trained one's do). The curve must be the separate runs' numbers.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import torch

from stressbench import registry, weights
from stressbench._util.terminal import Screen
from stressbench.execution.request import RunRequest
from stressbench.execution.session import Finished, run
from stressbench.record import Record
from stressbench.training.provide import provider

MODEL = "resnet18-mcdo"


class Quiet(Screen):
    def note(self, line: str) -> None:
        pass


def measure(out: Path, images: int, sizes: tuple[int, ...], draws: int | None) -> tuple[Record, float]:
    """A run's record, and its seconds without the imports and the model's making."""
    options = {"corruptions": "fog", "severities": "3"}
    words = RunRequest(["corruption"], [MODEL], "digits", suite_options=options, limit=images, sizes=sizes, draws=draws)
    (outcome,) = run(words, out, fresh=False, screen=Quiet(), provider=provider)
    if not isinstance(outcome, Finished):
        raise outcome.error
    return outcome.record, outcome.record.timing.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1,2,5,10", help="default 1,2,5,10")
    parser.add_argument("--images", type=int, default=50, help="clean and under one corruption (default 50)")
    options = parser.parse_args()
    sizes = tuple(map(int, options.sizes.split(",")))

    with tempfile.TemporaryDirectory() as folder:
        os.environ["STRESSBENCH_HOME"] = folder
        torch.manual_seed(0)
        net = registry.model(MODEL, registry.dataset("digits", "train"))
        weights.save(net, weights.stored("digits", MODEL, 0), {})
        out = Path(folder)
        measure(out / "warm", options.images, (), 1)
        curve, together = measure(out / "curve", options.images, sizes, None)
        single = {size: measure(out / str(size), options.images, (), size) for size in sizes}
    apart = sum(seconds for _, seconds in single.values())
    print(f"\n{MODEL}, {2 * options.images} images, sizes {options.sizes}, torch {torch.__version__}")
    for size, (record, seconds) in single.items():
        same = {name: values[str(size)] for name, values in curve.curves.items()} == record.metrics
        print(f"  run of {size:3} draws  {seconds:7.2f} s   the curve has {'the same' if same else 'OTHER'} numbers")
    print(f"  all of them       {apart:7.2f} s")
    share, draws = together / apart, max(sizes) / sum(sizes)
    print(f"  --sizes           {together:7.2f} s   {share:.2f} of that (by the number of draws: {draws:.2f})")


if __name__ == "__main__":
    main()
