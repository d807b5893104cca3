"""`bench run`: models through suites, a record for each."""

from __future__ import annotations

from pathlib import Path

import click

from stressbench.errors import UserError

# What the command line calls the options of suites; a suite's other options go into its name: `--suite name,option=…`.
_SUITE_OPTIONS = ("corruptions", "severities", "baseline")


@click.command()
@click.option(
    "--suite",
    "suites",
    multiple=True,
    default=("corruption",),
    show_default=True,
    metavar="NAME",
    help="A suite, with options as NAME,option=value; may be repeated.",
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
    from stressbench.plan import Words
    from stressbench.session import run as run_all
    from stressbench.terminal import Screen

    options = {name: rest.pop(name) for name in _SUITE_OPTIONS}
    words = Words(suites, models, suite_options={k: str(v) for k, v in options.items() if v is not None}, **rest)  # type: ignore[arg-type]
    failures = []
    for outcome in run_all(words, out, fresh, Screen()):
        if isinstance(outcome, UserError):
            failures.append(outcome)
            continue
        plan, record, folder = outcome
        if as_json:
            click.echo(record.model_dump_json())
        else:
            show.result(plan.suite, record, folder)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise UserError(f"{len(failures)} runs failed: " + " | ".join(map(str, failures)))
