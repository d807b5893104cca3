"""A limit on the time that a plugin may take in this process, which also notes what it does."""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from stressbench._util import watch
from stressbench.errors import UserError

_GRACE = 10.0  # seconds more, until code that Python cannot interrupt ends the process


_ROOM = 5 * 2**30  # bytes of addresses


def require_room() -> None:
    """Raises `UserError` under a limit of addresses with which libraries of linear algebra wait for memory for ever."""
    if sys.platform == "win32":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if 0 <= limit < _ROOM:
        raise UserError(
            f"this process may have {limit / 2**30:.1f} GB of addresses (ulimit -v), and libraries hang with less than "
            f"{_ROOM / 2**30:.0f} GB: allow more, or limit the resident memory instead"
        )


class _Overdue(BaseException):
    """Not an `Exception`, so that a plugin that catches those does not go on."""


@contextmanager
def limited(seconds: float | None, what: str) -> Iterator[None]:
    """Raises `UserError` where the block takes longer, if Python can interrupt it; else the process ends with 1.

    Without effect for None, on systems without timers, and in other threads than the main one.
    """
    watch.doing(what)
    here = threading.current_thread() is threading.main_thread()
    if seconds is None or not here or not hasattr(signal, "setitimer"):
        yield
        return

    def overdue(_number: int, _frame: FrameType | None) -> NoReturn:
        raise _Overdue

    before = signal.signal(signal.SIGALRM, overdue)
    try:
        try:
            if sys.__stderr__ is not None:
                faulthandler.dump_traceback_later(seconds + _GRACE, exit=True, file=sys.__stderr__)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except BaseException as error:
        if not any(isinstance(one, _Overdue) for one in _chain(error)):
            raise
        raise UserError(f"{what} took more than {seconds:g} seconds (--timeout)") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__
