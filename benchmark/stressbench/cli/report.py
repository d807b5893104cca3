"""`bench report`: runs as one page for a colleague."""

from __future__ import annotations

from pathlib import Path

import click

from stressbench.cli import options


@click.command()
@click.argument("runs", nargs=-1, required=True, type=options.PATH, metavar="RUN...")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    show_default=True,
    help="The file to write.",
)
@options.metrics
@options.labels
def report(runs: tuple[Path, ...], out: Path, metrics: tuple[str, ...], labels: tuple[str, ...]) -> None:
    """Write runs into one HTML file for a colleague.

    It has the table of `bench table`, for the runs of each suite the comparison of `bench compare` and the figures of
    `bench plot`, every condition, and how all of it was measured. It holds everything itself, and no script. A RUN is a
    run folder or a record file; runs of one suite must be on the same images with the same seed.
    """
    from stressbench._util.terminal import Screen
    from stressbench.report import page

    page.write(runs, out, Screen(), metrics, labels)
    click.echo(out)
