"""Noise against the distributions that define it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from stressbench.randomness import image_keys
from stressbench_suites.corruption.engine import corrupt
from suites.corruption.images import to_array

SEVERITIES = [1, 2, 3, 4, 5]


def levels_of_plain(name: str, severity: int, level: int, images: int = 60) -> np.ndarray:
    """Grey levels (images · 3,072,) that values of one grey level become."""
    plain = torch.full((images, 3, 32, 32), level / 255)
    return to_array(corrupt(plain, name, severity, image_keys(severity, torch.arange(images)))).ravel()


def assert_frequencies(drawn: np.ndarray, expected: np.ndarray) -> None:
    """Chi-square of drawn grey levels against probabilities (256,), the rare ones taken together."""
    counts = np.bincount(drawn, minlength=256)
    assert counts[expected == 0].sum() == 0
    common = expected * len(drawn) > 10
    observed = np.append(counts[common], counts[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum()) * len(drawn)
    if wanted[-1] < 5:
        assert observed[-1] < 25
        observed, wanted = observed[:-1], wanted[:-1] * observed[:-1].sum() / wanted[:-1].sum()
    if len(wanted) > 1:
        assert stats.chisquare(observed, wanted).pvalue > 1e-5


def normal_levels(mean: float, deviation: float) -> np.ndarray:
    """Probabilities of the 256 levels of a normal number that is clipped and truncated."""
    below = stats.norm.cdf(np.arange(1, 256) / 255, mean, deviation)
    return np.diff(np.concatenate([[0], below, [1]]))


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("level", [0, 10, 128, 250, 255])
def test_gaussian_noise(severity, level):
    deviation = [0.04, 0.06, 0.08, 0.09, 0.10][severity - 1]
    assert_frequencies(levels_of_plain("gaussian_noise", severity, level), normal_levels(level / 255, deviation))


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("level", [3, 128, 255])
def test_speckle_noise(severity, level):
    deviation = [0.06, 0.1, 0.12, 0.16, 0.2][severity - 1] * level / 255
    assert_frequencies(levels_of_plain("speckle_noise", severity, level), normal_levels(level / 255, deviation))


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("level", [0, 1, 20, 128, 200, 254, 255])
def test_shot_noise(severity, level):
    photons = [500, 250, 100, 75, 50][severity - 1]
    count = np.arange(3 * photons)
    probability = stats.poisson.pmf(count, level / 255 * photons)
    expected = np.zeros(256)
    np.add.at(expected, (np.clip(count / photons, 0, 1) * 255).astype(np.uint8), probability)
    assert_frequencies(levels_of_plain("shot_noise", severity, level), expected)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_shot_noise_draws_each_level_on_its_own(severity):
    """All grey levels in one image: the means are those of the images' own values."""
    image = torch.arange(256).repeat(4 * 3).view(1, 3, 32, 32) / 255
    keys = image_keys(9, torch.arange(300))
    drawn = to_array(corrupt(image.expand(300, -1, -1, -1), "shot_noise", severity, keys))
    photons = [500, 250, 100, 75, 50][severity - 1]
    mean = drawn.transpose(0, 3, 1, 2).reshape(-1, 256).mean(0)
    count = np.arange(3 * photons)
    wanted = stats.poisson.pmf(count, np.arange(256)[:, None] / 255 * photons) @ (
        (np.clip(count / photons, 0, 1) * 255).astype(np.uint8).astype(float)
    )
    error = np.sqrt(255 * 255 / photons / 3600)
    assert np.abs(mean - wanted).max() < 5 * error


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulse_noise(severity):
    fraction = [0.01, 0.02, 0.03, 0.05, 0.07][severity - 1]
    drawn = levels_of_plain("impulse_noise", severity, 77, images=400)
    for level, probability in ((0, fraction / 2), (255, fraction / 2), (77, 1 - fraction)):
        hits = int((drawn == level).sum())
        assert stats.binomtest(hits, len(drawn), probability).pvalue > 1e-5
    assert set(np.unique(drawn)) == {0, 77, 255}


def test_impulse_noise_hits_values_not_pixels():
    plain = torch.full((100, 3, 32, 32), 77 / 255)
    drawn = to_array(corrupt(plain, "impulse_noise", 5, image_keys(0, torch.arange(100)))) != 77
    assert stats.binomtest(int(drawn.all(-1).sum()), drawn[..., 0].size, 0.07**3).pvalue > 1e-5


@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"])
def test_noise_is_white(name):
    """No correlation between neighbours, channels or images."""
    plain = torch.full((100, 3, 32, 32), 0.5)
    noise = corrupt(plain, name, 3, image_keys(0, torch.arange(100))).double()
    noise = (noise - noise.mean()) / noise.std()
    bound = 5 / (noise.numel() * 0.9) ** 0.5
    for axis in range(4):
        size = noise.shape[axis]
        assert abs(float((noise.narrow(axis, 1, size - 1) * noise.narrow(axis, 0, size - 1)).mean())) < 1.3 * bound
