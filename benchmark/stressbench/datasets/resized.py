"""A dataset's images in another size, so that a model can be shown those of another dataset."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchvision.transforms import v2

from stressbench.contracts import Dataset, Source


def resized(dataset: Dataset, size: tuple[int, int]) -> Dataset:
    """The dataset with images of H×W pixels: itself where it has that size.

    Others are scaled, antialiased and bilinear, until they cover H×W, keeping their ratio, and cut around their centre,
    as OpenOOD shows images from elsewhere.
    """
    if dataset.image_size == size:
        return dataset
    return replace(dataset, images=_Resized(dataset.images, dataset.image_size, size), image_size=size)


@dataclass(frozen=True)
class _Resized:
    images: Source
    before: tuple[int, int]
    after: tuple[int, int]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, start: int, stop: int) -> Tensor:
        factor = max(new / old for new, old in zip(self.after, self.before, strict=True))
        covering = [max(new, round(old * factor)) for new, old in zip(self.after, self.before, strict=True)]
        scaled = v2.functional.resize(self.images.read(start, stop), covering, v2.InterpolationMode.BILINEAR)
        return torch.as_tensor(v2.functional.center_crop(scaled, list(self.after))).contiguous()
