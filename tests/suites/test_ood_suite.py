"""The ood suite against scikit-learn and NumPy, through whole runs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from scipy.special import logsumexp, softmax
from scipy.stats import entropy
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from stressbench import registry
from stressbench.cli import main
from stressbench.contracts import Classification, Dataset, InMemory
from stressbench.datasets.digits import digits
from stressbench.datasets.resized import resized
from stressbench.datasets.sources import blobs, noise, photo_patches
from stressbench.errors import UserError
from stressbench_suites.ood.suite import BENCHMARKS, OodSuite


def run(out: Path, *words: object) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """The record of a run of 40 images, and its tables by condition."""
    with pytest.raises(SystemExit) as ended:
        main(["run", "--suite", "ood", "--limit", "40", "--out", str(out), *map(str, words)])
    assert ended.value.code == 0
    (folder,) = out.glob("digits-ood-*")
    tables = {path.stem: pd.read_parquet(path) for path in (folder / "tables").glob("*.parquet")}
    return json.loads((folder / "record.json").read_text()), tables


def forward(images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The logits of `tiny` and what its last layer is given, float64."""
    net: Any = registry.model("tiny", digits("test")).eval()
    with torch.no_grad():
        maps = torch.nn.functional.adaptive_avg_pool2d(net.features(images / 255 - 0.5).relu(), 4)
        return net(images / 255).double().numpy(), maps.flatten(1).double().numpy()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    words = ("--model", "tiny", "--sources", "noise,blobs", "--near", "blobs", "--metrics", "all")
    return run(tmp_path_factory.mktemp("runs"), *words)


def test_scores_are_those_of_an_independent_computation(tiny: tuple[Any, dict[str, pd.DataFrame]]) -> None:
    train = digits("train")
    labels = train.labels.numpy()
    features = forward(train.images.read(0, len(train.images)))[1]
    means = np.stack([features[labels == c].mean(axis=0) for c in range(10)])
    centred = features - means[labels]
    precision = np.linalg.pinv(centred.T @ centred / len(features), hermitian=True, rcond=128 * 2.3e-16)

    def unit(x: np.ndarray) -> np.ndarray:
        return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))

    neighbours = NearestNeighbors(n_neighbors=50).fit(unit(features))
    for name, data in (("none", digits("test")), ("noise", noise("test")), ("blobs", blobs("test"))):
        table = tiny[1][f"source={name}"]
        logits, own = forward(data.images.read(0, 40))
        p = softmax(logits, axis=1)
        away = own[:, None] - means
        expected = {
            "msp": p.max(axis=1),
            "max_logit": logits.max(axis=1),
            "energy": logsumexp(logits, axis=1),
            "entropy": entropy(p, axis=1),
            "knn": neighbours.kneighbors(unit(own))[0][:, -1],
            "mahalanobis": np.einsum("nkd,df,nkf->nk", away, precision, away).min(axis=1),
        }
        for score, values in expected.items():
            assert table[score].to_numpy() == pytest.approx(values, rel=2e-3, abs=2e-5), (name, score)


def test_measures_and_their_means_are_scikit_learns(tiny: tuple[dict[str, Any], dict[str, pd.DataFrame]]) -> None:
    record, tables = tiny
    rows = {row["condition"]["source"]: row["metrics"] for row in record["conditions"]}
    for score, sign in (("msp", -1), ("energy", -1), ("entropy", 1), ("knn", 1)):
        for source in ("noise", "blobs"):
            values = np.concatenate([tables["source=none"][score], tables[f"source={source}"][score]])
            expected = roc_auc_score(np.repeat([0, 1], 40), sign * values)
            assert rows[source][f"auroc_{score}"] == pytest.approx(expected)
    assert rows["none"]["accuracy"] == pytest.approx(tables["source=none"]["correct"].mean())
    assert record["metrics"]["near_aupr_in_msp"] == rows["blobs"]["aupr_in_msp"]
    assert record["metrics"]["far_fpr95_knn"] == rows["noise"]["fpr95_knn"]
    assert rows["noise"]["auroc_variance"] is None  # one draw
    assert [(source["name"], source["split"], source["n"]) for source in record["sources"]] == [
        ("noise", "test", 40),
        ("blobs", "test", 40),
        ("digits", "train", 1597),
    ]


