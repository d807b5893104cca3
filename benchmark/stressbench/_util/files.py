"""Writes files atomically, and converts errors of the file system to one line."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stressbench.errors import UserError


def replace(path: Path, content: bytes) -> None:
    """Replace a file atomically: readers, kills and full disks never see or leave an incomplete file."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def require_text(folder: Path, cure: str) -> Path:
    """The folder, whose path is text.

    Raises `UserError`, with `cure` as the advice, where it has bytes that are not UTF-8: pyarrow and safetensors cannot
    write there, and would say so after the computing.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(folder).decode(errors="backslashreplace")
        raise UserError(
            f"the path {shown} has bytes that are not UTF-8, where no tables can be kept: {cure}"
        ) from error
    return folder


def text(path: Path, most: int) -> str:
    """A file's text in UTF-8, without the mark that some editors put before it.

    Raises `UserError` where it cannot be read, is longer than `most` bytes, or has another encoding.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)  # a device may have no end
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}; check the path") from error
    if len(content) > most:
        raise UserError(f"{path} has more than {most / 2**20:.0f} MB, too much for such a file: check the path")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from error


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Converts OSError to a one-line UserError."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "free some space, then run the same command again" if full else "choose another folder with --out"
        raise UserError(f"cannot write to {folder}: {error.strerror or error}. To go on, {advice}") from error
