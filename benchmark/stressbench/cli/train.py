"""`bench train`: one model on one dataset, its weights into the store."""

from __future__ import annotations

import re
from pathlib import Path

import click

from stressbench.errors import Interrupted

_MOST_SEED = 2**31 - 1
_MOST_SEEDS = 1000  # in one range: more is a slip of the finger


def _seeds(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Seeds as 0-4 or 0,2,5, in their order; empty where none are given."""
    seeds: dict[int, None] = {}
    for part in value.split(",") if value is not None else ():
        match = re.fullmatch(r"\s*([0-9]{1,10})(?:-([0-9]{1,10}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not first <= last <= _MOST_SEED or last - first >= _MOST_SEEDS:
            raise click.BadParameter(f"'{value}' is not a list of seeds: write, for example, 0-4 or 0,2,5")
        seeds |= dict.fromkeys(range(first, last + 1))
    return tuple(seeds)


@click.command()
@click.option("--model", required=True, metavar="NAME", help="The model, with options as NAME,option=value.")
@click.option("--dataset", default="digits", show_default=True, help="The dataset, for example cifar100.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the data are.")
@click.option("--dataset-name", help="What records call the dataset; needed for --dataset parquet.")
@click.option(
    "--seed",
    type=click.IntRange(0, _MOST_SEED),
    help="Decides the initial weights, the order and the augmentation; 0 by default, which is what runs use.",
)
@click.option(
    "--seeds", callback=_seeds, metavar="N-N,N,…", help="Several, one after the other: an ensemble's members."
)
@click.option(
    "--recipe",
    type=click.Choice(["paper", "fast"]),
    default="fast",
    show_default=True,
    help="The spatial smoothing paper's 200 epochs, or one-cycle in a tenth of them.",
)
@click.option(
    "--milestones",
    type=click.Choice(["code", "text"]),
    default="code",
    show_default=True,
    help="Recipe paper for CIFAR: epochs 60, 120, 160 as in the paper's code, or 60, 130, 160 as in its text.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="Fewer or more epochs than the recipe's.")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), help="Instead of the recipe's highest.")
@click.option("--flip/--no-flip", default=None, help="Mirror half of the images, left to right, or none.")
@click.option(
    "--train-draws",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="MC dropout: the loss is of the mean prediction of so many draws, at so many times the cost.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="bfloat16 is autocast, twice as fast on CPUs with AVX512-BF16 or AMX; auto: bfloat16 on a GPU, else float32.",
)
@click.option("--device", help="cpu or cuda; a GPU where there is one otherwise.")
@click.option(
    "--resume/--fresh",
    default=True,
    show_default=True,
    help="Go on where this training was stopped, or train anew and replace the weights that are there.",
)
def train(
    model: str,
    dataset: str,
    data_dir: Path | None,
    dataset_name: str | None,
    seed: int | None,
    seeds: tuple[int, ...],
    device: str | None,
    resume: bool,
    **asked: object,
) -> None:
    """Train a model on a dataset's train split and keep its weights for `bench run`.

    It is measured on the test split after each epoch, which decides nothing: the last epoch's weights are kept. The
    same command goes on where it was stopped, and does nothing where it has finished.
    """
    from functools import partial

    from stressbench import plan, registry, weights
    from stressbench.spec import parse
    from stressbench.terminal import Screen
    from stressbench.training import Options, Trainer

    if seeds and seed is not None:
        raise click.UsageError("--seed and --seeds are two ways to say it: give one of them.")
    spec = str(parse(model))
    registry.check_model(spec)
    split = partial(registry.dataset, dataset, data_dir=data_dir, dataset_name=dataset_name)
    trainer = Trainer(split, Options(**asked), plan.pick_device(device), Screen(), anew=not resume)  # type: ignore[arg-type]
    build = partial(registry.model, spec, split("train"))
    try:
        for one in seeds or (seed or 0,):
            path = trainer(spec, one, build)
            told = {key: float(weights.metadata(path)[key]) for key in ("accuracy", "nll", "ece")}
            click.echo(
                f"{path}\ntest accuracy {told['accuracy']:.2%}, NLL {told['nll']:.4f} nats, ECE {told['ece']:.2%} "
                "(one pass)"
            )
    except KeyboardInterrupt as error:
        same = "the same command" if resume else "the same command without --fresh"
        raise Interrupted(f"interrupted: {same} goes on after the last whole epoch") from error
