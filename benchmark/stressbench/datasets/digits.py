"""The embedded dataset: real handwritten digits, so that the first command needs no network and no account."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from stressbench.contracts import Classification, Dataset, InMemory
from stressbench.errors import UserError

SIZE = 32
TEST = 200
# Of the train split's pixels, over images and positions; grey, so the three channels agree.
MEAN, STD = 0.3046, 0.3224


def digits(split: str, data_dir: Path | None = None, name: str | None = None) -> Dataset:
    """The 1,797 digits (8×8, 0 … 16) of scikit-learn's file as 32×32 RGB, 10 classes.

    Test is the last 200 images in the file's order and train the first 1,597. The file goes from writer to writer, so
    a cut in its order keeps the hands of the two splits apart, which a random split would mix.

    Raises `UserError` for a `data_dir` or a `name`: the set is part of an installed package and has its own name.
    """
    if data_dir is not None:
        raise UserError("'digits' is embedded and takes no --data-dir: leave it out, or use --dataset parquet")
    if name is not None:
        raise UserError("'digits' keeps its own name: leave --dataset-name out, it goes with --dataset parquet")
    from sklearn.datasets import load_digits

    file = load_digits()
    part = slice(-TEST, None) if split == "test" else slice(None, -TEST)
    # Every step is exact in float32 (sums of multiples of 1/1024), so all machines round to the same pixels.
    grey = torch.from_numpy(file.images[part]).to(torch.float32).unsqueeze(1) * (255 / 16)
    large = F.interpolate(grey, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    pixels = large.round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    return Dataset(
        name="digits",
        split=split,
        task=Classification(10),
        images=InMemory(pixels),
        targets=InMemory(torch.from_numpy(file.target[part]).to(torch.int64)),
        image_size=(SIZE, SIZE),
        mean=(MEAN, MEAN, MEAN),
        std=(STD, STD, STD),
        embedded=True,
    )
