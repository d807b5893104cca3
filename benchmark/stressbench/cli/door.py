"""How every command ends: an exit code, and one line on stderr for whatever went wrong."""

from __future__ import annotations

import codecs
import errno
import faulthandler
import os
import platform
import select
import shlex
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click

from stressbench import __version__
from stressbench._util import watch
from stressbench._util.home import home
from stressbench._util.terminal import abandon_stdout
from stressbench.errors import Interrupted, UserError, describe, one_line

# What our tables and messages have beyond ASCII, for streams that cannot show it; everything else becomes "?".
_PLAIN = {"↓": "v", "↑": "^", "–": "-", "—": "-", "−": "-", "·": "|", "×": "x", "…": "...", "±": "+-", "→": "->"}
_PLAIN |= {"≤": "<=", "≥": ">=", "∞": "inf", "½": "1/2"}
_OUTPUT = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # what a stream's flush raises
_ERRORS = "stressbench.plain"
_PATIENCE = 5.0  # seconds that what is left running may take to end


def close(command: Callable[[], int | None], debug: bool) -> int:
    """Run a command; returns its exit code. Whatever it raises becomes a line, with `debug` below its traceback.

    2 is a mistake of the user's, 70 one of ours: then the line names a file with the traceback, to be reported.
    """
    _prepare_streams()
    os.environ["MPLBACKEND"] = "agg"  # no command opens a window, and a notebook's setting may name what is not here
    try:
        code = command() or 0
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()  # a group without a command: the help says which there are
        code = 2
    except click.UsageError as error:
        name = error.ctx.command_path if error.ctx else "bench"
        code = _fail(f"{error.format_message()} (`{name} --help` shows the options)", 2, debug)
    except UserError as error:
        code = _fail(str(error), 2, debug)
    except Interrupted as error:
        code = _fail(str(error), 130, debug)
    except (KeyboardInterrupt, click.Abort):
        code = _fail("interrupted", 130, debug)
    except BrokenPipeError:
        abandon_stdout()  # the reader has gone, as in `bench list | head`
        code = 1
    except SystemExit as error:
        # click or rich, which puts another stdout in its place, saw it first and ends the command without a reason
        if not _reader_has_gone() and not isinstance(error.__context__, BrokenPipeError):
            raise
        code = 1
    except MemoryError as error:
        code = _fail(f"out of memory ({describe(error)}): use a smaller --batch-size, or --limit", 1, debug)
    except Exception as error:
        if _was_interrupted(error):
            code = _fail("interrupted", 130, debug)
        elif isinstance(error, ImportError) and "failed to map segment" in str(error):
            code = _fail(f"out of memory ({describe(error)}): this command needs more than it is allowed", 1, debug)
        elif isinstance(error, OSError) and error.errno in _OUTPUT and error.filename is None:
            abandon_stdout()
            code = _fail(f"cannot write the output: {describe(error)}", 1, debug)
        else:
            code = _fail(_internal(error, debug), 70, debug)
    return code


def _reader_has_gone() -> bool:
    """Whether the pipe that is stdout is closed at its other end."""
    if sys.platform == "win32":
        return False
    pipe = select.poll()
    pipe.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in pipe.poll(0))


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: modules that were being imported make others of it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def leave(code: int) -> NoReturn:
    """End the process, whatever plugins have left running; what they print from now on does not follow the output."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends what is left without a traceback
    watch.done(code)
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Python waits for threads and calls of `atexit`, which may not end.
    end = threading.Timer(_PATIENCE, os._exit, [code])
    end.daemon = True
    with suppress(RuntimeError):  # no memory for a thread
        end.start()
    sys.exit(code)


def _prepare_streams() -> None:
    """No character is an error to print, and a crash of the interpreter shows where it happened."""
    codecs.register_error(_ERRORS, _replace)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started the command
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_ERRORS)
    if sys.__stderr__ is not None and not faulthandler.is_enabled():
        faulthandler.enable(sys.__stderr__)


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


def _fail(line: str, code: int, debug: bool) -> int:
    if debug and sys.exception() is not None:
        traceback.print_exc()
    with suppress(OSError):
        click.echo(f"bench: {one_line(line)}", err=True)
    return code


def _internal(error: Exception, debug: bool) -> str:
    path = _report(error)
    where = "is above" if debug else f"is in {path}" if path else "could not be written; --debug shows it"
    return (
        f"internal error, {describe(error)}: this is a bug in stressbench, not in what you typed. Please report it; "
        f"the traceback {where}"
    )


def _report(error: Exception) -> Path | None:
    """A file with the traceback and what else a report needs, under `home()` or among the temporary files."""
    text = "\n".join(
        [
            f"stressbench {__version__}, Python {platform.python_version()}, {platform.platform()}",
            shlex.join(sys.argv),
            "",
            "".join(traceback.format_exception(error)),
        ]
    )
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for folder in (_reports, tempfile.gettempdir):
        with suppress(OSError, UserError):
            path = Path(folder()) / f"stressbench-{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
            return path
    return None


def _reports() -> Path:
    return home() / "reports"


def split_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without --debug, which may stand anywhere, and whether it was there."""
    return [word for word in arguments if word != "--debug"], "--debug" in arguments
