"""What a suite measures: a model with the precision and the chunks of its run. `contracts` offers it to plugins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


class Predictor(Protocol):
    """A model that predicts in the run's precision and chunk size, with smaller chunks when memory runs out."""

    @property
    def module(self) -> nn.Module:
        """The network in eval mode, for gradients and hooks."""
        ...

    @property
    def unwrapped(self) -> Predictor | None:
        """The model inside a `Wrapper`, with its default number of draws; None for other models."""
        ...

    @property
    def sizes(self) -> Sequence[int]:
        """The numbers of draws to report, in ascending order; `predict` makes as many as the last."""
        ...

    def of(self, module: nn.Module, sizes: Sequence[int] | None = None) -> Predictor:
        """Another module in the same precision and chunks: one that stands for this, or with draws of its own.

        With `sizes`, its traits say whether it is stochastic.
        """
        ...

    def predict(self, images: Tensor, keys: Tensor) -> Tensor:
        """Log-probabilities (S, N[, T], C), float32, of images (N[, T], 3, H, W) in [0, 1] with keys (N,).

        Raises `UserError` that names the plugin if the model raises, or returns anything but logits (N, C).
        """
        ...

    def outputs(self, images: Tensor, keys: Tensor) -> Tensor:
        """The model's own outputs (logits) in place of `predict`'s log-probabilities: (S, N[, T], C), float32."""
        ...
