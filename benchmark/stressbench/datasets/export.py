"""Stressed images written to files, in the layout of the published corrupted sets."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from stressbench._util.terminal import Screen
from stressbench.contracts import Batch, Condition, Dataset, StressSuite
from stressbench.datasets.cache import read, read_targets, to_float
from stressbench.datasets.checksums import LABELS
from stressbench.datasets.npy import NpyFile
from stressbench.datasets.official import SEVERITIES
from stressbench.errors import UserError, did_you_mean
from stressbench.randomness import derive, image_keys
from stressbench.sampling import Unjudged

if TYPE_CHECKING:
    from numpy.typing import NDArray


def corrupt(
    dataset: Dataset,
    suite: StressSuite,
    corruptions: Sequence[str],
    out: Path,
    screen: Screen,
    n: int | None = None,
    seed: int = 0,
    batch_size: int = 256,
) -> list[Path]:
    """Write `<corruption>.npy`, uint8 (5·N, H, W, 3) with severity 1 first, and `labels.npy` (5·N,) into `out`.

    N is `n`, or all images. The pixels are those that a run of `suite` with this seed shows a model; without
    `corruptions`, all that the suite names are written. `official.CorruptionArchive` reads the folder. A file is
    there whole or not at all.

    Raises `UserError` for a corruption that the suite does not have, for files that are there already, and for a
    `labels.npy` that belongs to other images.
    """
    total = len(dataset.images) if n is None else min(n, len(dataset.images))
    conditions = _by_corruption(suite, corruptions)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in conditions:
            if _path(out, name).exists():
                raise UserError(f"{_path(out, name)} is there already: delete it, or choose another folder with --out")
        _write_labels(dataset, total, out)
        for name, severities in conditions.items():
            with screen.progress(name, SEVERITIES * total, "images") as advance:
                shape = (SEVERITIES * total, *dataset.image_size, 3)
                with _whole(_path(out, name), np.dtype(np.uint8), shape) as rows:
                    for block, condition in enumerate(severities):
                        for start in range(0, total, batch_size):
                            stop = min(start + batch_size, total)
                            images = present(dataset, suite, condition, start, stop, seed)
                            rows[block * total + start : block * total + stop] = images
                            advance(stop - start, f"severity {block + 1}")
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error}. Choose another folder with --out") from error
    return [_path(out, name) for name in conditions]


def _path(out: Path, name: str) -> Path:
    return out / f"{name}.npy"


def _by_corruption(suite: StressSuite, chosen: Sequence[str]) -> dict[str, list[Condition]]:
    """Each corruption's conditions in the order of their severity."""
    found: dict[str, dict[int, Condition]] = {}
    for condition in suite.conditions():
        if int(condition["severity"]) > 0:
            found.setdefault(str(condition["corruption"]), {})[int(condition["severity"])] = condition
    for name in chosen:
        if name not in found:
            hint = did_you_mean(name, found)
            raise UserError(f"there is no corruption '{name}': {hint}the suite has {', '.join(found)}")
    names = list(dict.fromkeys(chosen)) or list(found)
    return {name: [found[name][severity] for severity in range(1, SEVERITIES + 1)] for name in names}


def present(
    dataset: Dataset, suite: StressSuite, condition: Condition, start: int, stop: int, seed: int
) -> NDArray[np.uint8]:
    """Images start … stop−1 as a run of the suite with this seed shows them: (N, H, W, 3), uint8."""
    batch = clean(dataset, condition, start, stop, seed)
    return to_pixels(suite.stress(condition, batch, Unjudged(torch.nn.Identity())).images)


def clean(dataset: Dataset, condition: Condition, start: int, stop: int, seed: int) -> Batch:
    """Images start … stop−1 as a run with this seed gives them to a suite, on the CPU."""
    indices, seed = torch.arange(start, stop), derive(seed, condition)
    images = to_float(read(dataset, start, stop), torch.device("cpu"))
    batch = Batch(images, read_targets(dataset, start, stop), indices, image_keys(seed, indices), dataset.task)
    if dataset.recordings is None:
        return batch
    recordings = dataset.recordings[start:stop]
    return replace(batch, recordings=recordings, recording_keys=image_keys(seed, recordings))


def to_pixels(images: Tensor) -> NDArray[np.uint8]:
    """Images (…, 3, H, W) in [0, 1] as their nearest grey levels: (…, H, W, 3), uint8."""
    pixels: NDArray[np.uint8] = images.mul(255).round().to(torch.uint8).movedim(-3, -1).numpy()
    return pixels


def _write_labels(dataset: Dataset, total: int, out: Path) -> None:
    dtype = np.dtype(np.uint8 if dataset.classes <= 256 else np.int64)
    labels = np.tile(dataset.labels[:total].numpy().astype(dtype), SEVERITIES)
    path = _path(out, LABELS)
    if not path.exists():
        with _whole(path, dtype, labels.shape) as rows:
            rows[:] = labels
        return
    there = NpyFile(path, "delete it, or choose another folder with --out")
    if not np.array_equal(there.read(0, len(there)), labels):
        raise UserError(
            f"{path} belongs to other images (another dataset, or another --limit): choose another folder with --out"
        )


@contextmanager
def _whole(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    """A mapped .npy file to fill, which takes its name when the block ends well and vanishes when it does not."""
    needed = math.prod(shape) * dtype.itemsize
    if needed > shutil.disk_usage(path.parent).free:
        # A mapped file that finds no room kills the process instead of raising an error.
        raise UserError(f"{path} needs {needed / 1e6:,.0f} MB, which are not free: make room, or use --limit or --out")
    scratch = path.with_name(f".{path.stem}-{os.getpid()}.partial")
    try:
        rows = np.lib.format.open_memmap(scratch, mode="w+", dtype=dtype, shape=shape)
        yield rows
        rows.flush()
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
