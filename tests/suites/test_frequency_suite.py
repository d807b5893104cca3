"""Bands of frequencies against NumPy's transform, and the suite's numbers against cases worked by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from batches import batch
from stressbench import randomness
from stressbench.cli import main
from stressbench.contracts import Batch, Condition, Dataset, Metrics
from stressbench.datasets.digits import digits
from stressbench.errors import UserError
from stressbench.sampling import Unjudged
from stressbench_suites.frequency import bands
from stressbench_suites.frequency.suite import FrequencySuite
from stressbench_suites.gradients import loss_gradient
from tiny_models import Dropped, Tiny

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return digits("test")


def radius(height: int, width: int) -> np.ndarray:
    """√(ω_y² + ω_x²) of each coefficient of NumPy's full transform, in radians per pixel."""
    row, column = np.meshgrid(2 * np.pi * np.fft.fftfreq(height), 2 * np.pi * np.fft.fftfreq(width), indexing="ij")
    return np.hypot(row, column)


def energies(signals: Tensor, count: int) -> np.ndarray:
    """The energy of signals (N, 3, H, W) in each band, (count, N), by the definition in words."""
    spectrum = np.abs(np.fft.fft2(signals.double().numpy())) ** 2
    where = radius(*signals.shape[-2:])
    edges = np.pi * np.arange(count + 1) / count
    edges[-1] = np.inf  # the corners
    inside = [(low - 1e-9 <= where) & (where < high - 1e-9) for low, high in pairwise(edges)]
    return np.stack([spectrum[..., mask].sum((1, 2)) for mask in inside])


def conditions_of(signal: str, suite: FrequencySuite) -> list[Condition]:
    return [condition for condition in suite.conditions() if condition["signal"] == signal]


# --- the bands ------------------------------------------------------------------------------------------------


