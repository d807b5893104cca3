"""A process that waits for another one, and says what that was doing when it ended without a word.

On Linux alone: elsewhere a command is one process.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

_DONE = "\0"
_SENT = 0x80  # SI_KERNEL: by the terminal, to all of its processes
_PDEATHSIG = 1
# What comes from outside, to the process that was started.
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT)
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
_LAST_WORDS = 4096

_pipe: int | None = None


def doing(what: str) -> None:
    """Note what this process does from now on, in case that it is the last thing."""
    _tell(what)


def done(code: int) -> None:
    """Note that the command has come to its end with this exit code."""
    if _pipe is not None:
        os.set_blocking(_pipe, True)  # this must not be dropped
    _tell(f"{_DONE}{code}")


def _tell(text: str) -> None:
    if _pipe is not None:
        with suppress(OSError):  # nobody reads, or not fast enough
            os.write(_pipe, text.encode()[:_LAST_WORDS] + b"\n")


def over(command: Callable[[], None]) -> int:
    """Run `command`, which ends its process, in a new process; returns its exit code, or ends as it was ended."""
    global _pipe
    if sys.platform != "linux":
        command()
        return 0
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_FORWARDED, signal.SIGCHLD})
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(ours)
        _pipe = theirs
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)  # whoever kills the one process means both
        if os.getppid() != parent:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        command()
        return 0
    os.close(theirs)
    words, status = _wait(child, ours)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return _ended(words, status)


def _wait(child: int, pipe: int) -> tuple[str, int]:
    """What a process said last, and its status; signals from outside are passed on."""
    os.set_blocking(pipe, False)
    said = b""
    while True:
        found = signal.sigtimedwait({*_FORWARDED, signal.SIGCHLD}, 1.0)
        if found is not None and found.si_signo in _FORWARDED and found.si_code != _SENT and found.si_pid != child:
            with suppress(ProcessLookupError):
                os.kill(child, found.si_signo)
        pid, status = os.waitpid(child, os.WNOHANG)
        with suppress(BlockingIOError):
            while more := os.read(pipe, 65536):
                said = (said + more)[-2 * _LAST_WORDS :]
        if pid:
            lines = said.decode(errors="replace").splitlines()
            return (lines[-1] if lines else ""), status


def _ended(words: str, status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    if words.startswith(_DONE):
        return int(words.removeprefix(_DONE))
    where = f" ({words})" if words else ""
    if code >= 0:
        _say(f"a plugin or a library ended the command with exit code {code}{where}: fix that one, or leave it out")
        return code or 70
    if -code in _CRASHES:
        _say(f"a plugin or a library crashed ({signal.Signals(-code).name}){where}: fix that one, or leave it out")
    elif -code == signal.SIGKILL:
        _say(
            f"the command was killed{where}, perhaps because memory ran out: the same command resumes, and a smaller "
            "--batch-size needs less"
        )
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
    return 128 - code


def _say(line: str) -> None:
    with suppress(OSError):
        os.write(2, f"bench: {line}\n".encode())
