"""`bench acquire`: which images of a pool to train on next."""

from __future__ import annotations

from pathlib import Path

import click

from stressbench.cli import completion, options


@click.command()
@click.option("--model", metavar="NAME", shell_complete=completion.names("models"), help="A trained stochastic model.")
@options.weights("Its weights, as in `bench run`.")
@options.dataset("The dataset that has the pool, and that the model was trained on.", default=None)
@options.data_dir()
@options.dataset_name
@click.option("--split", default="pool", show_default=True, help="The split that is the pool.")
@click.option(
    "--fraction", type=click.FloatRange(0, 1, min_open=True), default=0.25, show_default=True, help="Of the pool."
)
@click.option("--random", "chance", is_flag=True, help="Pick by chance instead: the control.")
@click.option("--draws", type=click.IntRange(min=2), help="Of the model [default: its own number].")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The CSV file to write.")
@options.seed
@options.batch_size
@options.device
def acquire(
    model: str | None,
    weights: tuple[Path, ...],
    dataset: str | None,
    data_dir: Path | None,
    dataset_name: str | None,
    split: str,
    fraction: float,
    chance: bool,
    draws: int | None,
    out: Path,
    seed: int,
    batch_size: int | None,
    device: str | None,
) -> None:
    """Rank a pool of images by the mean variance of a model's draws, and write the most uncertain ones to a file.

    `bench train --add FILE` trains with them.
    """
    from stressbench import registry
    from stressbench._util.terminal import Screen
    from stressbench.execution import session
    from stressbench.execution.device import pick_device
    from stressbench.execution.request import RunRequest
    from stressbench.training import acquisition
    from stressbench.training.provide import provider

    if dataset is None:
        raise click.UsageError("Missing option '--dataset'.")
    if (model is None) != chance:
        raise click.UsageError("Give --model, or --random for a choice by chance: one of the two.")
    pool = registry.dataset(dataset, split, data_dir, dataset_name)
    if model is None:
        uncertainty = acquisition.by_chance(pool, seed)
    else:
        step = batch_size or 100
        request = RunRequest((), (model,), dataset, data_dir, dataset_name, weights=weights, draws=draws, device=device)
        predictor = session.predictor(request, pool, Screen(), provider, step)
        uncertainty = acquisition.by_variance(predictor, pool, seed, step, pick_device(device))
    picks = acquisition.picked(pool, uncertainty, fraction)
    acquisition.save(out, picks)
    click.echo(f"{out}: {len(picks)} of {len(pool.images)} images of {pool.name}, {split} split")
