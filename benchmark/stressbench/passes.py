"""What happens in a forward pass, module by module; and passes that change one place of it and share what is before.

Calls of modules are numbered in the order in which they begin; call 0 is the model's own. A `Place` is the input or
the output of one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from stressbench import randomness, registry
from stressbench.errors import UserError, plugin_errors

# In a pass that is watched: a tensor with another first dimension has no row for each image.
_IMAGES = 2
_LAYERS = (nn.modules.conv._ConvNd, nn.Linear)


@dataclass(frozen=True)
class Call:
    """One call of a module in a pass; shapes are of one image's tensor, None where it was not one batch of tensors."""

    number: int
    name: str  # the module's dotted name, "" for the model itself
    module: nn.Module
    depth: int  # calls that it was made inside of
    last: int  # the number of the last call that was made inside of it, its own where there was none
    layers: int  # convolutions and linear layers called up to its end
    given: tuple[int, ...] | None
    returned: tuple[int, ...] | None
    chained: bool  # it only calls modules one after the other, each on what the one before returned

    @property
    def is_layer(self) -> bool:
        return isinstance(self.module, _LAYERS)


@dataclass(frozen=True)
class Place:
    """A tensor in a forward pass: what a call was given, or what it returned."""

    call: Call
    side: Literal["input", "output"]

    @property
    def shape(self) -> tuple[int, ...] | None:
        return self.call.given if self.side == "input" else self.call.returned

    def __str__(self) -> str:
        return f"{self.side} of {self.call.name or 'the model'}"


