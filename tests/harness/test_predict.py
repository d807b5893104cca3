"""A model's draws: their mean, what they do not depend on, and models that fail."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from stressbench import metrics, randomness, registry
from stressbench.contracts import Classification, Dataset
from stressbench.datasets.digits import digits
from stressbench.errors import UserError
from stressbench.execution import plan
from stressbench.execution.predict import Predictor
from stressbench.execution.request import RunRequest
from stressbench.locations import locate
from stressbench.tasks.classification import unusable
from stressbench_plugins.training_free import Disturbed, Noise
from tiny_models import Dropped, Masked, Tiny, Wrong


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return digits("test")


@pytest.fixture(scope="module")
def images(dataset: Dataset) -> Tensor:
    return dataset.images.read(0, 12) / 255


KEYS = randomness.image_keys(randomness.derive(0), torch.arange(12))


def predictor(module: nn.Module, draws: int = 1, stochastic: bool = False, chunk: int = 100) -> Predictor:
    return Predictor(module, registry.find("models", "tiny"), Classification(10), [draws], stochastic, "float32", chunk)


def test_a_deterministic_model_gives_its_log_softmax(dataset: Dataset, images: Tensor) -> None:
    module = Tiny(dataset)
    ours = predictor(module).predict(images, KEYS)
    assert ours.shape == (1, 12, 10)
    torch.testing.assert_close(ours[0], module(images).log_softmax(-1))


@pytest.mark.parametrize("chunk", [1, 5, 12])
def test_draws_follow_the_images_whatever_the_chunk(dataset: Dataset, images: Tensor, chunk: int) -> None:
    module = Dropped(dataset)
    whole = predictor(module, 4, True).predict(images, KEYS)
    torch.testing.assert_close(predictor(module, 4, True, chunk).predict(images, KEYS), whole)
    torch.testing.assert_close(predictor(module, 4, True).predict(images[3:5], KEYS[3:5]), whole[:, 3:5])
    # Draws differ, and more draws begin with the same ones, so that a curve over their number costs nothing.
    assert not torch.allclose(whole[0], whole[1])
    torch.testing.assert_close(predictor(module, 2, True).predict(images, KEYS), whole[:2])


def test_frames_of_a_sequence_have_draws_of_their_own(dataset: Dataset, images: Tensor) -> None:
    still = images[:4].unsqueeze(1).expand(4, 3, *images.shape[1:])
    ours = predictor(Dropped(dataset), 2, True, chunk=5).predict(still, KEYS[:4])
    assert ours.shape == (2, 4, 3, 10)
    assert not torch.allclose(ours[:, :, 0], ours[:, :, 1])
    plain = predictor(Tiny(dataset)).predict(still, KEYS[:4])
    torch.testing.assert_close(plain[0, :, 2], Tiny(dataset)(images[:4]).log_softmax(-1))


def test_a_module_that_knows_only_torchs_generator_is_reproducible(images: Tensor) -> None:
    class Plain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(x.flatten(1)[:, 500:510], 0.5, training=True)

    before = torch.get_rng_state()
    first, second = (predictor(Plain(), 3, True).predict(images, KEYS) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(torch.get_rng_state(), before)


class Halving(Dropped):
    """Halves its input in place before anything else."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(0.5))


