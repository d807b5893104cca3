"""FGSM and PGD against optima in closed form, hand-made draws, and torchattacks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchattacks
from torch import Tensor, nn

from attack_cases import SIDE, Linear, Rerouted, batch
from stressbench import randomness
from stressbench.contracts import Batch
from stressbench.datasets.digits import digits
from stressbench_suites.adversarial.attacks import Norm, Victim, corner, fgsm, noise, pgd
from tiny_models import Tiny


def victim(model: nn.Module, b: Batch, eot_draws: int = 1) -> Victim:
    return Victim(model, b.keys, eot_draws)


def digit_batch(model: nn.Module, n: int = 24, wrong: int = 4) -> Batch:
    """Handwritten digits with the model's own predictions as labels, except for the first few."""
    images = digits("test").images.read(0, n) / 255
    labels = model(images).argmax(dim=1)
    labels[:wrong] = (labels[:wrong] + 1) % 10
    indices = torch.arange(n)
    return Batch(images, labels, indices, randomness.image_keys(1, indices))


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    return Tiny(digits("test")).eval()


# --- closed forms ---------------------------------------------------------------------------------------------


def downhill(model: Linear, labels: Tensor) -> np.ndarray:
    """By image, the direction in which the right class's lead over the other falls: w_other − w_y."""
    w = model.layer.weight.detach().numpy().reshape(2, 3, SIDE, SIDE)
    return w[1 - labels.numpy()] - w[labels.numpy()]


@pytest.mark.parametrize("eps", [0.01, 0.3])
def test_on_a_linear_model_both_reach_the_optimum_of_the_box(eps: float) -> None:
    model = Linear(scale=0.1)
    b = batch(16, model)
    # A linear function over a box is lowest at a corner: each pixel as far as its budget and [0, 1] let it.
    best = np.clip(b.images.numpy() + eps * np.sign(downhill(model, b.targets)), 0, 1)
    one = fgsm(victim(model, b), b.images, b.targets, eps, "linf").images
    many = pgd(
        victim(model, b), b.images, b.targets, eps, "linf", 20, eps / 8, [noise(b.keys, b.images, eps, "linf")]
    ).images
    np.testing.assert_allclose(one, best, atol=1e-6)
    np.testing.assert_allclose(many, best, atol=1e-6)


def test_on_a_linear_model_both_reach_the_optimum_of_the_ball() -> None:
    model, eps = Linear(scale=0.1), 0.05
    b = batch(16, model)
    inside = Batch(0.2 + 0.6 * b.images, b.targets, b.indices, b.keys)
    direction = downhill(model, b.targets)
    length = np.linalg.norm(direction.reshape(16, -1), axis=1).reshape(-1, 1, 1, 1)
    best = inside.images.numpy() + eps * direction / length
    one = fgsm(victim(model, b), inside.images, b.targets, eps, "l2").images
    start = noise(b.keys, inside.images, eps, "l2")
    many = pgd(victim(model, b), inside.images, b.targets, eps, "l2", 40, eps / 4, [start]).images
    np.testing.assert_allclose(one, best, atol=1e-6)
    np.testing.assert_allclose(many, best, atol=1e-5)


def test_a_tiny_gradient_still_has_a_direction() -> None:
    """Its squares are 0 in float32."""
    model = Linear(scale=1e-25)
    b = batch(4, Linear())
    moved = fgsm(victim(model, b), b.images.mul(0.5).add(0.25), b.targets, 0.1, "l2").images - (0.5 * b.images + 0.25)
    torch.testing.assert_close(moved.flatten(1).norm(dim=1), torch.full((4,), 0.1))


@pytest.mark.parametrize("lead", [20.0, 40.0, 80.0])
def test_a_confident_models_gradient_is_that_of_the_exact_loss(lead: float) -> None:
    """Its probability is 1 in float32, or in float64 too; the sum of the other classes' still has all its digits."""
    model = Linear(classes=4, scale=0.1)
    model.layer.bias.data[0] += lead
    b = batch(12, model)
    logits = model(b.images).detach().double()
    assert bool((logits.softmax(dim=1)[:, 0].float() == 1).all())
    p = logits.softmax(dim=1)[:, 1:]
    exact = torch.cat([-p.sum(dim=1, keepdim=True), p], dim=1) @ model.layer.weight.detach().double()
    slope = victim(model, b).slope(b.images, torch.zeros_like(b.targets))
    direction = nn.functional.normalize(slope.gradient.flatten(1).double(), eps=1e-300)
    torch.testing.assert_close(direction, nn.functional.normalize(exact, eps=1e-300), rtol=1e-4, atol=1e-5)
    assert bool(slope.saturated.all())


