"""CIFAR-10 and CIFAR-100: from the hub, from a folder, and the archives beside them."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import numpy as np
import pytest
import torch

from stressbench.contracts import InMemory
from stressbench.datasets import identity, published
from stressbench.datasets.parquet import parquet
from stressbench.datasets.published import cifar10, cifar100
from stressbench.errors import UserError

SHARED = Path(__file__).parents[4] / "shared" / "data" / "cifar10"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, noise: Any) -> None:
    """As if the published sets had four images, and CIFAR-10's were the ones of `noise`."""
    monkeypatch.setattr(published, "_TRAIN", 4)
    planes = np.concatenate([noise(3, 32, 32), noise(1, 32, 32)]).transpose(0, 3, 1, 2)
    file = b"".join(bytes([label]) + image.tobytes() for label, image in zip([0, 1, 2, 9], planes, strict=True))
    ten = replace(identity._TEST_SETS["cifar10"], n=4, sha1=hashlib.sha1(file).hexdigest())
    monkeypatch.setitem(identity._TEST_SETS, "cifar10", ten)


@pytest.fixture
def folder(tmp_path: Path, noise: Any, encode: Any, write: Any) -> Callable[..., Path]:
    def make(codec: str = "PNG", n: int = 4, side: int = 32, column: str = "label", last: int = 9) -> Path:
        for split in ("test", "train"):
            encoded = [encode(p) for p in noise(n - 1, side, side)]
            encoded.append(encode(noise(1, side, side)[0], codec))
            path = tmp_path / "set" / "plain_text" / f"{split}-00000-of-00001.parquet"
            write(path, encoded, [*range(n - 1), last], columns=("img", column))
        return tmp_path / "set"

    return make


def archive_folder(place: Path, labels: torch.Tensor) -> Path:
    place.mkdir(parents=True)
    np.save(place / "labels.npy", np.tile(labels.numpy().astype(np.uint8), 5))
    np.save(place / "fog.npy", np.zeros((5 * len(labels), 32, 32, 3), np.uint8))
    return place


# --- a local folder -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_a_folder_of_the_published_pixels_is_the_published_set(folder: Any, noise: Any) -> None:
    data = cifar10("test", folder())
    assert data.published == "cifar10"
    assert not cifar10("train", folder()).altered
    # The content decides, whatever the name; a copy in another lossless format is the same content.
    assert cifar10("test", folder(codec="BMP"), "mine").published == "cifar10"
    assert parquet("test", folder(), "mine").published == "cifar10"
    assert (data.name, data.split, data.classes, data.image_size) == ("cifar10", "test", 10, (32, 32))
    assert (data.mean, data.std) == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    assert (data.altered, data.embedded, data.archives) == (False, False, {})
    np.testing.assert_array_equal(data.images.read(0, 3).permute(0, 2, 3, 1), noise(3, 32, 32))


@pytest.mark.usefixtures("small")
def test_fine_labels(folder: Any) -> None:
    data = cifar100("train", folder(column="fine_label", last=99))
    assert (data.name, data.classes, data.labels.tolist()) == ("cifar100", 100, [0, 1, 2, 99])
    assert (data.mean, data.std) == ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("different", [{"codec": "JPEG"}, {"codec": "WEBP"}, {"n": 3}, {"side": 16}])
def test_anything_else_is_altered(folder: Any, different: dict[str, Any]) -> None:
    path = folder(**different)
    assert (cifar10("test", path).altered, cifar10("test", path).published) == (True, None)
    assert cifar10("train", path).altered


@pytest.mark.usefixtures("small")
def test_as_many_lossless_images_with_other_labels_are_altered(folder: Any) -> None:
    assert (cifar10("test", folder(last=8)).altered, cifar10("test", folder(last=8)).published) == (True, None)


def test_other_images_in_the_form_of_cifar100_are_altered(tmp_path: Path, encode: Any, write: Any) -> None:
    shades = [encode(np.full((32, 32, 3), shade, np.uint8)) for shade in range(256)]
    encoded = [shades[i % 256] for i in range(10_000)]
    write(tmp_path / "test.parquet", encoded, [i % 100 for i in range(10_000)], columns=("img", "fine_label"))
    data = cifar100("test", tmp_path)
    assert (data.altered, data.published) == (True, None)


def test_the_digest_is_of_the_authors_binary_file() -> None:
    """Each image is its superclass, its class and three planes, as CIFAR-100's page describes the file."""
    pixels = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    classes = torch.tensor([0, 99, 49])  # apple: fruit and vegetables; worm: non-insect invertebrates; mountain: scenes
    file = b"".join(bytes(m) + p.numpy().tobytes() for m, p in zip([(4, 0), (13, 99), (10, 49)], pixels, strict=True))
    ours = identity._sha1(InMemory(pixels), classes, identity._SUPERCLASS)
    assert ours == hashlib.sha1(file).hexdigest()
    assert np.bincount(identity._SUPERCLASS).tolist() == [5] * 20


