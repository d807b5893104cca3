"""The losses and recipes of dense regression, by loops, closed forms and torch's own gradients."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stressbench import registry, training, weights
from stressbench.contracts import Classification, Dataset, Depth, InMemory, SuperResolution
from stressbench.errors import UserError
from stressbench.recipe import Recipe
from stressbench_plugins import dense_recipes, losses
from stressbench_plugins.super_resolution import SRGAN, SRResNet

CPU = torch.device("cpu")
SPEC = "width=4,blocks=2"


def small(task: SuperResolution | Depth, n: int = 4) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n, 3, 8, 8), dtype=torch.uint8, generator=generator)
    shape = (n, task.channels, 8 * task.scale, 8 * task.scale)
    targets = torch.rand(shape, generator=generator) + 0.01
    return Dataset("some", "train", task, InMemory(images), InMemory(targets), (8, 8), embedded=True)


PHOTOS, ROAD = small(SuperResolution()), small(Depth())


def floats(data: Dataset) -> tuple[Tensor, Tensor]:
    return data.images.read(0, 4) / 255, data.targets.read(0, 4).clone()


def silent(done: int, total: int, told: str) -> None:
    pass


def test_berhu_by_a_loop() -> None:
    images, targets = floats(ROAD)
    targets[0, 0, 0] = torch.nan
    torch.manual_seed(0)
    module = nn.Conv2d(3, 1, 1)
    errors = [abs(float(e)) for e in (module(images) - targets).detach().flatten() if not math.isnan(float(e))]
    c = max(errors) / 5
    wanted = [e if e <= c else (e * e + c * c) / (2 * c) for e in errors]
    assert any(e <= c for e in errors)
    loss = losses.berhu(module, images, targets)
    assert loss.item() == pytest.approx(sum(wanted) / len(wanted))
    for unknown in (loss, losses.squared(module, images, module(images), targets)):
        module.zero_grad()
        unknown.backward()
        assert module.weight.grad is not None
        assert module.weight.grad.isfinite().all()
    module.zero_grad()
    # An error of nothing is a loss of nothing, with a gradient.
    zero = losses.berhu(module, images, module(images).detach())
    zero.backward()
    assert zero.item() == 0
    assert module.weight.grad is not None
    assert module.weight.grad.isfinite().all()


def test_the_adversarial_loss_trains_either_side_by_its_own_part() -> None:
    images, targets = floats(PHOTOS)
    torch.manual_seed(0)
    net, loss = SRResNet(3, 4, 4, 2), losses.Adversarial(3, width=4)
    judge = loss.discriminator
    net.eval()
    loss(net, images, targets).backward()
    outputs = net(images)
    one, zero = torch.ones(4, 1), torch.zeros(4, 1)
    called = F.binary_cross_entropy_with_logits
    ours = 100 * (2 * outputs - 2 * targets).square().mean() + called(judge(2 * outputs - 1), one)
    for parameter, wanted in zip(net.parameters(), torch.autograd.grad(ours, list(net.parameters())), strict=True):
        torch.testing.assert_close(parameter.grad, wanted)
    theirs = called(judge(2 * targets - 1), one) + called(judge(2 * net(images).detach() - 1), zero)
    for parameter, wanted in zip(
        judge.parameters(), torch.autograd.grad(theirs, list(judge.parameters())), strict=True
    ):
        torch.testing.assert_close(parameter.grad, wanted)


def test_a_training_against_a_discriminator_resumes_bit_for_bit() -> None:
    def recipe() -> Recipe:
        made = registry.recipe("adversarial,width=4", PHOTOS, SRGAN(3, 4, 4, 1))
        return replace(made.with_options(epochs=3), batch_size=2)

    def fresh() -> nn.Module:
        torch.manual_seed(0)
        return SRGAN(3, 4, 4, 1)

    kept: list[training.Snapshot] = []

    def keep(snapshot: training.Snapshot) -> None:
        kept.append(training.Snapshot({k: v.clone() for k, v in snapshot.tensors.items()}, snapshot.epochs))

    whole, again = fresh(), fresh()
    epochs = training.train(whole, PHOTOS, recipe(), 0, CPU, silent, keep=keep)
    assert any(name.startswith("loss.discriminator") for name in kept[0].tensors)
    before = losses.Adversarial(3, 4).state_dict()
    moved = [not torch.equal(kept[-1].tensors[f"loss.{name}"], value) for name, value in before.items()]
    assert all(moved)
    resumed = training.train(again, PHOTOS, recipe(), 0, CPU, silent, start=kept[0])
    assert weights.checksum(again) == weights.checksum(whole)
    assert [e.train_loss for e in resumed] == [e.train_loss for e in epochs]
    # The same recipe says the same of itself: no address in memory.
    assert recipe().described() == recipe().described()


def test_the_variance_of_a_transform_weights_each_pixel() -> None:
    images, targets = floats(ROAD)
    # Sees the pixel on its left, whose mirrored twin is the one on its right.
    net = nn.Conv2d(3, 1, (1, 3), padding=(0, 1), bias=False)
    net.weight.data.zero_()
    net.weight.data[0, 0, 0, 0] = 1
    weighted = losses.VarianceWeighted("flip", "2", 0.1, 8)
    left = F.pad(images[:, :1], (1, 0))[..., :-1]
    right = F.pad(images[:, :1], (0, 1))[..., 1:]
    variance = ((left - right) / 2).square()
    torch.testing.assert_close(weighted.variance(net, images), variance)
    assert net.training
    outputs = net(images)
    wanted = (variance / variance.mean() * (outputs - targets).square()).mean()
    torch.testing.assert_close(weighted(net, images, outputs, targets), wanted)


@pytest.mark.parametrize("disturbance", ["dropout", "noise", "dihedral"])
def test_fine_tuning_by_variance_runs_from_a_recipe(disturbance: str) -> None:
    torch.manual_seed(0)
    net = SRResNet(3, 4, 4, 2)
    name = f"variance-weighted:super-resolution,epochs=1,disturbance={disturbance},samples=2"
    recipe = registry.recipe(name, PHOTOS, net)
    before = weights.checksum(net)
    training.train(net, PHOTOS, recipe, 0, CPU, silent)
    assert weights.checksum(net) != before
    adversarial = registry.recipe("variance-weighted:adversarial", PHOTOS, net).loss
    assert isinstance(adversarial, losses.Adversarial)
    assert isinstance(adversarial.pixel, losses.VarianceWeighted)
    with pytest.raises(UserError, match="no squared error to weight"):
        registry.recipe("variance-weighted:depth", PHOTOS, net)


def test_recipes_have_the_papers_numbers() -> None:
    recipe = registry.recipe("super-resolution", PHOTOS, SRResNet(3, 4, 4, 1))
    assert (recipe.optimiser, recipe.learning_rate, recipe.momentum, recipe.batch_size) == ("adam", 1e-4, 0.9, 16)
    assert (recipe.padding, recipe.flip, recipe.rate(0), recipe.rate(99)) == (0, False, 1e-4, 1e-4)
    with pytest.raises(UserError, match="is for regression, and some is for classification"):
        registry.recipe("depth", replace(ROAD, task=Classification(3)), nn.Linear(1, 1))


def test_an_embedded_set_is_trained_by_the_loss_that_the_network_is_for() -> None:
    def fast(spec: str, data: Dataset) -> Recipe:
        return registry.recipe("fast", data, registry.model(spec, data))

    plain, gan = fast(f"srresnet,{SPEC}", PHOTOS), fast(f"srgan,{SPEC}", PHOTOS)
    assert plain.loss is None
    assert isinstance(gan.loss, losses.Adversarial)
    assert fast("fcrn,encoder=resnet18", ROAD).loss is losses.berhu
    assert plain.epochs == dense_recipes.EMBEDDED_MOST_EPOCHS
    assert (
        fast("srresnet", replace(PHOTOS, images=InMemory(torch.zeros(10**4, 3, 8, 8, dtype=torch.uint8)))).epochs < 80
    )


def test_recoloured_pairs_have_one_order_of_channels_and_one_sign() -> None:
    images = torch.rand(40, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    targets = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    seen, larger = dense_recipes.recoloured(images, targets, torch.arange(40))
    torch.testing.assert_close(larger, seen.repeat_interleave(2, 2).repeat_interleave(2, 3))
    kinds = set()
    for image, before in zip(seen, images, strict=True):
        fits = [
            (order, sign)
            for order in permutations(range(3))
            for sign in (1, -1)
            if torch.allclose(image, (before[list(order)] - 0.5) * sign + 0.5, atol=1e-6)
        ]
        assert len(fits) == 1
        kinds.update(fits)
    assert len(kinds) == 12
