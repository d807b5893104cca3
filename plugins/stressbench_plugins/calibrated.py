"""Probabilities of any classifier, corrected by what held-out test images say: calibration after training.

A map with few parameters is fitted on the `calibration` images of `stressbench.held_out`, once the network has its
weights; the score is then of other images. Where a model has draws, each draw is mapped by itself: temperature and
vector scaling minimise the NLL of the mean probability, the other two are fitted on all draws as if each were an image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stressbench import metrics, randomness, registry
from stressbench.contracts import Dataset, traits
from stressbench.registry import ModelName
from stressbench.sampling import sample
from stressbench.spec import parse
from stressbench_plugins.training_free import Wrapper

Method = Literal["temperature", "vector", "isotonic", "histogram", "none"]

_BATCH = 100
_LOWEST, _HIGHEST = 0.05, 20.0  # temperatures
_BINS = 10
_FLOOR = 1e-7  # of probabilities that a map sets to 0: a wrong answer has a finite NLL


class Map(nn.Module):
    """Logits (N, C) to logits, as buffers say that `fit` fills."""

    def __init__(self, classes: int) -> None:
        super().__init__()

    def fit(self, logits: Tensor, labels: Tensor) -> str:
        """Learn from logits (S, N, C), float64, of S draws for images with labels (N,); returns what was found."""
        raise NotImplementedError


class Temperature(Map):
    """softmax(z / T): the prediction stays as it is (Guo et al., 2017)."""

    temperature: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, logits: Tensor) -> Tensor:
        return logits / self.temperature

    def fit(self, logits: Tensor, labels: Tensor) -> str:
        from scipy.optimize import minimize_scalar

        def loss(log_temperature: float) -> float:
            return _mean_nll(logits / math.exp(log_temperature), labels)

        bounds = (math.log(_LOWEST), math.log(_HIGHEST))
        found = math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9}).x)
        self.temperature.fill_(found)
        at_bound = min(found / _LOWEST, _HIGHEST / found) < 1.001
        return f"temperature {found:.4g}" + (", the end of what was tried" if at_bound else "")


class Vector(Map):
    """softmax(w ⊙ z + b): a factor and a bias for each class, which may change the prediction (Guo et al., 2017)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.register_buffer("weight", torch.ones(classes))
        self.register_buffer("bias", torch.zeros(classes))

    def forward(self, logits: Tensor) -> Tensor:
        return _scaled(logits, self.weight, self.bias)

    def fit(self, logits: Tensor, labels: Tensor) -> str:
        from scipy.optimize import minimize

        classes = logits.shape[-1]

        def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
            point = torch.tensor(values, requires_grad=True)
            with torch.enable_grad():
                scaled = _scaled(logits, point[:classes], point[classes:])
                own = scaled.log_softmax(dim=-1).gather(-1, labels.expand(len(logits), -1)[..., None])
                nll = math.log(len(logits)) - own.logsumexp(dim=0).mean()
                (gradient,) = torch.autograd.grad(nll, point)
            return float(nll.detach()), gradient.numpy()

        start = np.concatenate([np.ones(classes), np.zeros(classes)])
        found = torch.from_numpy(minimize(loss, start, jac=True, method="L-BFGS-B").x)
        self.weight.copy_(found[:classes])
        self.bias.copy_(found[classes:])
        return "a factor and a bias a class"


class Histogram(Map):
    """p_c becomes the share of images of class c among those with p_c in the same of ten bins (a, b], or its centre.

    (Zadrozny and Elkan, 2001.) The mapped probabilities of an image are divided by their sum.
    """

    edges: Tensor
    values: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.register_buffer("edges", torch.arange(1, _BINS) / _BINS)
        self.register_buffer("values", ((torch.arange(_BINS) + 0.5) / _BINS).repeat(classes, 1))

    def forward(self, logits: Tensor) -> Tensor:
        bins = torch.bucketize(logits.softmax(dim=-1), self.edges)
        return _normalised(self.values.T.gather(0, bins))

    def fit(self, logits: Tensor, labels: Tensor) -> str:
        p, own = _by_class(logits, labels)
        bins = torch.bucketize(p, self.edges.double())
        counts = torch.zeros_like(self.values, dtype=torch.float64).scatter_add_(1, bins, torch.ones_like(p))
        hits = torch.zeros_like(counts).scatter_add_(1, bins, own)
        self.values.copy_(torch.where(counts > 0, hits / counts.clamp(min=1), self.values.double()))
        return f"{_BINS} bins a class"


