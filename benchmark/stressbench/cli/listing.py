"""`bench list`: what is installed, by name, without importing any of it."""

from __future__ import annotations

import re
from collections.abc import Iterable

import click

from stressbench import registry

# Our models that take something after a colon, which their names alone cannot say.
_ARGUMENTS = {
    "timm": ("NAME", "a network of timm, with the weights that it publishes, or pretrained=false"),
    "torchvision": ("NAME", "an image classifier of torchvision, with one of its weights, or weights=none"),
    "hub": ("OWNER/REPO", "safetensors with a timm configuration, on the Hugging Face hub"),
    "file": ("PATH.py:NAME", "what a function in a file of yours makes, with its own options"),
    "ensemble": ("MODEL", "trainings of a model, or several models: MODEL+MODEL"),
    "infer-transform": ("MODEL", "passes of a model on transformed images"),
    "infer-noise": ("MODEL", "passes of a model with Gaussian noise inside"),
    "infer-dropout": ("MODEL", "passes of a model with dropout inside"),
}


@click.command("list")
@click.argument("kinds", nargs=-1, type=click.Choice(registry.KINDS), metavar="[models|suites|datasets]...")
def list_(kinds: tuple[str, ...]) -> None:
    """Show the models, suites and datasets that are installed, by the distribution that offers them.

    A model and those that continue its name (net, net-wide) share a line.
    """
    for kind in kinds or registry.KINDS:
        click.echo(f"{kind}:")
        offers: dict[str, list[str]] = {}
        for entry in registry.entries(kind):
            offers.setdefault(f"{entry.distribution} {entry.version}", []).append(entry.name)
        for offer, names in sorted(offers.items()):
            click.echo(f"  {offer}")
            ours = kind == "models" and offer.startswith("stressbench ")
            for family in families(name for name in names if not (ours and name in _ARGUMENTS)):
                click.echo("    " + "  ".join(family))
            for name, (argument, meaning) in _ARGUMENTS.items() if ours else ():
                click.echo(f"    {f'{name}:{argument}':<24}{meaning}")


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
