"""Eigenvalues of the Hessian of a loss, from products with vectors: the Hessian itself is never formed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stressbench.errors import UserError

TOLERANCE = 1e-3
_MOST_RESTARTS = 30
_MOST_BYTES = 8 * 2**30  # of the vectors that Lanczos' method keeps

Vector = NDArray[np.float32]


class Hessian:
    """The matrix H = ∂²L/∂θ² of a scalar loss, as the function v ↦ H v: (P,) to (P,), float32.

    The graph of the gradient is made once and kept, so that whatever was random in the loss is the same in each
    product, and one product costs about two passes backwards. Raises `UserError` where no parameter reaches the loss.
    """

    def __init__(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self.size = sum(parameter.numel() for parameter in self._parameters)
        if not self._parameters or not loss.requires_grad:
            raise UserError("the loss depends on no weight that can be trained, so that it has no Hessian")
        gradients = torch.autograd.grad(loss, self._parameters, create_graph=True, allow_unused=True)
        # Of a weight that the loss does not depend on, or only linearly, rows and columns are zeros.
        self._curved = [(k, one) for k, one in enumerate(gradients) if one is not None and one.requires_grad]
        self.products = 0

    def __call__(self, vector: NDArray[np.floating]) -> Vector:
        self.products += 1
        device = self._parameters[0].device
        flat = torch.from_numpy(np.asarray(vector, dtype=np.float32).ravel()).to(device)
        parts = torch.split(flat, [parameter.numel() for parameter in self._parameters])
        if not self._curved:
            return np.zeros(self.size, dtype=np.float32)
        products = torch.autograd.grad(
            [one for _, one in self._curved],
            self._parameters,
            [parts[k].view_as(one).to(one.dtype) for k, one in self._curved],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        joined: Vector = torch.cat([one.detach().flatten().float() for one in products]).cpu().numpy()
        return joined


def largest(hessian: Hessian, top: int, start: Vector) -> NDArray[np.float64] | None:
    """The `top` eigenvalues that are largest in magnitude, with their signs, the largest first; None: not converged.

    Lanczos' method with implicit restarts (ARPACK, through SciPy), from the vector `start` (P,). Each eigenvalue's
    residual ‖Hv − λv‖ is at most 10⁻³·|λ| for ‖v‖ = 1, so that an eigenvalue of H is within 0.1 % of it. Raises
    `UserError` where H is too small to have more than `top` eigenvalues.
    """
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    if top >= hessian.size:
        raise UserError(f"top={top} needs more than {hessian.size} weights, which is how many the network has")
    basis = min(hessian.size, max(2 * top + 1, 10))
    _require_room(basis, hessian.size, "top")
    operator = LinearOperator((hessian.size, hessian.size), matvec=hessian, dtype=np.float32)
    try:
        found = eigsh(
            operator,
            k=top,
            which="LM",
            v0=start,
            ncv=basis,
            maxiter=_MOST_RESTARTS,
            tol=TOLERANCE,
            return_eigenvectors=False,
        )
    except ArpackNoConvergence:
        return None
    values = np.sort(np.asarray(found, dtype=np.float64))
    return values[np.argsort(-np.abs(values), kind="stable")]


@dataclass(frozen=True)
class Density:
    """A distribution of eigenvalues: a weight, which sum to 1, at each node."""

    nodes: NDArray[np.float64]
    weights: NDArray[np.float64]


def density(hessian: Hessian, steps: int, start: Vector) -> Density:
    """The spectral density of H by stochastic Lanczos quadrature from one vector `start` (P,) of random signs.

    After m steps with full orthogonalisation the tridiagonal matrix T has the eigenvalues θ_k, which are the nodes, and
    eigenvectors whose first entries, squared, are the weights: Σ_k w_k f(θ_k) = qᵀ f(T) q is exact for polynomials f up
    to degree 2m − 1, and its expectation over the signs is trace f(H) / P (Ghorbani et al., 2019; Yao et al., 2020).
    """
    from scipy.linalg import eigh_tridiagonal

    steps = min(steps, hessian.size)
    _require_room(steps, hessian.size, "steps")
    basis = np.zeros((steps, hessian.size), dtype=np.float32)
    basis[0] = start / np.linalg.norm(start)
    diagonal, beside = [], []
    for k in range(steps):
        product = hessian(basis[k]).astype(np.float64)
        diagonal.append(float(product @ basis[k]))
        for _ in range(2):  # once leaves rounding errors that grow from step to step
            product -= basis[: k + 1].T @ (basis[: k + 1] @ product)
        length = float(np.linalg.norm(product))
        if k + 1 == steps or length < 1e-6 * max(map(abs, diagonal)):  # the space is exhausted
            break
        beside.append(length)
        basis[k + 1] = product / length
    nodes, vectors = eigh_tridiagonal(np.array(diagonal), np.array(beside))
    return Density(nodes, vectors[0] ** 2)


def _require_room(vectors: int, size: int, option: str) -> None:
    if 4 * vectors * size > _MOST_BYTES:
        raise UserError(
            f"Lanczos' method would keep {vectors} vectors of {size:,} numbers, more than {_MOST_BYTES >> 30} GiB: "
            f"specify a smaller {option}"
        )
