"""Training images as the network's training showed them, for suites that measure on the train split."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stressbench import randomness, registry
from stressbench.contracts import Composite, Dataset
from stressbench.recipe import Recipe


def augmented(images: Tensor, keys: Tensor, padding: int, flip: bool) -> Tensor:
    """Images (N, 3, H, W) cropped to their size from a black border of so many pixels, half of them mirrored if `flip`.

    The place and the side follow from the image's key (N,) alone.

    >>> images, keys = torch.rand(2, 3, 8, 8), randomness.image_keys(0, torch.arange(2))
    >>> bool((augmented(images, keys, padding=0, flip=False) == images).all())
    True
    """
    n, _, height, width = images.shape
    numbers = randomness.uniform(keys, (3, 1, 1))
    top, left = ((numbers[:, axis] * (2 * padding + 1)).long() for axis in (0, 1))
    rows = top + torch.arange(height, device=images.device).view(1, -1, 1)
    columns = torch.arange(width, device=images.device).view(1, 1, -1)
    if flip:
        columns = torch.where(numbers[:, 2] < 0.5, width - 1 - columns, columns)
    padded = F.pad(images, [padding] * 4)
    each = torch.arange(n, device=images.device).view(-1, 1, 1)
    return padded[each, :, rows, left + columns].permute(0, 3, 1, 2)


class Recipes:
    """What a recipe says about each network on one dataset: crops, mirroring and weight decay."""

    def __init__(self, name: str, dataset: Dataset | None = None) -> None:
        """Raises `UserError` for a recipe that does not exist."""
        registry.check_recipe(name)
        self.name = name
        self._dataset = dataset
        self._of: WeakKeyDictionary[nn.Module, Recipe] = WeakKeyDictionary()

    def on(self, dataset: Dataset) -> Recipes:
        return Recipes(self.name, dataset)

    def of(self, module: nn.Module) -> Recipe:
        if module not in self._of:
            assert self._dataset is not None, "a run tells its suite the dataset before it measures"
            self._of[module] = registry.recipe(self.name, self._dataset, module)
        return self._of[module]


def several_networks(module: nn.Module) -> str | None:
    """Why a suite that looks at one network does not support an ensemble, whose members were trained apart."""
    if not isinstance(module, Composite) or len(parts := module.parts()) < 2:
        return None
    names = ", ".join(dict.fromkeys(f"{part.spec} (seed {part.seed})" for part in parts))
    return (
        "it looks at one network, and an ensemble has several, which share no weights: run its members one by one, "
        f"{names}"
    )
