"""Predictions of consecutive video frames."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor


def over_time(log_p: Tensor, recordings: Tensor, weights: Sequence[float]) -> Tensor:
    """log Σ_k w_k p_{t−k}, of log-probabilities (F, …) of consecutive frames, newest weight first.

    Frames of another recording, or before the first, do not count: the weights of the others are divided by their sum.

    >>> p = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    >>> over_time(p.log(), torch.tensor([0, 0, 1]), (0.75, 0.25)).exp()
    tensor([[0.5000, 0.5000],
            [0.8000, 0.2000],
            [0.2000, 0.8000]])
    """
    if len(weights) == 1:
        return log_p
    shape = (-1, *[1] * (log_p.ndim - 1))
    total, mean = torch.zeros(len(log_p), device=log_p.device), torch.full_like(log_p, -inf)
    for age, weight in enumerate(weights[: len(log_p)]):
        newer, older = slice(age, None), slice(None, len(log_p) - age)
        share = weight * (recordings[newer] == recordings[older]).float()
        total[newer] += share
        mean[newer] = torch.logaddexp(mean[newer], share.log().view(shape) + log_p[older])
    return mean - total.log().view(shape)


def unchanged(predicted: Tensor, recordings: Tensor) -> tuple[Tensor, Tensor]:
    """How many pixels of each frame have the class of the frame before it, and how many were compared, (F,) each.

    `predicted` are the classes (F, P) of consecutive frames; the first frame of a recording has 0 of 0.

    >>> unchanged(torch.tensor([[1, 2, 3], [1, 2, 2], [1, 2, 2]]), torch.tensor([0, 0, 1]))
    (tensor([0, 2, 0]), tensor([0, 3, 0]))
    """
    follows = torch.zeros_like(recordings, dtype=torch.bool)
    follows[1:] = recordings[1:] == recordings[:-1]
    same = torch.zeros_like(recordings)
    same[1:] = (predicted[1:] == predicted[:-1]).sum(dim=1)
    return same * follows, follows * predicted.shape[1]