@given(SIZES, st.integers(1, 30))
def test_the_masks_partition_the_spectrum_exactly(size: tuple[int, int], count: int) -> None:
    masks = bands.masks(*size, count)
    assert masks.shape == (count, size[0], size[1] // 2 + 1)
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(masks.sum(0), torch.ones(size[0], size[1] // 2 + 1))


@given(SIZES, st.integers(1, 30))
def test_a_coefficient_is_in_the_band_that_its_radius_says(size: tuple[int, int], count: int) -> None:
    index = bands.band_of(*size, count, torch.device("cpu")).numpy()
    where = radius(*size)[:, : size[1] // 2 + 1]
    assert (index[where >= np.pi - 1e-9] == count - 1).all()
    exact = where * count / np.pi
    clear = (np.abs(exact - exact.round()) > 1e-9) & (where < np.pi)
    assert (index[clear] == np.floor(exact[clear])).all()
    assert index[0, 0] == 0


def test_a_coefficient_on_an_edge_is_in_the_band_above() -> None:
    index = bands.band_of(20, 20, 10, torch.device("cpu"))
    # On the axes frequency k is kπ/10, and (3, 4) is 5π/10.
    assert index[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9]
    assert index[:11, 0].tolist() == index[0].tolist()
    assert index[3, 4] == index[4, 3] == index[-3, 4] == 5
    assert index[10, 10] == 9  # the corner, √2·π


@given(SIZES, st.integers(1, 12), st.integers(0, 1000))
def test_the_bands_of_a_signal_add_up_to_it(size: tuple[int, int], count: int, seed: int) -> None:
    signal = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    parts = torch.stack([bands.keep(signal, band, count) for band in range(count)])
    torch.testing.assert_close(parts.sum(0), signal, rtol=0, atol=1e-12)
    # Nothing of a part is in another band; and what is kept once is kept again.
    total = energies(signal, count)
    for band, part in enumerate(parts):
        share = energies(part, count)
        np.testing.assert_allclose(share[band], total[band], rtol=1e-9, atol=1e-18)
        assert (np.delete(share, band, axis=0) <= 1e-20 * max(1, total.sum())).all()
        torch.testing.assert_close(bands.keep(part, band, count), part, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("wave", "band"),
    [((0, 0), 0), ((0, 1), 0), ((0, 2), 1), ((5, 0), 3), ((3, 4), 3), ((8, 0), 5), ((16, 0), 9), ((16, 16), 9)],
)
def test_a_wave_passes_its_own_band_alone(wave: tuple[int, int], band: int) -> None:
    row, column = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    signal = torch.cos(2 * math.pi * (wave[0] * row + wave[1] * column) / 32).expand(1, 3, 32, 32)
    assert [bands.keep(signal, b, 10).norm().item() > 1e-4 for b in range(10)] == [b == band for b in range(10)]
    torch.testing.assert_close(bands.keep(signal, band, 10), signal)


# --- what is shown --------------------------------------------------------------------------------------------


def test_its_conditions_are_ten_bands_of_each_signal_after_the_clean_images() -> None:
    conditions = FrequencySuite().conditions()
    assert conditions[0] == {"signal": "none", "band": 0, "low": 0.0, "high": 0.0}
    assert [(c["signal"], c["band"]) for c in conditions[1:]] == [(s, b) for s in ("noise", "fgsm") for b in range(10)]
    assert conditions[4] == {"signal": "noise", "band": 3, "low": 0.9425, "high": 1.2566}
    assert conditions[20] == {"signal": "fgsm", "band": 9, "low": 2.8274, "high": 3.1416}
    assert len(FrequencySuite(signals=("fgsm",), bands=4).conditions()) == 5


@pytest.mark.parametrize("signal", ["noise", "fgsm"])
@pytest.mark.parametrize("size", [(32, 32), (24, 37)])
def test_what_is_added_lies_in_its_band_and_has_the_same_norm_everywhere(
    signal: str, size: tuple[int, int], dataset: Dataset
) -> None:
    suite, b, model = FrequencySuite(noise_rms=0.02, fgsm_rms=0.02), batch(size=size), Tiny(dataset)
    # Greys in the middle, so that nothing is clipped and what is shown less the image is what was added.
    b = replace(b, images=0.4 + 0.2 * b.images)
    for condition in conditions_of(signal, suite):
        stressed = suite.stress(condition, b, Unjudged(model))
        added = stressed.images.double() - b.images.double()
        share = energies(added, 10)
        outside = np.delete(share, int(condition["band"]), axis=0).sum(0)
        assert (outside < 1e-10 * share.sum(0)).all()
        norms = added.flatten(1).norm(dim=1)
        torch.testing.assert_close(
            norms, torch.full_like(norms, 0.02 * math.sqrt(3 * math.prod(size))), rtol=1e-4, atol=0
        )
        for name in ("norm", "clipped_norm"):
            torch.testing.assert_close(stressed.columns[name].double(), norms, rtol=1e-4, atol=0)


def test_clipping_is_seen_in_the_norm(dataset: Dataset) -> None:
    suite, b = FrequencySuite(noise_rms=0.5), batch()
    for condition in conditions_of("noise", suite):
        stressed = suite.stress(condition, b, Unjudged(Tiny(dataset)))
        assert 0 <= stressed.images.min() <= stressed.images.max() <= 1
        shown = (stressed.images - b.images).flatten(1).norm(dim=1)
        torch.testing.assert_close(stressed.columns["clipped_norm"], shown)
        assert (stressed.columns["clipped_norm"] < 0.9 * stressed.columns["norm"]).all()


def test_the_clean_images_are_shown_as_they_are(dataset: Dataset) -> None:
    suite, b = FrequencySuite(), batch()
    stressed = suite.stress(suite.conditions()[0], b, Unjudged(Tiny(dataset)))
    assert stressed.images is b.images
    assert stressed.columns["norm"].tolist() == [0] * 6


def test_the_step_is_the_sign_of_the_gradient_in_the_band(dataset: Dataset) -> None:
    suite, b, model = FrequencySuite(fgsm_rms=1e-3), batch(), Tiny(dataset)
    b = replace(b, images=0.4 + 0.2 * b.images)
    given = b.images.clone().requires_grad_()
    nn.functional.cross_entropy(model(given), b.targets, reduction="sum").backward()
    assert given.grad is not None
    spectrum = np.fft.fft2(given.grad.sign().double().numpy())
    inside = (radius(32, 32) >= 0.4 * np.pi) & (radius(32, 32) < 0.5 * np.pi - 1e-9)
    step = np.fft.ifft2(spectrum * inside).real
    step *= 1e-3 * math.sqrt(3072) / np.linalg.norm(step.reshape(6, -1), axis=1)[:, None, None, None]
    shown = suite.stress(conditions_of("fgsm", suite)[4], b, Unjudged(model)).images - b.images
    np.testing.assert_allclose(shown.numpy(), step, rtol=0, atol=1e-6)
    # And it does harm.
    with torch.no_grad():
        clean = nn.functional.cross_entropy(model(b.images), b.targets)
        for condition in conditions_of("fgsm", suite):
            assert (
                nn.functional.cross_entropy(model(suite.stress(condition, b, Unjudged(model)).images), b.targets)
                > clean
            )


def test_a_stochastic_models_step_is_averaged_over_draws_that_the_judge_does_not_use(dataset: Dataset) -> None:
    suite, b, model = FrequencySuite(), batch(), Dropped(dataset)
    b = replace(b, images=0.4 + 0.2 * b.images)
    condition = conditions_of("fgsm", suite)[5]
    shown = suite.stress(condition, b, Unjudged(model)).images - b.images

    def step(keys: Tensor, draws: int) -> Tensor:
        return suite.added(loss_gradient(model, b.images, b.targets, keys, draws).sign(), condition)

    own = randomness.split(b.keys, 1)[:, 0]
    torch.testing.assert_close(shown, step(own, 3), rtol=0, atol=1e-6)
    assert not torch.allclose(shown, step(b.keys, 3), atol=1e-4)
    assert not torch.allclose(shown, step(own, 2), atol=1e-4)


def test_images_depend_on_their_own_keys_alone(dataset: Dataset) -> None:
    suite, b = FrequencySuite(), batch()
    part = Batch(b.images[2:4], b.targets[2:4], b.indices[2:4], b.keys[2:4])
    for condition in (conditions_of("noise", suite)[2], conditions_of("fgsm", suite)[7]):
        whole = suite.stress(condition, b, Unjudged(Tiny(dataset))).images
        torch.testing.assert_close(
            suite.stress(condition, part, Unjudged(Tiny(dataset))).images, whole[2:4], rtol=0, atol=1e-6
        )
        assert torch.equal(suite.stress(condition, b, Unjudged(Tiny(dataset))).images, whole)
    noise = suite.stress(conditions_of("noise", suite)[2], b, Unjudged(Tiny(dataset))).images - b.images
    assert not torch.allclose(noise[0], noise[1], atol=1e-3)


def test_a_step_that_the_band_has_nothing_of_leaves_the_image_and_is_reported() -> None:
    class Bright(nn.Module):
        """Its gradient is the same at every pixel: all of it at frequency 0."""

        def forward(self, images: Tensor) -> Tensor:
            mean = images.mean((1, 2, 3))
            return torch.stack([mean, -mean], dim=1)

    # Of an odd size, a transform there and back leaves some rounding in bands that are empty.
    suite, b = FrequencySuite(signals=("fgsm",), bands=4), batch(classes=2, size=(29, 31))
    rows = []
    for condition in suite.conditions():
        stressed = suite.stress(condition, b, Unjudged(Bright()))
        columns = {**stressed.columns, **suite.observe(condition, b, Bright()(stressed.images).log_softmax(1)[None])}
        table = pd.DataFrame({name: column.numpy() for name, column in columns.items()})
        rows += suite.score([condition], [table])
    assert [row["unchanged"] for row in rows] == [None, 0, 1, 1, 1]
    findings = suite.findings(suite.conditions(), rows)
    assert [finding.check for finding in findings] == ["no_gradient"] * 3
    assert findings[0].message.startswith("100 % of the images have no gradient in band 1")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"signals": ("nois",)}, "no signal 'nois': did you mean 'noise'"),
        ({"signals": ()}, "no signal is named"),
        ({"bands": 0}, "bands=0"),
        ({"bands": 101}, "bands=101"),
        ({"noise_rms": 0.0}, "noise_rms=0.0"),
        ({"fgsm_rms": math.nan}, "fgsm_rms=nan"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        FrequencySuite(**options)  # type: ignore[arg-type]


@given(SIZES, st.integers(1, 40))
def test_images_too_small_for_so_many_bands_are_named(size: tuple[int, int], count: int) -> None:
    lacking = [band for band, mask in enumerate(bands.masks(*size, count)) if not mask.any()]
    assert bands.empty(*size, count) == lacking


def test_too_small_images_are_refused_in_a_line(dataset: Dataset) -> None:
    suite = FrequencySuite()
    assert suite.unsupported(dataset) is None
    small = suite.unsupported(replace(dataset, image_size=(8, 8)))
    assert small == (
        "images of 8×8 pixels have no frequency in band 1 of 10: give fewer bands, as --suite frequency,bands=4"
    )
    assert FrequencySuite(bands=4).unsupported(replace(dataset, image_size=(8, 8))) is None
    with pytest.raises(UserError, match="8×8 pixels"):
        suite.stress(suite.conditions()[1], batch(size=(8, 8)), Unjudged(Tiny(dataset)))


# --- the numbers ----------------------------------------------------------------------------------------------


def rows_of(conditions: list[Condition], accuracies: list[float]) -> list[Metrics]:
    return [{"accuracy": accuracy, "unchanged": 0.0} for _, accuracy in zip(conditions, accuracies, strict=True)]


def test_area_and_worst_band_by_hand() -> None:
    suite = FrequencySuite(bands=4)
    rows = rows_of(suite.conditions(), [0.9, 0.8, 0.4, 0.6, 0.4, 0.5, 0.3, 0.2, 0.1])
    record = suite.aggregate(suite.conditions(), rows)
    assert record["clean_accuracy"] == 0.9
    assert record["noise_auc"] == pytest.approx(0.55)
    assert record["noise_worst_accuracy"] == 0.4
    assert record["noise_worst_frequency"] == pytest.approx(3 / 8 * math.pi, abs=1e-4)  # the lower of two that tie
    assert record["fgsm_auc"] == pytest.approx(0.275)
    assert record["fgsm_worst_accuracy"] == 0.1
    assert record["fgsm_worst_frequency"] == pytest.approx(7 / 8 * math.pi, abs=1e-4)
    assert list(record) == [metric.name for metric in suite.metrics]


@given(st.lists(st.floats(0, 1), min_size=11, max_size=11), st.integers(1, 10))
def test_a_missing_band_is_never_a_partial_area(accuracies: list[float], left_out: int) -> None:
    suite = FrequencySuite(signals=("noise",))
    conditions = suite.conditions()
    rows = rows_of(conditions, accuracies)
    record = suite.aggregate(conditions, rows)
    step = np.repeat(accuracies[1:], 100)  # the curve, drawn finely
    assert record["noise_auc"] == pytest.approx(np.trapezoid(step, dx=1 / 999), abs=2e-3)
    assert record["noise_worst_accuracy"] == min(accuracies[1:])
    assert record["fgsm_auc"] is record["fgsm_worst_frequency"] is None
    del conditions[left_out], rows[left_out]
    record = suite.aggregate(conditions, rows)
    assert {name for name, value in record.items() if value is not None} == {"clean_accuracy"}


def test_rows_are_the_tables_means(dataset: Dataset) -> None:
    suite, b = FrequencySuite(), batch(n=50)
    condition = conditions_of("noise", suite)[9]
    log_probs = torch.randn(2, 50, 10, generator=torch.Generator().manual_seed(2)).log_softmax(-1)
    columns = {**suite.stress(condition, b, Unjudged(Tiny(dataset))).columns, **suite.observe(condition, b, log_probs)}
    (row,) = suite.score([condition], [pd.DataFrame({name: column.numpy() for name, column in columns.items()})])
    p = log_probs.double().exp().mean(0).numpy()
    labels = b.targets.numpy()
    assert row["accuracy"] == pytest.approx((p.argmax(1) == labels).mean())
    assert row["nll"] == pytest.approx(-np.log(p[np.arange(50), labels]).mean(), rel=1e-5)
    assert row["norm"] == pytest.approx(0.05 * math.sqrt(3072), rel=1e-5)
    assert row["unchanged"] == 0
    assert set(row) == {metric.name for metric in suite.row_metrics}


def test_a_run_from_the_command_line(tmp_path: Path) -> None:
    words = ["run", "--suite", "frequency,bands=3", "--model", "dropped", "--limit", "8", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 0
    (path,) = tmp_path.glob("*/record.json")
    record = json.loads(path.read_text())
    assert [c["condition"]["signal"] for c in record["conditions"]] == ["none", *["noise"] * 3, *["fgsm"] * 3]
    assert all(0 <= c["metrics"]["accuracy"] <= 1 for c in record["conditions"])
    assert all(value is not None for value in record["metrics"].values())
    assert record["conditions"][1]["metrics"]["norm"] == pytest.approx(0.05 * math.sqrt(3072), rel=1e-5)


def test_the_worst_bands_place_has_no_interval() -> None:
    """It is the place of a maximum: the jackknife's ends lay outside of [0, π]."""
    found = {metric.name: metric for metric in FrequencySuite.metrics}
    for signal in ("noise", "fgsm"):
        assert found[f"{signal}_worst_frequency"].interval is None
        assert found[f"{signal}_worst_frequency"].range == (0, math.pi)
        assert found[f"{signal}_worst_accuracy"].interval == "proportion"
