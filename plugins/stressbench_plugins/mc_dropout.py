"""MC dropout of a network as it was trained: its own dropout layers stay on (Gal and Ghahramani, 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from stressbench import randomness
from stressbench.contracts import Dataset
from stressbench.errors import UserError
from stressbench.registry import ModelName
from stressbench.spec import Spec
from stressbench_plugins.training_free import Wrapper, wrap
from stressbench_plugins.variants import DRAWS

# What each kind of layer drops: single elements, whole channels, or all of an image. By the class's name, because
# timm's DropPath has copies in many code bases.
_ELEMENTS, _CHANNELS, _IMAGE = "elements", "channels", "image"
KINDS = {
    "Dropout": _ELEMENTS,
    "Dropout1d": _CHANNELS,
    "Dropout2d": _CHANNELS,
    "Dropout3d": _CHANNELS,
    "DropPath": _IMAGE,
    "StochasticDepth": _IMAGE,
}
_UNSUPPORTED = ("AlphaDropout", "FeatureAlphaDropout", "DropBlock2d", "PatchDropout")


class MCDropoutOf(Wrapper):
    """Passes of a network in eval mode, except that its dropout layers drop, each image by its own random numbers.

    Layers are active during the wrapper's passes alone, so that `unwrapped` predicts without them. `rates` are the
    layers' dropout rates by their dotted names.
    """

    default_draws = DRAWS

    def __init__(self, model: nn.Module, spec: str, rates: Mapping[str, float]) -> None:
        super().__init__(model, spec)
        self._rates = dict(rates)

    def forward(self, images: Tensor) -> Tensor:
        with ExitStack() as stack:
            for name, rate in self._rates.items():

                def drop(layer: nn.Module, _: Any, output: Tensor, rate: float = rate) -> Tensor:
                    # A layer in training mode has dropped already.
                    return output if layer.training else _dropped(layer, output, rate, len(images))

                stack.callback(self.model.get_submodule(name).register_forward_hook(drop).remove)
            logits: Tensor = self.model(images)
        return logits


def _dropped(layer: nn.Module, x: Tensor, rate: float, images: int) -> Tensor:
    """What the layer makes in training mode of x (N·k, …), in which each of N images has k consecutive rows."""
    kind = KINDS[type(layer).__name__]
    shape = {_ELEMENTS: x.shape, _CHANNELS: x.shape[:2], _IMAGE: x.shape[:1]}[kind]
    # A network that cuts images into windows has several rows an image, which its key has numbers for.
    per_image = (images, -1) if len(x) % images == 0 else (len(x), -1)
    mask = randomness.dropout(x.new_ones(shape).view(per_image), rate).view(*shape, *[1] * (x.ndim - len(shape)))
    if not getattr(layer, "scale_by_keep", True):  # timm's DropPath may leave out the division by 1 − rate
        mask = mask * (1 - rate)
    return x * mask


def mc_dropout(dataset: Dataset, argument: ModelName, rate: float | None = None) -> nn.Module:
    """Keeps the dropout layers of a network on: torch's Dropout layers, timm's DropPath, torchvision's StochasticDepth.

    `rate` replaces the rates of all of these layers. Dropout that is not a layer (a call of a function, inside an
    attention) stays off. Raises `UserError` for a network without such layers, and for kinds of dropout that it does
    not know how to draw.
    """
    if rate is not None and not 0 <= rate < 1:
        raise UserError(f"invalid rate={rate}: expected a number from 0 to below 1, for example 0.1")
    options = {} if rate is None else {"rate": str(rate)}
    spec = Spec("mc-dropout", argument, options)
    return wrap(dataset, spec, lambda model, name: MCDropoutOf(model, name, _rates(model, name, rate)))


def _rates(model: nn.Module, name: str, rate: float | None) -> dict[str, float]:
    """The dropout rate of each layer that drops anything, by its name."""
    other = f"`infer-dropout:{name},rate=0.1` puts dropout into a network that has none"
    found: dict[str, float] = {}
    for place, layer in model.named_modules():
        kind = type(layer).__name__
        own = getattr(layer, "p", getattr(layer, "drop_prob", getattr(layer, "prob", None)))
        if kind in _UNSUPPORTED and (own or rate):
            raise UserError(f"mc-dropout cannot keep {kind} on, which {name} has as {place}: {other}")
        if kind in KINDS:
            found[place] = float(own or 0) if rate is None else rate
    if not found:
        raise UserError(f"{name} has no dropout layers that could stay on: {other}")
    if rate is None and not any(found.values()):
        raise UserError(f"the dropout layers of {name} all have rate 0: give a rate, say mc-dropout:{name},rate=0.1")
    if any(value >= 1 for value in found.values()):
        raise UserError(f"a dropout layer of {name} has rate 1 and would leave nothing: give a rate below 1")
    return {place: value for place, value in found.items() if value}
