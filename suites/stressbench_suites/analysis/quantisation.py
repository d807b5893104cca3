"""Eight-bit integers in place of a network's numbers, computed in floating point: dynamic quantisation.

What a deployed network multiplies are the integers; their products and sums are exact there, and here exact up to the
rounding of float32. So the predictions are those of int8 arithmetic, on any device and for any kind of layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from stressbench_suites.analysis.directions import weights

_LAYERS = (nn.modules.conv._ConvNd, nn.Linear)


def quantised_weight(weight: Tensor) -> Tensor:
    """Each filter of (F, …) rounded to 255 levels that are symmetric about 0: round(w / s) · s, s = max|w_f| / 127."""
    scale = weight.abs().flatten(1).amax(dim=1) / 127
    scale = torch.where(scale > 0, scale, 1).view(-1, *[1] * (weight.ndim - 1))
    return (weight / scale).round() * scale


def quantised_input(x: Tensor) -> Tensor:
    """Each image's tensor of (N, …) rounded to 256 levels between its least and its greatest number, 0 among them.

    round(x / s) · s, with s = (max(x, 0) − min(x, 0)) / 255, where the levels start at −round(−min / s) · s. The range
    is an image's own, so that no image's prediction depends on the others of its batch.
    """
    flat = x.flatten(1)
    low, high = flat.amin(dim=1).clamp(max=0), flat.amax(dim=1).clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale > 0, scale, 1)
    zero = (-low / scale).round()
    shape = (-1, *[1] * (x.ndim - 1))
    scale, zero = scale.view(shape), zero.view(shape)
    return (((x / scale).round() + zero).clamp(0, 255) - zero) * scale


@contextmanager
def int8(module: nn.Module) -> Iterator[nn.Module]:
    """Inside, the weights are `quantised_weight` and convolutions and linear layers get `quantised_input`.

    The weights are changed in place, for the caller to put back; biases and normalisation stay as they are, as usual.
    """

    def rounded(_layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (quantised_input(args[0]), *args[1:])

    with torch.no_grad():
        for weight in weights(module):
            weight.copy_(quantised_weight(weight))
    with ExitStack() as hooks:
        for layer in module.modules():
            if isinstance(layer, _LAYERS):
                hooks.callback(layer.register_forward_pre_hook(rounded).remove)
        yield module
