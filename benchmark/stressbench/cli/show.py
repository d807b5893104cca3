"""`bench show`: a model, or a run's record."""

from __future__ import annotations

from pathlib import Path

import click

from stressbench.cli.formats import forms
from stressbench.errors import UserError


@click.command()
@click.argument("target", metavar="MODEL|RUN")
@click.option("--dataset", default="digits", show_default=True, help="The dataset that the model is built for.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the data are.")
@click.option("--dataset-name", help="The name of a dataset of your own.")
@forms
def show(target: str, dataset: str, data_dir: Path | None, dataset_name: str | None, form: str | None) -> None:
    """Explain MODEL: its options, size, draws, and the locations for the training-free wrappers.

    Given a run folder or a record file instead, print the record again: as tables, or in the form that is asked for.
    """
    from stressbench import explain, record, registry
    from stressbench import show as shown

    if explain.is_run(target):
        found = record.load(Path(target))
        suite = registry.suite(found.suite.offer)
        if form is None:
            shown.result(suite, found, Path(target) if Path(target).is_dir() else Path(target).parent)
        elif form == "json":
            click.echo(found.to_json(), nl=False)
        else:
            click.echo({"markdown": shown.markdown, "csv": shown.as_csv}[form](suite, found))
        return
    if form is not None:
        raise UserError(f"--{form} is for runs, and {target} is no run folder or record file")
    for line in explain.model(target, registry.dataset(dataset, "test", data_dir, dataset_name)):
        click.echo(line)
