"""What a person writes to name a model or a suite, and the value it stands for.

    NAME[:ARGUMENT][,OPTION=VALUE ...]

for example `resnet18-smooth`, `resnet18-mcdo,rate=0.1` or `infer-dropout:resnet18-smooth,rate=0.1`. NAME may carry
its distribution in front (`somepackage/mynet`) where two distributions offer one name. Options belong to the outermost
name; brackets keep a model and its own options together: `infer-dropout:(resnet18-smooth,temperature=5),rate=0.1`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from stressbench.errors import UserError


@dataclass(frozen=True)
class Spec:
    """A parsed name: `str(spec)` writes it back, with the options in alphabetical order, and `parse` reads that."""

    name: str
    argument: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        head = self.name if self.argument is None else f"{self.name}:{self.argument}"
        return ",".join([head, *(f"{key}={self.options[key]}" for key in sorted(self.options))])


def parse(text: str) -> Spec:
    """Read a spec; brackets around the whole of it change nothing.

    Raises `UserError` for an empty name or argument, an option without a value or one that is given twice, and for a
    bracket without its partner.
    """
    bare = text.strip()
    while bare.startswith("(") and _closing(bare) == len(bare) - 1:
        bare = bare[1:-1].strip()
    head, *pairs = split(bare, ",")
    name, colon, argument = (part.strip() for part in head.partition(":"))
    if not name or (colon and not argument):
        raise UserError(f"'{text}' names nothing: write NAME, or NAME:ARGUMENT, then ,option=value for each option")
    options: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not (key and equals and value):
            raise UserError(f"'{pair}' in '{text}' is not an option: write option=value")
        if key in options:
            raise UserError(f"option '{key}' is given twice in '{text}': give it once")
        options[key] = value
    return Spec(name, argument if colon else None, options)


def split(text: str, separators: str) -> list[str]:
    """The stripped parts of a text between those of the separators, single characters, that are in no bracket.

    Raises `UserError` for a bracket without its partner.
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
        raise UserError(f"a bracket in '{text}' has no partner: write one ) for each (")
    return [part.strip() for part in parts]


def _closing(text: str) -> int:
    """Where the bracket that a text begins with is closed, -1 if nowhere."""
    depth = 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return position
    return -1


def slug(text: str) -> str:
    """A readable name for a file or a folder; different texts give different names, and no name leaves its folder."""
    # Bounded, because file systems stop at 255 bytes and a spec does not; the digest keeps what was changed apart.
    safe = re.sub(r"[^A-Za-z0-9._=-]+", "-", text).strip("-.")[:80]
    return safe if safe and safe == text else f"{safe or 'empty'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
