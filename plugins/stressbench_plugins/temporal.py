"""Temporal smoothing: a video frame's prediction is averaged with those of the frames before it.

After Park et al. (2021), "Vector Quantized Bayesian Neural Network Inference for Data Streams", as Park and Kim (2022)
use it: p̄_t = Σ_k w_k p_{t−k}, w_k ∝ exp(−rate · k), k = 0 … frames. Each frame costs the passes of one prediction,
since the frames before it have been predicted already, and an MC dropout network needs a single draw a frame.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stressbench import registry
from stressbench.contracts import Dataset, traits
from stressbench.errors import UserError
from stressbench.registry import ModelName
from stressbench.sampling import sample
from stressbench.spec import parse
from stressbench_plugins.training_free import Wrapper

MOST_FRAMES = 1000


class Temporal(Wrapper):
    """The wrapped network, with the weights by which suites of video average its predictions over frames.

    By itself, as in suites of still images, it predicts each image alone.
    """

    def __init__(self, model: torch.nn.Module, spec: str, frame_weights: tuple[float, ...]) -> None:
        super().__init__(model, spec)
        own = traits(model)
        self.frame_weights = frame_weights
        self.stochastic, self.max_draws = own.stochastic, own.max_draws
        # The frames take the place of MC dropout's draws; an ensemble keeps its members.
        self.default_draws = 1 if own.max_draws is None else own.default_draws

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.model(images)
        return output

    def draws(self, images: Tensor, n: int) -> Tensor:
        return torch.stack(sample(self.model, images, n))


def weights(frames: int, rate: float) -> tuple[float, ...]:
    """exp(−rate · k) over its sum, for k = 0 … frames.

    >>> [round(weight, 4) for weight in weights(5, 0.8)]
    [0.5552, 0.2495, 0.1121, 0.0504, 0.0226, 0.0102]
    """
    raw = [math.exp(-rate * k) for k in range(frames + 1)]
    return tuple(weight / sum(raw) for weight in raw)


def temporal(dataset: Dataset, argument: ModelName, frames: int = 5, rate: float = 0.8) -> torch.nn.Module:
    """Averages each frame's probabilities with those of so many `frames` before it, by weights ∝ exp(−rate · age).

    Frames from before the recording do not count. An MC dropout network makes one draw a frame unless --draws is given.
    Raises `UserError` for fewer than 0 or more than 1000 frames, and a negative rate.
    """
    if not 0 <= frames <= MOST_FRAMES:
        raise UserError(f"invalid frames={frames}: expected 0–{MOST_FRAMES}")
    if not 0 <= rate < math.inf:
        raise UserError(f"invalid rate={rate}: expected 0 or more")
    inner = str(parse(argument))
    return Temporal(registry.model(inner, dataset), inner, weights(frames, rate))
