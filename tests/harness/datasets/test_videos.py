"""ImageNet-P in its published layout, on a made-up tree of films whose frames are known."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stressbench.cli import main
from stressbench.datasets import imagenet
from stressbench.datasets.videos import IMAGENET_P, VideoArchive
from stressbench.errors import UserError
from stressbench_suites.perturbation.suite import PerturbationSuite

av = pytest.importorskip("av", reason="PyAV, of the extra `video`, is not installed")

WNIDS = ("n01440764", "n01443537")
NAMES = [f"{wnid}/ILSVRC2012_val_0000000{number}" for number, wnid in enumerate(WNIDS, start=1)]
SIZE = (224, 224)
LABELS = torch.tensor([0, 1])


def colours(perturbation: str, index: int) -> np.ndarray:
    """(T, 3), uint8: the colours of the upper half of each frame; the lower one has the rest to 255."""
    step = list(IMAGENET_P).index(perturbation)
    frame = np.arange(IMAGENET_P[perturbation])
    return np.stack([30 + 5 * frame, 220 - 4 * frame, 60 + 90 * index + step + 0 * frame], axis=1).astype(np.uint8)


def write(path: Path, halves: np.ndarray, height: int = 224) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=30, options={"crf": "4", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 224, height, "yuv420p"
        for upper in halves:
            pixels = np.empty((height, 224, 3), np.uint8)
            pixels[: height // 2], pixels[height // 2 :] = upper, 255 - upper
            film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        film.mux(stream.encode())


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("imagenet")
    for name in NAMES:
        (root / "val" / name).parent.mkdir(parents=True)
        Image.new("RGB", (20, 16), (9, 99, 199)).save(root / "val" / f"{name}.JPEG")
    for perturbation in IMAGENET_P:
        group = Path("ImageNet-P", "digital") if perturbation == "tilt" else Path("ImageNet-P")
        for index, name in enumerate(NAMES):
            write(root / group / perturbation / f"{name}.mp4", colours(perturbation, index))
    return root


@pytest.fixture
def archive(tree: Path) -> VideoArchive:
    return VideoArchive(tree / "ImageNet-P", NAMES, SIZE)


@pytest.mark.parametrize("perturbation", ["translate", "tilt", "snow"])
def test_frames_are_those_of_the_film(archive: VideoArchive, perturbation: str) -> None:
    condition = {"perturbation": perturbation}
    assert condition in archive
    assert {"perturbation": "spatter"} not in archive
    archive.open([condition], LABELS)
    assert (archive.verified, list(archive.digests)) == (None, [perturbation])
    found = archive.read(condition, 0, 2)
    assert found.dtype == torch.uint8
    assert found.shape == (2, IMAGENET_P[perturbation], 3, *SIZE)
    expected = torch.from_numpy(np.stack([colours(perturbation, index) for index in (0, 1)])).int()
    assert (found[..., 10, 100].int() - expected).abs().max() <= 3
    assert (found[..., 200, 50].int() - (255 - expected)).abs().max() <= 3
    assert torch.equal(archive.read(condition, 1, 2)[0], found[1])


def test_what_is_not_the_published_set_is_refused(archive: VideoArchive, tmp_path: Path) -> None:
    root = tmp_path / "P"
    faulty = VideoArchive(root, NAMES[:1], SIZE)
    film = root / "scale" / f"{NAMES[0]}.mp4"
    condition = {"perturbation": "scale"}
    root.mkdir()
    with pytest.raises(UserError, match="has no folder scale: complete it"):
        faulty.open([condition], LABELS)
    film.parent.mkdir(parents=True)
    with pytest.raises(UserError, match=r"_00000001.mp4 is missing: complete it"):
        faulty.open([condition], LABELS)
    for length, why in ((30, "has 30 frames, and 31 are published"), (32, "has other frames than the 31")):
        write(film, np.zeros((length, 3), np.uint8))
        with pytest.raises(UserError, match=why):
            faulty.open([condition], LABELS)
    write(film, np.zeros((31, 3), np.uint8), height=128)
    with pytest.raises(UserError, match="is 224×128, and the clean images are 224×224"):
        faulty.open([condition], LABELS)
    for content in (b"", b"\x00" * 2000, archive.root.joinpath("scale", f"{NAMES[0]}.mp4").read_bytes()[:900]):
        film.write_bytes(content)
        with pytest.raises(UserError, match=r"mp4 (cannot be decoded|holds no film)"):
            faulty.open([condition], LABELS)


def test_without_pyav_the_extra_is_named(archive: VideoArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install 'stressbench\[video\]'"):
        archive.open([{"perturbation": "snow"}], LABELS)


def test_the_perturbation_suite_on_the_films(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(imagenet, "CLASSES", 2)

    def code(*words: str) -> int | str | None:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main(["run", "--model", "tiny", "--dataset", "imagenet", "--out", str(tmp_path / "runs"), *words])
        return exit_.value.code

    here = ["--data-dir", str(tree), "--suite"]
    assert code(*here, "perturbation,set=imagenet,perturbations=translate+snow") == 0
    record = json.loads(next((tmp_path / "runs").glob("*/record.json")).read_text(encoding="utf-8"))
    assert [row["condition"]["perturbation"] for row in record["conditions"]] == ["snow", "translate"]
    assert (record["dataset"]["stress"], record["dataset"]["stress_verified"]) == ("official", None)
    assert record["metrics"]["mFP"] is None  # a mean over the ten types
    for words, why in (
        ([*here, "perturbation"], "for the files of ImageNet-P, use set=imagenet"),
        ([*here, "perturbation,set=imagenet", "--stress", "generated"], "ImageNet-P has no generator here"),
        ([*here, "perturbation,set=imagenet,perturbations=spatter"], "there is no perturbation 'spatter'"),
        (["--data-dir", str(tree / "val"), "--suite", "perturbation,set=imagenet"], "are read from their files"),
    ):
        assert code(*words) == 2
        assert why in " ".join(capsys.readouterr().err.split())


def test_means_are_over_the_ten_types_of_the_set() -> None:
    suite = PerturbationSuite(set="imagenet")
    conditions = suite.conditions()
    assert [condition["perturbation"] for condition in conditions] == list(IMAGENET_P)
    names = [metric.name for metric in suite.row_metrics]
    rows = [dict.fromkeys(names, float(number)) for number in range(10)]
    assert suite.aggregate(conditions, rows)["mFP"] == 4.5
    assert suite.aggregate(conditions[:9], rows[:9])["mFP"] is None
