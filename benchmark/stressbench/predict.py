"""A model and a batch of stressed images → the log-probabilities of S draws."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from stressbench import randomness, registry
from stressbench.contracts import Sampler
from stressbench.errors import UserError
from stressbench.registry import Entry

Precision = Literal["float32", "bfloat16"]


def sample(module: nn.Module, images: Tensor, n: int) -> list[Tensor]:
    """Logits (N, C) of each of n draws for images (N, 3, H, W): the module's own `draws`, else n passes.

    Raises `UserError` where a module that the registry built raises: the one of several that does is named.
    """
    name = registry.origin(module)
    with _blamed(name, images) if name else nullcontext():
        if isinstance(module, Sampler):
            return list(module.draws(images, n))
        draws = []
        for index in range(n):
            with randomness.redraw(index):
                draws.append(module(images))
        return draws


def _blamed(name: str, images: Tensor) -> AbstractContextManager[None]:
    return registry.blamed(f"{name} failed on {len(images)} images", passing=(torch.OutOfMemoryError,))


def forbid_tf32() -> None:
    """What says float32 must mean it: by default cuDNN rounds a convolution's inputs to TF32."""
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]


def prepared(module: nn.Module) -> nn.Module:
    """The module as runs predict with it and attack it: in eval mode, in the faster layout for convolutions."""
    forbid_tf32()
    return module.eval().to(memory_format=torch.channels_last)


class Predictor:
    """Runs one model with a fixed number of draws.

    The batch is worked on in chunks, which are halved for good whenever the device runs out of memory: neither
    changes a number beyond rounding, because draws depend on the images' keys.
    """

    def __init__(
        self,
        module: nn.Module,
        entry: Entry,
        classes: int,
        draws: int,
        stochastic: bool,
        precision: Precision,
        chunk: int,
    ) -> None:
        self.module = prepared(module)  # here, and not at the first pass, because an attack takes gradients before it
        self.draws = draws
        self._name = registry.origin(module) or str(entry)
        self._classes = classes
        self._stochastic = stochastic
        self._precision = precision
        self._chunk = chunk  # images in one forward pass

    def __call__(self, images: Tensor, keys: Tensor) -> Tensor:
        """Log-probabilities (S, N[, T], C), float32, of images (N[, T], 3, H, W) in [0, 1] with keys (N,).

        Raises `UserError` that names the plugin, if the model raises or if its logits have the wrong shape or are
        not finite.
        """
        lead = images.shape[:-3]
        if images.ndim == 5:
            keys = randomness.split(keys, images.shape[1])
        flat, keys = images.flatten(0, -4), keys.flatten()
        parts: list[Tensor] = []
        done = 0
        while done < len(flat):
            size = min(self._chunk, len(flat) - done)
            try:
                parts.append(self._chunk_log_probs(flat[done : done + size], keys[done : done + size]))
            except torch.OutOfMemoryError as error:
                if size == 1:
                    raise UserError(f"the device has too little memory for one image of {self._name}") from error
                self._chunk = (size + 1) // 2
                torch.cuda.empty_cache()
            else:
                done += size
        joined = torch.cat(parts, dim=1)
        return joined.view(len(joined), *lead, self._classes)

    def _chunk_log_probs(self, images: Tensor, keys: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        autocast = (
            torch.autocast(images.device.type, torch.bfloat16) if self._precision == "bfloat16" else nullcontext()
        )
        devices = [images.device] if images.device.type == "cuda" else []
        with torch.inference_mode(), torch.random.fork_rng(devices, enabled=self._stochastic), autocast:
            logits = self._logits(images, keys)
        return logits.float().log_softmax(dim=-1)

    def _logits(self, images: Tensor, keys: Tensor) -> Tensor:
        if not self._stochastic:
            with _blamed(self._name, images):
                logits = self.module(images)
            return self._checked(logits, images).unsqueeze(0)
        with randomness.draw(keys, 0), _blamed(self._name, images):
            draws = sample(self.module, images, self.draws)
        if len(draws) != self.draws:
            raise UserError(f"{self._name} gave {len(draws)} draws; it was asked for {self.draws}")
        return torch.stack([self._checked(logits, images) for logits in draws])

    def _checked(self, logits: object, images: Tensor) -> Tensor:
        expected = (len(images), self._classes)
        if not isinstance(logits, Tensor):
            raise UserError(f"{self._name} returned a {type(logits).__name__}; it must return logits {expected}")
        if tuple(logits.shape) != expected:
            raise UserError(
                f"{self._name} returned shape {tuple(logits.shape)} for {len(images)} images of {self._classes} "
                f"classes; it must return logits {expected}"
            )
        if not bool(logits.isfinite().all()):
            wrong = int((~logits.isfinite()).any(dim=1).sum())
            raise UserError(
                f"{self._name} returned NaN or infinite logits for {wrong} of {len(images)} images; check its "
                "weights and its normalisation"
            )
        return logits
