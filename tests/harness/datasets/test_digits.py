"""The embedded set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from stressbench.datasets.digits import digits
from stressbench.errors import UserError


def test_splits_cut_the_file_in_its_order() -> None:
    test, train = digits("test"), digits("train")
    assert (len(test.images), len(train.images)) == (200, 1597)
    labels = torch.cat([train.labels, test.labels])
    assert labels.dtype == torch.int64
    np.testing.assert_array_equal(labels, load_digits().target)


def test_images_are_the_digits_enlarged() -> None:
    test = digits("test")
    pixels = test.images.read(0, 200)
    assert pixels.shape == (200, 3, 32, 32)
    assert pixels.dtype == torch.uint8
    assert (pixels[:, 0] == pixels[:, 1]).all()
    assert (pixels[:, 0] == pixels[:, 2]).all()
    # Pillow's bilinear enlargement is an independent implementation; it rounds in fixed point.
    small = load_digits().images[-200:][3] * (255 / 16)
    large = np.asarray(Image.fromarray(small.astype(np.float32)).resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(pixels[3, 0].numpy(), large, atol=0.51)


def test_facts() -> None:
    test, train = digits("test"), digits("train")
    assert (test.name, test.split, test.classes, test.image_size) == ("digits", "test", 10, (32, 32))
    assert test.embedded
    assert not test.altered
    assert not test.archives
    values = train.images.read(0, 1597) / 255
    assert values.mean().item() == pytest.approx(train.mean[0], abs=1e-4)
    assert values.std().item() == pytest.approx(train.std[0], abs=1e-4)


def test_takes_no_folder_and_no_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes no --data-dir"):
        digits("test", tmp_path)
    with pytest.raises(UserError, match="own name"):
        digits("test", None, "mine")
