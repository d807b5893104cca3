"""Large images, which get ImageNet-C's constants, against plain computations, image by image."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy import stats
from scipy.ndimage import correlate, gaussian_filter, map_coordinates

from stressbench.randomness import image_keys, normal, uniform
from stressbench_suites.corruption import constants, frost, spatter
from stressbench_suites.corruption.blur import copy_around
from stressbench_suites.corruption.engine import CORRUPTIONS, EXTRA_CORRUPTIONS, corrupt
from suites.corruption.conftest import scenes
from suites.corruption.images import assert_same, to_array, to_tensor, truncated
from suites.corruption.references import zoomed
from suites.corruption.test_engine_weather import fractal

HEIGHT, WIDTH = 72, 100
SEVERITIES = pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])


@pytest.fixture(scope="module")
def photographs() -> np.ndarray:
    """Three pictures (3, H, W, 3) larger than 64 pixels, none of them of one colour."""
    return scenes(7, HEIGHT, WIDTH)[4:]


@pytest.fixture
def keys() -> torch.Tensor:
    return image_keys(3, torch.arange(3))


def channels_last(numbers: torch.Tensor) -> np.ndarray:
    return numbers.double().movedim(1, -1).numpy()


def moved_along(picture: np.ndarray, degrees: float, radius: int, sigma: float) -> np.ndarray:
    """As in `references`, for whole pictures at a time."""
    height, width = picture.shape[:2]
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    result = np.zeros(picture.shape)
    for i, weight in enumerate(weights / weights.sum()):
        rows = np.arange(height) + int(np.ceil(i * np.sin(np.radians(degrees)) - 0.5))
        columns = np.arange(width) + int(np.ceil(i * np.cos(np.radians(degrees)) - 0.5))
        result += weight * picture[np.clip(rows, 0, height - 1)][:, np.clip(columns, 0, width - 1)]
    return result


@pytest.mark.parametrize(("size", "is_small"), [((32, 32), True), ((64, 200), True), ((65, 65), False)])
def test_the_shorter_side_decides(size: tuple[int, int], is_small: bool) -> None:
    assert constants.small(size) == is_small
    assert ("CIFAR-C" in constants.describe(size)) == is_small
    result = to_array(corrupt(torch.full((1, 3, *size), 100 / 255), "brightness", 1, torch.tensor([1])))
    assert result.max() == pytest.approx(100 + 255 * (0.05 if is_small else 0.1), abs=1)


@pytest.mark.parametrize("name", CORRUPTIONS + EXTRA_CORRUPTIONS)
def test_an_image_does_not_depend_on_its_batch(name: str, photographs: np.ndarray, keys: torch.Tensor) -> None:
    images = to_tensor(photographs)
    whole = corrupt(images, name, 5, keys)
    assert torch.equal(whole[1:2], corrupt(images[1:2], name, 5, keys[1:2]))


@SEVERITIES
def test_additive_noise(severity: int, photographs: np.ndarray, keys: torch.Tensor) -> None:
    numbers = channels_last(normal(keys, (3, HEIGHT, WIDTH)))
    images, pictures = to_tensor(photographs), photographs / 255
    c = [0.08, 0.12, 0.18, 0.26, 0.38][severity - 1]
    assert_same(corrupt(images, "gaussian_noise", severity, keys), list(truncated(pictures + c * numbers)), share=0.02)
    c = [0.15, 0.2, 0.35, 0.45, 0.6][severity - 1]
    reference = list(truncated(pictures * (1 + c * numbers)))
    assert_same(corrupt(images, "speckle_noise", severity, keys), reference, share=0.02)


@SEVERITIES
def test_shot_and_impulse_noise(severity: int) -> None:
    level, plain, keys = 100, torch.full((5, 3, 80, 80), 100 / 255), image_keys(severity, torch.arange(5))
    drawn = to_array(corrupt(plain, "shot_noise", severity, keys)).ravel()
    photons = [60, 25, 12, 5, 3][severity - 1]
    count = np.arange(2 * photons + 60)
    levels = (np.clip(count / photons, 0, 1) * 255 + 1e-9).astype(int)
    expected = np.bincount(levels, stats.poisson.pmf(count, level / 255 * photons), 256) * len(drawn)
    observed = np.bincount(drawn, minlength=256)
    assert observed[expected == 0].sum() == 0
    often = expected > 10
    assert (
        stats.chisquare(observed[often], expected[often] * observed[often].sum() / expected[often].sum()).pvalue > 1e-5
    )
    drawn = to_array(corrupt(plain, "impulse_noise", severity, keys)).ravel()
    fraction = [0.03, 0.06, 0.09, 0.17, 0.27][severity - 1]
    for value, probability in ((0, fraction / 2), (255, fraction / 2), (level, 1 - fraction)):
        assert stats.binomtest(int((drawn == value).sum()), len(drawn), probability).pvalue > 1e-5


@SEVERITIES
def test_gaussian_and_defocus_blur(severity: int, photographs: np.ndarray, keys: torch.Tensor) -> None:
    sigma = [1, 2, 3, 4, 6][severity - 1]
    reference = [
        truncated(gaussian_filter(picture / 255, (sigma, sigma, 0), mode="nearest")) for picture in photographs
    ]
    assert_same(corrupt(to_tensor(photographs), "gaussian_blur", severity, keys), reference, share=0.02)

    radius, sigma = [(3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)][severity - 1]
    grid, half = (8, 1) if severity < 5 else (10, 2)
    y, x = np.mgrid[-grid : grid + 1, -grid : grid + 1]
    disk = (x**2 + y**2 <= radius**2).astype(float)
    smooth = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * sigma**2))
    kernel = correlate(disk / disk.sum(), np.outer(smooth, smooth) / smooth.sum() ** 2, mode="mirror")
    reference = [truncated(correlate(picture / 255, kernel[..., None], mode="mirror")) for picture in photographs]
    assert_same(corrupt(to_tensor(photographs), "defocus_blur", severity, keys), reference, share=0.25)


@SEVERITIES
def test_glass_blur(severity: int, photographs: np.ndarray, keys: torch.Tensor) -> None:
    """The published loop, in place and pixel by pixel, with the same numbers."""
    sigma, d, rounds = [(0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)][severity - 1]
    reference = []
    for i, picture in enumerate(photographs / 255):
        levels = truncated(gaussian_filter(picture, (sigma, sigma, 0), mode="nearest"))
        for turn in range(rounds):
            numbers = uniform(keys[i : i + 1], (2, HEIGHT - 2 * d, WIDTH - 2 * d), stream=turn)[0].numpy()
            moves = np.floor(numbers * 2 * d).astype(int) - d
            assert (moves.min(), moves.max()) == (-d, d - 1)
            for h in range(HEIGHT - d, d, -1):
                for w in range(WIDTH - d, d, -1):
                    dy, dx = moves[:, h - d - 1, w - d - 1]
                    levels[h, w] = levels[h + dy, w + dx]
        reference.append(truncated(gaussian_filter(levels / 255, (sigma, sigma, 0), mode="nearest")))
    # A level more or less before the copying is one more or less after it, hence the share.
    assert_same(corrupt(to_tensor(photographs), "glass_blur", severity, keys), reference, levels=2, share=0.05)


def test_long_chains_of_copies_are_followed_to_their_end() -> None:
    """Every pixel takes the one to its right, which was written before: a whole row ends as its last pixel."""
    images = torch.rand(1, 3, 12, 40)
    moves = torch.stack([torch.zeros(1, 8, 36), torch.ones(1, 8, 36)], 1).long()
    result = copy_around(images, moves, 2)
    assert torch.equal(result[..., 3:11, 3:39], images[..., 3:11, 39:].expand(-1, -1, -1, 36))
    assert torch.equal(result[..., :3, :], images[..., :3, :])


@SEVERITIES
def test_motion_and_zoom_blur(severity: int, photographs: np.ndarray, keys: torch.Tensor) -> None:
    radius, sigma = [(10, 3), (15, 5), (15, 8), (15, 12), (20, 15)][severity - 1]
    angles = uniform(keys, ()).double().numpy() * 90 - 45
    pictures = photographs / 255
    reference = [truncated(moved_along(p, angle, radius, sigma)) for p, angle in zip(pictures, angles, strict=True)]
    assert_same(corrupt(to_tensor(photographs), "motion_blur", severity, keys), reference, share=0.02)

    stop, step = [(1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)][severity - 1]
    factors = np.arange(1, stop, step)
    assert len(factors) == [12, 16, 11, 13, 11][severity - 1]
    reference = [truncated((p + sum(zoomed(p, f) for f in factors)) / (len(factors) + 1)) for p in pictures]
    assert_same(corrupt(to_tensor(photographs), "zoom_blur", severity, keys), reference, share=0.02)


@SEVERITIES
def test_snow(severity: int, photographs: np.ndarray, keys: torch.Tensor) -> None:
    mean, deviation, factor, threshold, radius, sigma, weight = [
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ][severity - 1]
    flakes = channels_last(normal(keys, (1, HEIGHT, WIDTH))) * deviation + mean
    directions = uniform(keys, (), stream=1).double().numpy() * 90 - 135
    reference = []
    for picture, layer, direction in zip(photographs / 255, flakes, directions, strict=True):
        layer = zoomed(layer, factor)
        layer = truncated(np.where(layer < threshold, 0, layer)) / 255
        layer = truncated(moved_along(layer, direction, radius, sigma)) / 255
        grey = (picture @ (0.299, 0.587, 0.114))[..., None]
        whitened = weight * picture + (1 - weight) * np.maximum(picture, 1.5 * grey + 0.5)
        reference.append(truncated(whitened + layer + np.rot90(layer, 2)))
    assert_same(corrupt(to_tensor(photographs), "snow", severity, keys), reference, levels=2, share=0.03)


@SEVERITIES
def test_frost(severity: int, photographs: np.ndarray, keys: torch.Tensor) -> None:
    image_weight, frost_weight = [(1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)][severity - 1]
    textures = frost.close_textures(WIDTH, torch.device("cpu"))
    size = textures.shape[-1]
    chosen = uniform(keys, (3,)).double().numpy()
    reference = []
    for picture, (kind, y, x) in zip(photographs / 255, chosen, strict=True):
        top, left = int(y * (size - HEIGHT)), int(x * (size - WIDTH))
        crop = textures[int(5 * kind), :, top : top + HEIGHT, left : left + WIDTH].double().permute(1, 2, 0).numpy()
        reference.append(truncated(image_weight * picture + frost_weight * crop))
    assert_same(corrupt(to_tensor(photographs), "frost", severity, keys), reference)


def test_the_frost_of_large_images_is_the_same_frost_five_times_as_close() -> None:
    small, close = (draw(WIDTH, torch.device("cpu")) for draw in (frost.textures, frost.close_textures))
    assert close.shape[-1] == 5 * small.shape[-1]
    again = torch.nn.functional.avg_pool2d(close, 5)
    assert (again - small).abs().mean() < 0.02


@SEVERITIES
def test_fog(severity: int, photographs: np.ndarray, keys: torch.Tensor) -> None:
    density, decay = [(1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)][severity - 1]
    picture, key = photographs[0] / 255, keys[:1]
    noise = uniform(key, (128, 128))[0].double().numpy() * 2 - 1
    foggy = picture + density * fractal(noise, decay)[:HEIGHT, :WIDTH, None]
    reference = truncated(foggy * picture.max() / (picture.max() + density))
    assert_same(corrupt(to_tensor(photographs[:1]), "fog", severity, key), [reference], share=0.02)


@SEVERITIES
def test_colours(severity: int, photographs: np.ndarray, keys: torch.Tensor) -> None:
    images, pictures = to_tensor(photographs), photographs / 255
    hue, saturation, value = np.moveaxis(rgb_to_hsv(pictures), -1, 0)

    def back(s: np.ndarray, v: np.ndarray) -> list[np.ndarray]:
        return list(truncated(hsv_to_rgb(np.stack([hue, np.clip(s, 0, 1), np.clip(v, 0, 1)], -1))))

    more = [0.1, 0.2, 0.3, 0.4, 0.5][severity - 1]
    assert_same(corrupt(images, "brightness", severity, keys), back(saturation, value + more))
    a, b = [(0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)][severity - 1]
    assert_same(corrupt(images, "saturate", severity, keys), back(saturation * a + b, value))
    factor = [0.4, 0.3, 0.2, 0.1, 0.05][severity - 1]
    mean = pictures.mean((1, 2), keepdims=True)
    assert_same(corrupt(images, "contrast", severity, keys), list(truncated((pictures - mean) * factor + mean)))


@SEVERITIES
def test_coding_at_the_published_size(severity: int) -> None:
    picture = scenes(5, 224, 224)[4]
    images, key = to_tensor(picture[None]), torch.tensor([1])
    side = [134, 112, 89, 67, 56][severity - 1]
    box = Image.Resampling.BOX
    reference = np.array(Image.fromarray(picture).resize((side, side), box).resize((224, 224), box)).astype(int)
    assert_same(corrupt(images, "pixelate", severity, key), [reference], levels=0)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=[25, 18, 15, 10, 7][severity - 1])
    assert_same(corrupt(images, "jpeg_compression", severity, key), [np.array(Image.open(file)).astype(int)])


@SEVERITIES
def test_elastic_transform_at_the_published_size(severity: int) -> None:
    """Lengths are fractions of 244 pixels, the affine points lie about 112 ± 74; two readings of order 1."""
    picture, key, n = scenes(5, 224, 224)[4] / 255, torch.tensor([5]), 224
    scale, sigma, jitter = (
        244 * c
        for c in [(2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)][
            severity - 1
        ]
    )
    points = 112 + 74 * np.array([(1, 1), (1, -1), (-1, -1)])
    moved = points + (uniform(key, (3, 2))[0].double().numpy() * 2 - 1) * jitter
    forward = np.linalg.solve(np.column_stack([points, np.ones(3)]), moved).T
    y, x = np.mgrid[0:n, 0:n]
    source = np.linalg.inv(np.vstack([forward, (0, 0, 1)])) @ np.stack([x.ravel(), y.ravel(), np.ones(n * n)])
    source = source[1::-1].reshape(2, n, n)
    warped = np.stack([map_coordinates(picture[..., c], source, order=1, mode="mirror") for c in range(3)], -1)
    noise = uniform(key, (2, n, n), stream=1)[0].double().numpy() * 2 - 1
    dx, dy = scale * gaussian_filter(noise, (0, sigma, sigma), mode="reflect", truncate=3)
    reference = np.stack(
        [map_coordinates(warped[..., c], (y + dy, x + dx), order=1, mode="reflect") for c in range(3)], -1
    )
    # Coordinates are float32 there and displacements up to a whole side here: a level on a few values.
    assert_same(corrupt(to_tensor((picture[None] * 255).round().astype(np.uint8)), "elastic_transform", severity, key),
                [truncated(reference)], levels=3, share=0.05)  # fmt: skip


@SEVERITIES
def test_spatter(severity: int, photographs: np.ndarray, keys: torch.Tensor) -> None:
    """The mud whole; of the water the layer of liquid, whose lighting is checked for itself."""
    mean, deviation, sigma, threshold, strength = [
        (0.65, 0.3, 4, 0.69, 0.6),
        (0.65, 0.3, 3, 0.68, 0.6),
        (0.65, 0.3, 2, 0.68, 0.5),
        (0.65, 0.3, 1, 0.65, 1.5),
        (0.67, 0.4, 1, 0.65, 1.5),
    ][severity - 1]
    liquid = channels_last(normal(keys, (1, HEIGHT, WIDTH)))[..., 0] * deviation + mean
    liquid = gaussian_filter(liquid, (0, sigma, sigma), mode="nearest")
    images = to_tensor(photographs)
    if severity <= 3:
        levels = truncated(np.where(liquid < threshold, 0, liquid))
        layer = torch.from_numpy(levels)[:, None].float()
        reference = list(truncated(channels_last(spatter.splash(images, layer, strength))))
        assert levels.any()
    else:
        mud = gaussian_filter((liquid > threshold).astype(float), (0, strength, strength), mode="nearest")[..., None]
        mud[mud < 0.8] = 0
        reference = list(truncated(photographs / 255 * (1 - mud) + mud * np.array([63, 42, 20]) / 255))
    assert_same(corrupt(images, "spatter", severity, keys), reference, levels=255, share=0.02)
