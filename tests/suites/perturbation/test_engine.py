"""What all perturbations have in common."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stressbench.datasets.checksums import CIFAR10_P
from stressbench.randomness import image_keys
from stressbench_suites.perturbation import engine
from stressbench_suites.perturbation.engine import FRAMES, PERTURBATIONS, perturb
from suites.corruption.images import to_array, to_tensor

RANDOM = {"gaussian_noise", "shot_noise", "spatter"}
# The frame that is the image itself, in the types that have one.
PLAIN = {
    "gaussian_noise": 0,
    "shot_noise": 0,
    "zoom_blur": 0,
    "brightness": 15,
    "translate": 7,
    "rotate": 15,
    "scale": 15,
}


@pytest.fixture
def images(square_pictures: np.ndarray) -> torch.Tensor:
    return to_tensor(square_pictures)


def test_the_published_types_and_lengths() -> None:
    assert list(PERTURBATIONS) == [
        "gaussian_noise", "shot_noise", "motion_blur", "zoom_blur", "spatter",
        "brightness", "translate", "rotate", "tilt", "scale",
    ]  # fmt: skip
    assert list(FRAMES.values()) == [31, 31, 21, 31, 31, 31, 16, 31, 31, 31]
    assert FRAMES == CIFAR10_P


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_result(name: str, images: torch.Tensor, keys: torch.Tensor) -> None:
    before = images.clone()
    result = perturb(images, name, keys)
    assert result.shape == (10, FRAMES[name], 3, 32, 32)
    assert result.dtype == torch.float32
    levels = to_array(result.flatten(0, 1))
    assert levels.min() >= 0
    assert levels.max() <= 255
    assert torch.equal(images, before)
    assert torch.equal(result, perturb(images, name, keys))
    # Each frame is another one; only liquid may have run off the lens.
    assert bool((result[4:, 1:] != result[4:, :-1]).flatten(2).any(-1).all()) or name == "spatter"


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_sequence_passes_by_the_image_itself(name: str, images: torch.Tensor, keys: torch.Tensor) -> None:
    same = (perturb(images[4:], name, keys[4:]) == images[4:, None]).flatten(2).all(-1).all(0)
    assert same.nonzero().flatten().tolist() == ([PLAIN[name]] if name in PLAIN else [])


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_an_image_does_not_depend_on_its_batch(name: str, images: torch.Tensor, keys: torch.Tensor) -> None:
    """Nor on the block that it is worked on in; ten images are more than one of most types."""
    whole = perturb(images, name, keys)
    order = torch.tensor([7, 3, 9])
    assert torch.equal(whole[order], perturb(images[order], name, keys[order]))
    for i in (0, 5):
        assert torch.equal(whole[i : i + 1], perturb(images[i : i + 1], name, keys[i : i + 1]))


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_keys_choose_the_noise(name: str, images: torch.Tensor, keys: torch.Tensor) -> None:
    same = torch.equal(perturb(images[4:], name, keys[4:]), perturb(images[4:], name, keys[4:] + 1))
    assert same == (name not in RANDOM)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_no_images(name: str) -> None:
    result = perturb(torch.zeros(0, 3, 32, 32), name, torch.zeros(0, dtype=torch.int64))
    assert result.shape == (0, FRAMES[name], 3, 32, 32)


@pytest.mark.parametrize("name", ["motion_blur", "rotate", "gaussian_noise"])
def test_memory_layout_does_not_matter(name: str, images: torch.Tensor, keys: torch.Tensor) -> None:
    strided = images.to(memory_format=torch.channels_last)
    assert torch.equal(perturb(strided, name, keys), perturb(images, name, keys))


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from(PERTURBATIONS),
    seed=st.integers(0, 2**62),
    height=st.integers(16, 36),
    width=st.integers(16, 36),
    contrast=st.floats(0, 1),
)
def test_any_image(name: str, seed: int, height: int, width: int, contrast: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 3, height, width, generator=generator).mul(contrast).mul(255).floor().div(255)
    keys = image_keys(seed, torch.arange(2))
    result = perturb(images, name, keys)
    to_array(result.flatten(0, 1))
    assert torch.equal(result[1:], perturb(images[1:], name, keys[1:]))


def test_unknown_name(images: torch.Tensor, keys: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"'snow'.*spatter"):
        perturb(images, "snow", keys)


def test_wrong_shapes(images: torch.Tensor, keys: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="keys"):
        perturb(images, "tilt", keys[:3])
    with pytest.raises(ValueError, match="N, 3, H, W"):
        perturb(images[0], "tilt", keys[:3])


def test_the_example() -> None:
    assert doctest.testmod(engine, extraglobs={"torch": torch}).failed == 0
