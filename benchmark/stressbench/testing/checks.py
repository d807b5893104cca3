"""One function a check: it raises `Fault`, `Note` or `Skip`, or whatever the model raises, or passes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stressbench import weights
from stressbench.contracts import Composite, Sampler
from stressbench.predict import sample
from stressbench.spec import parse
from stressbench.testing.subject import IMAGES, Fault, Subject

# Differences of logits that rounding explains, as a part of the largest logit.
ROUNDING = 1e-4
GPU_ROUNDING = 1e-3

_FEW = 2  # images where several draws are made
_DRAWS = 16  # most that are compared with each other, for a circle of eight


class Note(Fault):
    """The harness can work with it, and its user should know."""


class Skip(Exception):
    """The check does not apply, and why."""


def _apart(a: Tensor, b: Tensor) -> float:
    """The largest difference, as a part of the largest absolute value."""
    return float((a - b).abs().max() / a.abs().max().clamp_min(torch.finfo(torch.float32).tiny))


def _require_same(a: Tensor, b: Tensor, when: str, rounding: float = ROUNDING) -> None:
    if (apart := _apart(a, b)) > rounding:
        raise Fault(f"logits differ by up to {apart:.2g} of the largest one {when} (rounding is below {rounding:g})")


# --- what it is -----------------------------------------------------------------------------------------------


def module(it: Subject) -> None:
    if not isinstance(it.module, nn.Module):
        raise Fault(f"it is a {type(it.module).__name__}")


def declarations(it: Subject) -> None:
    for name in ("stochastic", "untrained"):
        value = getattr(it.module, name, False)
        if not isinstance(value, bool):
            raise Fault(f"{name} is {value!r}", f"make {name} True or False")
    if type(it.default_draws) is not int or it.default_draws < 1:
        raise Fault(f"default_draws is {it.default_draws!r}", "make default_draws a number from 1")
    if it.most_draws is not None and (type(it.most_draws) is not int or it.most_draws < 1):
        raise Fault(f"most_draws is {it.most_draws!r}", "make most_draws a number from 1, or None for no end")
    if it.most_draws is not None and it.default_draws > it.most_draws:
        raise Fault(
            f"default_draws is {it.default_draws} and most_draws {it.most_draws}",
            "make default_draws no more than most_draws: a run refuses more",
        )
    if not it.stochastic and (it.default_draws > 1 or isinstance(it.module, Sampler)):
        what = "has a method `draws`" if isinstance(it.module, Sampler) else f"has default_draws {it.default_draws}"
        raise Fault(f"it {what} and does not say that it is stochastic, so a run makes one pass and no draws")


def parts(it: Subject) -> None:
    whole: nn.Module = it.module
    if not isinstance(whole, Composite):
        raise Skip("it is not made of other models")
    inner = whole.parts()
    inside = {id(tensor) for part in inner for tensor in part.module.state_dict(keep_vars=True).values()}
    beside = [name for name, tensor in whole.state_dict(keep_vars=True).items() if id(tensor) not in inside]
    if beside:
        raise Fault(f"{len(beside)} of its tensors are in no part, {beside[0]} first")
    named = [(str(parse(part.spec)), part.seed) for part in inner]
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise Fault(f"two parts go by {twice[0]}, seed {twice[1]}", "give each part a name or a seed of its own")


# --- one pass -------------------------------------------------------------------------------------------------


def output(it: Subject) -> None:
    _ = it.logits


def one_image(it: Subject) -> None:
    it.passed(it.images[:1], slice(0, 1))


def range_(it: Subject) -> None:
    for name, level in (("black", 0.0), ("white", 1.0)):
        try:
            it.passed(torch.full_like(it.images[:_FEW], level), slice(0, _FEW))
        except Fault as fault:
            raise Fault(f"for {name} images {fault.seen}", fault.change) from fault


def input_(it: Subject) -> None:
    given = it.images.clone()
    with it.drawing(given), torch.inference_mode():
        it.module(given)
    if not torch.equal(given, it.images):
        raise Fault(f"a pass changed its input by up to {float((given - it.images).abs().max()):.2g}")


def gradient(it: Subject) -> None:
    few = it.images[:_FEW]
    # Not a sum of log-probabilities, say, which the input may leave as it is.
    slopes = torch.rand(_FEW, it.dataset.classes, generator=torch.Generator().manual_seed(1))

    def check(name: str, run: Callable[[Tensor], Tensor]) -> None:
        given = few.clone().requires_grad_()
        with it.drawing(given, slice(0, _FEW)), torch.enable_grad():
            output = (run(given) * slopes).sum()
        if not output.requires_grad:
            raise Fault(f"{name} has no gradient")
        (gradient,) = torch.autograd.grad(output, given, allow_unused=True)
        if gradient is None:
            raise Fault(f"the gradient of {name} does not reach the images")
        if not bool(gradient.isfinite().all()):
            raise Fault(f"the gradient of {name} at the images is NaN or infinite")
        if not bool(gradient.flatten(1).any(1).all()):
            raise Fault(f"the gradient of {name} at the images is zero everywhere")

    check("a pass", it.module)
    if it.stochastic and isinstance(it.module, Sampler):
        check("`draws`", lambda images: torch.stack(sample(it.module, images, _few_draws(it))))


# --- random numbers -------------------------------------------------------------------------------------------


def stochastic(it: Subject) -> None:
    if not it.stochastic:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            again = it.passed(it.images)
        if (apart := _apart(it.logits, again)) > ROUNDING:
            raise Fault(
                f"it does not say that it is stochastic, and two passes differ by {apart:.2g} of the largest logit",
                "set `stochastic = True` and `default_draws` on the module, or take the randomness out",
            )
        return
    if it.most_draws == 1:
        return
    # Twice round, so that one draw that comes again, of an ensemble's deterministic member say, is not taken for all.
    count = min(2 * max(it.most_draws or it.default_draws, 2), _DRAWS)
    draws = [it.passed(it.images[:_FEW], slice(0, _FEW), draw) for draw in range(count)]
    for image in range(_FEW):
        if all(torch.equal(draw[image], draws[0][image]) for draw in draws[1:]):
            raise Fault(
                f"it says that it is stochastic, and {count} draws of an image are the same",
                "leave `stochastic` out, or look why its random layers do nothing after `.eval()`",
            )
    period = next((p for p in range(1, count // 2 + 1) if all(map(torch.equal, draws, draws[p:]))), None)
    seen = f"its draws come again after {period}" if period else f"{count} of its draws do not come again"
    if it.most_draws is None and period:
        raise Fault(
            f"it sets no `most_draws`, and {seen}", f"set `most_draws = {period}`, so that a run asks for no more"
        )
    if it.most_draws is not None and period != it.most_draws and (period or 2 * it.most_draws <= count):
        raise Fault(f"its most_draws is {it.most_draws}, and {seen}", "say how many different draws there are")


def reproducible(it: Subject) -> None:
    if it.stochastic:
        _require_same(it.logits, it.passed(it.images), "between two passes of the same draw of the same images")
        few, keys, other_keys = it.images[:_FEW], slice(0, _FEW), slice(IMAGES, IMAGES + _FEW)
        # Some draws may be a deterministic member's; most often the first one answers.
        if it.most_draws is None and all(
            torch.equal(it.passed(few, keys, draw), it.passed(few, other_keys, draw))
            for draw in range(min(it.default_draws, _DRAWS))
        ):
            raise Fault(
                "another seed gives the same draws",
                "take its random numbers from stressbench.randomness, or set `most_draws` where draws are members",
            )
    elif it.uses_torch_generator:
        raise Fault(
            "it is deterministic, and yet a pass takes numbers from torch's generator",
            "take the random layers out, or say `stochastic = True`",
        )


def _few_draws(it: Subject) -> int:
    return min(3, it.most_draws or 3)


def draws(it: Subject) -> None:
    module, few, rows = it.module, it.images[:_FEW], slice(0, _FEW)
    if not it.stochastic or not isinstance(module, Sampler):
        raise Skip("it has no `draws` of its own")
    n = _few_draws(it)
    with it.drawing(few, rows), torch.inference_mode():
        ours = it.valid(module.draws(few, n), (n, _FEW, it.dataset.classes))
        first = it.valid(module.draws(few, n - 1), (n - 1, _FEW, it.dataset.classes)) if n > 1 else ours
    for index in range(n):
        _require_same(it.passed(few, rows, index), ours[index], f"between draw {index} of `draws` and a pass of it")
    _require_same(ours[: len(first)], first, f"between the first of {n} draws and {len(first)} draws")


# --- what a result must not depend on -------------------------------------------------------------------------


def layout(it: Subject) -> None:
    layouts = {
        "channels-last": it.images.contiguous(memory_format=torch.channels_last),
        "non-contiguous": it.images.transpose(2, 3).contiguous().transpose(2, 3),
    }
    for name, images in layouts.items():
        logits = it.passed(images)
        # torch's generator fills memory in its order, so that its noise differs with the format, and may.
        if not it.uses_torch_generator:
            _require_same(it.logits, logits, f"between contiguous and {name} images")


def batch(it: Subject) -> None:
    others = torch.cat([it.images[:1], 1 - it.images[1:].flip(0)])
    _require_same(it.logits[:1], it.passed(others)[:1], "when only the other images of the batch are changed")
    if it.uses_torch_generator:
        raise Note(
            "its random numbers are from torch's generator, which is seeded once a batch: they are reproducible, and "
            "another batch size gives others",
            "take them from stressbench.randomness (dropout, normal_like), whose numbers are each image's own",
        )
    for sizes in ([1] * IMAGES, [_FEW, IMAGES - _FEW]):
        ends = list(accumulate(sizes, initial=0))
        joined = torch.cat([it.passed(it.images[a:b], slice(a, b)) for a, b in pairwise(ends)])
        _require_same(it.logits, joined, f"between a batch of {IMAGES} and batches of {sizes[0]} and {sizes[-1]}")


def eval_mode(it: Subject) -> None:
    ways: dict[str, Callable[[], nn.Module]] = {
        "torch.nn.Module.eval(model)": lambda: nn.Module.eval(it.module),
        "model.train(False)": lambda: it.module.train(False),
        "model.train() and model.eval()": lambda: it.module.train().eval(),
    }
    try:
        for name, way in ways.items():
            way()
            _require_same(it.logits, it.passed(it.images), f"between model.eval() and {name}")
    finally:
        it.module.eval()


def state(it: Subject) -> None:
    kept = it.module.state_dict()  # its tensors are the module's own
    before = {name: value.clone() for name, value in kept.items() if isinstance(value, Tensor)}
    it.passed(it.images)
    changed = [name for name, tensor in before.items() if not torch.equal(tensor, kept[name])]
    if changed:
        raise Fault(f"a pass in eval mode changed {len(changed)} of {len(before)} tensors, {changed[0]} first")


def state_dict(it: Subject) -> None:
    if not it.module.state_dict():
        raise Skip("it has no weights")
    other = it.built(seed=1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        weights.save(it.module, file, {})
        weights.load(other, file)
    _require_same(it.logits, it.passed(it.images, module=other), "between the model and a new one with its weights")


def gpu(it: Subject) -> None:
    if not torch.cuda.is_available():
        raise Skip("there is no GPU here")
    if it.uses_torch_generator:
        raise Skip("its random numbers are from torch's generator, which differs between CPU and GPU")
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee"  # as in a run
    try:
        it.module.to("cuda")
        theirs = it.passed(it.images.to("cuda")).cpu()
    finally:
        it.module.to("cpu")
        convolutions.fp32_precision = before
    _require_same(it.logits, theirs, "between CPU and GPU", GPU_ROUNDING)
