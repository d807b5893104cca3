"""`bench plugin`: for the authors of plugins."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from stressbench.cli import completion, options
from stressbench.errors import UserError

_MARKS = {"passed": "✓", "noted": "!", "failed": "✗", "skipped": "–"}


@click.group()
def plugin() -> None:
    """Write plugins, and try them out before others use them."""


@plugin.command()
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), help="The new folder [default: NAME, here].")
def new(name: str, out: Path | None) -> None:
    """Write an installable package with a small model called NAME, for you to change."""
    from stressbench import registry
    from stressbench.cli import scaffold

    folder = out or Path(name)
    for path in scaffold.create(name, folder):
        click.echo(path)
    for entry in registry.entries("models"):
        if entry.name == name:
            click.echo(f"there is a {entry} already: with both installed, write {name}/{name} for yours", err=True)
    quoted = shlex.quote(str(folder))
    click.echo(f"\nnext:\n  pip install -e {quoted}\n  bench plugin check {name}\n  bench run --model {name}")


@plugin.command()
@click.argument("name", shell_complete=completion.names("models"))
@options.dataset("Build it for this dataset [default: random 32×32 images, 10 classes].", default=None)
@options.data_dir()
@options.dataset_name
@click.option("--meta", is_flag=True, help="Shapes only, without numbers: for large models.")
def check(name: str, dataset: str | None, data_dir: Path | None, dataset_name: str | None, meta: bool) -> None:
    """Check that model NAME, with options as NAME,option=value, keeps what models promise.

    It needs no training and no data: the weights are those that it is built with, the images are random.
    """
    from stressbench import registry, testing

    built_for = (
        testing.random_dataset() if dataset is None else registry.dataset(dataset, "test", data_dir, dataset_name)
    )
    for entry in registry.resolve(name).plugins:
        click.echo(entry)
    height, width = built_for.image_size
    click.echo(f"for {built_for.name} images of {height}×{width} pixels, {built_for.task.summary}\n")
    counts = dict.fromkeys(_MARKS, 0)
    failed = []
    for finding in testing.findings(name, built_for, meta=meta):
        counts[finding.status] += 1
        click.echo(f"{_MARKS[finding.status]} {finding.check:<13} {finding.detail}")
        if finding.status == "failed":
            failed.append(finding.check)
    summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    click.echo(f"\n{summary}")
    if failed:
        raise UserError(f"{name} fails {len(failed)} of {sum(counts.values())} checks ({', '.join(failed)}): change it")
