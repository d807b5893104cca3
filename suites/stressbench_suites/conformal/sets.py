"""Conformal sets of classes: scores, their threshold, and the sets that it makes."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Method = Literal["thr", "aps", "raps"]

PENALTY, FREE_RANKS = 0.1, 1  # of RAPS: λ and k_reg


def scores(probabilities: Tensor, uniform: Tensor, method: Method) -> Tensor:
    """How little each class conforms: probabilities (N, C) and one uniform number an image (N,) to (N, C), float64.

    With π the probabilities in descending order, k the rank of a class and U uniform:

    - `thr`: 1 − p_c (Sadinle et al., 2019);
    - `aps`: Σ_{i≤k} π_i − U·π_k (Romano et al., 2020);
    - `raps`: APS + 0.1·max(0, k − 1) (Angelopoulos et al., 2021, with fixed λ and k_reg).

    >>> p = torch.tensor([[0.50, 0.35, 0.15]], dtype=torch.float64)
    >>> scores(p, torch.zeros(1), "raps")
    tensor([[0.5000, 0.9500, 1.2000]], dtype=torch.float64)
    """
    p = probabilities.double()
    if method == "thr":
        return 1 - p
    ordered, classes = p.sort(dim=-1, descending=True, stable=True)
    found = ordered.cumsum(dim=-1) - uniform.double()[:, None] * ordered
    if method == "raps":
        ranks = torch.arange(1, p.shape[1] + 1, device=p.device)
        found = found + PENALTY * (ranks - FREE_RANKS).clamp(min=0)
    return torch.empty_like(found).scatter_(1, classes, found)


def threshold(own: Tensor, coverage: float) -> float:
    """The ⌈(n + 1)·coverage⌉-th smallest of the true classes' scores (n,); ∞ where that exceeds n.

    A set of all classes with scores up to it holds the true one with at least that probability, for images that are
    exchangeable with those of the scores.

    >>> threshold(torch.tensor([0.05, 0.10, 0.15, 0.20, 0.30, 0.40, 0.55, 0.70, 0.90], dtype=torch.float64), 0.8)
    0.7
    """
    # A product such as 20 · 0.95 may lie above 19 by a rounding error.
    rank = math.ceil(round((len(own) + 1) * coverage, 9))
    return float(own.sort().values[rank - 1]) if rank <= len(own) else math.inf
