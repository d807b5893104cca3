"""U-Net for segmentation, as the spatial smoothing paper has it (Park and Kim, 2022, appendix A.2).

A block is a 3×3 convolution, ReLU and batch normalisation. The encoder has five stages of 2, 2, 3, 3 and 3 blocks, with
1, 2, 4, 8 and 16 times `width` channels and 2×2 max-pooling between them. In each of the four decoder stages a 3×3
transposed convolution of stride 2, ReLU and batch normalisation enlarge the map; what the encoder stage of this size
made is added; and 3, 3, 3 and 2 blocks follow. A 1×1 convolution makes the logits.

MC dropout is at six places: after encoder stages 3, 4 and 5, and after the first three decoder stages. A skip is taken
before the dropout and before the `Smooth`, of which there is one before each max-pooling. The paper does not say where
the skip is taken; so that it keeps its size, it is taken before.

An odd side is rounded up when it is halved, and the way up goes to the size of each skip, so logits have the image's
size, whatever it is. The input is the pixels in [0, 1], without mean and standard deviation.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from stressbench.contracts import Dataset, Segmentation
from stressbench.errors import UserError
from stressbench_plugins.variants import Variant, variants

ENCODER = (2, 2, 3, 3, 3)  # blocks of each stage
DECODER = (3, 3, 3, 2)
_DROPOUT = (2, 3, 4)  # the encoder's stages with MC dropout, and the decoder's
_DECODER_DROPOUT = (0, 1, 2)


class UNet(nn.Module):
    """Images (N, 3, H, W) in [0, 1] to logits (N, classes, H, W)."""

    untrained = True

    def __init__(self, dataset: Dataset, variant: Variant) -> None:
        super().__init__()
        if not isinstance(dataset.task, Segmentation):
            raise UserError(
                f"U-Net predicts a class for each pixel, and {dataset.name} is for {dataset.task.name}: choose another "
                "model, or a segmentation dataset such as scenes"
            )
        self.stochastic, self.default_draws = variant.stochastic, variant.default_draws
        widths = [variant.width * 2**stage for stage in range(len(ENCODER))]
        self.encoder = nn.ModuleList(
            _stage(before, width, blocks) for before, width, blocks in zip([3, *widths], widths, ENCODER, strict=False)
        )
        self.ends = nn.ModuleList(
            variant.dropout() if stage in _DROPOUT else nn.Identity() for stage in range(len(ENCODER))
        )
        self.smooths = nn.ModuleList(nn.Sequential(*variant.smooth(stage)) for stage in range(len(DECODER)))
        self.ups = nn.ModuleList(_Up(width) for width in reversed(widths[1:]))
        self.decoder = nn.ModuleList(
            _stage(width, width, blocks) for width, blocks in zip(reversed(widths[:-1]), DECODER, strict=True)
        )
        self.decoder_ends = nn.ModuleList(
            variant.dropout() if stage in _DECODER_DROPOUT else nn.Identity() for stage in range(len(DECODER))
        )
        self.head = nn.Conv2d(variant.width, dataset.classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        skips: list[Tensor] = []
        for stage, end, smooth in zip(self.encoder, self.ends, self.smooths, strict=False):
            x = stage(x)
            skips.append(x)
            x = _halved(smooth(end(x)), x)
        x = self.ends[-1](self.encoder[-1](x))
        for up, stage, end in zip(self.ups, self.decoder, self.decoder_ends, strict=True):
            skip = skips.pop()
            x = end(stage(up(x, skip) + skip))
        logits: Tensor = self.head(x)
        return logits


class _Up(nn.Module):
    """A map to the size of a skip, which is twice its own or one less, with half the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1)
        self.relu, self.norm = nn.ReLU(), nn.BatchNorm2d(width // 2)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        result: Tensor = self.norm(self.relu(self.conv(x, output_size=list(skip.shape[-2:]))))
        return result


def _stage(before: int, width: int, blocks: int) -> nn.Sequential:
    inputs = [before, *[width] * (blocks - 1)]
    return nn.Sequential(
        *(nn.Sequential(nn.Conv2d(n, width, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(width)) for n in inputs)
    )


def _halved(x: Tensor, before: Tensor) -> Tensor:
    """Max-pooling to half of the size that the map had before it was smoothed, rounded up."""
    height, width = ((side + 1) // 2 for side in before.shape[-2:])
    return F.max_pool2d(x, 2, ceil_mode=True)[..., :height, :width]


unet, unet_smooth, unet_mcdo, unet_mcdo_smooth = variants(
    UNet, lambda _: 0.5, head=None, stages="1111", options=("width",)
)
