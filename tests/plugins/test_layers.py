"""The layers against plain numpy, and MC dropout's promises about its draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stressbench import randomness
from stressbench.errors import UserError
from stressbench_plugins.layers import Blur, MCDropout, Normalise, Prob, Scale, Smooth

LINES = {1: [1], 2: [1, 1], 3: [1, 2, 1], 5: [1, 4, 6, 4, 1]}


def blur_by_hand(x: np.ndarray, line: list[int], stride: int = 1, mode: str = "constant") -> np.ndarray:
    """The blur of one map (H, W): each output pixel is the weighted mean of a window of the padded map."""
    pad = len(line) // 2
    padded = np.pad(x, pad, mode=mode)
    weights = np.array([[a * b for b in line] for a in line]) / sum(line) ** 2
    rows, columns = (range(0, n - len(line) + 1, stride) for n in padded.shape)
    return np.array([[(padded[i : i + len(line), j : j + len(line)] * weights).sum() for j in columns] for i in rows])


def prob_by_hand(x: np.ndarray, prob: str, temperature: float) -> np.ndarray:
    if prob == "tanh":
        return np.maximum(temperature * np.tanh(x / temperature), 0)
    if prob == "scale":
        return np.maximum(x / temperature, 0)
    return np.clip(x, 0, 6) if prob == "relu6" else x


@pytest.mark.parametrize("kernel", LINES)
@pytest.mark.parametrize(
    ("prob", "temperature", "effective"),
    [
        ("tanh", None, 10),
        ("tanh", 0.7, 0.7),
        ("relu6", None, 0),
        ("scale", None, 5),
        ("scale", 2.0, 2),
        ("none", None, 0),
    ],
)
def test_smooth_is_the_papers_formula(kernel: int, prob: str, temperature: float | None, effective: float) -> None:
    x = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0)) * 8
    layer = Smooth(temperature, prob, kernel)
    got = layer(x).numpy()
    assert got.shape == ((2, 3, 6, 5) if kernel == 2 else (2, 3, 5, 4))
    assert not layer.state_dict()
    for n in range(2):
        for c in range(3):
            expected = blur_by_hand(prob_by_hand(x[n, c].double().numpy(), prob, effective), LINES[kernel])
            np.testing.assert_allclose(got[n, c], expected, rtol=1e-5, atol=1e-6)


def test_the_usual_smooth_is_tanh_with_temperature_10_and_a_box_of_2() -> None:
    x = torch.randn(1, 2, 4, 4) * 8
    assert torch.equal(Smooth()(x), Smooth(10.0, "tanh", 2)(x))


def test_blur_counts_the_zeros_of_its_padding() -> None:
    blurred = Blur()(torch.ones(1, 1, 3, 3))
    assert blurred.tolist() == [[[[0.25, 0.5, 0.5, 0.25], [0.5, 1, 1, 0.5], [0.5, 1, 1, 0.5], [0.25, 0.5, 0.5, 0.25]]]]


@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
def test_a_strided_blur_reflects_its_borders(size: tuple[int, int]) -> None:
    x = torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(0))
    got = Blur(3, stride=2, reflect=True)(x)
    assert got.shape[2:] == tuple((n + 1) // 2 for n in size)
    for c in range(2):
        expected = blur_by_hand(x[0, c].double().numpy(), [1, 2, 1], stride=2, mode="reflect")
        np.testing.assert_allclose(got[0, c].numpy(), expected, rtol=1e-5, atol=1e-6)
    # Unlike zeros, reflected borders keep a constant map as it is.
    assert Blur(3, stride=2, reflect=True)(torch.ones(1, 1, 8, 8)).unique().tolist() == [1]


def test_prob_stays_below_the_temperature_and_keeps_small_values() -> None:
    z = torch.tensor([-5.0, 0.0, 0.01, 1e6])
    out = Prob(10.0)(z)
    assert out[:2].tolist() == [0, 0]
    assert out[2] == pytest.approx(0.01, rel=1e-5)
    assert out[3] == 10


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("prob", ["tanh", "scale"])
def test_a_temperature_that_bounds_nothing_is_refused(temperature: float, prob: str) -> None:
    with pytest.raises(UserError, match="temperature"):
        Smooth(temperature, prob)


@pytest.mark.parametrize("prob", ["relu6", "none"])
def test_a_temperature_where_there_is_none_is_refused(prob: str) -> None:
    with pytest.raises(UserError, match=f"prob={prob} has no temperature"):
        Smooth(10.0, prob)


@pytest.mark.parametrize("kernel", [0, 4, 6, -1])
def test_a_kernel_that_the_paper_does_not_have_is_refused(kernel: int) -> None:
    with pytest.raises(UserError, match=f"kernel={kernel}: .* 1, 2, 3, 5"):
        Smooth(kernel=kernel)


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


def test_layers_say_what_they_are() -> None:
    text = repr(Smooth(3.0, "scale", 5))
    assert "Scale(temperature=3.0)" in text
    assert "length=5" in text
    assert isinstance(Smooth(prob="scale")[0], Scale)
