"""What a suite may ask of a run beside stressed images: batches or the model as rows, the train split, weight space."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from conftest import write_distribution
from stressbench import registry
from stressbench.cli import main
from stressbench.datasets.digits import digits
from stressbench.results.resampling import leave_out

SUITES = """
from contextlib import contextmanager

import torch

from stressbench.contracts import Metric, Stressed, StressSuite, Suite
from stressbench.metrics import log_mean_probability, negative_log_likelihood


class _Nll(Suite):
    version = "1"
    metrics = (Metric("mean_nll", "nats", "lower"),)
    row_metrics = (Metric("nll", "nats", "lower"),)

    def conditions(self):
        return [{"scale": 1.0}, {"scale": 0.0}]

    def measure(self, condition, batch, model):
        predictions = model.predict(batch.images, batch.keys)
        nll = {s: negative_log_likelihood(log_mean_probability(predictions[:s]), batch.targets) for s in model.sizes}
        return {size: self.columns(batch, values) for size, values in nll.items()}

    def columns(self, batch, nll):
        return {"nll": nll}


class Shrunk(_Nll):
    name = "shrunk"

    def __init__(self, breaks: bool = False):
        self.breaks = breaks

    @contextmanager
    def deploy(self, condition, module):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(condition["scale"])
        if self.breaks:
            raise ArithmeticError("out of weights")
        yield module  # nothing is put back here


class Batches(_Nll):
    name = "batches"
    rows = "batch"
    batch_size = 8
    split = "train"

    def columns(self, batch, nll):
        return {"nll": nll.mean()[None], "first": batch.indices[:1]}


class Elsewhere(_Nll):
    name = "elsewhere"

    def conditions(self):
        return [{"source": "none"}, {"source": "greys"}]

    def source(self, condition):
        return None if condition["source"] == "none" else condition["source"]


class Columns(StressSuite):
    name = "columns"
    version = "1"
    metrics = (Metric("mean_acc@5", "fraction", "higher"),)
    row_metrics = (Metric("acc", "fraction", "higher"), Metric("acc@5", "fraction", "higher"))

    def conditions(self):
        return [{"blur": 3}, {"noise": 3}]

    def stress(self, condition, batch, model):
        return Stressed(batch.images if "blur" in condition else 1 - batch.images)

    def observe(self, condition, batch, predictions):
        order = log_mean_probability(predictions).argsort(-1, descending=True)
        hits = order == batch.targets[:, None]
        return {"acc": hits[:, 0].float(), "acc@5": hits[:, :5].any(1).float(), "order": order}


class Black:
    # Published files of black images, for the blur alone.
    verified = None
    digests = {"printed": "0"}

    def open(self, conditions, labels):
        assert len(labels) == 200

    def __contains__(self, condition):
        return "blur" in condition

    def read(self, condition, start, stop):
        return torch.zeros((stop - start, 3, 32, 32), dtype=torch.uint8)


class Printed(Columns):
    name = "printed"

    def published(self, dataset):
        return Black() if dataset.name == "digits" else None


def greys(split, data_dir, name):
    from stressbench.contracts import Classification, Dataset, InMemory

    pixels = torch.arange(30, dtype=torch.uint8).view(30, 1, 1, 1).expand(30, 3, 32, 32).contiguous()
    return Dataset("greys", split, Classification(10), InMemory(pixels), InMemory(torch.arange(30) % 10), (32, 32))


class Whole(_Nll):
    name = "whole"
    rows = "model"

    def columns(self, batch, nll):
        return {"nll": nll.mean()[None], "spread": nll.std()[None, None].expand(1, 3)}
