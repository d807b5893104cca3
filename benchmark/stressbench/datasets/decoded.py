"""Decoded images on disk: later runs, and other processes, need not decode them again.

A folder in the cache holds the first n images of a source as bytes, with a checksum of each. It appears whole or not at
all, and belongs to the names, sizes and times of the files that it was made from. It is read, not mapped: the file
system keeps what was read in memory for all processes, and a mapped file that is cut kills the process.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import PIL
import torch
from torch import Tensor

from stressbench._util import files
from stressbench._util.home import home
from stressbench._util.locks import hold
from stressbench._util.terminal import Screen
from stressbench.contracts import Source
from stressbench.errors import UserError

WORTH = 1 << 28  # bytes of decoded images from which on they are kept on disk: less is decoded in seconds
BLOCK = 256  # images decoded at a time
_SPARE = 1 << 30  # bytes that stay free on the disk
_PATIENCE = 6 * 3600.0  # seconds that another process may take to decode the same images
_PIXELS, _SUMS, _ABOUT = "pixels.bin", "checksums.npy", "about.json"


@runtime_checkable
class Stamped(Protocol):
    """A `contracts.Source` of images whose files can be told apart from others."""

    @property
    def stamp(self) -> str | None:
        """A digest of all that decides the pixels; None where that is more than files."""


def stamp(paths: Sequence[Path], how: str) -> str:
    """A digest of files by path, size and times, and of `how` their images are read.

    Times are those of the last change of the content and of the file's entry, which no program sets back.
    """
    running = hashlib.sha256(f"{how}, Pillow {PIL.__version__}\n".encode())
    for path in paths:
        status = path.stat()
        running.update(f"{path.absolute()}\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n".encode())
    return running.hexdigest()


class DecodedImages:
    """`contracts.Source` of the images in a folder of the cache."""

    def __init__(self, folder: Path) -> None:
        """Raises `ValueError` or `OSError` for a folder that is not whole."""
        self.folder = folder
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        self.count, (self._height, self._width) = int(about["images"]), map(int, about["size"])
        self.fingerprints: dict[str, str] = dict(about["fingerprints"])
        self.name = str(about["name"])
        self._sums = np.load(folder / _SUMS, allow_pickle=False)
        self.bytes: int = self.count * self._each
        if (folder / _PIXELS).stat().st_size != self.bytes or self._sums.shape != (self.count,):
            raise ValueError(f"{folder} is not whole")

    @property
    def _each(self) -> int:
        """Bytes of an image."""
        return 3 * self._height * self._width

    def __len__(self) -> int:
        return self.count

    def read(self, start: int, stop: int) -> Tensor:
        """Images start … stop − 1, (stop − start, 3, H, W), uint8; raises `UserError` where the file was changed."""
        stop = min(stop, self.count)
        path = self.folder / _PIXELS
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(start * self._each)
                found = np.fromfile(file, np.uint8, (stop - start) * self._each).reshape(stop - start, self._each)
        except (FileNotFoundError, ValueError) as error:
            raise self._damaged(str(error)) from error
        except OSError as error:
            raise files.refused(path, error) from error
        if any(zlib.crc32(row.data) != expected for row, expected in zip(found, self._sums[start:stop], strict=True)):
            raise self._damaged("a checksum is wrong")
        return torch.from_numpy(found).view(-1, 3, self._height, self._width)

    def keep_fingerprint(self, head: str, fingerprint: str) -> None:
        """Keep the fingerprint of the images with some targets for later runs, as far as the disk allows."""
        self.fingerprints[head] = fingerprint
        with suppress(OSError, ValueError):
            about = json.loads((self.folder / _ABOUT).read_text(encoding="utf-8"))
            about["fingerprints"][head] = fingerprint
            files.replace(self.folder / _ABOUT, json.dumps(about).encode())

    def _damaged(self, why: str) -> UserError:
        return UserError(f"{self.folder} was changed ({why}): remove it with `bench data cache rm`, and run this again")


def cache() -> Path:
    return home() / "cache" / "images"


def entries() -> list[DecodedImages]:
    """What the cache holds, in the order of names."""
    found = []
    for folder in sorted(cache().glob("[!.]*")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            found.append(DecodedImages(folder))
    return sorted(found, key=lambda one: one.name)


def remove() -> int:
    """Empty the cache; returns the bytes that it held. Raises `UserError` where it cannot be removed."""
    held = sum(path.stat().st_size for path in cache().rglob("*") if path.is_file())
    try:
        shutil.rmtree(cache(), ignore_errors=not cache().exists())
    except OSError as error:
        raise UserError(f"{cache()} cannot be removed: {error.strerror or error}") from error
    return held


@dataclass(frozen=True)
class _Wanted:
    name: str
    images: Source
    n: int
    size: tuple[int, int]
    stamp: str

    @property
    def bytes(self) -> int:
        return self.n * 3 * self.size[0] * self.size[1]

    def find(self) -> DecodedImages | None:
        """The smallest entry that has these images."""
        found = []
        for folder in cache().glob(f"{self.stamp[:32]}-*"):
            with suppress(OSError, ValueError, KeyError, TypeError):
                found.append(DecodedImages(folder))
        return min((one for one in found if len(one) >= self.n), key=len, default=None)


def decoded(name: str, images: Source, n: int, size: tuple[int, int], screen: Screen) -> DecodedImages | None:
    """The first n images of a source from the cache, where they are decoded into first; None for what is not kept.

    Not kept are images that are not from files, few of them, and those that the disk has no room for, which is said.
    Processes that want the same images wait for the one that decodes them. Raises `UserError` for images that cannot
    be read.
    """
    made_from = images.stamp if isinstance(images, Stamped) else None
    wanted = None if made_from is None else _Wanted(name, images, n, size, made_from)
    if wanted is None or wanted.bytes < WORTH:
        return None
    if (found := wanted.find()) is not None:
        return found
    try:
        cache().mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            with suppress(UserError):  # a file system without locks: two processes may do the same work
                lock = cache() / f".{wanted.stamp[:32]}.lock"
                stack.enter_context(hold(lock, f"decoding {name}", "", timeout=_PATIENCE))
            return wanted.find() or _written(wanted, screen)
    except OSError as error:
        screen.note(f"decoded images are not kept in {cache()} ({error.strerror or error}): each pass decodes them")
        return None


def _written(wanted: _Wanted, screen: Screen) -> DecodedImages:
    """Decode the images into the cache; raises `OSError` where there is no room."""
    if shutil.disk_usage(cache()).free < wanted.bytes + _SPARE:
        raise OSError(0, f"{wanted.bytes / 1e9:.1f} GB and some to spare are not free")
    for stale in cache().glob(f".{wanted.stamp[:32]}-*.partial*"):  # of a process that was killed
        shutil.rmtree(stale, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{wanted.stamp[:32]}-{wanted.n}.partial", dir=cache()))
    try:
        sums = np.empty(wanted.n, dtype=np.uint32)
        with (
            (folder / _PIXELS).open("wb") as file,
            screen.progress(f"decoding {wanted.name} once, into {cache()}", wanted.n, "images") as advance,
        ):
            for start in range(0, wanted.n, BLOCK):
                pixels = wanted.images.read(start, min(start + BLOCK, wanted.n)).contiguous().numpy()
                sums[start : start + len(pixels)] = [zlib.crc32(image.data) for image in pixels]
                file.write(pixels.data)
                advance(len(pixels), "")
            file.flush()
            os.fsync(file.fileno())
        np.save(folder / _SUMS, sums)
        about = {"name": wanted.name, "images": wanted.n, "size": list(wanted.size), "fingerprints": {}}
        files.replace(folder / _ABOUT, json.dumps(about).encode())
        final = cache() / f"{wanted.stamp[:32]}-{wanted.n}"
        try:
            DecodedImages(final)  # another process without locks was first
        except (OSError, ValueError, KeyError, TypeError):
            shutil.rmtree(final, ignore_errors=True)
            folder.rename(final)
        return DecodedImages(final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
