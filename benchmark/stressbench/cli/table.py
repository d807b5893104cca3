"""`bench table`: models and metrics of several runs side by side."""

from __future__ import annotations

from pathlib import Path

import click

from stressbench.cli import options


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@options.metrics
@options.labels
@click.option("--latex", "form", flag_value="latex", help="Print a LaTeX tabular (booktabs).")
@click.option("--csv", "form", flag_value="csv", help="Print CSV: a line a model and metric, not rounded.")
def table(runs: tuple[Path, ...], metrics: tuple[str, ...], labels: tuple[str, ...], form: str | None) -> None:
    """Put runs into one table, as a paper has it: a row a model, a column a metric, across suites.

    A run is its folder or its record file. The best number of each column is bold; one with a dagger is not told apart
    from it: the 95 % interval of the paired difference on these images holds 0. Prints Markdown unless another form is
    asked for.
    """
    from stressbench.results import summary

    found = summary.summary(runs, metrics, labels)
    written = {None: summary.as_markdown, "latex": summary.as_latex, "csv": summary.as_csv}[form]
    click.echo(written(found))
