"""Images read at other places: the second part of CIFAR-10-C-bar and ImageNet-C-bar.

After Mintun, Kirillov and Xie (2021). Each corruption takes images (N, 3, H, W) in [0, 1] and keys (N,), and returns
values that the engine clips and truncates to grey levels. Lengths are fractions of n, the shorter side.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from stressbench.randomness import uniform
from stressbench_suites.corruption import linear
from stressbench_suites.corruption.pixels import LEVELS, mirrored

_TURN = (4.2, 5.4, 6.6, 7.8, 9.0)  # degrees to both sides
_TURNS = 21
_TWIRL = (5.5, 6.0, 6.5, 8.5, 10.0)  # of which φ = πs/20 and p = .04s + .1
_RIPPLE = (0.01375, 0.015, 0.01625, 0.01875, 0.02)  # amplitude
_CHROMATIC = (0.05, 0.10, 0.25, 0.45, 0.50)  # zoom
_CAUSTIC = (2.35, 3.2, 4.9, 6.6, 9.15)  # of which the reach is .05s and the light .2s
_LENS = 4.0


def circular_motion_blur(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    """The weighted mean of 21 copies that are turned about the centre, by cubic splines; black comes in from outside.

    It is a fixed linear map of the spline coefficients, so it is made once for a size and a severity.
    """
    height, width = images.shape[2:]
    rows, columns = (_coefficients(size, images.device) for size in (height, width))
    coefficients = linear.separable(images, rows, columns).flatten(2)
    places, weights = _turned(height, width, _TURN[severity - 1], images.device)
    blurred = torch.zeros_like(coefficients)
    for place, weight in zip(places, weights, strict=True):
        blurred.addcmul_(coefficients.index_select(-1, place), weight)
    return blurred.view_as(images)


@lru_cache(maxsize=32)
def _turned(height: int, width: int, degrees: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each pixel the coefficients that make its value and their weights: (K, H·W) int64 and float32."""
    y, x = torch.meshgrid(*(torch.arange(n).double() - (n - 1) / 2 for n in (height, width)), indexing="ij")
    shares = torch.linspace(-1, 1, _TURNS, dtype=torch.float64)
    strengths = torch.exp(-2 * shares**2)
    # One number for a pair of a pixel and a coefficient that counts for it; a pair occurs once for each turn and tap.
    pairs, values = [], []
    for share, strength in zip(shares.tolist(), (strengths / strengths.sum()).tolist(), strict=True):
        cos, sin = math.cos(math.radians(share * degrees)), math.sin(math.radians(share * degrees))
        row, column = cos * y + sin * x + (height - 1) / 2, cos * x - sin * y + (width - 1) / 2
        inside = (row >= 0) & (row <= height - 1) & (column >= 0) & (column <= width - 1)
        (rows, along), (columns, across) = _taps(row, height), _taps(column, width)
        source = rows[:, None] * width + columns  # (4, 4, H, W)
        pairs.append((torch.arange(height * width).view(height, width) * height * width + source).flatten())
        values.append((strength * inside * along[:, None] * across).flatten())
    unique, which = torch.unique(torch.cat(pairs), return_inverse=True)
    weights = torch.zeros(len(unique), dtype=torch.float64).index_add_(0, which, torch.cat(values))
    pixel, source = unique // (height * width), unique % (height * width)
    counts = pixel.bincount(minlength=height * width)
    slot = torch.arange(len(pixel)) - (counts.cumsum(0) - counts)[pixel]
    places = torch.zeros(int(counts.max()), height * width, dtype=torch.int64)
    strengths = torch.zeros(places.shape)
    places[slot, pixel], strengths[slot, pixel] = source, weights.float()
    return places.to(device), strengths.to(device)


