"""The one error for a user's mistake: what is wrong, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A fault that the user can mend; the command line prints it as one line and exits with 2.

    Its text says what is wrong (and why, where that is not plain) and then what to do.
    Library code raises it where the fault is found and nobody translates it on the way up.
    """

    def __str__(self) -> str:
        # Text of other libraries is often quoted in it, and one fault is one line.
        return " ".join(super().__str__().split())


class BrokenPlugin(UserError):
    """A plugin that cannot be imported or built, or that offers something else than it should: its author's to mend.

    Where several are run, the others go on.
    """


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"did you mean 'fog'? "` when a known word is close to the given one, else an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'? " if close else ""


class Interrupted(Exception):
    """Ctrl-C, with what was kept and how to go on; the command line prints it as one line and exits with 130."""
