"""Uncertainty without retraining (Mi et al., 2019, "Training-Free Uncertainty Estimation for Dense Regression").

Wrappers for any trained network, whose draws are disturbed passes. What they have in common:

- A single call is one draw, and gradients reach the input through it.
- Of a stochastic network, MC dropout say, each draw has both kinds of noise; nothing is shared between draws then.
- Of an ensemble, a wrapper is the ensemble of its wrapped members: draw s disturbs member s mod M. Unwrapped it is
  the ensemble of the members as they are.
- Where a disturbance is, `stressbench.locations` says, and `bench show` prints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from stressbench import passes, randomness, registry
from stressbench.contracts import Classification, Dataset, Part, traits
from stressbench.errors import UserError
from stressbench.locations import locate
from stressbench.passes import Place
from stressbench.registry import ModelName
from stressbench.spec import Spec, parse
from stressbench_plugins.ensemble import Ensemble

DRAWS = 8  # the paper has 8 and 32 samples


class Wrapper(nn.Module):
    """A network and the name that it goes by."""

    stochastic = True

    def __init__(self, model: nn.Module, spec: str) -> None:
        super().__init__()
        self.model = model
        self._spec = spec

    @property
    def unwrapped(self) -> nn.Module:
        return self.model

    def parts(self) -> list[Part]:
        return [Part(self._spec, 0, self.model)]


class InferTransform(Wrapper):
    """Draw s is a pass of the network on the s-th of T transformed images; the network stays a black box.

    Where it returns maps, the transform is undone on them, so that their pixels are the untransformed image's.
    Of a stochastic network it is the network's draw s div T, on the image transformed by s mod T.
    """

    def __init__(self, model: nn.Module, spec: str, transforms: Sequence[Turn]) -> None:
        super().__init__(model, spec)
        self._transforms = tuple(transforms)
        self.default_draws = len(self._transforms)
        inner = traits(model).max_draws
        self.max_draws = None if inner is None else inner * len(self._transforms)

    def forward(self, images: Tensor) -> Tensor:
        turn, which = divmod(randomness.draw_index(), len(self._transforms))
        with randomness.redraw(turn, part=which):
            output: Tensor = self.model(self._transforms[which](images))
        return self._transforms[which].undone(output) if output.ndim == images.ndim else output


class Disturbed(Wrapper):
    """Passes of the network with noise on the tensor at one place; what is before the place runs once for all draws."""

    default_draws = DRAWS

    def __init__(self, model: nn.Module, spec: str, place: Place, noise: Callable[[Tensor], Tensor]) -> None:
        super().__init__(model, spec)
        self._place, self._noise = place, noise

    def forward(self, images: Tensor) -> Tensor:
        return passes.changed(self.model, images, self._place, self._noise)

    def draws(self, images: Tensor, n: int) -> Tensor:
        if not traits(self.model).stochastic:
            return passes.changed(self.model, images, self._place, self._noise, n)
        draws = []
        for index in range(n):
            with randomness.redraw(index):
                draws.append(self(images))
        return torch.stack(draws)


class Noise:
    """Adds Gaussian noise of standard deviation `sigma`, in the units of the tensor that it is added to."""

    def __init__(self, sigma: float) -> None:
        if not 0 <= sigma < math.inf:
            raise UserError(f"invalid sigma={sigma}: expected 0 or more, for example 0.05")
        self.sigma = sigma

    def __call__(self, x: Tensor) -> Tensor:
        return x + self.sigma * randomness.normal_like(x)


class Dropout:
    """Zeroes each element with probability `rate` and divides the rest by 1 − rate."""

    def __init__(self, rate: float) -> None:
        if not 0 <= rate < 1:
            raise UserError(f"invalid rate={rate}: expected a number from 0 to below 1, for example 0.1")
        self.rate = rate

    def __call__(self, x: Tensor) -> Tensor:
        return randomness.dropout(x, self.rate)


# --- transforms of images (N, 3, H, W) ------------------------------------------------------------------------


class Turn:
    """Rotates by a number of quarter turns, counter-clockwise, after mirroring left to right if `mirror`."""

    def __init__(self, quarters: int, mirror: bool = False) -> None:
        self.quarters, self.mirror = quarters, mirror

    def __call__(self, images: Tensor) -> Tensor:
        return torch.rot90(images.flip(-1) if self.mirror else images, self.quarters, (-2, -1))

    def undone(self, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W) of turned images, turned back."""
        turned = torch.rot90(maps, -self.quarters, (-2, -1))
        return turned.flip(-1) if self.mirror else turned


TRANSFORMS: dict[str, tuple[Turn, ...]] = {
    "flip": (Turn(0), Turn(0, mirror=True)),
    "rotate": tuple(Turn(quarters) for quarters in range(4)),
    "dihedral": tuple(Turn(quarters, mirror) for mirror in (False, True) for quarters in range(4)),
}


# --- the models -----------------------------------------------------------------------------------------------


def infer_transform(
    dataset: Dataset, argument: ModelName, transforms: Literal["flip", "rotate", "dihedral"] = "flip"
) -> nn.Module:
    """`flip`: the image and its mirror image, 2 passes; `rotate`: 4 quarter turns; `dihedral`: both, 8.

    For images with a meaningful up only the flip is tolerable. Raises `UserError` for turns of oblong images where
    these are classified: a network that returns maps takes images of any size.
    """
    height, width = dataset.image_size
    if transforms != "flip" and height != width and isinstance(dataset.task, Classification):
        raise UserError(f"transforms={transforms} turns images of {height}×{width} pixels on their side: use flip")
    chosen = TRANSFORMS[transforms]
    return wrap(
        dataset,
        Spec("infer-transform", argument, {"transforms": transforms}),
        lambda m, s: InferTransform(m, s, chosen),
    )


def infer_noise(dataset: Dataset, argument: ModelName, sigma: float = 0.05, location: str = "2") -> nn.Module:
    """Gaussian noise on the tensor at a location; sigma is absolute, and in the paper from 0.01 to 0.5."""
    return _disturb(
        dataset, Spec("infer-noise", argument, {"sigma": str(sigma), "location": location}), location, Noise(sigma)
    )


def infer_dropout(dataset: Dataset, argument: ModelName, rate: float = 0.1, location: str = "2") -> nn.Module:
    """Dropout of elements at a location, even of networks trained without any; rate in the paper 0.01 to 0.5."""
    return _disturb(
        dataset, Spec("infer-dropout", argument, {"rate": str(rate), "location": location}), location, Dropout(rate)
    )


def _disturb(dataset: Dataset, spec: Spec, location: str, noise: Callable[[Tensor], Tensor]) -> nn.Module:
    return wrap(dataset, spec, lambda m, s: Disturbed(m, s, locate(m, dataset.image_size, location), noise))


def wrap(dataset: Dataset, spec: Spec, wrapper: Callable[[nn.Module, str], Wrapper]) -> nn.Module:
    """The wrapped model that the spec's argument names, or the ensemble of its wrapped members."""
    assert spec.argument is not None, "the registry sees to it"
    inner = str(parse(spec.argument))
    model = registry.model(inner, dataset)
    if not isinstance(model, Ensemble):
        return wrapper(model, inner)

    def name(member: str) -> str:
        return str(Spec(spec.name, f"({member})" if "," in member else member, spec.options))

    return model.each(wrapper, name)
