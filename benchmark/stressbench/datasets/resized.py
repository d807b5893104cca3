"""A dataset's images in another size, so that a model can be shown those of another dataset."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from stressbench.contracts import Dataset, Source


def resized(dataset: Dataset, size: tuple[int, int]) -> Dataset:
    """The dataset with images of H×W pixels: itself where it has that size, else through `Cover`."""
    if dataset.image_size == size:
        return dataset
    return replace(dataset, images=_Resized(dataset.images, Cover(size)), image_size=size)


@dataclass(frozen=True)
class Cover:
    """Brings images of any size to one, as OpenOOD shows images from elsewhere.

    They are scaled, antialiased and bilinear, until they cover H×W, keeping their ratio, and cut around their centre.
    """

    size: tuple[int, int]

    def __call__(self, image: Image.Image) -> Image.Image:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return Image.fromarray(self.cover(pixels).permute(1, 2, 0).contiguous().numpy())

    def cover(self, images: Tensor) -> Tensor:
        """Images (…, 3, h, w), uint8, as (…, 3, H, W)."""
        before = images.shape[-2:]
        factor = max(new / old for new, old in zip(self.size, before, strict=True))
        covering = [max(new, round(old * factor)) for new, old in zip(self.size, before, strict=True)]
        scaled = v2.functional.resize(images, covering, v2.InterpolationMode.BILINEAR)
        return torch.as_tensor(v2.functional.center_crop(scaled, list(self.size))).contiguous()


@dataclass(frozen=True)
class _Resized:
    images: Source
    cover: Cover

    def __len__(self) -> int:
        return len(self.images)

    def read(self, start: int, stop: int) -> Tensor:
        return self.cover.cover(self.images.read(start, stop))
