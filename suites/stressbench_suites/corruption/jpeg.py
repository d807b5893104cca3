"""Baseline JPEG coding and decoding of a batch at once, equal in every bit to what libjpeg-turbo does through Pillow.

After ITU-T T.81 (the coding and its example tables) and JFIF 1.02 (the colours), with the choices that libjpeg's
defaults make: 4:2:0, its accurate integer transforms, and smooth upsampling. Entropy coding loses nothing, so it is
left out. Colours and sums of grey levels are integers below 2^24, exact in float32; those of the transforms are exact
in float64. No step depends on the order of its sums, so a GPU gives the same bits.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

_CPU_PIXELS = 2**16  # worked on at a time: few enough for a CPU's caches
_SIDE = 8
_CENTRE = 128
# T.81, tables K.1 (luminance) and K.2 (chrominance), row by row.
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * _SIDE for _ in range(4)),
)
# The transform's first four columns: sums of its factors, each rounded to 2^−13 before it is added, so that some
# entries differ by a unit from rounded cosines.
_HALF_OF_THE_MATRIX = (
    (8192, 8192, 8192, 8192),
    (11363, 9633, 6437, 2260),
    (10703, 4433, -4433, -10703),
    (9633, -2259, -11362, -6436),
    (8192, -8192, -8192, 8192),
    (6437, -11362, 2261, 9633),
    (4433, -10704, 10704, -4433),
    (2260, -6436, 9633, -11363),
)
_COLOUR_BITS = 16
_DCT_BITS = 13  # of the transform's constants
_KEPT_BITS = 2  # that the first of two passes leaves for the second
_SCALE_BITS = 3  # coefficients come out 8 times too large: each pass lacks a factor of 1/√8


def through_jpeg(levels: Tensor, quality: int) -> Tensor:
    """Grey levels (N, 3, H, W), whole numbers 0 … 255 in float32, after JPEG of quality 1 … 100; same form.

    >>> through_jpeg(torch.tensor([255.0, 0.0, 0.0]).view(1, 3, 1, 1), 75).flatten()
    tensor([254.,   0.,   0.])
    """
    pixels = levels.shape[2] * levels.shape[3]
    block = max(1, _CPU_PIXELS // pixels) if levels.device.type == "cpu" else len(levels)
    return torch.cat([_through_jpeg(part, quality) for part in torch.split(levels, block)])


def _through_jpeg(levels: Tensor, quality: int) -> Tensor:
    height, width = levels.shape[2:]
    luma, *chroma = _from_rgb(levels)
    luma = _coded(_extended(luma, height, width), quality, _LUMINANCE)[..., :height, :width]
    small = torch.cat([_halved(plane) for plane in chroma])
    rows, columns = small.shape[1], -(-width // 2)
    small = _coded(_extended(small, rows, small.shape[2]), quality, _CHROMINANCE)[:, :rows, :columns]
    blue, red = _doubled(small)[..., :height, :width].sub_(_CENTRE).chunk(2)
    return _to_rgb(luma, blue, red)


def _from_rgb(levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Luma, blue and red difference, (N, H, W) each. A half is rounded up in luma and down in the others."""
    red, green, blue = levels.unbind(1)
    offset = (_CENTRE << _COLOUR_BITS) + (1 << _COLOUR_BITS - 1) - 1
    return (
        _shifted((red * 19595).add_(green, alpha=38470).add_(blue, alpha=7471).add_(1 << _COLOUR_BITS - 1)),
        _shifted((blue * 32768).sub_(red, alpha=11059).sub_(green, alpha=21709).add_(offset)),
        _shifted((red * 32768).sub_(green, alpha=27439).sub_(blue, alpha=5329).add_(offset)),
    )


def _to_rgb(luma: Tensor, blue: Tensor, red: Tensor) -> Tensor:
    half = 1 << _COLOUR_BITS - 1
    return torch.stack(
        [
            _shifted((red * 91881).add_(half)).add_(luma),
            _shifted((blue * -22554).sub_(red, alpha=46802).add_(half)).add_(luma),
            _shifted((blue * 116130).add_(half)).add_(luma),
        ],
        dim=1,
    ).clamp_(0, 255)


def _shifted(values: Tensor) -> Tensor:
    return values.mul_(2.0**-_COLOUR_BITS).floor_()


