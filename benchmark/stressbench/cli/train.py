"""`bench train`: one model on one dataset, its weights into the store."""

from __future__ import annotations

from pathlib import Path

import click

from stressbench.errors import UserError


@click.command()
@click.option("--model", required=True, metavar="NAME", help="The model, with options as NAME,option=value.")
@click.option("--dataset", default="digits", show_default=True, help="The dataset, for example cifar100.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the data are.")
@click.option("--dataset-name", help="What records call the dataset; needed for --dataset parquet.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Decides the initial weights, the order and the augmentation; runs use seed 0, ensembles also others.",
)
@click.option(
    "--recipe",
    type=click.Choice(["paper", "fast"]),
    default="fast",
    show_default=True,
    help="The spatial smoothing paper's 200 epochs, or one-cycle in a tenth of them.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="Fewer or more epochs than the recipe's.")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), help="Instead of the recipe's highest.")
@click.option("--flip/--no-flip", default=None, help="Mirror half of the images, left to right, or none.")
@click.option("--device", help="cpu or cuda; a GPU where there is one otherwise.")
@click.option("--fresh", is_flag=True, help="Train anew and replace the weights that are there.")
def train(
    model: str,
    dataset: str,
    data_dir: Path | None,
    dataset_name: str | None,
    seed: int,
    recipe: str,
    epochs: int | None,
    learning_rate: float | None,
    flip: bool | None,
    device: str | None,
    fresh: bool,
) -> None:
    """Train a model on a dataset's train split, measure it on the test split, and keep its weights for `bench run`."""
    from dataclasses import replace
    from functools import partial

    from stressbench import plan, registry, training, weights
    from stressbench.spec import parse
    from stressbench.terminal import Screen

    chosen_device = plan.pick_device(device)
    spec = str(parse(model))
    registry.check_model(spec)
    train_set, held_out = (registry.dataset(dataset, split, data_dir, dataset_name) for split in ("train", "test"))
    name = registry.pinned(spec)
    path = weights.stored(train_set.name, name, seed)
    if path.exists() and not fresh:
        raise UserError(
            f"{spec} has weights for {train_set.name} and seed {seed} ({path}): give --fresh to replace them"
        )
    module = training.fresh(partial(registry.model, spec, train_set), seed)
    chosen = training.recipe_for(module, train_set, recipe)
    if epochs is not None:
        chosen = chosen.with_epochs(epochs)
    if learning_rate is not None:
        chosen = replace(chosen, learning_rate=learning_rate)
    if flip is not None:
        chosen = replace(chosen, flip=flip)
    with Screen().training(f"training {spec}") as report:
        path, result = training.train_and_store(name, module, train_set, chosen, seed, chosen_device, report, held_out)
    click.echo(f"{path}\ntest accuracy {result.accuracy:.2%}, NLL {result.nll:.4f} nats (one pass)")
