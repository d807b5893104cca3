"""VGG with batch normalisation (Simonyan and Zisserman, 2015), with the layout of torchvision's `vgg*_bn`, whose
ImageNet weights fit; and pre-activation VGG.

The paper's VGG has batch normalisation (Park and Kim, 2022, appendix F: "CNNs, such as VGG, … their stages end with
BatchNorm and ReLU"), as in the reference implementation. A block is convolution, BatchNorm, ReLU; in the pre-activation
VGG every block, the one on the image too, is BatchNorm, ReLU, convolution, and nothing is added before the head, as in
the reference implementation. So it has 2·(512 − 3) parameters fewer.

What differs from torchvision: the input is normalised inside; `Smooth` may come after each of the five stages, before
the pooling, and MC dropout at the end of every block. The `mlp` head sees 7×7 positions, or the single one that small
images (see `variants.large`) leave. A head with global pooling takes the place of the last max-pooling, as in the
reference implementation: after it a 32×32 image has one position, and all three would be the same. Convolutions start
from He's normal distribution (fan-out) with zero bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from stressbench.contracts import Dataset
from stressbench_plugins.heads import head
from stressbench_plugins.layers import Normalise
from stressbench_plugins.variants import Model, Variant, large, variants

CHANNELS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Images (N, 3, H, W) in [0, 1] to logits (N, classes); `depths` is the number of blocks of each of five stages."""

    untrained = True

    def __init__(self, dataset: Dataset, variant: Variant, depths: Sequence[int], pre: bool) -> None:
        super().__init__()
        self.stochastic, self.default_draws = variant.stochastic, variant.default_draws
        layers: list[nn.Module] = []
        inputs = 3
        for stage, (depth, channels) in enumerate(zip(depths, CHANNELS, strict=True)):
            for _ in range(depth):
                layers += _block(inputs, channels, pre, variant)
                inputs = channels
            last = stage == len(CHANNELS) - 1
            pool = nn.Identity() if last and variant.head != "mlp" else nn.MaxPool2d(kernel_size=2, stride=2)
            # One entry whatever it holds, so that the weights have the same names in all.
            layers.append(nn.Sequential(*variant.smooth(stage), pool))
        self.normalise = Normalise(dataset.mean, dataset.std)
        self.features = nn.Sequential(*layers)
        self.avgpool, self.classifier = head(variant.head, inputs, 7 if large(dataset) else 1, dataset.classes)
        for layer in self.features.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        features = self.avgpool(self.features(self.normalise(images)))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits


def _block(inputs: int, channels: int, pre: bool, variant: Variant) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, channels, kernel_size=3, padding=1)
    if pre:
        return [nn.BatchNorm2d(inputs), nn.ReLU(), convolution, variant.dropout()]
    # Dropout shares the ReLU's entry, because torchvision's names count the entries.
    return [convolution, nn.BatchNorm2d(channels), nn.Sequential(nn.ReLU(), variant.dropout())]


def _models(depths: Sequence[int], pre: bool = False) -> tuple[Model, Model, Model, Model]:
    return variants(partial(VGG, depths=depths, pre=pre), head="mlp", stages="11111")


vgg11, vgg11_smooth, vgg11_mcdo, vgg11_mcdo_smooth = _models((1, 1, 2, 2, 2))
vgg13, vgg13_smooth, vgg13_mcdo, vgg13_mcdo_smooth = _models((2, 2, 2, 2, 2))
vgg16, vgg16_smooth, vgg16_mcdo, vgg16_mcdo_smooth = _models((2, 2, 3, 3, 3))
vgg19, vgg19_smooth, vgg19_mcdo, vgg19_mcdo_smooth = _models((2, 2, 4, 4, 4))

prevgg11, prevgg11_smooth, prevgg11_mcdo, prevgg11_mcdo_smooth = _models((1, 1, 2, 2, 2), pre=True)
prevgg13, prevgg13_smooth, prevgg13_mcdo, prevgg13_mcdo_smooth = _models((2, 2, 2, 2, 2), pre=True)
prevgg16, prevgg16_smooth, prevgg16_mcdo, prevgg16_mcdo_smooth = _models((2, 2, 3, 3, 3), pre=True)
prevgg19, prevgg19_smooth, prevgg19_mcdo, prevgg19_mcdo_smooth = _models((2, 2, 4, 4, 4), pre=True)
