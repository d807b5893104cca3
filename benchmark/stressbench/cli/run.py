"""`bench run`: models through suites, a record for each."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stressbench.cli import completion, options
from stressbench.errors import UserError

if TYPE_CHECKING:
    from stressbench._util.terminal import Screen
    from stressbench.execution.plan import Failure
    from stressbench.execution.request import Computing, RunRequest
    from stressbench.execution.session import Finished


def _sizes(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Numbers of draws, as 1,2,5."""
    words = value.split(",") if value else []
    if not all(word.strip().isascii() and word.strip().isdigit() and int(word) > 0 for word in words):
        raise click.BadParameter(f"'{value}' is not a list of numbers of draws: write, for example, 1,2,5,10")
    return tuple(int(word) for word in words)


_SECTIONS = {
    "Suites and models": ("--suite", "-o", "--model", "--name", "--weights", "--draws", "--sizes"),
    "Images": ("--dataset", "--data-dir", "--dataset-name", "--limit", "--stress", "--seed"),
    "Computing": (
        "--device",
        "--precision",
        "--compile",
        "--batch-size",
        "--executor",
        "--workers",
        "--address",
        "--shard",
        "--timeout",
    ),
    "Output": ("--out", "--fresh", "--dry-run", "-q", "-v", "--json"),
}


@click.command(cls=options.SuiteCommand, sections=_SECTIONS)
@click.argument("named", nargs=-1, metavar="[MODEL]...", shell_complete=completion.names("models"))
@click.option(
    "--suite",
    "suites",
    multiple=True,
    default=(options.SUITE,),
    show_default=True,
    metavar="NAME",
    shell_complete=completion.names("suites"),
    help="A suite, with options as NAME,option=value; may be repeated. `all`: every one that the dataset supports.",
)
@options.suite_options
@click.option(
    "--model",
    "models",
    multiple=True,
    show_default=options.MODEL,
    metavar="NAME",
    shell_complete=completion.names("models"),
    help="A model, with options as NAME,option=value; may be repeated, or stand without --model.",
)
@options.dataset_of_suite
@options.data_dir("The folder of the data: Parquet files, and the folders of published stressed images.")
@options.dataset_name
@options.weights(
    "The weights: safetensors, or a torch file of tensors (FILE#KEY: those under that key). Ensembles: one a "
    "member, or a folder of seedN files."
)
@options.names
@click.option(
    "--stress",
    type=click.Choice(["official", "generated"]),
    help="Use the published stressed images, or make them; else official ones where they are there.",
)
@click.option("--draws", type=click.IntRange(min=1), help="Draws of a stochastic model; its own default otherwise.")
@click.option("--sizes", callback=_sizes, metavar="N,N,…", help="A curve over ensemble sizes, from one set of draws.")
@options.limit
@options.batch_size
@options.seed
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option(
    "--compile", "compiled", is_flag=True, help="Use torch.compile on whole batches of a model without draws."
)
@options.device
@options.computing
@options.out
@click.option("--fresh", is_flag=True, help="Run again what is already in the run folder.")
@click.option("--dry-run", is_flag=True, help="Say what would be run, and with which weights; train and write nothing.")
@click.option(
    "-q", "--quiet", is_flag=True, help="No progress and no notes; of a record, its path and its first metrics."
)
@click.option("-v", "--verbose", is_flag=True, help="Every condition of a record on a line of its own.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the record on stdout (one a line for several), nothing else."
)
def run(
    named: tuple[str, ...],
    suites: tuple[str, ...],
    models: tuple[str, ...],
    dataset: str | None,
    computing: Computing,
    out: Path,
    fresh: bool,
    dry_run: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    **rest: object,
) -> None:
    """Run models through suites and write a record for each.

    A second identical command finishes at once, and an interrupted one resumes.
    """
    from stressbench._util.terminal import Screen, printing, stdout_for_records
    from stressbench.execution.executors import executor
    from stressbench.execution.plan import Failure
    from stressbench.execution.request import RunRequest
    from stressbench.execution.session import Part
    from stressbench.execution.session import run as run_all
    from stressbench.results import show
    from stressbench.training.provide import provider

    _require_one({"--quiet": quiet, "--verbose": verbose, "--json": as_json, "--dry-run": dry_run})
    dataset = dataset or options.sample(suites[0])
    request = RunRequest(suites, (*named, *models) or (options.MODEL,), dataset=dataset, **rest)  # type: ignore[arg-type]
    screen = Screen(quiet)
    if dry_run:
        _preview(request, out, screen)
        return
    finished: list[tuple[str, str]] = []
    failures: list[Failure] = []
    records: list[Finished] = []
    # What a plugin prints is not for the reader of the records.
    with (
        stdout_for_records() if as_json or quiet else nullcontext(sys.stdout) as stdout,
        executor(computing, request, screen) as computes,
    ):
        for outcome in run_all(request, out, fresh, screen, provider, computes):
            if isinstance(outcome, Failure):
                failures.append(outcome)
                continue
            if isinstance(outcome, Part):
                finished.append((str(outcome.plan.model), outcome.plan.suite.name))
                screen.note(str(outcome))
                continue
            finished.append((str(outcome.plan.model), outcome.record.suite.name))
            records.append(outcome)
            with printing():
                if as_json:
                    click.echo(outcome.record.model_dump_json(), file=stdout)
                elif quiet:
                    click.echo(
                        f"{outcome.folder / 'record.json'}: {show.headline(outcome.plan.suite, outcome.record)}",
                        file=stdout,
                    )
                else:
                    show.result(outcome.plan.suite, outcome.record, outcome.folder, verbose)
    if len(records) > 1 and not (as_json or quiet):
        with printing():
            _together(records, screen)
    close(dataset, out, finished, failures)


def _together(records: Sequence[Finished], screen: Screen) -> None:
    """Print the first metrics of several runs in one table."""
    from stressbench.results import runs, summary

    try:
        table = summary.of_runs([runs.of_record(one.folder, one.record) for one in records])
    except UserError as error:
        screen.note(f"there is no table of all runs: {error}")
        return
    summary.terminal(table)
    click.echo(f"`bench table {records[0].folder} …` has other metrics and forms, and `bench report` all in one page")


def _require_one(flags: Mapping[str, bool]) -> None:
    """Raises `UsageError` for two flags that decide what is printed."""
    given = [name for name, there in flags.items() if there]
    if len(given) > 1:
        raise click.UsageError(f"{given[0]} and {given[1]} exclude each other: pass one of them")


def _preview(request: RunRequest, out: Path, screen: Screen) -> None:
    from stressbench.execution.plan import Failure
    from stressbench.execution.preview import preview
    from stressbench.training.provide import finder

    failures = []
    for outcome in preview(request, out, screen, finder):
        if isinstance(outcome, Failure):
            failures.append(outcome)
            continue
        for line in outcome.lines(out):
            click.echo(line)
    for one in failures[:-1]:
        click.echo(f"would fail: {one.model} · {one.suite}: {one.error}", err=True)
    if failures:
        raise failures[-1].error


def close(dataset: str, out: Path, finished: Sequence[tuple[str, str]], failed: Sequence[Failure]) -> None:
    """Report failures and update the list of failed runs."""
    from stressbench.execution import failures

    runs = len(finished) + len(failed)
    path = failures.update(out, dataset, finished, failed if runs > 1 else ())
    if len(failed) > 1:
        for one in failed:
            click.echo(f"failed: {one.model} · {one.suite}: {one.error}", err=True)
        raise UserError(f"{len(failed)} of {runs} runs failed; {path} lists them, with the reasons")
    if failed:
        raise failed[0].error
