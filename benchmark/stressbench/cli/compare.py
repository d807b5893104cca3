"""`bench compare`: the first of several runs against each of the others."""

from __future__ import annotations

from pathlib import Path

import click

from stressbench.cli.formats import forms
from stressbench.errors import UserError


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN RUN...")
@click.option(
    "--resamples",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Bootstrap resamples, and permutations for the tests.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Decides the resamples.")
@forms
def compare(runs: tuple[Path, ...], resamples: int, seed: int, form: str | None) -> None:
    """Say which metrics of run folders differ by more than noise, the first against each of the others.

    The runs must be of one suite, on the same images with the same seed. Intervals are bootstrapped over the images,
    and each metric has a paired test.
    """
    from stressbench.compare import output
    from stressbench.compare.pairs import compare as compare_runs
    from stressbench.terminal import Screen

    if not 2 <= len(runs) <= output.MOST_RUNS:
        raise UserError(f"compare takes 2 to {output.MOST_RUNS} runs, and {len(runs)} are given")
    comparison = compare_runs(runs, resamples, seed, Screen())
    if form is None:
        output.terminal(comparison)
    else:
        click.echo({"markdown": output.markdown, "csv": output.as_csv, "json": output.as_json}[form](comparison))
