"""`bench list`: what is installed, by name, without importing any of it."""

from __future__ import annotations

import re
from collections.abc import Iterable

import click

from stressbench import registry


@click.command("list")
@click.argument("kinds", nargs=-1, type=click.Choice(registry.KINDS), metavar="[models|suites|datasets]...")
def list_(kinds: tuple[str, ...]) -> None:
    """Show the models, suites and datasets that are installed.

    Names that continue another one share its line: `net  plain, -wide` stands for `net` and `net-wide`.
    """
    for kind in kinds or registry.KINDS:
        click.echo(f"{kind}:")
        offers: dict[str, list[str]] = {}
        for entry in registry.entries(kind):
            offers.setdefault(f"{entry.distribution} {entry.version}", []).append(entry.name)
        rows = [
            (stem, ", ".join(("plain", *endings)) if endings else "", offer)
            for offer, names in offers.items()
            for stem, endings in families(names).items()
        ]
        widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
        for stem, endings, offer in sorted(rows, key=lambda row: (_natural(row[0]), row[2])):
            columns = [stem.ljust(widths[0]), *([endings.ljust(widths[1])] if widths[1] else []), offer]
            click.echo("  " + "  ".join(columns))


def families(names: Iterable[str]) -> dict[str, list[str]]:
    """The names that continue no other one, each with the endings that make the others of it, the short ones first.

    A name continues another one that is there too when a hyphen follows that one in it.

    >>> families(["net", "net-wide", "net-wide-deep", "net-deep", "other-net"])
    {'net': ['-deep', '-wide', '-wide-deep'], 'other-net': []}
    """
    found: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: (len(name), name)):
        parts = name.split("-")
        heads = ("-".join(parts[:count]) for count in range(1, len(parts)))
        stem = next((head for head in heads if head in found), None)
        if stem is None:
            found[name] = []
        else:
            found[stem].append(name.removeprefix(stem))
    return found


def _natural(name: str) -> list[tuple[str, int]]:
    """A sorting key by which net9 comes before net10."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name)]
