"""`bench list`: what is installed, by name, without importing any of it."""

from __future__ import annotations

import click

from stressbench import registry


@click.command("list")
@click.argument("kinds", nargs=-1, type=click.Choice(registry.KINDS), metavar="[models|suites|datasets]...")
def list_(kinds: tuple[str, ...]) -> None:
    """Show the models, suites and datasets that are installed."""
    for kind in kinds or registry.KINDS:
        offered = registry.entries(kind)
        width = max((len(entry.name) for entry in offered), default=0)
        click.echo(f"{kind}:")
        for entry in offered:
            click.echo(f"  {entry.name:<{width}}  {entry.distribution} {entry.version}")
