"""Images, masks and maps in files, decoded as they are read; whatever is wrong with one is reported by its name."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stressbench._util.files import reading
from stressbench.datasets.encoded import FORMATS, rgb
from stressbench.errors import UserError, did_you_mean

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".ppm", ".webp"}

_LOSSY = {"JPEG", "MPO"}  # of Pillow's formats

# A decoded mask (H, W) or (H, W, 3), and its name → the class of each pixel, (H, W).
Lookup = Callable[[NDArray[Any], str], NDArray[Any]]
# The same → the values of a map, of any shape.
Values = Callable[[NDArray[Any], str], NDArray[np.float32]]


@dataclass(frozen=True)
class Encoded:
    """Encoded pictures by position: what each is called in an error, and its bytes."""

    names: Sequence[str]
    load: Callable[[int], bytes]

    @classmethod
    def files(cls, paths: Sequence[Path]) -> Encoded:
        return cls([str(path) for path in paths], lambda index: paths[index].read_bytes())

    def decoded(self, index: int) -> Image.Image:
        """Raises `UserError` for a picture that cannot be read."""
        picture = self._opened(index)
        with self._decoding(index):
            picture.load()
        return picture

    def _opened(self, index: int) -> Image.Image:
        with self._decoding(index):
            return Image.open(io.BytesIO(self.load(index)), formats=FORMATS)

    @contextmanager
    def _decoding(self, index: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a damaged file makes Pillow raise nearly anything
            raise UserError(f"{self.names[index]} cannot be decoded: {error}. Fix or remove it") from error

    def size(self, index: int) -> tuple[int, int]:
        """Height and width, from the header; raises `UserError` for a picture that cannot be read."""
        picture = self._opened(index)
        return picture.height, picture.width


@dataclass(frozen=True)
class _Sized:
    pictures: Encoded
    size: tuple[int, int]
    resize: bool
    """Whether pictures of another size are resized; else they are refused."""

    def __len__(self) -> int:
        return len(self.pictures.names)

    def _picture(self, index: int, how: Image.Resampling) -> Image.Image:
        return self._sized(self.pictures.decoded(index), index, how)

    def _sized(self, picture: Image.Image, index: int, how: Image.Resampling) -> Image.Image:
        height, width = self.size
        if (picture.height, picture.width) == (height, width):
            return picture
        if self.resize:
            return picture.resize((width, height), how)
        raise UserError(
            f"{self.pictures.names[index]} is {picture.width}×{picture.height}, but the first image is "
            f"{width}×{height}: bring all images and masks to one size"
        )

    def _all(self, start: int, stop: int, one: Callable[[int], NDArray[np.generic]]) -> Tensor:
        # Pillow decodes without the interpreter's lock. Results are taken in order: the first fault is the one raised.
        with ThreadPoolExecutor(4) as pool:
            return torch.from_numpy(np.stack(list(pool.map(one, range(start, min(stop, len(self)))))))


@dataclass(frozen=True)
class Images(_Sized):
    """A `contracts.Source` of images (n, 3, H, W), uint8; others are resized bilinearly, with antialiasing."""

    def read(self, start: int, stop: int) -> Tensor:
        return self._all(start, stop, self._pixels).permute(0, 3, 1, 2).contiguous()

    def _pixels(self, index: int) -> NDArray[np.generic]:
        try:
            return np.asarray(rgb(self._picture(index, Image.Resampling.BILINEAR)))
        except ValueError as error:
            raise UserError(f"{self.pictures.names[index]}: {error}") from error


@dataclass(frozen=True)
class Masks(_Sized):
    """A `contracts.Source` of masks (n, H, W), int64; others are resized to the nearest pixel."""

    lookup: Lookup
    of: Encoded | None = None
    """The images, to be given where both are resized: each mask must have had the size of its image."""

    def read(self, start: int, stop: int) -> Tensor:
        return self._all(start, stop, self._classes)

    def _classes(self, index: int) -> NDArray[np.generic]:
        name = self.pictures.names[index]
        stored = self.pictures.decoded(index)
        if stored.format in _LOSSY:
            raise UserError(f"{name} is a JPEG file, which changes the numbers of classes: save masks as PNG")
        if self.of is not None and (stored.height, stored.width) != (size := self.of.size(index)):
            raise UserError(
                f"{name} is {stored.width}×{stored.height}, and its image {self.of.names[index]} is "
                f"{size[1]}×{size[0]}: a mask has a class for each pixel of its image"
            )
        return self.lookup(np.asarray(self._sized(stored, index, Image.Resampling.NEAREST)), name).astype(np.int64)


@dataclass(frozen=True)
class Maps(_Sized):
    """A `contracts.Source` of maps of real numbers, (n, …), float32, such as depths."""

    values: Values

    def read(self, start: int, stop: int) -> Tensor:
        return self._all(start, stop, self._map)

    def _map(self, index: int) -> NDArray[np.generic]:
        picture = self._picture(index, Image.Resampling.NEAREST)
        return self.values(np.asarray(picture), self.pictures.names[index])


def indices(mask: NDArray[Any], name: str) -> NDArray[Any]:
    """A mask whose pixels are the numbers of classes, as it is; raises `UserError` for one of colours."""
    if mask.ndim != 2 or not np.issubdtype(mask.dtype, np.integer):
        raise UserError(
            f"{name} has {mask.ndim} dimensions of {mask.dtype}, and not the number of a class in each pixel: save "
            "masks as 8-bit greyscale or palette images, with 255 for void"
        )
    return mask


def column(files: Sequence[Path], name: str) -> Encoded:
    """The encoded pictures in a column of Parquet files; raises `UserError` where it is missing or holds none."""
    parts: list[pa.ChunkedArray] = []
    names: list[str] = []
    for path in files:
        try:
            with reading(path), pq.ParquetFile(path) as file:
                known = file.schema_arrow.names
                if name not in known:
                    raise UserError(
                        f"{path} has no column '{name}': {did_you_mean(name, known)}it has {', '.join(known)}. "
                        "Rename the column"
                    )
                part = file.read(columns=[name]).column(0)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path} is not a whole Parquet file: {error}. Download it again") from error
        if pa.types.is_struct(part.type) and part.type.get_field_index("bytes") >= 0:
            part = pa.chunked_array([chunk.field("bytes") for chunk in part.chunks])
        if not (pa.types.is_binary(part.type) or pa.types.is_large_binary(part.type)):
            raise UserError(f"{path}: column '{name}' is {part.type}, not encoded images: write the bytes of PNG files")
        parts.append(part)
        names += [f"{name} {row} of {path}" for row in range(len(part))]
    whole = pa.chunked_array([chunk for part in parts for chunk in part.chunks])
    return Encoded(names, lambda index: whole[index].as_py())


def listed(folder: Path) -> list[Path]:
    """The picture files of a folder, by name; raises `UserError` where there are none."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise UserError(f"{folder} holds no image files ({', '.join(sorted(SUFFIXES))}): check --data-dir")
    return found


def paired(images: Sequence[Path], masks: Sequence[Path], ending: str = "") -> tuple[list[Path], list[Path]]:
    """The images and the mask of each: that of the same name, but for the suffix and with an `ending`.

    Raises `UserError` that names an image without a mask, or a mask without an image.
    """
    by_name = {path.stem.removesuffix(ending) if ending else path.stem: path for path in masks}
    for image in images:
        if image.stem not in by_name:
            raise UserError(
                f"{image} has no mask {image.stem}{ending} in {masks[0].parent}: add it, or remove the image"
            )
    extra = by_name.keys() - {image.stem for image in images}
    if extra:
        raise UserError(f"{by_name[min(extra)]} has no image in {images[0].parent}: add it, or remove the mask")
    return list(images), [by_name[image.stem] for image in images]
