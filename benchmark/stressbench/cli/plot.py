"""`bench plot`: figures of runs."""

from __future__ import annotations

from pathlib import Path

import click

from stressbench.cli import options


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="The folder to write to.")
@options.labels
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="A metric to draw, in place of the suite's; may be repeated.",
)
@click.option("--pdf", is_flag=True, help="Write PDF files, too.")
@click.option(
    "--width",
    type=click.FloatRange(1, 40),
    default=6.9,
    show_default=True,
    help="Of a figure, in inches; a paper's column has about 3.3.",
)
@click.option("--font-size", type=click.FloatRange(3, 40), default=8, show_default=True, help="In points.")
def plot(
    runs: tuple[Path, ...],
    out: Path,
    labels: tuple[str, ...],
    metrics: tuple[str, ...],
    pdf: bool,
    width: float,
    font_size: float,
) -> None:
    """Draw the figures of run folders, PNG and SVG; several runs are drawn together.

    The runs must be of one suite, on the same images with the same seed. Which figures there are follows from the
    conditions; some need the tables of a run folder, the others do with a record file.
    """
    from stressbench.plots.draw import draw
    from stressbench.plots.style import Look

    for figure in draw(runs, out, labels, metrics, Look(width, font_size, pdf)):
        for path in figure.files:
            click.echo(path)
        if figure.why_not is not None:
            click.echo(f"left out: {figure.name}, because {figure.why_not}", err=True)
