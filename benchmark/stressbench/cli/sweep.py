"""`bench sweep`: models × trainings × suites from a file, and their tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stressbench.cli import options

if TYPE_CHECKING:
    from stressbench.execution.plan import Failure
    from stressbench.execution.request import Computing, Shard
    from stressbench.execution.session import Finished


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="The folder of run folders, and of the tables.",
)
@options.computing
@click.option("--fresh", is_flag=True, help="Run again what is already in the run folders; weights stay as they are.")
def sweep(file: Path, out: Path, computing: Computing, shard: Shard | None, timeout: float | None, fresh: bool) -> None:
    """Train what lacks weights, run each model through each suite, and write the tables.

    FILE is TOML: models, suites, seeds (a training of each model for each), dataset and the other options of
    `bench run`, and in a table [train] those of `bench train`. Tables [parts.NAME] are sweeps that share these keys
    and set others. The same command resumes where it stopped.
    """
    from dataclasses import replace
    from functools import partial

    from stressbench._util.terminal import Screen, printing
    from stressbench.cli.run import close
    from stressbench.execution import models, session
    from stressbench.execution.executors import executor
    from stressbench.execution.plan import Failure
    from stressbench.training import sweep as sweeps
    from stressbench.training.provide import provider

    runs: list[tuple[str, str]] = []
    failures: list[Failure] = []
    screen = Screen()
    wanted = sweeps.read(file, options.DATASET)
    requests = {name: replace(part.request, shard=shard, timeout=timeout) for name, part in wanted.items()}
    with executor(computing, next(iter(requests.values())), screen) as computes:
        for name, part in wanted.items():
            finished: list[Finished] = []
            weights = partial(provider, options=part.options)
            for outcome in session.run(requests[name], out, fresh, screen, weights, computes):
                if isinstance(outcome, Failure):
                    failures.append(outcome)
                    continue
                if isinstance(outcome, session.Part):
                    runs.append((models.named(str(outcome.plan.model), outcome.training), outcome.plan.suite.name))
                    screen.note(str(outcome))
                    continue
                finished.append(outcome)
                # After each, so that a long sweep can be looked at.
                page, table = sweeps.write(out, name, finished)
            if finished:
                with printing():
                    click.echo(f"{page.read_text(encoding='utf-8')}\ntables  {page}\n        {table}")
            runs += [(models.named(str(one.plan.model), one.training), one.record.suite.name) for one in finished]
    close(part.dataset, out, runs, failures)  # which all parts share
