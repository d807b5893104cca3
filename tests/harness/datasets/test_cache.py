"""Images on the run's device: the same numbers cached or streamed, decoded no more often than promised."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from stressbench.datasets import cache
from stressbench.datasets.cache import ImageCache, fits, to_float
from stressbench.datasets.fingerprint import fingerprint

CPU = torch.device("cpu")
DEVICES = [
    CPU,
    pytest.param(torch.device("cuda"), marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]


class Counting:
    """`contracts.Images` that counts how often each image is read."""

    def __init__(self, images: Any) -> None:
        self.images = images
        self.reads = [0] * len(images)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, start: int, stop: int) -> Tensor:
        for i in range(start, stop):
            self.reads[i] += 1
        return self.images.read(start, stop)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("room", [1 << 30, 0])
def test_batches(memory: Any, monkeypatch: pytest.MonkeyPatch, device: torch.device, room: int) -> None:
    monkeypatch.setattr(cache, "CPU_BYTES", room)
    monkeypatch.setattr(cache, "CUDA_SHARE", 0.1 if room else 0.0)
    monkeypatch.setattr(cache, "BLOCK", 2)
    data = memory(7)
    held = ImageCache(data, 5, device)
    assert held.cached is bool(room)
    assert len(held) == 5
    images, labels = held.batch(1, 4)
    assert images.device.type == labels.device.type == device.type
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    torch.testing.assert_close(images.cpu(), data.images.read(1, 4).float() / 255, rtol=0, atol=1e-7)
    assert labels.tolist() == [1, 2, 0]
    assert len(held.batch(3, 99)[0]) == len(held.batch(3, 99)[1]) == 2
    images.zero_()  # a suite may work in place
    assert held.batch(1, 4)[0].sum() > 0
    assert held.fingerprint == fingerprint(data, 5)


@pytest.mark.parametrize(("room", "expected"), [(1 << 30, 1), (0, 3)])
def test_how_often_images_are_decoded(memory: Any, monkeypatch: pytest.MonkeyPatch, room: int, expected: int) -> None:
    monkeypatch.setattr(cache, "CPU_BYTES", room)
    data = memory(7)
    counting = Counting(data.images)
    held = ImageCache(replace(data, images=counting), 6, CPU)
    for _ in range(2):
        for start in range(0, 6, 4):
            held.batch(start, start + 4)
    assert counting.reads == [expected] * 6 + [0]


def test_numbers_that_are_not_there(memory: Any) -> None:
    for n in (0, 8):
        with pytest.raises(ValueError, match="images of a dataset of 7"):
            ImageCache(memory(7), n, CPU)


def test_bytes_to_floats_of_frames() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1, 1)
    floats = to_float(pixels, CPU)
    assert floats.shape == pixels.shape
    torch.testing.assert_close(floats.flatten(), torch.tensor([0, 0.2, 1]))
    assert pixels.flatten().tolist() == [0, 51, 255]


def test_what_fits() -> None:
    assert fits((1024, 2, 1024, 1024), CPU)
    assert not fits((1025, 2, 1024, 1024), CPU)
