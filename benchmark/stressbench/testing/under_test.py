"""A model under test and its passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from stressbench import randomness
from stressbench.contracts import Dataset
from stressbench.traits import declared

IMAGES = 7
# Differences of outputs that rounding explains, as a part of the largest one.
ROUNDING = 1e-4


class Fault(Exception):
    """A failed check: what was observed, and what to change if that differs from the usual advice."""

    def __init__(self, seen: str, change: str | None = None) -> None:
        super().__init__(seen)
        self.seen, self.change = seen, change


class ModelUnderTest:
    """A model under test on some images.

    Passes are made as a run makes them: without gradients, in eval mode, and inside `randomness.draw` if the module
    says that it is stochastic.
    """

    random_images = False

    def __init__(self, module: Any, dataset: Dataset, images: Tensor, rounding: float = ROUNDING) -> None:
        """The module is in eval mode, on the device of the images (N, 3, H, W).

        `rounding` is how far two equal outputs may be apart, as a fraction of the largest one.
        """
        self.module, self.dataset, self.images, self.rounding = module, dataset, images, rounding
        self.task = dataset.task
        self.declared = declared(module)
        """As they are: whether they are what they may be is among the things that are checked."""
        self.stochastic = bool(self.declared["stochastic"])
        self.default_draws, self.max_draws = self.declared["default_draws"], self.declared["max_draws"]
        # Of two sets of the images: the second ones are what another seed gives the same images.
        self.keys = randomness.image_keys(randomness.derive("check"), torch.arange(2 * len(images)))

    def built(self, seed: int) -> Any:
        """A copy with other initial weights, if the model can be built again."""
        raise NotImplementedError

    @cached_property
    def outputs(self) -> Tensor:
        """Logits or values of all images, of draw 0."""
        return self.passed(self.images)

    @cached_property
    def uses_torch_generator(self) -> bool:
        """Whether a pass takes numbers from it; that `randomness.redraw` seeds it again is not counted."""
        taken = _Taken(self.images.device)
        with self.drawing(self.images), torch.no_grad(), taken:
            self.module(self.images.clone())
        return taken.any

    def passed(
        self, images: Tensor, rows: slice | None = None, draw: int = 0, module: nn.Module | None = None
    ) -> Tensor:
        """The outputs of one pass of images that go by the keys in these rows; raises `Fault` for what are none."""
        with self.drawing(images, rows, draw), torch.no_grad():
            given: object = (module or self.module)(images.clone())  # it may work in place
        return self.valid(given, self.shape(len(images)))

    @contextmanager
    def drawing(self, images: Tensor, rows: slice | None = None, draw: int = 0) -> Iterator[None]:
        """Inside it is this draw of images with the keys in these rows; torch's generator is put back afterwards."""
        rows = rows or slice(0, len(self.images))
        keyed = self.stochastic and not images.is_meta
        with (
            torch.random.fork_rng(devices=[images.device] if images.is_cuda else []),
            randomness.draw(self.keys[rows].to(images.device), draw) if keyed else nullcontext(),
        ):
            yield

    def shape(self, n: int) -> tuple[int, ...]:
        """Of the outputs for n images."""
        return self.task.shape(n, self.dataset.image_size)

    def valid(self, given: object, shape: tuple[int, ...]) -> Tensor:
        wanted = f"return {self.task.outputs} {shape}"
        if not isinstance(given, Tensor):
            raise Fault(f"it returned a {type(given).__name__}", f"{wanted}, a tensor and nothing else")
        if tuple(given.shape) != shape:
            raise Fault(f"it returned shape {tuple(given.shape)}", wanted)
        if not given.is_floating_point():
            raise Fault(f"it returned {given.dtype}", f"{wanted} of a floating-point type")
        rows = given.reshape(-1, *self.shape(1)[1:])
        if not given.is_meta and (wrong := int(self.task.unusable(rows).sum())):
            raise Fault(
                f"the {self.task.outputs} of {wrong} of {len(rows)} images are NaN or infinite",
                "look for a division by zero or a logarithm of zero, and at the weights",
            )
        return given


class Built(ModelUnderTest):
    """A model that is built from a fixed seed, and random images.

    `build` gets the dataset; it is called again for a second copy with other initial weights.
    """

    random_images = True

    def __init__(self, build: Callable[[Dataset], object], dataset: Dataset, meta: bool) -> None:
        self._build, self._meta, self.dataset = build, meta, dataset
        images = torch.rand(IMAGES, 3, *dataset.image_size, generator=torch.Generator().manual_seed(0))
        super().__init__(self.built(seed=0), dataset, images.to("meta") if meta else images)

    def built(self, seed: int) -> Any:
        with torch.random.fork_rng(devices=[]), torch.device("meta") if self._meta else nullcontext():
            torch.manual_seed(seed)
            module = self._build(self.dataset)
        return module.eval() if isinstance(module, nn.Module) else module


class _Taken(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not type it
    """Detects operations that advance torch's generator."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.any = False
        self._device = device

    def _states(self) -> list[Tensor]:
        on_gpu = [torch.cuda.get_rng_state(self._device)] if self._device.type == "cuda" else []
        return [torch.get_rng_state(), *on_gpu]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Attention is tagged too, and takes none where its dropout is 0.
        before = self._states() if torch.Tag.nondeterministic_seeded in func.tags else []
        result = func(*args, **(kwargs or {}))
        self.any |= bool(before) and not all(map(torch.equal, before, self._states()))
        return result