def _extended(planes: Tensor, height: int, width: int) -> Tensor:
    """Whole blocks, with the last row and the last column repeated."""
    for axis, size in ((1, height), (2, width)):
        whole = -(-size // _SIDE) * _SIDE
        if whole != planes.shape[axis]:
            planes = planes.index_select(axis, torch.arange(whole, device=planes.device).clamp_(max=size - 1))
    return planes


def _halved(planes: Tensor) -> Tensor:
    """Means of 2×2 pixels, (N, ⌈H/2⌉, whole blocks); what is half way is rounded down and up by turns."""
    height, width = planes.shape[1:]
    rows = torch.arange(height + height % 2, device=planes.device).clamp_(max=height - 1)
    columns = torch.arange(-(-width // (2 * _SIDE)) * 2 * _SIDE, device=planes.device).clamp_(max=width - 1)
    if len(rows) != height:
        planes = planes.index_select(1, rows)
    if len(columns) != width:
        planes = planes.index_select(2, columns)
    sums = planes[:, ::2] + planes[:, 1::2]
    sums = sums[..., ::2] + sums[..., 1::2]
    sums[..., ::2] += 1
    sums[..., 1::2] += 2
    return sums.mul_(0.25).floor_()


def _doubled(planes: Tensor) -> Tensor:
    """Twice as many rows and columns: each 3/4 of the nearest pixel and 1/4 of the next, or copies if very narrow."""
    if planes.shape[2] <= 2:
        return planes.repeat_interleave(2, 1).repeat_interleave(2, 2)
    above, below = torch.cat([planes[:, :1], planes[:, :-1]], 1), torch.cat([planes[:, 1:], planes[:, -1:]], 1)
    tall = torch.stack([planes * 3 + above, planes * 3 + below], dim=2).flatten(1, 2)
    left, right = torch.cat([tall[..., :1], tall[..., :-1]], 2), torch.cat([tall[..., 1:], tall[..., -1:]], 2)
    wide = torch.stack([(tall * 3 + left).add_(8), (tall * 3 + right).add_(7)], dim=3).flatten(2, 3)
    return wide.mul_(1 / 16).floor_()


def _coded(planes: Tensor, quality: int, table: tuple[tuple[int, ...], ...]) -> Tensor:
    """Planes (N, H, W) of whole blocks after their transform, quantisation, and the way back."""
    count, height, width = planes.shape
    steps = _steps(table, quality, planes.device)
    matrix = _matrix(planes.device)
    # (8 rows, 8 columns, blocks): neither pass then has to move anything.
    blocks = planes.view(count, height // _SIDE, _SIDE, width // _SIDE, _SIDE).permute(2, 4, 0, 1, 3)
    blocks = blocks.sub(_CENTRE).double().flatten(2)
    first, second = _DCT_BITS - _KEPT_BITS, _DCT_BITS + _KEPT_BITS
    spectrum = _along_rows(matrix, _along_columns(matrix, blocks, first), second)
    divisors = steps * 2**_SCALE_BITS
    # To the nearest, and what is half way away from zero.
    size = spectrum.abs().add_(divisors // 2).div_(divisors).floor_()
    spectrum = size.copysign_(spectrum).mul_(steps)
    blocks = _along_columns(matrix.T, _along_rows(matrix.T, spectrum, first), second + _SCALE_BITS)
    blocks = blocks.float().add_(_CENTRE).clamp_(0, 255)
    blocks = blocks.view(_SIDE, _SIDE, count, height // _SIDE, width // _SIDE)
    return blocks.permute(2, 3, 0, 4, 1).reshape(count, height, width)


def _along_rows(matrix: Tensor, blocks: Tensor, bits: int) -> Tensor:
    return _rounded((matrix @ blocks.flatten(1)).view_as(blocks), bits)


def _along_columns(matrix: Tensor, blocks: Tensor, bits: int) -> Tensor:
    return _rounded(matrix @ blocks, bits)


def _rounded(values: Tensor, bits: int) -> Tensor:
    """Without the lowest bits, to the nearest, and what is half way up."""
    return values.mul_(2.0**-bits).add_(0.5).floor_()


@lru_cache(maxsize=32)
def _steps(table: tuple[tuple[int, ...], ...], quality: int, device: torch.device) -> Tensor:
    """The quantisation steps of a quality (8, 8, 1), by the Independent JPEG Group's scaling of the tables."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    scaled = [[[min(max((step * percent + 50) // 100, 1), 255)] for step in row] for row in table]
    return torch.tensor(scaled, dtype=torch.float64, device=device)


@lru_cache(maxsize=16)
def _matrix(device: torch.device) -> Tensor:
    """The one-dimensional transform (8 frequencies, 8 pixels), √8 times the orthonormal one, in units of 2^−13.

    Loeffler, Ligtenberg and Moschytz (1989). Even rows are symmetric, odd ones antisymmetric.
    """
    half = torch.tensor(_HALF_OF_THE_MATRIX, dtype=torch.float64, device=device)
    signs = torch.tensor((1.0, -1.0), dtype=torch.float64, device=device).repeat(_SIDE // 2)
    return torch.cat([half, half.flip(1) * signs[:, None]], dim=1)