# --- torchattacks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [2 / 255, 8 / 255])
def test_fgsm_is_that_of_torchattacks(tiny: nn.Module, eps: float) -> None:
    b = digit_batch(tiny)
    ours = fgsm(victim(tiny, b), b.images, b.targets, eps, "linf").images
    theirs = torchattacks.FGSM(tiny, eps=eps)(b.images, b.targets)
    fooled = tiny(theirs).argmax(dim=1) != b.targets
    # What was wrong on the clean input stays wrong: only there may an image differ, and then it is the clean one.
    kept = (tiny(b.images).argmax(dim=1) != b.targets) & ~fooled
    torch.testing.assert_close(ours[~kept], theirs[~kept], rtol=0, atol=1e-5)
    torch.testing.assert_close(ours[kept], b.images[kept], rtol=0, atol=0)
    assert int(fooled.sum()) > 0
    assert int((~kept).sum()) >= 20


@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize(("norm", "eps", "theirs"), [("linf", 3 / 255, "PGD"), ("l2", 0.4, "PGDL2")])
def test_pgd_is_that_of_torchattacks_from_the_same_start(
    tiny: nn.Module, norm: Norm, eps: float, theirs: str, random_start: bool
) -> None:
    b = digit_batch(tiny)
    start = b.images
    if random_start:
        torch.manual_seed(3)
        if norm == "linf":
            start = (b.images + torch.empty_like(b.images).uniform_(-eps, eps)).clamp(0, 1)
        else:
            direction = torch.empty_like(b.images).normal_()
            radius = torch.zeros(len(b.images), 1, 1, 1).uniform_(0, 1)
            start = (b.images + direction * radius / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1) * eps).clamp(
                0, 1
            )
    attack = getattr(torchattacks, theirs)(tiny, eps=eps, alpha=eps / 4, steps=10, random_start=random_start)
    torch.manual_seed(3)
    expected = attack(b.images, b.targets)
    ours = pgd(victim(tiny, b), b.images, b.targets, eps, norm, 10, eps / 4, [start]).images
    ours_fool, theirs_fool = (tiny(images).argmax(dim=1) != b.targets for images in (ours, expected))
    # Elsewhere an earlier iterate fooled and the last one does not: ours is at least as strong.
    last = theirs_fool | ~ours_fool
    torch.testing.assert_close(ours[last], expected[last], rtol=0, atol=1e-5)
    assert bool((theirs_fool <= ours_fool).all())
    assert int(last.sum()) >= 20
    assert 4 < int(theirs_fool.sum()) < 24


# --- which iterate is kept ------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize("eps", [1 / 255, 3 / 255])
def test_stopping_early_changes_no_verdict(tiny: nn.Module, norm: Norm, restarts: int, eps: float) -> None:
    b = digit_batch(tiny, n=60, wrong=6)
    eps = eps if norm == "linf" else 10 * eps
    verdicts = []
    for verdicts_only in (False, True):
        starts = [noise(b.keys, b.images, eps, norm, 2 * r) for r in range(restarts)]
        found = pgd(victim(tiny, b), b.images, b.targets, eps, norm, 7, eps / 3, starts, verdicts_only)
        verdicts.append(tiny(found.images).argmax(dim=1) != b.targets)
    assert torch.equal(*verdicts)
    assert 6 <= int(verdicts[0].sum()) < 60


def test_images_that_fool_cost_no_more_gradients() -> None:
    class Counting(Linear):
        seen = 0

        def forward(self, images: Tensor) -> Tensor:
            self.seen += len(images) * images.requires_grad
            return super().forward(images)

    model = Counting()
    b = batch(10, model, wrong=10)
    model.seen = 0
    found = pgd(victim(model, b), b.images, b.targets, 0.1, "linf", 5, 0.01, [b.images], verdicts_only=True)
    assert model.seen == 0
    assert torch.equal(found.images, b.images)
    assert found.columns["zero_share"].isnan().all()
    # Of ten images that a step of 0.5 always fools, each costs one pass at the start and one where it fools.
    b = batch(10, model)
    model.seen = 0
    pgd(victim(model, b), b.images, b.targets, 0.5, "linf", 5, 0.5, [b.images], verdicts_only=True)
    assert model.seen == 20
    model.seen = 0
    pgd(victim(model, b), b.images, b.targets, 0.5, "linf", 5, 0.5, [b.images])
    assert model.seen == 50


