"""A training step: the forward and backward pass of one batch, launched kernel by kernel or as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stressbench.errors import UserError, describe

Compute = Callable[[Tensor, Tensor], Tensor]  # a batch's images and targets → its loss

# Steps of a batch size before it is captured, in which cuDNN picks its kernels and lazy parts are set up.
_BEFORE_CAPTURE = 3


class Step:
    """Computes a batch's loss, and leaves its gradient in the parameters."""

    def __init__(self, compute: Compute, parameters: Sequence[nn.Parameter]) -> None:
        self._compute, self._parameters = compute, parameters

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        for parameter in self._parameters:
            parameter.grad = None
        loss = self._compute(images, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()


@dataclass(frozen=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    images: Tensor
    targets: Tensor
    loss: Tensor
    gradients: Sequence[Tensor | None]


class GraphedStep(Step):
    """The same from a CUDA graph for each batch size, so that the GPU does not wait for Python between kernels.

    A small network's kernels take less time than their launches. The same kernels run on the same numbers. Raises
    `UserError` for a network that cannot be captured, such as one that reads a value back from the GPU.
    """

    def __init__(self, compute: Compute, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__(compute, parameters)
        self._seen: dict[tuple[int, ...], int] = {}
        self._captured: dict[tuple[int, ...], _Captured] = {}
        self._aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        shape = (*images.shape, *targets.shape)
        self._seen[shape] = self._seen.get(shape, 0) + 1
        if self._seen[shape] <= _BEFORE_CAPTURE:
            # Off the default stream, whose work cannot be part of a capture.
            self._aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._aside):
                loss = super().__call__(images, targets)
            torch.cuda.current_stream().wait_stream(self._aside)
            return loss
        if shape not in self._captured:
            self._captured[shape] = self._capture(images, targets)
        captured = self._captured[shape]
        captured.images.copy_(images)
        captured.targets.copy_(targets)
        captured.graph.replay()
        for parameter, gradient in zip(self._parameters, captured.gradients, strict=True):
            parameter.grad = gradient
        return captured.loss.clone()

    def _capture(self, images: Tensor, targets: Tensor) -> _Captured:
        graph, images, targets = torch.cuda.CUDAGraph(), images.clone(), targets.clone()
        try:
            with torch.cuda.graph(graph, stream=self._aside):
                loss = super().__call__(images, targets)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise UserError(
                f"the training step cannot be captured in a CUDA graph ({describe(error)}): leave --cuda-graph out"
            ) from error
        return _Captured(graph, images, targets, loss, [parameter.grad for parameter in self._parameters])
