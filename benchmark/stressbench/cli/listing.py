"""`bench list`: what is installed, by name, without importing any of it unless the tasks of suites are asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable

import click

from stressbench import registry
from stressbench.errors import UserError


@click.command("list")
@click.argument("kinds", nargs=-1, type=click.Choice(registry.KINDS), metavar="[models|suites|datasets|recipes]...")
def list_(kinds: tuple[str, ...]) -> None:
    """Show the models, suites, datasets and recipes that are installed, by the distribution that offers them.

    A model and those that continue its name (net, net-wide) share a line. `bench list suites` also says which tasks
    each suite is for.
    """
    for kind in kinds or registry.KINDS:
        click.echo(f"{kind}:")
        offers: dict[str, dict[str, str]] = {}
        for entry in registry.entries(kind):
            usage = entry.name if entry.argument is None else f"{entry.name}:{entry.argument}"
            offers.setdefault(f"{entry.distribution} {entry.version}", {})[entry.name] = usage
        for offer, usages in sorted(offers.items()):
            click.echo(f"  {offer}")
            if kinds and kind == "suites":
                for name in usages:
                    click.echo(f"    {name:<24}{_tasks(f'{offer.split()[0]}/{name}')}")
                continue
            for family in families(usages):
                click.echo("    " + "  ".join(usages[name] for name in family))


def _tasks(suite: str) -> str:
    """The tasks that a suite supports, or the reason why it cannot be imported."""
    try:
        return ", ".join(sorted(registry.suite(suite).tasks))
    except UserError as error:
        return str(error)


def families(names: Iterable[str]) -> list[list[str]]:
    """The names in natural order, each followed by those that continue it, the short ones first.

    A name continues another one that is there too when a hyphen follows that one in it.

    >>> families(["net10", "net9", "net9-wide", "net9-wide-deep", "net9-deep", "other-net"])
    [['net9', 'net9-deep', 'net9-wide', 'net9-wide-deep'], ['net10'], ['other-net']]
    """
    found: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: (len(name), name)):
        parts = name.split("-")
        heads = ("-".join(parts[:count]) for count in range(1, len(parts)))
        stem = next((head for head in heads if head in found), name)
        found.setdefault(stem, []).append(name)
    return [found[stem] for stem in sorted(found, key=_natural)]


def _natural(name: str) -> list[tuple[str, int]]:
    """A sorting key by which net9 comes before net10."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name)]
