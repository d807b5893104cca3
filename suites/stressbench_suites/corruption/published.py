"""AlexNet's published results on the corrupted test sets, by which the literature normalises."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources

from stressbench.contracts import Metrics
from stressbench.record import Baseline, DatasetInfo, Row


@dataclass(frozen=True)
class Table:
    """The files of one published test set's numbers; a cell's number is that of the first file that has it."""

    files: tuple[str, ...]
    source: str
    n: int
    classes: int
    image_size: tuple[int, int]


_SMOOTHING = "Park and Kim (2022)"

# By the published set that the data are, which its content decides and not its name.
PUBLISHED = {
    "cifar10": Table(("alexnet_cifar10c.csv",), f"{_SMOOTHING}, CIFAR-10-C", 10_000, 10, (32, 32)),
    "cifar100": Table(("alexnet_cifar100c.csv",), f"{_SMOOTHING}, CIFAR-100-C", 10_000, 100, (32, 32)),
    # NLL and ECE exist in the second file alone, and its errors are 2 % above the literature's.
    "imagenet": Table(
        ("alexnet_imagenet_mce.csv", "alexnet_imagenetc.csv"),
        f"error: Hendrycks and Dietterich (2019), ImageNet-C; NLL and ECE: {_SMOOTHING}, measured on images that were "
        "resized and cropped once more",
        50_000,
        1_000,
        (224, 224),
    ),
}


def published(data: DatasetInfo) -> Baseline | None:
    """AlexNet's published results if the data are all or the first images of the test set that they are of."""
    table = PUBLISHED.get(data.published or "")
    if table is None or data.altered or data.split != "test" or data.n > table.n:
        return None
    if (data.classes, data.image_size) != (table.classes, table.image_size):
        return None
    cells: dict[tuple[str, int], Metrics] = {}
    for file in table.files:
        with (resources.files(__package__) / "baselines" / file).open(encoding="utf-8") as lines:
            for line in csv.DictReader(lines):
                cell = cells.setdefault((line["corruption"], int(line["severity"])), {})
                for name in ("error", "nll", "ece"):
                    if name in line:
                        cell.setdefault(name, float(line[name]))
    return Baseline(
        model="alexnet",
        source=table.source,
        conditions=[
            Row(condition={"corruption": corruption, "severity": severity}, n=table.n, metrics=metrics)
            for (corruption, severity), metrics in cells.items()
        ],
    )
