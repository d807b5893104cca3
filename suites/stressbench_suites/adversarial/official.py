"""AutoAttack by its authors' code (Croce and Hein, 2020), as the package pyautoattack distributes it.

`pyautoattack` is the standard version; `pyautoattack,version=plus` or `rand`; `pyautoattack,attacks=apgd-ce+square`
names single ones, and `apgd-ce` alone is short for `pyautoattack,attacks=apgd-ce`. The package is an extra. Its attacks
are seeded for each batch, so what they find depends on the batch size; the images that they are given are those that
are still right, so a harder attack follows an easier one.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stressbench.contracts import Batch
from stressbench.errors import UserError, did_you_mean
from stressbench.spec import Spec, split
from stressbench_suites.adversarial.attacks import Attacked, Norm, Victim
from stressbench_suites.adversarial.external import (
    NORMS,
    MeanOfDraws,
    class_count,
    require_budget,
    seeded,
    without_parameter_gradients,
)

VERSIONS = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
# Classes below which a loss has no meaning: the targeted DLR loss compares with the fourth largest logit, DLR with the
# third.
_FEWEST = {"apgd-t": 4, "apgd-dlr": 3}
SINGLE = VERSIONS["plus"]
"""All of its attacks, each of which can be named alone."""
_TARGETS = 9  # of targeted attacks; one less than there are classes where that is less


def named(spec: Spec) -> Spec:
    """The name that conditions have: of a single attack, with the package that it is from."""
    if spec.name not in SINGLE:
        return spec
    return Spec("pyautoattack", spec.argument, {"attacks": spec.name, **spec.options})


class Official:
    """AutoAttack in one of its versions, or some of its attacks."""

    takes_eps = True

    def __init__(self, spec: Spec, norm: Norm) -> None:
        """Raises `UserError` where pyautoattack is not installed, and for unknown versions, attacks and options."""
        try:
            import pyautoattack

            self._release = version("pyautoattack")
        except (ImportError, PackageNotFoundError) as error:
            raise UserError("pyautoattack is not installed: pip install 'stressbench[attacks]'") from error
        self._library: Any = pyautoattack
        self.norm = norm
        self._spec = spec = named(spec)
        unknown = [name for name in spec.options if name not in ("version", "attacks")]
        if spec.argument or unknown or len(spec.options) > 1:
            raise UserError(f"'{spec}' does not fit pyautoattack: it has one option, version or attacks")
        self._version = spec.options.get("version", "standard")
        if self._version not in VERSIONS:
            raise UserError(f"invalid version={self._version}: expected {', '.join(VERSIONS)}")
        self.attacks = split(spec.options["attacks"], "+") if "attacks" in spec.options else VERSIONS[self._version]
        for name in self.attacks:
            if name not in SINGLE:
                hint = did_you_mean(name, SINGLE)
                raise UserError(f"AutoAttack has no attack '{name}': {hint}it has {', '.join(SINGLE)}")

    @property
    def protocol(self) -> str:
        """The package's version, and the SHA-256 digest of its modules in the order of their paths."""
        folder = Path(self._library.__file__).parent
        digest = hashlib.sha256()
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\n" + path.read_bytes())
        return f"pyautoattack {self._release}, sha256:{digest.hexdigest()}"

    @property
    def fewest_classes(self) -> int:
        """How many classes a dataset needs."""
        return max(_FEWEST.get(name, 2) for name in self.attacks)

    def __call__(self, model: nn.Module, victim: Victim, batch: Batch, eps: float, eot_draws: int) -> Attacked:
        """The attacked images.

        A stochastic model is attacked as the mean probability of `eot_draws` draws; with version `rand`, which takes
        means over 20 gradients itself, each pass is one draw.
        """
        seed = int(batch.keys[0]) & (2**31 - 1)
        targets = min(_TARGETS, class_count(model, batch) - 1)
        with without_parameter_gradients(model), seeded(seed):
            attacked = MeanOfDraws(model, 1 if self._version == "rand" else eot_draws).eval()
            attack = self._library.AutoAttack(
                attacked,
                norm=NORMS[self.norm],
                eps=eps,
                seed=seed,
                device=batch.images.device,
                version=self._version,
            )
            attack.attacks_to_run = list(self.attacks)
            attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = targets
            images, _ = attack.run_standard_evaluation(batch.images, batch.targets, batch_size=len(batch.images))
            images = require_budget(self._spec, images.detach(), batch.images, eps, self.norm)
        clean, after = (victim.judge(x, batch.targets)[0] for x in (batch.images, images))
        images = torch.where((clean & ~after).view(-1, 1, 1, 1), batch.images, images)
        return Attacked(images, {"fooled": clean | after})
