"""The options of commands that print tables in more than one form."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

_FORMS = {
    "markdown": "Print Markdown, to paste: percent and nats, rounded.",
    "csv": "Print CSV: fractions and nats, not rounded.",
    "json": "Print JSON: fractions and nats, not rounded.",
}


def forms(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --markdown, --csv and --json, and tell it in `form` which one was given, if any."""

    @functools.wraps(command)
    def wrapper(*args: Any, **given: Any) -> None:
        asked = [form for form in _FORMS if given.pop(f"as_{form}")]
        if len(asked) > 1:
            raise click.UsageError(f"--{asked[0]} and --{asked[1]} exclude each other: pass one of them")
        command(*args, form=asked[0] if asked else None, **given)

    for form, what in reversed(_FORMS.items()):
        wrapper = click.option(f"--{form}", f"as_{form}", is_flag=True, help=what)(wrapper)
    return wrapper
