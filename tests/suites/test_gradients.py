"""The gradient of the loss against finite differences, and against draws made one by one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from batches import batch
from stressbench import randomness
from stressbench.contracts import Dataset, Part
from stressbench.datasets.digits import digits
from stressbench.errors import UserError
from stressbench_plugins.ensemble import Ensemble
from stressbench_suites.gradients import loss_gradient
from tiny_models import Dropped, Tiny


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return digits("test")


def test_it_is_the_slope_of_each_images_own_loss(dataset: Dataset) -> None:
    # Smooth, so that a difference over a step is the slope; the model is a plain one that has no draws.
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 20), nn.Tanh(), nn.Linear(20, 10)).double()
    b = batch(n=3)
    images = b.images.double()
    gradient = loss_gradient(model, images, b.targets, b.keys, draws=1)
    direction = torch.randn(images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    step = 1e-5 * direction
    with torch.no_grad():
        ahead, behind = (F.cross_entropy(model(images + s), b.targets, reduction="none") for s in (step, -step))
    torch.testing.assert_close((gradient * direction).sum((1, 2, 3)), (ahead - behind) / 2e-5, rtol=1e-5, atol=1e-8)
    assert gradient.dtype == images.dtype
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("kind", ["dropped", "ensemble"])
def test_it_is_the_mean_over_draws(kind: str, dataset: Dataset) -> None:
    members = [Tiny(dataset), Tiny(dataset)]
    nn.init.constant_(members[1].features.bias, 0.3)
    model = (
        Dropped(dataset)
        if kind == "dropped"
        else Ensemble([Part("tiny", seed, member) for seed, member in enumerate(members)])
    )
    b = batch(n=4)
    ours = loss_gradient(model, b.images, b.targets, b.keys, draws=2)
    singles: list[Tensor] = []
    for index in range(2):
        given = b.images.clone().requires_grad_()
        with randomness.draw(b.keys, index):
            logits = members[index](given) if kind == "ensemble" else model(given)
        F.cross_entropy(logits, b.targets, reduction="sum").backward()
        assert given.grad is not None
        singles.append(given.grad)
    torch.testing.assert_close(ours, (singles[0] + singles[1]) / 2, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(singles[0], singles[1])


def test_the_keys_decide_the_draws_and_torchs_generator_is_left_alone(dataset: Dataset) -> None:
    model, b = Dropped(dataset), batch(n=4)
    torch.manual_seed(5)
    first = loss_gradient(model, b.images, b.targets, b.keys, draws=2)
    drawn = torch.rand(3)
    assert torch.equal(first, loss_gradient(model, b.images, b.targets, b.keys, draws=2))
    assert not torch.equal(first, loss_gradient(model, b.images, b.targets, randomness.split(b.keys, 1)[:, 0], draws=2))
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    part = loss_gradient(model, b.images[2:3], b.targets[2:3], b.keys[2:3], draws=2)
    torch.testing.assert_close(part, first[2:3], rtol=1e-4, atol=1e-6)


def test_a_very_confident_answer_still_has_a_gradient() -> None:
    class Sure(nn.Module):
        """Class 0 by 30 nats, which float32 takes for certainty; brightness makes it surer, and nothing else counts."""

        def forward(self, images: Tensor) -> Tensor:
            mean = images.mean((1, 2, 3))
            return torch.stack([30 + mean, 0 * mean], dim=1)

    b = batch(n=2)
    gradient = loss_gradient(Sure(), b.images, torch.zeros(2, dtype=torch.int64), b.keys, draws=1)
    assert (gradient < 0).all()


def test_a_model_without_gradients_is_refused() -> None:
    class Blind(nn.Module):
        @torch.no_grad()
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3))

    b = batch(n=2, classes=3)
    with pytest.raises(UserError, match="gives no gradient"):
        loss_gradient(Blind(), b.images, b.targets, b.keys, draws=1)
