"""FGSM and PGD, in L∞ and L2: images inside a budget around the clean ones that a model gets wrong.

FGSM after Goodfellow, Shlens and Szegedy (2015), PGD after Madry et al. (2018); gradients of stochastic models are
averaged over draws, the expectation over transformation of Athalye et al. (2018). The loss is the cross-entropy of the
true label, in float64; the model and the images are float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from stressbench import metrics, randomness
from stressbench.contracts import traits
from stressbench_suites.gradients import cross_entropy_gradient

Norm = Literal["linf", "l2"]

# The defects that a `Slope` tells of, and the columns that say in which share of an image's gradients each was.
_DEFECTS = ("zero", "nonfinite", "probabilities", "saturated")
SHARES = tuple(f"{name}_share" for name in _DEFECTS)
# Of a probability 1 − x, x below half the distance between 1 and the float32 before it is rounded away.
_SATURATED = torch.finfo(torch.float32).eps / 4


@dataclass(frozen=True)
class Slope:
    """What a model says at some images: which way the loss rises, and what a defect of the gradient would show."""

    gradient: Tensor  # (N, 3, H, W), of the loss with respect to the images; what is not finite is 0
    fooled: Tensor  # (N,), bool: the prediction is wrong
    loss: Tensor  # (N,), −log p̄ of the label
    zero: Tensor  # (N,), bool: no element of the gradient differs from 0
    nonfinite: Tensor  # (N,), bool: some element was infinite or NaN
    probabilities: Tensor  # (N,), bool: the outputs lie in [0, 1] and have sum 1, as a softmax's do
    saturated: Tensor  # (N,), bool: in some draw the probability of the label is 1 in float32, and that loss 0


class Victim:
    """A model as an attack sees it, averaged over draws where it is stochastic.

    Every pass takes the next draws of the images with these keys (N,), so that no two gradients share their random
    numbers; of a model that has only so many draws they go round. The caller restores torch's generators.
    """

    def __init__(self, model: nn.Module, keys: Tensor, eot_draws: int) -> None:
        own = traits(model)
        self.stochastic, self._most, self._draws = own.stochastic, own.max_draws, own.draws(eot_draws)
        self._model, self._keys = model, keys
        self._made = 0

    def judge(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Whether each image fools the model, (N,) bool, and the loss, (N,)."""
        with torch.no_grad():
            return _verdict([logits.log_softmax(dim=1) for logits in self._passes(images)], labels)

    def slope(self, images: Tensor, labels: Tensor) -> Slope:
        """The mean over draws of the cross-entropy's gradient; one draw's graph is in memory at a time."""
        images = images.detach().requires_grad_()
        total = torch.zeros_like(images)
        nonfinite = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        probabilities, saturated = torch.ones_like(nonfinite), torch.zeros_like(nonfinite)
        draws = []
        for logits in self._passes(images):
            gradient = cross_entropy_gradient(logits, labels, images)
            if gradient is None:
                gradient = torch.zeros_like(images)  # which is for the audit to find
            finite = gradient.isfinite()
            nonfinite |= ~finite.flatten(1).all(dim=1)
            logits = logits.detach()
            probabilities &= _are_probabilities(logits)
            draws.append(logits.log_softmax(dim=1))
            saturated |= metrics.negative_log_likelihood(draws[-1], labels) < _SATURATED
            total += torch.where(finite, gradient, 0)
        fooled, loss = _verdict(draws, labels)
        zero = (total == 0).flatten(1).all(dim=1)
        return Slope(total / len(draws), fooled, loss, zero, nonfinite, probabilities, saturated)

    def _passes(self, images: Tensor) -> Iterator[Tensor]:
        """Logits (N, C), float64, of the next draws."""
        for _ in range(self._draws):
            # A copy for each draw, because a model may change its input in place.
            given = images.clone(memory_format=torch.channels_last)
            if not self.stochastic:
                yield self._model(given).double()
                continue
            index = self._made % self._most if self._most else self._made
            self._made += 1
            with randomness.draw(self._keys, index):
                yield self._model(given).double()


@dataclass(frozen=True)
class Attacked:
    """What an attack found, and what it saw on the way."""

    images: Tensor  # (N, 3, H, W), in [0, 1] and inside the budget
    columns: dict[str, Tensor]  # (N,) each: whether the image fools the model in the attack's own eyes (`fooled`), and
    # of its gradients the share with a defect, NaN where none was taken


def fgsm(
    victim: Victim, images: Tensor, labels: Tensor, eps: float, norm: Norm, verdicts_only: bool = False
) -> Attacked:
    """One step of length `eps` along the gradient's sign (L∞) or direction (L2), cut to [0, 1].

    An image that is misclassified as it is, and that the step would turn right, stays as it is.
    """
    return pgd(victim, images, labels, eps, norm, 1, eps, [images], verdicts_only)


