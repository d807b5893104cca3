"""The layers against plain numpy, and MC dropout's promises about its draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stressbench import randomness
from stressbench.errors import UserError
from stressbench_plugins.layers import Blur, MCDropout, Normalise, Prob, Smooth


def smooth_by_hand(x: np.ndarray, temperature: float) -> np.ndarray:
    """Smooth of one map (H, W), a sum for each output pixel over the four inputs around its corner."""
    prob = np.maximum(temperature * np.tanh(x / temperature), 0)
    height, width = x.shape
    out = np.zeros((height + 1, width + 1))
    for i in range(height + 1):
        for j in range(width + 1):
            around = [(i - 1, j - 1), (i - 1, j), (i, j - 1), (i, j)]
            out[i, j] = sum(prob[a, b] for a, b in around if 0 <= a < height and 0 <= b < width) / 4
    return out


@pytest.mark.parametrize("temperature", [10.0, 0.7])
def test_smooth_is_the_papers_formula(temperature: float) -> None:
    x = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0)) * 8
    got = Smooth(temperature)(x).numpy()
    assert got.shape == (2, 3, 6, 5)
    for n in range(2):
        for c in range(3):
            np.testing.assert_allclose(got[n, c], smooth_by_hand(x[n, c].double().numpy(), temperature), rtol=1e-5)


def test_blur_counts_the_zeros_of_its_padding() -> None:
    blurred = Blur()(torch.ones(1, 1, 3, 3))
    assert blurred.tolist() == [[[[0.25, 0.5, 0.5, 0.25], [0.5, 1, 1, 0.5], [0.5, 1, 1, 0.5], [0.25, 0.5, 0.5, 0.25]]]]


def test_prob_stays_below_the_temperature_and_keeps_small_values() -> None:
    z = torch.tensor([-5.0, 0.0, 0.01, 1e6])
    out = Prob(10.0)(z)
    assert out[:2].tolist() == [0, 0]
    assert out[2] == pytest.approx(0.01, rel=1e-5)
    assert out[3] == 10


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_bounds_nothing_is_refused(temperature: float) -> None:
    with pytest.raises(UserError, match="temperature"):
        Smooth(temperature)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_that_is_no_dropout_rate_is_refused(rate: float) -> None:
    with pytest.raises(UserError, match="rate"):
        MCDropout(rate)


def test_dropout_stays_on_in_eval_mode_and_keeps_the_mean() -> None:
    out = MCDropout(0.3).eval()(torch.ones(4, 10_000))
    kept = out[out > 0]
    assert kept.numel() / out.numel() == pytest.approx(0.7, abs=0.01)
    assert kept.allclose(torch.tensor(1 / 0.7))


def test_a_draw_repeats_and_does_not_depend_on_the_batch() -> None:
    layer = MCDropout(0.5)
    x = torch.rand(3, 2, 4, 4)
    keys = randomness.image_keys(1, torch.arange(3))
    with randomness.draw(keys, 0):
        together = layer(x)
    with randomness.draw(keys[1:2], 0):
        alone = layer(x[1:2])
    with randomness.draw(keys, 1):
        other = layer(x)
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(together, other)


def test_normalise_centres_each_channel_and_is_no_part_of_the_weights() -> None:
    layer = Normalise((0.1, 0.2, 0.3), (0.5, 0.25, 0.125))
    image = torch.tensor([0.6, 0.45, 0.425]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert layer(image).allclose(torch.ones(1, 3, 2, 2))
    assert not layer.state_dict()
