"""Models whose gradients are masked in one way each, and plain ones, before the audit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attack_cases import Linear, Rerouted, batch, run
from stressbench import randomness
from stressbench.contracts import Batch, Metrics
from stressbench.datasets.digits import digits
from stressbench_suites.adversarial import audit
from stressbench_suites.adversarial.suite import AdversarialSuite
from tiny_models import Tiny

N = 80


class Plain(Linear):
    def __init__(self) -> None:
        super().__init__(classes=4, scale=0.3)


class Convolved(nn.Module):
    """Ordinary layers with batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
                nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
                nn.Flatten(), nn.Linear(16 * 36, 5),
            )  # fmt: skip
            self.layers(torch.rand(64, 3, 6, 6))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Rounded(Plain):
    """Sees 16 grey levels; rounding has no slope."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward((images * 15).round() / 15)


class Detached(Plain):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.detach())


class Saturated(Plain):
    """So confident that float32 has no slope left."""

    def forward(self, images: Tensor) -> Tensor:
        return 1e4 * super().forward(images)


class Confident(Plain):
    """So sure that its probabilities are 1 in float32, and still have a slope in float64."""

    def forward(self, images: Tensor) -> Tensor:
        return 30 * super().forward(images)


class Softmaxed(Plain):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).softmax(dim=1)


class Undefined(Plain):
    """The root's slope at 0 is infinite, and 0 times that is NaN."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + 0 * (images - images.detach()).square().sqrt().sum()


class Shattered(Plain):
    """The slope points anywhere."""

    def forward(self, images: Tensor) -> Tensor:
        seed = int(images.detach().sum() * 1e4)
        factor = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
        return super().forward(Rerouted.apply(images, factor))


class OnGrid(Plain):
    """The slope is right at stored images, with their 256 levels, and points back everywhere else."""

    def forward(self, images: Tensor) -> Tensor:
        levels = images.detach() * 255
        stored = ((levels - levels.round()).abs() < 1e-3).flatten(1).all(dim=1)
        return super().forward(Rerouted.apply(images, torch.where(stored, 1.0, -1.0).view(-1, 1, 1, 1)))


class Gated(Plain):
    """The slope is right from one start in three, and points back from the others.

    Which start it was is still to be seen in a pixel without weight, since steps along no slope leave it alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer.weight.data[:, 0] = 0

    def forward(self, images: Tensor) -> Tensor:
        lucky = (images.detach()[:, 0, 0, 0] * 1e4).floor() % 3 == 0
        return super().forward(Rerouted.apply(images, torch.where(lucky, 1.0, -1.0).view(-1, 1, 1, 1)))


class Randomised(Plain):
    """Buries its input in noise, of which one draw's slope says little."""

    stochastic = True

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images + 4 * randomness.normal_like(images))


def stored(b: Batch) -> Batch:
    """With 256 levels, as images on a disk have them."""
    return Batch((b.images * 255).round() / 255, b.targets, b.indices, b.keys)


def found(model: nn.Module, draws: int = 1, n: int = N, **options: object) -> set[str]:
    """The checks that fire, and the same ones from the rows alone."""
    suite = AdversarialSuite(**{"eps": ("8/255",), "steps": 10, **options})  # type: ignore[arg-type]
    b = stored(batch(n, model, wrong=8))
    conditions, _, rows = run(suite, model, b, draws)
    return {finding.check for finding in audit.findings(conditions, rows)}


@pytest.mark.parametrize("model", [Plain(), Convolved()], ids=["linear", "convolved"])
@pytest.mark.parametrize("options", [{}, {"norm": "l2", "eps": ("0.5",)}, {"verdicts_only": True}, {"restarts": 3}])
def test_a_plain_model_is_cleared(model: nn.Module, options: dict[str, object]) -> None:
    assert found(model, **options) == set()


def test_an_untrained_model_on_others_labels_is_cleared() -> None:
    data = digits("test")
    indices = torch.arange(N)
    b = Batch(
        data.images.read(0, N) / 255, data.labels[:N], indices, randomness.image_keys(randomness.derive(0), indices)
    )
    model = Tiny(data).eval()
    suite = AdversarialSuite(eps=("2/255", "8/255"), steps=5)
    conditions, _, rows = run(suite, model, b)
    assert rows[0]["accuracy"] < 0.15  # type: ignore[operator]
    assert audit.findings(conditions, rows) == []


