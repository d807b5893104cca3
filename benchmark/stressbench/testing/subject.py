"""A model that is tried out, and passes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from stressbench import randomness
from stressbench.contracts import Dataset, Finite

IMAGES = 7


class Fault(Exception):
    """What a check saw, and what to change where it is not what the check usually says."""

    def __init__(self, seen: str, change: str | None = None) -> None:
        super().__init__(seen)
        self.seen, self.change = seen, change


class Subject:
    """A model that is tried out: built from a fixed seed, in eval mode, with random images.

    `build` gets the dataset; it is called again for a second copy with other initial weights. Passes are made as a run
    makes them: in inference mode, in eval mode, and inside `randomness.draw` if the module says that it is stochastic.
    """

    def __init__(self, build: Callable[[Dataset], object], dataset: Dataset, meta: bool) -> None:
        self._build, self._meta = build, meta
        self.dataset = dataset
        self.module: Any = self.built(seed=0)
        self.stochastic = bool(getattr(self.module, "stochastic", False))
        self.default_draws: Any = getattr(self.module, "default_draws", 1)
        self.most_draws: Any = self.module.most_draws if isinstance(self.module, Finite) else None
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(IMAGES, 3, *dataset.image_size, generator=generator)
        self.keys = randomness.image_keys(randomness.derive("check"), torch.arange(2 * IMAGES))
        if meta:
            self.images = self.images.to("meta")

    def built(self, seed: int) -> Any:
        with torch.random.fork_rng(devices=[]), torch.device("meta") if self._meta else nullcontext():
            torch.manual_seed(seed)
            module = self._build(self.dataset)
        return module.eval() if isinstance(module, nn.Module) else module

    @cached_property
    def logits(self) -> Tensor:
        """Of all images, of draw 0."""
        return self.passed(self.images)

    @cached_property
    def uses_torch_generator(self) -> bool:
        """Whether a pass takes numbers from it; that `randomness.redraw` seeds it again is not counted."""
        taken = _Taken()
        with self.drawing(self.images), torch.inference_mode(), taken:
            self.module(self.images.clone())
        return taken.any

    def passed(
        self, images: Tensor, rows: slice = slice(0, IMAGES), draw: int = 0, module: nn.Module | None = None
    ) -> Tensor:
        """Logits of one pass of images that go by the keys in these rows; raises `Fault` for what are none."""
        with self.drawing(images, rows, draw), torch.inference_mode():
            given: object = (module or self.module)(images.clone())  # it may work in place
        return self.valid(given, (len(images), self.dataset.classes))

    @contextmanager
    def drawing(self, images: Tensor, rows: slice = slice(0, IMAGES), draw: int = 0) -> Iterator[None]:
        """Inside it is this draw of images with the keys in these rows; torch's generator is put back afterwards.

        There are keys for two sets of images: the second ones are what another seed gives the same images.
        """
        keyed = self.stochastic and not self._meta
        with (
            torch.random.fork_rng(devices=[images.device] if images.is_cuda else []),
            randomness.draw(self.keys[rows].to(images.device), draw) if keyed else nullcontext(),
        ):
            yield

    def valid(self, given: object, shape: tuple[int, ...]) -> Tensor:
        wanted = f"return logits {shape}"
        if not isinstance(given, Tensor):
            raise Fault(f"it returned a {type(given).__name__}", f"{wanted}, a tensor and nothing else")
        if tuple(given.shape) != shape:
            raise Fault(f"it returned shape {tuple(given.shape)}", wanted)
        if not given.is_floating_point():
            raise Fault(f"it returned {given.dtype}", f"{wanted} of a floating-point type, not classes")
        if not self._meta and not bool(given.isfinite().all()):
            wrong = int((~given.isfinite()).flatten(0, -2).any(-1).sum())
            raise Fault(
                f"{wrong} of {given.numel() // shape[-1]} rows of logits are NaN or infinite",
                "look for a division by zero or a logarithm of zero, and at the weights",
            )
        return given


class _Taken(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not type it
    """Watches for operations that move torch's generator on."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.any = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Attention is tagged too, and takes none where its dropout is 0.
        before = torch.get_rng_state() if torch.Tag.nondeterministic_seeded in func.tags else None
        result = func(*args, **(kwargs or {}))
        self.any |= before is not None and not torch.equal(before, torch.get_rng_state())
        return result
