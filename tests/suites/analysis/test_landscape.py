"""The loss on a grid of weights against independent passes, and its summaries against surfaces that are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from stressbench import randomness, registry
from stressbench.cli import main
from stressbench.datasets.digits import digits
from stressbench.errors import UserError
from stressbench_suites.analysis.directions import direction, weights
from stressbench_suites.analysis.landscape import LandscapeSuite, curvature, rim_rise, roughness
from stressbench_suites.analysis.training_images import augmented

LINE = [-0.2, -0.1, 0.0, 0.1, 0.2]
Y, X = np.meshgrid(LINE, LINE, indexing="ij")


def run(out: Path, *words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--suite", "landscape", "--out", str(out), *map(str, words)])
    return int(ended.value.code or 0)


def record(out: Path) -> dict[str, Any]:
    (path,) = out.glob("digits-landscape-*/record.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


SMALL = ("--points", "3", "--extent", "0.5", "--images", "20", "--recipe", "short")


def test_each_point_is_the_loss_of_the_moved_weights(tmp_path: Path) -> None:
    assert run(tmp_path, "--model", "tiny", *SMALL, "--norm", "layer") == 0
    found = record(tmp_path)
    assert (found["dataset"]["split"], found["dataset"]["n"]) == ("train", 20)
    data = digits("train")
    module = registry.model("tiny", data).eval()
    keys = randomness.image_keys(randomness.derive("landscape crops"), torch.arange(20))
    images = augmented(data.images.read(0, 20) / 255, keys, 4, False)  # `short` does not mirror digits
    labels = data.targets.read(0, 20)
    a, b = (direction(module, randomness.derive("landscape", axis, 0), "layer") for axis in ("x", "y"))
    start = [weight.detach().clone() for weight in weights(module)]
    for row in found["conditions"]:
        with torch.no_grad():
            for weight, own, along, across in zip(weights(module), start, a, b, strict=True):
                weight.copy_(own + row["condition"]["x"] * along + row["condition"]["y"] * across)
            logits = module(images)
        nll = float(nn.functional.cross_entropy(logits, labels))
        assert row["metrics"]["nll"] == pytest.approx(nll, rel=1e-3)
        assert row["metrics"]["accuracy"] == pytest.approx(float((logits.argmax(1) == labels).float().mean()))
    assert [row["condition"]["x"] for row in found["conditions"]] == [-0.5, 0.0, 0.5] * 3
    grid = np.array([row["metrics"]["nll"] for row in found["conditions"]]).reshape(3, 3)
    assert found["metrics"]["centre_nll"] == grid[1, 1]
    assert found["metrics"]["rim_rise"] == pytest.approx((grid.sum() - grid[1, 1]) / 8 - grid[1, 1])
    assert found["metrics"]["sequence_variance"] is None
    low, high = found["intervals"]["rim_rise"]["1"]
    assert low < found["metrics"]["rim_rise"] < high


def test_sequences_have_new_draws_and_their_variance_falls_with_the_number_of_draws(tmp_path: Path) -> None:
    words = ("--model", "dropped", *SMALL, "--sequences", 4, "--sizes", "1,16")
    assert run(tmp_path, *words) == 0
    found = record(tmp_path)
    grids = np.array([row["curves"]["nll"]["1"] for row in found["conditions"]]).reshape(4, 3, 3)
    assert len({float(value) for value in grids[:, 1, 1]}) == 4
    curve = found["curves"]["sequence_variance"]
    assert curve["1"] == pytest.approx(np.var(grids, axis=0, ddof=1).mean())
    assert curve["16"] < curve["1"] / 4


def test_an_interrupted_run_leaves_the_weights_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[nn.Module] = []
    whole = LandscapeSuite.measure

    def interrupted(self: Any, condition: Any, batch: Any, model: Any) -> Any:
        if (condition["x"], condition["y"]) == (0.5, -0.5):
            kept.append(model.module)
            raise KeyboardInterrupt
        return whole(self, condition, batch, model)

    monkeypatch.setattr(LandscapeSuite, "measure", interrupted)
    assert run(tmp_path, "--model", "tiny", *SMALL) == 130
    (module,) = kept
    for name, value in registry.model("tiny", digits("train")).state_dict().items():
        assert torch.equal(module.state_dict()[name], value), name
    monkeypatch.setattr(LandscapeSuite, "measure", whole)
    assert run(tmp_path, "--model", "tiny", *SMALL) == 0
    assert run(tmp_path / "again", "--model", "tiny", *SMALL) == 0
    assert record(tmp_path)["metrics"] == record(tmp_path / "again")["metrics"]


def test_curvature_is_that_of_a_paraboloid_and_of_the_inner_half() -> None:
    assert curvature(7 + 2 * X - Y + 3 * X**2 - 4 * X * Y + 5 * Y**2, LINE) == pytest.approx(8)
    assert curvature(np.where(np.maximum(abs(X), abs(Y)) > 0.1, 99.0, X**2 + Y**2), LINE) == pytest.approx(2)
    assert curvature((X**2 + 2 * Y**2)[1:4, 1:4], LINE[1:4]) == pytest.approx(3)


def test_roughness_is_the_noise_on_a_smooth_surface() -> None:
    rng = np.random.default_rng(0)
    line = np.linspace(-1, 1, 201)
    smooth = 3 + line[:, None] ** 2 + line[:, None] * line
    assert roughness(smooth) == pytest.approx(0, abs=1e-12)
    assert roughness(smooth + 0.3 * rng.normal(size=smooth.shape)) == pytest.approx(0.3, rel=0.02)


def test_the_rim_is_held_against_the_centre() -> None:
    assert rim_rise(np.maximum(abs(X), abs(Y))) == pytest.approx(0.2)


def test_a_grid_with_an_unknown_point_has_no_metrics() -> None:
    suite = LandscapeSuite(points=3)
    rows: list[dict[str, float | None]] = [{"nll": float(k)} for k in range(9)]
    assert suite.aggregate(suite.conditions(), rows)["rim_rise"] == pytest.approx(0)
    rows[2] = {"nll": None}
    assert set(suite.aggregate(suite.conditions(), rows).values()) == {None}


def test_conditions_go_through_each_sequence_and_include_the_weights_themselves() -> None:
    found = pd.DataFrame(LandscapeSuite(sequences=2).conditions())
    assert len(found) == 2 * 21 * 21
    assert found.drop_duplicates().shape == found.shape
    assert sorted(found["x"].unique()) == pytest.approx(np.linspace(-0.1, 0.1, 21))
    assert ((found["x"] == 0) & (found["y"] == 0)).sum() == 2


@pytest.mark.parametrize(
    ("options", "fault"),
    [({"points": 4}, "points=4"), ({"extent": 0.0}, "extent=0"), ({"sequences": 0}, "sequences=0")],
)
def test_invalid_options_are_refused(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        LandscapeSuite(**options)