@pytest.mark.parametrize(
    ("model", "check"),
    [
        (Rounded(), "zero-gradients"),
        (Detached(), "zero-gradients"),
        (Saturated(), "zero-gradients"),
        (Confident(), "saturated-loss"),
        (Undefined(), "nonfinite-gradients"),
        (Softmaxed(), "probability-outputs"),
        (OnGrid(), "fgsm-stronger-than-pgd"),
        (OnGrid(), "robust-at-large-eps"),
        (Gated(), "restarts-matter"),
        (Shattered(), "noise-as-strong"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_masked_model_is_caught(model: nn.Module, check: str) -> None:
    assert check in found(model)


def test_a_gradient_that_is_not_finite_is_still_an_attack() -> None:
    """Only the elements that are not finite are left out."""

    class HalfUndefined(Plain):
        def forward(self, images: Tensor) -> Tensor:
            still = images[:, :1] - images[:, :1].detach()
            return super().forward(images) + 0 * still.square().sqrt().sum()

    model = HalfUndefined()
    conditions, _, rows = run(AdversarialSuite(eps=("8/255",), steps=5), model, batch(N, model))
    pgd = [c["attack"] for c in conditions].index("pgd")
    assert rows[pgd]["nonfinite_share"] == 1
    assert rows[pgd]["zero_share"] == 0
    assert rows[pgd]["asr"] > 0.1  # type: ignore[operator]


def test_a_randomised_model_attacked_with_one_draw_is_caught() -> None:
    model = Randomised()
    b = batch(N, model)
    # Labels of the mean, so that there is something to be right about.
    b = Batch(b.images, Linear.forward(model, b.images).argmax(dim=1), b.indices, b.keys)
    suite = AdversarialSuite(eps=("4/255",), steps=5, eot_draws=1)
    conditions, _, rows = run(suite, model, b, draws=30)
    assert "verdicts-differ" in {finding.check for finding in suite.findings(conditions, rows)}


# --- from rows alone ------------------------------------------------------------------------------------------

BUDGET = 8 / 255
TRIED = [{"attack": a, "norm": "linf", "eps": BUDGET} for a in ("fgsm", "pgd")] + audit.conditions("linf", BUDGET)


def checks(**changes: dict[str, float | None]) -> set[str]:
    """What fires on the rows of a plain model, with some of them changed; - is _ in the attacks' names."""
    rows: dict[str, Metrics] = {
        "fgsm": {"accuracy": 0.05, "images": 1000, "attackable": 900},
        "pgd": {"accuracy": 0.0, "images": 1000, "attackable": 900, "zero_share": 0.0},
        "audit_noise": {"accuracy": 0.8, "asr": 0.1, "images": 200, "attackable": 180},
        "audit_once": {"accuracy": 0.4, "asr": 0.4, "images": 200, "attackable": 180, "unconfirmed": 0.0},
        "audit_several": {"accuracy": 0.38, "asr": 0.42, "images": 200, "attackable": 180},
        "audit_large": {"accuracy": 0.0, "asr": 1.0, "images": 200, "attackable": 180, "chance": 0.1},
    }
    for name, change in changes.items():
        rows[name] |= change
    return {finding.check for finding in audit.findings(TRIED, list(rows.values()))}


@pytest.mark.parametrize(
    ("changes", "fires"),
    [
        ({}, set()),
        ({"pgd": {"zero_share": 0.01}}, set()),
        ({"pgd": {"zero_share": 0.02}}, {"zero-gradients"}),
        ({"pgd": {"saturated_share": 0.01}}, set()),
        ({"pgd": {"saturated_share": 0.02}}, {"saturated-loss"}),
        ({"audit_large": {"nonfinite_share": 0.001}}, {"nonfinite-gradients"}),
        ({"pgd": {"probabilities_share": 0.5}}, set()),
        ({"pgd": {"probabilities_share": 1.0}}, {"probability-outputs"}),
        # Two standard errors of 0.05 and 0.07 over 1,000 images are 2.1 %; of 0.05 and 0.08, 2.2 %.
        ({"pgd": {"accuracy": 0.07}}, set()),
        ({"pgd": {"accuracy": 0.08}}, {"fgsm-stronger-than-pgd"}),
        ({"audit_large": {"accuracy": 0.15}}, set()),
        ({"audit_large": {"accuracy": 0.2}}, {"robust-at-large-eps"}),
        ({"audit_large": {"accuracy": 0.2, "attackable": 19}}, set()),
        ({"audit_several": {"asr": 0.45}}, set()),
        ({"audit_several": {"asr": 0.46}}, {"restarts-matter"}),
        ({"audit_several": {"asr": 0.46}, "audit_once": {"attackable": 19}}, set()),
        ({"audit_noise": {"asr": 0.395}}, {"noise-as-strong"}),
        ({"audit_noise": {"asr": 0.38}}, set()),
        ({"audit_noise": {"asr": 0.9}, "audit_once": {"asr": 0.9}, "audit_several": {"asr": 0.9}}, set()),
        ({"audit_noise": {"asr": None}, "audit_once": {"asr": None, "unconfirmed": None}}, set()),
        ({"audit_once": {"unconfirmed": 0.11}}, {"verdicts-differ"}),
    ],
)
def test_each_check_has_its_threshold(changes: dict[str, dict[str, float | None]], fires: set[str]) -> None:
    assert checks(**changes) == fires


def test_a_record_without_the_audit_says_so() -> None:
    suite = AdversarialSuite(eps=("8/255",), steps=2, audit=False)
    model = Plain()
    conditions, _, rows = run(suite, model, batch(10, model))
    assert not any(str(c["attack"]).startswith("audit") for c in conditions)
    assert [finding.check for finding in audit.findings(conditions, rows)] == ["not-audited"]


def test_the_audit_attacks_the_first_images_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "IMAGES", 7)
    model = Plain()
    b = batch(12, model)
    conditions, tables, rows = run(AdversarialSuite(eps=("8/255",), steps=2), model, b)
    for condition, table, row in zip(conditions, tables, rows, strict=True):
        audited = str(condition["attack"]).startswith("audit")
        assert row["images"] == row["attackable"] == (7 if audited else 12)
        if condition["attack"] != "none":
            assert table["attacked"].sum() == row["images"]
            assert (table["linf"] > 0).sum() == row["images"]
