"""ResNet (He et al., 2016), ResNeXt (Xie et al., 2017) and WideResNet (Zagoruyko and Komodakis, 2016).

They are torchvision's networks, so that its published ImageNet weights fit every variant here. What differs: the input
is normalised inside; small images (see `variants.large`) get the CIFAR stem, a 3×3 convolution with stride 1 and no
pooling; `Smooth` may follow each of the four stages, and MC dropout may sit in every block before its last
convolution; the head may be another than global average pooling and one linear layer. An `mlp` head sees as many
positions as the last map of a plain network has: 7×7, or 4×4 of small images. Convolutions start from He's normal
distribution (fan-out), batch normalisation from scale 1 and shift 0.

`downsample=blurpool` is Zhang's anti-aliasing ("Making convolutional networks shift-invariant again", 2019). `Blur` of
(1, 2, 1) ⊗ (1, 2, 1) / 16 with stride 2 and reflected borders takes over what has stride 2, at the places of its
author's ResNets: in a block, the strided 3×3 convolution gets stride 1 and the blur comes after its ReLU, before
dropout and the last convolution; in a shortcut, the 1×1 convolution gets stride 1 and the blur comes before it, which
is the same as after it and cheaper; the ImageNet stem's max-pooling gets stride 1 and the blur comes after it. The
ImageNet stem's first convolution keeps its stride of 2, as there. The weights' names and shapes stay what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models import resnet

from stressbench.contracts import Dataset
from stressbench_plugins.heads import head
from stressbench_plugins.layers import Blur, Normalise
from stressbench_plugins.variants import Model, Variant, large, variants


class BasicBlock(resnet.BasicBlock):  # type: ignore[misc]  # torchvision is not typed
    """Two 3×3 convolutions and a shortcut; blur and dropout come before the last convolution."""

    pool: nn.Module
    dropout: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        shortcut = shortened(self, x, x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(self.dropout(self.pool(y))))
        out: Tensor = self.relu(y + shortcut)
        return out


class Bottleneck(resnet.Bottleneck):  # type: ignore[misc]  # torchvision is not typed
    """1×1, 3×3 and 1×1 convolutions and a shortcut; blur and dropout come before the last convolution."""

    pool: nn.Module
    dropout: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        shortcut = shortened(self, x, x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(self.dropout(self.pool(y))))
        out: Tensor = self.relu(y + shortcut)
        return out


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
        block: type[resnet.BasicBlock] | type[resnet.Bottleneck],
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
            self.maxpool: nn.Module = nn.Identity()
        elif variant.downsample == "blurpool":
            self.maxpool = nn.Sequential(nn.MaxPool2d(kernel_size=3, stride=1, padding=1), _blurpool())
        for i, stage in enumerate((self.layer1, self.layer2, self.layer3, self.layer4)):
            for member in stage:
                member.dropout = variant.dropout()
                blurs = member.stride != 1 and variant.downsample == "blurpool"
                member.pool = _without_stride(member) if blurs else nn.Identity()
            stage.extend(variant.smooth(i))
        self.norm: nn.Module = nn.Identity()
        if variant.head != "gap":  # torchvision's own
            side = 7 if large(dataset) else 4
            self.avgpool, self.fc = head(variant.head, 512 * block.expansion, side, dataset.classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.normalise(images)))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(self.avgpool(self.norm(x)).flatten(1))
        return logits


def _blurpool() -> Blur:
    return Blur(3, stride=2, reflect=True)


def _without_stride(block: nn.Module) -> Blur:
    """Take the stride from a block's convolutions; returns the blur that has it instead."""
    for layer in block.modules():
        if isinstance(layer, nn.Conv2d):
            layer.stride = (1, 1)
    return _blurpool()


def shortened(block: Any, x: Tensor, start: Tensor) -> Tensor:
    """What a block's shortcut adds: its input x, or what its downsampling makes of `start`.

    Computed before the block's other layers: `stressbench.locations` takes a map that is large again for a new stage.
    """
    return x if block.downsample is None else block.downsample(block.pool(start))


def _models(
    block: type[BasicBlock] | type[Bottleneck], depths: Sequence[int], groups: int = 1, width: int = 64
) -> tuple[Model, Model, Model, Model]:
    build = partial(ResNet, block=block, depths=depths, groups=groups, width=width)
    return variants(build, head="gap", stages="1111", options=("downsample",))


resnet18, resnet18_smooth, resnet18_mcdo, resnet18_mcdo_smooth = _models(BasicBlock, (2, 2, 2, 2))
resnet34, resnet34_smooth, resnet34_mcdo, resnet34_mcdo_smooth = _models(BasicBlock, (3, 4, 6, 3))
resnet50, resnet50_smooth, resnet50_mcdo, resnet50_mcdo_smooth = _models(Bottleneck, (3, 4, 6, 3))
resnet101, resnet101_smooth, resnet101_mcdo, resnet101_mcdo_smooth = _models(Bottleneck, (3, 4, 23, 3))
resnet152, resnet152_smooth, resnet152_mcdo, resnet152_mcdo_smooth = _models(Bottleneck, (3, 8, 36, 3))

# 32×4d and 32×8d, as in the reference implementation and torchvision.
resnext50, resnext50_smooth, resnext50_mcdo, resnext50_mcdo_smooth = _models(Bottleneck, (3, 4, 6, 3), 32, 4)
resnext101, resnext101_smooth, resnext101_mcdo, resnext101_mcdo_smooth = _models(Bottleneck, (3, 4, 23, 3), 32, 8)

wideresnet50, wideresnet50_smooth, wideresnet50_mcdo, wideresnet50_mcdo_smooth = _models(
    Bottleneck, (3, 4, 6, 3), width=128
)
wideresnet101, wideresnet101_smooth, wideresnet101_mcdo, wideresnet101_mcdo_smooth = _models(
    Bottleneck, (3, 4, 23, 3), width=128
)
