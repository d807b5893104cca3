"""`bench sweep`: models × trainings × suites from a file, and their tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from stressbench.plan import Failure
    from stressbench.session import Finished


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="The folder of run folders, and of the tables.",
)
@click.option("--fresh", is_flag=True, help="Run anew what is already in the run folders; weights stay as they are.")
def sweep(file: Path, out: Path, fresh: bool) -> None:
    """Train what lacks weights, run each model through each suite, and write the tables.

    FILE is TOML: models, suites, seeds (a training of each model for each), dataset and the other options of
    `bench run`, and in a table [train] those of `bench train`. The same command goes on where it was stopped.
    """
    from stressbench import models, session
    from stressbench import sweep as sweeps
    from stressbench.cli.run import close
    from stressbench.plan import Failure
    from stressbench.terminal import Screen

    wanted = sweeps.read(file)
    finished: list[Finished] = []
    failures: list[Failure] = []
    for outcome in session.run(wanted.words, out, fresh, Screen(), wanted.options):
        if isinstance(outcome, Failure):
            failures.append(outcome)
            continue
        finished.append(outcome)
        # After each, so that a long sweep can be looked at.
        page, table = sweeps.write(out, file.stem, finished)
    if finished:
        click.echo(f"{page.read_text(encoding='utf-8')}\ntables  {page}\n        {table}")
    runs = [(models.named(one.record.model.spec, one.training), one.record.suite.name) for one in finished]
    close(wanted.dataset, out, runs, failures)