_Around = Callable[[nn.Module, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


@contextmanager
def _wrapped(model: nn.Module, around: _Around) -> Iterator[None]:
    """Inside, calls of a model's modules go through `around`; afterwards the modules are as they were."""
    with ExitStack() as undo:
        for module in model.modules():
            attributes, before = vars(module), module._call_impl
            if "_call_impl" in attributes:
                undo.callback(attributes.__setitem__, "_call_impl", before)
            else:
                undo.callback(attributes.__delitem__, "_call_impl")

            def call(*args: Any, _m: nn.Module = module, _f: Any = before, **kwargs: Any) -> Any:
                return around(_m, _f, args, kwargs)

            # What `__call__` calls: the forward with its hooks, which may replace what it returns (dropout that is kept
            # on does), while a hook of ours could not skip a call.
            attributes["_call_impl"] = call
        yield


class _Chain:
    """Whether modules have been called one after the other, each on what the one before returned."""

    def __init__(self, given: object) -> None:
        self._reached, self._unbroken, self._length = _state(given), True, 0

    def add(self, given: tuple[object, int], returned: object) -> None:
        self._unbroken &= self._is_at(given)
        self._reached = _state(returned)
        self._length += 1

    def ends_with(self, value: object) -> bool:
        return self._unbroken and self._length > 0 and self._is_at(_state(value))

    def _is_at(self, state: tuple[object, int]) -> bool:
        return self._reached[0] is state[0] and self._reached[1] == state[1]


def _state(value: object) -> tuple[object, int]:
    """A tensor, and how often it has been changed in place: `x += y` keeps the tensor and breaks a chain."""
    return value, value._version if isinstance(value, Tensor) else 0


def calls(model: nn.Module, image_size: tuple[int, int]) -> list[Call]:
    """The calls of one pass, by number.

    Raises `UserError` for a model that cannot take images of this size.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(10))
    >>> [(call.name, call.returned) for call in calls(net, (8, 8))]
    [('', (10,)), ('0', (4, 6, 6)), ('1', (144,)), ('2', (10,))]
    """
    names = {module: name for name, module in model.named_modules()}
    found: dict[int, Call] = {}
    outside: list[_Chain] = []  # of the calls that this one is made inside of
    begun = layers = 0

    def around(module: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        nonlocal begun, layers
        number, begun = begun, begun + 1
        given = args[0] if args else None
        state = _state(given)
        outside.append(_Chain(given))
        returned = forward(*args, **kwargs)
        own = outside.pop()
        if outside:
            outside[-1].add(state, returned)
        layers += isinstance(module, _LAYERS)
        shapes = _shape(given), _shape(returned)
        found[number] = Call(
            number, names[module], module, len(outside), begun - 1, layers, *shapes, own.ends_with(returned)
        )
        return returned

    with _wrapped(model, around):
        one_pass(model, image_size, _IMAGES)
    return [found[number] for number in range(begun)]


def multiply_adds(model: nn.Module, image_size: tuple[int, int]) -> int:
    """Multiply–add operations of one image's pass, counted over convolutions and matrix products.

    Raises `UserError` for a model that cannot take images of this size.

    >>> multiply_adds(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10)), (8, 8)) == 3 * 8 * 8 * 10
    True
    """
    with FlopCounterMode(display=False) as counter:
        one_pass(model, image_size, 1)
    return int(counter.get_total_flops()) // 2


def one_pass(
    model: nn.Module, image_size: tuple[int, int], count: int, layout: torch.memory_format = torch.contiguous_format
) -> None:
    """A pass of grey images in eval mode, wherever the model's weights are, that leaves no trace.

    Raises `UserError` for a model that fails.
    """
    parameter = next(model.parameters(), torch.empty(0))
    images = torch.full((count, 3, *image_size), 0.5, device=parameter.device, dtype=parameter.dtype)
    images = images.contiguous(memory_format=layout)
    devices = [images.device] if images.is_cuda else []
    height, width = image_size
    fault = f"{registry.built_by(model) or 'the model'} fails on images of {height}×{width} pixels"
    advice = "use it on others, or fix its code"
    with evaluating(model), torch.random.fork_rng(devices), plugin_errors(fault, advice=advice):
        model(images)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in eval mode and builds no graph; afterwards each module has its mode again."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.no_grad():
            model.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def watched(model: nn.Module, places: Sequence[Place], see: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Inside, each pass of the model calls `see` with k and the tensor that the k-th of the places returns.

    Raises `UserError` for a pass that runs the modules in another order than the one in which the places were found.
    """
    wanted = {place.call.number: k for k, place in enumerate(places)}
    begun = 0

    def around(module: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        nonlocal begun
        number = 0 if module is model else begun
        begun = number + 1
        returned = forward(*args, **kwargs)
        if (k := wanted.get(number)) is not None:
            if module is not places[k].call.module:
                raise UserError(f"the {places[k]} was not reached: the model runs its modules in another order")
            see(k, returned)
        return returned

    with _wrapped(model, around):
        yield


def _shape(value: object) -> tuple[int, ...] | None:
    if isinstance(value, Tensor) and value.ndim > 1 and len(value) == _IMAGES and value.is_floating_point():
        return tuple(value.shape[1:])
    return None


def changed(
    model: nn.Module, images: Tensor, place: Place, change: Callable[[Tensor], Tensor], draws: int | None = None
) -> Tensor:
    """Logits (draws, N, C) of a model for images, with the tensor at one place changed again in each draw.

    Draw s is made inside `randomness.redraw(s)`. A call of a module that was over before the place was reached is made
    once, for the first draw, and the others get a copy of what it returned; what lies between such calls is computed
    again. What is before the place must not be random. Without a number of draws: one pass in whatever draw this is,
    (N, C).

    Raises `UserError` when a pass does not come to the place.
    """
    passes = _Changed(model, place, change, keep=draws is not None and draws > 1)
    with _wrapped(model, passes.around):
        if draws is None:
            return passes(images)
        outputs = []
        for index in range(draws):
            with randomness.redraw(index):
                outputs.append(passes(images))
    return torch.stack(outputs)


class _Changed:
    """The state of `changed`'s passes."""

    def __init__(self, model: nn.Module, place: Place, change: Callable[[Tensor], Tensor], keep: bool) -> None:
        self._model, self._place, self._change, self._keep = model, place, change, keep
        self._returned: dict[int, tuple[Any, int]] = {}  # by the call's number, with the number of the next call
        self._next = 0
        self._reached = False

    def __call__(self, images: Tensor) -> Tensor:
        self._next, self._reached = 0, False
        output: Tensor = self._model(images.clone())  # the next draw gets the same images, whatever this one does
        if not self._reached:
            raise UserError(f"the {self._place} was not reached: the model runs its modules in another order each time")
        return output

    def around(self, module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        number = self._next
        if number in self._returned:
            kept, self._next = self._returned[number]
            returned = _copy(kept)
        else:
            self._next += 1
            if self._is_place(number, module, "input"):
                args = (self._reach(args[0]), *args[1:])
            returned = forward(*args, **kwargs)
            if self._keep and not self._reached:
                for inner in range(number + 1, self._next):
                    self._returned.pop(inner, None)
                # A copy, since whatever gets it may change it in place.
                self._returned[number] = (_copy(returned), self._next)
        return self._reach(returned) if self._is_place(number, module, "output") else returned

    def _is_place(self, number: int, module: nn.Module, side: str) -> bool:
        call = self._place.call
        return number == call.number and module is call.module and side == self._place.side

    def _reach(self, value: Any) -> Any:
        self._reached = True
        return self._change(value)


def _copy(value: Any) -> Any:
    return tree_map(lambda part: part.clone() if isinstance(part, Tensor) else part, value)
