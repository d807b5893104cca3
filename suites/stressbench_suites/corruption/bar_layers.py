"""Noise, patterns and light over the image: the first part of CIFAR-10-C-bar and ImageNet-C-bar.

After Mintun, Kirillov and Xie (2021). Each corruption takes images (N, 3, H, W) in [0, 1] and keys (N,), and returns
values that the engine clips and truncates to grey levels. Lengths are fractions of n, the shorter side.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stressbench.randomness import normal, uniform
from stressbench_suites.corruption.constants import Constants
from stressbench_suites.corruption.pixels import LEVELS

_GREY = 128 / LEVELS
_MOST_RAYS, _FEWEST_RAYS = 200, 50
_OCTAVES = (1, 2, 4, 8, 16)

_BLUE = Constants((-2.29, -2.08, -1.87, -1.45, -1.24), (-2.26, -2.02, -1.78, -1.30, -0.82))  # threshold
_BROWNISH = Constants((16.0, 25.6, 35.2, 41.6, 44.8), (6.4, 12.8, 19.2, 25.6, 32.0))  # standard deviation, levels
_BOARD = Constants((0.1, 0.2, 0.3, 0.4, 0.5), (0.2, 0.3, 0.4, 0.5, 0.6))  # share of the cells
_INVERSE = Constants((0.13, 0.195, 0.325, 0.585, 0.65), (0.13, 0.26, 0.52, 1.17, 1.30))  # exponent
_SPARKLES = Constants((0.007, 0.035, 0.056, 0.063, 0.07), (0.01, 0.02, 0.03, 0.05, 0.06))  # radius
_LINES = (0.05, 0.10, 0.15, 0.20, 0.25)  # how many
_RINGS = (38.4, 64.0, 102.4, 115.2, 128.0)  # levels
_PERLIN = (0.23, 0.26, 0.29, 0.38, 0.44)  # weight of the noise
_PLASMA = (30.4, 44.8, 54.4, 59.2, 64.0)  # levels
_WAVE = (19.6, 29.4, 39.2, 88.2, 98.0)  # levels


def blue_noise_sample(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    """Pixels turn black where a field with amplitudes proportional to the frequency is low."""
    field = _field(uniform(keys, tuple(images.shape[2:])), power=1)
    return images * (field > _BLUE.at(images, severity))[:, None]


def brownish_noise(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    field = _field(uniform(keys, tuple(images.shape[1:])), power=-2)
    return images + field.float() * (_BROWNISH.at(images, severity) / LEVELS)


def _field(turns: Tensor, power: int) -> Tensor:
    """Σ_k A_k cos(2π(k·x/n + turn_k)) over all frequencies k (in cycles an image), divided by its standard deviation.

    `turns` are (…, H, W) in (0, 1). A_k is |k| for power 1, and 1/(|k|² + 1) for power −2. The result is float64.
    """
    height, width = turns.shape[-2:]
    rows, columns = (torch.fft.fftfreq(n, 1 / n, dtype=torch.float64, device=turns.device) for n in (height, width))
    square = rows[:, None] ** 2 + columns**2
    amplitude = square.sqrt() if power == 1 else 1 / (square + 1)
    field: Tensor = torch.fft.ifft2(torch.polar(amplitude.expand(turns.shape), turns.double() * (2 * math.pi))).real
    # Of a single pixel, whose only frequency is 0, the deviation is 0.
    return field / field.std(dim=(-2, -1), correction=0, keepdim=True).clamp(min=1e-12)


def checkerboard_cutout(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    """A share of the cells of one colour of a turned chess board, of side 0.1 n to 0.25 n, turn grey."""
    numbers = uniform(keys, (2,)).double()
    height, width = images.shape[2:]
    side = ((0.1 + 0.15 * numbers[:, 1]) * min(height, width)).clamp(min=1)
    reach = math.ceil(math.hypot(height, width) / max(0.1 * min(height, width), 1)) + 1
    chosen = uniform(keys, (2 * reach, 2 * reach), stream=1) < _BOARD.at(images, severity)
    return cut_out(images, 2 * math.pi * numbers[:, 0], side, chosen)


def cut_out(images: Tensor, angle: Tensor, side: Tensor, chosen: Tensor) -> Tensor:
    """Images with grey cells: of side (N,), turned by an angle (N,), where `chosen` (N, 2R, 2R) from cell −R on.

    Cells count from the first pixel; those whose two numbers are both even or both odd are of the colour that is cut.
    """
    y, x = _places(images)
    cos, sin, side = (one[:, None, None] for one in (angle.cos(), angle.sin(), side))
    row = ((cos * y + sin * x) / side).floor().long()
    column = ((cos * x - sin * y) / side).floor().long()
    reach = chosen.shape[1] // 2
    image = torch.arange(len(images), device=images.device)[:, None, None]
    grey = chosen[image, row + reach, column + reach] & ((row + column) % 2 == 0)
    return images.masked_fill(grey[:, None], _GREY)


def lines(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    """Grey lines that are n long to both sides of random places, their directions spread about a random one."""
    height, width = images.shape[2:]
    count = math.floor(_LINES[severity - 1] * min(height, width))
    if count == 0:
        return images
    direction, spread = uniform(keys, (2, 1)).double().unbind(1)
    numbers = uniform(keys, (count, 3), stream=1).double()
    angle = 2 * math.pi * (direction + (0.1 + 0.9 * spread) * (numbers[..., 2] - 0.5))
    middle = numbers[..., :2] * torch.tensor((height, width), device=images.device)
    along = torch.stack([angle.sin(), angle.cos()], -1) * min(height, width)
    return ruled(images, (middle - along).trunc(), (middle + along).trunc())


def ruled(images: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Images under grey lines between places (N, L, 2), row and column, that cover 1 − distance of a pixel."""
    y, x = _places(images)
    kept = torch.ones(len(images), *images.shape[2:], dtype=torch.float64, device=images.device)
    for start, end in zip(starts.unbind(1), ends.unbind(1), strict=True):
        dy, dx = ((end - start)[:, i, None, None] for i in (0, 1))
        away_y, away_x = y - start[:, 0, None, None], x - start[:, 1, None, None]
        square = (dy**2 + dx**2).clamp(min=1e-12)
        share = (away_y * dy + away_x * dx) / square
        cover = (1 - (away_y * dx - away_x * dy).abs() / square.sqrt()).clamp(0, 1)
        kept *= 1 - cover * ((share >= 0) & (share <= 1))
    return torch.lerp(torch.full_like(images, _GREY), images, kept[:, None].float())


