"""`bench show`: a model, or a run's record."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("target", metavar="MODEL|RUN")
@click.option("--dataset", default="digits", show_default=True, help="The dataset that the model is built for.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the data are.")
@click.option("--dataset-name", help="The name of a dataset of your own.")
def show(target: str, dataset: str, data_dir: Path | None, dataset_name: str | None) -> None:
    """Explain MODEL: its options, size, draws, and the locations for the training-free wrappers.

    Given a run folder or a record file instead, print the record again.
    """
    from stressbench import explain, record, registry
    from stressbench.show import result

    if explain.is_run(target):
        found = record.load(Path(target))
        folder = Path(target) if Path(target).is_dir() else Path(target).parent
        result(registry.suite(found.suite.name), found, folder)
        return
    for line in explain.model(target, registry.dataset(dataset, "test", data_dir, dataset_name)):
        click.echo(line)
