"""Snow, frost, fog and spatter: their formulas on given layers, and the distributions of the layers."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from stressbench.randomness import image_keys, normal, uniform
from stressbench_suites.corruption import frost, spatter, weather
from stressbench_suites.corruption.engine import corrupt
from stressbench_suites.corruption.pixels import truncate
from suites.corruption.images import assert_same, to_array, to_tensor, truncated
from suites.corruption.references import moved_along, zoomed

SEVERITIES = [1, 2, 3, 4, 5]


def test_snow_whitens_and_adds_the_layer_twice(pictures):
    layers = np.random.default_rng(0).integers(0, 100, (*pictures.shape[:3], 1)) / 255
    reference = []
    for picture, layer in zip(pictures / 255, layers, strict=True):
        grey = picture @ (0.299, 0.587, 0.114)
        whitened = 0.85 * picture + 0.15 * np.maximum(picture, 1.5 * grey[..., None] + 0.5)
        reference.append(truncated(whitened + layer + np.rot90(layer, 2)))
    given = torch.from_numpy(layers).permute(0, 3, 1, 2).float()
    assert_same(truncate(weather.snowed(to_tensor(pictures), given, 0.85)), reference, share=0.02)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_snow(severity, pictures, keys):
    """The whole of it, from the same flakes and directions."""
    mean, deviation, factor, threshold, radius, sigma, weight = [
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ][severity - 1]
    pictures, keys = pictures[2:7], keys[2:7]
    flakes = normal(keys, (1, *pictures.shape[1:3])).double().numpy() * deviation + mean
    directions = uniform(keys, (), stream=1).double().numpy() * 90 - 135
    reference = []
    for picture, layer, direction in zip(pictures / 255, flakes, directions, strict=True):
        layer = zoomed(layer[0][..., None], factor)
        layer = truncated(np.where(layer < threshold, 0, layer)) / 255
        layer = truncated(moved_along(layer, direction, radius, sigma)) / 255
        grey = (picture @ (0.299, 0.587, 0.114))[..., None]
        whitened = weight * picture + (1 - weight) * np.maximum(picture, 1.5 * grey + 0.5)
        reference.append(truncated(whitened + layer + np.rot90(layer, 2)))
    assert_same(corrupt(to_tensor(pictures), "snow", severity, keys), reference, levels=2, share=0.02)


def test_snow_falls():
    """Between −135 and −45 degrees: flakes are drawn out more along the image than across."""
    result = corrupt(torch.zeros(200, 3, 32, 32), "snow", 1, image_keys(1, torch.arange(200)))[:, 0]
    result = result - result.mean()
    along = (result[:, 1:] * result[:, :-1]).mean()
    across = (result[:, :, 1:] * result[:, :, :-1]).mean()
    assert along > 1.2 * across


def fractal(noise: np.ndarray, decay: float) -> np.ndarray:
    """Diamond-square, point by point."""
    size = len(noise)
    heights = np.zeros((size, size))
    step, spread = size, 100.0

    def raise_points(rows: range, columns: range, around: list[tuple[int, int]]) -> None:
        for y in rows:
            for x in columns:
                four = sum(heights[(y + dy) % size, (x + dx) % size] for dy, dx in around)
                heights[y, x] = four / 4 + spread * spread * noise[y, x]

    while step >= 2:
        half = step // 2
        first, second = range(0, size, step), range(half, size, step)
        cross = [(-half, 0), (half, 0), (0, -half), (0, half)]
        raise_points(second, second, [(-half, -half), (-half, half), (half, -half), (half, half)])
        raise_points(first, second, cross)
        raise_points(second, first, cross)
        step, spread = half, spread / decay
    return (heights - heights.min()) / (heights.max() - heights.min())


@pytest.mark.parametrize("decay", [3, 2.5, 2, 1.75])
@pytest.mark.parametrize("size", [2, 8, 32])
def test_plasma(decay, size):
    noise = np.random.default_rng(0).uniform(-1, 1, (4, size, size))
    result = weather.plasma(torch.from_numpy(noise).float(), decay).numpy()
    assert np.abs(result - np.stack([fractal(n, decay) for n in noise])).max() < 1e-5


@pytest.mark.parametrize("severity", SEVERITIES)
def test_fog(severity, pictures, keys):
    density, decay = [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)][severity - 1]
    height, width = pictures.shape[1:3]
    side = 32 if height == width else 64
    noise = uniform(keys, (side, side)).double().numpy() * 2 - 1
    reference = []
    for picture, layer in zip(pictures / 255, noise, strict=True):
        foggy = picture + density * fractal(layer, decay)[:height, :width, None]
        reference.append(truncated(foggy * picture.max() / (picture.max() + density)))
    assert_same(corrupt(to_tensor(pictures), "fog", severity, keys), reference, share=0.02)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_frost(severity, pictures, keys):
    """Each result is the weighted sum with some crop of some texture: on black images it is the crop alone."""
    image_weight, frost_weight = [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)][severity - 1]
    textures = frost.textures(40, torch.device("cpu")).permute(0, 2, 3, 1).double().numpy()
    height, width = pictures.shape[1:3]
    chosen = uniform(keys, (3,)).double().numpy()
    reference = []
    for picture, (kind, y, x) in zip(pictures / 255, chosen, strict=True):
        texture = textures[int(5 * kind)]
        y, x = int(y * (len(texture) - height)), int(x * (len(texture) - width))
        reference.append(truncated(image_weight * picture + frost_weight * texture[y : y + height, x : x + width]))
    assert_same(corrupt(to_tensor(pictures), "frost", severity, keys), reference)


def test_frost_textures():
    """Five different ones, the same every time, bluish, with dark and bright parts everywhere, large enough."""
    textures = frost.textures(32, torch.device("cpu"))
    assert textures.shape == (5, 3, 256, 256)
    frost.textures.cache_clear()
    assert torch.equal(textures, frost.textures(32, torch.device("cpu")))
    assert len({float(texture.double().sum()) for texture in textures}) == 5
    red, _, blue = textures.mean((0, 2, 3))
    assert blue > red
    quarters = textures.mean(1).unfold(1, 128, 128).unfold(2, 128, 128)
    assert quarters.mean((3, 4)).min() > 0.3
    assert quarters.mean((3, 4)).max() < 0.8
    assert quarters.std((3, 4)).min() > 0.12
    assert frost.textures(300, torch.device("cpu")).shape[-1] >= 600


def test_frost_takes_every_texture():
    chosen = corrupt(torch.zeros(400, 3, 32, 32), "frost", 5, image_keys(0, torch.arange(400)))
    textures = frost.textures(32, torch.device("cpu"))
    strips = truncate(textures * 0.45).unfold(3, 8, 1)
    misfits = [(strips - image[:, :1, None, :8]).abs().amax((1, 4)).flatten(1).amin(1) for image in chosen[:30]]
    kinds = {int(misfit.argmin()) for misfit in misfits}
    assert len(kinds) == 5
    assert len(chosen.flatten(1).unique(dim=0)) > 390


# --- spatter ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("severity", [4, 5])
def test_mud(severity, pictures, keys):
    mean, deviation, sigma, threshold, blur = [(0.65, 0.1, 0.7, 0.69, 0.6), (0.65, 0.1, 0.5, 0.68, 0.6)][severity - 4]
    noise = normal(keys, pictures.shape[1:3]).double().numpy() * deviation + mean
    reference = []
    for picture, layer in zip(pictures / 255, noise, strict=True):
        mask = gaussian_filter(layer, sigma, mode="nearest", truncate=4) > threshold
        mud = gaussian_filter(mask.astype(float), blur, mode="nearest", truncate=4)[..., None]
        mud[mud < 0.8] = 0
        reference.append(truncated(picture * (1 - mud) + mud * np.array([63, 42, 20]) / 255))
    assert_same(corrupt(to_tensor(pictures), "spatter", severity, keys), reference, share=0.02)


def blobs() -> np.ndarray:
    """uint8 (6, 20, 24): liquid levels, zero outside the splashes."""
    layer = gaussian_filter(np.random.default_rng(0).normal(0.65, 0.25, (6, 20, 24)), (0, 1, 1))
    layer[layer < 0.69] = 0
    return (layer * 255).astype(np.uint8)


def edges_of(layer: np.ndarray) -> np.ndarray:
    """Canny's edges, pixel by pixel."""
    height, width = layer.shape
    wide = np.pad(layer.astype(int), 1, mode="edge")
    strength, gradient = np.zeros((height + 2, width + 2), int), {}
    for y in range(height):
        for x in range(width):
            near = wide[y : y + 3, x : x + 3]
            dx = int((near[:, 2] - near[:, 0]) @ (1, 2, 1))
            dy = int((near[2] - near[0]) @ (1, 2, 1))
            gradient[y, x] = dx, dy
            strength[y + 1, x + 1] = abs(dx) + abs(dy)
    weak = set()
    for (y, x), (dx, dy) in gradient.items():
        here, at = strength[y + 1, x + 1], lambda i, j, y=y, x=x: strength[y + 1 + i, x + 1 + j]
        angle = np.degrees(np.arctan2(abs(dy), abs(dx)))
        if angle < 22.5:
            ridge = here > at(0, -1) and here >= at(0, 1)
        elif angle > 67.5:
            ridge = here > at(-1, 0) and here >= at(1, 0)
        else:
            side = -1 if (dx < 0) != (dy < 0) else 1
            ridge = here > at(-1, -side) and here > at(1, side)
        if ridge and here > 50:
            weak.add((y, x))
    queue = [p for p in weak if strength[p[0] + 1, p[1] + 1] > 150]
    edges = set(queue)
    while queue:
        y, x = queue.pop()
        more = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & weak - edges
        edges |= more
        queue += more
    result = np.zeros((height, width), bool)
    for place in edges:
        result[place] = True
    return result


