"""The attacks of torchattacks (Kim, 2020), each class under its own name: `torchattacks:CW,c=1`, `autoattack`.

torchattacks is an extra. Its attacks take random numbers from global generators, which are seeded for each batch and
restored; so, unlike all else here, what they find depends on the batch size.
"""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stressbench import metrics, randomness
from stressbench.contracts import Batch, traits
from stressbench.errors import UserError, did_you_mean
from stressbench.spec import Spec
from stressbench_suites.adversarial.attacks import Attacked, Norm, Victim
from stressbench_suites.adversarial.numbers import number
from stressbench_suites.adversarial.worst import SLACK

# What the suite gives an attack that takes it, and what the command line calls that.
_GIVEN = {"eps": "--eps", "norm": "--norm", "n_classes": "the dataset", "seed": "--seed"}
NORMS: dict[Norm, str] = {"linf": "Linf", "l2": "L2"}  # of the norms, in torchattacks

# Classes of a dataset below which an attack's loss has no meaning: the targeted DLR loss compares with the fourth
# largest logit and DLR with the third (Croce and Hein, 2020); torchattacks' JSMA aims at a class out of ten.
_FEWEST_CLASSES = {"APGDT": 4, "AutoAttack": 4, "JSMA": 10}
_DLR_CLASSES = 3


class External:
    """A class of torchattacks with its options."""

    def __init__(self, spec: Spec, norm: Norm) -> None:
        """`spec` is `torchattacks:CLASS` or `autoattack`, with options of the class's constructor.

        Raises `UserError` where torchattacks is not installed, for a class or an option that it does not have, for a
        class that needs more than a model, and for one that knows only another norm's budgets.
        """
        if (spec.name == "torchattacks") != (spec.argument is not None):
            raise UserError(f"'{spec}' names no attack: write torchattacks:CLASS, or autoattack")
        self._spec = spec
        self._class = _find(_torchattacks(), spec.argument or "AutoAttack")
        self._parameters = dict(list(inspect.signature(self._class).parameters.items())[1:])
        for name, parameter in self._parameters.items():
            if parameter.default is parameter.empty:
                raise UserError(f"{spec.name}:{spec.argument} needs '{name}', which a suite cannot give: name another")
        self.takes_eps = "eps" in self._parameters
        self.norm = norm if "norm" in self._parameters else _norm(self._class)
        if self.takes_eps and self.norm != norm:
            raise UserError(f"{spec} has budgets in {self.norm}: run it with --norm {self.norm}, apart from the others")
        self._norm = norm
        self._options = {name: self._typed(name, text) for name, text in spec.options.items()}

    def __call__(self, model: nn.Module, victim: Victim, batch: Batch, eps: float, eot_draws: int) -> Attacked:
        """The attacked images; `eps` is for classes that take one.

        A stochastic model is attacked as the mean probability of `eot_draws` draws, which are in memory together. An
        image that is misclassified as it is, and that the attack would turn right, stays as it is.
        Raises `UserError` for images outside of the budget, outside of [0, 1], or not finite.
        """
        seed = int(batch.keys[0]) & (2**31 - 1)
        given = {"eps": eps, "norm": NORMS[self._norm], "n_classes": class_count(model, batch), "seed": seed}
        options = {name: value for name, value in given.items() if name in self._parameters} | self._options
        # What these classes print would end up in the middle of a record on stdout.
        with redirect_stdout(io.StringIO()), without_parameter_gradients(model), seeded(seed):
            attack = self._class(MeanOfDraws(model, eot_draws).eval(), **options)
            attack.set_device(batch.images.device)
            found = attack(batch.images, batch.targets).detach()
            images = require_budget(self._spec, found, batch.images, eps if self.takes_eps else None, self._norm)
        clean, attacked = (victim.judge(x, batch.targets)[0] for x in (batch.images, images))
        images = torch.where((clean & ~attacked).view(-1, 1, 1, 1), batch.images, images)
        return Attacked(images, {"fooled": clean | attacked})

    @property
    def fewest_classes(self) -> int:
        """How many classes a dataset needs for this attack, with its options."""
        if self._options.get("version") == "rand" or self._options.get("loss") == "dlr":
            return _DLR_CLASSES
        return _FEWEST_CLASSES.get(self._class.__name__, 2)

    def _typed(self, name: str, text: str) -> object:
        if name in _GIVEN and name in self._parameters:
            raise UserError(f"'{name}' of {self._spec.name} comes from {_GIVEN[name]}: leave {name}={text} out")
        if name not in self._parameters:
            known = [known for known in self._parameters if known not in _GIVEN]
            raise UserError(
                f"torchattacks' {self._class.__name__} has no option '{name}': {did_you_mean(name, known)}"
                f"its options are: {', '.join(known) or 'none'}"
            )
        default = self._parameters[name].default
        if isinstance(default, str):
            return text
        if isinstance(default, bool):
            if text.lower() not in ("true", "false"):
                raise UserError(f"{name}={text} is neither true nor false: write one of them")
            return text.lower() == "true"
        if not isinstance(default, (int, float)):
            raise UserError(f"'{name}' of torchattacks' {self._class.__name__} is not a number or a word: leave it out")
        # An int as the default does not mean that a fraction is wrong: CW's `c` is 1.
        return int(text) if re.fullmatch(r"[+-]?\d+", text) else number(text, name)


