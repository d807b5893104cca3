"""What a stranger's words in a record may be made of.

The page escapes everything that it shows; this is so that nothing which would need it, or which reads as something
else (a link, another alphabet's look-alike, a terminal's control codes), gets into the leaderboard at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from stressbench.record import Record

# Letters without accents, because other alphabets have letters that look the same.
_NAME = re.compile(r"[A-Za-z0-9(][A-Za-z0-9._+=,:()/@-]*")
_BARE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_TEXT = re.compile(r"[^<>|`\\]+")
_LEADING_AWAY = re.compile(r"\.\.|//|www\.", re.IGNORECASE)

_LONGEST_SHOWN = 80


def strange(record: Record) -> Iterator[tuple[str, str]]:
    """Each field that holds what it may not, and what is wrong with it."""
    suite, data, model, environment = record.suite, record.dataset, record.model, record.environment
    bare = {
        "suite.name": suite.name,
        "suite.version": suite.version,
        "suite.distribution": suite.distribution,
        "suite.distribution_version": suite.distribution_version,
        "dataset.name": data.name,
        "dataset.split": data.split,
        "model.distribution": model.distribution,
        "model.version": model.version,
        "precision": record.precision,
        "device": record.device,
        "environment.stressbench": environment.stressbench,
        "environment.python": environment.python,
        "environment.commit": environment.commit or "none",
        **{f"suite.options.{i}": key for i, key in enumerate(suite.options)},
        **{f"environment.packages.{i}": key for i, key in enumerate(environment.packages)},
    }
    for i, plugin in enumerate(model.plugins):
        bare[f"model.plugins.{i}.distribution"] = plugin.distribution
        bare[f"model.plugins.{i}.version"] = plugin.version
    names = {
        "model.spec": model.spec,
        **{f"model.plugins.{i}.name": plugin.name for i, plugin in enumerate(model.plugins)},
        **{f"suite.options.{i}": value for i, value in enumerate(suite.options.values())},
        **{f"environment.packages.{i}": value for i, value in enumerate(environment.packages.values())},
    }
    texts = {
        "model.weights_source": model.weights_source,
        "environment.platform": environment.platform,
        "environment.device": environment.device,
    }
    if suite.baseline is not None:
        names["suite.baseline.model"] = suite.baseline.model
        texts["suite.baseline.source"] = suite.baseline.source
    for kind, fields, allowed in (
        (_BARE, bare, "letters, digits and . _ + -"),
        (_NAME, names, "letters, digits and . _ + - = , : ( ) / @, no link and no way out of a folder"),
        (_TEXT, texts, "printable text without < > | ` \\ and links"),
    ):
        for field, value in fields.items():
            if not (kind.fullmatch(value) and value.isprintable()) or _LEADING_AWAY.search(value):
                yield field, f"is {shown(value)}: it may hold {allowed}"


def shown(value: object) -> str:
    """A stranger's value in one short printable line, quoted where it is text."""
    text = ascii(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


def printable(text: str) -> str:
    """A line that holds strangers' words, for a terminal or a log: no control codes, and no command of a CI service."""
    line = "".join(character if character.isprintable() else "?" for character in text)
    return f"./{line}" if line.startswith(":") else line
