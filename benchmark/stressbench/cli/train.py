"""`bench train`: one model on one dataset, its weights into the store."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

import click
from annotated_types import Gt

from stressbench.cli import completion, options
from stressbench.errors import Interrupted
from stressbench.recipe import Options

_MOST_SEEDS = 1000  # in one range: more is a slip of the finger


def _seeds(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Seeds as 0-4 or 0,2,5, in their order; empty where none are given."""
    seeds: dict[int, None] = {}
    for part in value.split(",") if value is not None else ():
        match = re.fullmatch(r"\s*([0-9]{1,10})(?:-([0-9]{1,10}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not first <= last <= options.MOST_SEED or last - first >= _MOST_SEEDS:
            raise click.BadParameter(f"'{value}' is not a list of seeds: write, for example, 0-4 or 0,2,5")
        seeds |= dict.fromkeys(range(first, last + 1))
    return tuple(seeds)


def _training_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each field of `recipe.Options`."""
    hints = typing.get_type_hints(Options, include_extras=True)
    for option in reversed(fields(Options)):
        name = option.name.replace("_", "-")
        kind = next((one for one in typing.get_args(hints[option.name]) if _click_type(one)), hints[option.name])
        command = click.option(
            f"--{name}/--no-{name}" if kind is bool else f"--{name}",
            type=_click_type(kind),
            default=option.default,
            show_default=option.default is not None,
            help=option.metadata["help"],
            shell_complete=completion.names("recipes") if option.name == "recipe" else None,
        )(command)
    return command


def _click_type(hint: Any) -> click.ParamType[Any] | None:
    """The option type for a field's annotation; None for an unsupported one."""
    if typing.get_origin(hint) is Literal:
        return click.Choice(typing.get_args(hint))
    if typing.get_origin(hint) is not Annotated:
        return {bool: click.BOOL, str: click.STRING}.get(hint)
    base, limit = typing.get_args(hint)
    bounds = {"min": limit.gt, "min_open": True} if isinstance(limit, Gt) else {"min": limit.ge}
    return click.IntRange(**bounds) if base is int else click.FloatRange(**bounds)


@click.command()
@click.option(
    "--model",
    required=True,
    metavar="NAME",
    shell_complete=completion.names("models"),
    help="The model, with options as NAME,option=value.",
)
@options.dataset()
@options.data_dir()
@options.dataset_name
@click.option(
    "--seed",
    type=click.IntRange(0, options.MOST_SEED),
    help="Decides the initial weights, the order and the augmentation; 0 by default, which is what runs use.",
)
@click.option(
    "--seeds", callback=_seeds, metavar="N-N,N,…", help="Several, one after the other: an ensemble's members."
)
@_training_options
@options.device
@click.option(
    "--resume/--fresh",
    default=True,
    show_default=True,
    help="Resume this training, or start again and replace the existing weights.",
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

    It is measured on the test split after each epoch, which decides nothing: the last epoch's weights are kept. To
    choose a recipe or an option, measure on --validation N in its place. The same command resumes where it stopped,
    and does nothing where it has finished.
    """
    from functools import partial

    from stressbench import registry, weights
    from stressbench._util.terminal import Screen, printing
    from stressbench.execution.device import pick_device
    from stressbench.training import Trainer, evaluation

    if seeds and seed is not None:
        raise click.UsageError("--seed and --seeds are two ways to say it: pass one of them.")
    resolved = registry.resolve(model)
    spec = str(resolved)
    split = partial(registry.dataset, dataset, data_dir=data_dir, dataset_name=dataset_name)
    trainer = Trainer(split, Options(**asked), pick_device(device), Screen(), restart=not resume)  # type: ignore[arg-type]
    train_set = split("train")
    metrics = ("accuracy", *(metric.name for metric in train_set.task.row_metrics))
    build = partial(resolved.build, train_set)
    try:
        for one in seeds or (seed or 0,):
            path = trainer(spec, one, build)
            metadata = weights.metadata(path)
            measured = {name: float(metadata[name]) for name in metrics if name in metadata}
            told = f"{path}\n{metadata['measured_on']} {evaluation.describe(measured, more_digits=1)} (one pass)"
            with printing():
                click.echo(told)
    except KeyboardInterrupt as error:
        same = "the same command" if resume else "the same command without --fresh"
        raise Interrupted(f"interrupted: {same} goes on after the last whole epoch") from error
