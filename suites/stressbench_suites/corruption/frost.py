"""Ice on a window: five textures of this project's own making, in place of the published frost photographs.

Nobody has licensed those photographs. These textures are drawn from keyed noise alone; their brightness and contrast
were tuned until a classifier lost about as much accuracy on them.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from stressbench.randomness import derive, uniform
from stressbench_suites.corruption.pixels import truncate

_KINDS = 5
_SMALLEST = 256  # pixels a side
_SHADE = (0.08, 0.16, 0.26)  # red, green, blue of the glass
_ICE = (0.90, 0.96, 1.00)
_CLOSE = 5  # times larger in large images: the published code scales its photographs by a fifth for CIFAR alone
_STROKES = ((12, 0.45), (6, 0.8), (3, 1.1))  # pixels between crystals, their weight


@lru_cache(maxsize=8)
def textures(side: int, device: torch.device) -> Tensor:
    """Five textures, (5, 3, S, S) in whole grey levels, with room for a random crop of `side` pixels in S."""
    return _drawn(side).to(device)


@lru_cache(maxsize=2)
def close_textures(side: int, device: torch.device) -> Tensor:
    """The same textures for large images, `_CLOSE` times the size."""
    drawn = _drawn(-(-side // _CLOSE))
    size = drawn.shape[-1] * _CLOSE
    return truncate(F.interpolate(drawn, (size, size), mode="bicubic", align_corners=False)).to(device)


def _drawn(side: int) -> Tensor:
    size = max(_SMALLEST, 2 * side)
    keys = torch.tensor([derive("frost", kind) for kind in range(_KINDS)])
    # Crystals grow along a direction that drifts over the glass: fields of noise bend the plane that they are drawn on.
    bend = torch.stack([_field(keys, size, 48, 48, stream=i) - 0.5 for i in (1, 2)], dim=-1)
    bend = bend + 0.4 * torch.stack([_field(keys, size, 12, 12, stream=i) - 0.5 for i in (3, 4)], dim=-1)
    line = torch.linspace(-1, 1, size)
    plane = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)
    grid = plane + bend * (60 / size)
    ice = torch.zeros(_KINDS, size, size)
    for stream, (spacing, weight) in enumerate(_STROKES, start=5):
        # A crystal is a crest where the noise crosses its middle, long in one direction.
        crest = 1 - (2 * _field(keys, size, spacing, 3 * spacing, stream) - 1).abs()
        crest = F.grid_sample(crest[:, None], grid, padding_mode="reflection", align_corners=True)[:, 0]
        ice += weight * crest.clamp(0, 1) ** 6
    cover = _field(keys, size, 40, 40, stream=20)
    ice = (ice * (0.4 + 1.2 * cover) + 0.35 * cover).clamp(0, 1)[:, None]
    shade, white = (torch.tensor(colour).view(1, 3, 1, 1) for colour in (_SHADE, _ICE))
    turned = [torch.rot90(picture, kind, (1, 2)) for kind, picture in enumerate(torch.lerp(shade, white, ice))]
    return truncate(torch.stack(turned))


def _field(keys: Tensor, size: int, high: int, wide: int, stream: int) -> Tensor:
    """Smooth noise about [0, 1], (5, size, size), from one random number every `high` rows and `wide` columns."""
    shape = (size // high + 3, size // wide + 3)
    lattice = uniform(keys, shape, stream)[:, None]
    return F.interpolate(lattice, (size, size), mode="bicubic", align_corners=False)[:, 0]
