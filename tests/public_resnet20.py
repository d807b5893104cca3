"""A public CIFAR-10 network that nobody here trained: the option-A ResNet-20 of He et al. (2016), section 4.2.

Its parameters have the names that the widely used public weights have, below their "module." prefix.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stressbench import registry, weights
from stressbench.contracts import Dataset
from stressbench_plugins.layers import Normalise


class Block(nn.Module):
    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.stride = stride
        self.added = planes - channels

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        # Option A: the shortcut takes every second pixel, and zeros for the new channels, half on each side.
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.added // 2, self.added // 2))
        return F.relu(y + shortcut)


class ResNet20(nn.Module):
    untrained = True

    def __init__(self, classes: int) -> None:
        super().__init__()
        # The public weights were trained with ImageNet's mean and std.
        self.normalise = Normalise((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(Block(16, 16, 1), Block(16, 16, 1), Block(16, 16, 1))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.linear = nn.Linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(self.normalise(images))))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(dim=(2, 3)))


def resnet20(dataset: Dataset) -> nn.Module:
    return ResNet20(dataset.classes)


def trained(shared: Path, device: str) -> tuple[nn.Module, Dataset]:
    """The network with its public weights, ready on a device, and the test images, from the folder that has both."""
    dataset = registry.dataset("cifar10", "test", shared / "data" / "cifar10")
    net = resnet20(dataset)
    weights.load(net, shared / "weights" / "cifar10_resnet20_public.th")
    return net.eval().to(device, memory_format=torch.channels_last), dataset
