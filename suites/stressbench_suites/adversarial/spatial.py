"""The spatial attack: the worst rotation and translation of a grid (Engstrom et al., 2019).

`spatial` tries 31 angles within ±30° and 5 × 5 shifts within a tenth of the image's sides, 775 places in all;
`spatial,angle=15,angles=7,shift=0.05,shifts=3` other ones. It takes no gradient and has no budget in pixels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stressbench.contracts import Batch
from stressbench.errors import UserError, did_you_mean
from stressbench.spec import Spec
from stressbench_suites.adversarial.attacks import Attacked, Found, Victim
from stressbench_suites.adversarial.numbers import number

_LARGEST = {"angle": 180.0, "shift": 0.5}  # in degrees, and as a part of the image's side
_DEFAULTS = {"angle": "30", "angles": "31", "shift": "0.1", "shifts": "5"}


class Spatial:
    """Rotations and translations of the clean image, with black outside of it."""

    takes_eps = False
    norm = "none"
    fewest_classes = 2

    def __init__(self, spec: Spec, verdicts_only: bool = False) -> None:
        """With `verdicts_only` an image is done once it fools.

        Raises `UserError` for unknown options and for numbers that make no grid.
        """
        for name in spec.options:
            if name not in _DEFAULTS:
                hint = did_you_mean(name, list(_DEFAULTS))
                raise UserError(f"spatial has no option '{name}': {hint}its options are: {', '.join(_DEFAULTS)}")
        if spec.argument:
            raise UserError(f"'{spec}' names no attack: write spatial, with options after commas")
        given = {name: spec.options.get(name, default) for name, default in _DEFAULTS.items()}
        self._angle, self._shift = (_within(name, given[name]) for name in ("angle", "shift"))
        self._angles, self._shifts = (_count(name, given[name]) for name in ("angles", "shifts"))
        self._verdicts_only = verdicts_only

    def __call__(self, model: nn.Module, victim: Victim, batch: Batch, eps: float, eot_draws: int) -> Attacked:
        """For each image the place with the highest loss of those that fool the model, or without one of all.

        An image that is misclassified as it is, and that no place keeps wrong, stays as it is.
        """
        images, labels = batch.images, batch.targets
        best = Found(images.clone(), victim.judge(images, labels)[0])
        for angle, down, right in self.places(images.shape[-2], images.shape[-1]):
            rows = torch.nonzero(~best.fooled if self._verdicts_only else torch.ones_like(best.fooled)).flatten()
            if len(rows) == 0:
                break
            moved = transformed(images[rows], angle, down, right)
            fooled, loss = victim.judge(moved, labels[rows])
            better = (fooled & ~best.fooled[rows]) | ((fooled == best.fooled[rows]) & (loss > best.loss[rows]))
            best.keep(rows, moved, fooled, loss, better)
        return Attacked(best.images, {"fooled": best.fooled})

    def places(self, height: int, width: int) -> Iterator[tuple[float, float, float]]:
        """Angles in degrees and shifts in pixels, down and to the right; the largest shift is a whole pixel."""
        down, right = (_grid(round(self._shift * side), self._shifts) for side in (height, width))
        return itertools.product(_grid(self._angle, self._angles), down, right)


def transformed(images: Tensor, angle: float, down: float, right: float) -> Tensor:
    """Images (N, 3, H, W) turned counter-clockwise around their centre by an angle in degrees, then moved.

    Bilinear; what lies outside of the image is 0.
    """
    height, width = images.shape[-2:]
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    # From a pixel of the result to the place that it comes from, both in units of half a side around the centre.
    x, y = -2 * right / width, -2 * down / height
    aspect = height / width
    matrix = images.new_tensor(
        [
            [cos, -sin * aspect, cos * x - sin * aspect * y],
            [sin / aspect, cos, sin / aspect * x + cos * y],
        ]
    )
    grid = F.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False).clamp(0, 1)


def _grid(largest: float, count: int) -> list[float]:
    """So many numbers from −largest to largest; 0 alone for one."""
    steps = torch.linspace(-largest, largest, count, dtype=torch.float64) if count > 1 else torch.zeros(1)
    return [float(value) for value in steps]


def _within(name: str, text: str) -> float:
    value = number(text, name)
    if not 0 <= value <= _LARGEST[name]:
        raise UserError(f"invalid {name}={text}: expected 0 to {_LARGEST[name]:g}")
    return value


def _count(name: str, text: str) -> int:
    # An odd number, so that the image as it is is among them.
    if not text.isdigit() or int(text) % 2 == 0:
        raise UserError(f"invalid {name}={text}: expected an odd number, for example {_DEFAULTS[name]}")
    return int(text)
