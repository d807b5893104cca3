"""The gradient of a model's loss by its images, for stress that is made to do harm."""

from __future__ import annotations

import math

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
            gradient = cross_entropy_gradient(logits, labels, given)
            if gradient is None:
                raise UserError("the model gives no gradient by its images: leave out the stress that needs one")
            total += gradient
    return total / draws


def cross_entropy_gradient(logits: Tensor, labels: Tensor, images: Tensor) -> Tensor | None:
    """The gradient of each image's cross-entropy −log softmax(z)[y] by its pixels, (N, 3, H, W), from logits z (N, C).

    The loss is taken in float64 and as softplus(log Σ_{j≠y} exp z_j − z_y), which is the same number: in float32 the
    probability of a confident answer rounds to 1, in float64 from a lead of 37 nats on, and takes the gradient with it.
    It is summed, not averaged, over images, so that no image's gradient depends on the size of the batch. None where
    the logits do not depend on the images in a way that can be differentiated.
    """
    if not logits.requires_grad:
        return None
    z, y = logits.double(), labels.unsqueeze(1)
    rivals = z.scatter(1, y, -math.inf).logsumexp(dim=1)
    loss = F.softplus(rivals - z.gather(1, y).squeeze(1)).sum()
    (gradient,) = torch.autograd.grad(loss, images, allow_unused=True)
    return gradient
