"""Terminal output: progress and notes on stderr, tables on stdout."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from typing import TextIO

import click

from stressbench.errors import describe, one_line

ProgressCallback = Callable[[int, str], None]  # how many more are done, and what is at work
Report = Callable[[int, int, str], None]  # a training loop's images done, images in all, and where it stands


@contextmanager
def printing() -> Iterator[None]:
    """For results that are kept already: where stdout is closed or full, the rest of the command goes on without it."""
    try:
        yield
        sys.stdout.flush()
    except (OSError, SystemExit) as error:  # rich ends the program where a pipe is closed
        if not isinstance(error, (BrokenPipeError, SystemExit)):  # a reader who has gone knows that
            Screen().note(f"cannot write the output ({describe(error)}); the command goes on")
        abandon_stdout()


def abandon_stdout() -> None:
    """Writes to nowhere from now on, at exit too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def stdout_for_records() -> Iterator[TextIO]:
    """The stream for records; all else that is printed inside, also by extensions, goes to stderr."""
    stream = sys.stdout
    with redirect_stdout(sys.stderr):
        try:
            descriptor, kept = stream.fileno(), os.dup(stream.fileno())
        except (OSError, ValueError):  # a stream of a notebook or a test has none
            yield stream
            return
        stream.flush()
        os.dup2(sys.__stderr__.fileno() if sys.__stderr__ else os.open(os.devnull, os.O_WRONLY), descriptor)
        try:
            with os.fdopen(os.dup(kept), "w", encoding=stream.encoding, errors=stream.errors) as records:
                yield records
        finally:
            os.dup2(kept, descriptor)
            os.close(kept)


_QUIET = 10.0  # seconds between plain progress lines


class Screen:
    """stderr as a terminal or a log; a quiet one shows nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self._live, self._quiet = sys.stderr.isatty(), quiet

    def note(self, line: str) -> None:
        """Print one line."""
        if self._quiet:
            return
        with suppress(OSError):  # of a stderr that is closed or full: the work goes on
            click.echo(one_line(line), err=True)

    @contextmanager
    def progress(self, title: str, total: int, unit: str, done: int = 0) -> Iterator[ProgressCallback]:
        """A bar with the rate and the remaining time on a terminal, else a plain line every few seconds.

        `done` of the total were finished earlier and do not count for the rate.
        """
        if self._quiet:
            yield lambda _count, _label: None
            return
        with (self._bar if self._live else self._lines)(title, total, unit, done) as advance:
            yield advance

    @contextmanager
    def training(self, title: str) -> Iterator[Report]:
        """The same for a training loop, whose first report says where it starts."""
        with ExitStack() as stack:
            advance: ProgressCallback | None = None
            before = 0

            def report(done: int, total: int, label: str) -> None:
                nonlocal advance, before
                if advance is None:
                    advance, before = stack.enter_context(self.progress(title, total, "images", done)), done
                advance(done - before, label)
                before = done

            yield report

    @contextmanager
    def _bar(self, title: str, total: int, unit: str, done: int) -> Iterator[ProgressCallback]:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
            TextColumn("{task.fields[label]}", markup=False, style="dim"),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(title, total=total, completed=done, rate="", label="")

            def advance(count: int, label: str) -> None:
                speed = progress.tasks[0].speed
                progress.update(task, advance=count, label=label, rate=_speed(speed, unit) if speed else "")

            yield advance

    @contextmanager
    def _lines(self, title: str, total: int, unit: str, done: int) -> Iterator[ProgressCallback]:
        started = last = time.monotonic()
        before = done

        def advance(count: int, label: str) -> None:
            nonlocal done, last
            done += count
            now = time.monotonic()
            if done == before or (now - last < _QUIET and done < total):
                return
            last = now
            rate = (done - before) / max(now - started, 1e-9)
            left = f"{(total - done) / rate:,.0f} s left"
            self.note(f"{title}: {done:,} of {total:,} {unit}, {_speed(rate, unit)}, {left} ({label})")

        yield advance


def _speed(rate: float, unit: str) -> str:
    return f"{rate:,.{0 if rate >= 10 else 1}f} {unit}/s"
