"""Active learning: a pool's images ranked by a model's uncertainty, and a training set with the best of them added."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from stressbench import held_out, randomness
from stressbench._util.files import reading, writing
from stressbench._util.files import replace as write
from stressbench.contracts import Classification, Dataset, InMemory, Predictor, Segmentation
from stressbench.datasets.cache import read, read_targets, to_float
from stressbench.errors import UserError

COLUMNS = ("dataset", "split", "index", "uncertainty")


def by_variance(predictor: Predictor, pool: Dataset, seed: int, batch_size: int, device: torch.device) -> torch.Tensor:
    """The mean variance over draws of all values that are predicted for each image, (N,), float64.

    Of tasks with classes, of their probabilities. Raises `UserError` for a model that makes one draw.
    """
    if predictor.sizes[-1] == 1:
        raise UserError("one draw has no variance: specify a stochastic model")
    found = []
    for start in range(0, len(pool.images), batch_size):
        stop = min(start + batch_size, len(pool.images))
        keys = randomness.image_keys(randomness.derive(seed, {"pool": pool.name}), torch.arange(start, stop))
        draws = predictor.predict(to_float(read(pool, start, stop), device), keys.to(device))
        if isinstance(pool.task, Classification | Segmentation):
            draws = draws.exp()
        # Image by image, since float64 maps of all draws of a batch need much memory.
        found += [draws[:, n].double().var(dim=0, correction=0).mean() for n in range(stop - start)]
    return torch.stack(found).cpu()


def by_chance(pool: Dataset, seed: int) -> torch.Tensor:
    """A number in [0, 1) for each image, (N,), that depends on the seed and the image's position alone."""
    keys = randomness.image_keys(randomness.derive(seed, "random acquisition"), torch.arange(len(pool.images)))
    return randomness.uniform(keys, ()).double()


def picked(pool: Dataset, uncertainty: torch.Tensor, fraction: float) -> pd.DataFrame:
    """The images of the highest uncertainty, from the top: a fraction of the pool, rounded up."""
    count = math.ceil(fraction * len(uncertainty))
    order = uncertainty.argsort(descending=True, stable=True)[:count]
    rows = [(pool.name, pool.split, int(index), float(uncertainty[index])) for index in order]
    return pd.DataFrame(rows, columns=COLUMNS)


def save(path: Path, picks: pd.DataFrame) -> None:
    with writing(path):
        write(path, picks.to_csv(index=False, lineterminator="\n").encode())


def extended(train_set: Dataset, path: Path, splits: Callable[[str], Dataset]) -> Dataset:
    """A training set with the picked images of another split, which `splits` gives, behind its own.

    Raises `UserError` for a file that is not one of `save`, or of another dataset.
    """
    try:
        with reading(path):
            picks = pd.read_csv(path)
        (name,), (split,) = picks["dataset"].unique(), picks["split"].unique()
        indices = torch.tensor(picks["index"].astype("int64").to_numpy())
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path} is not a file of `bench acquire`: {error}") from error
    if name != train_set.name:
        raise UserError(f"{path} has images of {name}, and {train_set.name} is trained on: acquire from its own pool")
    if split in ("test", *held_out.SPLITS):
        raise UserError(
            f"{path} has images of the {split} split of {name}, which models are scored on or fitted to: acquire from "
            "the pool"
        )
    pool = splits(str(split))
    if pool.split != split or not bool((indices < len(pool.images)).all()):
        raise UserError(f"{path} has images that the {split} split of {name} lacks: acquire from it again")
    images, targets = read(pool, 0, len(pool.images))[indices], read_targets(pool, 0, len(pool.images))[indices]
    n = len(train_set.images)
    return replace(
        train_set,
        images=InMemory(torch.cat([read(train_set, 0, n), images])),
        targets=InMemory(torch.cat([read_targets(train_set, 0, n), targets])),
    )
