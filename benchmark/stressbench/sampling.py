"""Draws of a stochastic model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stressbench import randomness, registry
from stressbench.contracts import Sampler
from stressbench.errors import UserError, plugin_errors


def sample(module: nn.Module, images: Tensor, n: int) -> list[Tensor]:
    """Logits (N, C) of each of n draws for images (N, 3, H, W), by the module's own `draws` or by n passes.

    Raises `UserError` that names the plugin if a module built by the registry raises.
    """
    name = registry.built_by(module)
    with pass_errors(name, images) if name else nullcontext():
        if isinstance(module, Sampler):
            return list(module.draws(images, n))
        draws = []
        for index in range(n):
            with randomness.redraw(index):
                draws.append(module(images.clone()))  # the module may change its input in place
        return draws


def pass_errors(name: str, images: Tensor) -> AbstractContextManager[None]:
    return plugin_errors(f"{name} failed on {len(images)} images", passing=(torch.OutOfMemoryError,))


@dataclass(frozen=True)
class Unjudged:
    """A `contracts.Predictor` for previews and exports, which stress images without predicting."""

    module: nn.Module
    unwrapped: None = None
    sizes: Sequence[int] = (1,)

    def of(self, module: nn.Module, sizes: Sequence[int] | None = None) -> Unjudged:
        return Unjudged(module)

    def predict(self, images: Tensor, keys: Tensor) -> Tensor:
        raise UserError("this stress needs a model's predictions, so it can be made in `bench run` alone")

    outputs = predict
