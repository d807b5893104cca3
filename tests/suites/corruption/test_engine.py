"""What all corruptions have in common."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stressbench.randomness import image_keys
from stressbench_suites.corruption.engine import ALL, CORRUPTIONS, EXTRA_CORRUPTIONS, corrupt
from suites.corruption.images import to_array, to_tensor

DETERMINISTIC = {
    "defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression", "gaussian_blur", "saturate",
    "circular_motion_blur",
}  # fmt: skip


@pytest.fixture
def images(square_pictures):
    return to_tensor(square_pictures)


def test_names():
    assert len(CORRUPTIONS) == 15
    assert ALL[:19] == CORRUPTIONS + EXTRA_CORRUPTIONS
    assert CORRUPTIONS[0] == "gaussian_noise"
    assert CORRUPTIONS[-1] == "jpeg_compression"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_result(name, severity, images, keys):
    before = images.clone()
    result = corrupt(images, name, severity, keys)
    assert result.shape == images.shape
    assert result.dtype == torch.float32
    levels = to_array(result)
    assert levels.min() >= 0
    assert levels.max() <= 255
    assert torch.equal(result, torch.from_numpy(levels).permute(0, 3, 1, 2).float() / 255)
    assert torch.equal(images, before)
    assert torch.equal(result, corrupt(images, name, severity, keys))
    assert not torch.equal(result, images) or name == "jpeg_compression"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("severity", [1, 3, 5])
def test_an_image_does_not_depend_on_its_batch(name, severity, images, keys):
    whole = corrupt(images, name, severity, keys)
    order = torch.tensor([7, 3, 9])
    some = corrupt(images[order], name, severity, keys[order])
    assert torch.equal(whole[order], some)
    for i in (0, 5):
        assert torch.equal(whole[i : i + 1], corrupt(images[i : i + 1], name, severity, keys[i : i + 1]))


@pytest.mark.parametrize("name", ["contrast", "zoom_blur", "elastic_transform", "snow", "gaussian_noise"])
def test_an_image_does_not_depend_on_its_batch_over_many_blocks(name):
    """Nor on the number of threads."""
    images = torch.rand(300, 3, 32, 32).mul(255).floor().div(255)
    keys = image_keys(1, torch.arange(300))
    parts = [corrupt(images[i : i + 77], name, 4, keys[i : i + 77]) for i in range(0, 300, 77)]
    torch.set_num_threads(2)
    assert torch.equal(corrupt(images, name, 4, keys), torch.cat(parts))


@pytest.mark.parametrize("name", ALL)
def test_keys_choose_the_noise(name, images, keys):
    same = torch.equal(corrupt(images[4:], name, 4, keys[4:]), corrupt(images[4:], name, 4, keys[4:] + 1))
    assert same == (name in DETERMINISTIC)


@pytest.mark.parametrize("name", ALL)
def test_damage_grows(name, images, keys):
    """Mean absolute change, on plain pictures; where the protocol itself does not grow, from severity 1 to 5."""
    images, keys = images[4:], keys[4:]
    change = [float((corrupt(images, name, severity, keys) - images).abs().mean()) for severity in range(1, 6)]
    if name == "saturate":  # the first two severities take colour away, the others add it
        change = change[2:]
    steady = name not in {"snow", "elastic_transform", "glass_blur", "spatter", "frost", "pixelate"}
    # The affine part of elastic_transform shrinks as the displacement grows.
    assert name == "elastic_transform" or change[-1] > change[0]
    assert not steady or change == sorted(change)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (5, 4), (17, 40), (96, 64)])
@pytest.mark.parametrize("name", ALL)
def test_any_size(name, height, width):
    images = torch.rand(2, 3, height, width)
    result = corrupt(images, name, 5, torch.tensor([1, 2]))
    assert result.shape == images.shape
    assert bool(result.isfinite().all())


@pytest.mark.parametrize("name", ALL)
def test_no_images(name):
    assert corrupt(torch.zeros(0, 3, 32, 32), name, 1, torch.zeros(0, dtype=torch.int64)).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("name", ["contrast", "snow", "motion_blur"])
def test_memory_layout_does_not_matter(name, images, keys):
    strided = images.to(memory_format=torch.channels_last)
    assert torch.equal(corrupt(strided, name, 3, keys), corrupt(images, name, 3, keys))


@pytest.mark.parametrize("name", sorted(DETERMINISTIC - {"saturate", "circular_motion_blur"}))
@pytest.mark.parametrize("severity", [1, 5])
def test_a_plain_image_stays_plain(name, severity):
    images = torch.full((1, 3, 32, 32), 128 / 255)
    result = to_array(corrupt(images, name, severity, torch.tensor([1])))
    assert np.ptp(result) == 0
    if name != "brightness":
        assert abs(result.max() - 128) == 0


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(ALL),
    severity=st.integers(1, 5),
    seed=st.integers(0, 2**62),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    contrast=st.floats(0, 1),
)
def test_any_image(name, severity, seed, height, width, contrast):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 3, height, width, generator=generator).mul(contrast).mul(255).floor().div(255)
    keys = image_keys(seed, torch.arange(2))
    result = corrupt(images, name, severity, keys)
    to_array(result)
    assert torch.equal(result[1:], corrupt(images[1:], name, severity, keys[1:]))


@pytest.mark.parametrize("severity", [0, 6, -1, 2.5])
def test_unknown_severity(severity, images, keys):
    with pytest.raises(ValueError, match="severity"):
        corrupt(images, "fog", severity, keys)


def test_unknown_name(images, keys):
    with pytest.raises(ValueError, match=r"'smog'.*fog"):
        corrupt(images, "smog", 1, keys)


def test_wrong_shapes(images, keys):
    with pytest.raises(ValueError, match="keys"):
        corrupt(images, "fog", 1, keys[:3])
    with pytest.raises(ValueError, match="N, 3, H, W"):
        corrupt(images[0], "fog", 1, keys[:3])
