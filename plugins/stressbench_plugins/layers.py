"""The layers that the model family is built from. None of them has a trainable parameter."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stressbench import randomness
from stressbench.errors import UserError

ProbName = Literal["tanh", "relu6", "scale", "none"]

# τ of the paper's experiments, and of its ablation with constant scaling.
TEMPERATURE = 10.0
SCALE_TEMPERATURE = 5.0
# k of the paper's blurs (eq. 8), by its length: the kernel is k ⊗ k over its sum.
FILTERS = {1: (1,), 2: (1, 1), 3: (1, 2, 1), 5: (1, 4, 6, 4, 1)}


class Prob(nn.Module):
    """ReLU(τ·tanh(z/τ)), element by element: activations bounded to [0, τ), almost a ReLU well below the bound τ.

    Takes and returns any shape. Source: Park and Kim, "Blurs behave like ensembles" (2022), where it makes a feature
    map something like a probability, so that averaging neighbours is like averaging an ensemble's predictions.
    Raises `UserError` when τ is not positive and finite.
    """

    def __init__(self, temperature: float = TEMPERATURE) -> None:
        super().__init__()
        if not 0 < temperature < float("inf"):
            raise UserError(f"invalid temperature={temperature}: expected a number above 0, for example 10")
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.temperature * torch.tanh(x / self.temperature))

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"


class Scale(Prob):
    """ReLU(z/τ), the ablation's constant scaling: activations shrunk and not bounded; any shape, in and out."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x / self.temperature)


class Blur(nn.Module):
    """Each channel with the kernel k ⊗ k / sum, for k = (1), (1, 1), (1, 2, 1) or (1, 4, 6, 4, 1) by its length.

    The padding is half of the length, rounded down, on every side: zeros that count, or reflected values. So with
    stride 1 maps (N, C, H, W) keep their size, but for length 2, where they become (N, C, H + 1, W + 1). Source: Park
    and Kim (2022), eq. 8 and table B.2. Raises `UserError` for another length.
    """

    kernel: Tensor

    def __init__(self, length: int = 2, stride: int = 1, reflect: bool = False) -> None:
        super().__init__()
        if length not in FILTERS:
            raise UserError(f"invalid kernel={length}: expected one of {', '.join(map(str, FILTERS))}")
        self.length, self.stride, self.mode = length, stride, "reflect" if reflect else "constant"
        line = torch.tensor(FILTERS[length], dtype=torch.get_default_dtype())
        kernel = torch.outer(line, line)
        # No weight: it moves with the module, and the state dict is the same with and without it.
        self.register_buffer("kernel", (kernel / kernel.sum()).view(1, 1, length, length), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels, pad = x.shape[1], self.length // 2
        padded = F.pad(x, (pad, pad, pad, pad), mode=self.mode)
        return F.conv2d(padded, self.kernel.expand(channels, -1, -1, -1), stride=self.stride, groups=channels)

    def extra_repr(self) -> str:
        return f"length={self.length}, stride={self.stride}, padding={self.mode}"


class Smooth(nn.Sequential):
    """Spatial smoothing, Blur ∘ Prob: (N, C, H, W) to (N, C, H + 1, W + 1), values in [0, τ).

    The paper's ablations (appendix B): `prob` may be `relu6`, bounded to [0, 6], `scale`, ReLU(z/τ) with τ = 5 unless
    it is given, or `none`, and `kernel` the length of the `Blur`, which leaves the size as it is unless it is 2.
    Raises `UserError` for a temperature where `prob` has none, and for values that `Prob` and `Blur` refuse.
    """

    def __init__(self, temperature: float | None = None, prob: ProbName = "tanh", kernel: int = 2) -> None:
        if temperature is not None and prob in ("relu6", "none"):
            raise UserError(f"prob={prob} has no temperature: leave temperature={temperature} out")
        bound: nn.Module
        if prob == "tanh":
            bound = Prob(TEMPERATURE if temperature is None else temperature)
        elif prob == "scale":
            bound = Scale(SCALE_TEMPERATURE if temperature is None else temperature)
        else:
            bound = nn.ReLU6() if prob == "relu6" else nn.Identity()
        super().__init__(bound, Blur(kernel))


class MCDropout(nn.Module):
    """Dropout that stays on after `.eval()`, so that each pass is one draw of the network (Gal and Ghahramani, 2016).

    Zeroes each element of x (N, …) with probability `rate` and divides the rest by 1 − rate. Its random numbers are
    `stressbench.randomness`'s. Raises `UserError` when the rate is not in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise UserError(f"invalid rate={rate}: expected a number from 0 to below 1, for example 0.1")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return randomness.dropout(x, self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


class Normalise(nn.Module):
    """(x − mean) / std for each channel of images (N, 3, H, W) in [0, 1].

    Mean and std belong to the dataset and not to the weights: they move with the module but are not in its state dict.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std
