"""Recipes that build on others: their formulas, how they compose, and a short training with each."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import beta
from torch import Tensor, nn
from torchvision.transforms import v2

from stressbench import randomness, registry
from stressbench.contracts import Dataset, InMemory, Segmentation
from stressbench.datasets.digits import digits
from stressbench.errors import UserError
from stressbench.recipe import Recipe
from stressbench.training.loop import train
from stressbench_plugins.augmentation_recipes import AugMix, Consistent, RandAugment, divergence
from stressbench_plugins.base_loss import MeanLoss
from stressbench_plugins.mixing_recipes import Cutmix, Mixup, Smoothed, Then
from stressbench_plugins.robust_recipes import Adversarial, SharpnessAware

KEYS = randomness.image_keys(7, torch.arange(6))


@pytest.fixture
def data() -> Dataset:
    """Forty training digits."""
    whole = digits("train")
    return replace(
        whole, images=InMemory(whole.images.read(0, 40)), targets=InMemory(whole.targets.read(0, 40)), embedded=False
    )


def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 12), nn.Tanh(), nn.Linear(12, 10))


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(6, 3, 32, 32, generator=generator), torch.tensor([0, 1, 2, 3, 4, 5])


def recipe(text: str, data: Dataset) -> Recipe:
    return registry.recipe(text, data, net())


def test_mixup_is_a_mean_of_two_images_and_of_their_labels() -> None:
    images, targets = batch()
    mixed, soft = Mixup(10, 0.4)(images, targets, KEYS)
    share = float(beta.ppf(float(randomness.uniform(KEYS[:1], (1,), 1)), 0.4, 0.4))
    order = torch.argsort(randomness.uniform(KEYS, (1,), 3)[:, 0])
    assert torch.allclose(mixed, share * images + (1 - share) * images[order])
    assert torch.allclose(soft, share * F.one_hot(targets, 10) + (1 - share) * F.one_hot(targets[order], 10))


def test_the_share_of_mixup_has_its_distribution() -> None:
    ones, zeros = torch.ones(2, 1, 1, 1), torch.tensor([0, 1])
    seeds = range(300)
    shares = [float(Mixup(2, 2.0)(ones, zeros, randomness.image_keys(s, torch.arange(2)))[1][0].max()) for s in seeds]
    expected = 0.5 + beta(2, 2).expect(lambda x: abs(x - 0.5))
    # Half of the batches are mixed with themselves.
    assert np.mean(shares) == pytest.approx((1 + expected) / 2, abs=0.04)


def test_cutmix_exchanges_a_box_and_weighs_labels_by_its_area() -> None:
    images, targets = batch()
    mixed, soft = Cutmix(10, 1.0)(images, targets, KEYS)
    order = torch.argsort(randomness.uniform(KEYS, (1,), 3)[:, 0])
    for i in range(6):
        changed = (mixed[i] != images[i]).any(dim=0)
        assert torch.equal(mixed[i][:, changed], images[order[i]][:, changed])
        rows, columns = changed.any(dim=1), changed.any(dim=0)
        assert int(changed.sum()) == int(rows.sum() * columns.sum())
        if order[i] != i:
            assert float(soft[i, targets[i]]) == pytest.approx(1 - float(changed.float().mean()))
    assert torch.allclose(soft.sum(dim=1), torch.ones(6))


def test_label_smoothing_gives_torchs_loss() -> None:
    images, targets = batch()
    logits = net()(images)
    soft = Smoothed(10, 0.2)(images, targets, KEYS)[1]
    expected = F.cross_entropy(logits, targets, label_smoothing=0.2)
    assert torch.allclose(F.cross_entropy(logits, soft), expected)


def test_pgd_finds_the_corner_of_a_linear_loss(data: Dataset) -> None:
    images, targets = batch()
    images = 0.3 + 0.4 * images
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    seen: list[Tensor] = []

    def loss(module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        seen.append(images.detach().clone())
        return -module(images).gather(1, targets[:, None]).sum()

    Adversarial(loss, eps=0.1, steps=4, step_size=0.06)(linear, images, targets)
    slopes = -linear[1].weight[targets].view_as(images)  # type: ignore[union-attr, operator]
    assert len(seen) == 5
    assert torch.allclose(seen[-1], images + 0.1 * slopes.sign(), atol=1e-6)


def test_sam_has_the_gradient_of_the_perturbed_weights(data: Dataset) -> None:
    images, targets = batch()
    module, twin = net(), net()
    base = MeanLoss(data.task)
    value = SharpnessAware(base, 0.1)(module, images, targets)
    value.backward()
    assert float(value.detach()) == pytest.approx(float(base(twin, images, targets).detach()))
    gradients = torch.autograd.grad(base(twin, images, targets), list(twin.parameters()))
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    with torch.no_grad():
        for parameter, gradient in zip(twin.parameters(), gradients, strict=True):
            parameter.add_(0.1 * gradient / norm)
    above = torch.autograd.grad(base(twin, images, targets), list(twin.parameters()))
    for parameter, start, expected in zip(module.parameters(), net().parameters(), above, strict=True):
        assert torch.allclose(parameter, start)  # the weights are back
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, expected, atol=1e-7)


def test_the_jensen_shannon_term_is_a_mean_divergence() -> None:
    p = torch.tensor([[[0.7, 0.3]], [[0.2, 0.8]], [[0.5, 0.5]]], dtype=torch.float64)
    mean = p.mean(dim=0)
    expected = float((p * (p / mean).log()).sum() / 3)
    assert float(divergence(p.log())) == pytest.approx(expected)


def test_augmix_and_randaugment_are_torchvisions(data: Dataset) -> None:
    images, targets = batch()
    for ours, theirs in ((AugMix(3), v2.AugMix(3)), (RandAugment(2, 9), v2.RandAugment(2, 9))):
        torch.manual_seed(0)
        found = ours(images, targets, KEYS)[0]
        torch.manual_seed(0)
        expected = torch.stack([theirs((255 * image).round().to(torch.uint8)) for image in images]) / 255
        assert torch.allclose(found, expected)
    torch.manual_seed(0)
    consistent = Consistent(MeanLoss(data.task), AugMix(3))(net(), images, targets)
    torch.manual_seed(0)
    module, views = net(), [AugMix(3).view(images) for _ in range(2)]
    log_p = torch.stack([module(one).log_softmax(dim=-1) for one in (images, *views)])
    expected = F.cross_entropy(module(images), targets) + 12 * divergence(log_p)
    assert torch.allclose(consistent, expected, atol=1e-5)


def test_a_sum_of_names_builds_each_on_what_is_before_it(data: Dataset) -> None:
    found = recipe("short,epochs=8+mixup,alpha=0.4+label-smoothing+sam", data)
    assert (found.epochs, found.augment) == (8, Then(Mixup(10, 0.4), Smoothed(10, 0.1)))
    assert found.loss == SharpnessAware(MeanLoss(data.task), 0.05)
    assert found.name == "sam:(label-smoothing:(mixup:(short,epochs=8),alpha=0.4))"
    assert recipe("mixup:(short,epochs=8),alpha=0.4", data).augment == Mixup(10, 0.4)
    assert recipe("fast,milestones=3+4", data).milestones == (3, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mixup", "write mixup:RECIPE"),
        ("short+mixup,alpha=0", "invalid alpha=0.0"),
        ("short+label-smoothing,smoothing=2", "invalid smoothing=2.0"),
        ("short+pgd,steps=0", "invalid eps="),
        ("short+sam,rho=-1", "invalid rho=-1.0"),
        ("short+mixupp", "there is no recipe called 'mixupp'"),
    ],
)
def test_what_cannot_be_trained_with_is_refused(text: str, message: str, data: Dataset) -> None:
    with pytest.raises(UserError, match=message):
        recipe(text, data)


def test_mixing_labels_is_for_classification(data: Dataset) -> None:
    maps = replace(data, task=Segmentation(10))
    with pytest.raises(UserError, match="this recipe is for classification"):
        recipe("short+mixup", maps)


def test_a_budget_may_be_written_as_papers_do(data: Dataset) -> None:
    loss: Any = recipe("short+pgd,eps=4/255,step_size=0.5/255", data).loss
    assert (loss.eps, loss.step_size) == (4 / 255, 0.5 / 255)
    with pytest.raises(UserError, match="cannot be '4/0'"):
        recipe("short+pgd,eps=4/0", data)


@pytest.mark.parametrize("text", ["short+pgd,eps=8", "short+pgd,eps=-0.1", "short+pgd,step_size=2"])
def test_budgets_are_in_units_of_a_pixels_range(text: str, data: Dataset) -> None:
    with pytest.raises(UserError, match="from 0 to 1, in units of a pixel's range"):
        recipe(text, data)


@pytest.mark.parametrize(
    "text", ["mixup", "cutmix", "label-smoothing", "randaugment", "augmix", "augmix,jsd=false", "pgd,steps=2", "sam"]
)
def test_a_short_training_learns_and_repeats(text: str, data: Dataset) -> None:
    short = replace(recipe(f"short,epochs=2+{text}", data), batch_size=10, warmup=0.5)
    modules = [net(), net()]
    losses = [
        [epoch.train_loss for epoch in train(module, data, short, 0, torch.device("cpu"), lambda *_: None)]
        for module in modules
    ]
    assert losses[0] == losses[1]
    assert losses[0][1] < losses[0][0]
    assert all(map(torch.equal, modules[0].state_dict().values(), modules[1].state_dict().values()))