def test_draws_disagree_and_corrupted_images_count_as_the_datasets_own(tmp_path: Path) -> None:
    words = ("--model", "dropped", "--sizes", "1,3", "--sources", "noise", "--corruptions", "fog", "--severities", 3)
    record, tables = run(tmp_path, *words, "--scores", "msp,variance")
    assert record["sources"][-1]["name"] == "noise"  # no training images, since no score needs their features
    three = {name: table[table["draws"] == 3] for name, table in tables.items()}
    own = [table for name, table in three.items() if "noise" not in name]
    assert len(own) == 2
    values = np.concatenate([*(table["variance"] for table in own), three["source=noise"]["variance"]])
    expected = roc_auc_score(np.repeat([0, 1], [80, 40]), values)
    assert record["metrics"]["far_auroc_variance"] == pytest.approx(expected)
    assert record["curves"]["far_auroc_variance"] == {"1": None, "3": pytest.approx(expected)}
    assert record["metrics"]["accuracy"] == pytest.approx(np.mean([table["correct"].mean() for table in own]))
    low, high = record["intervals"]["far_auroc_msp"]["3"]
    assert low < record["metrics"]["far_auroc_msp"] < high


def test_a_source_may_be_a_folder_whose_images_have_another_size(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 40, 48, 3), dtype=np.uint8)
    encoded = []
    for image in pixels:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        encoded.append({"bytes": buffer.getvalue(), "path": None})
    (tmp_path / "elsewhere" / "svhn").mkdir(parents=True)
    pq.write_table(pa.table({"img": encoded, "label": [0] * 12}), tmp_path / "elsewhere" / "svhn" / "test.parquet")
    words = ("--model", "tiny", "--sources", "svhn", "--source-dir", tmp_path / "elsewhere", "--scores", "msp")
    record, tables = run(tmp_path, *words)
    assert (record["sources"][0]["name"], record["sources"][0]["n"]) == ("svhn", 12)
    shrunk = torch.nn.functional.interpolate(
        torch.from_numpy(pixels).permute(0, 3, 1, 2).float(), (32, 38), mode="bilinear", antialias=True
    )
    p = softmax(forward(shrunk.round()[..., 3:35])[0], axis=1).max(axis=1)
    assert tables["source=svhn"]["msp"].to_numpy() == pytest.approx(p, abs=5e-3)
    assert str(tmp_path) not in json.dumps(record)


