"""Pre-activation ResNet (He et al., 2016, "Identity mappings in deep residual networks"), after `resnet.ResNet`.

In a block, batch normalisation and ReLU come before each convolution, not after it, and the sum leaves as it is. A
shortcut with a convolution starts after the block's first ReLU. The stem and such a shortcut are the convolution
alone, as in the reference implementation of spatial smoothing. One batch normalisation and ReLU come before the head.
Three Smooth layers, after stages 1 to 3, are the default. Otherwise all that `resnet` says holds here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models import resnet

from stressbench.contracts import Dataset
from stressbench_plugins.resnet import ResNet, shortened
from stressbench_plugins.variants import Model, Variant, variants


class PreBasicBlock(resnet.BasicBlock):  # type: ignore[misc]  # torchvision is not typed
    """Two 3×3 convolutions, each after BatchNorm–ReLU; blur and dropout come before the last."""

    pool: nn.Module
    dropout: nn.Module

    def __init__(self, inplanes: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(inplanes, *args, **kwargs)
        self.bn1 = nn.BatchNorm2d(inplanes)

    def forward(self, x: Tensor) -> Tensor:
        first = self.relu(self.bn1(x))
        shortcut = shortened(self, x, first)
        y = self.relu(self.bn2(self.conv1(first)))
        out: Tensor = self.conv2(self.dropout(self.pool(y))) + shortcut
        return out


class PreBottleneck(resnet.Bottleneck):  # type: ignore[misc]  # torchvision is not typed
    """1×1, 3×3 and 1×1 convolutions, each after BatchNorm–ReLU; blur and dropout come before the last."""

    pool: nn.Module
    dropout: nn.Module

    def __init__(self, inplanes: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(inplanes, *args, **kwargs)
        self.bn1 = nn.BatchNorm2d(inplanes)
        self.bn3 = nn.BatchNorm2d(self.conv3.in_channels)

    def forward(self, x: Tensor) -> Tensor:
        first = self.relu(self.bn1(x))
        shortcut = shortened(self, x, first)
        y = self.relu(self.bn2(self.conv1(first)))
        y = self.relu(self.bn3(self.conv2(y)))
        out: Tensor = self.conv3(self.dropout(self.pool(y))) + shortcut
        return out


class PreResNet(ResNet):
    """Images (N, 3, H, W) in [0, 1] to logits (N, classes)."""

    def __init__(
        self,
        dataset: Dataset,
        variant: Variant,
        block: type[PreBasicBlock] | type[PreBottleneck],
        depths: Sequence[int],
    ) -> None:
        super().__init__(dataset, variant, block, depths)
        self.bn1, self.relu = nn.Identity(), nn.Identity()  # the first block begins with its own
        for member in self.modules():
            if isinstance(member, block) and member.downsample is not None:
                member.downsample = member.downsample[:1]
        self.norm = nn.Sequential(nn.BatchNorm2d(512 * block.expansion), nn.ReLU(inplace=True))


def _models(
    block: type[PreBasicBlock] | type[PreBottleneck], depths: Sequence[int]
) -> tuple[Model, Model, Model, Model]:
    build = partial(PreResNet, block=block, depths=depths)
    return variants(build, head="gap", stages="1110", options=("downsample",))


preresnet18, preresnet18_smooth, preresnet18_mcdo, preresnet18_mcdo_smooth = _models(PreBasicBlock, (2, 2, 2, 2))
preresnet34, preresnet34_smooth, preresnet34_mcdo, preresnet34_mcdo_smooth = _models(PreBasicBlock, (3, 4, 6, 3))
preresnet50, preresnet50_smooth, preresnet50_mcdo, preresnet50_mcdo_smooth = _models(PreBottleneck, (3, 4, 6, 3))
preresnet101, preresnet101_smooth, preresnet101_mcdo, preresnet101_mcdo_smooth = _models(PreBottleneck, (3, 4, 23, 3))
preresnet152, preresnet152_smooth, preresnet152_mcdo, preresnet152_mcdo_smooth = _models(PreBottleneck, (3, 8, 36, 3))
