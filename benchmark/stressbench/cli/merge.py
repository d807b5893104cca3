"""`bench merge`: the parts of runs that `bench run --shard` made, joined."""

from __future__ import annotations

from pathlib import Path

import click

from stressbench.cli import options
from stressbench.errors import UserError


@click.command()
@click.argument("runs", nargs=-1, required=True, type=options.PATH, metavar="RUN...")
@click.option("--out", type=options.PATH, required=True, help="The folder of the joined run folders.")
def merge(runs: tuple[Path, ...], out: Path) -> None:
    """Join the parts of runs that `bench run --shard` made, and write their records.

    A RUN is a run folder, or a folder of run folders. Parts of one run are joined, whatever else is among them. A run
    that lacks conditions has no record yet: the command names them, and exits with 2.
    """
    from stressbench._util.terminal import Screen, printing
    from stressbench.execution.merge import Incomplete
    from stressbench.execution.merge import merge as merge_all
    from stressbench.results import show

    incomplete = []
    total = 0
    for outcome in merge_all(runs, out, Screen()):
        total += 1
        if isinstance(outcome, Incomplete):
            incomplete.append(outcome)
            continue
        with printing():
            show.result(outcome.suite, outcome.record, outcome.folder)
    if len(incomplete) > 1:
        for one in incomplete:
            click.echo(f"incomplete: {one}", err=True)
        raise UserError(f"{len(incomplete)} of {total} runs lack conditions: run the shards that are missing")
    if incomplete:
        raise UserError(f"{incomplete[0]}; run the shards that are missing, then merge again")
