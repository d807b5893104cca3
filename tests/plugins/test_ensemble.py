"""Ensembles: which members there are, and which of them makes which draw."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stressbench import randomness
from stressbench.contracts import Dataset, Part, Sampler, Wrapper, traits
from stressbench.datasets.digits import digits
from stressbench.errors import UserError
from stressbench_plugins.ensemble import Ensemble, ensemble
from tiny_models import Dropped, Tiny

KEYS = randomness.image_keys(randomness.derive(1), torch.arange(6))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return digits("test")


@pytest.fixture(scope="module")
def images(dataset: Dataset) -> Tensor:
    return dataset.images.read(0, 6) / 255


def members(dataset: Dataset, kind: type[Tiny], size: int) -> Ensemble:
    built = [kind(dataset) for _ in range(size)]
    for seed, module in enumerate(built):
        nn.init.constant_(module.head.bias, seed)
    return Ensemble([Part("some", seed, module) for seed, module in enumerate(built)]).eval()


def test_which_members(dataset: Dataset) -> None:
    def named(argument: str, size: int | None = None) -> list[tuple[str, int]]:
        built = ensemble(dataset, argument, size)
        assert isinstance(built, Ensemble)
        return [(part.spec, part.seed) for part in built.parts()]

    assert named("tiny") == [("tiny", seed) for seed in range(5)]
    assert named("(tiny,width=4)", 2) == [("tiny,width=4", 0), ("tiny,width=4", 1)]
    assert named("tiny+dropped") == [("tiny", 0), ("dropped", 0)]
    assert named("(tiny,width=4)+tiny", 2) == [("tiny,width=4", 0), ("tiny", 0), ("tiny,width=4", 1), ("tiny", 1)]


@pytest.mark.parametrize(
    ("argument", "size", "words"),
    [
        ("tiny", 0, "size=0"),
        ("tiny+tiny", None, "names a model twice"),
        ("ensemble:tiny", 2, "ensemble inside"),
        ("tiny+", None, "has no name"),
        ("tinny", None, "did you mean 'tiny'"),
    ],
)
def test_what_is_no_ensemble_is_refused(dataset: Dataset, argument: str, size: int | None, words: str) -> None:
    with pytest.raises(UserError, match=words):
        ensemble(dataset, argument, size)


def test_draws_are_the_members(dataset: Dataset, images: Tensor) -> None:
    whole = members(dataset, Tiny, 3)
    assert isinstance(whole, Sampler)
    assert traits(whole).stochastic
    assert (whole.default_draws, whole.max_draws) == (3, 3)
    with torch.no_grad():
        naive = torch.stack([member(images) for member in whole.members])
        torch.testing.assert_close(whole.draws(images, 3), naive)
        torch.testing.assert_close(whole.draws(images, 2), naive[:2])
        torch.testing.assert_close(whole(images), naive[0])


def test_dropout_members_take_turns_with_masks_of_their_own(dataset: Dataset, images: Tensor) -> None:
    whole = members(dataset, Dropped, 2)
    assert (whole.default_draws, whole.max_draws) == (4, None)
    with torch.no_grad(), randomness.draw(KEYS, 0):
        ours = whole.draws(images, 5)
        naive = []
        for s in range(5):
            with randomness.redraw(s // 2, part=s % 2):
                naive.append(whole.members[s % 2](images))
            with randomness.redraw(s):
                torch.testing.assert_close(whole(images), naive[-1])
    torch.testing.assert_close(ours, torch.stack(naive))
    # Biases apart, the members are equal: what differs between them is their masks.
    assert not torch.allclose(ours[0] + 20, ours[1])
    assert not torch.allclose(ours[0], ours[2])


def test_fewer_draws_than_members_are_the_first_members(dataset: Dataset, images: Tensor) -> None:
    # Members that make their own draws, and would be asked for none.
    whole = ensemble(dataset, "(infer-noise:tiny,location=features)").eval()
    assert isinstance(whole, Ensemble)
    with torch.no_grad(), randomness.draw(KEYS, 0):
        torch.testing.assert_close(whole.draws(images, 2), whole.draws(images, 6)[:2])


def test_draws_do_not_depend_on_the_batch(dataset: Dataset, images: Tensor) -> None:
    whole = members(dataset, Dropped, 2)
    with torch.no_grad():
        with randomness.draw(KEYS, 0):
            together = whole.draws(images, 3)
        with randomness.draw(KEYS[4:5], 0):
            torch.testing.assert_close(whole.draws(images[4:5], 3), together[:, 4:5], rtol=1e-4, atol=1e-4)


def test_an_ensemble_of_wrappers_unwraps_to_one_of_what_they_wrap(dataset: Dataset) -> None:
    wrapped = ensemble(dataset, "(infer-dropout:tiny,location=features)+tiny", 1)
    assert not isinstance(wrapped, Wrapper)  # not all members can be unwrapped
    wrapped = ensemble(dataset, "(infer-dropout:tiny,location=features)", 2)
    assert isinstance(wrapped, Wrapper)
    assert isinstance(wrapped.unwrapped, Ensemble)
    assert [type(member) for member in wrapped.unwrapped.members] == [Tiny, Tiny]
    assert wrapped.unwrapped.default_draws == wrapped.unwrapped.max_draws == 2