@pytest.mark.usefixtures("small")
def test_a_name_of_its_own(folder: Any) -> None:
    data = cifar10("test", folder(codec="JPEG"), "cifar10-jpeg")
    assert (data.name, data.altered) == ("cifar10-jpeg", False)
    with pytest.raises(UserError, match="stands for the dataset"):
        cifar10("test", folder(), "cifar-100")
    with pytest.raises(UserError, match="keeps its name"):
        cifar10("test", None, "mine")


def test_labels_of_another_set(folder: Any) -> None:
    with pytest.raises(UserError, match="row 3 has label 10, but there are 10 classes"):
        cifar10("test", folder(last=10))
    with pytest.raises(UserError, match=r"no column 'fine_label': .*it has img, label"):
        cifar100("test", folder())


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the CIFAR-10 copy in ../shared/data, which is not here")
def test_the_real_copy() -> None:
    data = cifar10("test", SHARED)
    assert data.altered
    assert (len(data.images), data.classes, data.image_size) == (10_000, 10, (32, 32))
    assert data.labels.bincount().tolist() == [1000] * 10
    pixels = data.images.read(9_990, 10_000)
    assert pixels.shape == (10, 3, 32, 32)
    assert 50 < pixels.float().mean() < 200


# --- archives -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", ["CIFAR-10-C", "."])
def test_archive_beside_a_folder(folder: Any, inside: str) -> None:
    path = folder()
    archive = archive_folder(path / "elsewhere", torch.tensor([0, 1, 2, 9]))
    for file in archive.iterdir():
        (path / inside).mkdir(exist_ok=True)
        file.rename(path / inside / file.name)
    data = cifar10("test", path)
    fog = {"corruption": "fog", "severity": 2}
    data.archives["corruption"].open([fog], data.labels)
    assert data.archives["corruption"].read(fog, 0, 4).shape == (4, 3, 32, 32)
    assert data.archives["corruption"].verified is False
    assert not cifar10("train", path).archives


def test_the_store_is_not_paired_with_a_folder(folder: Any, home: Path) -> None:
    archive_folder(home / "data" / "CIFAR-10-C", torch.tensor([0, 1, 2, 9]))
    assert not cifar10("test", folder()).archives


# --- the hub --------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, noise: Any) -> list[tuple[Any, ...]]:
    """A hub that answers, with four images; returns the calls."""
    calls: list[tuple[Any, ...]] = []

    def load(repository: str, split: str) -> datasets.Dataset:
        calls.append((repository, split))
        features = datasets.Features(
            img=datasets.Image(), fine_label=datasets.Value("int64"), label=datasets.ClassLabel(num_classes=10)
        )
        rows = {"img": list(noise(4, 32, 32)), "fine_label": [0, 1, 2, 99], "label": [0, 1, 2, 9]}
        return datasets.Dataset.from_dict(rows, features=features)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(datasets, "load_dataset", load)
    return calls


@pytest.mark.usefixtures("small")
def test_from_the_hub(hub: list[Any], noise: Any, home: Path) -> None:
    archive_folder(home / "data" / "CIFAR-10-C", torch.tensor([0, 1, 2, 9]))
    ten, hundred = cifar10("test"), cifar100("train")
    assert hub == [("uoft-cs/cifar10", "test"), ("uoft-cs/cifar100", "train")]
    assert ten.labels.tolist() == [0, 1, 2, 9]
    assert hundred.labels.tolist() == [0, 1, 2, 99]
    np.testing.assert_array_equal(ten.images.read(1, 4).permute(0, 2, 3, 1), noise(4, 32, 32)[1:])
    assert not hundred.altered
    assert list(ten.archives) == ["corruption"]
    assert not hundred.archives


def test_the_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
        monkeypatch.setenv("no_proxy", "*")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        started = time.monotonic()
        with pytest.raises(UserError, match=r"could not be had from the Hugging Face hub .*--data-dir") as caught:
            cifar10("test")
    assert time.monotonic() - started < 5
    assert "refused" in str(caught.value)
    assert datasets.config.HF_HUB_OFFLINE is False


def test_the_hub_out_of_reach_but_cached(hub: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    assert len(cifar10("test").images) == 4
    assert hub


def test_the_hub_breaks_off(hub: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("connection\nreset")

    monkeypatch.setattr(datasets, "load_dataset", broken)
    with pytest.raises(UserError, match="OSError: connection reset"):
        cifar100("test")
