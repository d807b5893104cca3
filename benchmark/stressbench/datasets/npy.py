"""Reads rows of .npy files without unpickling, and without mapping: a mapped file that is cut kills the process."""

from __future__ import annotations

import math
import os
import weakref
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stressbench._util.files import reading
from stressbench.datasets.checksums import md5
from stressbench.errors import UserError


class NpyFile:
    """The rows of an .npy file of numbers, which are read when they are asked for.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "rows.npy"
    >>> np.save(path, np.arange(6).reshape(3, 2))
    >>> NpyFile(path, "save it again").read(1, 9)
    array([[2, 3],
           [4, 5]])
    """

    def __init__(self, path: Path, cure: str) -> None:
        """Raises `UserError`, with `cure` as what to do, for a file that is not whole or holds Python objects."""
        self.path, self._cure = path, cure
        try:
            with reading(path):
                # Only to read the header and to compare it with the size.
                mapped: Any = np.lib.format.open_memmap(path, mode="r")
                self._file = path.open("rb", buffering=0)
            self.dtype: np.dtype[Any] = mapped.dtype
            self.shape: tuple[int, ...] = mapped.shape
            self._in_rows = bool(mapped.flags.c_contiguous)
            self._start: int = mapped.offset
            del mapped
        except UserError:
            raise
        except Exception as error:  # numpy hands a damaged header to Python's tokenizer, which has errors of its own
            raise UserError(f"{path} is not a whole .npy file of numbers ({error}): {cure}") from error
        weakref.finalize(self, self._file.close)
        self._state = self._now()

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """A copy of the rows start … stop − 1, fewer at the end; raises `UserError` if the file was changed."""
        start, stop = min(start, len(self)), min(stop, len(self))
        size = math.prod(self.shape[1:])
        try:
            with reading(self.path):
                if not self._in_rows:
                    return self._whole[start:stop].copy()
                self._file.seek(self._start + start * size * self.dtype.itemsize)
                found = np.fromfile(self._file, self.dtype, (stop - start) * size)
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path} cannot be read ({error}): {self._cure}") from error
        self._require_unchanged()
        return found.reshape(stop - start, *self.shape[1:])

    @cached_property
    def _whole(self) -> NDArray[Any]:
        """The array of a file in Fortran's order, whose rows are not in one piece."""
        found: NDArray[Any] = np.load(self.path, allow_pickle=False)
        self._require_unchanged()
        return found

    @cached_property
    def md5(self) -> str:
        """Of the whole file, in hexadecimal."""
        found = md5(self.path)
        self._require_unchanged()
        return found

    def _require_unchanged(self) -> None:
        if self._now() != self._state:
            raise UserError(f"{self.path} was changed while it was in use: {self._cure}")

    def _now(self) -> tuple[int, int]:
        state = os.fstat(self._file.fileno())
        return state.st_size, state.st_mtime_ns