class Isotonic(Map):
    """p_c becomes the non-decreasing function of p_c that is nearest to [y = c] in squares (Zadrozny and Elkan, 2002).

    As scikit-learn's, it is linear between its points and constant outside of them. The mapped probabilities of an
    image are divided by their sum.
    """

    x: Tensor
    y: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.register_buffer("x", torch.tensor([0.0, 1.0]).repeat(classes, 1))
        self.register_buffer("y", torch.tensor([0.0, 1.0]).repeat(classes, 1))

    def forward(self, logits: Tensor) -> Tensor:
        p = logits.softmax(dim=-1).T.contiguous()
        right = torch.searchsorted(self.x, p).clamp(1, self.x.shape[1] - 1)
        x0, x1 = self.x.gather(1, right - 1), self.x.gather(1, right)
        y0, y1 = self.y.gather(1, right - 1), self.y.gather(1, right)
        part = ((p - x0) / (x1 - x0).clamp(min=1e-12)).clamp(0, 1)
        return _normalised((y0 + part * (y1 - y0)).T)

    def fit(self, logits: Tensor, labels: Tensor) -> str:
        from sklearn.isotonic import IsotonicRegression

        curves = []
        for p, own in zip(*_by_class(logits, labels), strict=True):
            fitted = IsotonicRegression(y_min=0, y_max=1).fit(p.numpy(), own.numpy())
            curves.append((torch.from_numpy(fitted.X_thresholds_), torch.from_numpy(fitted.y_thresholds_)))
        longest = max(2, *(len(x) for x, _ in curves))
        self.x, self.y = (
            torch.stack([torch.cat([of[i], of[i][-1:].expand(longest - len(of[i]))]) for of in curves]).float()
            for i in (0, 1)
        )
        return "a curve a class"


_MAPS: dict[str, type[Map]] = {
    "temperature": Temperature,
    "vector": Vector,
    "histogram": Histogram,
    "isotonic": Isotonic,
}


class Calibrated(Wrapper):
    """Each draw of a model through a map of its logits."""

    fitted_on = "calibration"

    def __init__(self, model: nn.Module, spec: str, dataset: Dataset, method: Method) -> None:
        super().__init__(model, spec)
        own = traits(model)
        self.stochastic, self.default_draws, self.max_draws = own.stochastic, own.default_draws, own.max_draws
        self.map = None if method == "none" else _MAPS[method](dataset.classes)

    def forward(self, images: Tensor) -> Tensor:
        return self._mapped(self.model(images))

    def draws(self, images: Tensor, n: int) -> Tensor:
        return self._mapped(torch.stack(sample(self.model, images, n)))

    def _mapped(self, logits: Tensor) -> Tensor:
        return logits if self.map is None else self.map(logits.flatten(0, -2)).view(logits.shape)

    def fit(self, data: Dataset) -> str:
        total = len(data.images)
        if self.map is None:
            return f"nothing fitted on {total:,} held-out images"
        logits = torch.cat([self._logits(data, start) for start in range(0, total, _BATCH)], dim=1)
        with torch.no_grad():
            fitted = self.map.fit(logits, data.labels)
        return f"{fitted}, fitted on {total:,} held-out images"

    @property
    def fit_version(self) -> str | None:
        return None if self.map is None else f"1 {type(self.map).__name__}"

    def evidence(self, data: Dataset) -> Tensor:
        return self._logits(data, 0)

    def found(self) -> Mapping[str, Tensor]:
        return {} if self.map is None else self.map.state_dict()

    def restore(self, found: Mapping[str, Tensor]) -> None:
        for name, tensor in found.items():
            setattr(self.map, name, tensor)

    def _logits(self, data: Dataset, start: int) -> Tensor:
        """Of all draws for a batch of a split's images from `start` on, (S, N, C), float64."""
        self.eval()
        images = data.images.read(start, min(start + _BATCH, len(data.images))) / 255
        indices = torch.arange(start, start + len(images))
        keys = randomness.image_keys(randomness.derive("calibration"), indices)
        with torch.no_grad(), torch.random.fork_rng([]), randomness.draw(keys, 0):
            return torch.stack(sample(self.model, images, traits(self.model).draws())).double()


def calibrated(dataset: Dataset, argument: ModelName, method: Method = "temperature") -> nn.Module:
    """Calibrates a model on a tenth of the test images, and is scored on others.

    `temperature` divides logits by a number; `vector` has a factor and a bias for each class; `isotonic` and
    `histogram` map each class's probabilities. `none` maps nothing and leaves out the same images, to compare with.
    """
    inner = str(parse(argument))
    return Calibrated(registry.model(inner, dataset), inner, dataset, method)


def _mean_nll(logits: Tensor, labels: Tensor) -> float:
    """Of the mean probability of draws (S, N, C)."""
    log_p = metrics.log_mean_probability(logits.log_softmax(dim=-1))
    return float(metrics.negative_log_likelihood(log_p, labels).mean())


def _scaled(logits: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """w ⊙ z + b; a class that the model rules out by −∞ stays so, whatever w is."""
    out = logits.isneginf()
    return (logits.masked_fill(out, 0) * weight + bias).masked_fill(out, -math.inf)


def _by_class(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The probabilities and the truths of each class over all draws of all images: (C, S·N) each, float64."""
    classes = logits.shape[-1]
    own = F.one_hot(labels, classes).double().repeat(len(logits), 1)
    return logits.softmax(dim=-1).flatten(0, 1).T.contiguous(), own.T.contiguous()


def _normalised(p: Tensor) -> Tensor:
    """Log-probabilities from mapped ones, (N, C)."""
    p = p.clamp(min=_FLOOR)
    return (p / p.sum(dim=-1, keepdim=True)).log()
