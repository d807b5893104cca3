"""How much a prediction moves along a sequence.

A sequence has T frames, and each number is a mean over t ≥ 1, so that it is NaN for T = 1. Log-probabilities log p̄ are
(N, T, C), natural logarithms; a rank is a class's place by probability, 0 for the most probable, and of equal ones the
lower class comes first. `anchored` sequences compare every frame with frame 0, others with the frame before.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TOP = 5


def ranking(log_p: Tensor) -> Tensor:
    """The classes from the most to the least probable: (N, T, C) int64."""
    return log_p.argsort(dim=-1, descending=True, stable=True)


def flip_probability(order: Tensor, anchored: bool) -> Tensor:
    """Mean of [the predictions of two frames differ], in [0, 1]: from rankings (N, T, C) to (N,).

    Hendrycks and Dietterich (2019), section 3.2.
    """
    prediction = order[..., 0]
    return (prediction[:, 1:] != _earlier(prediction, anchored)).float().mean(dim=1)


def consistency(order: Tensor) -> Tensor:
    """Mean of [the predictions of two neighbours agree], in [0, 1]: from rankings (N, T, C) to (N,).

    Noise is treated like the others here, as in the code of Park and Kim (2022).
    """
    return 1 - flip_probability(order, anchored=False)


def cross_entropy_consistency(log_p: Tensor) -> Tensor:
    """Mean of −Σ_c p̄(c | x_t) log p̄(c | x_{t−1}), in nats, ≥ 0: (N, T, C) to (N,); Park and Kim (2022)."""
    p, log_before = log_p[:, 1:].exp(), log_p[:, :-1]
    return -torch.where(p > 0, p * log_before, 0).sum(dim=-1).mean(dim=1)


def top5_distance(order: Tensor, anchored: bool) -> Tensor:
    """Mean of Σ_i |min(i, 5) − min(σ(i), 5)|, in [0, 15], over the five first ranks i of the earlier frame.

    σ(i) is the rank in the later frame of the class that has rank i in the earlier one. From rankings (N, T, C) to
    (N,), NaN where there are fewer than five classes. Hendrycks and Dietterich (2019), section 3.2.
    """
    if order.shape[-1] < _TOP:
        return torch.full((len(order),), torch.nan, device=order.device)
    rank = order.argsort(dim=-1)  # the inverse permutation: each class's rank
    first = _earlier(order, anchored)[..., :_TOP]
    later = rank[:, 1:].gather(-1, first.expand(-1, rank.shape[1] - 1, -1))
    place = torch.arange(_TOP, device=order.device)
    return (place - later.clamp(max=_TOP)).abs().sum(dim=-1).float().mean(dim=1)


def relative_confidence(log_p: Tensor, labels: Tensor) -> Tensor:
    """p̄(y | x) / max_c p̄(c | x) of each frame, in [0, 1], 1 where it is right: (N, T, C) and (N,) to (N, T)."""
    label = labels[:, None, None].expand(-1, log_p.shape[1], 1)
    return (log_p.gather(-1, label).squeeze(-1) - log_p.amax(dim=-1)).exp()


def _earlier(values: Tensor, anchored: bool) -> Tensor:
    """What frames 1 … T − 1 of (N, T, …) are compared with, broadcast along T where that is frame 0."""
    return values[:, :1] if anchored else values[:, :-1]
