"""A Laplace approximation of a network's last layer: `laplace:MODEL` (Daxberger et al., 2021).

The last layer's weights W* are taken for the mode of a posterior N(W*, (H + λI)⁻¹). H is the generalised Gauss–Newton
matrix of the summed training NLL in W, by Kronecker factors (Ritter et al., 2018):

    H = Σ_n (diag p_n − p_n p_nᵀ) ⊗ h_n h_nᵀ ≈ B ⊗ A,   B = Σ_n (diag p_n − p_n p_nᵀ),   A = (1/N) Σ_n h_n h_nᵀ

with h_n the layer's input and a 1 for the bias. The prior precision λ maximises the marginal likelihood unless it is
given. A draw has the logits z + S^½ ε of the linear model, N(z, S) with S = Jᵀ (H + λI)⁻¹ J; each image has its own ε.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from stressbench import passes, randomness
from stressbench.contracts import Dataset, traits
from stressbench.errors import UserError
from stressbench.locations import locate
from stressbench.registry import ModelName
from stressbench.spec import Spec
from stressbench_plugins.calibrated import Calibrated
from stressbench_plugins.training_free import Wrapper, wrap

DRAWS = 20
_BATCH = 250
_LOWEST, _HIGHEST = 1e-4, 1e8  # prior precisions that are tried


class LastLayerLaplace(Wrapper):
    """A network whose logits have the covariance that the training images leave its last layer."""

    fitted_on = "train"
    default_draws = DRAWS
    inputs: Tensor
    """Eigenvectors of A, (D, D)."""
    outputs: Tensor
    """Eigenvectors of B, (C, C)."""
    variances: Tensor
    """Of each pair of them, 1 / (ab + λ) with the eigenvalues a and b, (C, D)."""

    def __init__(self, model: nn.Module, spec: str, image_size: tuple[int, int], precision: float | None) -> None:
        """Raises `UserError` for a stochastic network, and for one whose logits are not those of a linear layer."""
        super().__init__(model, spec)
        if traits(model).stochastic:
            raise UserError(f"laplace needs a deterministic network and {spec} has draws: wrap what is inside of it")
        if any(isinstance(inner, Calibrated) and inner.map is not None for inner in model.modules()):
            raise UserError(
                f"laplace needs logits that are a linear layer's and {spec} maps them: calibrate outside of it, as "
                "calibrated:laplace:MODEL"
            )
        self._place = locate(model, image_size, "4")
        self._layer = self._place.call.name
        layer = self._place.call.module
        if not isinstance(layer, nn.Linear) or self._place.shape is None or len(self._place.shape) != 1:
            raise UserError(f"laplace needs a network that ends with a linear layer: {spec} ends with {self._place}")
        self._precision = precision
        width, classes = layer.in_features + (layer.bias is not None), layer.out_features
        self.register_buffer("inputs", torch.eye(width))
        self.register_buffer("outputs", torch.eye(classes))
        self.register_buffer("variances", torch.full((classes, width), 1 / width))
        # Before any training, though with initial weights.
        with passes.evaluating(model):
            self._require_linear(*self._pass(torch.full((1, 3, *image_size), 0.5)))

    def forward(self, images: Tensor) -> Tensor:
        logits, deviations = self._linear(images)
        return self._drawn(logits, deviations)

    def draws(self, images: Tensor, n: int) -> Tensor:
        logits, deviations = self._linear(images)
        draws = []
        for index in range(n):
            with randomness.redraw(index):
                draws.append(self._drawn(logits, deviations))
        return torch.stack(draws)

    def covariance(self, images: Tensor) -> Tensor:
        """Of the logits, (N, C, C)."""
        deviations = self._linear(images)[1]
        return torch.einsum("ci,ni,di->ncd", self.outputs, deviations**2, self.outputs)

    def _drawn(self, logits: Tensor, deviations: Tensor) -> Tensor:
        return logits + (deviations * randomness.normal_like(deviations)) @ self.outputs.T

    def _linear(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, C), and the standard deviation along each of `outputs`, (N, C)."""
        features, logits = self._pass(images)
        return logits, ((features @ self.inputs) ** 2 @ self.variances.T).sqrt()

    def _pass(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The last layer's input with a 1 for its bias, (N, D), and the logits."""
        seen: list[Tensor] = []

        def keep(value: Tensor) -> Tensor:
            seen.append(value)
            return value

        logits = passes.changed(self.model, images, self._place, keep)
        (features,) = seen
        ones = features.new_ones(len(features), self.inputs.shape[0] - features.shape[1])
        return torch.cat([features, ones], dim=1).float(), logits

    def fit(self, data: Dataset) -> str:
        """Find the posterior from training images; raises `UserError` where the logits are not the last layer's."""
        device, total = self.inputs.device, len(data.images)
        inner = torch.zeros(self.inputs.shape, dtype=torch.float64, device=device)
        outer = torch.zeros(self.outputs.shape, dtype=torch.float64, device=device)
        for start in range(0, total, _BATCH):
            features, logits = self._of(data, start)
            self._require_linear(features, logits)
            p = logits.softmax(dim=1)
            inner += features.T @ features / total
            outer += p.sum(dim=0).diag() - p.T @ p
        a, inputs = torch.linalg.eigh(inner)
        b, outputs = torch.linalg.eigh(outer)
        curvature = b.clamp(min=0)[:, None] * a.clamp(min=0)
        precision = self._precision or prior_precision(curvature.cpu().numpy(), float((self._weight() ** 2).sum()))
        self.restore({"inputs": inputs, "outputs": outputs, "variances": 1 / (curvature + precision)})
        return f"Laplace with prior precision {precision:.4g}, fitted on {total:,} training images"

    @property
    def fit_version(self) -> str:
        return f"1 precision={self._precision}"

    def evidence(self, data: Dataset) -> Tensor:
        return torch.cat(self._of(data, 0), dim=1)

    def found(self) -> Mapping[str, Tensor]:
        return {"inputs": self.inputs, "outputs": self.outputs, "variances": self.variances}

    def restore(self, found: Mapping[str, Tensor]) -> None:
        for name, tensor in found.items():
            getattr(self, name).copy_(tensor)

    def _of(self, data: Dataset, start: int) -> tuple[Tensor, Tensor]:
        """Features and logits of a batch of a split's images from `start` on, float64."""
        self.eval()
        images = data.images.read(start, min(start + _BATCH, len(data.images))).to(self.inputs.device) / 255
        with torch.no_grad():
            features, logits = self._pass(images)
        return features.double(), logits.double()

    def _require_linear(self, features: Tensor, logits: Tensor) -> None:
        if not torch.allclose(features.double() @ self._weight().T, logits.double(), rtol=1e-3, atol=1e-3):
            raise UserError(f"laplace needs logits that are a linear layer's: {self._spec} changes them")

    def _weight(self) -> Tensor:
        """The last layer's weights with the bias as the last column, (C, D), float64."""
        layer = self.model.get_submodule(self._layer)
        assert isinstance(layer, nn.Linear), "checked when it was found"
        columns = [layer.weight] if layer.bias is None else [layer.weight, layer.bias[:, None]]
        return torch.cat([column.detach() for column in columns], dim=1).double()


def prior_precision(curvature: np.ndarray, square: float) -> float:
    """The λ that maximises the marginal likelihood, with the eigenvalues of H and the weights' squared norm.

    Without what does not depend on λ its logarithm is ½ (P log λ − λ‖W*‖² − Σ log(curvature + λ)) for P weights.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_precision: float) -> float:
        precision = math.exp(log_precision)
        return square * precision + float(np.log1p(curvature / precision).sum())

    bounds = (math.log(_LOWEST), math.log(_HIGHEST))
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-8}).x)


def laplace(dataset: Dataset, argument: ModelName, precision: float | None = None) -> nn.Module:
    """Draws from a Gaussian posterior of the last layer, which is fitted to the training images.

    `precision` is the prior's, of all weights alike; without it, it maximises the marginal likelihood. Of an ensemble
    it is the ensemble of its members' posteriors.
    """
    if precision is not None and not 0 < precision < math.inf:
        raise UserError(f"invalid precision={precision}: expected a number above 0, for example 100")
    options = {} if precision is None else {"precision": str(precision)}
    spec = Spec("laplace", argument, options)
    return wrap(dataset, spec, lambda m, s: LastLayerLaplace(m, s, dataset.image_size, precision))