def test_a_misclassified_image_that_the_step_would_turn_right_stays_as_it_is() -> None:
    class Backwards(Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(Rerouted.apply(images, torch.tensor(-1.0)))

    model = Backwards()
    b = batch(10, model, wrong=4)
    found = fgsm(victim(model, b), b.images, b.targets, 0.5, "linf")
    assert torch.equal(found.images[:4], b.images[:4])
    assert not torch.equal(found.images[4:], b.images[4:])


def test_an_iterate_that_fools_is_kept_though_the_last_one_does_not() -> None:
    class Returning(Linear):
        clean: Tensor

        def forward(self, images: Tensor) -> Tensor:
            at_home = (images.detach() == self.clean).flatten(1).all(dim=1)
            return super().forward(Rerouted.apply(images, torch.where(at_home, 1.0, -1.0).view(-1, 1, 1, 1)))

    model = Returning()
    b = batch(8, Linear())
    model.clean = b.images
    # One step away, and another one back.
    found = pgd(victim(model, b), b.images, b.targets, 0.5, "linf", 2, 0.5, [b.images]).images
    away = fgsm(victim(model, b), b.images, b.targets, 0.5, "linf").images
    assert bool((model(away).argmax(dim=1) != b.targets).all())
    assert torch.equal(found, away)


def test_of_several_starts_one_that_fools_wins_and_else_the_highest_loss() -> None:
    """With a step of no length the starts themselves are what is found."""
    model = Linear(scale=0.1)
    b = batch(6, model)
    starts = [noise(b.keys, b.images, 0.4, "linf", 2 * r) for r in range(8)]
    found = pgd(victim(model, b), b.images, b.targets, 0.4, "linf", 1, 0.0, starts).images
    losses = torch.stack([nn.functional.cross_entropy(model(s), b.targets, reduction="none") for s in starts])
    # Of two classes the one that fools has the higher loss.
    expected = torch.stack(starts)[losses.argmax(dim=0), torch.arange(6)]
    assert torch.equal(found, expected)


# --- starts and noise -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_starts_fill_the_budget_and_follow_the_image(norm: Norm) -> None:
    images = torch.full((400, 3, SIDE, SIDE), 0.5)
    keys = randomness.image_keys(7, torch.arange(400))
    moved = noise(keys, images, 0.1, norm) - 0.5
    if norm == "linf":
        assert 0.0999 < float(moved.abs().max()) <= 0.1 + 1e-6
        assert float(moved.std()) == pytest.approx(0.1 / math.sqrt(3), rel=0.01)
        assert float(corner(keys, images, 0.1, norm).sub(0.5).abs().min()) == pytest.approx(0.1, rel=1e-5)
    else:
        # Uniform in a ball of d dimensions: the length's d-th power is uniform.
        share = (moved.flatten(1).norm(dim=1) / 0.1) ** (3 * SIDE * SIDE)
        assert 0.45 < float(share.mean()) < 0.55
        assert float(share.max()) <= 1 + 1e-4
        lengths = corner(keys, images, 0.1, norm).sub(0.5).flatten(1).norm(dim=1)
        torch.testing.assert_close(lengths, torch.full((400,), 0.1))
    apart = [noise(part, images[:2], 0.1, norm) - 0.5 for part in (keys[:2], keys[2:4])]
    torch.testing.assert_close(torch.cat(apart), moved[:4], rtol=0, atol=0)
    assert not torch.equal(noise(keys, images, 0.1, norm, stream=2), noise(keys, images, 0.1, norm))


# --- stochastic models ----------------------------------------------------------------------------------------


class Noisy(Linear):
    """Adds noise to its input, and remembers it, with the number of the draw."""

    stochastic = True
    max_draws: int | None = None

    def __init__(self) -> None:
        super().__init__(classes=3)
        self.noises: list[Tensor] = []
        self.indices: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.noises.append(randomness.normal_like(images))
        self.indices.append(randomness.draw_index())
        return super().forward(images + self.noises[-1])


def test_the_gradient_is_the_mean_over_draws_and_each_step_has_new_ones() -> None:
    model = Noisy()
    b = batch(5, model)
    model.noises.clear()
    target = Victim(model, b.keys, 4)
    gradients = [target.slope(b.images, b.targets).gradient for _ in range(2)]
    assert len(model.noises) == 8
    assert len({added.sum().item() for added in model.noises}) == 8
    for gradient, noises in zip(gradients, (model.noises[:4], model.noises[4:8]), strict=True):
        expected = torch.zeros_like(b.images)
        for added in noises:
            p = Linear.forward(model, b.images + added).softmax(dim=1)
            # ∂(−log p_y)/∂x = Wᵀ(p − 1_y)
            error = p - nn.functional.one_hot(b.targets, 3)
            expected += (error @ model.layer.weight).view_as(expected) / 4
        torch.testing.assert_close(gradient, expected.detach(), rtol=1e-4, atol=1e-6)


def test_draws_go_round_where_a_model_has_only_so_many() -> None:
    model = Noisy()
    b = batch(3, model)
    model.indices.clear()
    model.max_draws = 3
    target = Victim(model, b.keys, 2)
    for _ in range(3):
        target.slope(b.images, b.targets)
    assert model.indices == [0, 1, 2, 0, 1, 2]
    model.indices.clear()
    Victim(model, b.keys, 10).judge(b.images, b.targets)
    assert model.indices == [0, 1, 2]


def test_a_deterministic_model_costs_one_pass() -> None:
    model = Noisy()
    model.stochastic = False
    b = batch(3, model)
    model.noises.clear()
    Victim(model, b.keys, 10).slope(b.images, b.targets)
    assert len(model.noises) == 1


def test_parameters_get_no_gradients() -> None:
    model = Linear()
    b = batch(4, model)
    pgd(victim(model, b), b.images, b.targets, 0.1, "linf", 3, 0.05, [b.images])
    assert all(parameter.grad is None for parameter in model.parameters())
