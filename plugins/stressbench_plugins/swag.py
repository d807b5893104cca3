"""SWAG: networks from a Gaussian around the path of SGD (Maddox et al., 2019): `swag:MODEL`.

It is trained as the network inside it is, by a constant learning rate from that one's trained weights:

    bench train --model swag:NET --start NET --recipe short,epochs=20,schedule=steps,warmup=0,learning_rate=0.01

At the end of each epoch, when training stops for the measuring, the weights θ are collected: their running mean θ̄, the
mean of their squares and the last 20 deviations θ − θ̄, each from the mean at that time, the columns of D. Draw s is the
network with the weights

    θ̄ + √½ (√(mean of squares − θ̄²) ⊙ ε₁ + D ε₂ / √(K − 1)),   K = 20

whose batch normalisation has the statistics of training images under them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from stressbench import randomness, registry
from stressbench.contracts import Composite, Dataset, traits
from stressbench.errors import UserError
from stressbench.registry import ModelName

RANK = 20
SAMPLES = 10
_SMALLEST = 1e-30  # variance
_IMAGES, _BATCH = 2000, 200  # that batch normalisation sees under each sample


class Swag(nn.Module):
    """The network while it is trained, and samples from around its path once it is fitted."""

    untrained = True
    stochastic = True
    fitted_on = "train"
    mean: Tensor
    """θ̄, (P,)."""
    square: Tensor
    """The mean of the squares, (P,)."""
    deviations: Tensor
    """The last 20, (20, P), zeros where there are fewer: collection n is in row n mod 20."""
    collected: Tensor
    """How many weights were collected, ()."""
    statistics: Tensor
    """Of each sample, the means and variances of all batch normalisations, (samples, Q)."""

    def __init__(self, model: nn.Module, spec: str, samples: int) -> None:
        """Raises `UserError` for a model that is made of models, stochastic, or comes with weights of its own."""
        super().__init__()
        own = traits(model)
        if isinstance(model, Composite) or own.stochastic or not own.untrained:
            raise UserError(f"swag needs a deterministic network that bench train can train, and {spec} is not one")
        self.model = model
        self.default_draws = self.max_draws = samples
        self._spec, self._passes, self._fitted = spec, 0, False
        size = sum(parameter.numel() for parameter in model.parameters())
        for name, shape in (("mean", (size,)), ("square", (size,)), ("deviations", (RANK, size))):
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("collected", torch.zeros((), dtype=torch.int64))
        moments = sum(buffer.numel() for buffer in self._moments().values())
        self.register_buffer("statistics", torch.zeros(samples, moments))
        self.register_load_state_dict_pre_hook(_begun)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> Swag:
        """Collects the weights when a training that made passes is over, or stops to be measured."""
        if not mode and self.training and self._passes:
            self._passes = 0
            self.collect()
        return super().train(mode)

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self._passes += 1
        if self.training or not self._fitted:
            logits: Tensor = self.model(images)
            return logits
        index = randomness.draw_index() % len(self.statistics)
        found: Tensor = functional_call(self.model, {**self._weights(index), **self._norms(index)}, (images,))
        return found

    @torch.no_grad()
    def collect(self) -> None:
        """Take the present weights into the moments."""
        weights = torch.cat([parameter.detach().flatten() for parameter in self.model.parameters()]).float()
        n = int(self.collected)
        self.mean.mul_(n).add_(weights).div_(n + 1)
        self.square.mul_(n).add_(weights**2).div_(n + 1)
        self.deviations[n % RANK] = weights - self.mean
        self.collected += 1

    def sample(self, generator: torch.Generator) -> Tensor:
        """Weights from the Gaussian, (P,)."""
        own, shared = (torch.randn(n, generator=generator).to(self.mean) for n in (len(self.mean), RANK))
        deviation = (self.square - self.mean**2).clamp(min=_SMALLEST).sqrt()
        sampled: Tensor = self.mean + (deviation * own + shared @ self.deviations / (RANK - 1) ** 0.5) / 2**0.5
        return sampled

    def fit(self, data: Dataset) -> str:
        """Let the batch normalisations of each sample see training images; raises `UserError` for an untrained one."""
        self._require_path()
        self._fitted = True
        norms = [m for m in self.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        norms = [norm for norm in norms if norm.running_mean is not None]
        order = torch.arange(0, len(data.images), max(1, len(data.images) // _IMAGES))[:_IMAGES]
        batches = [
            torch.stack([data.images.read(int(i), int(i) + 1)[0] for i in part]) for part in torch.split(order, _BATCH)
        ]
        before = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        rates = [norm.momentum for norm in norms]
        self.eval()
        with torch.no_grad():
            for index in range(len(self.statistics) if norms else 0):
                weights = self._weights(index)
                for norm in norms:
                    norm.reset_running_stats()
                    norm.momentum = None  # the mean over batches
                    norm.train()
                for batch in batches:
                    functional_call(self.model, weights, (batch.to(self.mean.device) / 255,))
                self.statistics[index] = torch.cat([buffer.flatten() for buffer in self._moments().values()])
        for norm, rate in zip(norms, rates, strict=True):
            norm.momentum = rate
            norm.eval()
        for name, buffer in self.model.named_buffers():
            buffer.copy_(before[name])
        seen = f" and the statistics of {len(order):,} training images" if norms else ""
        return f"SWAG of {int(self.collected)} epochs, {len(self.statistics)} samples{seen}"

    @property
    def fit_version(self) -> str:
        return f"1 samples={len(self.statistics)}"

    def evidence(self, data: Dataset) -> Tensor:
        self._require_path()
        self.eval()
        with torch.no_grad():
            logits: Tensor = self.model(data.images.read(0, min(_BATCH, len(data.images))) / 255)
        return logits

    def found(self) -> Mapping[str, Tensor]:
        return {"statistics": self.statistics}

    def restore(self, found: Mapping[str, Tensor]) -> None:
        self.statistics.copy_(found["statistics"])
        self._fitted = True

    def _require_path(self) -> None:
        if self.collected < 2:
            raise UserError(
                f"swag:{self._spec} has the weights of {int(self.collected)} epochs: train it for more, beginning with "
                f"--start {self._spec}"
            )

    def _weights(self, index: int) -> dict[str, Tensor]:
        """A sample's parameters, by name."""
        generator = torch.Generator().manual_seed(randomness.derive("swag", index))
        return _parted(self.sample(generator), dict(self.model.named_parameters()))

    def _norms(self, index: int) -> dict[str, Tensor]:
        return _parted(self.statistics[index], self._moments())

    def _moments(self) -> dict[str, Tensor]:
        """The running means and variances of the network, by name."""
        return {
            name: buffer
            for name, buffer in self.model.named_buffers()
            if name.endswith(("running_mean", "running_var"))
        }


def _parted(flat: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    parts = torch.split(flat, [tensor.numel() for tensor in like.values()])
    return {name: part.view(own.shape) for (name, own), part in zip(like.items(), parts, strict=True)}


def _begun(module: nn.Module, given: dict[str, Tensor], *_: object) -> None:
    """Weights of the network alone begin a training: nothing is collected then."""
    own = module.state_dict()
    names = {f"model.{name}": tensor for name, tensor in given.items()}
    if not own.keys() & given.keys() and names.keys() <= own.keys():
        given.clear()
        given.update(names)
        given.update({name: torch.zeros_like(own[name]) for name in own if not name.startswith("model.")})


def swag(dataset: Dataset, argument: ModelName, samples: int = SAMPLES) -> nn.Module:
    """A network whose weights are drawn from around the end of its training; `samples` is how many there are.

    It has weights of its own, which `bench train --start MODEL` makes from MODEL's.
    """
    if samples < 2:
        raise UserError(f"invalid samples={samples}: expected 2 or more")
    return Swag(registry.model(argument, dataset), argument, samples)