def pgd(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    eps: float,
    norm: Norm,
    steps: int,
    step_size: float,
    starts: Iterable[Tensor],
    verdicts_only: bool = False,
) -> Attacked:
    """So many steps up the loss from each of the starts, (N, 3, H, W); after each the image is put back into the
    budget around the clean one, and into [0, 1].

    From each start an image keeps the last iterate that fools the model, and without one the last iterate; of several
    starts, one that fools, then the one with the highest loss. A clean image that is misclassified already fools, and
    is kept where nothing else does. With `verdicts_only` an image costs nothing more once it fools, which changes its
    loss and not whether it fools.
    """
    best = Found(images.clone(), victim.judge(images, labels)[0])
    seen = _Seen(len(images), images.device)
    for start in starts:
        rows = torch.nonzero(~best.fooled if verdicts_only else torch.ones_like(best.fooled)).flatten()
        if len(rows) == 0:
            break
        found, x = Found(start.clone(), torch.zeros_like(best.fooled)), start[rows]
        for _ in range(steps):
            slope = victim.slope(x, labels[rows])
            seen.add(rows, slope)
            found.keep(rows, x, slope.fooled, slope.loss, slope.fooled)
            gradient = slope.gradient
            if verdicts_only:
                rows, x, gradient = (part[~slope.fooled] for part in (rows, x, gradient))
                if len(rows) == 0:
                    break
            x = _project(x + step_size * _steepest(gradient, norm), images[rows], eps, norm)
        if len(rows):
            fooled, loss = victim.judge(x, labels[rows])
            found.keep(rows, x, fooled, loss, fooled | ~found.fooled[rows])
        best.merge(found)
    return Attacked(best.images, {"fooled": best.fooled, **seen.columns()})


def noise(keys: Tensor, images: Tensor, eps: float, norm: Norm, stream: int = 0) -> Tensor:
    """Images (N, 3, H, W) moved to a uniformly random place in the budget: the box (L∞) or the ball (L2)."""
    shape = tuple(images.shape[1:])
    if norm == "linf":
        moved = images + eps * (2 * randomness.uniform(keys, shape, stream) - 1)
    else:
        radius = randomness.uniform(keys, (1, 1, 1), stream + 1) ** (1 / math.prod(shape))
        moved = images + eps * radius * _steepest(randomness.normal(keys, shape, stream), norm)
    return moved.clamp(0, 1)


def corner(keys: Tensor, images: Tensor, eps: float, norm: Norm) -> Tensor:
    """Images (N, 3, H, W) moved as far as the budget lets them, in a random direction: what an attack without a
    gradient would do.
    """
    direction = _steepest(randomness.normal(keys, tuple(images.shape[1:])), norm)
    return (images + eps * direction).clamp(0, 1)


class Found:
    """For each image what serves the attacker best so far."""

    def __init__(self, images: Tensor, fooled: Tensor) -> None:
        self.images, self.fooled = images, fooled
        # Whatever an attack finds is preferred to the input that it was given, if that does not fool better.
        self.loss = torch.full(fooled.shape, -math.inf, dtype=torch.float64, device=fooled.device)

    def keep(self, rows: Tensor, images: Tensor, fooled: Tensor, loss: Tensor, which: Tensor) -> None:
        """Put in `which` (bool) of the images that stand for `rows`."""
        rows = rows[which]
        self.images[rows], self.fooled[rows], self.loss[rows] = images[which], fooled[which], loss[which]

    def merge(self, other: Found) -> None:
        """Take over what is better in another: it fools and this does not, else it has the higher loss."""
        which = (other.fooled & ~self.fooled) | ((other.fooled == self.fooled) & (other.loss > self.loss))
        every = torch.arange(len(which), device=which.device)
        self.keep(every, other.images, other.fooled, other.loss, which)


class _Seen:
    """Counts, for each image, its gradients and their defects."""

    def __init__(self, count: int, device: torch.device) -> None:
        self._gradients = torch.zeros(count, device=device)
        self._defects = {name: torch.zeros(count, device=device) for name in _DEFECTS}

    def add(self, rows: Tensor, slope: Slope) -> None:
        self._gradients[rows] += 1
        for name, count in self._defects.items():
            count[rows] += getattr(slope, name)

    def columns(self) -> dict[str, Tensor]:
        return {share: self._defects[name] / self._gradients for share, name in zip(SHARES, _DEFECTS, strict=True)}


def _verdict(draws: list[Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
    """Whether the mean probability of draws (N, C) is highest for a wrong class, and −log of the right one's."""
    log_p = metrics.log_mean_probability(torch.stack(draws))
    return log_p.argmax(dim=1) != labels, metrics.negative_log_likelihood(log_p, labels)


def _are_probabilities(outputs: Tensor) -> Tensor:
    inside = ((outputs >= 0) & (outputs <= 1)).all(dim=1)
    return inside & ((outputs.sum(dim=1) - 1).abs() < 1e-3)


def _steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """The step of length 1 that raises the loss most: the sign (L∞) or the direction (L2); zero stays zero."""
    if norm == "linf":
        return gradient.sign()
    # Scaled first, because the squares of a confident model's gradient are too small for float32.
    tiny = torch.finfo(gradient.dtype).tiny
    gradient = gradient / gradient.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=tiny)
    return gradient / _length(gradient).clamp(min=tiny)


def _project(x: Tensor, images: Tensor, eps: float, norm: Norm) -> Tensor:
    """The nearest place in the budget around the images, then cut to [0, 1]."""
    moved = x - images
    moved = moved.clamp(-eps, eps) if norm == "linf" else moved * (eps / _length(moved).clamp(min=eps))
    return (images + moved).clamp(0, 1)


def _length(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True)
    return length
