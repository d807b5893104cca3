"""One function a check: it raises `Fault`, `Note` or `Skip`, or whatever the model raises, or passes."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stressbench import weights
from stressbench.contracts import Composite, Fitted, Sampler
from stressbench.errors import describe
from stressbench.sampling import sample
from stressbench.spec import parse
from stressbench.testing.under_test import Fault, ModelUnderTest

GPU_ROUNDING = 1e-3

_FEW = 2  # images where several draws are made
_DRAWS = 16  # most that are compared with each other, for a circle of eight


class Note(Fault):
    """The harness can work with it, and its user should know."""


class Skip(Exception):
    """The check does not apply, and why."""


def _apart(a: Tensor, b: Tensor) -> float:
    """The largest difference, as a part of the largest absolute value; −∞, a class that is ruled out, differs from all
    but itself by ∞."""
    ruled_out = a.isneginf()
    if not torch.equal(ruled_out, b.isneginf()):
        return math.inf
    a, b = a.masked_fill(ruled_out, 0), b.masked_fill(ruled_out, 0)
    return float((a - b).abs().max() / a.abs().max().clamp_min(torch.finfo(torch.float32).tiny))


def _require_same(it: ModelUnderTest, a: Tensor, b: Tensor, when: str, rounding: float | None = None) -> None:
    rounding = rounding or it.rounding
    if (apart := _apart(a, b)) > rounding:
        raise Fault(
            f"{it.task.outputs} differ by up to {apart:.2g} of the largest one {when} (rounding is below {rounding:g})"
        )


# --- what it is -----------------------------------------------------------------------------------------------


def module(it: ModelUnderTest) -> None:
    if not isinstance(it.module, nn.Module):
        raise Fault(f"it is a {type(it.module).__name__}")


def declarations(it: ModelUnderTest) -> None:
    for name in ("stochastic", "untrained"):
        value = it.declared[name]
        if not isinstance(value, bool):
            raise Fault(f"{name} is {value!r}", f"make {name} True or False")
    if type(it.default_draws) is not int or it.default_draws < 1:
        raise Fault(f"default_draws is {it.default_draws!r}", "make default_draws a number from 1")
    if it.max_draws is not None and (type(it.max_draws) is not int or it.max_draws < 1):
        raise Fault(f"max_draws is {it.max_draws!r}", "make max_draws a number from 1, or None for no end")
    if it.max_draws is not None and it.default_draws > it.max_draws:
        raise Fault(
            f"default_draws is {it.default_draws} and max_draws {it.max_draws}",
            "make default_draws no more than max_draws: a run refuses more",
        )
    if not it.stochastic and (it.default_draws > 1 or isinstance(it.module, Sampler)):
        what = "has a method `draws`" if isinstance(it.module, Sampler) else f"has default_draws {it.default_draws}"
        raise Fault(f"it {what} and does not say that it is stochastic, so a run makes one pass and no draws")


def parts(it: ModelUnderTest) -> None:
    whole: nn.Module = it.module
    if not isinstance(whole, Composite):
        raise Skip("it is not made of other models")
    inner = whole.parts()
    filled = [part.module for part in inner] + [module for module in whole.modules() if isinstance(module, Fitted)]
    inside = {id(tensor) for module in filled for tensor in module.state_dict(keep_vars=True).values()}
    beside = [name for name, tensor in whole.state_dict(keep_vars=True).items() if id(tensor) not in inside]
    if beside:
        raise Fault(f"{len(beside)} of its tensors are in no part, {beside[0]} first")
    named = [(str(parse(part.spec)), part.seed) for part in inner]
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise Fault(f"two parts go by {twice[0]}, seed {twice[1]}", "give each part a name or a seed of its own")


# --- one pass -------------------------------------------------------------------------------------------------


def output(it: ModelUnderTest) -> None:
    _ = it.outputs


def logits(it: ModelUnderTest) -> None:
    if it.task.outputs != "logits":
        raise Skip("it predicts values, not classes")
    outputs = it.outputs.double()
    for total, what in ((1, "probabilities"), (100, "percentages")):
        if bool((outputs >= 0).all() and ((outputs.sum(1) - total).abs() < 1e-3 * total).all()):
            raise Note(
                f"its outputs are not negative and add up to {total}, as {what} do, and the harness takes their "
                "softmax: NLL and calibration are not the model's"
            )


def one_image(it: ModelUnderTest) -> None:
    it.passed(it.images[:1], slice(0, 1))


def range_(it: ModelUnderTest) -> None:
    for name, level in (("black", 0.0), ("white", 1.0)):
        try:
            it.passed(torch.full_like(it.images[:_FEW], level), slice(0, _FEW))
        except Fault as fault:
            raise Fault(f"for {name} images {fault.seen}", fault.change) from fault


def input_(it: ModelUnderTest) -> None:
    given = it.images.clone()
    with it.drawing(given), torch.no_grad():
        it.module(given)
    if not torch.equal(given, it.images):
        raise Fault(f"a pass changed its input by up to {float((given - it.images).abs().max()):.2g}")


def gradient(it: ModelUnderTest) -> None:
    few = it.images[:_FEW]
    # Not a sum of log-probabilities, say, which the input may leave as it is.
    slopes = torch.rand(it.shape(_FEW), generator=torch.Generator().manual_seed(1))

    def check(name: str, run: Callable[[Tensor], Tensor]) -> None:
        given = few.clone().requires_grad_()
        with it.drawing(given, slice(0, _FEW)), torch.enable_grad():
            output = (run(given) * slopes).nan_to_num(neginf=0).sum()
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


def stochastic(it: ModelUnderTest) -> None:
    if not it.stochastic:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            again = it.passed(it.images)
        if (apart := _apart(it.outputs, again)) > it.rounding:
            raise Fault(
                f"it does not say that it is stochastic, and two passes differ by {apart:.2g} of the largest output",
                "set `stochastic = True` and `default_draws` on the module, or take the randomness out",
            )
        return
    if it.max_draws == 1:
        return
    # Twice round, so that one draw that comes again, of an ensemble's deterministic member say, is not taken for all.
    count = min(2 * max(it.max_draws or it.default_draws, 2), _DRAWS)
    few = it.images[:_FEW]
    draws = [it.passed(few, slice(0, len(few)), draw) for draw in range(count)]
    equal = [all(torch.equal(draw[image], draws[0][image]) for draw in draws[1:]) for image in range(len(few))]
    # A photograph may be flat where a random image is not, so that a layer has nothing to drop.
    if all(equal) or (any(equal) and it.random_images):
        raise Fault(
            f"it says that it is stochastic, and {count} draws of an image are the same",
            "leave `stochastic` out, or look why its random layers do nothing after `.eval()`",
        )
    period = next((p for p in range(1, count // 2 + 1) if all(map(torch.equal, draws, draws[p:]))), None)
    seen = f"its draws come again after {period}" if period else f"{count} of its draws do not come again"
    if it.max_draws is None and period:
        raise Fault(
            f"it sets no `max_draws`, and {seen}", f"set `max_draws = {period}`, so that a run asks for no more"
        )
    if it.max_draws is not None and period != it.max_draws and (period or 2 * it.max_draws <= count):
        raise Fault(f"its max_draws is {it.max_draws}, and {seen}", "say how many different draws there are")


def reproducible(it: ModelUnderTest) -> None:
    if it.stochastic:
        _require_same(it, it.outputs, it.passed(it.images), "between two passes of the same draw of the same images")
        few, count = it.images[:_FEW], len(it.images)
        keys, other_keys = slice(0, len(few)), slice(count, count + len(few))
        # Some draws may be a deterministic member's; most often the first one answers.
        if it.max_draws is None and all(
            torch.equal(it.passed(few, keys, draw), it.passed(few, other_keys, draw))
            for draw in range(min(it.default_draws, _DRAWS))
        ):
            raise Fault(
                "another seed gives the same draws",
                "take its random numbers from stressbench.randomness, or set `max_draws` where draws are members",
            )
    elif it.uses_torch_generator:
        raise Fault(
            "it is deterministic, and yet a pass takes numbers from torch's generator",
            "take the random layers out, or say `stochastic = True`",
        )


def _few_draws(it: ModelUnderTest) -> int:
    return min(3, it.max_draws or 3)


def draws(it: ModelUnderTest) -> None:
    module, few, rows = it.module, it.images[:_FEW], slice(0, _FEW)
    if not it.stochastic or not isinstance(module, Sampler):
        raise Skip("it has no `draws` of its own")
    n = _few_draws(it)
    with it.drawing(few, rows), torch.no_grad():
        ours = it.valid(module.draws(few, n), (n, *it.shape(_FEW)))
        first = it.valid(module.draws(few, n - 1), (n - 1, *it.shape(_FEW))) if n > 1 else ours
    for index in range(n):
        _require_same(it, it.passed(few, rows, index), ours[index], f"between draw {index} of `draws` and a pass of it")
    _require_same(it, ours[: len(first)], first, f"between the first of {n} draws and {len(first)} draws")


# --- what a result must not depend on -------------------------------------------------------------------------


def layout(it: ModelUnderTest) -> None:
    layouts = {
        "channels-last": it.images.contiguous(memory_format=torch.channels_last),
        "non-contiguous": it.images.transpose(2, 3).contiguous().transpose(2, 3),
    }
    for name, images in layouts.items():
        try:
            logits = it.passed(images)
        except RuntimeError as error:
            raise Note(
                f"it fails on {name} images ({describe(error)}), so that runs give it contiguous ones, which "
                "convolutions are slower in",
                "flatten with reshape or flatten in place of view",
            ) from error
        # torch's generator fills memory in its order, so that its noise differs with the format, and may.
        if not it.uses_torch_generator:
            _require_same(it, it.outputs, logits, f"between contiguous and {name} images")


def batch(it: ModelUnderTest) -> None:
    count = len(it.images)
    if count == 1:
        raise Skip("there is one image")
    others = torch.cat([it.images[:1], 1 - it.images[1:].flip(0)])
    _require_same(it, it.outputs[:1], it.passed(others)[:1], "when only the other images of the batch are changed")
    if it.uses_torch_generator:
        raise Note(
            "its random numbers are from torch's generator, which is seeded once a batch: they are reproducible, and "
            "another batch size gives others",
            "take them from stressbench.randomness (dropout, normal_like), whose numbers are each image's own",
        )
    for sizes in ([1] * count, [count // 2, count - count // 2]):
        ends = list(accumulate(sizes, initial=0))
        joined = torch.cat([it.passed(it.images[a:b], slice(a, b)) for a, b in pairwise(ends)])
        _require_same(it, it.outputs, joined, f"between a batch of {count} and batches of {sizes[0]} and {sizes[-1]}")


def eval_mode(it: ModelUnderTest) -> None:
    ways: dict[str, Callable[[], nn.Module]] = {
        "torch.nn.Module.eval(model)": lambda: nn.Module.eval(it.module),
        "model.train(False)": lambda: it.module.train(False),
        "model.train() and model.eval()": lambda: it.module.train().eval(),
    }
    try:
        for name, way in ways.items():
            way()
            _require_same(it, it.outputs, it.passed(it.images), f"between model.eval() and {name}")
    finally:
        it.module.eval()


def state(it: ModelUnderTest) -> None:
    kept = it.module.state_dict()  # its tensors are the module's own
    before = {name: value.clone() for name, value in kept.items() if isinstance(value, Tensor)}
    it.passed(it.images)
    changed = [name for name, tensor in before.items() if not torch.equal(tensor, kept[name])]
    if changed:
        for name in changed:
            kept[name].detach().copy_(before[name])
        raise Fault(f"a pass in eval mode changed {len(changed)} of {len(before)} tensors, {changed[0]} first")


def state_dict(it: ModelUnderTest) -> None:
    if not it.module.state_dict():
        raise Skip("it has no weights")
    other = it.built(seed=1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        weights.save(it.module, file, {})
        weights.load(other, file)
    _require_same(
        it, it.outputs, it.passed(it.images, module=other), "between the model and a new one with its weights"
    )


def gpu(it: ModelUnderTest) -> None:
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
    _require_same(it, it.outputs, theirs, "between CPU and GPU", GPU_ROUNDING)
