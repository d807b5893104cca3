"""Metrics of maps, against scikit-image, SciPy and loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import pearsonr

from stressbench import dense_metrics
from stressbench.contracts import Depth, SuperResolution
from stressbench.errors import UserError


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_psnr_and_ssim_are_those_of_scikit_image() -> None:
    measure = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    a = random(3, 3, 24, 31)
    b = (a + 0.1 * random(3, 3, 24, 31, seed=1)).clamp(0, 1)
    psnr, ssim = dense_metrics.peak_signal_to_noise_ratio(a, b), dense_metrics.structural_similarity(a, b)
    for i in range(3):
        x, y = a[i].double().numpy(), b[i].double().numpy()
        assert float(psnr[i]) == pytest.approx(measure.peak_signal_noise_ratio(x, y, data_range=1))
        settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        wanted = measure.structural_similarity(x, y, data_range=1, channel_axis=0, **settings)
        assert float(ssim[i]) == pytest.approx(wanted, rel=1e-9)


def test_equal_and_constant_images_have_a_psnr_and_an_ssim() -> None:
    grey = torch.full((1, 3, 16, 16), 0.5)
    assert float(dense_metrics.peak_signal_to_noise_ratio(grey, grey)) == 100
    assert float(dense_metrics.structural_similarity(grey, grey)) == pytest.approx(1)
    # Two constants a and b have no variance: (2ab + C₁) / (a² + b² + C₁).
    other = float(dense_metrics.structural_similarity(grey, torch.full((1, 3, 16, 16), 0.25)))
    assert other == pytest.approx((2 * 0.5 * 0.25 + 1e-4) / (0.25 + 0.0625 + 1e-4), rel=1e-6)
    with pytest.raises(ValueError, match="smaller than a window"):
        dense_metrics.structural_similarity(grey[..., :10], grey[..., :10])


def test_the_correlation_of_maps_is_pearsons_over_valid_pixels() -> None:
    a, b, valid = random(4, 50), random(4, 50, seed=1), random(4, 50, seed=2) < 0.7
    found = dense_metrics.map_correlation(a, b, valid)
    for i in range(4):
        assert float(found[i]) == pytest.approx(pearsonr(a[i][valid[i]].double(), b[i][valid[i]].double()).statistic)
    # However small the variance.
    tiny = dense_metrics.map_correlation(a.double() * 1e-200, b, valid)
    assert tiny.tolist() == pytest.approx(found.tolist())


def test_a_constant_map_and_one_without_valid_pixels_have_no_correlation() -> None:
    constant = torch.full((1, 9), 0.1)
    everywhere, nowhere = torch.ones(1, 9, dtype=torch.bool), torch.zeros(1, 9, dtype=torch.bool)
    assert dense_metrics.map_correlation(constant, random(1, 9), everywhere).isnan().all()
    assert dense_metrics.map_correlation(random(1, 9), torch.zeros(1, 9), everywhere).isnan().all()
    assert dense_metrics.map_correlation(random(1, 9), random(1, 9), nowhere).isnan().all()


def test_block_means_by_a_loop() -> None:
    values, blocks = random(2, 30), torch.randint(-1, 4, (2, 30), generator=torch.Generator().manual_seed(3))
    found = dense_metrics.block_means(values, blocks)
    for i in range(2):
        for pixel in range(30):
            inside = blocks[i] == blocks[i, pixel]
            wanted = np.nan if blocks[i, pixel] < 0 else float(values[i][inside].double().mean())
            assert float(found[i, pixel]) == pytest.approx(wanted, nan_ok=True)


def areas(uncertainty: NDArray[np.float64], error: NDArray[np.float64]) -> tuple[float, float]:
    """AUSE and AURG of distinct uncertainties, with a loop over the parts that are removed."""

    def area(by: NDArray[np.float64]) -> float:
        order = np.argsort(-by)
        curve = [error[order][k * len(error) // 20 :].mean() / error.mean() for k in range(20)]
        return float(np.trapezoid([*curve, curve[-1]], dx=0.05))

    return area(uncertainty) - area(error), 1 - area(uncertainty)


def test_sparsification_by_a_loop() -> None:
    uncertainty, error, valid = random(3, 200), random(3, 200, seed=1) ** 3, random(3, 200, seed=2) < 0.8
    ause, aurg = dense_metrics.sparsification(uncertainty, error, valid)
    for i in range(3):
        wanted = areas(uncertainty[i][valid[i]].double().numpy(), error[i][valid[i]].double().numpy())
        assert (float(ause[i]), float(aurg[i])) == pytest.approx(wanted)


def test_a_constant_uncertainty_is_worth_nothing_and_an_image_without_error_has_no_number() -> None:
    everywhere = torch.ones(1, 40, dtype=torch.bool)
    ause, aurg = dense_metrics.sparsification(torch.zeros(1, 40), random(1, 40), everywhere)
    assert float(aurg) == pytest.approx(0)
    assert float(ause) > 0
    for nothing in (
        dense_metrics.sparsification(random(1, 40), torch.zeros(1, 40), everywhere),
        dense_metrics.sparsification(random(1, 40), random(1, 40), ~everywhere),
    ):
        assert torch.stack(nothing).isnan().all()


def table(columns: object) -> object:
    import pandas as pd

    return pd.DataFrame({name: list(values.numpy()) for name, values in columns.items()})  # type: ignore[attr-defined]


def test_super_resolution_is_scored_by_means_over_images_of_the_mean_draw() -> None:
    draws, target = random(2, 3, 12, 16, 3) * 1.4 - 0.2, random(3, 3, 12, 16, seed=1)
    row = SuperResolution().score(table(SuperResolution().observe(draws, target)))  # type: ignore[arg-type]
    mean = draws.double().mean(0).movedim(-1, 1)
    cut = mean.clamp(0, 1).numpy()
    psnr = [10 * np.log10(1 / np.square(p - t).mean()) for p, t in zip(cut, target.double().numpy(), strict=True)]
    assert row["psnr"] == pytest.approx(np.mean(psnr))
    assert row["mae"] == pytest.approx(float((mean - target).abs().mean()))
    assert row.keys() == {metric.name for metric in SuperResolution.row_metrics}


def test_depth_is_scored_over_all_known_pixels() -> None:
    depth = torch.tensor([1.0, 2.0, 3.0, -1.0, 5.0]).view(1, 1, 1, 5, 1)
    target = torch.tensor([1.2, 2.0, 6.0, 1.0, torch.nan]).view(1, 1, 1, 5)
    row = Depth().score(table(Depth().observe(depth, target)))  # type: ignore[arg-type]
    assert row["abs_rel"] == pytest.approx((0.2 / 1.2 + 0 + 0.5 + 2) / 4)
    assert row["mae"] == pytest.approx((0.2 + 0 + 3 + 2) / 4)
    # Ratios are 1.2, 1, 2 and none: a negative depth is beyond every one of them.
    assert [row[f"delta{k}"] for k in (1, 2, 3)] == [0.5, 0.5, 0.5]
    unknown = torch.full((1, 1, 1, 5), torch.nan)
    assert set(Depth().score(table(Depth().observe(depth, unknown))).values()) == {None}  # type: ignore[arg-type]
    with pytest.raises(UserError, match="above 0"):
        Depth().require_targets(torch.zeros(1, 1, 2, 2), 1, (2, 2))
