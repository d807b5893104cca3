"""AutoAttack by its authors' code, under the suite."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch

pytest.importorskip("pyautoattack")

import pyautoattack

from attack_cases import Linear, batch
from stressbench.contracts import Classification
from stressbench.datasets.digits import digits
from stressbench.errors import UserError
from stressbench.sampling import Unjudged
from stressbench_suites.adversarial import worst
from stressbench_suites.adversarial.suite import AdversarialSuite

EPS = 0.06


@pytest.mark.parametrize(
    ("classes", "attack"), [(2, "apgd-ce"), (2, "apgd-ce+square"), (3, "apgd-ce+apgd-dlr"), (5, "apgd-ce+apgd-t")]
)
def test_of_a_linear_model_it_fools_the_images_within_reach(classes: int, attack: str) -> None:
    model = Linear(classes, 0.05)
    suite = AdversarialSuite(attack=(f"pyautoattack,attacks={attack}",), eps=(str(EPS),), audit=False)
    b = batch(12, model)
    stressed = suite.stress(suite.conditions()[1], b, Unjudged(model))
    with torch.no_grad():
        weight, logits = model.layer.weight, model(b.images)
        own = weight[b.targets]
        # The most that a class can gain on the label's, where no pixel is nearer than ε to 0 or 1: ε‖w_c − w_y‖₁.
        gain = EPS * (weight[None] - own[:, None]).abs().sum(dim=2)
        margin = logits.gather(1, b.targets[:, None]) - logits
        others = torch.arange(classes) != b.targets[:, None]
        free = (b.images > EPS).all(dim=(1, 2, 3)) & (b.images < 1 - EPS).all(dim=(1, 2, 3))
    reachable = ((margin < 0.98 * gain) & others).any(dim=1) & free
    beyond = ((margin > gain) | ~others).all(dim=1)
    fooled = stressed.columns["fooled"].bool()
    assert bool(fooled[reachable].all())
    assert not bool(fooled[beyond].any())
    assert float((stressed.images - b.images).abs().max()) <= EPS + 1e-6
    assert bool(beyond.any()) or bool(fooled.any())


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ("pyautoattack,version=quick", "invalid version=quick: expected standard, plus, rand"),
        ("pyautoattack,attacks=apgd", "AutoAttack has no attack 'apgd'"),
        ("pyautoattack,steps=5", "it has one option, version or attacks"),
    ],
)
def test_what_it_does_not_have_is_refused(attack: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        AdversarialSuite(attack=(attack,))


@pytest.mark.parametrize(
    ("attack", "fewest"),
    [("pyautoattack", 4), ("pyautoattack,version=rand", 3), ("pyautoattack,attacks=apgd-ce+fab+square", 2)],
)
def test_a_loss_that_needs_more_classes_says_so_before_anything_runs(attack: str, fewest: int) -> None:
    suite = AdversarialSuite(attack=(attack,), audit=False)
    few = replace(digits("test"), task=Classification(fewest - 1))
    why = suite.unsupported(few)
    assert why is not None
    assert f"needs {fewest} classes or more" in why
    assert suite.unsupported(replace(few, task=Classification(fewest))) is None


def test_a_record_says_which_code_attacked() -> None:
    suite = AdversarialSuite(attack=("pgd", "pyautoattack,attacks=apgd-ce"), audit=False)
    said = suite.protocol(None)  # type: ignore[arg-type]
    root = Path(pyautoattack.__file__).parent
    content = b"".join(
        name.encode() + b"\n" + (root / name).read_bytes()
        for name in sorted(path.relative_to(root).as_posix() for path in root.glob("**/*.py"))
    )
    assert said is not None
    assert said.startswith("pyautoattack 0.")
    assert said.endswith(f", sha256:{hashlib.sha256(content).hexdigest()}")
    assert AdversarialSuite(attack=("pgd",)).protocol(None) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("attack", "whole"),
    [
        ("pyautoattack", True),
        ("pyautoattack,version=plus", True),
        ("torchattacks:AutoAttack", False),
        ("autoattack", False),
        ("pyautoattack,attacks=apgd-ce", False),
        ("torchattacks:APGD", False),
    ],
)
def test_robust_accuracy_is_an_upper_bound_without_autoattack(attack: str, whole: bool) -> None:
    found = list(worst.findings([{"attack": attack, "norm": "linf", "eps": EPS}], [{"robust_accuracy": 0.5}]))
    assert (not found) is whole


@pytest.mark.parametrize("name", ["apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"])
def test_each_of_its_attacks_can_be_named_alone(name: str) -> None:
    short = AdversarialSuite(attack=(name,), eps=(str(EPS),), audit=False)
    assert (
        short.conditions() == AdversarialSuite((f"pyautoattack,attacks={name}",), (str(EPS),), audit=False).conditions()
    )
    with pytest.raises(UserError, match="does not fit pyautoattack: it has one option"):
        AdversarialSuite(attack=(f"{name},version=rand",))


def test_torchattacks_makes_fewer_steps_than_the_finding_says_of_its_authors() -> None:
    torchattacks = pytest.importorskip("torchattacks")
    theirs = torchattacks.AutoAttack(Linear(5), n_classes=5)._autoattack.attacks
    assert {attack.steps for attack in theirs if hasattr(attack, "steps")} == {10}
    authors = pyautoattack.AutoAttack(Linear(5), norm="Linf", eps=EPS, device="cpu")
    assert {authors.apgd.n_iter, authors.apgd_targeted.n_iter, authors.fab.n_iter} == {100}
    condition = {"attack": "autoattack", "norm": "linf", "eps": EPS}
    (found,) = worst.findings([condition], [{"robust_accuracy": 0.5}])
    assert "torchattacks' AutoAttack makes 10 steps of each attack where that of its authors makes 100" in found.message
    both = [condition, condition | {"attack": "pyautoattack"}]
    assert not list(worst.findings(both, [{"robust_accuracy": 0.5}] * 2))


def test_what_is_left_of_an_installation_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("stressbench_suites.adversarial.official.version", missing)
    with pytest.raises(UserError, match="pyautoattack is not installed"):
        AdversarialSuite(attack=("apgd-ce",))
