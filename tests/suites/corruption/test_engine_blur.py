"""Blurs against plain computations, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate, gaussian_filter

from stressbench.randomness import image_keys
from stressbench_suites.corruption.blur import copy_neighbours, move
from stressbench_suites.corruption.engine import corrupt
from stressbench_suites.corruption.pixels import truncate
from suites.corruption.images import assert_same, to_array, to_tensor, truncated
from suites.corruption.references import moved_along, zoomed

SEVERITIES = [1, 2, 3, 4, 5]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_blur(severity, pictures, keys):
    sigma = [0.4, 0.6, 0.7, 0.8, 1][severity - 1]
    reference = [
        truncated(gaussian_filter(picture / 255, (sigma, sigma, 0), mode="nearest", truncate=4)) for picture in pictures
    ]
    assert_same(corrupt(to_tensor(pictures), "gaussian_blur", severity, keys), reference, share=0.02)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_blur(severity, pictures, keys):
    radius, sigma = [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)][severity - 1]
    y, x = np.mgrid[-8:9, -8:9]
    disk = (x**2 + y**2 <= radius**2).astype(float)
    smooth = np.exp(-(np.arange(-1, 2) ** 2) / (2 * sigma**2))
    kernel = correlate(disk / disk.sum(), np.outer(smooth, smooth) / smooth.sum() ** 2, mode="mirror")
    reference = [truncated(correlate(picture / 255, kernel[..., None], mode="mirror")) for picture in pictures]
    assert_same(corrupt(to_tensor(pictures), "defocus_blur", severity, keys), reference, share=0.25)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_zoom_blur(severity, pictures, keys):
    factors = np.arange(1, [1.06, 1.11, 1.16, 1.21, 1.26][severity - 1], 0.01)
    assert len(factors) == [7, 12, 16, 21, 26][severity - 1]

    reference = [
        truncated((picture / 255 + sum(zoomed(picture / 255, f) for f in factors)) / (len(factors) + 1))
        for picture in pictures
    ]
    assert_same(corrupt(to_tensor(pictures), "zoom_blur", severity, keys), reference, share=0.02)


def copied_in_turn(picture: np.ndarray, up: np.ndarray, left: np.ndarray) -> np.ndarray:
    """The published loop: in place, from the last pixel to the first."""
    picture = picture.copy()
    height, width = picture.shape[:2]
    for h in range(height - 1, 1, -1):
        for w in range(width - 1, 1, -1):
            picture[h, w] = picture[h - up[h - 2, w - 2], w - left[h - 2, w - 2]]
    return picture


def test_glass_blur_copies_as_the_loop_does(pictures):
    count, height, width, _ = pictures.shape
    rng = np.random.default_rng(1)
    images, reference = to_tensor(pictures), pictures.copy()
    for _ in range(2):
        up, left = rng.integers(0, 2, (2, count, height - 2, width - 2))
        images = copy_neighbours(images, *(torch.from_numpy(bit).bool()[:, None] for bit in (up, left)))
        reference = np.stack([copied_in_turn(*inputs) for inputs in zip(reference, up, left, strict=True)])
    assert_same(images, list(reference), levels=0)


@pytest.mark.parametrize(("severity", "rounds"), [(1, 1), (2, 1), (4, 2)])
def test_glass_blur_moves_each_pixel_one_of_four_ways(severity, rounds):
    """On an image of coordinates: how far pixels came, and that all ways are as likely."""
    h, w = np.mgrid[0:32, 0:32]
    ramp = np.stack([7 * h, 7 * w, 0 * h], -1).astype(np.uint8)
    images = to_tensor(ramp[None]).expand(200, -1, -1, -1)
    result = to_array(corrupt(images, "glass_blur", severity, image_keys(2, torch.arange(200))))
    for axis in (0, 1):
        moved = (ramp[..., axis] - result[..., axis])[:, 6:26, 6:26] / 7
        assert moved.min() >= -0.3
        assert moved.max() <= rounds + 0.3
        assert moved.mean() == pytest.approx(rounds / 2, abs=0.1)
    if severity == 1:
        steps = (ramp[..., :2] - result[..., :2])[:, 2:, 2:] // 7
        shares = np.bincount((2 * steps[..., 0] + steps[..., 1]).ravel(), minlength=4) / steps[..., 0].size
        assert shares == pytest.approx([0.25] * 4, abs=0.005)
        assert np.array_equal(result[:, :2], np.broadcast_to(ramp[:2], result[:, :2].shape))


@pytest.mark.parametrize(
    ("radius", "sigma", "low", "high"),
    [(6, 1, -45, 45), (6, 2, -45, 45), (9, 2.5, -45, 45), (8, 3, -135, -45), (14, 12, -135, -45)],
)
def test_motion_blur_along_an_angle(radius, sigma, low, high, pictures):
    pictures = pictures[2:7]
    angles = np.linspace(low + 1, high - 2, len(pictures))
    reference = [
        truncated(moved_along(picture / 255, angle, radius, sigma))
        for picture, angle in zip(pictures, angles, strict=True)
    ]
    result = truncate(move(to_tensor(pictures), torch.from_numpy(angles), radius, sigma))
    assert_same(result, reference, share=0.02)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_motion_blur_of_a_point(severity):
    """A bright point becomes a streak of the published weights to its left, at angles spread evenly over 90 degrees."""
    radius, sigma = [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)][severity - 1]
    images = torch.zeros(400, 3, 41, 41)
    images[:, :, 20, 20] = 1
    result = to_array(corrupt(images, "motion_blur", severity, image_keys(2, torch.arange(400))))[..., 0]
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    assert np.abs(result.sum((1, 2)) - 255).max() <= len(weights)
    assert result[:, 20, 20] == pytest.approx(255 * weights[0], abs=1)
    y, x = np.mgrid[0:41, 0:41] - 20
    across, along = ((result * -place).sum((1, 2)) / result.sum((1, 2)) for place in (y, x))
    assert np.hypot(across, along) == pytest.approx(weights @ np.arange(len(weights)), abs=0.5)
    angles = np.degrees(np.arctan2(across, along))
    assert np.abs(angles).max() <= 46
    assert angles.mean() == pytest.approx(0, abs=5)
    assert angles.std() == pytest.approx(90 / 12**0.5, rel=0.1)
