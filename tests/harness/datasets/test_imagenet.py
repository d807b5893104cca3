"""ImageNet and its relatives, on made-up trees in the published layouts, against torchvision's own transforms."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from stressbench import registry
from stressbench.cli import main
from stressbench.datasets import imagenet
from stressbench.datasets.imagenet_classes import A, R
from stressbench.datasets.trees import TreeArchive
from stressbench.errors import UserError
from stressbench_suites.corruption.suite import CorruptionSuite

CROP = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()])
WNIDS = [f"n{number:08d}" for number in range(1_440_764, 1_441_764)]
VAL = "ILSVRC2012_val_{:08d}.JPEG"


def picture(path: Path, seed: int, width: int = 20, height: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(small).save(path, "JPEG", quality=85)
    return path


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The validation split of 1,000 classes: an image each, and a second one of class 3."""
    root = tmp_path_factory.mktemp("imagenet")
    for label, wnid in enumerate(WNIDS):
        picture(root / "val" / wnid / VAL.format(5000 - label), label)
    picture(root / "val" / WNIDS[3] / VAL.format(1), 5001)
    return root


@pytest.fixture(scope="module")
def stressed(tree: Path) -> Iterator[Path]:
    """ImageNet-C and ImageNet-3DCC of it: one corruption at the top, one in its group's folder, one of 3DCC."""
    for number, cell in enumerate(("ImageNet-C/fog/2", "ImageNet-C/noise/shot_noise/1", "ImageNet-3DCC/flash/1")):
        content = picture(tree / "one.jpg", 10_000 + number, 224, 224).read_bytes()
        for path in (tree / "val").glob("*/*.JPEG"):
            copy = tree / cell / path.parent.name / path.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
        picture(tree / cell / WNIDS[0] / VAL.format(5000), 20_000 + number, 224, 224)
    yield tree
    for folder in ("ImageNet-C", "ImageNet-3DCC"):
        shutil.rmtree(tree / folder)


def test_the_validation_split(tree: Path) -> None:
    data = registry.dataset("imagenet", "test", tree)
    assert (len(data.images), data.classes, data.image_size) == (1001, 1000, (224, 224))
    assert data.labels.tolist() == [*range(1000), 3]  # in turns: the first of each class, then the second
    assert (data.altered, data.published) == (True, None)
    second = Image.open(tree / "val" / WNIDS[1] / VAL.format(4999))
    assert torch.equal(data.images.read(1, 2)[0], CROP(second))
    last = Image.open(tree / "val" / WNIDS[3] / VAL.format(5000 - 3))  # the second by name
    assert torch.equal(data.images.read(1000, 1001)[0], CROP(last))
    inside = registry.dataset("imagenet", "test", tree / "val")
    assert inside.labels.equal(data.labels)
    larger = registry.dataset("imagenet,size=299,resize=342", "test", tree)
    assert larger.images.read(0, 1).shape == (1, 3, 299, 299)


def test_a_tree_that_lacks_classes_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "val" / WNIDS[0] / VAL.format(1), 0)
    with pytest.raises(UserError, match="has 1 class folders, and ImageNet has 1000"):
        registry.dataset("imagenet", "test", tmp_path)
    with pytest.raises(UserError, match="holds no validation split"):
        registry.dataset("imagenet", "test", tmp_path / "val" / WNIDS[0])


def test_stressed_images_go_by_name_and_are_not_resized(stressed: Path) -> None:
    data = registry.dataset("imagenet", "test", stressed)
    archive = data.archives["corruption"]
    fog, noise = {"corruption": "fog", "severity": 2}, {"corruption": "shot_noise", "severity": 1}
    clean = {"corruption": "none", "severity": 0}
    assert fog in archive
    assert noise in archive
    assert clean not in archive
    archive.open([clean, fog, noise], data.labels)
    assert archive.verified is None
    assert sorted(archive.digests) == ["fog/2", "shot_noise/1"]
    expected = transforms.PILToTensor()(Image.open(stressed / "ImageNet-C/fog/2" / WNIDS[0] / VAL.format(5000)))
    assert torch.equal(archive.read(fog, 0, 2)[0], expected)
    assert len(archive.read(noise, 999, 1001)) == 2
    with pytest.raises(UserError, match=r"no folder fog/1: complete it"):
        archive.open([{"corruption": "fog", "severity": 1}], data.labels)
    larger = registry.dataset("imagenet,size=256", "test", stressed)
    with pytest.raises(UserError, match=r"is 224×224, and the clean images are 256×256.*use size=224"):
        larger.archives["corruption"].open([fog], data.labels)


@pytest.mark.parametrize("folders", [("1", "2", "3", "4", "5"), ("0.80", "1.60", "2.40", "4.00", "15.60")])
def test_imagenet_c_bar_as_published_and_as_its_program_writes_it(tmp_path: Path, folders: tuple[str, ...]) -> None:
    """The archive numbers severities; the program names them by parameters, which do not sort as text."""
    root = tmp_path / "imagenet-c-bar"
    for number, folder in enumerate(folders, start=1):
        picture(root / "plasma_noise" / folder / WNIDS[0] / VAL.format(1), number, 224, 224)
    picture(root / "perlin_noise" / "4.60" / WNIDS[0] / VAL.format(1), 0, 224, 224)
    archive = TreeArchive(root, [f"{WNIDS[0]}/{Path(VAL.format(1)).stem}"], (224, 224))
    conditions = [{"corruption": "plasma_noise", "severity": severity} for severity in range(1, 6)]
    archive.open(conditions, torch.tensor([0]))
    for condition, folder in zip(conditions, folders, strict=True):
        file = root / "plasma_noise" / folder / WNIDS[0] / VAL.format(1)
        assert torch.equal(archive.read(condition, 0, 1)[0], transforms.PILToTensor()(Image.open(file)))
    unfinished = {"corruption": "perlin_noise", "severity": 1}  # one severity of five: which one, nobody can tell
    assert unfinished not in archive
    with pytest.raises(UserError, match="no folder perlin_noise/1: complete it"):
        archive.open([unfinished], torch.tensor([0]))
    assert {"corruption": "plasma_noise", "severity": 6} not in archive


