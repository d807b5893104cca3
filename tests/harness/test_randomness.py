"""Random numbers that follow the image: their distribution, their independence, and what they do not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stressbench import randomness


def keys(n: int, seed: int = 0) -> torch.Tensor:
    return randomness.image_keys(randomness.derive(seed), torch.arange(n))


def test_mixing_is_the_published_splitmix64() -> None:
    # The first outputs of the reference generator for seed 0 (Steele, Lea and Flood; as in Java's SplittableRandom).
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    ours = randomness.image_keys(0, torch.arange(1, 4))
    assert [int(k) & (2**64 - 1) for k in ours] == expected


def test_words_are_the_hash_written_out_in_plain_integers() -> None:
    def mix(x: int) -> int:
        x ^= x >> 16
        x = x * 0x7FEB352D & 0xFFFFFFFF
        x ^= x >> 15
        x = x * 0x846CA68B & 0xFFFFFFFF
        return x ^ x >> 16

    key = keys(3)[2:]
    low, high = int(key) & 0xFFFFFFFF, int(key) >> 32 & 0xFFFFFFFF
    start = randomness.derive("stream", 7) & 0xFFFFFFFF
    expected = [mix(mix(mix((e * 0x9E3779B9 + start) & 0xFFFFFFFF) ^ low) + high & 0xFFFFFFFF) for e in range(50)]
    assert [int(w) & 0xFFFFFFFF for w in randomness.bits(key, 50, stream=7)[0]] == expected


def test_derived_seeds_are_stable_and_distinct() -> None:
    assert randomness.derive(0, {"b": 1, "a": "x"}) == randomness.derive(0, {"a": "x", "b": 1})
    seeds = {randomness.derive(s, {"corruption": c, "severity": v}) for s in range(3) for c in "abc" for v in range(5)}
    assert len(seeds) == 45
    assert all(0 <= s < 2**63 for s in seeds)


def test_uniform_numbers_are_uniform_within_and_across_images() -> None:
    numbers = randomness.uniform(keys(400), (500,)).numpy()
    assert 0 < numbers.min() < numbers.max() < 1
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3
    assert stats.kstest(numbers[:, 0], "uniform").pvalue > 1e-3
    assert stats.kstest(numbers[0], "uniform").pvalue > 1e-3


def test_extreme_words_give_numbers_inside_the_open_interval() -> None:
    words = torch.tensor([-(2**31), 2**31 - 1, 0, -1], dtype=torch.int32)
    unit = randomness._unit(words)
    assert unit.min() > 0
    assert unit.max() < 1


@pytest.mark.parametrize("shape", [(3, 8, 8), (7,)])
def test_normal_numbers_are_normal(shape: tuple[int, ...]) -> None:
    numbers = randomness.normal(keys(2000), shape)
    assert numbers.shape == (2000, *shape)
    assert numbers.isfinite().all()
    assert stats.kstest(numbers.numpy().ravel()[:100_000], "norm").pvalue > 1e-3
    assert stats.kstest(numbers.flatten(1)[:, -1].numpy(), "norm").pvalue > 1e-3


def test_images_streams_and_neighbouring_elements_are_uncorrelated() -> None:
    k = keys(300)
    first, second = (randomness.normal(k, (256,), stream).numpy() for stream in (0, 1))
    limit = 5.5 / np.sqrt(256)  # of about 45,000 correlations, none beyond 5.5 standard errors
    across = np.corrcoef(first)
    assert np.abs(across - np.eye(300)).max() < limit
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 5.5 / np.sqrt(first.size)
    assert abs(np.corrcoef(first[:, 1:].ravel(), first[:, :-1].ravel())[0, 1]) < 5.5 / np.sqrt(first.size)


@given(st.integers(0, 2**31), st.lists(st.integers(0, 10**6), min_size=1, max_size=8, unique=True))
def test_an_image_has_its_numbers_whatever_stands_beside_it(seed: int, positions: list[int]) -> None:
    together = randomness.uniform(randomness.image_keys(seed, torch.tensor(positions)), (5,))
    alone = [randomness.uniform(randomness.image_keys(seed, torch.tensor([p])), (5,)) for p in positions]
    assert torch.equal(together, torch.cat(alone))


def test_parts_of_an_image_have_keys_of_their_own() -> None:
    parts = randomness.split(keys(50), 31)
    assert parts.shape == (50, 31)
    assert parts.unique().numel() == 50 * 31
    assert torch.equal(randomness.split(keys(50)[7:8], 31), parts[7:8])


def test_dropout_keeps_the_mean_and_drops_the_share() -> None:
    x = torch.ones(200, 3, 8, 8)
    with randomness.draw(keys(200), 0):
        dropped = randomness.dropout(x, 0.3)
    share = float((dropped == 0).float().mean())
    assert share == pytest.approx(0.3, abs=5 * np.sqrt(0.21 / x.numel()))
    torch.testing.assert_close(dropped[dropped != 0].unique(), torch.tensor([1 / 0.7]))


def test_a_dropout_mask_follows_image_draw_and_layer_but_not_the_batch() -> None:
    x, k = torch.ones(6, 40), keys(6)

    def masks(rows: slice, index: int) -> list[torch.Tensor]:
        with torch.random.fork_rng(devices=[]), randomness.draw(k[rows], index):
            return [randomness.dropout(x[rows], 0.5) for _ in range(2)]

    whole = masks(slice(0, 6), 0)
    assert not torch.equal(whole[0], whole[1])
    assert torch.equal(masks(slice(2, 4), 0)[1], whole[1][2:4])
    assert not torch.equal(masks(slice(0, 6), 1)[0], whole[0])
    assert torch.equal(masks(slice(0, 6), 0)[0], whole[0])


def test_outside_a_draw_dropout_follows_torch() -> None:
    x = torch.ones(4, 100)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        ours = randomness.dropout(x, 0.4)
        torch.manual_seed(3)
        theirs = torch.nn.functional.dropout(x, 0.4, training=True)
    assert torch.equal(ours, theirs)


def test_dropout_refuses_a_batch_that_is_not_the_draws() -> None:
    with (
        torch.random.fork_rng(devices=[]),
        randomness.draw(keys(3), 0),
        pytest.raises(RuntimeError, match="batch of 6"),
    ):
        randomness.dropout(torch.ones(6, 2), 0.5)
