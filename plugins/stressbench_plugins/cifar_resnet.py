"""The small ResNets for CIFAR (He et al., 2016, "Deep residual learning for image recognition", section 4.2).

After a 3×3 convolution with 16 channels come three stages of n basic blocks with 16, 32 and 64 channels, then global
average pooling and one linear layer: ResNet-20, -32 and -56 for n = 3, 5 and 9, with 0.27, 0.46 and 0.85 million
parameters. Shortcuts have none ("option A"): where a stage begins, they take every second pixel and add channels of
zeros, half of them on each side. The names of the parameters are those of the widely used public weights
(`module.*`), which `normalisation=imagenet` goes with: those networks were trained on images normalised so.

`Smooth` may follow each of the three stages, and MC dropout sits in every block before its last convolution. Their
dropout rate is `DROPOUT_RATE`: 30 %, the rate of networks with forty times the parameters, would leave these too few.
The pre-activation networks have the blocks of `preresnet`, a stem of the convolution alone, one batch normalisation
and ReLU before the head, and Smooth after the first two stages, as the larger ones have it after all but the last.
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from stressbench.contracts import Dataset
from stressbench_plugins.heads import head
from stressbench_plugins.layers import Normalise
from stressbench_plugins.preresnet import PreBasicBlock
from stressbench_plugins.resnet import BasicBlock
from stressbench_plugins.variants import Model, Variant, variants

DROPOUT_RATE = 0.1
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class ZeroPadded(nn.Module):
    """Option A's shortcut, (N, C, H, W) to (N, 2C, ⌈H/2⌉, ⌈W/2⌉): every second pixel, and C / 2 zeros on each side."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[1] // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half))


class CifarResNet(nn.Module):
    """Images (N, 3, H, W) in [0, 1] to logits (N, classes); `depth` is the number of blocks in each stage."""

    untrained = True

    def __init__(
        self, dataset: Dataset, variant: Variant, block: type[BasicBlock] | type[PreBasicBlock], depth: int
    ) -> None:
        super().__init__()
        self.stochastic, self.default_draws = variant.stochastic, variant.default_draws
        by_dataset = variant.normalisation == "dataset"
        self.normalise = Normalise(*((dataset.mean, dataset.std) if by_dataset else IMAGENET))
        self.conv1 = nn.Conv2d(3, 16, kernel_size=3, padding=1, bias=False)
        self.pre_activation = issubclass(block, PreBasicBlock)
        if self.pre_activation:
            self.norm = nn.Sequential(nn.BatchNorm2d(64), nn.ReLU(inplace=True))
        else:
            self.bn1, self.relu = nn.BatchNorm2d(16), nn.ReLU(inplace=True)
        self.layer1, self.layer2, self.layer3 = (_stage(block, depth, i, variant) for i in range(3))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        self.avgpool, self.linear = head(variant.head, 64, 8, dataset.classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv1(self.normalise(images))
        if not self.pre_activation:
            x = self.relu(self.bn1(x))
        x = self.layer3(self.layer2(self.layer1(x)))
        if self.pre_activation:
            x = self.norm(x)
        logits: Tensor = self.linear(self.avgpool(x).flatten(1))
        return logits


def _stage(block: type[BasicBlock] | type[PreBasicBlock], depth: int, index: int, variant: Variant) -> nn.Sequential:
    """Stage 0, 1 or 2 with its Smooth layers; the last two begin by halving the map and doubling the channels."""
    planes = 16 * 2**index
    first = block(planes, planes) if index == 0 else block(planes // 2, planes, stride=2, downsample=ZeroPadded())
    members = [first, *(block(planes, planes) for _ in range(1, depth))]
    for member in members:
        member.dropout, member.pool = variant.dropout(), nn.Identity()
    return nn.Sequential(*members, *variant.smooth(index))


def _models(depth: int) -> tuple[Model, Model, Model, Model]:
    build = partial(CifarResNet, block=BasicBlock, depth=depth)
    return variants(build, lambda _: DROPOUT_RATE, head="gap", stages="111", options=("normalisation",))


resnet20, resnet20_smooth, resnet20_mcdo, resnet20_mcdo_smooth = _models(3)
resnet32, resnet32_smooth, resnet32_mcdo, resnet32_mcdo_smooth = _models(5)
resnet56, resnet56_smooth, resnet56_mcdo, resnet56_mcdo_smooth = _models(9)
preresnet20, preresnet20_smooth, preresnet20_mcdo, preresnet20_mcdo_smooth = variants(
    partial(CifarResNet, block=PreBasicBlock, depth=3),
    lambda _: DROPOUT_RATE,
    head="gap",
    stages="110",
    options=("normalisation",),
)