def test_the_corruption_suite_takes_imagenet_c_bar_from_its_folder(tree: Path) -> None:
    folder = tree / "imagenet-c-bar" / "plasma_noise" / "1"
    folder.mkdir(parents=True)
    try:
        data = registry.dataset("imagenet", "test", tree)
        archive = CorruptionSuite(set="imagenet-c-bar").published(data)
        assert archive is not None
        assert {"corruption": "plasma_noise", "severity": 1} in archive
    finally:
        shutil.rmtree(tree / "imagenet-c-bar")


def test_replaced_files_are_another_run_and_missing_ones_are_named(stressed: Path) -> None:
    fog = {"corruption": "fog", "severity": 2}
    path = stressed / "ImageNet-C/fog/2" / WNIDS[7] / VAL.format(4993)
    before = path.read_bytes()

    def digest() -> str:
        data = registry.dataset("imagenet", "test", stressed)
        archive = data.archives["corruption"]
        archive.open([fog], data.labels)
        return archive.digests["fog/2"]

    try:
        first = digest()
        picture(path, 1, 224, 224)
        assert digest() != first
        path.unlink()
        with pytest.raises(UserError, match=rf"{WNIDS[7]}/{VAL.format(4993)} is missing"):
            digest()
    finally:
        path.write_bytes(before)


NETS = """
import torch

class Means(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(-1, 1, classes))

    def forward(self, images):
        return images.mean(dim=(1, 2, 3))[:, None] * self.weight

def net(dataset):
    return Means(dataset.classes)
"""


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    """A file with a model whose logits are the mean of the image times −1 … 1."""
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    return path


def test_runs_on_official_files(stressed: Path, tmp_path: Path, nets: Path) -> None:
    words = ["run", "--model", f"file:{nets}:net", "--dataset", "imagenet", "--data-dir", str(stressed), "--limit", "5"]
    for suite in ("corruption,corruptions=fog,severities=2", "corruption,set=3dcc,corruptions=flash,severities=1"):
        with pytest.raises(SystemExit) as exit_:
            main([*words, "--suite", suite, "--out", str(tmp_path / "runs")])
        assert exit_.value.code == 0
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/record.json")]
    assert {record["dataset"]["stress"] for record in records} == {"official"}
    assert {row["condition"]["corruption"] for record in records for row in record["conditions"]} == {
        "none", "fog", "flash",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "places"), [("imagenet-a", A), ("imagenet-r", R)])
def test_parts_of_the_classes(name: str, places: tuple[int, ...], tmp_path: Path, nets: Path) -> None:
    for k, place in enumerate(places):
        picture(tmp_path / name / WNIDS[place] / f"{k}.jpg", k)
    (tmp_path / name / "README.txt").write_text("about")
    data = registry.dataset(name, "test", tmp_path)
    assert data.labels.tolist() == list(range(200))
    assert data.subset == (1000, places)
    assert data.altered
    assert torch.equal(data.images.read(4, 5)[0], CROP(Image.open(tmp_path / name / WNIDS[places[4]] / "4.jpg")))
    images = data.images.read(0, 3) / 255
    expected = images.mean(dim=(1, 2, 3))[:, None] * torch.linspace(-1, 1, 1000)[list(places)]
    module = registry.model(f"subset:file:{nets}:net", data)
    torch.testing.assert_close(module(images).detach(), expected)
    assert list(module.state_dict()) == ["weight"]
    with pytest.raises(UserError, match="has test images alone"):
        registry.dataset(name, "train", tmp_path)
    shutil.rmtree(tmp_path / name / WNIDS[places[0]])
    with pytest.raises(UserError, match=r"has 199 class folders, and .* has 200"):
        registry.dataset(name, "test", tmp_path)


def test_version_2_has_its_labels_in_the_names_of_its_folders(tmp_path: Path) -> None:
    root = tmp_path / "imagenetv2-matched-frequency-format-val"
    for label in range(1000):
        picture(root / str(label) / "a.jpeg", label, 4, 4)
    data = registry.dataset("imagenet-v2", "test", tmp_path)
    paths = [Path(data.images._where(i)) for i in (0, 1, 2, 999)]  # type: ignore[attr-defined]
    assert [int(path.parent.name) for path in paths] == [int(data.labels[i]) for i in (0, 1, 2, 999)]
    assert sorted(data.labels.tolist()) == list(range(1000))
    assert data.subset is None


def test_the_hubs_parquet_files(tmp_path: Path, write, encode, noise) -> None:  # type: ignore[no-untyped-def]
    encoded = [encode(one, "JPEG") for one in noise(3, 16, 20)]
    write(tmp_path / "data" / "validation-00000-of-00001.parquet", encoded, [5, 999, 0], columns=("image", "label"))
    data = registry.dataset("imagenet", "test", tmp_path)
    assert (data.labels.tolist(), data.classes) == ([5, 999, 0], 1000)
    assert data.images.read(0, 3).shape == (3, 3, 224, 224)
    assert data.archives == {}


def test_the_numbers_of_classes() -> None:
    assert len(A) == len(R) == 200
    assert len({*A} & {*R}) == 86
    assert imagenet.CLASSES == 1000
