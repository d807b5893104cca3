"""Folders as people have them: class folders, NumPy files, saved datasets, CIFAR's python files, any columns."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets as hf
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100, ImageFolder
from torchvision.transforms import v2

from stressbench import registry
from stressbench.contracts import Dataset
from stressbench.errors import UserError

Write = Callable[..., Path]
Noise = Callable[..., np.ndarray]
Encode = Callable[..., bytes]


def load(spec: str, folder: Path, split: str = "test") -> Dataset:
    return registry.dataset(spec, split, folder, "mine")


def pixels(data: Dataset) -> np.ndarray[Any, Any]:
    return data.images.read(0, len(data.images)).permute(0, 2, 3, 1).numpy()


# --- class folders --------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three cats and one dog of several sizes to test on; the train split has a bird, too."""
    drawn = np.random.default_rng(0)
    for place, width, height in [
        ("test/cat/b.png", 40, 30),
        ("test/cat/a.jpg", 30, 47),
        ("test/cat/deep/c.png", 64, 64),
        ("test/dog/1.PNG", 33, 32),
        ("train/bird/1.png", 40, 40),
        ("train/cat/1.png", 40, 40),
        ("train/dog/1.png", 40, 40),
    ]:
        path = tmp_path / "photos" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    (tmp_path / "photos" / "test" / "cat" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "photos" / "test" / ".ipynb_checkpoints").mkdir()
    return tmp_path / "photos"


@pytest.mark.parametrize(("options", "resize"), [("size=24", 24), ("size=24,resize=28", 28)])
def test_images_are_those_of_torchvision(photos: Path, options: str, resize: int) -> None:
    ours = load(f"imagefolder,{options}", photos)
    usual = v2.Compose([v2.Resize(resize), v2.CenterCrop(24)])
    folder = ImageFolder(photos / "test", allow_empty=True)
    theirs = {path: np.asarray(usual(Image.open(path))) for path, _ in folder.samples}
    names = ["cat/a.jpg", "dog/1.PNG", "cat/b.png", "cat/deep/c.png"]  # in turns
    np.testing.assert_array_equal(pixels(ours), [theirs[str(photos / "test" / name)] for name in names])
    assert (ours.labels.tolist(), ours.classes, ours.image_size) == ([1, 2, 1, 1], 3, (24, 24))
    assert load(f"imagefolder,{options}", photos, "train").labels.tolist() == [0, 1, 2]


def test_images_of_several_sizes_need_one(photos: Path) -> None:
    data = load("imagefolder", photos)
    with pytest.raises(UserError, match=r"image 1 \(.*1\.PNG\) is 33×32, but image 0 is 30×47.*size=N"):
        data.images.read(0, 4)
    for options in ("size=0", "resize=9", "size=9,resize=8"):
        with pytest.raises(UserError, match="invalid size"):
            load(f"imagefolder,{options}", photos)


def test_a_split_of_another_name_is_named_and_not_guessed(photos: Path) -> None:
    (photos / "test").rename(photos / "val")
    with pytest.raises(UserError, match=r"no test split.*write --dataset imagefolder,test=val"):
        load("imagefolder", photos)
    assert len(load("imagefolder,test=val,size=8", photos).images) == 4


def test_class_folders_without_splits_are_to_test_on(photos: Path) -> None:
    data = load("imagefolder,size=8", photos / "test")
    assert (data.labels.tolist(), data.classes) == ([0, 1, 0, 0], 2)
    with pytest.raises(UserError, match="no train split"):
        load("imagefolder,size=8", photos / "test", "train")


def test_a_class_without_images(photos: Path) -> None:
    (photos / "test" / "bird").mkdir()
    with pytest.raises(UserError, match="bird holds no images"):
        load("imagefolder,size=8", photos)


