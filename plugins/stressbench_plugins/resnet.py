"""ResNet (He et al., 2016), on torchvision's network, so that its published ImageNet weights fit every variant here.

What differs: the input is normalised inside; small images (see `variants.large`) get the CIFAR stem, a 3×3 convolution
with stride 1 and no pooling; `Smooth` may follow each of the four stages, and MC dropout may sit in every block before
its last convolution. The head is global average pooling and one linear layer. Convolutions start from He's normal
distribution (fan-out), batch normalisation from scale 1 and shift 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torchvision.models import resnet

from stressbench.contracts import Dataset
from stressbench_plugins.layers import MCDropout, Normalise, Smooth
from stressbench_plugins.variants import Variant, large, variants


class BasicBlock(resnet.BasicBlock):  # type: ignore[misc]  # torchvision is not typed
    """Two 3×3 convolutions and a shortcut; dropout comes before the last convolution."""

    dropout: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(self.dropout(y)))
        return _joined(self, x, y)


class Bottleneck(resnet.Bottleneck):  # type: ignore[misc]  # torchvision is not typed
    """1×1, 3×3 and 1×1 convolutions and a shortcut; dropout comes before the last convolution."""

    dropout: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(self.dropout(y)))
        return _joined(self, x, y)


class ResNet(resnet.ResNet):  # type: ignore[misc]  # torchvision is not typed
    """Images (N, 3, H, W) in [0, 1] to logits (N, classes).

    `depths` is the number of blocks in each of the four stages. `groups` and `width` are the groups of each block's
    inner convolution and their channels for every 64 of the stage: 32 and 4 make a ResNeXt, 1 and 128 a WideResNet.
    """

    untrained = True

    def __init__(
        self,
        dataset: Dataset,
        variant: Variant,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        groups: int = 1,
        width: int = 64,
    ) -> None:
        super().__init__(block, list(depths), num_classes=dataset.classes, groups=groups, width_per_group=width)
        self.stochastic, self.default_draws = variant.stochastic, variant.default_draws
        self.normalise = Normalise(dataset.mean, dataset.std)
        if not large(dataset):
            self.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
            self.maxpool = nn.Identity()
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for member in stage:
                member.dropout = nn.Identity() if variant.rate is None else MCDropout(variant.rate)
            if variant.temperature is not None:
                stage.append(Smooth(variant.temperature))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(self.normalise(images))
        return logits


def _joined(block: BasicBlock | Bottleneck, x: Tensor, y: Tensor) -> Tensor:
    """A block's output from its input x and its last convolution's normalised map y."""
    shortcut = x if block.downsample is None else block.downsample(x)
    out: Tensor = block.relu(y + shortcut)
    return out


def _rate(dataset: Dataset) -> float:
    return 0.05 if large(dataset) else 0.3


resnet18, resnet18_smooth, resnet18_mcdo, resnet18_mcdo_smooth = variants(
    partial(ResNet, block=BasicBlock, depths=(2, 2, 2, 2)), _rate
)
