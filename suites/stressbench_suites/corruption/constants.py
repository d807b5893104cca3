"""The corruptions' constants: CIFAR's for small images, and ImageNet's, made for 224 pixels, for large ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from torch import Tensor

_SMALL = 64  # pixels of the shorter side, up to which an image is like CIFAR's; networks change their stem there too

T = TypeVar("T")


def small(size: Sequence[int]) -> bool:
    """Whether images of this height and width get CIFAR-C's constants."""
    return min(size) <= _SMALL


def describe(size: Sequence[int], family: Literal["C", "C-bar"] = "C") -> str:
    """The constants that images of this height and width get, for a record."""
    if small(size):
        return "constants of CIFAR-C" if family == "C" else "constants of CIFAR-10-C-bar"
    return f"constants of ImageNet-{family} (224×224), without the JPEG coding of its files"


@dataclass(frozen=True)
class Constants(Generic[T]):
    """A corruption's parameters at severities 1 … 5."""

    cifar: tuple[T, T, T, T, T]
    imagenet: tuple[T, T, T, T, T]

    def at(self, images: Tensor, severity: int) -> T:
        """The parameters for images (…, H, W)."""
        return (self.cifar if small(images.shape[-2:]) else self.imagenet)[severity - 1]
