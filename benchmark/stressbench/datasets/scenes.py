"""The embedded street scenes: short recordings with exact class masks, or exact depth, from one renderer."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stressbench import randomness
from stressbench.contracts import Dataset, Depth, InMemory, Segmentation, Task
from stressbench.datasets import street
from stressbench.errors import UserError

# Recordings of each split, and the frames of each. They differ in everything that chance decides; many short ones have
# more to learn from, and long ones more frames that have others before them.
RECORDINGS = {"train": 40, "test": 8}
FRAMES = {"train": 10, "test": 25}
# Of the train split's pixels, over images and positions.
MEAN = (0.3892, 0.4061, 0.4164)
STD = (0.1558, 0.1663, 0.1952)


def scenes(split: str, data_dir: Path | None = None, name: str | None = None) -> Dataset:
    """Street scenes of 96×128 pixels and CamVid's eleven classes (`street.CLASSES`), 255 for void.

    A camera drives along a street past buildings, fences, trees, parked and moving cars, and people. Train has 40
    recordings of 10 consecutive frames and test has 8 others of 25. A frame is 0.3 to 0.5 metres further than the one
    before.

    Raises `UserError` for a `data_dir` or a `name`: the set is made here and has its own name.
    """
    return _dataset("scenes", Segmentation(len(street.CLASSES), street.VOID), split, data_dir, name)


def scenes_depth(split: str, data_dir: Path | None = None, name: str | None = None) -> Dataset:
    """The images of `scenes` with the distance along the camera's axis, in metres.

    It is NaN for the sky, for the camera's own car, and from 60 metres on.

    Raises `UserError` as `scenes` does.
    """
    return _dataset("scenes-depth", Depth(), split, data_dir, name)


def _dataset(own_name: str, task: Task, split: str, data_dir: Path | None, name: str | None) -> Dataset:
    if data_dir is not None:
        raise UserError(f"'{own_name}' is embedded and takes no --data-dir: leave it out")
    if name is not None:
        raise UserError(f"'{own_name}' keeps its own name: leave --dataset-name out")
    frames = _rendered(split)
    targets = frames.classes.astype(np.int64) if isinstance(task, Segmentation) else frames.depth[:, None]
    return Dataset(
        name=own_name,
        split=split,
        task=task,
        images=InMemory(torch.from_numpy(frames.pixels)),
        targets=InMemory(torch.from_numpy(targets)),
        image_size=street.SIZE,
        mean=MEAN,
        std=STD,
        embedded=True,
        recordings=torch.arange(RECORDINGS[split]).repeat_interleave(FRAMES[split]),
    )


@lru_cache(maxsize=2)
def _rendered(split: str) -> street.Frames:
    keys = randomness.image_keys(randomness.derive("scenes", split), torch.arange(RECORDINGS[split]))

    def draw(shape: tuple[int, ...], stream: int) -> NDArray[np.float32]:
        drawn: NDArray[np.float32] = randomness.uniform(keys, shape, stream).numpy()
        return drawn

    return street.render(draw, RECORDINGS[split], FRAMES[split])
