"""What a person sees: progress and notes on stderr, tables on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import click

Advance = Callable[[int, str], None]  # how many more are done, and what is at work
Report = Callable[[int, int, str], None]  # a training loop's images done, images in all, and where it stands

_QUIET = 10.0  # seconds between plain progress lines


class Screen:
    """stderr as a person's terminal, or as a log."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()

    def note(self, line: str) -> None:
        """One line for the person."""
        click.echo(line, err=True)

    @contextmanager
    def progress(self, title: str, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
        """A bar with the rate and the remaining time on a terminal, else a plain line every few seconds.

        `done` of the total were done before, at who knows what rate.
        """
        with (self._bar if self._live else self._lines)(title, total, unit, done) as advance:
            yield advance

    @contextmanager
    def training(self, title: str) -> Iterator[Report]:
        """The same for a training loop, whose first report says where it starts."""
        with ExitStack() as stack:
            advance: Advance | None = None
            before = 0

            def report(done: int, total: int, label: str) -> None:
                nonlocal advance, before
                if advance is None:
                    advance, before = stack.enter_context(self.progress(title, total, "images", done)), done
                advance(done - before, label)
                before = done

            yield report

    @contextmanager
    def _bar(self, title: str, total: int, unit: str, done: int) -> Iterator[Advance]:
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
    def _lines(self, title: str, total: int, unit: str, done: int) -> Iterator[Advance]:
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
            click.echo(f"{title}: {done:,} of {total:,} {unit}, {_speed(rate, unit)}, {left} ({label})", err=True)

        yield advance


def _speed(rate: float, unit: str) -> str:
    return f"{rate:,.{0 if rate >= 10 else 1}f} {unit}/s"