def test_canny():
    layers = blobs()
    found = spatter.canny(torch.from_numpy(layers)[:, None].float())[:, 0].numpy()
    assert found.any()
    assert np.array_equal(found, np.stack([edges_of(layer) for layer in layers]))


def test_edge_distance():
    """The shortest way by the chamfer's steps, found with Dijkstra's method."""
    edges = np.zeros((2, 20, 24), bool)
    edges[0, [3, 4, 15], [2, 2, 20]] = True
    steps = {(0, 1): 1.0, (1, 1): 1.4, (1, 2): 2.1969}
    moves = {(i, j): steps.get((min(abs(i), abs(j)), max(abs(i), abs(j)))) for i in range(-2, 3) for j in range(-2, 3)}
    best = {(y, x): 0.0 for y, x in np.argwhere(edges[0]).tolist()}
    queue = [(0.0, place) for place in best]
    while queue:
        cost, (y, x) = heapq.heappop(queue)
        for (i, j), step in moves.items():
            place = y + i, x + j
            inside = 0 <= place[0] < 20 and 0 <= place[1] < 24
            if step and inside and cost + step < best.get(place, np.inf):
                best[place] = cost + step
                heapq.heappush(queue, (best[place], place))
    result = spatter.edge_distance(torch.from_numpy(edges)[:, None])[:, 0].clamp(max=20)
    reference = np.array([[best[y, x] for x in range(24)] for y in range(20)])
    assert np.abs(result[0].numpy() - np.minimum(reference, 20)).max() < 1e-4
    assert bool((result[1] == 20).all())


def test_equalize():
    levels = np.random.default_rng(0).integers(3, 9, (3, 10, 12))
    levels[2] = 7
    result = spatter.equalize(torch.from_numpy(levels)[:, None].float())[:, 0].numpy()
    for image, output in zip(levels[:2], result, strict=False):
        rest = (image > image.min()).sum()
        table = {v: round(255 * ((image <= v).sum() - (image == image.min()).sum()) / rest) for v in np.unique(image)}
        assert np.array_equal(output, np.vectorize(table.get)(image))
    assert bool((result[2] == 7).all())


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_water(severity, square_pictures, keys):
    """Water adds its colour where there is liquid, nowhere more than its strength; without any nothing changes."""
    black = to_array(corrupt(torch.zeros(10, 3, 32, 32), "spatter", severity, keys))
    assert np.array_equal(black[..., 1], black[..., 2])
    assert np.abs(black[..., 0] - black[..., 1] * 175 / 238).max() <= 1
    assert (black[..., 1].max((1, 2)) == int(238 * 0.5)).all()
    assert 0.2 < (black[..., 1] == 0).mean() < 0.99
    layer = torch.zeros(1, 1, 32, 32)
    assert bool((spatter.water(layer) == 0).all())
