"""The dense-uncertainty suite, by hand-worked maps, SciPy and NumPy; and through whole runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import entropy, pearsonr

import dense_plugins
from conftest import ROOT, write_distribution
from dense_plugins import CLASSES, VOID, Pixelwise
from stressbench import locations, passes, randomness
from stressbench.cli import main
from stressbench.contracts import Regression, Segmentation
from stressbench.errors import UserError
from stressbench.plots import by_axis
from stressbench.results.runs import load_alike
from stressbench_suites.dense import blocks as superpixels
from stressbench_suites.dense.maps import columns, maps
from stressbench_suites.dense.suite import DenseUncertaintySuite

pytest.importorskip("skimage", reason="scikit-image is not installed")


@pytest.fixture(autouse=True, scope="module")
def _plugins(tmp_path_factory: pytest.TempPathFactory) -> Any:
    site = tmp_path_factory.mktemp("dense")
    points = {
        "stressbench.datasets": {"masks": "dense_plugins:masks", "depths": "dense_plugins:depths"},
        "stressbench.models": {"pixelwise": "dense_plugins:pixelwise", "dropping": "dense_plugins:dropping"},
    }
    write_distribution(site, "dense-plugins", points)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.syspath_prepend(str(ROOT / "tests"))
        yield


def bench(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def record(out: Path, *words: object) -> dict[str, Any]:
    assert bench("run", "--suite", "dense-uncertainty", *words, "--out", out) == 0
    (path,) = out.glob("*/record.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_regression_maps_by_hand() -> None:
    # Two draws of two values for two pixels, the second of which has no target.
    draws = torch.tensor([[[[1.0, 3.0], [0.0, 0.0]]], [[[3.0, 3.0], [0.0, 0.0]]]])
    target = torch.tensor([[[2.0, torch.nan]], [[5.0, 1.0]]])
    found = maps(Regression(2, "m"), draws, torch.tensor([[[1.0, 4.0], [0.0, 0.0]]]), target)
    assert found.valid.tolist() == [[True, False]]
    variance, l1 = found.pairs["l1"]
    assert float(variance[0, 0]) == 0.5  # of 1 and 3 it is 1, of 3 and 3 it is 0
    assert float(l1[0, 0]) == 1.0
    assert float(found.pairs["l2"][1][0, 0]) == 1.0
    assert float(found.loss) == 1.0
    # (1 + 4)/2 and (1 + 4)/2
    assert float(found.disturbed_loss) == 2.5


def test_segmentation_maps_are_scipys() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(3, 4, 5, CLASSES, generator=generator).log_softmax(-1)
    tested = torch.randn(4, 5, CLASSES, generator=generator).log_softmax(-1)
    target = torch.randint(CLASSES, (4, 5), generator=generator)
    target[0, 0] = VOID
    found = maps(Segmentation(CLASSES), draws, tested, target)
    p = draws.double().exp().numpy()
    np.testing.assert_allclose(found.pairs["entropy"][0], entropy(p.mean(0), axis=-1), rtol=1e-5)
    np.testing.assert_allclose(found.pairs["variance"][0], p.var(0).sum(-1), rtol=1e-6)
    valid = target.numpy() != VOID
    losses = -np.take_along_axis(tested.double().numpy(), np.where(valid, target, 0)[..., None], -1)[..., 0]
    assert float(found.loss) == pytest.approx(losses[valid].mean())
    each = [-one[valid, target[valid]].double().mean() for one in draws]
    assert float(found.disturbed_loss) == pytest.approx(float(np.mean(each)))


def test_correlations_of_pixels_and_of_blocks_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    variance = torch.tensor([[1.0, 3.0, 2.0, 6.0, 9.0]])
    error = torch.tensor([[2.0, 2.0, 5.0, 1.0, 9.0]])
    # Two blocks of two pixels each; the last pixel has no target.
    numbers = torch.tensor([[0, 0, 1, 1, -1]])
    monkeypatch.setattr("stressbench_suites.dense.maps.blocks", lambda *_: numbers)
    spread = variance.sqrt()
    draws = torch.stack([5 - spread, 5 + spread])[..., None]
    target = torch.where(numbers >= 0, 5 + error, torch.nan)[None]
    found = columns(maps(Regression(1, "m"), draws, torch.full((1, 5, 1), 5.0), target))
    v, e = variance[0, :4].double().numpy(), error[0, :4].double().numpy()
    assert float(found["corr_pixel_l1"]) == pytest.approx(pearsonr(v, e).statistic)
    assert float(found["corr_pixel_l2"]) == pytest.approx(pearsonr(v, e**2).statistic)
    # Block means are 2, 2, 4, 4 and 2, 2, 3, 3: the larger variance has the larger error.
    assert float(found["corr_block_l1"]) == pytest.approx(1)
    assert float(found["uncertainty_l1"]) == pytest.approx(3)
    assert float(found["error_l1"]) == pytest.approx(2.5)


def test_a_condition_is_scored_over_images_that_have_a_number() -> None:
    table = pd.DataFrame(
        {
            **{f"{kind}_{name}": [0.5, 0.1, np.nan] for kind in ("corr_pixel", "corr_block") for name in ("l1", "l2")},
            **{f"uncertainty_{name}": [1.0, 3.0, 2.0] for name in ("l1", "l2")},
            **{f"error_{name}": [1.0, 2.0, 4.0] for name in ("l1", "l2")},
            "ause": [0.2, 0.4, np.nan],
            "aurg": [0.1, 0.3, np.nan],
            "loss": [1.0, 2.0, 3.0],
            "disturbed_loss": [2.0, 2.0, 5.0],
        }
    )
    suite = DenseUncertaintySuite()
    (row,) = suite.score([{"disturbance": "own"}], [table])
    assert row["corr_pixel_l1"] == pytest.approx(0.3)
    assert row["corr_mean_l1"] == pytest.approx(pearsonr([1, 3, 2], [1, 2, 4]).statistic)
    assert (row["loss"], row["tolerability"]) == (2.0, 1.0)
    assert row["uncorrelated"] == pytest.approx(1 / 3)
    assert [finding.check for finding in suite.findings([{"disturbance": "own"}], [row])] == ["constant-maps"]
    (without,) = suite.score([{"disturbance": "own"}], [table.drop(columns="disturbed_loss")])
    assert without["tolerability"] is None


def test_blocks_follow_the_prediction() -> None:
    prediction, valid = torch.zeros(20, 40, 1), torch.ones(20, 40, dtype=torch.bool)
    prediction[:, 20:] = 1
    valid[0, 0] = False
    found = superpixels.blocks(prediction, valid)
    assert found[0, 0] == -1
    left, right = set(found[:, :20].flatten().tolist()), set(found[:, 20:].flatten().tolist())
    assert not left & right
    # A constant map has blocks, too.
    assert len(superpixels.blocks(torch.ones(20, 40, 2), valid).unique()) > 2


def test_a_wrappers_run_is_of_its_undisturbed_prediction(tmp_path: Path) -> None:
    spec = "infer-noise:pixelwise,sigma=0.3,location=0"
    found = record(tmp_path, "--model", spec, "--dataset", "depths", "--draws", "4", "--batch-size", "4")
    (row,) = found["conditions"]
    data = dense_plugins.depths("test", None, None)
    images, target = data.images.read(0, 6) / 255, data.targets.read(0, 6)
    net = Pixelwise(2)
    keys = randomness.image_keys(randomness.derive(0, {"disturbance": "own"}), torch.arange(6))
    place = locations.locate(net, dense_plugins.SIZE, "0")
    with torch.no_grad(), randomness.draw(keys, 0):
        drawn = passes.changed(net, images, place, lambda x: x + 0.3 * randomness.normal_like(x), 4).double()
    with torch.no_grad():
        error = (net(images).double() - target).abs()
    known = target.isfinite().all(dim=1)
    variance, l1 = drawn.var(dim=0, correction=0).mean(dim=1), error.mean(dim=1)
    each = [pearsonr(variance[i][known[i]], l1[i][known[i]]).statistic for i in range(6)]
    assert row["metrics"]["corr_pixel_l1"] == pytest.approx(np.mean(each), rel=1e-4)
    means = [(float(variance[i][known[i]].mean()), float(l1[i][known[i]].mean())) for i in range(6)]
    assert row["metrics"]["corr_mean_l1"] == pytest.approx(pearsonr(*zip(*means, strict=True)).statistic, rel=1e-3)
    assert row["metrics"]["tolerability"] > 0
    assert found["metrics"]["corr_pixel_l1"] == row["metrics"]["corr_pixel_l1"]
    low, high = found["intervals"]["corr_pixel_l1"]["4"]
    assert low <= found["metrics"]["corr_pixel_l1"] <= high
    assert "SLIC" in json.dumps(found)


def test_a_sweep_is_the_wrappers_at_each_location_and_rate(tmp_path: Path) -> None:
    options = ("-o", "disturbance=noise", "-o", "locations=0,4", "-o", "rates=0.1,0.3", "-o", "samples=4")
    swept = record(tmp_path / "sweep", "--model", "pixelwise", "--dataset", "depths", *options)
    assert [list(row["condition"].values()) for row in swept["conditions"]] == [
        ["noise", "0", 0.1], ["noise", "0", 0.3], ["noise", "4", 0.1], ["noise", "4", 0.3]
    ]  # fmt: skip
    rows = [row["metrics"] for row in swept["conditions"]]
    assert rows[0]["tolerability"] < rows[1]["tolerability"]
    assert rows[0]["loss"] == rows[1]["loss"]
    # The only layer's input is location 0 and location 4; the noise is another, as conditions have keys of their own.
    assert rows[0]["tolerability"] == pytest.approx(rows[2]["tolerability"], rel=0.3)
    assert set(swept["metrics"].values()) == {None}
    # Figure 4: a line for each location, with what it costs beside the correlations.
    (folder,) = (tmp_path / "sweep").iterdir()
    assert bench("plot", folder, "--out", tmp_path / "figures") == 0
    assert (tmp_path / "figures" / "by-rate.png").is_file()
    found = load_alike([folder])
    figure = by_axis.against(found[0].suite.axes[0], found)
    assert [ax.get_ylabel()[:-2].lower() for ax in figure.axes] == [
        *(f"corr {where} l1" for where in ("pixel", "block", "mean")),
        "tolerability",
    ]
    lines = figure.axes[3].get_lines()
    assert [list(line.get_ydata()) for line in lines] == [
        [row["tolerability"] for row in part] for part in (rows[:2], rows[2:])
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["location 0", "location 4"]


def test_segmentation_has_entropy_without_draws_and_variance_with_them(tmp_path: Path) -> None:
    plain = record(tmp_path / "plain", "--model", "pixelwise", "--dataset", "masks")["metrics"]
    assert plain["corr_pixel_entropy"] is not None
    assert plain["corr_pixel_variance"] is None
    dropping = record(tmp_path / "drop", "--model", "dropping", "--dataset", "masks", "--sizes", "1,3")
    assert dropping["metrics"]["corr_pixel_variance"] is not None
    assert dropping["curves"]["corr_pixel_variance"]["1"] is None
    # The last of six images is void throughout.
    assert dropping["metrics"]["uncorrelated"] == pytest.approx(1 / 6)


def test_what_cannot_be_measured_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*words: object) -> str:
        assert bench("run", "--suite", "dense-uncertainty", *words, "--out", tmp_path) != 0
        return capsys.readouterr().err

    assert "one draw has no variance" in refused("--model", "pixelwise", "--dataset", "depths")
    sweep = ("-o", "disturbance=dropout", "--dataset", "depths")
    assert "sweep disturbs a deterministic network" in refused("--model", "dropping", *sweep)
    assert "invalid rates" in refused("--model", "pixelwise", *sweep, "-o", "rates=1")
    assert "it is for" in refused("--model", "alexnet", "--dataset", "digits")
    monkeypatch.setattr("stressbench_suites.dense.suite.missing", lambda: True)
    assert "pip install 'stressbench[dense]'" in refused("--model", "dropping", "--dataset", "depths")
    with pytest.raises(UserError, match="invalid samples=1"):
        DenseUncertaintySuite(samples=1)
