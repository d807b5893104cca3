"""`bench runs`: the run folders that are there, and `rm`, which deletes some."""

from __future__ import annotations

import json
from pathlib import Path

import click

from stressbench.cli import options


class _ListByDefault(click.Group):
    """A group that takes words which are not its commands for those of `ls`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing and not args:
            return super().parse_args(ctx, args)  # a shell asks which commands there are
        named = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else ["ls", *args])


@click.group(cls=_ListByDefault, subcommand_metavar="[ls] [FOLDER] | rm RUN...")
def runs() -> None:
    """List run folders with their first metrics, or delete some with `bench runs rm`.

    `bench runs FOLDER` is equivalent to `bench runs ls FOLDER`.
    """


@runs.command()
@click.argument("folder", type=options.PATH, default=Path("runs"))
@click.option("--json", "as_json", is_flag=True, help="Print JSON: all metrics, not rounded.")
def ls(folder: Path, as_json: bool) -> None:
    """List the runs in FOLDER, by default `runs`, the last one last.

    A run is complete (it has its record), a part (of `bench run --shard`), partial (the same `bench run` resumes it) or
    damaged. What failed is listed below, with the reason.
    """
    from stressbench._util.terminal import printing
    from stressbench.execution import failures, folders

    found = folders.listed(folder)
    failed = failures.read(folder)
    with printing():
        if as_json:
            document = {"runs": [one.fields() for one in found], "failed": failed}
            click.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
            return
        if not found:
            click.echo(f"there are no runs in {folder}")
        for one in found:
            click.echo(f"{one.date:%Y-%m-%d %H:%M}  {one.state:<8}  {one.path}")
            click.echo(f"{'':<18}{one.about}")
        for entry in failed:
            click.echo(f"failed: {entry['model']} · {entry['suite']} on {entry['dataset']}: {entry['error']}")


@runs.command()
@click.argument("run", nargs=-1, required=True, type=options.PATH)
@click.option("--yes", is_flag=True, help="Do not ask.")
def rm(run: tuple[Path, ...], yes: bool) -> None:
    """Delete run folders, with all that is in them. A RUN that is not a run folder stops the command."""
    from stressbench.execution import folders

    found = folders.require_runs(run)
    for path in found:
        click.echo(f"{path}  {folders.size(path) / 2**20:.1f} MiB", err=True)
    question = "Delete this run?" if len(found) == 1 else f"Delete these {len(found)} runs?"
    if not yes and not click.confirm(question, err=True):
        click.echo("nothing was deleted", err=True)
        return
    for path in folders.remove(found):
        click.echo(f"deleted {path}")
