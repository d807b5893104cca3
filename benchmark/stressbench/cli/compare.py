"""`bench compare`: the first of several runs against each of the others."""

from __future__ import annotations

from pathlib import Path

import click

from stressbench.cli import options
from stressbench.cli.formats import forms
from stressbench.errors import UserError


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN RUN...")
@options.labels
@forms
def compare(runs: tuple[Path, ...], labels: tuple[str, ...], form: str | None) -> None:
    """Say which metrics of runs differ by more than noise, the first against each of the others.

    A run is its folder or its record file. The runs must be of one suite, on the same images with the same seed. Each
    metric has a paired interval and test, made by leaving out groups of the images.
    """
    from stressbench._util.terminal import Screen
    from stressbench.comparison import output
    from stressbench.comparison.pairs import compare as compare_runs

    if not 2 <= len(runs) <= output.MOST_RUNS:
        raise UserError(f"compare takes 2 to {output.MOST_RUNS} runs, and {len(runs)} are given")
    comparison = compare_runs(runs, Screen(), labels)
    if form is None:
        output.terminal(comparison)
    else:
        click.echo({"markdown": output.markdown, "csv": output.as_csv, "json": output.as_json}[form](comparison))
