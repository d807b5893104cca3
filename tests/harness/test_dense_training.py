"""Training on maps: crops of images and targets together, the recipe's own augmentation and loss, and Adam."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dense_plugins import CLASSES, VOID, Pixelwise, depths, masks
from stressbench import training, weights
from stressbench.contracts import Dataset, InMemory, Regression, Segmentation
from stressbench.recipe import Recipe
from stressbench.training.augmentation import cropped

CPU = torch.device("cpu")
ADAM = Recipe(epochs=3, batch_size=2, learning_rate=0.01, schedule="one-cycle", optimiser="adam", padding=2, warmup=0)


def silent(done: int, total: int, told: str) -> None:
    pass


@pytest.mark.parametrize("scale", [1, 2])
def test_targets_are_cropped_with_their_images_and_unknown_outside(scale: int) -> None:
    images = torch.arange(3 * 4 * 5, dtype=torch.uint8).view(1, 3, 4, 5).repeat(20, 1, 1, 1) + 1
    generator = torch.Generator().manual_seed(0)
    targets = images[:, :1].float().repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    pixels, moved = cropped(images, targets, Regression(1, "m", scale), ADAM, generator)
    expected = pixels[:, :1].float().repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    inside = expected > 0
    assert moved[inside].equal(expected[inside])
    assert moved[~inside].isnan().all()
    assert not inside.all()


def test_masks_are_void_outside_of_the_image() -> None:
    images, target = torch.ones(20, 3, 4, 5, dtype=torch.uint8), torch.full((20, 4, 5), 3)
    pixels, moved = cropped(images, target, Segmentation(CLASSES), ADAM, torch.Generator().manual_seed(0))
    assert moved.dtype == torch.int64
    assert moved.equal(torch.where(pixels[:, 0] > 0, 3, VOID))
    assert (moved == VOID).any()


@pytest.mark.parametrize("make", [masks, depths])
def test_dense_networks_learn_are_measured_and_resume_bit_for_bit(make: object) -> None:
    data: Dataset = make("train", None, None)  # type: ignore[operator]
    outputs = CLASSES if make is masks else 2
    kept: list[training.Snapshot] = []

    def keep(snapshot: training.Snapshot) -> None:
        kept.append(training.Snapshot({k: v.clone() for k, v in snapshot.tensors.items()}, snapshot.epochs))

    whole = Pixelwise(outputs)
    epochs = training.train(whole, data, ADAM, 0, CPU, silent, data, keep=keep)
    assert epochs[-1].train_loss < epochs[0].train_loss
    measured = epochs[-1].held_out
    assert measured is not None
    assert set(measured) == ({"accuracy", "nll", "ece", "miou"} if make is masks else {"rmse", "mae"})
    again = Pixelwise(outputs)
    resumed = training.train(again, data, ADAM, 0, CPU, silent, data, start=kept[0])
    assert weights.checksum(again) == weights.checksum(whole)
    assert [e.train_loss for e in resumed] == [e.train_loss for e in epochs]


def test_adam_makes_the_steps_of_its_definition() -> None:
    """One full batch a step, against the published formulas with the gradients of the same loss."""
    data = depths("train", None, None)
    recipe = replace(ADAM, epochs=2, batch_size=100, padding=0, flip=False, momentum=0.8, weight_decay=0)
    trained, module = Pixelwise(2), Pixelwise(2)
    training.train(trained, data, recipe, 0, CPU, silent)
    images, targets = data.images.read(0, 6) / 255, data.targets.read(0, 6)
    moments = {name: (torch.zeros(()), torch.zeros(())) for name, _ in module.named_parameters()}
    for step in (1, 2):
        loss = data.task.loss(module(images), targets).mean()
        gradients = torch.autograd.grad(loss, list(module.parameters()))
        for (name, parameter), gradient in zip(module.named_parameters(), gradients, strict=True):
            mean, square = moments[name]
            mean, square = 0.8 * mean + 0.2 * gradient, 0.999 * square + 0.001 * gradient**2
            moments[name] = (mean, square)
            rate = recipe.rate(step - 0.5)
            ratio = mean / (1 - 0.8**step) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
            parameter.data -= rate * ratio
    for one, other in zip(trained.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_recipes_augmentation_and_loss_take_the_place_of_the_usual_ones() -> None:
    data, seen = masks("train", None, None), []

    def augment(images: Tensor, targets: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(keys)
        return 1 - images, targets.clamp(max=1)

    def loss(module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        assert targets.max() <= 1
        return module(images).square().mean()

    recipe = replace(ADAM, batch_size=6, augment=augment, loss=loss, learning_rate=0.1)
    module = Pixelwise(CLASSES)
    training.train(module, data, recipe, 0, CPU, silent)
    sizes = [one.square().sum().item() for one in (module.layer.weight, Pixelwise(CLASSES).layer.weight)]
    assert sizes[0] < sizes[1]
    # A key for each image and epoch.
    assert len(torch.cat(seen).unique()) == 3 * 6


def test_held_out_images_keep_their_masks() -> None:
    from stressbench.training.job import _divided

    data = masks("train", None, None)
    kept, held_out = _divided(data, 2)
    assert isinstance(kept.targets, InMemory)
    pairs = {
        (image.numpy().tobytes(), mask.numpy().tobytes())
        for part in (kept, held_out)
        for image, mask in zip(part.images.read(0, 9), part.targets.read(0, 9), strict=True)
    }
    whole = zip(data.images.read(0, 6), data.targets.read(0, 6), strict=True)
    assert pairs == {(image.numpy().tobytes(), mask.numpy().tobytes()) for image, mask in whole}
