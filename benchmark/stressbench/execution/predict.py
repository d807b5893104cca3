"""A model and a batch of stressed images → the predictions of S draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from stressbench import randomness, registry
from stressbench.contracts import Task, Wrapper, traits
from stressbench.errors import UserError, plugin_errors
from stressbench.execution.device import prepared
from stressbench.record import Precision
from stressbench.registry import Entry
from stressbench.sampling import pass_errors, sample

Read = Callable[[object, Tensor], Tensor]  # a model's output for some images → what is kept of it


_FITTING: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""How many images at once a module has memory for, once it has run out of it."""


@dataclass
class _Chunk:
    """How many images go through a module at once: doubled while they fit, and halved for good when they do not."""

    size: int
    most: int

    def fitted(self, size: int) -> None:
        if size == self.size:
            self.size = min(2 * size, self.most)

    def too_large(self, size: int) -> None:
        self.size = self.most = (size + 1) // 2


class Predictor:
    """Runs one model with a fixed number of draws.

    The batch is worked on in chunks: neither their size nor its changes alter a number beyond rounding, because draws
    depend on the images' keys.
    """

    def __init__(
        self,
        module: nn.Module,
        entry: Entry,
        task: Task,
        sizes: Sequence[int],
        stochastic: bool,
        precision: Precision,
        chunk: int,
        most: int | None = None,
        compiled: bool = False,
    ) -> None:
        """`chunk` images are in the first forward pass, and up to `most` in later ones, as far as memory goes.

        Passes of `chunk` images are `compiled`, unless the module has other hooks by then, which a compiled one would
        not call.
        """
        self.module = prepared(module)  # here, and not at the first pass, because an attack takes gradients before it
        self.sizes = sizes  # the numbers of draws that tables are wanted of, ascending
        self._entry = entry
        self.name = registry.built_by(module) or str(entry)
        self._task = task
        self._stochastic = stochastic
        self.precision: Precision = precision
        largest = chunk if most is None else most
        largest = min(largest, _FITTING.get(module, largest))
        self._chunk = _Chunk(min(chunk, largest), largest)
        self._compiled_for = chunk if compiled else None
        self._hooks = _hooks(module)

    def of(self, module: nn.Module, sizes: Sequence[int] | None = None) -> Predictor:
        """The same of another module: one that stands for this one, or one with so many draws of its own."""
        stochastic = self._stochastic if sizes is None else traits(module).stochastic
        sizes = self.sizes if sizes is None else sizes
        made = Predictor(module, self._entry, self._task, sizes, stochastic, self.precision, self._chunk.size)
        made._chunk = self._chunk
        return made

    @cached_property
    def unwrapped(self) -> Predictor | None:
        """The same for the model that a wrapper disturbs, with that model's default number of draws; else None."""
        if not isinstance(self.module, Wrapper):
            return None
        inner = self.module.unwrapped
        return self.of(inner, [traits(inner).draws()])

    def predict(self, images: Tensor, keys: Tensor) -> Tensor:
        """Predictions (S, N[, T], …) as the task has them, of images (N[, T], 3, H, W) in [0, 1] with keys (N,).

        Raises `UserError` that names the plugin if the model raises or if the task refuses its output.
        """
        return self._predict(images, keys, self._checked)

    def outputs(self, images: Tensor, keys: Tensor) -> Tensor:
        """As `predict`, but what the model returns, as it is, in float32."""

        def checked(raw: object, images: Tensor) -> Tensor:
            self._checked(raw, images)
            assert isinstance(raw, Tensor), "checked"
            return raw.float()

        return self._predict(images, keys, checked)

    def _predict(self, images: Tensor, keys: Tensor, read: Read) -> Tensor:
        lead = images.shape[:-3]
        if images.ndim == 5:
            keys = randomness.split(keys, images.shape[1])
        flat, keys = images.flatten(0, -4), keys.flatten()
        parts: list[Tensor] = []
        done = 0
        while done < len(flat):
            size = min(self._chunk.size, len(flat) - done)
            try:
                parts.append(self._chunk_predictions(flat[done : done + size], keys[done : done + size], read))
            except torch.OutOfMemoryError as error:
                if size == 1:
                    raise UserError(f"out of memory: the device cannot hold one image of {self.name}") from error
                self._chunk.too_large(size)
                _FITTING[self.module] = self._chunk.size
                torch.cuda.empty_cache()
            else:
                done += size
                self._chunk.fitted(size)
        joined = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        return joined.view(len(joined), *lead, *joined.shape[2:])

    @cached_property
    def _compiled(self) -> Callable[[Tensor], object]:
        return torch.compile(self.module, dynamic=False)

    def _output(self, images: Tensor) -> object:
        """What a deterministic module returns."""
        if len(images) != self._compiled_for or _hooks(self.module) != self._hooks:
            with pass_errors(self.name, images):
                return self.module(images)
        fault = f"{self.name} cannot be compiled"
        with plugin_errors(fault, advice="leave --compile out", passing=(torch.OutOfMemoryError,)):
            return self._compiled(images)

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """Inside, the module computes in the run's precision."""
        low = self.precision == "bfloat16"
        return torch.autocast(device.type, torch.bfloat16) if low else nullcontext()

    def _chunk_predictions(self, images: Tensor, keys: Tensor, read: Read) -> Tensor:
        # A copy in any layout: a module that changes its input in place must not change the suite's images.
        images = images.clone(memory_format=torch.channels_last)
        devices = [images.device] if images.device.type == "cuda" else []
        # Not inference mode: what a model caches in it cannot be part of a later pass that takes gradients.
        with torch.no_grad(), torch.random.fork_rng(devices, enabled=self._stochastic), self.autocast(images.device):
            return self._draws(images, keys, read)

    def _draws(self, images: Tensor, keys: Tensor, read: Read) -> Tensor:
        if not self._stochastic:
            return read(self._output(images), images).unsqueeze(0)
        with randomness.draw(keys, 0), pass_errors(self.name, images):
            draws = sample(self.module, images, self.sizes[-1])
        if len(draws) != self.sizes[-1]:
            raise UserError(f"{self.name} gave {len(draws)} draws; it was asked for {self.sizes[-1]}")
        return torch.stack([read(logits, images) for logits in draws])

    def _checked(self, raw: object, images: Tensor) -> Tensor:
        try:
            return self._task.predictions(raw, images)
        except UserError as error:
            raise UserError(f"{self.name} {error}") from error


def _hooks(module: nn.Module) -> list[int]:
    """What listens to, or changes, what goes through the module and those inside it."""
    return [key for part in module.modules() for key in (*part._forward_pre_hooks, *part._forward_hooks)]
