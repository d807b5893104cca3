"""The layers that the model family is built from. None of them has a trainable parameter."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stressbench import randomness
from stressbench.errors import UserError

# τ of the paper's experiments.
TEMPERATURE = 10.0


class Prob(nn.Module):
    """ReLU(τ·tanh(z/τ)), element by element: activations bounded to [0, τ), almost a ReLU well below the bound τ.

    Takes and returns any shape. Source: Park and Kim, "Blurs behave like ensembles" (2022), where it makes a feature
    map something like a probability, so that averaging neighbours is like averaging an ensemble's predictions.
    Raises `UserError` when τ is not positive and finite.
    """

    def __init__(self, temperature: float = TEMPERATURE) -> None:
        super().__init__()
        if not 0 < temperature < float("inf"):
            raise UserError(f"temperature={temperature} is not a bound for activations; give a number above 0, say 10")
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.temperature * torch.tanh(x / self.temperature))

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"


class Blur(nn.AvgPool2d):
    """The 2×2 average with stride 1 and zero padding 1, whose zeros count: (N, C, H, W) to (N, C, H + 1, W + 1)."""

    def __init__(self) -> None:
        super().__init__(kernel_size=2, stride=1, padding=1, count_include_pad=True)


class Smooth(nn.Sequential):
    """Spatial smoothing, Blur ∘ Prob: (N, C, H, W) to (N, C, H + 1, W + 1), values in [0, τ)."""

    def __init__(self, temperature: float = TEMPERATURE) -> None:
        super().__init__(Prob(temperature), Blur())


class MCDropout(nn.Module):
    """Dropout that stays on after `.eval()`, so that each pass is one draw of the network (Gal and Ghahramani, 2016).

    Zeroes each element of x (N, …) with probability `rate` and divides the rest by 1 − rate. Its random numbers are
    `stressbench.randomness`'s. Raises `UserError` when the rate is not in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise UserError(f"rate={rate} is not a dropout rate; give a number from 0 to below 1, say 0.1")
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
