"""The corruption suite's other sets: the four extra ones, and C-bar."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from harness.made_runs import bench
from stressbench.contracts import Classification, Dataset, InMemory, Metrics
from stressbench.datasets.published import cifar10
from stressbench.errors import UserError
from stressbench.record import Baseline, DatasetInfo, Row
from stressbench.results.scoring import summary
from stressbench_suites.corruption.suite import SETS, CorruptionSuite
from suites.test_corruption_suite import CLEAN, PUBLISHED, data


def cells(name: str) -> list[dict[str, object]]:
    return [{"corruption": c, "severity": s} for c in SETS[name] for s in range(1, 6)]  # type: ignore[index]


def rows_of(count: int, seed: int) -> list[Metrics]:
    generator = np.random.default_rng(seed)
    return [
        {"error": float(e), "nll": float(n), "ece": float(c)} for e, n, c in generator.uniform(0.1, 0.9, (count, 3))
    ]


def images(side: int) -> Dataset:
    return Dataset(
        "any",
        "test",
        Classification(10),
        InMemory(torch.zeros(10, 3, side, side)),
        InMemory(torch.arange(10)),
        (side, side),
    )


@pytest.mark.parametrize(("name", "count"), [("c", 15), ("c-extra", 4), ("c-bar", 10), ("imagenet-c-bar", 10)])
def test_a_set_has_its_conditions_and_its_own_means(name: str, count: int) -> None:
    suite = CorruptionSuite(set=name)  # type: ignore[arg-type]
    assert suite.conditions()[0] == CLEAN
    assert sorted(map(str, suite.conditions()[1:])) == sorted(map(str, cells(name)))
    assert len(suite.conditions()) == 1 + 5 * count
    rows, others = rows_of(1 + 5 * count, 0), rows_of(1 + 5 * count, 1)
    cells_of = zip(suite.conditions(), others, strict=True)
    baseline = Baseline(
        model="other", source="test", conditions=[Row(condition=c, n=10, metrics=m) for c, m in cells_of]
    )
    ours = summary(suite, suite.conditions(), rows, baseline)
    names = [c["corruption"] for c in suite.conditions()[1:]]
    f, g = (pd.DataFrame(r[1:]).assign(corruption=names).groupby("corruption")["error"] for r in (rows, others))
    assert ours["mCE"] == pytest.approx((f.sum() / g.sum()).mean())
    assert ours["mean_error"] == pytest.approx(f.mean().mean())
    assert summary(suite, suite.conditions()[:-1], rows[:-1], baseline)["mCE"] is None


def test_other_sets_corruptions_can_be_named_too() -> None:
    suite = CorruptionSuite(corruptions=("ripple", "fog"), severities=(2,))
    assert [c["corruption"] for c in suite.conditions()] == ["none", "fog", "ripple"]


@pytest.mark.parametrize(
    ("name", "side", "why"),
    [
        ("c-bar", 32, None),
        ("c-bar", 64, None),
        ("c-bar", 65, r"ripple.* are for images of up to 64 pixels: use set=imagenet-c-bar"),
        ("imagenet-c-bar", 224, None),
        ("imagenet-c-bar", 32, "plasma_noise.* are for images of more than 64 pixels: use set=c-bar"),
        ("c", 224, None),
        ("c-extra", 224, None),
    ],
)
def test_a_set_for_another_size_of_images_is_refused(name: str, side: int, why: str | None) -> None:
    found = CorruptionSuite(set=name).unsupported(images(side))  # type: ignore[arg-type]
    if why is None:
        assert found is None
    else:
        with pytest.raises(UserError, match=why):
            raise UserError(str(found))


@pytest.mark.parametrize(
    ("dataset", "name", "there"),
    [
        ("cifar100", "c-extra", True),
        ("cifar10", "c-extra", False),
        ("imagenet", "c-extra", False),
        ("cifar10", "c-bar", False),
        ("imagenet", "imagenet-c-bar", False),
    ],
)
def test_a_published_baseline_is_there_for_the_sets_that_it_was_measured_on(
    dataset: str, name: str, there: bool
) -> None:
    baseline = CorruptionSuite(set=name).baseline(data(dataset, **PUBLISHED[dataset]))  # type: ignore[arg-type]
    assert (baseline is not None) == there
    if baseline is not None:
        numbers = {(row.condition["corruption"], row.condition["severity"]): row.metrics for row in baseline.conditions}
        rows: list[Metrics] = [{"error": 0.1}, *(numbers[c["corruption"], c["severity"]] for c in cells(name))]  # type: ignore[index]
        suite = CorruptionSuite(set=name)  # type: ignore[arg-type]
        assert summary(suite, suite.conditions(), rows, baseline)["mCE"] == pytest.approx(1)


def test_the_record_says_which_constants_made_the_images() -> None:
    def info(side: int) -> DatasetInfo:
        return data("any", image_size=(side, side))

    assert CorruptionSuite(set="c-bar").protocol(info(32)) == "constants of CIFAR-10-C-bar"
    assert (CorruptionSuite(set="imagenet-c-bar").protocol(info(224)) or "").startswith("constants of ImageNet-C-bar")
    assert CorruptionSuite(set="c-extra").protocol(info(32)) == "constants of CIFAR-C"


def test_a_run_and_its_own_set_as_files(tmp_path: Path) -> None:
    """What `bench data corrupt` writes is read back as published files, and gives the very numbers of the run."""
    rows = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    write_folder(tmp_path / "clean", rows, np.arange(12) % 10)
    where = ("--dataset", "cifar10", "--data-dir", tmp_path / "clean", "--dataset-name", "mine")
    suite = ("--suite", "corruption", "-o", "set=c-bar", "-o", "corruptions=ripple,sparkles")
    assert bench("run", *suite, "--model", "tiny", *where, "--out", tmp_path / "generated") == 0
    files = tmp_path / "clean" / "CIFAR-10-C-Bar"
    assert bench("data", "corrupt", *where, "--corruption", "ripple", "--corruption", "sparkles", "--out", files) == 0
    assert bench("run", *suite, "--model", "tiny", *where, "--out", tmp_path / "official") == 0
    found = {}
    for out in ("generated", "official"):
        (path,) = (tmp_path / out).glob("*/record.json")
        found[out] = json.loads(path.read_text())
        assert found[out]["dataset"]["stress"] == out
        assert len(found[out]["conditions"]) == 11
        assert found[out]["metrics"]["mean_error"] is None  # of two of ten alone
        assert found[out]["suite"]["baseline"] is None
    assert found["official"]["dataset"]["stress_verified"] is None
    assert [row["metrics"] for row in found["generated"]["conditions"]] == [
        row["metrics"] for row in found["official"]["conditions"]
    ]

    np.save(files / "ripple.npy", 255 - np.load(files / "ripple.npy"))  # other files are another run
    assert bench("run", *suite, "--model", "tiny", *where, "--out", tmp_path / "official") == 0
    official = [json.loads(path.read_text()) for path in (tmp_path / "official").glob("*/record.json")]
    assert len(official) == 2
    assert official[0]["conditions"] != official[1]["conditions"]


def write_folder(folder: Path, pictures: np.ndarray, labels: np.ndarray) -> None:
    import datasets

    folder.mkdir()
    features = datasets.Features(img=datasets.Image(), label=datasets.ClassLabel(num_classes=10))
    table = datasets.Dataset.from_dict({"img": list(pictures), "label": list(labels)}, features=features)
    table.to_parquet(folder / "test.parquet")


def test_the_published_files_of_each_set(tmp_path: Path) -> None:
    write_folder(tmp_path / "clean", np.zeros((10, 32, 32, 3), dtype=np.uint8), np.arange(10))
    (tmp_path / "clean" / "CIFAR-10-C-Bar").mkdir()
    found = cifar10("test", tmp_path / "clean")
    assert list(found.archives) == ["c-bar"]
    assert CorruptionSuite(set="c-bar").published(found) is found.archives["c-bar"]
    assert CorruptionSuite().published(found) is None
    both = replace(found, archives={"corruption": found.archives["c-bar"], "c-bar": found.archives["c-bar"]})
    assert CorruptionSuite(set="c-extra").published(both) is both.archives["corruption"]
