"""`bench show`: a model, a suite, a dataset, a recipe, or a run's record."""

from __future__ import annotations

from pathlib import Path

import click

from stressbench import registry
from stressbench.cli import completion, options
from stressbench.cli.formats import forms
from stressbench.errors import UserError


@click.command()
@click.argument(
    "target",
    metavar="MODEL|SUITE|DATASET|RECIPE|RUN",
    shell_complete=completion.names(*registry.KINDS, paths=True),
)
@options.dataset("The dataset that the model is built for.")
@options.data_dir()
@options.dataset_name
@options.labels
@forms
def show(
    target: str,
    dataset: str,
    data_dir: Path | None,
    dataset_name: str | None,
    labels: tuple[str, ...],
    form: str | None,
) -> None:
    """Explain a model (its options, size, draws and locations), a suite (its options, metrics and conditions), a
    dataset (its task, splits and size) or a recipe (its options).

    Given a run folder or a record file instead, print the record again: as tables, or in the form that is asked for.
    """
    from stressbench.execution import explain
    from stressbench.results import runs
    from stressbench.results import show as shown

    if explain.is_run(target):
        (run,) = runs.load_all([Path(target)], labels)
        found, suite = run.record, registry.suite(run.record.suite.offer, task=run.record.dataset.task)
        if form is None:
            shown.result(suite, found, Path(target) if Path(target).is_dir() else Path(target).parent)
        elif form == "json":
            click.echo(found.to_json(), nl=False)
        else:
            click.echo({"markdown": shown.markdown, "csv": shown.as_csv}[form](suite, found))
        return
    if form is not None:
        raise UserError(f"--{form} is for runs, and {target} is neither a run folder nor a record file")
    if labels:
        raise UserError(f"--label is for runs, and {target} is neither a run folder nor a record file")
    kind = explain.kind(target)
    if kind == "suites":
        lines = explain.suite(target)
    elif kind == "datasets":
        lines = explain.dataset(target, data_dir, dataset_name)
    elif kind == "recipes":
        lines = explain.recipe(target)
    else:
        lines = explain.model(target, registry.dataset(dataset, "test", data_dir, dataset_name))
    for line in lines:
        click.echo(line)