"""


@pytest.fixture
def suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    site = tmp_path / "site"
    site.mkdir()
    (site / "weight_suites.py").write_text(SUITES)
    names = ("Shrunk", "Batches", "Whole", "Elsewhere", "Columns", "Printed")
    points = {name.lower(): f"weight_suites:{name}" for name in names}
    groups = {"stressbench.suites": points, "stressbench.datasets": {"greys": "weight_suites:greys"}}
    write_distribution(site, "weight-suites", groups)
    monkeypatch.syspath_prepend(str(site))
    yield tmp_path
    sys.modules.pop("weight_suites", None)


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["run", *map(str, words)])
    return int(ended.value.code or 0)


def result(out: Path, suite: str, *words: object) -> tuple[dict[str, Any], list[pd.DataFrame]]:
    assert run("--suite", suite, "--model", "tiny", "--limit", 20, "--out", out, *words) == 0
    (folder,) = out.glob(f"digits-{suite}-*")
    tables = [pd.read_parquet(path) for path in sorted((folder / "tables").glob("*.parquet"))]
    return json.loads((folder / "record.json").read_text()), tables


def nll(split: str, start: int, stop: int, scale: float = 1.0) -> torch.Tensor:
    data = digits(split)
    module = registry.model("tiny", data).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(scale)
        logits = module(data.images.read(start, stop) / 255)
    return nn.functional.cross_entropy(logits, data.targets.read(start, stop), reduction="none")


def test_weights_are_deployed_for_a_condition_and_put_back(suites: Path) -> None:
    record, _ = result(suites, "shrunk")
    for row in record["conditions"]:
        expected = nll("test", 0, 20, row["condition"]["scale"])
        assert row["metrics"]["nll"] == pytest.approx(float(expected.mean()), rel=1e-5)
    # A suite after it in the same command gets the model's own weights.
    assert run("--suite", "shrunk", "--suite", "whole", "--model", "tiny", "--limit", 20, "--out", suites / "b") == 0
    (path,) = (suites / "b").glob("digits-whole-*/record.json")
    assert json.loads(path.read_text())["metrics"]["mean_nll"] == pytest.approx(
        float(nll("test", 0, 20).mean()), rel=1e-5
    )


def test_weights_are_put_back_where_the_suite_fails(suites: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--suite", "shrunk,breaks=true", "--suite", "whole", "--model", "tiny", "--limit", 20)
    assert run(*words, "--out", suites) == 2
    assert "under scale 1, suite 'shrunk' of weight-suites 1.0 failed" in capsys.readouterr().err
    (path,) = suites.glob("digits-whole-*/record.json")
    assert json.loads(path.read_text())["metrics"]["mean_nll"] == pytest.approx(
        float(nll("test", 0, 20).mean()), rel=1e-5
    )


def test_published_files_are_found_by_the_suite(suites: Path) -> None:
    for stress in ("official", "generated"):
        record, tables = result(suites / stress, "printed", "--stress", stress)
        assert record["dataset"]["stress"] == stress
        blur, noise = ({tuple(order) for order in table["order"]} for table in tables)
        assert (len(blur) == 1) == (stress == "official")
        assert len(noise) > 1


def test_a_row_may_be_a_batch_of_the_train_split(suites: Path) -> None:
    record, tables = result(suites, "batches", "--batch-size", 5)
    assert (record["dataset"]["split"], record["dataset"]["n"]) == ("train", 20)
    assert [row["n"] for row in record["conditions"]] == [3, 3]
    for table in tables:
        assert table["first"].tolist() == [0, 8, 16]
        assert table["index"].tolist() == [0, 1, 2]
        parts = [float(nll("train", low, min(low + 8, 20)).mean()) for low in (0, 8, 16)]
        assert table["nll"].tolist() == pytest.approx(parts, rel=1e-5)


def test_a_row_may_be_the_model(suites: Path) -> None:
    record, tables = result(suites, "whole", "--batch-size", 5)
    for table in tables:
        (row,) = table.to_dict("records")
        assert row["nll"] == pytest.approx(float(nll("test", 0, 20).mean()), rel=1e-5)
        assert len(row["spread"]) == 3
    assert record["intervals"]["mean_nll"]["1"] is None  # of one row


def test_a_condition_may_have_images_from_elsewhere(suites: Path) -> None:
    record, _ = result(suites, "elsewhere", "--limit", 25)
    assert [source["name"] for source in record["sources"]] == ["greys"]
    assert record["sources"][0]["n"] == 25
    assert [row["n"] for row in record["conditions"]] == [25, 25]
    own, other = (row["metrics"]["nll"] for row in record["conditions"])
    assert own == pytest.approx(float(nll("test", 0, 25).mean()), rel=1e-5)
    images = torch.arange(25.0).view(25, 1, 1, 1).expand(25, 3, 32, 32) / 255
    with torch.no_grad():
        logits = registry.model("tiny", digits("test")).eval()(images)
    assert other == pytest.approx(float(nn.functional.cross_entropy(logits, torch.arange(25) % 10)), rel=1e-5)
    low, high = record["intervals"]["mean_nll"]["1"]
    assert low < record["metrics"]["mean_nll"] < high


def test_tables_of_unequal_length_are_left_out_of_together() -> None:
    tables = [pd.DataFrame({"index": range(n), "x": np.arange(n)}) for n in (40, 100)]
    parts = list(leave_out(tables))
    assert [[len(table) for table in part] for part in parts] == [[38, 95]] * 20
    left = [set(range(100)) - set(part[1]["x"]) for part in parts]
    assert set.union(*left) == set(range(100))
    assert sum(map(len, left)) == 100


def test_a_columns_name_is_the_suites_own_and_conditions_with_one_value_are_two(suites: Path) -> None:
    words = ("--model", "dropped", "--sizes", "1,5")
    assert run("--suite", "columns", *words, "--limit", 20, "--out", suites) == 0
    (folder,) = suites.glob("digits-columns-*")
    assert len(list((folder / "tables").glob("*.parquet"))) == 2
    record = json.loads((folder / "record.json").read_text())
    for row, table in zip(record["conditions"], ("blur=3", "noise=3"), strict=True):
        rows = pd.read_parquet(folder / "tables" / f"{table}.parquet")
        for size in ("1", "5"):
            of_size = rows[rows["draws"] == int(size)]
            hits = np.stack(of_size["order"].to_list()) == of_size["label"].to_numpy()[:, None]
            assert row["curves"]["acc"][size] == pytest.approx(hits[:, 0].mean())
            assert row["curves"]["acc@5"][size] == pytest.approx(hits[:, :5].any(axis=1).mean())
    first, second = (row["metrics"] for row in record["conditions"])
    assert first != second
    assert record["metrics"]["mean_acc@5"] == pytest.approx((first["acc@5"] + second["acc@5"]) / 2)
