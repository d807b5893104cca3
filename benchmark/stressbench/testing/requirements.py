"""What the harness requires of a model, in the order in which it is checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stressbench.testing import checks
from stressbench.testing.under_test import ModelUnderTest


@dataclass(frozen=True)
class Check:
    name: str
    requirement: str
    change: str  # what mends the usual fault
    run: Callable[[ModelUnderTest], None]  # raises `Fault`, `Note`, `Skip`, or whatever the model raises
    needs: tuple[str, ...] = ()  # checks without which this one says nothing
    numbers: bool = True  # False: shapes are enough, so that it works on the meta device


_SAME = ("state", "stochastic", "reproducible")  # where two equal passes differ, no other comparison says anything

CHECKS = (
    Check("module", "it is a torch.nn.Module", "return a torch.nn.Module", checks.module, numbers=False),
    Check(
        "declarations",
        "stochastic, default_draws, max_draws and untrained are what they may be",
        "set `stochastic = True`, or leave `default_draws` and `draws` out",
        checks.declarations,
        ("module",),
        numbers=False,
    ),
    Check(
        "output",
        "images (N, 3, H, W), float in [0, 1], give finite logits (N, C), or what the task says",
        "take float images in [0, 1] and the dataset's number of classes and size of images",
        checks.output,
        ("declarations",),
        numbers=False,
    ),
    Check(
        "parts",
        "its parts hold all of its weights",
        "put every weight into a part, or none: only parts get weights",
        checks.parts,
        ("output",),
        numbers=False,
    ),
    Check(
        "logits",
        "its outputs are logits, not probabilities",
        "leave the softmax out, or return the logarithms of the probabilities",
        checks.logits,
        ("output",),
    ),
    Check(
        "range",
        "black and white images give finite outputs too",
        "take all of [0, 1], 0 and 1 included",
        checks.range_,
        ("output",),
    ),
    Check(
        "one-image",
        "a batch of one image gives the outputs of one image",
        "keep the batch axis: name the axes for squeeze and mean, and take no statistics of the batch",
        checks.one_image,
        ("output",),
    ),
    Check(
        "input",
        "a pass leaves its input as it is",
        "make the first operation not one in place",
        checks.input_,
        ("output",),
    ),
    Check(
        "gradient",
        "gradients reach the images",
        "keep no_grad, detach, rounding, numpy and in-place changes of the input out of the pass",
        checks.gradient,
        ("output",),
    ),
    Check(
        "state",
        "a pass in eval mode changes no weight and no statistic",
        "let `.eval()` stop the updates: leave batch normalisation in eval mode",
        checks.state,
        ("output",),
    ),
    Check(
        "stochastic",
        "draws differ if it says so, and only then, and come again after `max_draws`",
        "say what it does",
        checks.stochastic,
        ("output", "state"),
    ),
    Check(
        "reproducible",
        "its random numbers follow the seed",
        "take them from stressbench.randomness or torch's generator, not from numpy or a generator of its own",
        checks.reproducible,
        ("stochastic",),
    ),
    Check(
        "draws",
        "`draws` are what passes are",
        "make draw s inside `stressbench.randomness.redraw(s)`, whatever the number of draws",
        checks.draws,
        _SAME,
    ),
    Check(
        "layout",
        "a result does not depend on the memory format",
        "use reshape or flatten where view wants contiguous memory",
        checks.layout,
        _SAME,
    ),
    Check(
        "batch",
        "a result does not depend on the batch",
        "compute nothing across the batch: leave batch normalisation in eval mode",
        checks.batch,
        ("one-image", *_SAME),
    ),
    Check(
        "eval-mode",
        "torch.nn.Module.eval(model), which other libraries call, changes nothing",
        "let no layer depend on `training`: dropout that stays is stressbench.randomness.dropout",
        checks.eval_mode,
        _SAME,
    ),
    Check(
        "state-dict",
        "its weights survive a safetensors file",
        "register all that was learnt or drawn as parameters and buffers",
        checks.state_dict,
        _SAME,
    ),
    Check(
        "gpu",
        "CPU and GPU agree",
        "make tensors on the images' device, and register the module's own as buffers",
        checks.gpu,
        _SAME,
    ),
)
