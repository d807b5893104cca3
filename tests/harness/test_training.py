"""The training loop and its recipes, for real, with networks small enough for seconds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stressbench import randomness, training, weights
from stressbench.contracts import Classification, Dataset, InMemory
from stressbench.datasets.digits import digits
from stressbench.errors import UserError
from stressbench.recipe import Recipe
from stressbench.training import evaluation, loop
from stressbench.training.augmentation import cropped
from stressbench_plugins.recipes import EMBEDDED
from tiny_models import Small

CPU = torch.device("cpu")
QUICK = replace(EMBEDDED, epochs=3, batch_size=32)


class Drawing(nn.Module):
    """One weight, and logits that a draw decides."""

    stochastic = True

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * randomness.dropout(torch.ones(len(images), 10), 0.5)


def silent(done: int, total: int, told: str) -> None:
    pass


def first(dataset: Dataset, n: int) -> Dataset:
    return replace(dataset, images=InMemory(dataset.images.read(0, n)), targets=InMemory(dataset.labels[:n]))


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


def trained(train_set: Dataset, seed: int, recipe: Recipe = QUICK) -> nn.Module:
    module = training.fresh(Small, seed)
    training.train(module, train_set, recipe, seed, CPU, silent)
    return module


# --- the loop -------------------------------------------------------------------------------------------------


def test_a_small_network_learns_the_digits(train_set: Dataset, test_set: Dataset) -> None:
    calls: list[tuple[int, int, str]] = []
    module = training.fresh(Small, 0)
    recipe = replace(QUICK, epochs=6, learning_rate=0.05)
    epochs = training.train(module, train_set, recipe, 0, CPU, lambda *call: calls.append(call), test_set)
    assert not module.training
    assert [(e.epoch, e.step) for e in epochs] == [(k, 50 * k) for k in range(1, 7)]  # 1,597 in batches of at most 32
    assert epochs[0].train_loss > 2 * epochs[-1].train_loss
    assert [e.learning_rate for e in epochs] == pytest.approx([recipe.rate(k - 0.01) for k in range(1, 7)])
    last = epochs[-1].held_out
    assert last is not None
    assert last["accuracy"] > 0.9
    assert 0 < last["nll"] < 0.3
    assert last == training.evaluate(module, test_set, CPU)
    # Every step is told, in images, and after each epoch what it came to.
    assert len(calls) == 1 + recipe.epochs * 50
    assert [done for done, *_ in calls] == sorted({done for done, *_ in calls})
    assert (calls[0][0], calls[-1][0]) == (0, 6 * 1597)
    assert {total for _, total, _ in calls} == {6 * 1597}
    assert calls[0][2] == "epoch 1 of 6"
    assert calls[-1][2] == (
        f"epoch 6 of 6, loss {epochs[-1].train_loss:.3f}; "
        f"test accuracy {last['accuracy']:.1%}, NLL {last['nll']:.3f}, ECE {last['ece']:.1%}"
    )


def test_measuring_changes_nothing(train_set: Dataset, test_set: Dataset) -> None:
    few, watched = first(train_set, 100), training.fresh(Small, 0)
    training.train(watched, few, QUICK, 0, CPU, silent, first(test_set, 20))
    assert weights.checksum(watched) == weights.checksum(trained(few, 0))


def test_what_a_network_caches_while_it_is_measured_serves_its_training(train_set: Dataset, test_set: Dataset) -> None:
    class Caching(Small):
        table: Tensor | None = None

        def forward(self, images: Tensor) -> Tensor:
            if self.table is None:
                self.table = torch.ones(1, 1, 1, 1)
            return self.body(images) * self.table.flatten()

    module = training.fresh(Caching, 0)
    training.evaluate(module, first(test_set, 20), CPU)
    training.train(module, first(train_set, 40), replace(QUICK, epochs=1), 0, CPU, silent)


def test_measured_numbers_are_their_definitions(test_set: Dataset) -> None:
    module, n = training.fresh(Small, 0).eval(), 130
    measured = training.evaluate(module, first(test_set, n), CPU)
    with torch.no_grad():
        p = module(test_set.images.read(0, n) / 255).double().softmax(1).numpy()
    labels = test_set.labels[:n].numpy()
    confidence, right = p.max(1), p.argmax(1) == labels
    bins = [(confidence > b / 10) & (confidence <= (b + 1) / 10) for b in range(10)]
    ece = sum(b.sum() / n * abs(right[b].mean() - confidence[b].mean()) for b in bins if b.any())
    assert measured["accuracy"] == pytest.approx(right.mean())
    assert measured["nll"] == pytest.approx(-np.log(p[np.arange(n), labels]).mean(), rel=1e-5)
    assert measured["ece"] == pytest.approx(ece, rel=1e-4)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_training_goes_on_from_any_epoch_bit_for_bit(train_set: Dataset, test_set: Dataset, stop: int) -> None:
    few, held_out = first(train_set, 100), first(test_set, 20)
    kept: list[training.Snapshot] = []

    def keep(snapshot: training.Snapshot) -> None:
        kept.append(training.Snapshot({k: v.clone() for k, v in snapshot.tensors.items()}, snapshot.epochs))

    whole = training.fresh(Small, 0)
    epochs = training.train(whole, few, QUICK, 0, CPU, silent, held_out, keep=keep)
    calls: list[int] = []
    again = training.fresh(Small, 1)  # what it was built with no longer matters
    resumed = training.train(
        again, few, QUICK, 0, CPU, lambda done, *_: calls.append(done), held_out, start=kept[stop - 1]
    )
    assert weights.checksum(again) == weights.checksum(whole)
    timeless = [[replace(e, seconds=0, images_per_second=0) for e in rows] for rows in (epochs, resumed)]
    assert timeless[0] == timeless[1]
    assert calls[0] == stop * 100


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


def test_a_loss_far_above_guessing_is_a_divergence_too(train_set: Dataset) -> None:
    module = training.fresh(Small, 0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter *= 300  # finite, wrong, and learning too slowly to recover
    with pytest.raises(UserError, match="diverged in epoch 1"):
        training.train(module, first(train_set, 100), replace(QUICK, learning_rate=1e-9), 0, CPU, silent)


def test_evaluation_of_a_stochastic_network_repeats_whatever_the_batch(
    test_set: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = first(test_set, 20)
    whole = training.evaluate(Drawing(), some, CPU)
    monkeypatch.setitem(evaluation._BATCH, "cpu", 7)
    assert training.evaluate(Drawing(), some, CPU) == pytest.approx(whole)


class Still(nn.Module):
    """Its logits are 0 whatever its parameters are, which all start from 1, so that weight decay alone moves them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 10)
        for parameter in self.parameters():
            nn.init.ones_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = 0 * self.linear(self.norm(self.conv(images)).mean(dim=(2, 3)))
        return logits


