"""SRResNet, the generator of SRGAN (Ledig et al., 2017), as Dong et al.'s TensorLayer code builds it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stressbench.contracts import Dataset, Regression
from stressbench.errors import UserError

# Standard deviation of initial weights in the released code, at its width. It would shrink a narrow network's signal
# from layer to layer so far that the network is grey after a short training; such a one begins as torch has it.
_SPREAD, _WIDTH = 0.02, 64


class Residual(nn.Module):
    """x + BN(conv(ReLU(BN(conv(x))))), with 3×3 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return x + inner


class SRResNet(nn.Module):
    """A convolution, residual blocks with a long skip around them, sub-pixel convolutions (×2 each) and tanh.

    Takes images in [0, 1] and returns values in [0, 1] for each of the pixels that the scale makes of one; in between
    both are in [−1, 1]. With a dropout rate, the output of the middle block is dropped in training.
    """

    untrained = True

    def __init__(self, channels: int, scale: int, width: int = _WIDTH, blocks: int = 16, rate: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU())
        self.blocks = nn.ModuleList(Residual(width) for _ in range(blocks))
        self.dropout = nn.Dropout(rate)
        self.merge = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.ReLU())
            for _ in range(scale.bit_length() - 1)
        )
        self.head = nn.Conv2d(width, channels, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and width >= _WIDTH:
                nn.init.normal_(layer.weight, std=_SPREAD)

    def forward(self, images: Tensor) -> Tensor:
        start = x = self.stem(2 * images - 1)
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if number == len(self.blocks) // 2:
                x = self.dropout(x)
        x = self.merge(x) + start
        for up in self.up:
            x = up(x)
        values: Tensor = (torch.tanh(self.head(x)) + 1) / 2
        return values


class SRGAN(SRResNet):
    """The same network, by another name: what tells it apart is its training, with an adversarial loss."""


def srresnet(dataset: Dataset, width: int = _WIDTH, blocks: int = 16, rate: float = 0.0) -> nn.Module:
    """SRResNet for super-resolution, and for any targets in [0, 1]; `rate` is of a dropout in the middle, in training.

    Raises `UserError` for options that are out of range, and for a dataset of another task or scale.
    """
    return SRResNet(*_task("srresnet", dataset, width, blocks, rate), width, blocks, rate)


def srgan(dataset: Dataset, width: int = _WIDTH, blocks: int = 16, rate: float = 0.0) -> nn.Module:
    """SRResNet's network, trained with an adversarial loss beside the squared error.

    Raises `UserError` as `srresnet` does.
    """
    return SRGAN(*_task("srgan", dataset, width, blocks, rate), width, blocks, rate)


def _task(name: str, dataset: Dataset, width: int, blocks: int, rate: float) -> tuple[int, int]:
    """The channels and the scale of the dataset's targets."""
    if width < 1 or blocks < 1:
        raise UserError(f"invalid width={width} or blocks={blocks}: expected 1 or more")
    if not 0 <= rate < 1:
        raise UserError(f"invalid rate={rate}: expected a dropout rate from 0 to below 1")
    task = dataset.task
    if not isinstance(task, Regression):
        raise UserError(
            f"{name} is for super-resolution, and {dataset.name} is for {task.name}: choose another model, or a "
            "super-resolution dataset such as photos"
        )
    if task.scale & (task.scale - 1):
        raise UserError(f"{name} enlarges images 1, 2, 4, … times, and {dataset.name} asks for {task.scale} times")
    return task.channels, task.scale
