"""Models for the tests of `check_model`: a few that keep every promise, and one for each way to break one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stressbench import randomness
from stressbench.contracts import Dataset, Part


class Base(nn.Module):
    """A small network that keeps every promise; what is broken in it is below."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.head = nn.Linear(24, dataset.classes)

    def maps(self, images: Tensor) -> Tensor:
        return self.features(images - 0.5).relu()

    def classify(self, maps: Tensor) -> Tensor:
        return self.head(F.adaptive_avg_pool2d(maps, 2).flatten(1))

    def forward(self, images: Tensor) -> Any:
        return self.classify(self.maps(images))


class Noisy(Base):
    """Keeps every promise too, with noise that follows the images."""

    stochastic = True
    default_draws = 3

    def classify(self, maps: Tensor) -> Tensor:
        return super().classify(randomness.dropout(maps, 0.3))


class Members(Base):
    """Three heads that take turns, with draws of its own."""

    stochastic = True
    default_draws: Any = 3
    max_draws: Any = 3

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * (1 + randomness.draw_index() % 3)

    def draws(self, images: Tensor, n: int) -> Tensor:
        return torch.stack([super(Members, self).forward(images) * (1 + s % 3) for s in range(n)])


class Wrapped(nn.Module):
    """A model made of one part."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__()
        self.inner = Base(dataset)

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)

    def parts(self) -> list[Part]:
        return [Part("base", 0, self.inner)]


# --- broken ones ----------------------------------------------------------------------------------------------


class Probabilities(Base):
    def forward(self, images: Tensor) -> Any:
        return {"logits": super().forward(images)}


class OneMoreClass(Base):
    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.head = nn.Linear(24, dataset.classes + 1)


class Votes(Base):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).argsort(1)


class Half(Base):
    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.double()


class Diverged(Base):
    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        nn.init.constant_(self.head.bias, float("nan"))


class Squeezed(Base):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).squeeze()


class Standardised(Base):
    """Divides by each image's deviation, which is 0 for a flat one."""

    def forward(self, images: Tensor) -> Tensor:
        axes = (1, 2, 3)
        return super().forward((images - images.mean(axes, keepdim=True)) / images.std(axes, keepdim=True))


class Halved(Base):
    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            images.mul_(0.5)
        return super().forward(images)


class InPlace(Base):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.sub_(0.5))


class Detached(Base):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.detach())


class Frozen(Base):
    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(images)


class Rounded(Base):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward((255 * images).round() / 255)


class SteepRoot(Base):
    """Its slope is infinite where an image is 0.5."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + 0 * (images - images.detach()).pow(0.5).sum((1, 2, 3)).unsqueeze(1)


class Counting(Base):
    passes: Tensor

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.passes += 1
        return super().forward(images)


class Stubborn(nn.BatchNorm2d):
    """Batch normalisation that somebody keeps in training mode, so that MC dropout stays on."""

    def train(self, mode: bool = True) -> Stubborn:
        return super().train(True)


class TrainingMode(Base):
    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.norm = Stubborn(6)

    def maps(self, images: Tensor) -> Tensor:
        return self.norm(super().maps(images))


class BatchStatistics(Base):
    def maps(self, images: Tensor) -> Tensor:
        maps = super().maps(images)
        return maps - maps.mean(0, keepdim=True)


class BatchSize(Base):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) / len(images)


class Silent(Base):
    """Random, and does not say so."""

    def maps(self, images: Tensor) -> Tensor:
        return F.dropout(super().maps(images), 0.3)


class Idle(Base):
    """Takes random numbers and does nothing with them."""

    def maps(self, images: Tensor) -> Tensor:
        torch.rand(1)
        return super().maps(images)


class SaysItIsRandom(Base):
    stochastic = True
    default_draws = 4


class DropoutOff(Base):
    """Says that it is stochastic; `eval()` has switched its dropout off."""

    stochastic = True

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.drop = nn.Dropout(0.5)
        self.train()

    def maps(self, images: Tensor) -> Tensor:
        return self.drop(super().maps(images))  # type: ignore[no-any-return]


def dropout_off(dataset: Dataset) -> nn.Module:
    """`DropoutOff` with the same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DropoutOff(dataset)


