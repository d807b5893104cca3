"""Images that are stored encoded and decoded when they are read."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import functional, v2

from stressbench._util.files import reading
from stressbench.datasets.decoded import stamp
from stressbench.errors import UserError

if TYPE_CHECKING:
    import datasets
    from numpy.typing import NDArray

# A closed list, because Pillow would hand PostScript, which is a program, to an interpreter.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_PNG = b"\x89PNG\r\n\x1a\n"
_SCAN = 4096  # rows whose first bytes are looked at together


# The encoded bytes of images start … stop − 1; None for one that has no bytes.
Fetch = Callable[[int, int], Sequence[bytes | None]]
# What brings images of any size to one; its text says how, in the stamp of decoded images.
Fitting = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class Fit:
    """Brings images of any size to `size`×`size` pixels, as torchvision's Resize(resize) and CenterCrop(size) do."""

    size: int
    resize: int
    """What the shorter side is scaled to, bilinearly and antialiased, before the middle is cut out."""

    def __call__(self, image: Image.Image) -> Image.Image:
        scaled = functional.resize(image, [self.resize], v2.InterpolationMode.BILINEAR, antialias=True)
        cut: Image.Image = functional.center_crop(scaled, [self.size, self.size])
        return cut


def fit(size: int | None, resize: int | None) -> Fit | None:
    """The `Fit` that two options of a dataset ask for; raises `UserError` for numbers that make none."""
    if size is None and resize is None:
        return None
    if size is None or size < 1 or (resize or size) < size:
        raise UserError(f"invalid size={size},resize={resize}: expected size of 1 or more pixels, and resize as large")
    return Fit(size, resize or size)


class EncodedImages:
    """`contracts.Source` of images that `fetch` has the bytes of; all must have the size of the first, or are `fitted`.

    `where` turns a position into words for an error, such as "row 3 of test.parquet".
    """

    def __init__(
        self,
        fetch: Fetch,
        count: int,
        where: Callable[[int], str],
        fitted: Fitting | None = None,
        files: Sequence[Path] = (),
        part: str = "",
    ) -> None:
        """`files` are those that decide the images, if any do alone, and `part` is what is read of them."""
        self._fetch, self._count, self._where, self._fit = fetch, count, where, fitted
        self._files, self._part = files, part
        height, width, _ = self._decode(0, fetch(0, 1)[0], None).shape
        self.size = (height, width)

    @classmethod
    def of_table(
        cls,
        table: datasets.Dataset,
        column: str,
        where: Callable[[int], str],
        fitted: Fitting | None = None,
        files: Sequence[Path] = (),
    ) -> EncodedImages:
        """The images in a column of encoded bytes."""
        arrow = table.select_columns([column]).with_format("arrow")

        def fetch(start: int, stop: int) -> Sequence[bytes | None]:
            part = arrow[start : min(stop, len(arrow))].column(column)
            part = pc.struct_field(part, "bytes") if pa.types.is_struct(part.type) else part
            found: Sequence[bytes | None] = part.to_pylist()
            return found

        return cls(fetch, len(arrow), where, fitted, files, column)

    @classmethod
    def of_files(cls, paths: Sequence[Path], fitted: Fitting | None = None) -> EncodedImages:
        """Images in a file each; reading raises `UserError` that names the first file that cannot be read."""

        def fetch(start: int, stop: int) -> Sequence[bytes]:
            found = []
            for path in paths[start:stop]:
                with reading(path):
                    found.append(path.read_bytes())
            return found

        return cls(fetch, len(paths), lambda index: str(paths[index]), fitted, paths)

    @property
    def stamp(self) -> str | None:
        """For `decoded.Stamped`; None for images that are not from files."""
        return stamp(self._files, f"{self._part} {self._fit}") if self._files else None

    def __len__(self) -> int:
        return self._count

    def read(self, start: int, stop: int) -> Tensor:
        """Decode images start … stop−1 to (stop − start, 3, H, W), uint8.

        Raises `UserError` for the first image that cannot be decoded or differs in size.
        """
        encoded = self._fetch(start, min(stop, self._count))
        pixels = np.empty((len(encoded), *self.size, 3), dtype=np.uint8)

        def decode(part: range) -> None:
            for i in part:
                pixels[i] = self._decode(start + i, encoded[i], self.size)

        # Pillow decodes without the interpreter's lock. Results are taken in order: the first fault is the one raised.
        workers = min(os.cpu_count() or 1, 16)
        step = -(-len(encoded) // workers) or 1
        parts = [range(i, min(i + step, len(encoded))) for i in range(0, len(encoded), step)]
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(decode, parts))
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()

    def lossless(self) -> bool:
        """Whether every image is a PNG file, the format of the published sets, with its own pixels."""
        starts = range(0, self._count, _SCAN)
        return self._fit is None and all(
            (one or b"").startswith(_PNG) for i in starts for one in self._fetch(i, i + _SCAN)
        )

    def _decode(self, index: int, encoded: bytes | None, size: tuple[int, int] | None) -> NDArray[np.uint8]:
        """One image, (H, W, 3); an image of another size is refused before it is decoded."""
        if encoded is None:
            # The library would open the path, or the URL, that such a row may name instead.
            raise UserError(f"image {index} ({self._where(index)}) has no bytes: write the images into the file")
        try:
            with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
                ImageOps.exif_transpose(image, in_place=True)
                height, width = image.height, image.width
                if self._fit is not None:
                    return np.asarray(self._fit(rgb(image)))
                if size in (None, (height, width)):
                    return np.asarray(rgb(image))
        except Exception as error:  # a damaged file makes Pillow raise nearly anything
            raise UserError(
                f"image {index} ({self._where(index)}) cannot be decoded: {error}. Fix or remove that row"
            ) from error
        raise UserError(
            f"image {index} ({self._where(index)}) is {width}×{height}, but image 0 is {self.size[1]}×{self.size[0]}: "
            "bring all images to one size, with the dataset's option size=N for example"
        )


def rgb(image: Image.Image) -> Image.Image:
    """An image of any mode in RGB; raises `ValueError` for one whose pixels have no fixed range."""
    if image.mode.startswith("I;16"):
        # The high byte, as Pillow does for 16-bit colour; its own conversion to RGB clips at 255.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no fixed range, 8 or 16 bits a channel do")
    if "transparency" in image.info:
        image = image.convert("RGBA")  # else Pillow warns, and the transparency is dropped all the same
    return image.convert("RGB")
