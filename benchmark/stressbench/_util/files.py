"""Writes files atomically, and converts errors of the file system to one line."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from stressbench.errors import UserError

_ADVICE: Mapping[int | None, str] = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "check its permissions"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR), "it was moved or removed, check the path"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "too many files are open, raise the limit (ulimit -n)"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "the disk is full, free some space"),
    errno.ENOMEM: "the system is out of memory",
}


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
def reading(what: object) -> Iterator[None]:
    """Re-raises what the system refuses, for a file or a share of its network, as `UserError` that says so.

    Errors that libraries raise for a file's content pass, and may advise to get it again. Those are `OSError` too, but
    have no errno, or that of a seek to an impossible place; and libraries may wrap the system's.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (cause := _of_the_system(error)) is not None:
            raise refused(what, cause) from error
        raise


def _of_the_system(error: BaseException | None) -> OSError | None:
    while error is not None:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            return error
        error = error.__cause__
    return None


def refused(what: object, error: OSError) -> UserError:
    """The error for a file or a folder that the system does not let a process read."""
    advice = _ADVICE.get(
        error.errno, "the file system, or the disk or network under it, failed: check it, then run the command again"
    )
    why = os.strerror(error.errno) if error.errno else error
    return UserError(f"{what} cannot be read ({why}): {advice}")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Converts OSError to a one-line UserError."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "free some space, then run the same command again" if full else "choose another folder with --out"
        raise UserError(f"cannot write to {folder}: {error.strerror or error}. To go on, {advice}") from error
