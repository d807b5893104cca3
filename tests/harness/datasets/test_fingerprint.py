"""Fingerprints: equal for equal pixels, however they are kept, and for nothing else."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stressbench.contracts import Classification, Dataset, InMemory
from stressbench.datasets import fingerprint as module
from stressbench.datasets.fingerprint import fingerprint
from stressbench.datasets.parquet import parquet


def test_definition(memory: Any) -> None:
    data = memory(3)
    text = (
        b"stressbench images 2 3 8 6\n" + np.array([0, 1], "<i8").tobytes() + data.images.read(0, 2).numpy().tobytes()
    )
    assert fingerprint(data, 2) == f"sha256:{hashlib.sha256(text).hexdigest()}"
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", fingerprint(data, 3))


def test_it_does_not_depend_on_the_blocks(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fingerprint(memory(), 7)
    monkeypatch.setattr(module, "BLOCK", 3)
    assert fingerprint(memory(), 7) == whole


def test_it_does_not_depend_on_the_files(tmp_path: Path, noise: Any, encode: Any, write: Any) -> None:
    pixels = noise(5)
    write(tmp_path / "png" / "test.parquet", [encode(p) for p in pixels], [0, 1, 2, 1, 0])
    write(tmp_path / "bmp" / "test-00000-of-00002.parquet", [encode(p, "BMP") for p in pixels[:2]], [0, 1])
    write(tmp_path / "bmp" / "test-00001-of-00002.parquet", [encode(p, "BMP") for p in pixels[2:]], [2, 1, 0])
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # strided, as a decoder may leave it
    memory = Dataset("m", "test", Classification(3), InMemory(tensor), InMemory(torch.tensor([0, 1, 2, 1, 0])), (8, 8))
    ours = {fingerprint(parquet("test", tmp_path / kind, "mine"), 5) for kind in ("png", "bmp")}
    assert ours == {fingerprint(memory, 5)}


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 7 * 3 * 8 * 6 - 1))
def test_every_pixel_counts(position: int) -> None:
    pixels = torch.zeros(7, 3, 8, 6, dtype=torch.uint8)
    data = Dataset("m", "test", Classification(3), InMemory(pixels), InMemory(torch.zeros(7).long()), (8, 6))
    before = fingerprint(data, 7)
    pixels.view(-1)[position] = 1
    assert fingerprint(data, 7) != before


def test_labels_number_and_shape_count(memory: Any) -> None:
    data = memory()
    other = replace(data, targets=InMemory(data.labels.flip(0)))
    turned = replace(data, images=InMemory(data.images.read(0, 7).view(7, 3, 6, 8)), image_size=(6, 8))
    assert len({fingerprint(data, 7), fingerprint(data, 6), fingerprint(other, 7), fingerprint(turned, 7)}) == 4
