"""`bench leaderboard`: records in, a page of tables out."""

from __future__ import annotations

from pathlib import Path

import click

_ROOT = click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=Path("leaderboard"),
    show_default=True,
    help="The leaderboard's folder.",
)


@click.group()
def leaderboard() -> None:
    """Collect records and write the leaderboard's README."""


@leaderboard.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@_ROOT
@click.option("--replace", is_flag=True, help="Put the record in the place of an older one of the same model.")
def add(runs: tuple[Path, ...], root: Path, replace: bool) -> None:
    """Copy the records of runs (folders or record.json files) into the leaderboard."""
    from stressbench.leaderboard import records

    for run in runs:
        click.echo(records.add(run, root, replace))


@leaderboard.command()
@_ROOT
def build(root: Path) -> None:
    """Write README.md in the leaderboard's folder from its records."""
    from stressbench.leaderboard import page

    click.echo(page.build(root))