def sparkles(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    """Five white stars."""
    radius = _SPARKLES.at(images, severity) * min(images.shape[2:])
    dark = 1 - images
    for star in range(5):
        places = uniform(keys, (3,), stream=3 * star)
        lengths = (radius * (1 + 0.25 * normal(keys, (_MOST_RAYS,), stream=3 * star + 1))).clamp(min=1)
        dark = dark * (1 - _star(images, places[:, :2], lengths, _rays(places[:, 2]), 1.0))[:, None]
    return 1 - dark


def inverse_sparkles(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    """White outside of a ragged star."""
    places = uniform(keys, (3,))
    lengths = 0.25 * min(images.shape[2:]) * (1 + 0.25 * normal(keys, (_MOST_RAYS,), stream=1))
    star = _star(images, 0.25 + 0.5 * places[:, :2], lengths, _rays(places[:, 2]), _INVERSE.at(images, severity))
    return 1 - star[:, None] * (1 - images)


def _rays(number: Tensor) -> Tensor:
    """50 … 199 from uniform numbers."""
    return _FEWEST_RAYS + (number * (_MOST_RAYS - _FEWEST_RAYS)).long()


def _star(images: Tensor, places: Tensor, lengths: Tensor, rays: Tensor, exponent: float) -> Tensor:
    height, width = images.shape[2:]
    return star(images, places.double() * torch.tensor((height, width), device=places.device), lengths, rays, exponent)


def star(images: Tensor, centre: Tensor, lengths: Tensor, rays: Tensor, exponent: float) -> Tensor:
    """The light of stars at `centre` (N, 2) in pixels: (N, H, W) in [0, 1], float32.

    (1 − (f − ½)²)·(L²/(distance² + 10⁻⁴))^exponent, where L runs from one ray's length to the next one's and f is how
    far between the two. `lengths` are (N, M), of which the first `rays` (N,) count.
    """
    y, x = _places(images)
    dy, dx = y - centre[:, 0, None, None], x - centre[:, 1, None, None]
    count = rays[:, None, None]
    place = (torch.atan2(dx, dy) + math.pi) / (2 * math.pi) * count
    ray = place.floor()
    between = place - ray
    image = torch.arange(len(images), device=images.device)[:, None, None]
    here, beside = (lengths.double()[image, (ray.long() + step) % count] for step in (0, 1))
    length = here + between * (beside - here)
    glow = (length**2 / (dy**2 + dx**2 + 1e-4)) ** exponent
    return ((1 - (between - 0.5) ** 2) * glow).clamp(0, 1).float()


def cocentric_sine_waves(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    height, width = images.shape[2:]
    numbers = uniform(keys, (5,)).double()
    centre = numbers[:, :2] * torch.tensor((height, width), device=images.device)
    bend, ring = (numbers[:, i] * (min(height, width) / 10) for i in (3, 4))
    return images + rings(images, centre, 10 * numbers[:, 2], bend, ring) * (_RINGS[severity - 1] / LEVELS)


def rings(images: Tensor, centre: Tensor, waves: Tensor, bend: Tensor, ring: Tensor) -> Tensor:
    """A saw-tooth in [−½, ½) of the distance to `centre` (N, 2), of period `ring` (N,): (N, 1, H, W), float32.

    The distance is changed by up to `bend` (N,), as the sine of the angle times `waves` (N,).
    """
    y, x = _places(images)
    dy, dx = y - centre[:, 0, None, None], x - centre[:, 1, None, None]
    waves, bend, ring = (one[:, None, None] for one in (waves, bend, ring))
    distance = (dy**2 + dx**2).sqrt() + bend * (torch.atan2(dx, dy) * waves).sin()
    return (distance.remainder(ring) / ring - 0.5)[:, None].float()


def perlin_noise(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    """Blended with the turbulence of Perlin's gradient noise, whose largest cells are n/7."""
    height, width = images.shape[2:]
    cell = min(height, width) / 7
    most = [math.ceil(_OCTAVES[-1] * size / cell) + 2 for size in (height, width)]
    gradients = uniform(keys, (*most, 2)).mul_(2).sub_(1)
    gradients = gradients / torch.linalg.vector_norm(gradients, dim=-1, keepdim=True).clamp(min=1e-12)
    field = (turbulence(gradients, height, width, cell) / 2 + 0.5).clamp(0, 1)
    return torch.lerp(images, field[:, None], _PERLIN[severity - 1])


def turbulence(gradients: Tensor, height: int, width: int, cell: float) -> Tensor:
    """Σ_f |noise(f·place)|/f over f = 1, 2, 4, 8, 16 (Perlin, 1985), (N, height, width).

    `gradients` (N, R, C, 2) are unit vectors at the corners of a lattice of `cell` pixels at f = 1.
    """
    total = torch.zeros(len(gradients), height, width, device=gradients.device)
    for f in _OCTAVES:
        (row, y), (column, x) = (_cells(size, f / cell, gradients.device) for size in (height, width))
        y = y[:, None]
        corners = [
            gradients[:, row + i][:, :, column + j, 0] * (y - i) + gradients[:, row + i][:, :, column + j, 1] * (x - j)
            for i in (0, 1)
            for j in (0, 1)
        ]
        smooth_y, smooth_x = (t**2 * (3 - 2 * t) for t in (y, x))
        above, below = (torch.lerp(left, right, smooth_x) for left, right in (corners[:2], corners[2:]))
        total += 1.5 * torch.lerp(above, below, smooth_y.expand_as(above)).abs() / f
    return total


def _cells(size: int, scale: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """The cell that each pixel is in, and where in it, from 0 to 1."""
    place = torch.arange(size, dtype=torch.float64, device=device) * scale
    return place.floor().long(), (place - place.floor()).float()


def plasma_noise(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    numbers = uniform(keys, (4,)).double()
    time, turns = 6 * math.pi * numbers[:, 0], 4 + (3 * numbers[:, 1]).long()
    sharpness, scale = 0.5 + 0.5 * numbers[:, 2], (0.075 + 0.125 * numbers[:, 3]) * min(images.shape[2:])
    weight = _PLASMA[severity - 1] / LEVELS
    return images * (1 - weight) + weight * plasma(images, time, turns, sharpness, scale)


def plasma(images: Tensor, time: Tensor, turns: Tensor, sharpness: Tensor, scale: Tensor) -> Tensor:
    """A coloured field in [−1, 1], (N, 3, H, W), float32: sines of places that were bent by sines so many `turns` (N,).

    Each turn has waves 1.93 times as short as the last one, and bends 2.25 − `sharpness` times less.
    """
    time, scale, sharpness, turns = (one[:, None, None] for one in (time, scale, sharpness, turns))
    y, x = (place / scale for place in torch.meshgrid(*(place.flatten() for place in _places(images)), indexing="ij"))
    waves, slowing, weakening = 1.0, 1.0, torch.ones_like(time)
    for turn in range(int(turns.max()) if len(images) else 0):
        a = (y * waves + time / slowing).cos() / weakening
        b = (x * waves + time / slowing).sin() / weakening
        x, y = torch.where(turns > turn, x + a - 0.3 * b, x), torch.where(turns > turn, y + b + 0.3 * a, y)
        waves, slowing, weakening = waves * 1.93, slowing * 1.15, weakening * (2.25 - sharpness)
    return torch.stack([(x - time).sin(), ((x + y + time.sin()) / 2).sin(), (y + time).sin()], 1).float()


def single_frequency_greyscale(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    numbers = uniform(keys, (4,)).double()
    one = math.pi * (2 * numbers[:, 0] - 1)
    other = one.abs() * (2 * numbers[:, 1] - 1)
    first = numbers[:, 2] < 0.5
    along_y, along_x = torch.where(first, one, other), torch.where(first, other, one)
    return images + wave(images, along_y, along_x, 2 * math.pi * numbers[:, 3]) * (_WAVE[severity - 1] / LEVELS)


def wave(images: Tensor, along_y: Tensor, along_x: Tensor, phase: Tensor) -> Tensor:
    """sin(ω_y·y + ω_x·x + phase), with numbers (N,): (N, 1, H, W), float32."""
    y, x = _places(images)
    along_y, along_x, phase = (one[:, None, None] for one in (along_y, along_x, phase))
    return (along_y * y + along_x * x + phase).sin()[:, None].float()


def _places(images: Tensor) -> tuple[Tensor, Tensor]:
    """Row numbers (H, 1) and column numbers (W,), float64."""
    height, width = images.shape[2:]
    y = torch.arange(height, dtype=torch.float64, device=images.device)
    return y[:, None], torch.arange(width, dtype=torch.float64, device=images.device)
