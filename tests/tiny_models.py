"""Small models for tests, offered through the same entry points as a stranger's (see `conftest.py`)."""

from __future__ import annotations

import os
import time

import torch
from torch import Tensor, nn

from stressbench import randomness
from stressbench.contracts import Dataset


class Tiny(nn.Module):
    """A few thousand fixed weights; logits depend on position, colour and brightness."""

    def __init__(self, dataset: Dataset, width: int = 8) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.features = nn.Conv2d(3, width, 3, stride=2, padding=1)
            self.head = nn.Linear(width * 16, dataset.classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = nn.functional.adaptive_avg_pool2d(self.features(images - 0.5).relu(), 4)
        return 20 * self.head(maps.flatten(1))


class Dropped(Tiny):
    """The same with dropout whose masks follow the images."""

    stochastic = True
    default_draws = 3

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(randomness.dropout(images, 0.2))


class Untrained(Tiny):
    untrained = True


class Masked(Tiny):
    """Rules out all classes from `known` on, as one does for a dataset that has only the first of a network's classes.

    `known` of 0 rules out all.
    """

    def __init__(self, dataset: Dataset, known: int = 10) -> None:
        super().__init__(dataset)
        self.known = known

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        ruled_out = torch.arange(logits.shape[1], device=logits.device) >= self.known
        return logits.masked_fill(ruled_out, float("-inf"))


class Small(nn.Module):
    """Three convolutions, batch normalisation, and dropout that training alone turns on: learns digits in seconds."""

    untrained = True

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.AvgPool2d(2)]
        for given, returned, stride in ((3, 12, 1), (12, 24, 2), (24, 48, 2)):
            convolution = nn.Conv2d(given, returned, 3, stride=stride, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(returned), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.1), nn.Linear(48 * 16, classes))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(images)
        return logits


class Wrong(nn.Module):
    """Returns, or raises, whatever it was given, for images whose mean is above a threshold."""

    def __init__(self, classes: int, answer: str) -> None:
        super().__init__()
        self.classes, self.answer = classes, answer

    def forward(self, images: Tensor) -> object:
        logits = torch.zeros(len(images), self.classes)
        match self.answer:
            case "shape":
                return logits[:, 1:]
            case "nan":
                logits[0, 0] = float("nan")
                return logits
            case "list":
                return logits.tolist()
            case "raise":
                raise RuntimeError("the flux\ncapacitor is empty")
            case "killed":
                # Two conditions are served first, so that there is something to keep. Only the run's own batches count,
                # not the few images on which it checks the model.
                self.served = getattr(self, "served", 0) + (len(images) == 5)
                if self.served > 4:
                    os.kill(os.getpid(), 9)
            case "slow":
                time.sleep(0.2)
        return logits + images.mean(dim=(1, 2, 3)).unsqueeze(1) * torch.arange(self.classes)


def tiny(dataset: Dataset, width: int = 8) -> nn.Module:
    return Tiny(dataset, width)


def dropped(dataset: Dataset) -> nn.Module:
    return Dropped(dataset)


def masked(dataset: Dataset, known: int = 10) -> nn.Module:
    return Masked(dataset, known)


def untrained(dataset: Dataset, width: int = 8) -> nn.Module:
    return Untrained(dataset, width)


def small(dataset: Dataset) -> nn.Module:
    return Small(dataset.classes)


def wrong(dataset: Dataset, answer: str) -> nn.Module:
    return Wrong(dataset.classes, answer)


def unbuildable(dataset: Dataset) -> nn.Module:
    raise ValueError("no such checkpoint")


def not_a_module(dataset: Dataset) -> object:
    return 42


constant = 42