# --- NumPy files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layout", ["npz", "npy", "medmnist", "keras", "file", "channels-first", "floats", "column of labels", "grey"]
)
def test_numpy_files(layout: str, tmp_path: Path, noise: Noise) -> None:
    images, labels = noise(4), np.array([2, 0, 1, 0], dtype=np.uint8)
    expected, place = images, tmp_path
    if layout == "grey":
        images = images[..., 0]
        expected = np.stack([images] * 3, axis=-1)
    stored = {
        "channels-first": images.transpose(0, 3, 1, 2) if images.ndim == 4 else images,
        "floats": images.astype(np.float32) / 255,
    }.get(layout, images)
    if layout == "npy":
        np.save(tmp_path / "test_images.npy", images)
        np.save(tmp_path / "test_labels.npy", labels)
    elif layout in ("medmnist", "file"):
        np.savez(tmp_path / "mine.npz", test_images=images, test_labels=labels[:, None], train_labels=[0])
        place = tmp_path / "mine.npz" if layout == "file" else tmp_path
    elif layout == "keras":
        np.savez(tmp_path / "mine.npz", x_test=images, y_test=labels, x_train=images, y_train=labels + 1)
    else:
        np.savez(tmp_path / "test.npz", images=stored, labels=labels[:, None] if "labels" in layout else labels)
    if layout in ("medmnist", "file"):
        with pytest.raises(UserError, match="not none"):  # the train split lacks its images
            load("arrays", place)
        np.savez(tmp_path / "mine.npz", test_images=images, test_labels=labels[:, None])
    data = load("arrays", place)
    np.testing.assert_array_equal(pixels(data), expected)
    assert (data.labels.tolist(), data.classes) == ([2, 0, 1, 0], 4 if layout == "keras" else 3)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros((2, 8, 8, 3), np.uint8), [0], "2 test images and 1 labels"),
        (np.zeros((2, 8, 8, 3), np.uint8), [0.5, 1.0], "expected whole numbers"),
        (np.zeros((2, 8, 8, 3), np.uint8), [1, 2], "subtract 1"),
        (np.zeros((2, 8, 8, 3), np.uint8), [-1, 2], "a label is -1"),
        (np.full((2, 8, 8, 3), 255.0), [0, 1], "divide them by 255"),
        (np.zeros((2, 8, 8, 4), np.uint8), [0, 1], "no axis of 3 channels"),
        (np.array([[None]]), [0], "plain arrays of numbers"),
    ],
)
def test_arrays_that_are_no_images_with_labels(images: Any, labels: Any, words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "test.npz", images=images, labels=labels)
    with pytest.raises(UserError, match=words) as caught:
        load("arrays", tmp_path)
    assert "\n" not in str(caught.value)


def test_two_arrays_that_could_be_the_images(tmp_path: Path, noise: Noise) -> None:
    np.savez(tmp_path / "test.npz", images=noise(2), image=noise(2), labels=[0, 1])
    with pytest.raises(UserError, match=r"image with images|images with image"):
        load("arrays", tmp_path)


# --- datasets of Hugging Face ---------------------------------------------------------------------------------


def test_a_saved_dataset(tmp_path: Path, noise: Noise) -> None:
    features = hf.Features(
        {"image": hf.Image(), "label": hf.ClassLabel(names=["a", "b", "c", "d"]), "id": hf.Value("int64")}
    )
    rows = {"image": [Image.fromarray(p) for p in noise(3)], "label": [2, 0, 1], "id": [7, 8, 9]}
    table = hf.Dataset.from_dict(rows, features=features)
    hf.DatasetDict({"validation": table, "train": table}).save_to_disk(tmp_path / "both")
    table.save_to_disk(tmp_path / "one")
    data = load("parquet,test=validation", tmp_path / "both")
    np.testing.assert_array_equal(pixels(data), noise(3))
    assert (data.labels.tolist(), data.classes) == ([2, 0, 1], 4)
    np.testing.assert_array_equal(pixels(load("parquet", tmp_path / "one")), noise(3))
    with pytest.raises(UserError, match=r"no split 'test'; it has train, validation.*test=NAME"):
        load("parquet", tmp_path / "both")
    with pytest.raises(UserError, match="no split 'train'"):
        load("parquet", tmp_path / "one", "train")
    next((tmp_path / "one").glob("*.arrow")).write_bytes(b"ARROW1\0\0")
    with pytest.raises(UserError, match="cannot be read as a saved dataset"):
        load("parquet", tmp_path / "one")


@pytest.mark.parametrize("columns", [("image", "labels"), ("img", "fine_label"), ("pixel_values", "target")])
def test_usual_columns(columns: tuple[str, str], tmp_path: Path, noise: Noise, encode: Encode, write: Write) -> None:
    write(tmp_path / "test.parquet", [encode(p) for p in noise(2)], [1, 0], columns=columns)
    data = load("parquet", tmp_path)
    np.testing.assert_array_equal(pixels(data), noise(2))
    assert data.labels.tolist() == [1, 0]


def test_columns_that_could_each_be_meant(tmp_path: Path, noise: Noise, encode: Encode) -> None:
    encoded = pa.array([encode(p) for p in noise(2)], pa.binary())
    pq.write_table(pa.table({"img": encoded, "label": [0, 1], "fine_label": [1, 0]}), tmp_path / "test.parquet")
    with pytest.raises(UserError, match=r"label and fine_label could each be the label.*label=NAME"):
        load("parquet", tmp_path)
    assert load("parquet,label=fine_label", tmp_path).labels.tolist() == [1, 0]
    with pytest.raises(UserError, match="no column 'picture'"):
        load("parquet,image=picture,label=label", tmp_path)


