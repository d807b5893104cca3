"""AlexNet (Krizhevsky, 2014, "One weird trick"), with torchvision's layout, so that its ImageNet weights fit.

Five convolutions in three stages (1, 1 and 3), max-pooling after each, and a perceptron with two hidden layers of 4096
and dropout 0.5 in training. What differs: the input is normalised inside; `Smooth` may come before each pooling, and
MC dropout after each convolution's ReLU; a head with global pooling takes the place of the last max-pooling, as in VGG.
Small images (see `variants.large`) get what the reference implementation of spatial smoothing gives them: a first
convolution of 3×3 with stride 2 for 11×11 with stride 4, pooling of 2×2 for 3×3, and a head on 2×2 positions for 6×6.
Convolutions and hidden layers start from He's normal distribution, with zero bias: without batch normalisation torch's
default lets the signal fade.
"""

from __future__ import annotations

from torch import Tensor, nn

from stressbench.contracts import Dataset
from stressbench_plugins.heads import head
from stressbench_plugins.layers import Normalise
from stressbench_plugins.variants import Variant, large, variants


class AlexNet(nn.Module):
    """Images (N, 3, H, W) in [0, 1] to logits (N, classes)."""

    untrained = True

    def __init__(self, dataset: Dataset, variant: Variant) -> None:
        super().__init__()
        self.stochastic, self.default_draws = variant.stochastic, variant.default_draws
        if large(dataset):
            first, window, side = nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2), 3, 6
        else:
            first, window, side = nn.Conv2d(3, 64, kernel_size=3, stride=2, padding=1), 2, 2
        last_pool = nn.MaxPool2d(window, stride=2) if variant.head == "mlp" else nn.Identity()

        def block_end() -> nn.Module:
            return nn.Sequential(nn.ReLU(), variant.dropout())

        self.normalise = Normalise(dataset.mean, dataset.std)
        # A block's or a stage's end is one entry whatever it holds, so that the weights have the same names in all.
        self.features = nn.Sequential(
            first,
            block_end(),
            nn.Sequential(*variant.smooth(0), nn.MaxPool2d(window, stride=2)),
            nn.Conv2d(64, 192, kernel_size=5, padding=2),
            block_end(),
            nn.Sequential(*variant.smooth(1), nn.MaxPool2d(window, stride=2)),
            nn.Conv2d(192, 384, kernel_size=3, padding=1),
            block_end(),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),
            block_end(),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),
            block_end(),
            nn.Sequential(*variant.smooth(2), last_pool),
        )
        self.avgpool, self.classifier = head(variant.head, 256, side, dataset.classes, dropout_first=True)
        hidden = self.classifier[:-1] if isinstance(self.classifier, nn.Sequential) else ()
        for layer in (*self.features, *hidden):
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        features = self.avgpool(self.features(self.normalise(images)))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits


alexnet, alexnet_smooth, alexnet_mcdo, alexnet_mcdo_smooth = variants(AlexNet, lambda _: 0.1, head="mlp", stages="111")
