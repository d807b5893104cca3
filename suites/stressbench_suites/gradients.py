"""The gradient of a model's loss by its images, for stress that is made to do harm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stressbench import randomness
from stressbench.errors import UserError


def loss_gradient(model: nn.Module, images: Tensor, labels: Tensor, keys: Tensor, draws: int) -> Tensor:
    """The gradient of each image's cross-entropy loss by its pixels, averaged over draws: (N, 3, H, W) to the same.

    Expectation over transformation (Athalye et al., 2018). Draw s of an image follows from its key and s alone, so keys
    (N,) that the judge does not use make draws that are independent of the judge's. Weights keep no gradient.

    Raises `UserError` for a model that gradients do not pass.
    """
    devices = [images.device] if images.device.type == "cuda" else []
    total = torch.zeros_like(images)
    with torch.enable_grad(), torch.random.fork_rng(devices):
        for index in range(draws):
            given = images.detach().clone().requires_grad_()
            with randomness.draw(keys, index):
                logits = model(given)
            if not logits.requires_grad:
                raise UserError("the model gives no gradient by its images: leave out the stress that needs one")
            # In float32 the softmax of a confident answer is exactly 1, and its share of the gradient is lost.
            loss = F.cross_entropy(logits.double(), labels, reduction="sum")
            total += torch.autograd.grad(loss, given)[0]
    return total / draws