def test_labels_of_text(tmp_path: Path, noise: Noise, encode: Encode, write: Write) -> None:
    write(tmp_path / "test.parquet", [encode(p) for p in noise(3)], ["dog", "ant", "dog"])
    assert (load("parquet", tmp_path).labels.tolist(), load("parquet", tmp_path).classes) == ([1, 0, 1], 2)
    write(tmp_path / "train.parquet", [encode(p) for p in noise(2)], ["cat", "ant"])
    assert (load("parquet", tmp_path).labels.tolist(), load("parquet", tmp_path).classes) == ([2, 0, 2], 3)
    write(tmp_path / "train.parquet", [encode(p) for p in noise(2)], [1, 0])
    with pytest.raises(UserError, match="labels of text"):
        load("parquet", tmp_path)


def test_labels_that_count_from_1(tmp_path: Path, noise: Noise, encode: Encode, write: Write) -> None:
    write(tmp_path / "test.parquet", [encode(p) for p in noise(3)], [1, 2, 3])
    with pytest.raises(UserError, match=r"range from 1 to 3.*subtract 1.*classes=4"):
        load("parquet", tmp_path)
    assert load("parquet,classes=4", tmp_path).classes == 4
    write(tmp_path / "train.parquet", [encode(p) for p in noise(2)], [0, 1])
    assert load("parquet", tmp_path).classes == 4


def test_labels_that_are_not_published(tmp_path: Path, noise: Noise, encode: Encode, write: Write) -> None:
    write(tmp_path / "test.parquet", [encode(p) for p in noise(2)], [-1, -1], ["a", "b"])
    with pytest.raises(UserError, match="labels of this split are not published"):
        load("parquet", tmp_path)


# --- CIFAR's own files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind", "inner"), [
    ("cifar10", CIFAR10, "cifar-10-batches-py"), ("cifar100", CIFAR100, "cifar-100-python"),
])  # fmt: skip
def test_python_batches(
    name: str, kind: Any, inner: str, tmp_path: Path, noise: Noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, classes = noise(4, 32, 32), 100 if name == "cifar100" else 10
    key = "fine_labels" if name == "cifar100" else "labels"
    names = {"cifar10": "label_names", "cifar100": "fine_label_names"}[name]
    contents = {
        "test": {"data": images.transpose(0, 3, 1, 2).reshape(4, -1), key: [3, 1, 2, 0]},
        "train": {"data": images.transpose(0, 3, 1, 2).reshape(4, -1)[::-1], key: [0, 2, 1, 3]},
        "meta": {names: [str(number) for number in range(classes)]},
    }
    (tmp_path / inner).mkdir()
    digests = {}
    for file, content in contents.items():
        (tmp_path / inner / file).write_bytes(pickle.dumps(content))
        digests[file] = hashlib.md5((tmp_path / inner / file).read_bytes(), usedforsecurity=False).hexdigest()
    with pytest.raises(UserError, match=f"not the published python version of {name}"):
        registry.dataset(name, "test", tmp_path)
    monkeypatch.setattr(kind, "test_list", [["test", digests["test"]]])
    monkeypatch.setattr(kind, "train_list", [["train", digests["train"]]])
    monkeypatch.setattr(kind, "meta", {"filename": "meta", "key": names, "md5": digests["meta"]})
    for folder in (tmp_path, tmp_path / inner):
        data = registry.dataset(name, "test", folder)
        np.testing.assert_array_equal(pixels(data), images)
        assert (data.labels.tolist(), data.classes, data.altered) == ([3, 1, 2, 0], classes, True)
    assert registry.dataset(name, "train", tmp_path).labels.tolist() == [0, 2, 1, 3]


# --- one kind of folder taken for another ---------------------------------------------------------------------


def test_the_other_kind_is_named(photos: Path, tmp_path: Path, noise: Noise, encode: Encode, write: Write) -> None:
    with pytest.raises(UserError, match="class folders is --dataset imagefolder"):
        load("parquet", photos)
    np.savez(tmp_path / "test.npz", images=noise(2), labels=[0, 1])
    with pytest.raises(UserError, match="NumPy files are --dataset arrays"):
        load("parquet", tmp_path)
    (tmp_path / "cifar" / "cifar-10-batches-py").mkdir(parents=True)
    with pytest.raises(UserError, match="are --dataset cifar10"):
        load("parquet", tmp_path / "cifar")
    write(tmp_path / "hub" / "val.parquet", [encode(noise(1)[0])], [0])
    with pytest.raises(UserError, match="write --dataset parquet,test=val"):
        load("parquet", tmp_path / "hub")
    with pytest.raises(UserError, match="write --dataset arrays,test=val"):
        load("arrays", tmp_path / "hub")


def test_an_option_that_does_not_exist(photos: Path) -> None:
    with pytest.raises(UserError, match=r"has no option 'sizes'.*did you mean 'size'"):
        load("imagefolder,sizes=3", photos)
    assert torch.equal(registry.dataset("digits", "test").labels, registry.dataset("(digits)", "test").labels)