class Halved(Dropped):
    """The same network without the change in place."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * 0.5)


@pytest.mark.parametrize(
    "wrapped", [lambda d, m: m, lambda d, m: Disturbed(m, "m", locate(m, d.image_size, "features"), Noise(0.1))]
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_every_draw_gets_the_images_that_the_first_one_got(
    dataset: Dataset,
    images: Tensor,
    wrapped: Callable[[Dataset, nn.Module], nn.Module],
    layout: torch.memory_format,
) -> None:
    given = images.clone(memory_format=layout)
    ours = predictor(wrapped(dataset, Halving(dataset)), 4, True).predict(given, KEYS)
    torch.testing.assert_close(ours, predictor(wrapped(dataset, Halved(dataset)), 4, True).predict(images, KEYS))
    assert torch.equal(given, images)


def test_a_sampler_is_asked_once_for_all_draws(images: Tensor) -> None:
    class Members(nn.Module):
        def draws(self, x: Tensor, n: int) -> Tensor:
            return torch.stack([x.flatten(1)[:, :10] * (s + 1) for s in range(n)])

    ours = predictor(Members(), 3, True).predict(images, KEYS)
    torch.testing.assert_close(ours[2], (images.flatten(1)[:, :10] * 3).log_softmax(-1))

    class TooFew(Members):
        def draws(self, x: Tensor, n: int) -> Tensor:
            return super().draws(x, n)[:1]

    with pytest.raises(UserError, match="gave 1 draws; it was asked for 3"):
        predictor(TooFew(), 3, True).predict(images, KEYS)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("shape", r"returned shape \(12, 9\) for 12 images of 10 classes; it must return logits \(12, 10\)"),
        ("nan", "NaN or infinite logits for 1 of 12 images"),
        ("list", "returned a list"),
        ("raise", "RuntimeError: the flux capacitor is empty"),
    ],
)
def test_a_model_that_fails_is_named_in_a_line(images: Tensor, answer: str, words: str) -> None:
    with pytest.raises(UserError, match=f"^model 'tiny' of tiny-models 1.0.*{words}"):
        predictor(Wrong(10, answer)).predict(images, KEYS)


class Large(Tiny):
    """Has memory for so many images."""

    def __init__(self, dataset: Dataset, room: int) -> None:
        super().__init__(dataset)
        self.room = room
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.room:
            raise torch.OutOfMemoryError("too large")
        return super().forward(x)


def test_running_out_of_memory_halves_the_chunk_for_good(dataset: Dataset, images: Tensor) -> None:
    module = Large(dataset, room=3)
    ours = predictor(module)
    torch.testing.assert_close(ours.predict(images, KEYS), predictor(Tiny(dataset)).predict(images, KEYS))
    assert module.sizes == [12, 6, 3, 3, 3, 3]
    ours.predict(images, KEYS)
    predictor(module).predict(images, KEYS)  # the next suite's
    assert module.sizes[6:] == [3] * 8
    other = Large(dataset, room=12)
    ours.of(other).predict(images, KEYS)  # stands for the same model
    assert other.sizes == [3] * 4


@pytest.mark.parametrize(
    ("room", "sizes", "later"),
    [
        (100, [1, 2, 4, 5], [8, 4]),  # as many as were left, and the largest that was allowed
        (3, [1, 2, 4, 2, 2, 2, 2, 1], [2] * 6),
        (1, [1, 2, *[1] * 11], [1] * 12),
    ],
)
def test_the_chunk_is_doubled_while_it_fits(
    room: int, sizes: list[int], later: list[int], dataset: Dataset, images: Tensor
) -> None:
    module = Large(dataset, room)
    entry = registry.find("models", "tiny")
    ours = Predictor(module, entry, Classification(10), [1], False, "float32", 1, most=8)
    torch.testing.assert_close(ours.predict(images, KEYS), predictor(Tiny(dataset)).predict(images, KEYS))
    assert module.sizes == sizes
    ours.predict(images, KEYS)
    assert module.sizes[len(sizes) :] == later


@pytest.mark.parametrize(
    ("device", "given", "largest"), [("cpu", None, 100), ("cpu", 7, 7), ("cuda", None, 8000), ("cuda", 7, 7)]
)
def test_only_a_gpu_is_given_more_than_a_batch_at_once(
    device: str, given: int | None, largest: int, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "pick_device", lambda _name: torch.device(device))
    request = RunRequest(("corruption",), ("tiny",), dataset, batch_size=given)
    (made,) = plan.make(request, dataset).plans
    assert made.largest == largest


def test_no_memory_for_one_image_is_an_error(images: Tensor) -> None:
    class Larger(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("too large")

    with pytest.raises(UserError, match="out of memory"):
        predictor(Larger()).predict(images, KEYS)


def test_the_model_is_in_eval_mode(images: Tensor) -> None:
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(images[0].numel()), nn.Linear(images[0].numel(), 10))
    ours = predictor(module.train()).predict(images, KEYS)
    torch.testing.assert_close(predictor(module).predict(images[:1], KEYS[:1])[:, 0], ours[:, 0])


def test_bfloat16_is_near_float32(dataset: Dataset, images: Tensor) -> None:
    low = Predictor(
        Tiny(dataset), registry.find("models", "tiny"), Classification(10), [1], False, "bfloat16", 100
    ).predict(images, KEYS)
    exact = predictor(Tiny(dataset)).predict(images, KEYS)
    assert low.dtype == torch.float32
    assert not torch.equal(low, exact)
    torch.testing.assert_close(low.exp(), exact.exp(), atol=0.05, rtol=0)
    assert math.isclose(float(low.exp().sum(-1).mean()), 1, abs_tol=1e-5)


def test_what_a_model_caches_while_it_predicts_serves_its_gradients(images: Tensor) -> None:
    """As tables of positions do, which are made in the first pass and kept."""

    class Caching(nn.Module):
        table: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            if self.table is None:
                self.table = torch.linspace(0, 3, x.shape[-1]).cos()
            return (x * self.table).flatten(1)[:, 500:510]

    module = Caching()
    predictor(module).predict(images, KEYS)
    given = images.clone().requires_grad_()
    module(given).sum().backward()
    assert given.grad is not None


# --- classes that are ruled out -------------------------------------------------------------------------------


def test_a_logit_of_minus_infinity_is_probability_zero(images: Tensor) -> None:
    data = replace(digits("test"), task=Classification(14))
    log_probs = Predictor(
        Masked(data), registry.find("models", "tiny"), Classification(14), [1], False, "float32", 100
    ).predict(images, KEYS)[0]
    rest = Tiny(data)(images)[:, :10].log_softmax(-1)
    torch.testing.assert_close(log_probs[:, :10], rest)
    assert (log_probs[:, 10:].exp() == 0).all()
    labels = torch.arange(12) % 10
    for found, expected in (
        (metrics.negative_log_likelihood(log_probs, labels), metrics.negative_log_likelihood(rest, labels)),
        (metrics.brier_score(log_probs, labels), metrics.brier_score(rest, labels)),
        (metrics.entropy(log_probs), metrics.entropy(rest)),
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("row", "wrong"), [([0.0, math.nan], 1), ([0.0, math.inf], 1), ([-math.inf] * 2, 1), ([0.0, -math.inf], 0)]
)
def test_rows_without_probabilities(row: list[float], wrong: int) -> None:
    assert unusable(torch.tensor([[1.0, 2.0], row])).tolist() == [False, bool(wrong)]
