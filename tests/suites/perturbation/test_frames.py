"""Each perturbation against a plain computation, image by image and frame by frame."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from scipy.ndimage import gaussian_filter, map_coordinates
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine

from stressbench.randomness import image_keys, normal, split
from stressbench_suites.corruption.spatter import splash
from stressbench_suites.perturbation.engine import perturb
from suites.corruption.images import assert_same, to_array, to_tensor, truncated
from suites.corruption.references import moved_along


def agrees(
    pictures: np.ndarray, keys: torch.Tensor, name: str, frame: int, reference: list[np.ndarray], share: float
) -> None:
    """Frame by frame: one grey level at the most, and no difference but for a share of the values."""
    assert_same(perturb(to_tensor(pictures), name, keys)[:, frame], reference, share=share)


def affine_by_pillow(picture: np.ndarray, degrees: float, factor: float) -> np.ndarray:
    """The published code's own call: torchvision's `affine` of a Pillow image, about its centre."""
    image = affine(
        Image.fromarray(picture), degrees, [0, 0], factor, [0.0, 0.0], interpolation=InterpolationMode.BILINEAR
    )
    return np.asarray(image).astype(int)


# --- noise ----------------------------------------------------------------------------------------------------


def test_gaussian_noise(pictures: np.ndarray, keys: torch.Tensor) -> None:
    own = split(keys, 30)
    for frame in (1, 17, 30):
        noise = normal(own[:, frame - 1], (3, *pictures.shape[1:3])).double().permute(0, 2, 3, 1).numpy()
        agrees(pictures, keys, "gaussian_noise", frame, list(truncated(pictures / 255 + 0.02 * noise)), share=1e-3)


def test_gaussian_noise_is_of_the_published_size_and_independent_by_frame() -> None:
    frames = perturb(torch.full((20, 3, 32, 32), 128 / 255), "gaussian_noise", image_keys(1, torch.arange(20)))
    noise = frames[:, 1:].flatten(2) * 255 - 128
    # Truncation takes half a level off, and adds the variance of a uniform number.
    assert float(noise.mean()) == pytest.approx(-0.5, abs=0.03)
    assert float(noise.std()) == pytest.approx(math.sqrt(5.1**2 + 1 / 12), rel=0.005)
    correlation = torch.corrcoef(noise.transpose(0, 1).flatten(1))
    assert float((correlation - torch.eye(30)).abs().max()) < 5 / math.sqrt(20 * 3072)


@pytest.mark.parametrize("level", [3, 100, 254])
def test_shot_noise_has_poissons_distribution(level: int) -> None:
    frames = perturb(torch.full((10, 3, 32, 32), level / 255), "shot_noise", image_keys(1, torch.arange(10)))
    drawn = (frames[:, 1:] * 255).round().int().flatten()
    counts = np.arange(1500)
    levels = np.minimum(255 * (counts / 700), 255).astype(int)
    expected = np.bincount(levels, stats.poisson.pmf(counts, level / 255 * 700), minlength=256)
    found = np.bincount(drawn, minlength=256) / len(drawn)
    assert np.abs(found - expected).max() < 5 * 0.5 / math.sqrt(len(drawn))
    assert (found[expected < 1e-12] == 0).all()


def test_shot_noise_is_independent_by_frame() -> None:
    frames = perturb(torch.full((20, 3, 32, 32), 0.6), "shot_noise", image_keys(1, torch.arange(20)))
    correlation = torch.corrcoef(frames[:, 1:].transpose(0, 1).flatten(1))
    assert float((correlation - torch.eye(30)).abs().max()) < 5 / math.sqrt(20 * 3072)


# --- blur -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [0, 3, 10, 16, 20])
def test_motion_blur(frame: int, pictures: np.ndarray, keys: torch.Tensor) -> None:
    pictures, keys = pictures[3:6], keys[3:6]
    reference = [truncated(moved_along(picture / 255, (frame - 20) * 9, 6, 1.8)) for picture in pictures]
    agrees(pictures, keys, "motion_blur", frame, reference, share=0.02)


def test_zoom_blur(pictures: np.ndarray, keys: torch.Tensor) -> None:
    total = pictures.astype(int)
    result = perturb(to_tensor(pictures), "zoom_blur", keys)
    for frame in range(1, 31):
        total = total + np.stack([affine_by_pillow(picture, 0, 1 + 0.004 * frame) for picture in pictures])
        # A zoom's level, truncated at a whole number, may be one off in either; so may a mean, if that many are.
        assert_same(result[:, frame], list(total // (frame + 1)), share=0.02)


# --- liquid ---------------------------------------------------------------------------------------------------


def test_spatter(square_pictures: np.ndarray, keys: torch.Tensor) -> None:
    """A layer that `numpy.convolve` moves down; how water looks is for the corruption's tests."""
    noise = normal(keys, (1, 32, 32))[:, 0].double().numpy()
    layers = np.stack([gaussian_filter(0.6 + 0.265 * z, 1.75, mode="nearest", truncate=4) for z in noise])
    layers[layers < 0.7] = 0
    result = perturb(to_tensor(square_pictures), "spatter", keys)
    for frame in range(31):
        levels = torch.from_numpy((layers * 255 + 1e-3).astype(np.uint8)).float()[:, None]
        reference = truncated(splash(to_tensor(square_pictures), levels, 0.6).permute(0, 2, 3, 1).double().numpy())
        assert (np.abs(to_array(result[:, frame]) - reference) > 1).mean() < 1e-3
        layers = np.apply_along_axis(lambda column: np.convolve(column, [0.2, 0.8], mode="same"), 1, layers)


