"""Errors that are reported to the user in one line: what is wrong, why, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from stressbench.isolation import preserved


def one_line(text: str) -> str:
    """A text of anybody's for a terminal: in one line, without the control characters that could change what it shows.

    >>> one_line("no layer\\n \\x1b[31m'conv9'\\x07")
    "no layer [31m'conv9'"
    """
    # Bytes of a path that are no text are surrogates in it, which no encoding can write.
    clear = ("�" if "\ud800" <= sign <= "\udfff" else sign if sign.isprintable() else " " for sign in text)
    return " ".join("".join(clear).split())


class UserError(Exception):
    """An error that the user can fix. The command line prints it as one line and exits with 2.

    The text says what is wrong, why if that is not obvious, and what to do. It is raised where the fault is found and
    is not translated further up.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


class BrokenPlugin(UserError):
    """A plugin that cannot be imported or built, or that returns the wrong type. Other models and suites still run."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"did you mean 'fog'? "` when a known word is close to the given one, else an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'? " if close else ""


class Interrupted(Exception):
    """Ctrl-C, with what was kept and how to resume. The command line prints it as one line and exits with 130."""


@contextmanager
def plugin_errors(
    fault: str,
    kind: type[UserError] = UserError,
    advice: str = "fix its code",
    passing: tuple[type[BaseException], ...] = (),
) -> Iterator[None]:
    """Re-raises anything that a plugin raises as `kind`, with the fault, the reason and the advice.

    Global state that the plugin changed is restored. `UserError` and Ctrl-C are not translated. `BaseException` is
    caught because a plugin may call sys.exit, and because a panic in a Rust extension is not an `Exception`.
    """
    try:
        with preserved():
            yield
    except passing:
        raise
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise kind(f"{fault}: {describe(error)}; {advice}") from error


def describe(error: BaseException) -> str:
    """Another library's or a plugin's exception in one line."""
    text = one_line(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
