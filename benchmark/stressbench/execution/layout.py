"""The memory order of a network's images and weights: channels last, which convolutions are faster in, where it works.

The order is the harness's own choice: a network that flattens its maps with `view`, say, fails in it and has done
nothing wrong, so it gets contiguous tensors, with the same numbers.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from stressbench.errors import UserError
from stressbench.passes import one_pass

_TRIED = 2  # images
_arranged: WeakSet[nn.Module] = WeakSet()


def arrange(network: nn.Module, image_size: tuple[int, int]) -> None:
    """Put a network's weights, and from now on the images of each of its passes, in the order that suits it.

    Channels last if a pass of grey images works so, else contiguous. The pass is made in eval mode and leaves no trace.
    """
    if network in _arranged:
        return
    chosen = torch.channels_last if _works(network, image_size, torch.channels_last) else torch.contiguous_format
    network.to(memory_format=chosen)
    network.register_forward_pre_hook(partial(_given, chosen))
    _arranged.add(network)


def _works(network: nn.Module, image_size: tuple[int, int], layout: torch.memory_format) -> bool:
    try:
        network.to(memory_format=layout)
        one_pass(network, image_size, _TRIED, layout)
    except (UserError, RuntimeError):  # what fails in any order is reported where it matters
        return False
    return True


def _given(layout: torch.memory_format, network: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        value.contiguous(memory_format=layout) if isinstance(value, Tensor) and value.ndim == 4 else value
        for value in args
    )
