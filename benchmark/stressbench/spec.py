"""The text that names a model or a suite on the command line, and its parsed form.

    NAME[:ARGUMENT][,OPTION=VALUE ...]

for example `resnet18-smooth`, `resnet18-mcdo,rate=0.1` or `infer-dropout:resnet18-smooth,rate=0.1`. NAME may be
prefixed with its distribution (`somepackage/mynet`) where two distributions offer the same name. Options belong to the
outermost name; brackets group a model with its own options: `infer-dropout:(resnet18-smooth,temperature=5),rate=0.1`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from stressbench.errors import UserError

_DEEPEST = 50  # brackets or names inside each other


@dataclass(frozen=True)
class Spec:
    """A parsed name. `str(spec)` is its canonical text, with the options in alphabetical order, which `parse` reads.

    >>> str(Spec("resnet18-mcdo", options={"rate": "0.1", "location": "3"}))
    'resnet18-mcdo,location=3,rate=0.1'
    """

    name: str
    argument: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        head = self.name if self.argument is None else f"{self.name}:{self.argument}"
        return ",".join([head, *(f"{key}={self.options[key]}" for key in sorted(self.options))])


def parse(text: str) -> Spec:
    """Parse a spec; brackets around the whole text are ignored.

    Raises `UserError` for an empty name or argument, an option without a value, a repeated option and an unbalanced
    bracket.

    >>> parse("infer-dropout:(resnet18-smooth,temperature=5),rate=0.1")
    Spec(name='infer-dropout', argument='(resnet18-smooth,temperature=5)', options={'rate': '0.1'})
    """
    bare = _without_brackets(text)
    head, *pairs = split(bare, ",")
    name, colon, argument = (part.strip() for part in head.partition(":"))
    if not name or (colon and not argument):
        raise UserError(f"'{text}' has no name: write NAME or NAME:ARGUMENT, followed by ,option=value for each option")
    options: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not (key and equals and value):
            raise UserError(f"'{pair}' in '{text}' is not an option: write option=value")
        if key in options:
            raise UserError(f"option '{key}' appears twice in '{text}': specify it once")
        options[key] = value
    return Spec(name, argument if colon else None, options)


def split(text: str, separators: str) -> list[str]:
    """Split a text at any of the separator characters outside brackets, and strip the parts.

    Raises `UserError` for an unbalanced bracket.

    >>> split("resnet18 + (vgg11,width=8)", "+,")
    ['resnet18', '(vgg11,width=8)']
    """
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
        if character in separators and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    if depth != 0:
        raise UserError(f"unbalanced brackets in '{text}': write one ) for each (")
    return [part.strip() for part in parts]


def nested(text: str) -> str:
    """The spec of names that build on each other, written as a sum: each gets what is before it as its argument.

    >>> nested("short,epochs=8+mixup+label-smoothing,smoothing=0.2")
    'label-smoothing:(mixup:(short,epochs=8)),smoothing=0.2'
    >>> nested("fast,milestones=3+4")  # the numbers of one option
    'fast,milestones=3+4'
    """
    parts: list[str] = []
    for part in split(_without_brackets(text), "+"):
        if parts and not part[:1].isalpha():
            parts[-1] += f"+{part}"
        else:
            parts.append(part)
    inner, *outer = parts
    for part in outer:
        name, *options = split(part, ",")
        inner = ",".join([f"{name}:({inner})", *options])
    return inner


def _without_brackets(text: str) -> str:
    """A text without the brackets around the whole of it; raises `UserError` for one that is nested too deeply."""
    closing: dict[int, int] = {}
    opened: list[int] = []
    for position, character in enumerate(text):
        if character == "(":
            opened.append(position)
        elif character == ")" and opened:
            closing[opened.pop()] = position
        if len(opened) > _DEEPEST:
            raise UserError(f"brackets are nested more than {_DEEPEST} deep in '{text[:20]}…': write fewer")
    if text.count(":") > _DEEPEST:
        raise UserError(f"more than {_DEEPEST} names are nested in '{text[:20]}…': write fewer")
    start, end = 0, len(text)
    while True:
        bare = text[start:end]
        start, end = start + len(bare) - len(bare.lstrip()), end - len(bare) + len(bare.rstrip())
        if start >= end or closing.get(start) != end - 1:
            return text[start:end]
        start, end = start + 1, end - 1


def slug(text: str) -> str:
    """A readable and safe file or folder name. Different texts give different names.

    >>> slug("resnet18-smooth"), slug("../etc")
    ('resnet18-smooth', 'etc-f7f9121f')
    """
    # Limited in length, because file systems allow 255 bytes; the digest keeps shortened or changed names distinct.
    safe = re.sub(r"[^A-Za-z0-9._=-]+", "-", text).strip("-.")[:80]
    return safe if safe and safe == text else f"{safe or 'empty'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
