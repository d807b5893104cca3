"""Attacks of torchattacks under the suite: which, with what, and that they leave no trace."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchattacks
from torch import Tensor, nn

from attack_cases import Linear, Rerouted, batch, run
from stressbench import randomness
from stressbench.contracts import Classification
from stressbench.datasets.digits import digits
from stressbench.errors import UserError
from stressbench.sampling import Unjudged
from stressbench_suites.adversarial.suite import AdversarialSuite


def present(attack: str, model: nn.Module, n: int = 8, norm: str = "linf", eps: str = "0.1") -> tuple[Tensor, Tensor]:
    """The clean and the attacked images."""
    suite = AdversarialSuite(attack=(attack,), norm=norm, eps=(eps,), audit=False)  # type: ignore[arg-type]
    b = batch(n, model)
    return b.images, suite.stress(suite.conditions()[1], b, Unjudged(model)).images


def test_an_attack_with_budgets_has_a_condition_for_each_and_one_without_has_one() -> None:
    tried = AdversarialSuite(
        attack=("torchattacks:MIFGSM", "(torchattacks:CW,steps=10,c=0.5)"), eps=("1/255", "2/255"), audit=False
    ).conditions()
    assert tried[1:] == [
        {"attack": "torchattacks:MIFGSM", "norm": "linf", "eps": 1 / 255},
        {"attack": "torchattacks:MIFGSM", "norm": "linf", "eps": 2 / 255},
        {"attack": "torchattacks:CW,c=0.5,steps=10", "norm": "l2"},
    ]


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        ("torchattacks:PDG", "no attack 'PDG': did you mean 'PGD'"),
        ("torchattacks:LGV", "no attack 'LGV'"),
        ("torchattacks:MultiAttack", "no attack 'MultiAttack'"),
        (
            "torchattacks:CW,step=5",
            "CW has no option 'step': did you mean 'steps'.*its options are: c, kappa, steps, lr",
        ),
        ("torchattacks:CW,steps=many", "steps=many is not a number"),
        ("torchattacks:PGD,eps=0.1", "'eps' of torchattacks comes from --eps"),
        ("torchattacks:PGD,random_start=maybe", "neither true nor false"),
        ("torchattacks:Pixle,x_dimensions=2", "is not a number or a word"),
        ("torchattacks:PGDL2", "has budgets in l2: run it with --norm l2"),
        ("autoattack,n_classes=3", "comes from the dataset"),
    ],
)
def test_what_makes_no_attack_is_refused(attack: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        AdversarialSuite(attack=(attack,))


def test_without_torchattacks_a_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    AdversarialSuite()
    with pytest.raises(UserError, match=r"pip install 'stressbench\[attacks\]'"):
        AdversarialSuite(attack=("autoattack",))


def test_options_arrive_with_their_types() -> None:
    model = Linear(classes=3, scale=0.1)
    clean, attacked = present("torchattacks:PGD,alpha=2/255,steps=3,random_start=false", model, eps="8/255")
    labels = model(clean).argmax(dim=1)
    expected = torchattacks.PGD(model, eps=8 / 255, alpha=2 / 255, steps=3, random_start=False)(clean, labels)
    torch.testing.assert_close(attacked, expected)


@pytest.mark.parametrize(
    ("attack", "norm"),
    [
        ("CW,c=10,steps=30,lr=0.1", "l2"), ("DeepFool", "l2"), ("PGDL2", "l2"), ("FAB", "l2"), ("APGD", "linf"),
        ("Square,n_queries=50", "linf"), ("Pixle", "linf"), ("EADL1,max_iterations=20", "linf"), ("PIFGSM", "linf"),
    ],
)  # fmt: skip
def test_attacks_of_every_kind_fool_and_repeat(attack: str, norm: str) -> None:
    model = Linear(classes=4, scale=0.3)
    clean, attacked = present(f"torchattacks:{attack}", model, norm=norm, eps="0.2")
    labels = model(clean).argmax(dim=1)
    assert float((model(attacked).argmax(dim=1) != labels).float().mean()) >= 0.5
    assert float(attacked.min()) >= 0
    assert float(attacked.max()) <= 1
    assert torch.equal(present(f"torchattacks:{attack}", model, norm=norm, eps="0.2")[1], attacked)


def test_the_model_the_generators_and_stdout_are_left_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    model = Linear(classes=4).eval()
    model.layer.bias.requires_grad_(False)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[union-attr, index]
    present("torchattacks:CW,steps=2", model)
    present("torchattacks:Pixle,restarts=1,max_iterations=2", model)
    assert not any(module.training for module in model.modules())
    assert (model.layer.weight.requires_grad, model.layer.bias.requires_grad) == (True, False)
    assert model.layer.weight.grad is None
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.random.get_state()[1].tolist() == numpy_state  # type: ignore[union-attr, index]
    assert capsys.readouterr().out == ""


def test_a_model_without_parameters_can_be_attacked(capsys: pytest.CaptureFixture[str]) -> None:
    class Bright(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            mean = images.mean(dim=(1, 2, 3))
            return torch.stack([10 * mean, 10 - 10 * mean], dim=1)

    model = Bright()
    clean, attacked = present("torchattacks:FGSM", model, eps="0.3")
    assert bool((model(attacked).argmax(dim=1) != model(clean).argmax(dim=1)).all())
    assert capsys.readouterr().out == ""


def test_autoattack_knows_the_number_of_classes() -> None:
    model = Linear(classes=5, scale=0.3)
    suite = AdversarialSuite(attack=("autoattack",), eps=("0.2",), audit=False)
    _, _, rows = run(suite, model, batch(12, model, wrong=2))
    assert rows[1]["accuracy"] == 0
    assert rows[1]["asr"] == 1


def test_a_misclassified_image_stays_misclassified() -> None:
    class Backwards(Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(Rerouted.apply(images, torch.tensor(-1.0)))

    model = Backwards()
    _, _, rows = run(
        AdversarialSuite(attack=("torchattacks:FGSM",), eps=("0.5",), audit=False), model, batch(10, model, wrong=10)
    )
    assert rows[1]["accuracy"] == 0


def test_an_attack_that_leaves_its_budget_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def far(self: object, images: Tensor, labels: Tensor) -> Tensor:
        return 1 - images

    monkeypatch.setattr(torchattacks.FGSM, "forward", far)
    with pytest.raises(UserError, match="left its budget"):
        present("torchattacks:FGSM", Linear())
    monkeypatch.setattr(torchattacks.FGSM, "forward", lambda self, images, labels: images + 5)
    with pytest.raises(UserError, match="not finite or not in"):
        present("torchattacks:FGSM", Linear())


def test_a_stochastic_model_is_attacked_as_the_mean_of_its_draws() -> None:
    class Drawn(Linear):
        stochastic = True
        max_draws = 2

        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) * (1 + 2 * randomness.draw_index())

    class Mean(Linear):
        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images)
            return (logits.softmax(dim=1) / 2 + (3 * logits).softmax(dim=1) / 2).log()

    drawn, mean = (present("torchattacks:PGDL2,random_start=false", m, norm="l2") for m in (
        Drawn(classes=3, scale=0.05), Mean(classes=3, scale=0.05)
    ))  # fmt: skip
    torch.testing.assert_close(drawn[1], mean[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("attack", "fewest"),
    [
        ("autoattack", 4), ("autoattack,version=plus", 4), ("autoattack,version=rand", 3), ("torchattacks:APGDT", 4),
        ("torchattacks:APGD,loss=dlr", 3), ("torchattacks:APGD", 2), ("torchattacks:Square,n_queries=5", 2),
    ],
)  # fmt: skip
def test_an_attack_that_needs_more_classes_is_refused_before_it_runs(attack: str, fewest: int) -> None:
    suite = AdversarialSuite(attack=("fgsm", attack), audit=False)
    for classes in range(2, 6):
        why = suite.unsupported(replace(digits("test"), task=Classification(classes)))
        assert (why is None) == (classes >= fewest)
        if why is not None:
            assert f"{attack} needs {fewest} classes or more and it has {classes}" in why


@pytest.mark.parametrize("attack", ["APGD", "FAB,steps=3", "Square,n_queries=5"])
def test_what_takes_two_classes_runs_on_two(attack: str) -> None:
    clean, attacked = present(f"torchattacks:{attack}", Linear(classes=2, scale=0.3), eps="0.1")
    assert not torch.equal(clean, attacked)