def test_weight_decay_leaves_normalisation_and_biases_alone_where_the_recipe_says_so(train_set: Dataset) -> None:
    matrices = {"conv.weight", "linear.weight"}
    for all_of_them in (True, False):
        recipe = replace(QUICK, weight_decay=0.1, decay_norm_and_bias=all_of_them)
        module = training.fresh(Still, 0)
        training.train(module, first(train_set, 64), recipe, 0, CPU, silent)
        moved = {name for name, parameter in module.named_parameters() if (parameter < 1).all()}
        still = {name for name, parameter in module.named_parameters() if (parameter == 1).all()}
        names = {name for name, _ in module.named_parameters()}
        assert moved == (names if all_of_them else matrices)
        assert still == names - moved


# --- training-phase ensembles -----------------------------------------------------------------------------------


def test_several_draws_average_the_prediction_and_not_the_loss() -> None:
    # Two draws of three images of two classes, by hand.
    draws = torch.tensor([[[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]], [[0.1, 0.9], [0.5, 0.5], [0.6, 0.4]]])
    labels = torch.tensor([0, 1, 1])
    turn = iter([1, 0, 1])  # the first pass is that of a single draw

    class Given(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return draws[next(turn)].log()

    images = torch.zeros(3, 3, 4, 4)
    one = loop._loss(Given(), images, labels, Classification(2), 1)
    assert float(one) == pytest.approx(-(math.log(0.1) + math.log(0.5) + math.log(0.4)) / 3)
    two = loop._loss(Given(), images, labels, Classification(2), 2)
    assert float(two) == pytest.approx(-(math.log(0.5) + math.log(0.5) + math.log(0.6)) / 3)


def test_the_variance_of_the_loss_falls_with_the_draws() -> None:
    """As the paper's appendix D.3 derives: for small variance of the confidence, in inverse proportion."""
    torch.manual_seed(0)

    class Noisy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.randn(1, 2) * 0.2

    images, labels = torch.zeros(1, 3, 4, 4), torch.tensor([0])
    task = Classification(2)
    variance = [torch.stack([loop._loss(Noisy(), images, labels, task, s) for _ in range(2000)]).var() for s in (1, 4)]
    assert float(variance[0] / variance[1]) == pytest.approx(4, rel=0.2)


def test_draws_are_drawn_anew_in_each_step(train_set: Dataset) -> None:
    sums = set()
    for draws in (1, 2):
        module = training.fresh(Drawing, 0)
        training.train(module, first(train_set, 64), replace(QUICK, draws=draws), 0, CPU, silent)
        sums.add(weights.checksum(module))
    assert len(sums) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_learns_the_digits_and_goes_on_too(train_set: Dataset, test_set: Dataset) -> None:
    cuda, kept = torch.device("cuda"), list[training.Snapshot]()
    recipe = replace(QUICK, epochs=4, learning_rate=0.05)

    def keep(snapshot: training.Snapshot) -> None:
        kept.append(training.Snapshot({k: v.clone() for k, v in snapshot.tensors.items()}, snapshot.epochs))

    for start in (None, 1):
        module = training.fresh(Small, 0)
        begun = None if start is None else kept[start]
        epochs = training.train(module, train_set, recipe, 0, cuda, silent, test_set, begun, keep)
        assert epochs[-1].held_out is not None
        assert epochs[-1].held_out["accuracy"] > 0.9
        assert len(epochs) == 4


class Dropping(Small):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(randomness.dropout(images, 0.3))


class ReadsBack(Small):
    """Waits for the GPU in each pass, which no CUDA graph can hold."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits if bool(logits.isfinite().all()) else logits.zero_()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("network", [Small, Dropping])
def test_steps_from_a_cuda_graph_are_the_same_steps(train_set: Dataset, network: type[nn.Module]) -> None:
    # Steps so short that rounding, which differs from run to run on a GPU, does not grow over them.
    recipe = replace(QUICK, epochs=3, learning_rate=1e-4, precision="float32")
    losses = [
        [
            epoch.train_loss
            for epoch in training.train(
                training.fresh(network, 0), train_set, recipe, 0, torch.device("cuda"), silent, cuda_graph=cuda_graph
            )
        ]
        for cuda_graph in (False, True)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4 if network is Small else 0.02)  # masks may differ


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_that_a_cuda_graph_cannot_hold_is_said(train_set: Dataset) -> None:
    with pytest.raises(UserError, match=r"cannot be captured in a CUDA graph .*leave --cuda-graph out"):
        training.train(training.fresh(ReadsBack, 0), train_set, QUICK, 0, torch.device("cuda"), silent, cuda_graph=True)


# --- augmentation ---------------------------------------------------------------------------------------------


def test_crops_are_windows_of_the_black_bordered_image() -> None:
    images = torch.arange(1, 4 * 3 * 5 * 6 + 1).view(4, 3, 5, 6).to(torch.uint8)
    bordered, labels = torch.nn.functional.pad(images, [2] * 4), torch.zeros(4, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    places: set[tuple[int, int, bool]] = set()
    for _ in range(60):
        crops, _ = cropped(images, labels, Classification(10), replace(QUICK, padding=2, flip=True), generator)
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
    labels = torch.arange(3)
    same = cropped(images, labels, Classification(3), still, torch.Generator())
    assert torch.equal(same[0], images)
    assert torch.equal(same[1], labels)


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


# --- precision ------------------------------------------------------------------------------------------------


def test_bfloat16_is_of_the_passes_alone(train_set: Dataset, test_set: Dataset) -> None:
    seen: list[tuple[bool, torch.dtype]] = []

    class Watched(Small):
        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images)
            seen.append((self.training, logits.dtype))
            return logits

    module = training.fresh(Watched, 0)
    recipe = replace(QUICK, epochs=6, learning_rate=0.05, precision="bfloat16")
    epochs = training.train(module, train_set, recipe, 0, CPU, silent, test_set)
    assert set(seen) == {(True, torch.bfloat16), (False, torch.float32)}
    assert {tensor.dtype for tensor in module.state_dict().values()} == {torch.float32, torch.int64}
    last = epochs[-1].held_out
    assert last is not None
    assert last["accuracy"] > 0.9
    # Eight bits change the numbers, and not what they come to.
    exact = training.train(training.fresh(Small, 0), train_set, replace(recipe, precision="float32"), 0, CPU, silent)
    assert epochs[0].train_loss != exact[0].train_loss
    assert epochs[0].train_loss == pytest.approx(exact[0].train_loss, rel=0.05)


def test_what_is_not_asked_for_depends_on_the_device() -> None:
    assert QUICK.arithmetic(CPU) == "float32"
    assert QUICK.arithmetic(torch.device("cuda")) == "bfloat16"
    assert replace(QUICK, precision="float32").arithmetic(torch.device("cuda")) == "float32"