def test_a_source_may_be_a_folder_or_a_list_of_image_files_without_labels_and_of_any_sizes(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    sizes = [(40, 48), (32, 32), (70, 33), (90, 64)]
    pixels = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    # By folder in turns: a/0, b/2, a/1, b/3.
    for number, image in enumerate(pixels):
        path = tmp_path / "dtd" / "ab"[number // 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    (tmp_path / "chosen.txt").write_text("dtd/b/3.png -1\ndtd/a/0.png -1\n", encoding="utf-8")
    (tmp_path / "rows").mkdir()
    encoded = [(tmp_path / "dtd" / "ab"[n // 2] / f"{n}.png").read_bytes() for n in range(4)]
    pq.write_table(pa.table({"image": encoded, "label": [-1] * 4}), tmp_path / "rows" / "test.parquet")

    def cover(image: np.ndarray) -> torch.Tensor:
        height, width = image.shape[:2]
        scale = 32 / min(height, width)
        tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        inside = torch.nn.functional.interpolate(
            tensor, (round(height * scale), round(width * scale)), mode="bilinear", antialias=True
        )
        top, left = (round((side - 32) / 2) for side in inside.shape[2:])
        return inside.round()[..., top : top + 32, left : left + 32]

    expected = [softmax(forward(cover(image))[0], axis=1).max() for image in pixels]
    words = ("--model", "tiny", "--sources", "dtd,chosen,rows", "--source-dir", tmp_path, "--scores", "msp")
    record, tables = run(tmp_path / "runs", *words)
    assert [source["n"] for source in record["sources"]] == [4, 2, 4]
    for name, order in (("dtd", (0, 2, 1, 3)), ("chosen", (3, 0)), ("rows", (0, 1, 2, 3))):
        found = tables[f"source={name}"]["msp"].to_numpy()
        assert found == pytest.approx([expected[i] for i in order], abs=5e-3), name


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("empty", "empty holds neither image files (.bmp, .jpeg, .jpg"),
        ("nowhere", "dataset 'nowhere' not found, nor a folder of that name in --source-dir"),
        ("empty,nowhere,noise", "2 of 3 sources are missing: empty, nowhere;"),
        ("gone", "gone.txt: 1 of its 1 files are missing, first "),
        ("same", "source 'same' begins with the images of digits, so it is not from elsewhere"),
        ("cifar100", "source 'cifar100': "),
    ],
)
def test_a_source_that_cannot_be_had_is_refused_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sources: str, message: str
) -> None:
    for name in ("empty", "same", "cifar100"):
        (tmp_path / name).mkdir()
    (tmp_path / "gone.txt").write_text("gone/a.png -1\n", encoding="utf-8")
    first = digits("test").images.read(0, 1)[0].permute(1, 2, 0).numpy()
    Image.fromarray(first).save(tmp_path / "same" / "0.png")
    words = ["--sources", sources, "--source-dir", str(tmp_path), "--out", str(tmp_path / "runs")]
    with pytest.raises(SystemExit) as ended:
        main(["run", "--suite", "ood", "--model", "tiny", *words])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_a_published_dataset_may_lie_in_a_folder_and_a_dense_one_may_be_a_source(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    encoded = []
    for image in pixels:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    (tmp_path / "cifar10").mkdir()
    pq.write_table(pa.table({"img": encoded, "label": [0, 1, 2, 3]}), tmp_path / "cifar10" / "test.parquet")
    words = ("--sources", "cifar10,scenes", "--near", "cifar10", "--source-dir", tmp_path, "--scores", "msp")
    record, _ = run(tmp_path / "runs", "--model", "tiny", *words)
    assert [(source["name"], source["n"]) for source in record["sources"]] == [("cifar10", 4), ("scenes", 40)]
    assert record["metrics"]["near_auroc_msp"] is not None


def test_an_image_of_another_size_is_scaled_to_cover_and_cut_around_its_centre() -> None:
    ramp = torch.arange(60, dtype=torch.uint8).expand(1, 3, 40, 60).contiguous()
    data = Dataset(
        "ramp", "test", Classification(1), InMemory(ramp), InMemory(torch.zeros(1, dtype=torch.int64)), (40, 60)
    )
    small = resized(data, (20, 20)).images.read(0, 1)
    assert small.shape == (1, 3, 20, 20)
    assert small[0, 0, 0].float() == pytest.approx(2 * torch.arange(20).float() + 10.5, abs=0.6)
    assert resized(data, (40, 60)) is data


def test_embedded_sources_are_what_they_say() -> None:
    assert float(noise("test").images.read(0, 500).float().mean()) == pytest.approx(127.5, abs=0.5)
    shapes = blobs("test").images.read(0, 500)
    assert set(shapes[shapes < 191].unique().tolist()) <= {0}
    photos = photo_patches("test").images.read(0, 500)
    assert len(photos.flatten(1).unique(dim=0)) == 500
    with pytest.raises(UserError, match="'noise' has no train split"):
        noise("train")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scores": ("mps",)}, "there is no score 'mps': did you mean 'msp'"),
        ({"sources": ()}, "no source or no score is named"),
        (
            {"sources": ("blobs",), "near": ("blob",)},
            "--near names 'blob', which is not a source: did you mean 'blobs'",
        ),
        ({"sources": ("none",)}, "a source cannot be called 'none'"),
        ({"corruptions": ("frog",)}, "there is no corruption 'frog'"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        OodSuite(**options)


def test_a_benchmark_stands_for_its_sources_and_each_missing_one_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = OodSuite(sources=("openood-cifar100",))
    assert [c["source"] for c in suite.conditions()] == ["none", *BENCHMARKS["openood-cifar100"]]
    with pytest.raises(SystemExit):
        main(["run", "--suite", "ood", "--sources", "openood-imagenet", "--model", "tiny", "--out", str(tmp_path)])
    assert "5 of 5 sources are missing: ssb-hard, ninco, inaturalist, textures, openimage-o" in capsys.readouterr().err


def test_the_runs_own_dataset_is_not_from_elsewhere() -> None:
    why = OodSuite(sources=("noise", "digits")).unsupported(digits("test"))
    assert why is not None
    assert "leave digits out" in why
    assert OodSuite().unsupported(digits("test")) is None
