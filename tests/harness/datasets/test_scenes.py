"""The rendered street scenes: what is in them, that they drive on, and that depth is that of the same geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stressbench import registry
from stressbench.contracts import Depth, Segmentation
from stressbench.datasets import street
from stressbench.datasets.fingerprint import fingerprint
from stressbench.errors import UserError

VOID = 255


@pytest.fixture(scope="module")
def masks() -> np.ndarray:
    data = registry.dataset("scenes", "test")
    assert data.task == Segmentation(11, VOID)
    assert data.embedded
    assert data.image_size == (96, 128)
    return data.targets.read(0, len(data.targets)).numpy()


@pytest.fixture(scope="module")
def depth() -> np.ndarray:
    data = registry.dataset("scenes-depth", "test")
    assert data.task == Depth()
    return data.targets.read(0, len(data.targets)).numpy()[:, 0]


@pytest.mark.parametrize(
    ("name", "checksum"),
    [
        ("scenes", "ac84e465464449bb83a1c5d0e45dc54cc8cb10b1f374311222225c68e7c3e605"),
        ("scenes-depth", "8abe1ada63a08d184ccaf766c369421423c71bdcaed5765078bcf2daae68773b"),
    ],
)
def test_every_machine_renders_the_same_bytes(name: str, checksum: str) -> None:
    data = registry.dataset(name, "test")
    assert fingerprint(data, len(data.images)) == f"sha256:{checksum}"


def test_both_sets_have_the_same_images(masks: np.ndarray, depth: np.ndarray) -> None:
    first, second = (registry.dataset(name, "test").images.read(40, 60) for name in ("scenes", "scenes-depth"))
    assert first.equal(second)
    assert masks.shape == depth.shape


def test_all_eleven_classes_are_common_and_a_few_pixels_are_void(masks: np.ndarray) -> None:
    pictures = [(masks == number).any(axis=(1, 2)).mean() for number in range(11)]
    assert min(pictures) > 0.3
    assert 0.01 < (masks == VOID).mean() < 0.1


def test_a_recording_drives_on_and_the_next_one_is_another(masks: np.ndarray) -> None:
    recordings = registry.dataset("scenes", "test").recordings
    assert recordings is not None
    assert recordings.tolist() == [number for number in range(8) for _ in range(25)]
    same = (masks[1:] == masks[:-1]).mean(axis=(1, 2))
    inside = np.diff(recordings.numpy()) == 0
    assert np.median(same[inside]) > 0.9
    assert same[inside].min() > same[~inside].max()
    assert same.max() < 1


def test_depth_of_the_road_is_that_of_a_plane_under_the_camera(masks: np.ndarray, depth: np.ndarray) -> None:
    road = (masks == street.ROAD) & np.isfinite(depth)
    both = road[:, 1:] & road[:, :-1]
    # A plane at a distance h below a pinhole camera of focal length f: z = f·h / (row − horizon).
    steps = (1 / depth[:, 1:] - 1 / depth[:, :-1])[both]
    assert np.median(steps) == pytest.approx(1 / (street.FOCAL * street.EYE), rel=1e-3)


def test_depth_is_unknown_for_the_sky_and_the_own_car_and_below_sixty_metres_elsewhere(
    masks: np.ndarray, depth: np.ndarray
) -> None:
    assert np.isnan(depth[masks == street.SKY]).all()
    assert np.isnan(depth[:, -1, 64]).all()
    assert 1 < np.nanmin(depth) < 5
    assert 50 < np.nanmax(depth) < 60


def test_splits_are_different_drives() -> None:
    train, test = (registry.dataset("scenes", split).images for split in ("train", "test"))
    assert (len(train), len(test)) == (400, 200)
    assert not train.read(0, 200).equal(test.read(0, 200))


def test_an_embedded_set_takes_no_folder_and_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'scenes' is embedded and takes no --data-dir"):
        registry.dataset("scenes", "test", tmp_path)
    with pytest.raises(UserError, match="'scenes-depth' keeps its own name"):
        registry.dataset("scenes-depth", "test", None, "mine")
