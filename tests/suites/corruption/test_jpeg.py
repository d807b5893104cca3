"""JPEG of a batch against Pillow, which codes, writes, reads and decodes a file; equal in every bit."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stressbench.randomness import image_keys
from stressbench_suites.corruption import digital, jpeg
from stressbench_suites.corruption.engine import corrupt
from suites.corruption.conftest import scenes
from suites.corruption.images import to_array, to_tensor

SIZES = [(32, 32), (1, 1), (8, 8), (17, 16), (33, 47), (2, 5), (5, 4), (3, 40), (40, 3)]


def by_pillow(pictures: np.ndarray, quality: int) -> np.ndarray:
    decoded = []
    for picture in pictures:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(file)))
    return np.stack(decoded)


def ours(pictures: np.ndarray, quality: int) -> np.ndarray:
    levels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    return jpeg.through_jpeg(levels, quality).permute(0, 2, 3, 1).numpy()


def several(height: int, width: int, seed: int) -> np.ndarray:
    """uint8 (8, height, width, 3): scenes, noise, extremes, stripes, and one colour."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    soft = 128 + 120 * np.sin(rows[..., None] * rng.normal() / 9 + columns[..., None] * rng.normal(size=3) / 9)
    noise = rng.integers(0, 256, (2, height, width, 3))
    extreme = rng.integers(0, 2, (2, height, width, 3)) * 255
    grey = np.broadcast_to(rng.integers(0, 2, (1, height, width, 1)) * 255, (1, height, width, 3))
    stripes = (
        (columns // rng.integers(1, 5) + rows * rng.integers(0, 5))[None, :, :, None] % 2 * rng.integers(256, size=3)
    )
    flat = np.broadcast_to(rng.integers(0, 256, 3), (1, height, width, 3))
    return np.concatenate([soft[None], noise, extreme, grey, stripes, flat]).astype(np.uint8)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_quality_gives_pillows_bits(size):
    for quality in range(1, 101):
        pictures = several(*size, seed=quality)
        np.testing.assert_array_equal(ours(pictures, quality), by_pillow(pictures, quality), f"quality {quality}")


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 100), st.integers(0, 2**32 - 1))
def test_any_size_and_quality_gives_pillows_bits(height, width, quality, seed):
    pictures = several(height, width, seed)
    np.testing.assert_array_equal(ours(pictures, quality), by_pillow(pictures, quality))


@pytest.mark.parametrize("quality", [1, 7, 25, 90])
def test_large_images_too(quality):
    pictures = np.concatenate([scenes(5, 224, 224)[2:], several(224, 224, quality)])
    np.testing.assert_array_equal(ours(pictures, quality), by_pillow(pictures, quality))


@pytest.mark.parametrize(("size", "quality"), [((64, 200), 58), ((65, 80), 15)])
def test_the_engine_has_one_result_whichever_way_is_taken(monkeypatch, size, quality):
    pictures = scenes(6, *size)
    keys = image_keys(0, torch.arange(6))
    expected = by_pillow(pictures, quality)
    np.testing.assert_array_equal(to_array(corrupt(to_tensor(pictures), "jpeg_compression", 3, keys)), expected)
    other = digital._through_pillow if min(size) <= 64 else jpeg.through_jpeg
    monkeypatch.setattr(digital, "through_jpeg", other)
    monkeypatch.setattr(digital, "_through_pillow", other)
    np.testing.assert_array_equal(to_array(corrupt(to_tensor(pictures), "jpeg_compression", 3, keys)), expected)


def test_a_batch_of_more_pixels_than_are_worked_on_at_a_time(monkeypatch):
    pictures = scenes(7, 16, 16)
    monkeypatch.setattr(jpeg, "_CPU_PIXELS", 3 * 16 * 16)
    np.testing.assert_array_equal(ours(pictures, 40), by_pillow(pictures, 40))
