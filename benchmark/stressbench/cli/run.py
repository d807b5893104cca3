"""`bench run`: models through suites, a record for each."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stressbench.errors import UserError

if TYPE_CHECKING:
    from stressbench.plan import Failure

# What the command line calls the options of suites; a suite's other options go into its name: `--suite name,option=…`.
_SUITE_OPTIONS = (
    "corruptions",
    "severities",
    "baseline",
    "perturbations",
    "attack",
    "eps",
    "norm",
    "steps",
    "restarts",
    "eot_draws",
)


def _sizes(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Numbers of draws, as 1,2,5."""
    words = value.split(",") if value else []
    if not all(word.strip().isascii() and word.strip().isdigit() and int(word) > 0 for word in words):
        raise click.BadParameter(f"'{value}' is not a list of numbers of draws: write, for example, 1,2,5,10")
    return tuple(int(word) for word in words)


@click.command()
@click.option(
    "--suite",
    "suites",
    multiple=True,
    default=("corruption",),
    show_default=True,
    metavar="NAME",
    help="A suite, with options as NAME,option=value; may be repeated. `all`: every one that the dataset supports.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("resnet18-smooth",),
    show_default=True,
    metavar="NAME",
    help="A model, with options as NAME,option=value; may be repeated.",
)
@click.option("--dataset", default="digits", show_default=True, help="The dataset, for example cifar100.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Where the data are: Parquet files, and CIFAR-10-C or CIFAR-100-C folders.",
)
@click.option("--dataset-name", help="What the record calls the dataset; needed for --dataset parquet.")
@click.option(
    "--weights",
    multiple=True,
    type=click.Path(path_type=Path),
    help="The weights: safetensors, or a torch file of tensors. Ensembles: one a member, or a folder of seedN files.",
)
@click.option(
    "--stress",
    type=click.Choice(["official", "generated"]),
    help="Use the published stressed images, or make them; else official ones where they are there.",
)
@click.option("--draws", type=click.IntRange(min=1), help="Draws of a stochastic model; its own default otherwise.")
@click.option("--sizes", callback=_sizes, metavar="N,N,…", help="A curve over ensemble sizes, from one set of draws.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N test images.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images at a time.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Decides generated stress and a stochastic model's draws.",
)
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--device", help="cpu or cuda; a GPU where there is one otherwise.")
@click.option("--corruptions", help="corruption suite: only these, as fog,snow.")
@click.option("--severities", help="corruption suite: only these, as 1,3,5.")
@click.option("--baseline", help="corruption suite: the record of the model to normalise by.")
@click.option("--perturbations", help="perturbation suite: only these, as translate,rotate.")
@click.option(
    "--attack",
    multiple=True,
    callback=lambda _context, _option, given: "+".join(f"({attack})" for attack in given) or None,
    metavar="NAME",
    help="adversarial suite: fgsm, pgd, autoattack, torchattacks:CLASS with options as NAME,option=value; may be "
    "repeated.",
)
@click.option("--eps", help="adversarial suite: the budgets, as 2/255,8/255 or 0.03.")
@click.option("--norm", help="adversarial suite: linf or l2.")
@click.option("--steps", help="adversarial suite: steps of PGD.")
@click.option("--restarts", help="adversarial suite: random starts of PGD.")
@click.option("--eot-draws", help="adversarial suite: draws of a stochastic model that a gradient is the mean of.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="The folder of run folders."
)
@click.option("--fresh", is_flag=True, help="Run anew what is already in the run folder.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the record on stdout (one a line for several), nothing else."
)
def run(
    suites: tuple[str, ...], models: tuple[str, ...], out: Path, fresh: bool, as_json: bool, **rest: object
) -> None:
    """Run models through suites and write a record for each.

    A second identical command finishes at once, and one that was stopped goes on where it was.
    """
    from stressbench import show
    from stressbench.plan import Failure, Words
    from stressbench.session import run as run_all
    from stressbench.terminal import Screen

    options = {name: rest.pop(name) for name in _SUITE_OPTIONS}
    words = Words(suites, models, suite_options={k: str(v) for k, v in options.items() if v is not None}, **rest)  # type: ignore[arg-type]
    finished: list[tuple[str, str]] = []
    failures: list[Failure] = []
    stdout = sys.stdout
    # What a plugin prints is not for the reader of the records.
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        for outcome in run_all(words, out, fresh, Screen()):
            if isinstance(outcome, Failure):
                failures.append(outcome)
                continue
            finished.append((outcome.record.model.spec, outcome.record.suite.name))
            if as_json:
                click.echo(outcome.record.model_dump_json(), file=stdout)
            else:
                show.result(outcome.plan.suite, outcome.record, outcome.folder)
    close(words.dataset, out, finished, failures)


def close(dataset: str, out: Path, finished: Sequence[tuple[str, str]], failed: Sequence[Failure]) -> None:
    """Say what failed, if anything did, and keep the list of it up to date."""
    from stressbench import failures

    runs = len(finished) + len(failed)
    path = failures.update(out, dataset, finished, failed if runs > 1 else ())
    if len(failed) > 1:
        for one in failed:
            click.echo(f"failed: {one.model} · {one.suite}: {one.error}", err=True)
        raise UserError(f"{len(failed)} of {runs} runs failed; {path} lists them, with the reasons")
    if failed:
        raise failed[0].error
