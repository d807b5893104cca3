"""Images that are stored encoded and decoded when they are read."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from PIL import Image, ImageOps
from torch import Tensor

from stressbench.errors import UserError

if TYPE_CHECKING:
    import datasets
    from numpy.typing import NDArray

# A closed list, because Pillow would hand PostScript, which is a program, to an interpreter.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_PNG = b"\x89PNG\r\n\x1a\n"
_SCAN = 4096  # rows whose first bytes are looked at together


class EncodedImages:
    """`contracts.Source` of a column of encoded bytes; all must have the size of the first.

    `where` turns a position into words for an error, such as "row 3 of test.parquet".
    """

    def __init__(self, table: datasets.Dataset, column: str, where: Callable[[int], str]) -> None:
        self._table = table.select_columns([column]).with_format("arrow")
        self._column = column
        self._where = where
        height, width, _ = self._decode(0, self._bytes(0, 1)[0].as_py(), None).shape
        self.size = (height, width)

    def __len__(self) -> int:
        return len(self._table)

    def read(self, start: int, stop: int) -> Tensor:
        """Decode images start … stop−1 to (stop − start, 3, H, W), uint8.

        Raises `UserError` for the first image that cannot be decoded or differs in size.
        """
        encoded = self._bytes(start, stop)
        pixels = np.empty((len(encoded), *self.size, 3), dtype=np.uint8)

        def decode(part: range) -> None:
            for i in part:
                pixels[i] = self._decode(start + i, encoded[i].as_py(), self.size)

        # Pillow decodes without the interpreter's lock. Results are taken in order: the first fault is the one raised.
        workers = min(os.cpu_count() or 1, 16)
        step = -(-len(encoded) // workers) or 1
        parts = [range(i, min(i + step, len(encoded))) for i in range(0, len(encoded), step)]
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(decode, parts))
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()

    def all_png(self) -> bool:
        """Whether every image is a PNG file, the format of the published sets."""
        return all(
            pc.all(pc.equal(pc.binary_slice(self._bytes(i, i + _SCAN), 0, len(_PNG)), _PNG), min_count=0).as_py()
            for i in range(0, len(self), _SCAN)
        )

    def _bytes(self, start: int, stop: int) -> pa.ChunkedArray:
        column = self._table[start : min(stop, len(self))].column(self._column)
        return pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column

    def _decode(self, index: int, encoded: bytes | None, size: tuple[int, int] | None) -> NDArray[np.uint8]:
        """One image, (H, W, 3); an image of another size is refused before it is decoded."""
        if encoded is None:
            # The library would open the path, or the URL, that such a row may name instead.
            raise UserError(f"image {index} ({self._where(index)}) has no bytes: write the images into the file")
        try:
            with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
                ImageOps.exif_transpose(image, in_place=True)
                height, width = image.height, image.width
                if size in (None, (height, width)):
                    return np.asarray(rgb(image))
        except Exception as error:  # a damaged file makes Pillow raise nearly anything
            raise UserError(
                f"image {index} ({self._where(index)}) cannot be decoded: {error}. Fix or remove that row"
            ) from error
        raise UserError(
            f"image {index} ({self._where(index)}) is {width}×{height}, but image 0 is {self.size[1]}×{self.size[0]}: "
            "bring all images to one size"
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
