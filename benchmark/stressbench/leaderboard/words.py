"""The characters that text in a submitted record may contain.

The page escapes all text. In addition, markup, links, characters of other alphabets that look like Latin ones, and
control codes are not accepted into the leaderboard at all.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from stressbench.record import Record

# Letters without accents, because other alphabets have letters that look the same.
_NAME = re.compile(r"[A-Za-z0-9(][A-Za-z0-9._+=,:()/@-]*")
_BARE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_TEXT = re.compile(r"[^<>|`\\]+")
_LEADING_AWAY = re.compile(r"\.\.|//|www\.|\b(?:javascript|data|mailto):", re.IGNORECASE)
_DOMAIN = re.compile(
    r"(?<![\w.-])(?:[\w-]+\.)+(?:com|org|net|edu|gov|io|ai|co|dev|app|me|info|biz|xyz|site|online|store|tech|cloud|page|link"
    r"|click|top|example|invalid|cn|de|eu|fr|jp|kr|ru|tk|uk|us)(?![\w-]|\.\w)",
    re.IGNORECASE,
)
_PATH = re.compile(r"(?:^|\s)(?:~?/\w|[A-Za-z]:[/\\])")
_LATIN = 0x180  # the first character behind the Latin letters with accents
_GREEK = "αβγδεζηθικλμξπρςστυφχψωΓΔΘΛΞΠΣΦΨΩ"  # those of formulas, without what looks like a Latin letter

_LONGEST_SHOWN = 80


def strange(record: Record) -> Iterator[tuple[str, str]]:
    """Each field with forbidden characters, and the reason."""
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
        "environment.executor": environment.executor,
    }
    for i, finding in enumerate(record.findings):
        if finding.source == "run":  # a suite's own are computed again
            bare[f"findings.{i}.check"], texts[f"findings.{i}.message"] = finding.check, finding.message
    columns = dict.fromkeys(name for sketches in record.sketches for name in sketches)
    texts |= {f"sketches.{name}": name for name in columns}
    if model.name is not None:
        texts["model.name"] = model.name
    for i, training in enumerate(model.training):
        fields = training.model_dump()
        told = fields | fields.pop("settings") | fields.pop("versions")
        texts |= {f"model.training.{i}.{key}": text for key, text in told.items() if isinstance(text, str)}
        bare |= {
            f"model.training.{i}.{key}": key for key in (*training.settings, *training.versions, *training.metrics)
        }
    if suite.protocol is not None:
        texts["suite.protocol"] = suite.protocol
    if record.dataset.published is not None:
        names["dataset.published"] = record.dataset.published
    if suite.baseline is not None:
        names["suite.baseline.model"] = suite.baseline.model
        texts["suite.baseline.source"] = suite.baseline.source
    for kind, fields, allowed in (
        (_BARE, bare, "letters, digits and . _ + -"),
        (_NAME, names, "letters, digits and . _ + - = , : ( ) / @, no link and no way out of a folder"),
        (_TEXT, texts, "printable text without < > | ` \\ and links"),
    ):
        for field, value in fields.items():
            if not (kind.fullmatch(value) and _legible(value)) or _LEADING_AWAY.search(value):
                yield field, f"is {shown(value)}: it may hold {allowed}"
            elif kind is _TEXT and _DOMAIN.search(value):
                yield field, f"is {shown(value)}: it may hold no address of a site"
    if model.name is not None and not (model.name[0].isalnum() or model.name[0] == "("):
        yield "model.name", f"is {shown(model.name)}: it starts with a letter or a digit, or a table would compute it"
    if _PATH.search(model.weights_source):
        yield "model.weights_source", f"is {shown(model.weights_source)}: name the file, not a folder of your machine"


def _legible(text: str) -> bool:
    """Whether all of a text is seen and its letters are Latin ones, with accents at most, or those of formulas.

    Letters of other alphabets look the same, and marks can be piled on one another.
    """
    return (
        text.isprintable()
        and text == text.strip()
        and unicodedata.normalize("NFC", text) == text
        and all(ord(one) < _LATIN or one in _GREEK or unicodedata.category(one)[0] in "NPSZ" for one in text)
    )


def shown(value: object) -> str:
    """An untrusted value in one short printable line; text is quoted."""
    text = ascii(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


def printable(text: str) -> str:
    """A line with untrusted text made safe for terminals and logs: no control codes, no CI commands."""
    line = "".join(character if character.isprintable() else "?" for character in text)
    return f"./{line}" if line.startswith(":") else line
