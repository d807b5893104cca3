"""Numbers of feature maps against numpy, loops and closed forms, and the blocks that they are taken after."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from batches import batch
from stressbench import randomness
from stressbench.cli import main
from stressbench.datasets.digits import digits
from stressbench.errors import UserError
from stressbench.sampling import Unjudged
from stressbench_plugins import cifar_resnet
from stressbench_plugins.layers import MCDropout, Smooth
from stressbench_suites.analysis.features import FeaturesSuite
from stressbench_suites.analysis.maps import OFFSETS, channels_first, covariance, relative_log_amplitude

CLEAN = {"images": "clean"}


class Maps(nn.Module):
    """A convolution, a dropout block and a smoothing layer, then a linear layer."""

    def __init__(self, rate: float = 0.3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stochastic = rate > 0
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.noisy = nn.Sequential(nn.Conv2d(4, 4, 1), MCDropout(rate))
        self.smooth = Smooth()
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.smooth(self.noisy(self.stem(images))))
        return logits


def measured(module: nn.Module, draws: tuple[int, ...] = (1,), **options: Any) -> tuple[Any, Any]:
    b = batch(4, classes=5, size=(8, 8))
    return b, FeaturesSuite(**options).measure(CLEAN, b, replace(Unjudged(module.eval()), sizes=draws))


def test_variances_and_spectra_are_numpys_of_the_maps_of_each_draw() -> None:
    module = Maps()
    b, found = measured(module, (1, 3))
    draws = []  # (S, N, C, H, W) of each place
    with torch.no_grad(), randomness.draw(b.keys, 0):
        for index in range(3):
            with randomness.redraw(index):
                stem = module.stem(b.images)
                noisy = module.noisy(stem)
                draws.append([one.double().numpy() for one in (stem, noisy, module.smooth(noisy))])
    for size in (1, 3):
        columns = found[size]
        assert columns["depth"][0].tolist() == [0, 0.5, 1]
        assert columns["smoothing"][0].tolist() == [False, False, True]
        for k in range(3):
            maps = np.stack([draw[k] for draw in draws[:size]])
            flat = maps.reshape(*maps.shape[:3], -1)
            np.testing.assert_allclose(columns["data_variance"][:, k], flat.var(-1, ddof=1).mean((0, 2)), rtol=1e-4)
            if size > 1:
                over_draws = maps.var(0, ddof=1).mean((1, 2, 3))
                np.testing.assert_allclose(columns["model_variance"][:, k], over_draws, rtol=1e-4, atol=1e-10)
            amplitude = np.log(np.abs(np.fft.fftshift(np.fft.fft2(maps), axes=(-2, -1))) + 1e-6).mean((0, 2))
            centre = maps.shape[-1] // 2
            # From the centre to a corner; the spectrum of real maps is the same on both sides of it.
            diagonal = np.stack([amplitude[:, centre - i, centre - i] for i in range(centre + 1)], axis=1)
            expected = diagonal - diagonal[:, :1]
            np.testing.assert_allclose(columns[f"spectrum_{k}"], expected, rtol=1e-3, atol=2e-3)
            np.testing.assert_allclose(columns["amplitude"][:, k], expected[:, -1], rtol=1e-3, atol=2e-3)
    assert bool(found[1]["model_variance"].isnan().all())


def test_a_row_has_the_metrics_of_the_mean_over_images() -> None:
    _, found = measured(Maps(), (4,))
    table = pd.DataFrame({name: list(value.numpy()) for name, value in found[4].items()})
    (row,) = FeaturesSuite().score([CLEAN], [table])
    data, model = (found[4][name].double().mean(0).numpy() for name in ("data_variance", "model_variance"))
    assert row["data_variance_ratio"] == pytest.approx(data[2] / data[0])
    assert model[0] == 0  # nothing is random in the stem, so that the first stochastic block comes after it
    assert row["first_model_variance"] == pytest.approx(model[1])
    assert row["model_variance_ratio"] == pytest.approx(model[2] / model[1])
    assert row["last_model_variance"] == pytest.approx(model[2])
    assert row["model_variance_before_smoothing"] == pytest.approx(model[1])
    assert row["model_variance_after_smoothing"] == pytest.approx(model[2])
    assert model[2] < model[1]  # smoothing averages neighbours whose masks are independent
    assert row["last_amplitude"] == pytest.approx(float(found[4]["amplitude"].double()[:, 2].mean()))


def test_a_network_without_random_layers_has_no_model_variance_to_begin_with() -> None:
    _, found = measured(Maps(rate=0.0), (4,))
    table = pd.DataFrame({name: list(value.numpy()) for name, value in found[4].items()})
    (row,) = FeaturesSuite().score([CLEAN], [table])
    assert (row["first_model_variance"], row["model_variance_ratio"], row["last_model_variance"]) == (None, None, 0)


def test_the_amplitude_of_waves_is_where_their_frequency_is() -> None:
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    wave = 3 + torch.cos(2 * torch.pi * 5 / 16 * (x + y))  # 3 at frequency 0, ½ at ±5
    found = relative_log_amplitude(wave[None, None])[0]
    assert len(found) == 9
    assert int(found[1:].argmax()) + 1 == 5
    assert float(found[5]) == pytest.approx(np.log(0.5 / 3), abs=1e-4)
    oblong = relative_log_amplitude(torch.rand(2, 3, 8, 12))
    assert oblong.shape == (2, 5)


def test_neighbours_of_a_convolution_of_noise_covary_as_its_kernel_does() -> None:
    torch.manual_seed(0)
    kernel = torch.randn(3, 3)
    noise = torch.randn(40, 1, 96, 96)
    maps = nn.functional.conv2d(noise, kernel[None, None])
    found = covariance(maps).mean(dim=0)
    for offset in range(OFFSETS):
        across = float((kernel[:, : 3 - offset] * kernel[:, offset:]).sum()) if offset < 3 else 0.0
        down = float((kernel[: 3 - offset] * kernel[offset:]).sum()) if offset < 3 else 0.0
        assert float(found[offset]) == pytest.approx((across + down) / 2, abs=0.1)
    small = covariance(torch.rand(2, 1, 3, 5))
    assert small.isnan().tolist() == [[False] * 3 + [True] * 5] * 2


def test_one_covariance_by_hand() -> None:
    maps = torch.tensor([[[[1.0, 3.0], [2.0, 2.0]]]])  # less its mean: −1, 1 and 0, 0
    # Distance 0: (1 + 1) / 4. Distance 1: in rows (−1·1 + 0) / 2, in columns (−1·0 + 1·0) / 2.
    np.testing.assert_allclose(covariance(maps)[0, :3], [0.5, -0.25, np.nan])


def test_maps_with_channels_last_are_turned() -> None:
    assert channels_first(torch.zeros(2, 7, 7, 96)).shape == (2, 96, 7, 7)
    assert channels_first(torch.zeros(2, 96, 7, 7)).shape == (2, 96, 7, 7)


def test_memory_does_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole = measured(Maps(), (2,), covariance=True)
    monkeypatch.setattr("stressbench_suites.analysis.features._MOST_BYTES", 1)
    _, single = measured(Maps(), (2,), covariance=True)
    for name, values in whole[2].items():
        torch.testing.assert_close(single[2][name], values, equal_nan=True, rtol=1e-3, atol=1e-4)


def test_networks_without_maps_are_refused() -> None:
    with pytest.raises(UserError, match="0 feature maps"):
        measured(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)))


def test_a_run_on_a_network_of_ours_and_one_of_nobodys(tmp_path: Path) -> None:
    net = tmp_path / "nets.py"
    net.write_text(
        "from torch import nn\n\ndef plain(dataset):\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), "
        "nn.Conv2d(4, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))\n"
    )
    for model in (f"file:{net}:plain", f"infer-dropout:(file:{net}:plain),location=2"):
        words = ["--model", model, "-o", "images=6", "-o", "covariance=true", "--batch-size", "4"]
        with pytest.raises(SystemExit) as ended:
            main(["run", "--suite", "features", *words, "--out", str(tmp_path / "runs")])
        assert not ended.value.code
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "runs").glob("*/record.json"))]
    plain, disturbed = sorted(records, key=lambda record: record["draws"])
    assert [row["condition"]["images"] for row in plain["conditions"]] == ["clean", "noise"]
    assert (plain["dataset"]["n"], plain["draws"], disturbed["draws"]) == (6, 1, 5)
    assert plain["metrics"]["last_model_variance"] is None
    assert disturbed["metrics"]["last_model_variance"] > 0
    low, high = plain["intervals"]["data_variance_ratio"]["1"]
    assert low < plain["metrics"]["data_variance_ratio"] < high


def test_depth_of_a_small_resnet_counts_its_smoothing() -> None:
    module = cifar_resnet.resnet20_smooth(digits("test")).eval()
    found = FeaturesSuite().measure(CLEAN, batch(2), Unjudged(module))[1]
    assert found["depth"].shape == (2, 13)  # the stem, nine blocks, three smoothing layers
    assert found["smoothing"][0].nonzero().flatten().tolist() == [4, 8, 12]
