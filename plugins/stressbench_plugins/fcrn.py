"""FCRN, a ResNet encoder with an up-projection decoder for depth from one image (Laina et al., 2016)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from stressbench.contracts import Dataset, Regression
from stressbench.errors import UserError
from stressbench_plugins.layers import MCDropout, Normalise

Encoder = Literal["resnet18", "resnet34", "resnet50"]

DRAWS = 8  # of MC dropout; the training-free paper has 2 and 8
_STAGES = 4  # of the decoder, each twice as large as the one before with half its channels


class UpProjection(nn.Module):
    """A map (N, C, H, W) twice as high and wide, with half the channels: a residual block after unpooling.

    Unpooling puts each value into the first of 2×2 pixels, and zeros into the others.
    """

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        corner = torch.zeros(channels, 1, 2, 2)
        corner[:, :, 0, 0] = 1
        self.register_buffer("kernel", corner, persistent=False)
        self.conv1, self.norm1 = nn.Conv2d(channels, half, 5, padding=2, bias=False), nn.BatchNorm2d(half)
        self.conv2, self.norm2 = nn.Conv2d(half, half, 3, padding=1, bias=False), nn.BatchNorm2d(half)
        self.shortcut = nn.Conv2d(channels, half, 5, padding=2, bias=False)
        self.norm = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv_transpose2d(x, self.kernel, stride=2, groups=x.shape[1])
        inner = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(inner)) + self.norm(self.shortcut(x)))


class FCRN(nn.Module):
    """torchvision's ResNet without its head, a 1×1 convolution to half the channels, four up-projections, and a 3×3.

    The last map is half as large as the image, up to rounding, and enlarged to the image's size bilinearly.
    """

    untrained = True

    def __init__(self, dataset: Dataset, task: Regression, encoder: Encoder, dropout: nn.Module) -> None:
        super().__init__()
        network = getattr(torchvision.models, encoder)(weights=None)
        channels = network.fc.in_features
        self.normalise = Normalise(dataset.mean, dataset.std)
        self.stem = nn.Sequential(network.conv1, network.bn1, network.relu)
        self.pool = network.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            network.layer1,
            network.layer2,
            network.layer3,
            network.layer4,
        )
        self.bottleneck = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 1, bias=False), nn.BatchNorm2d(channels // 2)
        )
        self.up = nn.ModuleList(UpProjection(channels // 2 ** (1 + stage)) for stage in range(_STAGES))
        self.dropout = dropout
        self.head = nn.Conv2d(channels // 2 ** (1 + _STAGES), task.channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(self.stem(self.normalise(images)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.bottleneck(x)
        for up in self.up:
            x = up(x)
        values = self.head(self.dropout(x))
        return F.interpolate(values, size=images.shape[-2:], mode="bilinear", align_corners=False)


class MCDropoutFCRN(FCRN):
    stochastic = True
    default_draws = DRAWS


def fcrn(dataset: Dataset, encoder: Encoder = "resnet50", rate: float = 0.5) -> nn.Module:
    """FCRN as it was published; `rate` is of the dropout before the last convolution, in training.

    Raises `UserError` for a rate out of range, and for a dataset that has no value for each of the images' pixels.
    """
    return FCRN(dataset, _task("fcrn", dataset, rate), encoder, nn.Dropout(rate))


def fcrn_mcdo(dataset: Dataset, encoder: Encoder = "resnet50", rate: float = 0.5) -> nn.Module:
    """FCRN whose dropout before the last convolution stays on.

    Raises `UserError` as `fcrn` does.
    """
    return MCDropoutFCRN(dataset, _task("fcrn-mcdo", dataset, rate), encoder, MCDropout(rate))


def _task(name: str, dataset: Dataset, rate: float) -> Regression:
    if not 0 <= rate < 1:
        raise UserError(f"invalid rate={rate}: expected a dropout rate from 0 to below 1")
    task = dataset.task
    if not isinstance(task, Regression) or task.scale != 1:
        raise UserError(
            f"{name} predicts values for the images' own pixels, and {dataset.name} is for {task.name}: choose another "
            "model, or a depth dataset such as scenes-depth"
        )
    return task
