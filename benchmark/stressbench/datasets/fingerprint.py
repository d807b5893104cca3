"""A checksum of a dataset's pixels and targets, independent of its files."""

from __future__ import annotations

import hashlib

from torch import Tensor

from stressbench.contracts import Dataset

BLOCK = 1024  # images read at a time


class Fingerprint:
    """The running checksum of a dataset's first `n` images; give it their pixels in order, in blocks of any size."""

    def __init__(self, dataset: Dataset, n: int) -> None:
        height, width = dataset.image_size
        # The shape first, so that the same bytes cut into other images are other images.
        self._hash = hashlib.sha256(f"stressbench images {n} 3 {height} {width}\n".encode())
        for start in range(0, n, BLOCK):
            targets = dataset.targets.read(start, min(start + BLOCK, n))
            self._hash.update(targets.numpy().astype("<f4" if targets.is_floating_point() else "<i8").tobytes())
        self.head = self._hash.hexdigest()
        """Of all but the pixels: with the same pixels it decides the checksum."""

    def update(self, pixels: Tensor) -> None:
        """The next images: (N, 3, H, W), uint8, on the CPU."""
        self._hash.update(pixels.contiguous().numpy().data)

    def __str__(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def fingerprint(dataset: Dataset, n: int) -> str:
    """`"sha256:<64 hex digits>"` of the pixels, shape and labels of the first n images.

    It does not depend on how the images were encoded or stored. `ImageCache` gives it without a second reading.
    """
    running = Fingerprint(dataset, n)
    for start in range(0, n, BLOCK):
        running.update(dataset.images.read(start, min(start + BLOCK, n)))
    return str(running)
