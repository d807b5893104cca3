"""The corruptions of C-bar against plain computations, pixel by pixel, and the ranges of their random numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from stressbench.randomness import image_keys, normal, uniform
from stressbench_suites.corruption import bar_layers, bar_warps
from stressbench_suites.corruption.engine import ALL, CIFAR_BAR, CORRUPTIONS, IMAGENET_BAR, corrupt
from stressbench_suites.corruption.pixels import truncate
from suites.corruption.conftest import scenes
from suites.corruption.images import assert_same, to_array, to_tensor, truncated

SEVERITIES = [1, 2, 3, 4, 5]
# The values of `s` in the published lists, a type at a time, by which its parameters are defined.
CIFAR_S = {
    "blue_noise_sample": (0.7, 1.4, 2.1, 3.5, 4.2),
    "brownish_noise": (2.5, 4, 5.5, 6.5, 7),
    "checkerboard_cutout": (1, 2, 3, 4, 5),
    "circular_motion_blur": (2.8, 3.6, 4.4, 5.2, 6),
    "inverse_sparkles": (1, 1.5, 2.5, 4.5, 5),
    "lines": (0.5, 1, 1.5, 2, 2.5),
    "pinch_and_twirl": (5.5, 6, 6.5, 8.5, 10),
    "ripple": (5.5, 6, 6.5, 7.5, 8),
    "sparkles": (0.7, 3.5, 5.6, 6.3, 7),
    "transverse_chromatic_abberation": (1, 2, 5, 9, 10),
}
IMAGENET_S = {
    "blue_noise_sample": (0.8, 1.6, 2.4, 4, 5.6),
    "brownish_noise": (1, 2, 3, 4, 5),
    "checkerboard_cutout": (2, 3, 4, 5, 6),
    "inverse_sparkles": (1, 2, 4, 9, 10),
    "sparkles": (1, 2, 3, 5, 6),
    "caustic_refraction": (2.35, 3.2, 4.9, 6.6, 9.15),
    "cocentric_sine_waves": (3, 5, 8, 9, 10),
    "perlin_noise": (4.6, 5.2, 5.8, 7.6, 8.8),
    "plasma_noise": (4.75, 7, 8.5, 9.25, 10),
    "single_frequency_greyscale": (1, 1.5, 2, 4.5, 5),
}


@pytest.fixture
def few(keys):
    """Three pictures, not square, with their keys."""
    return scenes(6, 24, 30)[3:], keys[3:6]


def each_pixel(picture: np.ndarray, value) -> np.ndarray:
    height, width = picture.shape[:2]
    return np.array([[value(y, x) for x in range(width)] for y in range(height)])


def looked_up(picture: np.ndarray, y: float, x: float) -> np.ndarray:
    """Bilinear, black outside."""
    total = np.zeros(3)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < picture.shape[0] and 0 <= column < picture.shape[1]:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * picture[row, column]
    return total


@pytest.mark.parametrize(
    ("name", "table", "factor", "addend"),
    [
        ("blue_noise_sample", bar_layers._BLUE, 0.3, -2.5),
        ("brownish_noise", bar_layers._BROWNISH, 6.4, 0),
        ("checkerboard_cutout", bar_layers._BOARD, 0.1, 0),
        ("inverse_sparkles", bar_layers._INVERSE, 0.13, 0),
        ("sparkles", bar_layers._SPARKLES, 0.01, 0),
    ],
)
def test_parameters_for_both_sizes(name, table, factor, addend):
    for values, published in ((table.cifar, CIFAR_S), (table.imagenet, IMAGENET_S)):
        assert values == pytest.approx([factor * s + addend for s in published[name]])


@pytest.mark.parametrize(
    ("name", "values", "factor"),
    [
        ("circular_motion_blur", bar_warps._TURN, 1.5),
        ("lines", bar_layers._LINES, 0.1),
        ("pinch_and_twirl", bar_warps._TWIRL, 1),
        ("ripple", bar_warps._RIPPLE, 0.0025),
        ("transverse_chromatic_abberation", bar_warps._CHROMATIC, 0.05),
        ("caustic_refraction", bar_warps._CAUSTIC, 1),
        ("cocentric_sine_waves", bar_layers._RINGS, 12.8),
        ("perlin_noise", bar_layers._PERLIN, 0.05),
        ("plasma_noise", bar_layers._PLASMA, 6.4),
        ("single_frequency_greyscale", bar_layers._WAVE, 19.6),
    ],
)
def test_parameters_for_one_size(name, values, factor):
    assert values == pytest.approx([factor * s for s in (CIFAR_S | IMAGENET_S)[name]])


def test_the_sets():
    assert set(CIFAR_BAR) == set(CIFAR_S)
    assert set(IMAGENET_BAR) == set(IMAGENET_S)
    assert len(set(CIFAR_BAR) & set(IMAGENET_BAR)) == 5
    assert not (set(CIFAR_BAR) | set(IMAGENET_BAR)) & set(CORRUPTIONS)
    assert len(ALL) == 34


@pytest.mark.parametrize("power", [1, -2])
def test_a_field_is_a_sum_of_waves(power):
    turns = torch.rand(2, 6, 5)
    rows, columns = (np.round(np.fft.fftfreq(n) * n) for n in (6, 5))
    for field, turn in zip(bar_layers._field(turns, power).numpy(), turns.double().numpy(), strict=True):
        wanted = np.zeros((6, 5))
        for i, k in enumerate(rows):
            for j, m in enumerate(columns):
                size = math.hypot(k, m) if power == 1 else 1 / (k**2 + m**2 + 1)
                y, x = np.mgrid[:6, :5]
                wanted += size * np.cos(2 * np.pi * (k * y / 6 + m * x / 5 + turn[i, j]))
        np.testing.assert_allclose(field, wanted / wanted.std(), atol=1e-12)


@pytest.mark.parametrize(("name", "power"), [("blue_noise_sample", 1), ("brownish_noise", -2)])
@pytest.mark.parametrize("size", [24, 70])
def test_noise(name, power, size, keys):
    pictures, keys = scenes(6, size, size)[3:], keys[3:6]
    severity, s = 4, (CIFAR_S if size == 24 else IMAGENET_S)[name][3]
    shape = (size, size) if power == 1 else (3, size, size)
    fields = bar_layers._field(uniform(keys, shape), power).numpy()
    reference = [
        truncated(picture * (field > 0.3 * s - 2.5)[..., None])
        if power == 1
        else truncated(picture + 6.4 * s / 255 * np.moveaxis(field, 0, -1))
        for picture, field in zip(pictures / 255, fields, strict=True)
    ]
    assert_same(corrupt(to_tensor(pictures), name, severity, keys), reference, share=0.01)


def test_checkerboard(few):
    pictures, keys = few
    angles, sides = torch.tensor([0.3, 2.0, 5.0]).double(), torch.tensor([2.5, 4.0, 6.0]).double()
    chosen = uniform(keys, (40, 40)) < 0.4
    reference = []
    for picture, angle, side, of in zip(pictures / 255, angles.numpy(), sides.numpy(), chosen.numpy(), strict=True):

        def value(y, x, picture=picture, angle=angle, side=side, of=of):
            row = math.floor((math.cos(angle) * y + math.sin(angle) * x) / side)
            column = math.floor((-math.sin(angle) * y + math.cos(angle) * x) / side)
            grey = row % 2 == column % 2 and of[row + 20, column + 20]
            return np.full(3, 128 / 255) if grey else picture[y, x]

        reference.append(truncated(each_pixel(picture, value)))
    assert_same(truncate(bar_layers.cut_out(to_tensor(pictures), angles, sides, chosen)), reference, levels=0)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_share_of_a_board_that_turns_grey(severity):
    result = corrupt(torch.zeros(400, 3, 32, 32), "checkerboard_cutout", severity, image_keys(2, torch.arange(400)))
    assert float((result > 0).float().mean()) == pytest.approx(severity / 20, rel=0.1)


def test_lines(few):
    pictures, _ = few
    draw = pytest.importorskip("skimage.draw")
    starts = torch.tensor([[[-8, 3], [2, 40]], [[5, -9], [20, 33]], [[0, 0], [30, 2]]]).double()
    ends = torch.tensor([[[30, 21], [9, -20]], [[17, 40], [-10, 2]], [[23, 29], [-9, 20]]]).double()
    reference = []
    for picture, these, those in zip(pictures / 255, starts.int().tolist(), ends.int().tolist(), strict=True):
        picture = picture.copy()
        for start, end in zip(these, those, strict=True):
            rows, columns, cover = draw.line_aa(*start, *end)
            inside = (rows >= 0) & (columns >= 0) & (rows < 24) & (columns < 30)
            rows, columns, cover = rows[inside], columns[inside], cover[inside][:, None]
            picture[rows, columns] = (1 - cover) * picture[rows, columns] + cover * 128 / 255
        reference.append(truncated(picture))
    ruled = to_array(truncate(bar_layers.ruled(to_tensor(pictures), starts, ends)))
    # The library walks from pixel to pixel, and leaves out some that the line touches by less than a tenth.
    difference = np.abs(ruled - np.stack(reference))
    assert (difference > 2).mean() < 0.06
    assert difference.mean() < 1


@pytest.mark.parametrize(("severity", "count"), [(1, 1), (2, 3), (3, 4), (4, 6), (5, 8)])
def test_how_many_lines(severity, count, monkeypatch):
    seen = []
    monkeypatch.setattr(bar_layers, "ruled", lambda images, starts, ends: seen.append((starts, ends)) or images)
    corrupt(torch.zeros(4, 3, 32, 32), "lines", severity, torch.arange(4))
    (starts, ends), middles = seen[0], (seen[0][0] + seen[0][1]) / 2
    assert starts.shape == (4, count, 2)
    assert bool(((middles > -1) & (middles < 33)).all())
    assert bool((((ends - starts).norm(dim=-1) - 64).abs() < 3).all())


@pytest.mark.parametrize(("exponent", "least"), [(1.0, 1.0), (0.325, 0.0)])
def test_a_star(exponent, least, few):
    pictures, keys = few
    lengths = (3 * (1 + 0.25 * normal(keys, (200,)))).clamp(min=least)
    centres, rays = torch.tensor([[3.3, 28.0], [11, 12.5], [20.1, 4.9]]).double(), torch.tensor([50, 77, 199])
    light = bar_layers.star(to_tensor(pictures), centres, lengths, rays, exponent).numpy()
    for found, picture, centre, length, count in zip(
        light, pictures, centres.numpy(), lengths.double().numpy(), rays.tolist(), strict=True
    ):

        def value(y, x, centre=centre, length=length, count=count):
            place = (math.atan2(x - centre[1], y - centre[0]) + math.pi) / (2 * math.pi) * count
            f = place % 1
            ray = length[int(place) % count] * (1 - f) + length[(int(place) + 1) % count] * f
            glow = ray**2 / ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 + 1e-4)
            return min(max((1 - (f - 0.5) ** 2) * glow**exponent, 0), 1)

        np.testing.assert_allclose(found, each_pixel(picture, value), atol=1e-5)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_stars_on_black_and_on_white(severity, keys):
    black, white = torch.zeros(10, 3, 32, 32), torch.ones(10, 3, 32, 32)
    assert bool((corrupt(white, "sparkles", severity, keys) == 1).all())
    assert bool((corrupt(white, "inverse_sparkles", severity, keys) == 1).all())
    left = 1 - corrupt(black, "inverse_sparkles", severity, keys)
    assert float(left.amax(dim=(1, 2, 3)).min()) > 0.7
    star = bar_layers.star(
        black,
        (0.25 + 0.5 * uniform(keys, (3,))[:, :2].double()) * 32,
        8 * (1 + 0.25 * normal(keys, (200,), stream=1)),
        50 + (150 * uniform(keys, (3,))[:, 2]).long(),
        0.13 * CIFAR_S["inverse_sparkles"][severity - 1],
    )
    torch.testing.assert_close(left[:, 0], star, rtol=0, atol=1.1 / 255)


@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize("size", [(32, 32), (17, 24)])
def test_circular_motion_blur(severity, size, keys):
    pictures = scenes(6, *size)[3:]
    reference = []
    for picture in pictures / 255:
        total, weights = np.zeros(picture.shape), 0.0
        for u in np.linspace(-1, 1, 21):
            weight = math.exp(-2 * u**2)
            turned = ndimage.rotate(picture, u * 1.5 * CIFAR_S["circular_motion_blur"][severity - 1], reshape=False)
            total, weights = total + weight * turned, weights + weight
        reference.append(truncated(total / weights))
    assert_same(corrupt(to_tensor(pictures), "circular_motion_blur", severity, keys[:3]), reference, share=0.01)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_transverse_chromatic_abberation(severity, few):
    pictures, keys = few
    zoom = 0.05 * CIFAR_S["transverse_chromatic_abberation"][severity - 1]
    reference = []
    for picture, order in zip(pictures, uniform(keys, (3,)).argsort(1).tolist(), strict=True):
        channels = []
        for channel, place in enumerate(order):
            large = ndimage.zoom(picture[..., channel], (1, 1 + zoom / 2, 1 + zoom)[place], prefilter=False)
            top, left = (large.shape[0] - 24) // 2, (large.shape[1] - 30) // 2
            channels.append(large[top : top + 24, left : left + 30])
        reference.append(np.stack(channels, -1).astype(int))
    assert_same(corrupt(to_tensor(pictures), "transverse_chromatic_abberation", severity, keys), reference, share=0.01)


@pytest.mark.parametrize("severity", [1, 5])
def test_pinch_and_twirl(severity, keys):
    pictures, s = scenes(6, 32, 32)[3:], CIFAR_S["pinch_and_twirl"][severity - 1]
    signs = uniform(keys[:3], (3, 3)).numpy() > 0.5
    reference = []
    for picture, sign in zip(pictures / 255, signs, strict=True):

        def value(y, x, picture=picture, sign=sign):
            if y >= 30 or x >= 30:
                return picture[y, x]
            centre_y, centre_x = y // 10 * 10 + 5, x // 10 * 10 + 5
            dy, dx = y - centre_y, x - centre_x
            d = math.hypot(dy, dx) / 5
            if d > 1 or d == 0:
                return picture[y, x]
            grown = math.sin(math.pi * d / 2) ** -(0.04 * s + 0.1)
            turn = (1 if sign[y // 10, x // 10] else -1) * math.pi * s / 20 * (1 - d) ** 2
            return looked_up(
                picture,
                centre_y + grown * (dy * math.cos(turn) - dx * math.sin(turn)),
                centre_x + grown * (dy * math.sin(turn) + dx * math.cos(turn)),
            )

        reference.append(truncated(each_pixel(picture, value)))
    assert_same(corrupt(to_tensor(pictures), "pinch_and_twirl", severity, keys[:3]), reference, share=0.02)


def test_ripple(few):
    pictures, _ = few
    lengths = torch.tensor([[3.2, 9.6], [5, 7], [9, 4.0]]).double()
    phases = torch.tensor([[0.1, 6.0], [2, 3], [4, 5.0]]).double()
    reference = []
    for picture, length, phase in zip(pictures / 255, lengths.numpy(), phases.numpy(), strict=True):

        def value(y, x, picture=picture, length=length, phase=phase):
            moved = (p + 0.6 * math.sin(2 * math.pi * p / length[i] + phase[i]) for i, p in enumerate((y, x)))
            return looked_up(picture, *moved)

        reference.append(truncated(each_pixel(picture, value)))
    assert_same(truncate(bar_warps.rippled(to_tensor(pictures), 0.6, lengths, phases)), reference, share=0.02)


def test_rings_and_waves(few):
    images = to_tensor(few[0])
    a, b, c, d, e = (torch.tensor(row).double() for row in np.random.default_rng(0).uniform(0.5, 9, (5, 3)))
    rings = bar_layers.rings(images, torch.stack([a, b], 1), c, d, e).numpy()[:, 0]
    waves = bar_layers.wave(images, a - 3, b - 3, c).numpy()[:, 0]
    for i, (y0, x0, freq, bend, ring) in enumerate(zip(*(t.tolist() for t in (a, b, c, d, e)), strict=True)):

        def saw(y, x, y0=y0, x0=x0, freq=freq, bend=bend, ring=ring):
            distance = math.hypot(y - y0, x - x0) + bend * math.sin(freq * math.atan2(x - x0, y - y0))
            return distance % ring / ring - 0.5

        np.testing.assert_allclose(rings[i], each_pixel(few[0][i], saw), atol=1e-5)
        wanted = each_pixel(few[0][i], lambda y, x, y0=y0, x0=x0, f=freq: math.sin((y0 - 3) * y + (x0 - 3) * x + f))
        np.testing.assert_allclose(waves[i], wanted, atol=1e-5)


def test_perlin_turbulence():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, (2, 120, 140))
    gradients = np.stack([np.cos(angle), np.sin(angle)], -1)
    cell = 3.7

    def noise(of, y, x):
        row, column = math.floor(y), math.floor(x)
        weights, total = [t**2 * (3 - 2 * t) for t in (y - row, x - column)], 0.0
        for i in (0, 1):
            for j in (0, 1):
                weight = (weights[0] if i else 1 - weights[0]) * (weights[1] if j else 1 - weights[1])
                total += weight * of[row + i, column + j] @ (y - row - i, x - column - j)
        return 1.5 * total

    found = bar_layers.turbulence(torch.from_numpy(gradients).float(), 12, 14, cell).numpy()
    for of, values in zip(gradients, found, strict=True):

        def value(y, x, of=of):
            return sum(abs(noise(of, f * y / cell, f * x / cell)) / f for f in (1, 2, 4, 8, 16))

        np.testing.assert_allclose(values, each_pixel(np.zeros((12, 14)), value), atol=1e-4)


def test_plasma(few):
    images = to_tensor(few[0])
    time, sharpness, scale = torch.tensor([[0.3, 7, 18.0], [0.5, 0.7, 1.0], [2, 3, 5.0]]).double()
    turns = torch.tensor([4, 5, 6])
    found = bar_layers.plasma(images, time, turns, sharpness, scale).numpy()
    for i, row in enumerate(zip(*(one.tolist() for one in (time, sharpness, scale, turns)), strict=True)):

        def value(y, x, row=row):
            t, sharp, s, n = row
            x, y, a, b, c = x / s, y / s, 1.0, 1.0, 1.0
            for _ in range(n):
                u, v = math.cos(y * a + t / b) / c, math.sin(x * a + t / b) / c
                x, y = x + u - 0.3 * v, y + v + 0.3 * u
                a, b, c = a * 1.93, b * 1.15, c * (2.25 - sharp)
            return [math.sin(x - t), math.sin((x + y + math.sin(t)) / 2), math.sin(y + t)]

        np.testing.assert_allclose(found[i], each_pixel(few[0][i], value).transpose(2, 0, 1), atol=1e-5)


def test_caustics_and_refraction(few):
    pictures, _ = few
    times, periods = torch.tensor([0.5, 1.1, 2.0]).double(), torch.tensor([20, 25, 31.0]).double()
    light = bar_warps.caustics(to_tensor(pictures), times, periods)
    for found, picture, time, period in zip(
        light.numpy()[:, 0], pictures, times.tolist(), periods.tolist(), strict=True
    ):

        def value(y, x, time=time, period=period):
            p = [place / period % 1 * 2 * math.pi - 250 for place in (y, x)]
            i, total = list(p), 1.0
            for n in range(5):
                t = time * (1 - 3.5 / (n + 1))
                i = [
                    p[0] + math.cos(t - i[0]) + math.sin(t + i[1]),
                    p[1] + math.sin(t - i[1]) + math.cos(t + i[0]),
                ]
                total += 1 / math.hypot(0.005 * p[0] / math.sin(i[0] + t), 0.005 * p[1] / math.cos(i[1] + t))
            return min(abs(1.17 - (total / 5) ** 1.4) ** 8, 1)

        np.testing.assert_allclose(found, each_pixel(picture, value), atol=1e-5)
    reference = []
    for picture, bright in zip(pictures / 255, light[:, 0].double().numpy(), strict=True):
        padded = np.pad(bright, 1)

        def seen(y, x, picture=picture, padded=padded):
            down, across = (padded[y + 2, x + 1] - padded[y, x + 1], padded[y + 1, x + 2] - padded[y + 1, x])
            surface = np.array([down, across, 1]) / math.sqrt(down**2 + across**2 + 1)
            ray = np.array([0, 0, 1.0])
            if surface[2] < 1 - 1e-3:
                # Snell's law in its vector form, for an index of 4 and a surface that faces along the ray.
                ray = ray / 4 + (math.sqrt(1 - (1 - surface[2] ** 2) / 16) - surface[2] / 4) * surface
            moved = np.round(ray * 20, 3)
            return looked_up(picture, y + moved[0], x + moved[1]) + 0.5 * (down - across)

        reference.append(truncated(each_pixel(picture, seen)))
    assert_same(truncate(bar_warps.refracted(to_tensor(pictures), light, 20, 0.5)), reference, share=0.02)


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize(
    "name", ["caustic_refraction", "cocentric_sine_waves", "perlin_noise", "plasma_noise", "single_frequency_greyscale"]
)
def test_the_whole_of_the_large_ones(name, severity, keys):
    """From the same random numbers."""
    pictures, keys = scenes(6, 66, 72)[3:], keys[3:6]
    images, s = to_tensor(pictures), IMAGENET_S[name][severity - 1]
    u = uniform(keys, (5 if name == "cocentric_sine_waves" else 4,)).double()
    if name == "cocentric_sine_waves":
        centre = u[:, :2] * torch.tensor([66.0, 72.0])
        wanted = images + 12.8 * s / 255 * bar_layers.rings(images, centre, 10 * u[:, 2], 6.6 * u[:, 3], 6.6 * u[:, 4])
    elif name == "single_frequency_greyscale":
        one, other = math.pi * (2 * u[:, 0] - 1), math.pi * (2 * u[:, 0] - 1).abs() * (2 * u[:, 1] - 1)
        assert bool((other.abs() <= one.abs()).all())
        first = u[:, 2] < 0.5
        waves = bar_layers.wave(
            images, torch.where(first, one, other), torch.where(first, other, one), 2 * math.pi * u[:, 3]
        )
        wanted = images + 19.6 * s / 255 * waves
    elif name == "plasma_noise":
        turns = (4 + 3 * u[:, 1]).floor().long()
        field = bar_layers.plasma(
            images, 6 * math.pi * u[:, 0], turns, (1 + u[:, 2]) / 2, (0.075 + 0.125 * u[:, 3]) * 66
        )
        wanted = images * (1 - 6.4 * s / 255) + 6.4 * s / 255 * field
    elif name == "perlin_noise":
        cell = 66 * 32 / 224
        gradients = uniform(keys, (math.ceil(16 * 66 / cell) + 2, math.ceil(16 * 72 / cell) + 2, 2)) * 2 - 1
        gradients = gradients / gradients.norm(dim=-1, keepdim=True)
        field = (0.5 + 0.5 * bar_layers.turbulence(gradients, 66, 72, cell)).clamp(0, 1)[:, None]
        wanted = (1 - 0.05 * s) * images + 0.05 * s * field
    else:
        u = uniform(keys, (2,)).double()
        light = bar_warps.caustics(images, 0.5 + 1.5 * u[:, 0], (0.75 + 0.5 * u[:, 1]) * 66)
        soft = np.stack([ndimage.gaussian_filter(one, 1) for one in light[:, 0].numpy()])
        wanted = bar_warps.refracted(images, torch.from_numpy(soft)[:, None], 0.05 * s * 66, 0.2 * s)
    reference = [truncated(one) for one in wanted.double().permute(0, 2, 3, 1).numpy()]
    assert_same(corrupt(images, name, severity, keys), reference, share=0.02)