def _taps(place: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The four neighbours of places along an axis, mirrored at its ends, and the cubic B-spline there: (4, …) each."""
    below = place.floor()
    t = place - below
    weights = torch.stack([(1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 1 + 3 * t + 3 * t**2 - 3 * t**3, t**3]) / 6
    steps = torch.arange(-1, 3).view(4, *[1] * place.ndim)
    return mirrored(below.long() + steps, size, "mirror"), weights


@lru_cache(maxsize=32)
def _coefficients(size: int, device: torch.device) -> Tensor:
    """Values → coefficients of the cubic spline through them, mirrored at the ends: (size, size), float32."""
    inverse: Tensor = torch.linalg.inv(_spline_matrix(torch.arange(size).double(), size))
    return inverse.to(device, torch.float32)


def _spline_matrix(places: Tensor, size: int) -> Tensor:
    """Coefficients (size,) → the spline's values at places (P,): (P, size), float64."""
    taps, weights = _taps(places, size)
    matrix = torch.zeros(len(places), size, dtype=torch.float64)
    row = torch.arange(len(places)).expand_as(taps)
    return matrix.index_put_((row, taps), weights, accumulate=True)


def transverse_chromatic_abberation(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    """The three channels, in random order, zoomed from the centre by 1, 1 + z/2 and 1 + z."""
    zoom = _CHROMATIC[severity - 1]
    order = uniform(keys, (3,)).argsort(dim=1)
    return zoomed_channels(images, (1.0, 1 + zoom / 2, 1 + zoom), order)


def zoomed_channels(images: Tensor, factors: tuple[float, ...], order: Tensor) -> Tensor:
    """Channel c zoomed by factor `order[:, c]`, in whole levels, by cubic splines whose coefficients are the pixels.

    So a channel is blurred even by factor 1, as by the published code, which leaves the spline's prefilter out.
    """
    height, width = images.shape[2:]
    zoomed = torch.stack(
        [
            linear.separable(images, *(_zoom_matrix(size, factor, images.device) for size in (height, width)))
            for factor in factors
        ]
    )
    image, channel = torch.arange(len(images), device=images.device)[:, None], torch.arange(3, device=images.device)
    return zoomed[order, image, channel].mul(LEVELS).add_(0.5).floor_().div_(LEVELS)


@lru_cache(maxsize=64)
def _zoom_matrix(size: int, factor: float, device: torch.device) -> Tensor:
    """The middle of `scipy.ndimage.zoom(order=3, prefilter=False)`: (size, size), float32."""
    large = round(size * factor)
    places = (torch.arange(size).double() + (large - size) // 2) * ((size - 1) / max(large - 1, 1))
    return _spline_matrix(places, size).to(device, torch.float32)


def pinch_and_twirl(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    """Whirls in squares of a third of the shorter side, each to a side of its own; what is left over stays."""
    height, width = images.shape[2:]
    side = min(height, width) // 3
    if side == 0:
        return images
    strength = _TWIRL[severity - 1]
    signs = uniform(keys, (height // side, width // side)).sub_(0.5).sign_()
    return twirled(images, signs * (math.pi * strength / 20), side, 0.04 * strength + 0.1)


def twirled(images: Tensor, angles: Tensor, side: int, amount: float) -> Tensor:
    """Squares of `side` pixels whirled by `angles` (N, rows, columns) at their centres, and pinched.

    At a share d of the square's half side from its centre (whose place is a whole number of halves), the radius is
    multiplied by sin(πd/2)^−amount and turned by angle·(1 − d)².
    """
    rows, columns = angles.shape[1:]
    y, x = (torch.arange(size, dtype=torch.float64, device=images.device) for size in images.shape[2:])
    row, column = ((place // side).long().clamp(max=count - 1) for place, count in ((y, rows), (x, columns)))
    dy, dx = (y - (row + 0.5) * side)[:, None], x - (column + 0.5) * side
    share = (dy**2 + dx**2).sqrt() / (side / 2)
    moves = (share <= 1) & (share * side / 2 >= 5e-4)
    share = share.clamp(1e-6, 1)
    grown = torch.where(moves, (share * (math.pi / 2)).sin() ** -amount, 1)
    turn = torch.where(moves, angles.double()[:, row][:, :, column] * (1 - share) ** 2, 0)
    down = grown * (dy * turn.cos() - dx * turn.sin())
    across = grown * (dy * turn.sin() + dx * turn.cos())
    return _read(images, y[:, None] + down - dy, x + across - dx)


def ripple(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    side = min(images.shape[2:])
    numbers = uniform(keys, (2, 2)).double()
    return rippled(
        images, _RIPPLE[severity - 1] * side, (0.1 + 0.2 * numbers[:, 0]) * side, 2 * math.pi * numbers[:, 1]
    )


def rippled(images: Tensor, amplitude: float, lengths: Tensor, phases: Tensor) -> Tensor:
    """Each coordinate moved by a sine of itself; wave lengths and phases are (N, 2), for rows and for columns."""
    y, x = (
        place + amplitude * (2 * math.pi * place / lengths[:, axis, None] + phases[:, axis, None]).sin()
        for axis, place in enumerate(
            torch.arange(size, dtype=torch.float64, device=images.device) for size in images.shape[2:]
        )
    )
    return _read(images, y[:, :, None], x[:, None])


def caustic_refraction(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    """Seen through moving water."""
    strength, side = _CAUSTIC[severity - 1], min(images.shape[2:])
    numbers = uniform(keys, (2,)).double()
    light = caustics(images, 0.5 + 1.5 * numbers[:, 0], (0.75 + 0.5 * numbers[:, 1]) * side)
    return refracted(images, linear.gaussian(light, 1, "symmetric"), 0.05 * strength * side, 0.2 * strength)


def caustics(images: Tensor, time: Tensor, period: Tensor) -> Tensor:
    """Light at the bottom of water at a time (N,), repeating after `period` (N,) pixels: (N, 1, H, W) in [0, 1]."""
    time, period = time[:, None, None], period[:, None, None]
    axes = (torch.arange(size, dtype=torch.float64, device=images.device) for size in images.shape[2:])
    p, q = (((place / period) % 1) * (2 * math.pi) - 250 for place in torch.meshgrid(*axes, indexing="ij"))
    a, b, brightness = p, q, torch.ones_like(p)
    for turn in range(1, 6):
        t = time * (1 - 3.5 / turn)
        a, b = p + (t - a).cos() + (t + b).sin(), q + (t - b).sin() + (t + a).cos()
        brightness = brightness + 200 / ((p / (a + t).sin()) ** 2 + (q / (b + t).cos()) ** 2).sqrt()
    return ((1.17 - (brightness / 5) ** 1.4).abs() ** 8).clamp(0, 1)[:, None].float()


def refracted(images: Tensor, light: Tensor, reach: float, strength: float) -> Tensor:
    """Images seen through a lens of index 4 whose slope is that of `light` (N, 1, H, W), and lit by it."""
    height, width = images.shape[2:]
    around = F.pad(light[:, 0].double(), (1, 1, 1, 1))
    down = around[:, 2:, 1:-1] - around[:, :-2, 1:-1]
    across = around[:, 1:-1, 2:] - around[:, 1:-1, :-2]
    upright = 1 / (1 + down**2 + across**2).sqrt()  # the cosine of the lens's slope
    sine = (1 - upright**2).sqrt() / _LENS
    # Snell's law for a ray from above: along the slope it keeps cos(out) − cos(in)/index of the surface's normal.
    bend = ((1 - sine**2).sqrt() - upright / _LENS) * upright * reach
    bend = torch.where(upright < 1 - 1e-3, bend, 0)
    y, x = (torch.arange(size, dtype=torch.float64, device=images.device) for size in (height, width))
    moved = [(bend * slope).round(decimals=3) for slope in (down, across)]
    seen = _read(images, y[:, None] + moved[0], x + moved[1])
    return seen + strength * (down - across)[:, None].float()


def _read(images: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Images at rows y and columns x, (N, H, W) or broadcast to it, bilinear; black outside of the image."""
    height, width = images.shape[2:]
    shape = (len(images), height, width)
    places = [((2 * place + 1) / size - 1).expand(shape) for place, size in ((x, width), (y, height))]
    return F.grid_sample(images, torch.stack(places, dim=-1).float(), padding_mode="zeros", align_corners=False)