def test_spatter_runs_off_the_lens() -> None:
    keys = image_keys(5, torch.arange(30))
    wet = perturb(torch.zeros(30, 3, 32, 32), "spatter", keys).sum(2) > 0
    assert bool(wet[:, 0, :10].any())
    assert not bool(wet[:, 30, :10].any())
    # Nothing is left on some: these images end as they are, and not in the dark.
    dry = ~wet[:, 30].flatten(1).any(1)
    assert bool(dry.any())
    grey = torch.full((int(dry.sum()), 3, 32, 32), 0.4)
    assert torch.equal(perturb(grey, "spatter", keys[dry])[:, 30], grey)


def test_water_lightens_by_its_colour() -> None:
    black = to_array(perturb(torch.zeros(10, 3, 32, 32), "spatter", image_keys(5, torch.arange(10)))[:, 0])
    assert np.array_equal(black[..., 1], black[..., 2])
    assert np.abs(black[..., 0] - black[..., 1] * 175 / 238).max() <= 1
    assert (black[..., 1].max((1, 2)) == int(238 * 0.6)).all()


# --- light ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [0, 9, 14, 16, 30])
def test_brightness(frame: int, pictures: np.ndarray, keys: torch.Tensor) -> None:
    def brightened(red: float, green: float, blue: float) -> tuple[float, float, float]:
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        return colorsys.hsv_to_rgb(hue, saturation, min(max(value + 0.015 * (frame - 15), 0), 1))

    flat = [[brightened(*pixel) for pixel in picture.reshape(-1, 3) / 255] for picture in pictures]
    reference = truncated(np.array(flat).reshape(pictures.shape))
    agrees(pictures, keys, "brightness", frame, list(reference), share=0.005)


# --- geometry -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", range(16))
def test_translate(frame: int, pictures: np.ndarray, keys: torch.Tensor) -> None:
    by_pillow = [np.asarray(affine(Image.fromarray(p), 0, [frame - 7, 0], 1, [0.0, 0.0])) for p in pictures]
    agrees(pictures, keys, "translate", frame, by_pillow, share=0)


def test_translate_moves_to_the_right() -> None:
    image = torch.zeros(1, 3, 32, 32)
    image[:, :, 4, 10] = 1
    place = perturb(image, "translate", torch.tensor([1]))[0, :, 0].nonzero().tolist()
    assert place == [[frame, 4, 10 + frame - 7] for frame in range(16)]


@pytest.mark.parametrize("frame", [0, 8, 14, 16, 30])
def test_rotate(frame: int, pictures: np.ndarray, keys: torch.Tensor) -> None:
    reference = [affine_by_pillow(picture, frame - 15, 1) for picture in pictures]
    agrees(pictures, keys, "rotate", frame, reference, share=0.005)


@pytest.mark.parametrize("frame", [0, 7, 14, 16, 30])
def test_scale(frame: int, pictures: np.ndarray, keys: torch.Tensor) -> None:
    reference = [affine_by_pillow(picture, 0, (70 + 2 * frame) / 100) for picture in pictures]
    agrees(pictures, keys, "scale", frame, reference, share=0.02)


def test_black_enters_where_a_frame_looks_outside() -> None:
    white = torch.ones(1, 3, 32, 32)
    key = torch.tensor([1])
    light = {name: perturb(white, name, key)[0].mean((1, 2, 3)) for name in ("translate", "rotate", "tilt", "scale")}
    assert light["translate"].tolist() == pytest.approx([1 - abs(i - 7) / 32 for i in range(16)])
    assert light["scale"][:3].tolist() == pytest.approx([(n / 32) ** 2 for n in (22, 24, 24)])
    assert bool((light["scale"][15:] == 1).all())
    assert light["rotate"][15] == 1
    assert light["rotate"][[0, 30]].tolist() == pytest.approx([float(light["rotate"].min())] * 2, abs=0.01)
    assert light["tilt"].argmax() in range(13, 18)


def looking_at(picture: np.ndarray, degrees: float) -> np.ndarray:
    """A picture turned about both axes, point by point through a pinhole, levels rounded as OpenCV does."""
    height, width = picture.shape[:2]
    focal = math.hypot(height, width)
    sin, cos = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))

    def seen(x: float, y: float) -> tuple[float, float]:
        x, y, z = x - width / 2, y - height / 2, 1.0
        x, z = cos * x - sin * z, sin * x + cos * z
        y, z = cos * y - sin * z, sin * y + cos * z
        return focal * x / (z + focal) + width / 2, focal * y / (z + focal) + height / 2

    # The map from seen points back to the picture's, from what becomes of four of them.
    equations, values = [], []
    for x, y in ((0, 0), (width, 0), (0, height), (width, height)):
        u, v = seen(x, y)
        equations += [[u, v, 1, 0, 0, 0, -u * x, -v * x], [0, 0, 0, u, v, 1, -u * y, -v * y]]
        values += [x, y]
    back = np.append(np.linalg.solve(equations, values), 1).reshape(3, 3)
    v, u = np.mgrid[0:height, 0:width]
    x, y, scale = np.einsum("ij,jhw->ihw", back, np.stack([u, v, np.ones_like(u)]).astype(float))
    channels = [
        map_coordinates(channel, (y / scale, x / scale), order=1, mode="grid-constant")
        for channel in np.moveaxis(picture.astype(float), -1, 0)
    ]
    return np.round(np.stack(channels, -1)).astype(int)


@pytest.mark.parametrize("frame", [0, 7, 15, 22, 30])
def test_tilt(frame: int, pictures: np.ndarray, keys: torch.Tensor) -> None:
    reference = [looking_at(picture, 0.75 * (frame - 15)) for picture in pictures]
    agrees(pictures, keys, "tilt", frame, reference, share=0.005)