class SharedMask(Base):
    """The first image's draws differ, the others' do not."""

    stochastic = True

    def classify(self, maps: Tensor) -> Tensor:
        return super().classify(torch.cat([randomness.dropout(maps, 0.3)[:1], maps[1:]]))


class Endless(Members):
    """Begins again after three draws and does not say so."""

    max_draws = None


class SoonerRepeat(Members):
    """Says that there are four draws, and there are three."""

    default_draws, max_draws = 3, 4


class LaterRepeat(Members):
    """Says that there are two draws, and there are three."""

    default_draws, max_draws = 2, 2


class NumpyNoise(Base):
    stochastic = True

    def maps(self, images: Tensor) -> Tensor:
        maps = super().maps(images)
        return maps + 0.1 * torch.from_numpy(np.random.default_rng().normal(size=tuple(maps.shape))).float()


class SeedOfItsOwn(Base):
    """Draws differ and come again, and no --seed changes them."""

    stochastic = True

    def maps(self, images: Tensor) -> Tensor:
        maps = super().maps(images)
        mask = torch.rand(maps.shape[1:], generator=torch.Generator().manual_seed(randomness.draw_index()))
        return maps * mask


class OtherDraws(Members):
    """Its draws are in another order than passes are."""

    def draws(self, images: Tensor, n: int) -> Tensor:
        return super().draws(images, n).flip(0)


class FewerDraws(Noisy):
    """Its first draws depend on how many there are."""

    def draws(self, images: Tensor, n: int) -> Tensor:
        drawn = []
        for index in range(n):
            with randomness.redraw(index if n == 3 else index + 1):
                drawn.append(self(images))
        return torch.stack(drawn)


class TensorOfDraws(Members):
    def draws(self, images: Tensor, n: int) -> Any:
        return list(super().draws(images, n))


class Viewed(Base):
    def classify(self, maps: Tensor) -> Tensor:
        return super().classify(maps.view(len(maps), -1).view(maps.shape))


class MemoryOrder(Base):
    """Reads the pixels as they lie in memory."""

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        lie = torch.as_strided(images, images.shape, (3 * height * width, height * width, width, 1))
        return super().forward(lie)


class Switched(Base):
    """MC dropout that a layer in training mode makes, which only its own `eval` leaves on."""

    stochastic = True

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.dropout = nn.Dropout(0.3)

    def maps(self, images: Tensor) -> Tensor:
        maps = super().maps(images)
        return randomness.dropout(maps, 0.3) if self.dropout.training else maps

    def eval(self) -> Switched:
        super().eval()
        self.dropout.train()
        return self


class Unregistered(Base):
    """Has a weight that no state dict holds."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.scale = torch.rand(dataset.classes)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * self.scale


class ExtraState(Base):
    def get_extra_state(self) -> dict[str, int]:
        return {"epoch": 3}

    def set_extra_state(self, state: object) -> None:
        pass


class Beside(Wrapped):
    """Has a weight that is in no part."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.bias = nn.Parameter(torch.ones(dataset.classes))

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.bias


class Twins(Wrapped):
    def parts(self) -> list[Part]:
        return [Part("base", 0, self.inner), Part("base", 0, self.inner)]


class Tiring(Base):
    """Its bias grows with every batch, by less than rounding at first, and is not among its weights."""

    grown = 0.0

    def forward(self, images: Tensor) -> Tensor:
        self.grown += 2e-6
        return super().forward(images) * (1 + self.grown)


class Worn(Base):
    """Gives other outputs after thirty batches."""

    seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += 1
        return super().forward(images) * (1 if self.seen < 30 else -1)
