"""`bench leaderboard`: records in, checked and replayed; pages out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from stressbench.cli import options
from stressbench.errors import UserError

_MOST_LINES = 20  # findings of one file

_sources = click.option(
    "--source",
    "sources",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The Python file of a `file:` model; again for each module beside it that it imports.",
)


@click.group()
def leaderboard() -> None:
    """Collect records, check them, and write the leaderboard's pages."""


@leaderboard.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@options.root
@click.option("--replace", is_flag=True, help="Put the record in the place of an older one of the same model.")
@_sources
def add(runs: tuple[Path, ...], root: Path, replace: bool, sources: tuple[Path, ...]) -> None:
    """Copy the records of runs (folders or record.json files) into the leaderboard."""
    from stressbench.leaderboard import records

    for run in runs:
        click.echo(records.add(run, root, replace, sources))


@leaderboard.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--base", default="origin/main", show_default=True, metavar="COMMIT", help="What the pull request is for."
)
@_sources
@options.root
def submit(run: Path, root: Path, base: str, sources: tuple[Path, ...]) -> None:
    """Commit a run's record and the rebuilt pages on a new branch, and open the pull request.

    Needs a clean working tree. Without GitHub's `gh` the last two commands are printed and not run.
    """
    from stressbench.leaderboard.submit import submit as submit_run

    left = submit_run(run, root, base, sources)
    click.echo("the pull request is open" if not left else "\n".join(["now run:", *left]))


@leaderboard.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option(
    "--base",
    metavar="COMMIT",
    help="Check the records that were added since this commit, and that nothing else was touched.",
)
@options.root
def check(files: tuple[Path, ...], base: str | None, root: Path) -> None:
    """Check records as a pull request's are checked; each finding is a line.

    Give the files, or with --base the commit that the branch started from, as `origin/main`.
    """
    from stressbench.leaderboard import changes, records
    from stressbench.leaderboard import check as checks
    from stressbench.leaderboard.words import printable

    if bool(files) == (base is not None):
        raise UserError("nothing says what to check: pass record files, or --base with a commit, and not both")
    added, found = (list(files), []) if base is None else changes.since(base, root)
    board = records.readable(root)
    fresh = [] if base is None else [path.resolve().relative_to(root.resolve()) for path in added]
    for path in added:
        found += [(path, fault) for fault in checks.file(path, root, board, datetime.now(UTC), fresh)]
    listed: dict[Path, list[str]] = {}
    for path, fault in found:
        listed.setdefault(path, []).append(str(fault))
    for path, lines in listed.items():
        for line in [*lines[:_MOST_LINES], *([f"and {len(lines) - _MOST_LINES} more"] * (len(lines) > _MOST_LINES))]:
            click.echo(f"{printable(str(path))}: {printable(line)}")
    if found:
        raise UserError(
            f"{len(found)} finding{'s' * (len(found) > 1)} in {len(listed)} of {len({*added, *listed})} files"
        )
    click.echo(f"{len(added)} record{'s' * (len(added) != 1)} passed")


@leaderboard.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--conditions",
    type=click.IntRange(min=1),
    help="How many to run again; by default so many that 8 made-up ones of 75 are found in 95 of 100 replays.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Chooses the conditions; a new one each time otherwise.")
@options.by
@options.weights("As for `bench run`.")
@options.dataset("The dataset's name for `bench run`, where the record has another.", default=None)
@options.data_dir()
@options.batch_size
@options.device
@options.root
def replay(file: Path, root: Path, conditions: int | None, seed: int | None, by: str | None, **means: object) -> None:
    """Run the first and a random few other conditions of a record again, and compare.

    If all agree, a record of the leaderboard counts as replayed. This runs the model's plugin: only replay models that
    you would run.
    """
    import secrets

    from stressbench._util.terminal import Screen
    from stressbench.leaderboard import replay as replays

    chosen = secrets.randbelow(2**31) if seed is None else seed
    click.echo(f"the conditions are those of --seed {chosen}", err=True)
    given = replays.Means(**means)  # type: ignore[arg-type]
    outcome = replays.replay(file, root, conditions, chosen, given, Screen(), by)
    found = outcome.agreement
    for line in [*found.lines, *found.biased]:
        click.echo(line)
    if found.differing:
        raise UserError(f"{file} does not hold: {found.differing} of {len(found.lines)} conditions differ")
    if found.biased:
        raise UserError(
            f"{file} does not hold: its conditions differ in one direction, each by less than its tolerance"
        )
    if not found.rows:
        click.echo("the record has no sketches of its rows: means over images were compared alone", err=True)
    click.echo(outcome.note or f"{file} holds; it is not in {root}, so there is nothing to mark")


@leaderboard.command()
@click.option(
    "--label",
    "labels",
    multiple=True,
    callback=options.by_model,
    metavar="MODEL=TEXT",
    help="What these pages call a model, in place of the name in its records; again for each model.",
)
@options.root
def build(labels: dict[str, str], root: Path) -> None:
    """Write README.md and index.html in the leaderboard's folder from its records."""
    from stressbench.leaderboard.build import build as build_pages

    for page in build_pages(root, labels):
        click.echo(page)


@leaderboard.command()
@options.root
def replicate(root: Path) -> None:
    """Write the replication report, REPLICATION.md: the papers' claims in claims.toml, each with a verdict."""
    from stressbench.leaderboard.replication import write

    click.echo(write(root))
