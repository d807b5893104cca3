"""The clean images where the run needs them: on its device as bytes if they fit, else read again in each pass."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from stressbench._util.terminal import Screen
from stressbench.contracts import Dataset
from stressbench.datasets.ahead import ReadAhead
from stressbench.datasets.decoded import decoded
from stressbench.datasets.fingerprint import BLOCK, Fingerprint
from stressbench.errors import UserError, plugin_errors

CPU_BYTES = 2 << 30  # memory that a run may take for images on the CPU
CUDA_SHARE = 0.25  # of the GPU's free memory; the model and its activations need the rest


class ImageCache:
    """The first n images and labels of a dataset on a device.

    Construction reads all of them once, for `fingerprint`; if they fit they stay, and nothing is ever decoded again.
    Otherwise `batch` reads them each time: many images of files from `decoded`'s cache, which also keeps their
    fingerprint, with the next batch read ahead; other images from the dataset.
    """

    def __init__(self, dataset: Dataset, n: int, device: torch.device, screen: Screen | None = None) -> None:
        """`screen` shows that images are being decoded into the cache."""
        if not 0 < n <= len(dataset.images):
            raise ValueError(f"{n} images of a dataset of {len(dataset.images)}")
        screen = screen or Screen(quiet=True)
        on_disk = decoded(dataset.name, dataset.images, n, dataset.image_size, screen)
        self._dataset = dataset = dataset if on_disk is None else replace(dataset, images=on_disk)
        self._n = n
        self._device = device
        shape = (n, 3, *dataset.image_size)
        kept = torch.empty(shape, dtype=torch.uint8, device=device) if fits(shape, device) else None
        running = Fingerprint(dataset, n)
        known = None if on_disk is None else on_disk.fingerprints.get(running.head)
        for start in range(0, n, BLOCK) if kept is not None or known is None else ():
            stop = min(start + BLOCK, n)
            pixels = read(dataset, start, stop)
            if known is None:
                running.update(pixels)
            if kept is not None:
                kept[start:stop] = pixels.to(device)
        self._kept = kept
        self._ahead = None if on_disk is None else ReadAhead(on_disk.read, n, again=True)
        self._targets = dataset.targets.read(0, n).to(device) if self._small(n) else None
        self.fingerprint = known or str(running)  # as `fingerprint.fingerprint` gives it
        if on_disk is not None and known is None:
            on_disk.keep_fingerprint(running.head, self.fingerprint)

    def __len__(self) -> int:
        return self._n

    @property
    def cached(self) -> bool:
        """Whether the images stay on the device."""
        return self._kept is not None

    def batch(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Images start … stop−1, (N, 3, H, W) float32 in [0, 1], and their targets, on the device."""
        stop = min(stop, self._n)
        if self._kept is not None:
            pixels = self._kept[start:stop]
        else:
            pixels = read(self._dataset, start, stop) if self._ahead is None else self._ahead(start, stop)
        if self._targets is not None:
            return to_float(pixels, self._device), self._targets[start:stop]
        return to_float(pixels, self._device), read_targets(self._dataset, start, stop).to(self._device)

    def _small(self, n: int) -> bool:
        """Whether the targets of all n images may stay on the device."""
        first = read_targets(self._dataset, 0, 1)
        return fits((n, first[0].numel() * first.element_size()), self._device)


def read(dataset: Dataset, start: int, stop: int) -> Tensor:
    """Images start … stop−1 of a dataset: (stop − start, 3, H, W), uint8, on the CPU.

    Raises `UserError` where the dataset fails, or has something else to give.
    """
    with plugin_errors(f"dataset '{dataset.name}' failed to read images {start} … {stop - 1}"):
        pixels = dataset.images.read(start, stop)
    wanted = (stop - start, 3, *dataset.image_size)
    found = f"{tuple(pixels.shape)} of {pixels.dtype}" if isinstance(pixels, Tensor) else f"a {type(pixels).__name__}"
    if found != f"{wanted} of {torch.uint8}":
        raise UserError(f"dataset '{dataset.name}' read {found}; it must read {wanted} of {torch.uint8}")
    return pixels


def read_targets(dataset: Dataset, start: int, stop: int) -> Tensor:
    """The targets of images start … stop−1, as the dataset's task says, on the CPU.

    Raises `UserError` where the dataset fails, or has something else to give.
    """
    with plugin_errors(f"dataset '{dataset.name}' failed to read targets {start} … {stop - 1}"):
        targets = dataset.targets.read(start, stop)
    try:
        dataset.task.require_targets(targets, stop - start, dataset.image_size)
    except UserError as error:
        raise UserError(f"dataset '{dataset.name}' {error}") from error
    return targets


def to_float(pixels: Tensor, device: torch.device) -> Tensor:
    """uint8 pixels of any shape as float32 in [0, 1] on the device; they travel there as bytes."""
    return pixels.to(device).to(torch.float32).div_(255)


def fits(shape: tuple[int, ...], device: torch.device) -> bool:
    """Whether uint8 images of this shape may stay: in `CUDA_SHARE` of a GPU's free memory, else in `CPU_BYTES`."""
    free = CUDA_SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else CPU_BYTES
    return torch.Size(shape).numel() <= free
