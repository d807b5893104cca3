"""Decoded images on disk: the pixels of the files, decoded once, for those files alone, and never in part."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stressbench import registry
from stressbench._util.terminal import Screen
from stressbench.cli import main
from stressbench.contracts import Dataset
from stressbench.datasets import cache, decoded
from stressbench.datasets.ahead import ReadAhead
from stressbench.datasets.cache import ImageCache
from stressbench.datasets.encoded import EncodedImages
from stressbench.datasets.fingerprint import fingerprint
from stressbench.errors import UserError

CPU = torch.device("cpu")
SIZE = 12


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven JPEG files of two classes, which are worth keeping and do not fit into memory."""
    monkeypatch.setattr(decoded, "WORTH", 0)
    monkeypatch.setattr(decoded, "BLOCK", 3)
    monkeypatch.setattr(cache, "CPU_BYTES", 0)
    random = np.random.default_rng(0)
    for i in range(7):
        path = tmp_path / "photos" / "test" / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def photos(folder: Path) -> Callable[[], Dataset]:
    return lambda: registry.dataset("imagefolder", "test", folder, "mine")


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of each image that is decoded."""
    found: list[int] = []
    decode = EncodedImages._decode

    def counted(self: EncodedImages, index: int, encoded: bytes | None, size: Any) -> Any:
        found.append(index)
        return decode(self, index, encoded, size)

    monkeypatch.setattr(EncodedImages, "_decode", counted)
    return found


def test_images_are_decoded_once(photos: Callable[[], Dataset], decodings: list[int], folder: Path) -> None:
    paths = [folder / "test" / "ab"[i % 2] / f"{i}.jpg" for i in range(7)]
    expected = np.stack([np.asarray(Image.open(path)) for path in paths]).transpose(0, 3, 1, 2)
    plain = fingerprint(photos(), 7)
    decodings.clear()
    for _ in range(2):  # two runs
        held = ImageCache(photos(), 7, CPU)
        assert held.fingerprint == plain
        for _ in range(3):  # three conditions
            for start in range(0, 7, 2):
                images, labels = held.batch(start, start + 2)
                assert (images.mul(255).round().byte().numpy() == expected[start : start + 2]).all()
                assert labels.tolist() == [i % 2 for i in range(start, min(start + 2, 7))]
    assert sorted(decodings) == sorted([0, *range(7), 0])  # each dataset looks at the size of its first image
    fewer = ImageCache(photos(), 5, CPU)
    assert fewer.fingerprint == fingerprint(photos(), 5)
    assert len(list(decoded.cache().glob("[!.]*"))) == 1


def test_known_fingerprints_are_not_computed_again(photos: Callable[[], Dataset], monkeypatch: Any) -> None:
    first = ImageCache(photos(), 7, CPU).fingerprint
    monkeypatch.setattr(decoded.DecodedImages, "read", lambda *_: pytest.fail("read"))
    assert ImageCache(photos(), 7, CPU).fingerprint == first


@pytest.mark.parametrize("change", ["content", "times", "name"])
def test_changed_files_are_decoded_again(photos: Callable[[], Dataset], folder: Path, change: str) -> None:
    before = ImageCache(photos(), 7, CPU).fingerprint
    path = folder / "test" / "a" / "2.jpg"
    if change == "name":
        path.rename(path.with_name("8.jpg"))
    else:
        status = path.stat()
        content = io.BytesIO()
        Image.fromarray(np.zeros((SIZE, SIZE, 3), dtype=np.uint8)).save(content, "JPEG")
        padded = content.getvalue() + bytes(status.st_size - len(content.getvalue()))
        path.write_bytes(padded)  # of the same length
        if change == "times":
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    data = photos()
    after = ImageCache(data, 7, CPU)
    assert after.fingerprint == fingerprint(data, 7) != before


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damage_is_noticed(photos: Callable[[], Dataset], damage: str) -> None:
    held = ImageCache(photos(), 7, CPU)
    (pixels,) = decoded.cache().glob("*/pixels.bin")
    if damage == "flip":
        content = bytearray(pixels.read_bytes())
        content[5 * 3 * SIZE * SIZE] ^= 1
        pixels.write_bytes(content)
    elif damage == "cut":
        os.truncate(pixels, 5 * 3 * SIZE * SIZE)
    else:
        pixels.unlink()
    with pytest.raises(UserError, match=r"was changed.*bench data cache rm"):
        held.batch(4, 7)
    if damage != "flip":  # what is not whole is not used
        data = photos()
        assert ImageCache(data, 7, CPU).fingerprint == fingerprint(data, 7)


def test_two_processes_share_one_decoding(photos: Callable[[], Dataset], decodings: list[int]) -> None:
    data = [photos(), photos()]
    decodings.clear()
    threads = [threading.Thread(target=ImageCache, args=(one, 7, CPU)) for one in data]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(decodings) == list(range(7))


def test_a_full_disk_is_said_and_harms_nothing(
    photos: Callable[[], Dataset], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(decoded, "_SPARE", 1 << 60)
    data = photos()
    held = ImageCache(data, 7, CPU, Screen())
    assert held.fingerprint == fingerprint(data, 7)
    assert "not kept" in capsys.readouterr().err
    assert not [*decoded.cache().glob("[!.]*"), *decoded.cache().glob(".*partial*")]


def test_an_interrupted_decoding_leaves_nothing(
    photos: Callable[[], Dataset], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = photos()
    (folder / "test" / "b" / "5.jpg").write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"5\.jpg.*cannot be decoded"):
        ImageCache(data, 7, CPU)
    assert not [*decoded.cache().glob("[!.]*"), *decoded.cache().glob(".*partial*")]


def test_the_commands(photos: Callable[[], Dataset], capsys: pytest.CaptureFixture[str]) -> None:
    ImageCache(photos(), 7, CPU)
    for words, shown in (("ls", "mine  7 images"), ("rm", "removed 0.0 GB"), ("ls", "no decoded images")):
        with pytest.raises(SystemExit) as exit_:
            main(["data", "cache", words])
        assert exit_.value.code == 0
        assert shown in capsys.readouterr().out


def test_reading_ahead_gives_what_was_asked_for() -> None:
    asked: list[tuple[int, int]] = []

    def read(start: int, stop: int) -> torch.Tensor:
        asked.append((start, stop))
        if start == 6:
            raise UserError("damaged")
        return torch.arange(start, stop)

    ahead = ReadAhead(read, 8, again=True)
    assert ahead(0, 3).tolist() == [0, 1, 2]
    assert ahead(4, 6).tolist() == [4, 5]  # not what was read ahead
    ahead.close()
    assert asked == [(0, 3), (3, 6), (4, 6), (6, 8)]
    with pytest.raises(UserError, match="damaged"):
        ahead(6, 8)
