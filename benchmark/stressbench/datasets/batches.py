"""CIFAR's published python files, as its page and torchvision have them.

They are pickles, which could execute anything, so they are only read where torchvision finds that their MD5 sums are
those of the published files.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from stressbench.datasets.own import InMemoryPixels, Rows
from stressbench.errors import UserError

_FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}


def load_batches(name: str, folder: Path, split: str) -> Rows | None:
    """A split of `cifar10` or `cifar100` where `folder` is, or holds, the unpacked python version; None elsewhere.

    Raises `UserError` for files that are not the published ones.
    """
    from torchvision.datasets import CIFAR10, CIFAR100

    inner = _FOLDERS[name]
    root = folder.parent if folder.name == inner else folder
    if not (root / inner).is_dir():
        return None
    try:
        data = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name](str(root), train=split == "train", download=False)
    except RuntimeError as error:
        raise UserError(
            f"{root / inner} is not the published python version of {name} (a file is missing, or another MD5 sum): "
            "unpack it again, and bring a set of your own into another form, such as --dataset imagefolder"
        ) from error
    pixels: Tensor = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    return Rows(InMemoryPixels(pixels), torch.tensor(data.targets), len(data.classes))
