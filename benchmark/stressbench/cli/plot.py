"""`bench plot`: figures of runs."""

from __future__ import annotations

from pathlib import Path

import click

from stressbench.cli import options


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="The folder to write to.")
@options.labels
def plot(runs: tuple[Path, ...], out: Path, labels: tuple[str, ...]) -> None:
    """Draw the figures of run folders, PNG and SVG; several runs are drawn together.

    The runs must be of one suite, on the same images with the same seed. Which figures there are follows from the
    conditions; some need the tables of a run folder, the others do with a record file.
    """
    from stressbench.plots.draw import draw

    for figure in draw(runs, out, labels):
        for path in figure.files:
            click.echo(path)
        if figure.why_not is not None:
            click.echo(f"left out: {figure.name}, because {figure.why_not}", err=True)
