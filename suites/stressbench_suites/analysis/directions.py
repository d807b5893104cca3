"""Random directions in the space of a network's weights, each filter scaled to the norm of the weights' own.

After Li et al. (2018, "Visualizing the loss landscape of neural nets"): ReLU networks with batch normalisation compute
the same when a filter is scaled, so that a step means something only relative to the filter's norm.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from stressbench import randomness
from stressbench.errors import UserError, did_you_mean

Norm = Literal["filter", "layer"]

_TINY = 1e-10  # against a division by zero, as Li et al. have it


def weights(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that a direction changes: those of two dimensions or more, in the module's order.

    Biases and the scales and shifts of normalisation are left as they are, as Li et al. leave them.
    """
    return [parameter for parameter in module.parameters() if parameter.ndim > 1]


def direction(module: nn.Module, seed: int, norm: Norm = "filter") -> list[Tensor]:
    """Gaussian numbers b, a tensor for each of `weights`, scaled to the weights' norms.

    `filter`: each filter, which is a slice along the first dimension, b_f · ‖w_f‖ / (‖b_f‖ + 10⁻¹⁰); `layer`: the same
    for the whole tensor. Networks whose weights have the same shapes in the same order get the same b from one seed, on
    any machine, before they are scaled. Raises `UserError` for another norm.

    >>> net = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 2))
    >>> torch.allclose(direction(net, 0)[0].norm(dim=1), net[0].weight.norm(dim=1))
    True
    """
    if norm not in get_args(Norm):
        raise UserError(f"invalid norm={norm}: {did_you_mean(norm, get_args(Norm))}expected filter or layer")
    found = []
    with torch.no_grad():
        for place, weight in enumerate(weights(module)):
            key = randomness.image_keys(seed, torch.tensor([place], device=weight.device))
            noise = randomness.normal(key, tuple(weight.shape))[0].to(weight.dtype)
            dims = tuple(range(1 if norm == "filter" else 0, weight.ndim))
            own, its = (torch.linalg.vector_norm(one, dim=dims, keepdim=True) for one in (weight, noise))
            found.append(noise * (own / (its + _TINY)))
    return found


def step(module: nn.Module, along: list[Tensor], length: float) -> None:
    """Add a multiple of a direction to the weights, in place."""
    with torch.no_grad():
        for weight, change in zip(weights(module), along, strict=True):
            weight.add_(change, alpha=length)
