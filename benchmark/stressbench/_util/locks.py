"""File locks against concurrent writers, and errors on file systems without locks."""

from __future__ import annotations

import errno
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

from filelock import FileLock, Timeout

from stressbench.errors import UserError

_NOT_SUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


# Seconds. Where a command is killed, the process that it watches over (`_util/watch.py`) ends a moment later.
_MOMENT = 3.0


def hold(path: Path, busy: str, cure: str, timeout: float = _MOMENT) -> AbstractContextManager[object]:
    """Acquire the lock file `path`; the returned context manager releases it. `timeout` is in seconds.

    Raises `UserError` if another process holds it (`busy` says what that process does) and if the file system has no
    locks, with `cure` as the advice ("choose … with --out"). Raises `OSError` for other errors of the file system.
    """
    require_locks(path.parent, cure)
    try:
        return FileLock(path, timeout=timeout).acquire()
    except Timeout as error:
        raise UserError(f"another process is {busy}: wait for it, or end it") from error


def require_locks(folder: Path, cure: str) -> None:
    """Raise `UserError` if files in a folder cannot be locked, as on some network file systems.

    Tested on a separate file, because libraries differ here: they fail, wait forever, or take a leftover file for a
    held lock.
    """
    if sys.platform == "win32":
        return
    import fcntl

    with tempfile.TemporaryFile(dir=folder) as probe:
        try:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise
            raise UserError(
                f"the file system of {folder} does not support file locks ({error.strerror}), so two processes could "
                f"spoil each other's files: {cure} on another file system"
            ) from error