def require_budget(spec: Spec, images: Tensor, clean: Tensor, eps: float | None, norm: Norm) -> Tensor:
    """Attacked images in [0, 1]; raises `UserError` for ones that are not finite, or outside of [0, 1] or of eps."""
    if not bool(images.isfinite().all()) or float((images - images.clamp(0, 1)).abs().max()) > SLACK:
        raise UserError(f"{spec} gave images that are not finite or not in [0, 1]: use another attack")
    images = images.clamp(0, 1)
    moved = (images - clean).flatten(1)
    longest = float(torch.linalg.vector_norm(moved, torch.inf if norm == "linf" else 2, dim=1).max())
    if eps is not None and longest > eps * (1 + SLACK) + 1e-6:
        raise UserError(f"{spec} left its budget, eps {eps:g}, by {longest - eps:g}: use another attack")
    return images


class MeanOfDraws(nn.Module):
    """A model for other code's attacks, which know no draws: log p̄ of so many, each call's its own."""

    def __init__(self, model: nn.Module, eot_draws: int) -> None:
        super().__init__()
        self._model = model
        own = traits(model)
        self._draws = own.draws(eot_draws) if own.stochastic else 0

    def forward(self, images: Tensor) -> Tensor:
        images = images.float()
        if not self._draws:
            logits: Tensor = self._model(images.clone()).float()
            return logits
        draws = []
        for index in range(self._draws):
            # Without keys, because attacks leave images out of the batch without a word: torch's generator goes on.
            with randomness.draw(None, index):
                draws.append(self._model(images.clone()).float().log_softmax(dim=1))
        return metrics.log_mean_probability(torch.stack(draws))


def _torchattacks() -> ModuleType:
    try:
        import torchattacks
    except ImportError as error:
        raise UserError(
            "torchattacks is not installed: pip install 'stressbench[attacks]', or use fgsm and pgd, which need nothing"
        ) from error
    library: ModuleType = torchattacks
    return library


def _find(library: ModuleType, name: str) -> Any:
    known = [known for known in library.__all__ if known not in library.__wrapper__]
    if name not in known:
        raise UserError(f"torchattacks has no attack '{name}': {did_you_mean(name, known)}it has {', '.join(known)}")
    return getattr(library, name)


def _norm(attack: type) -> str:
    """What a class's documentation says that it keeps small."""
    said = re.search(r"Distance Measure\s*:\s*(\w+)", attack.__doc__ or "")
    return said[1].lower() if said else "none"


def class_count(model: nn.Module, batch: Batch) -> int:
    """How many classes a model tells apart."""
    with torch.no_grad(), randomness.draw(batch.keys[:1], 0):
        return int(model(batch.images[:1]).shape[-1])


@contextmanager
def without_parameter_gradients(model: nn.Module) -> Iterator[None]:
    """Some attacks call `backward`, which would leave gradients in the model."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Both global generators; the caller restores torch's."""
    before = np.random.get_state()
    torch.manual_seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)
