"""`bench acquire`, and trainings that begin with other weights and have images added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import dense_plugins
from conftest import ROOT, write_distribution
from dense_plugins import Pixelwise
from stressbench import locations, passes, randomness, registry, weights
from stressbench.cli import main
from stressbench.datasets.fingerprint import fingerprint
from stressbench.errors import UserError
from stressbench.training import acquisition


@pytest.fixture(autouse=True)
def _plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = {
        "stressbench.datasets": {"masks": "dense_plugins:masks", "depths": "dense_plugins:depths"},
        "stressbench.models": {"pixelwise": "dense_plugins:pixelwise", "dropping": "dense_plugins:dropping"},
    }
    write_distribution(tmp_path / "site", "dense-plugins", points)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path / "home"))


def bench(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def picks(out: Path, *words: object) -> pd.DataFrame:
    assert bench("acquire", *words, "--out", out) == 0
    return pd.read_csv(out)


def test_the_most_uncertain_images_come_first(tmp_path: Path) -> None:
    spec = "infer-dropout:pixelwise,rate=0.3,location=0"
    found = picks(tmp_path / "a.csv", "--model", spec, "--dataset", "depths", "--fraction", "0.4", "--batch-size", "4")
    assert list(found.columns) == ["dataset", "split", "index", "uncertainty"]
    assert (found["dataset"].unique(), found["split"].unique()) == (["depths"], ["pool"])
    images, net = dense_plugins.images() / 255, Pixelwise(2)
    keys = randomness.image_keys(randomness.derive(0, {"pool": "depths"}), torch.arange(6))
    place = locations.locate(net, dense_plugins.SIZE, "0")
    with torch.no_grad(), randomness.draw(keys, 0):
        draws = passes.changed(net, images, place, lambda x: randomness.dropout(x, 0.3), 8).double()
    variance = draws.numpy().var(axis=0).mean(axis=(1, 2, 3))
    order = np.argsort(-variance)[:3]  # 0.4 of 6, rounded up
    assert found["index"].tolist() == order.tolist()
    assert found["uncertainty"].tolist() == pytest.approx(variance[order].tolist(), rel=1e-5)


def test_a_choice_by_chance_is_another_with_each_seed_and_needs_no_model(tmp_path: Path) -> None:
    chosen = [
        picks(tmp_path / "r.csv", "--random", "--dataset", "depths", "--fraction", "0.5", "--seed", seed)["index"]
        for seed in range(20)
    ]
    assert all(len(set(one)) == 3 for one in chosen)
    counts = np.bincount(np.concatenate(chosen), minlength=6)
    assert counts.min() >= 3
    again = picks(tmp_path / "s.csv", "--random", "--dataset", "depths", "--fraction", "0.5", "--seed", 3)["index"]
    assert again.tolist() == chosen[3].tolist()


def test_segmentation_is_ranked_by_probabilities(tmp_path: Path) -> None:
    found = picks(tmp_path / "a.csv", "--model", "dropping", "--dataset", "masks", "--fraction", "1")
    assert sorted(found["index"]) == list(range(6))
    assert 0 < found["uncertainty"].max() < 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--dataset", "depths"), "one of the two"),
        (("--dataset", "depths", "--random", "--model", "dropping"), "one of the two"),
        (("--dataset", "depths", "--model", "pixelwise"), "one draw has no variance"),
        (("--random",), "--dataset"),
    ],
)
def test_what_cannot_be_ranked_is_refused(
    words: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("acquire", *words, "--out", tmp_path / "a.csv") == 2
    assert told in capsys.readouterr().err


def test_picked_images_are_behind_the_training_set(tmp_path: Path) -> None:
    data, pool = registry.dataset("photos", "train"), registry.dataset("photos", "pool")
    uncertainty = torch.zeros(len(pool.images))
    uncertainty[[5, 2]] = torch.tensor([2.0, 1.0])
    file = tmp_path / "picks.csv"
    acquisition.save(file, acquisition.picked(pool, uncertainty, 2 / len(pool.images)))
    longer = acquisition.extended(data, file, lambda split: registry.dataset("photos", split))
    n = len(data.images)
    assert len(longer.images) == len(longer.targets) == n + 2
    for source, own in ((longer.images, pool.images), (longer.targets, pool.targets)):
        assert torch.equal(source.read(n, n + 2), torch.cat([own.read(5, 6), own.read(2, 3)]))
    assert torch.equal(longer.targets.read(0, n), data.targets.read(0, n))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("dataset,split,index\nother,pool,0\n", "images of other"),
        ("dataset,split,index\nphotos,pool,99\n", "lacks"),
        ("dataset,split,index\nphotos,test,0\n", "the test split of photos, which models are scored on"),
        ("dataset,split,index\nphotos,calibration,0\n", "the calibration split of photos"),
        ("dataset,split,index\n", "not a file of `bench acquire`"),
        ("image,label\n1,2\n", "not a file of `bench acquire`"),
    ],
)
def test_a_wrong_file_of_picks_is_refused(text: str, told: str, tmp_path: Path) -> None:
    (file := tmp_path / "picks.csv").write_text(text)
    with pytest.raises(UserError, match=told):
        acquisition.extended(registry.dataset("photos", "train"), file, lambda split: registry.dataset("photos", split))


def test_fine_tuning_begins_with_the_trained_network_and_has_the_picks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, tuned = "srresnet,width=2,blocks=1", "variant:(srresnet,width=2,blocks=1),name=selective"
    file = tmp_path / "picks.csv"
    fine = ("--recipe", "super-resolution", "--epochs", "1", "--start", base, "--add", file)
    assert bench("train", "--model", tuned, "--dataset", "photos", *fine[:-2]) == 2
    assert "train it first" in capsys.readouterr().err
    assert bench("train", "--model", base, "--dataset", "photos", "--epochs", "1") == 0
    picked = picks(file, "--model", f"infer-dropout:({base})", "--dataset", "photos", "--draws", "2")
    assert len(picked) == 17  # a quarter of 66, rounded up
    assert bench("train", "--model", tuned, "--dataset", "photos", *fine) == 0

    def stored(spec: str) -> dict[str, Any]:
        path = weights.stored("photos", registry.resolve(spec).canonical, 0)
        module = registry.model(spec, registry.dataset("photos", "train"))
        weights.load(module, path)
        return {**weights.metadata(path), "checksum": weights.checksum(module)}

    before, after = stored(base), stored(tuned)
    assert after["start"] == before["checksum"]
    assert before["start"] == "None"
    data = acquisition.extended(
        registry.dataset("photos", "train"), file, lambda split: registry.dataset("photos", split)
    )
    assert after["fingerprint"] == fingerprint(data, 127)
    assert after["checksum"] != before["checksum"]
    assert bench("train", "--model", f"variant:(infer-dropout:({base})),name=x", "--dataset", "photos") == 2
    assert "has no weights of its own" in capsys.readouterr().err
