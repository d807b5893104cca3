"""Changes of colour, geometry and coding against plain computations, image by image."""

from __future__ import annotations

import colorsys
import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from scipy.ndimage import gaussian_filter, map_coordinates

from stressbench.randomness import image_keys, uniform
from stressbench_suites.corruption import digital
from stressbench_suites.corruption.engine import corrupt
from suites.corruption.images import assert_same, to_array, to_tensor, truncated

SEVERITIES = [1, 2, 3, 4, 5]
ELASTIC = [(0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)]


def through_hsv(picture: np.ndarray, change) -> np.ndarray:
    pixels = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel))) for pixel in picture.reshape(-1, 3) / 255]
    return truncated(np.array(pixels).reshape(picture.shape))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness(severity, pictures, keys):
    more = [0.05, 0.1, 0.15, 0.2, 0.3][severity - 1]
    reference = [through_hsv(p, lambda h, s, v: (h, s, min(v + more, 1))) for p in pictures]
    assert_same(corrupt(to_tensor(pictures), "brightness", severity, keys), reference)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_saturate(severity, pictures, keys):
    pictures[4, :4] = np.arange(48).reshape(4, 12, 1)[:, :1] + 100  # grey pixels
    a, b = [(0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)][severity - 1]
    reference = [through_hsv(p, lambda h, s, v: (h, min(s * a + b, 1), v)) for p in pictures]
    assert_same(corrupt(to_tensor(pictures), "saturate", severity, keys), reference)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast(severity, pictures, keys):
    factor = [0.75, 0.5, 0.4, 0.3, 0.15][severity - 1]
    means = [(picture / 255).mean((0, 1)) for picture in pictures]
    reference = [truncated((p / 255 - mean) * factor + mean) for p, mean in zip(pictures, means, strict=True)]
    assert_same(corrupt(to_tensor(pictures), "contrast", severity, keys), reference)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_pixelate(severity, pictures, keys):
    factor = [0.95, 0.9, 0.85, 0.75, 0.65][severity - 1]
    height, width = pictures.shape[1:3]

    def resized(picture: np.ndarray) -> np.ndarray:
        small = Image.fromarray(picture).resize((int(width * factor), int(height * factor)), Image.Resampling.BOX)
        return np.array(small.resize((width, height), Image.Resampling.BOX)).astype(int)

    reference = [resized(picture) for picture in pictures]
    assert_same(corrupt(to_tensor(pictures), "pixelate", severity, keys), reference, levels=0)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_compression(severity, pictures, keys):
    def coded(picture: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=[80, 65, 58, 50, 40][severity - 1])
        return np.array(Image.open(file)).astype(int)

    reference = [coded(picture) for picture in pictures]
    assert_same(corrupt(to_tensor(pictures), "jpeg_compression", severity, keys), reference)


def test_affine_warp(pictures):
    """Bilinear reading at the inverse map of three moved points, the border mirrored about the edge pixels' middles."""
    height, width = pictures.shape[1:3]
    moves = np.random.default_rng(0).uniform(-2.5, 2.5, (len(pictures), 3, 2))
    half, centre = min(height, width) // 3, np.array([width // 2, height // 2])
    points = centre + half * np.array([(1, 1), (1, -1), (-1, -1)])
    y, x = np.mgrid[0:height, 0:width]
    places = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    reference = []
    for picture, move in zip(pictures / 255, moves, strict=True):
        forward = np.linalg.solve(np.column_stack([points, np.ones(3)]), points + move).T  # (2, 3)
        back = np.linalg.inv(np.vstack([forward, (0, 0, 1)]))
        source = (back @ places)[1::-1].reshape(2, height, width)
        reference.append([map_coordinates(picture[..., c], source, order=1, mode="mirror") for c in range(3)])
    result = digital.affine(to_tensor(pictures), torch.from_numpy(moves).float())
    assert np.abs(result.numpy() - np.array(reference)).max() < 0.01 / 255


def test_displacement(pictures):
    height, width = pictures.shape[1:3]
    moves = np.random.default_rng(0).uniform(-4, 4, (len(pictures), 2, height, width)).astype(np.float32)
    y, x = np.mgrid[0:height, 0:width]
    reference = [
        [map_coordinates(picture[..., c] / 255, (y + dy, x + dx), order=1, mode="reflect") for c in range(3)]
        for picture, (dx, dy) in zip(pictures, moves, strict=True)
    ]
    result = digital.displaced(to_tensor(pictures), torch.from_numpy(moves))
    assert np.abs(result.numpy() - np.array(reference)).max() < 0.01 / 255


@pytest.mark.parametrize("severity", SEVERITIES)
def test_elastic_transform(severity, square_pictures, keys, monkeypatch):
    """The two warps get moves of the published size and smoothness."""
    scale, sigma, jitter = (32 * fraction for fraction in ELASTIC[severity - 1])
    seen = {}
    for name in ("affine", "displaced"):
        warp = getattr(digital, name)
        monkeypatch.setattr(digital, name, lambda images, moves, n=name, f=warp: f(images, seen.setdefault(n, moves)))
    images = to_tensor(square_pictures)
    keys = image_keys(1, torch.arange(200))
    corrupt(images[4:5].expand(200, -1, -1, -1), "elastic_transform", severity, keys)
    assert stats.kstest(seen["affine"].ravel().numpy(), "uniform", (-jitter, 2 * jitter)).pvalue > 1e-4
    assert 0.99 * jitter < seen["affine"].abs().max() < jitter
    assert ("displaced" in seen) == (severity > 1)
    if severity > 1:
        moves = seen["displaced"].numpy()
        white = np.random.default_rng(0).uniform(-1, 1, (200, 32, 32))
        smooth = scale * gaussian_filter(white, (0, sigma, sigma), mode="reflect", truncate=3)
        for part in (np.s_[:], np.s_[..., :2, :], np.s_[..., 15, 15]):
            assert moves[part].std() == pytest.approx(smooth[part].std(), rel=0.2)
        for i in (0, 1):
            assert np.abs(np.corrcoef(moves[:, i, 12:20, 12:20].reshape(200, -1)[:, :2].T)[0, 1]) > 0.2
        noise = uniform(keys, (2, 32, 32), stream=1) * 2 - 1
        wanted = scale * gaussian_filter(noise.double().numpy(), (0, 0, sigma, sigma), mode="reflect", truncate=3)
        assert np.abs(moves - wanted).max() < 1e-5
        assert abs(np.corrcoef(moves[:, 0].ravel(), moves[:, 1].ravel())[0, 1]) < 0.1


def test_elastic_transform_of_a_small_image():
    images = torch.rand(3, 3, 7, 9)
    assert to_array(corrupt(images, "elastic_transform", 3, torch.arange(3))).shape == (3, 7, 9, 3)
