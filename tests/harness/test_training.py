"""Training for real, on the embedded digits, with a network small enough for seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from stressbench import randomness, training, weights
from stressbench.cli.train import train as command
from stressbench.contracts import Dataset
from stressbench.datasets.digits import InMemory, digits
from stressbench.errors import UserError
from stressbench.training import loop, recipes

CPU = torch.device("cpu")
QUICK = replace(recipes.EMBEDDED, epochs=3, batch_size=32)


class Small(nn.Module):
    """Two convolutions and batch normalisation, and dropout that training alone turns on."""

    untrained = True

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.AvgPool2d(2),
            nn.Conv2d(3, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(32 * 16, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)


class Drawing(nn.Module):
    """One weight, and logits that a draw decides."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * randomness.dropout(torch.ones(len(images), 10), 0.5)


def silent(step: int, steps: int, loss: float) -> None:
    pass


def first(dataset: Dataset, n: int) -> Dataset:
    return replace(dataset, images=InMemory(dataset.images.read(0, n)), labels=dataset.labels[:n])


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """On networks this small, threads would mostly wait for each other, and all the more on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def train_set() -> Dataset:
    return digits("train")


@pytest.fixture(scope="module")
def test_set() -> Dataset:
    return digits("test")


def trained(train_set: Dataset, seed: int, recipe: training.Recipe = QUICK) -> nn.Module:
    module = training.fresh(Small, seed)
    training.train(module, train_set, recipe, seed, CPU, silent)
    return module


# --- the loop -------------------------------------------------------------------------------------------------


def test_a_small_network_learns_the_digits(train_set: Dataset, test_set: Dataset) -> None:
    calls: list[tuple[int, int, float]] = []
    module = training.fresh(Small, 0)
    result = training.train(module, train_set, QUICK, 0, CPU, lambda *call: calls.append(call), test_set)
    assert not module.training
    assert result.accuracy is not None
    assert result.nll is not None
    assert result.accuracy > 0.9
    assert 0 < result.nll < 0.4
    assert result.steps == 3 * 50  # 1,597 images in batches of at most 32
    assert [step for step, _, _ in calls] == list(range(1, result.steps + 1))
    assert {steps for _, steps, _ in calls} == {result.steps}
    assert result.loss == pytest.approx(sum(loss for *_, loss in calls[-50:]) / 50, rel=1e-4)
    assert calls[0][2] > 2 > 0.5 > result.loss


def test_one_seed_gives_one_network_and_another_seed_another(train_set: Dataset) -> None:
    few = first(train_set, 200)
    same = {weights.checksum(trained(few, seed=3)) for _ in range(2)}
    assert len(same) == 1
    assert weights.checksum(trained(few, seed=4)) not in same


def test_the_seed_decides_initial_weights_and_the_order_each(train_set: Dataset) -> None:
    few, one = first(train_set, 100), replace(QUICK, epochs=1)
    assert weights.checksum(training.fresh(Small, 1)) != weights.checksum(training.fresh(Small, 2))
    sums = set()
    for seed in (1, 2):
        module = training.fresh(Small, 0)
        training.train(module, few, one, seed, CPU, silent)
        sums.add(weights.checksum(module))
    assert len(sums) == 2


def test_the_callers_random_numbers_are_left_alone(train_set: Dataset, test_set: Dataset) -> None:
    before = torch.get_rng_state()
    module = training.fresh(Small, 0)
    training.train(module, first(train_set, 64), replace(QUICK, epochs=1), 0, CPU, silent, first(test_set, 10))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("learning_rate", [1e30, 1e38])
def test_a_diverging_training_is_the_users_to_mend(train_set: Dataset, learning_rate: float) -> None:
    with pytest.raises(UserError, match="diverged"):
        trained(first(train_set, 320), seed=0, recipe=replace(QUICK, learning_rate=learning_rate))


def test_weights_that_break_in_the_last_step_are_noticed(train_set: Dataset) -> None:
    module = training.fresh(Small, 0)
    one_step = replace(QUICK, epochs=1, batch_size=64, learning_rate=1e300, warmup=0)
    with pytest.raises(UserError, match="diverged"):
        training.train(module, first(train_set, 64), one_step, 0, CPU, silent)


def test_evaluation_of_a_stochastic_network_repeats_whatever_the_batch(
    test_set: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = first(test_set, 20)
    whole = training.evaluate(Drawing(), some, CPU)
    monkeypatch.setattr(loop, "_EVALUATION_BATCH", 7)
    assert training.evaluate(Drawing(), some, CPU) == pytest.approx(whole)


# --- augmentation ---------------------------------------------------------------------------------------------


def test_crops_are_windows_of_the_black_bordered_image() -> None:
    images = torch.arange(1, 4 * 3 * 5 * 6 + 1).view(4, 3, 5, 6).to(torch.uint8)
    bordered = torch.nn.functional.pad(images, [2] * 4)
    generator = torch.Generator().manual_seed(0)
    places: set[tuple[int, int, bool]] = set()
    for _ in range(60):
        crops = loop._augmented(images, replace(QUICK, padding=2, flip=True), generator)
        assert crops.dtype == torch.uint8
        assert crops.shape == images.shape
        for n in range(4):
            fits = {
                (top, left, flipped)
                for top in range(5)
                for left in range(5)
                for flipped in (False, True)
                for window in [bordered[n, :, top : top + 5, left : left + 6]]
                if torch.equal(crops[n], window.flip(-1) if flipped else window)
            }
            assert len(fits) == 1
            places |= fits
    assert len(places) == 5 * 5 * 2


def test_without_padding_and_flip_images_stay_as_they_are() -> None:
    images = torch.randint(256, (3, 3, 8, 8), dtype=torch.uint8)
    still = replace(QUICK, padding=0, flip=False)
    assert torch.equal(loop._augmented(images, still, torch.Generator()), images)


# --- recipes --------------------------------------------------------------------------------------------------


def test_the_paper_recipe_has_the_papers_numbers() -> None:
    paper = recipes.PAPER
    assert (paper.epochs, paper.batch_size, paper.momentum, paper.nesterov) == (200, 128, 0.9, False)
    assert (paper.weight_decay, paper.padding, paper.flip) == (5e-4, 4, True)
    moments = (0, 0.5, 1, 59.9, 60, 119.9, 120, 159.9, 160, 199.9)
    expected = (0, 0.05, 0.1, 0.1, 0.02, 0.02, 0.004, 0.004, 0.0008, 0.0008)
    assert [paper.rate(epoch) for epoch in moments] == pytest.approx(expected)
    large = recipes.PAPER_LARGE
    assert (large.epochs, large.batch_size, large.weight_decay) == (90, 256, 1e-4)
    assert [large.rate(e) for e in (29.9, 30, 60, 80)] == pytest.approx([0.1, 0.01, 0.001, 0.0001])


def test_one_cycle_rises_and_falls_to_nothing() -> None:
    recipe = replace(recipes.FAST, epochs=10, warmup=2.0, learning_rate=1.0)
    assert [recipe.rate(e) for e in (0, 1, 2, 6, 10)] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_fewer_epochs_keep_the_shape() -> None:
    short = recipes.PAPER.with_epochs(10)
    assert (short.epochs, short.milestones, short.warmup) == (10, (3, 6, 8), 1)
    assert recipes.EMBEDDED.with_epochs(1).warmup == 0.25
    with pytest.raises(UserError, match="0 epochs"):
        recipes.PAPER.with_epochs(0)


def test_a_dataset_decides_what_a_recipe_is(train_set: Dataset) -> None:
    photos, net = replace(train_set, embedded=False), Small()
    assert training.recipe_for(net, train_set).name == "fast"
    assert not training.recipe_for(net, train_set).flip
    assert not training.recipe_for(net, train_set, "paper").flip
    assert training.recipe_for(net, photos, "fast") == recipes.FAST
    assert training.recipe_for(net, photos, "paper") == recipes.PAPER
    assert training.recipe_for(net, replace(photos, image_size=(224, 224)), "paper") == recipes.PAPER_LARGE
    with pytest.raises(UserError, match="did you mean 'paper'"):
        training.recipe_for(net, photos, "papr")


@pytest.mark.parametrize(("budget", "epochs"), [(0.2, 1), (2.6, 3), (50, recipes.EMBEDDED_MOST_EPOCHS)])
def test_the_dearer_a_network_the_fewer_epochs_it_has_on_the_embedded_set(
    train_set: Dataset, monkeypatch: pytest.MonkeyPatch, budget: float, epochs: int
) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Dropout())
    # A multiplication and an addition for each position, tap, and channel in and out, in every image.
    work = 2 * (32 * 32) * (3 * 3) * (3 * 8) * 1597
    monkeypatch.setattr(recipes, "EMBEDDED_WORK", budget * work)
    before = torch.get_rng_state()
    assert training.recipe_for(net, train_set) == recipes.EMBEDDED.with_epochs(epochs)
    assert net.training
    assert torch.equal(torch.get_rng_state(), before)


def test_clipping_bounds_a_step(train_set: Dataset) -> None:
    few, moved = first(train_set, 64), []
    plain = replace(QUICK, epochs=1, batch_size=64, warmup=0, momentum=0, nesterov=False, weight_decay=0)
    for clip in (0.01, 1e9):
        module, start = training.fresh(Small, 0), training.fresh(Small, 0)
        training.train(module, few, replace(plain, learning_rate=1.0, clip=clip), 0, CPU, silent)
        pairs = zip(module.parameters(), start.parameters(), strict=True)
        moved.append(torch.cat([(a - b).flatten() for a, b in pairs]).norm().item())
    assert moved[0] == pytest.approx(0.005, rel=1e-3)  # the one step is at half of the cycle
    assert moved[1] > 10 * moved[0]


def test_the_command_offers_the_recipes_that_there_are() -> None:
    (option,) = [p for p in command.params if p.name == "recipe"]
    assert tuple(option.type.choices) == training.NAMES


# --- the weights that it leaves -------------------------------------------------------------------------------


def metadata(path: Path) -> dict[str, str]:
    """What a weights file says of itself, by safetensors' own reader."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def test_training_leaves_a_file_that_says_how_it_was_made(
    train_set: Dataset, test_set: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path))
    few, one = first(train_set, 128), replace(QUICK, epochs=1)
    path, result = training.train_and_store(
        "small,x=1", training.fresh(Small, 5), few, one, 5, CPU, silent, first(test_set, 20)
    )
    assert path == weights.stored("digits", "small,x=1", 5)
    told = metadata(path)
    assert {k: told[k] for k in ("model", "dataset", "split", "seed", "recipe", "epochs", "flip")} == {
        "model": "small,x=1",
        "dataset": "digits",
        "split": "train",
        "seed": "5",
        "recipe": "fast",
        "epochs": "1",
        "flip": "False",
    }
    assert float(told["train_loss"]) == result.loss
    assert float(told["accuracy"]) == result.accuracy
    read = Small()
    weights.load(read, path)
    assert weights.checksum(read) == weights.checksum(trained(few, seed=5, recipe=one))


def test_the_embedded_recipe_is_used_on_the_spot(
    train_set: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path))
    path = training.train_embedded("small", Small, first(train_set, 64), CPU, silent)
    assert path == weights.stored("digits", "small", 0)
    assert metadata(path)["epochs"] == str(recipes.EMBEDDED_MOST_EPOCHS)
    assert "accuracy" not in metadata(path)


def test_a_model_with_its_own_weights_is_not_trained(train_set: Dataset) -> None:
    with pytest.raises(UserError, match="weights of its own"):
        training.train_embedded("drawing", Drawing, train_set, CPU, silent)
