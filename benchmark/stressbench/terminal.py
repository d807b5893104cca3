"""What a person sees: progress and notes on stderr, tables on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import click

Advance = Callable[[int, str], None]  # how many more are done, and what is at work
Report = Callable[[int, int, float], None]  # a training loop's steps done, steps in all, and loss

_QUIET = 10.0  # seconds between plain progress lines


class Screen:
    """stderr as a person's terminal, or as a log."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()

    def note(self, line: str) -> None:
        """One line for the person."""
        click.echo(line, err=True)

    @contextmanager
    def progress(self, title: str, total: int, unit: str) -> Iterator[Advance]:
        """A bar with the rate and the remaining time on a terminal, else a plain line every few seconds."""
        with (self._bar if self._live else self._lines)(title, total, unit) as advance:
            yield advance

    @contextmanager
    def training(self, title: str) -> Iterator[Report]:
        """The same for a training loop, which tells its number of steps with the first of them."""
        with ExitStack() as stack:
            advance: Advance | None = None
            before = 0

            def report(done: int, steps: int, loss: float) -> None:
                nonlocal advance, before
                if advance is None:
                    advance = stack.enter_context(self.progress(title, steps, "steps"))
                advance(done - before, f"loss {loss:.3f}")
                before = done

            yield report

    @contextmanager
    def _bar(self, title: str, total: int, unit: str) -> Iterator[Advance]:
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
            task = progress.add_task(title, total=total, rate="", label="")

            def advance(count: int, label: str) -> None:
                speed = progress.tasks[0].speed
                progress.update(task, advance=count, label=label, rate=_speed(speed, unit) if speed else "")

            yield advance

    @contextmanager
    def _lines(self, title: str, total: int, unit: str) -> Iterator[Advance]:
        started = last = time.monotonic()
        done = 0

        def advance(count: int, label: str) -> None:
            nonlocal done, last
            done += count
            now = time.monotonic()
            if done == 0 or (now - last < _QUIET and done < total):
                return
            last = now
            rate = done / max(now - started, 1e-9)
            left = f"{(total - done) / rate:,.0f} s left"
            click.echo(f"{title}: {done:,} of {total:,} {unit}, {_speed(rate, unit)}, {left} ({label})", err=True)

        yield advance


def _speed(rate: float, unit: str) -> str:
    return f"{rate:,.{0 if rate >= 10 else 1}f} {unit}/s"
