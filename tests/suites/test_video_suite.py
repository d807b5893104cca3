"""The video suite and temporal smoothing, against numpy on the same frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import dense_plugins
from conftest import ROOT, write_distribution
from dense_plugins import CLASSES, VOID, Dropping, Pixelwise
from stressbench import randomness, registry
from stressbench.cli import main
from stressbench.contracts import traits
from stressbench.errors import UserError
from stressbench.metrics import over_time
from stressbench_suites.corruption.engine import corrupt

NOISE = {"corruption": "gaussian_noise", "severity": 3}
RECORDINGS = [0, 0, 0, 0, 1, 1]
SMALL = ("--suite", "video", "--corruptions", "gaussian_noise")


@pytest.fixture(autouse=True, scope="module")
def _plugins(tmp_path_factory: pytest.TempPathFactory) -> Any:
    site = tmp_path_factory.mktemp("video")
    points = {
        "stressbench.datasets": {"clips": "dense_plugins:clips", "masks": "dense_plugins:masks"},
        "stressbench.models": {"pixelwise": "dense_plugins:pixelwise", "dropping": "dense_plugins:dropping"},
    }
    write_distribution(site, "video-plugins", points)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.syspath_prepend(str(ROOT / "tests"))
        yield


def bench(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def record(out: Path, *words: object) -> dict[str, Any]:
    assert bench("run", *SMALL, "--dataset", "clips", *words, "--out", out) == 0
    (path,) = out.glob("*/record.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def frames(numbers: list[int] | None) -> Tensor:
    """The frames under noise, each with the random numbers of a recording's or of its own position."""
    images = dense_plugins.images() / 255
    if numbers is None:
        return images
    return corrupt(
        images, "gaussian_noise", 3, randomness.image_keys(randomness.derive(0, NOISE), torch.tensor(numbers))
    )


def by_hand(images: Tensor, rate: float | None = None) -> tuple[float, float]:
    """NLL and consistency of the fixed network, frame by frame in numpy; with a rate, over two frames before, too."""
    with torch.no_grad():
        raw = Pixelwise(CLASSES)(images).softmax(dim=1).double().numpy()
    p = raw.copy()
    for t in range(len(p)):
        ages = [k for k in range(3) if t - k >= 0 and RECORDINGS[t - k] == RECORDINGS[t]]
        weights = np.exp([-(rate or 0) * k for k in ages]) if rate is not None else [1.0, *[0.0] * (len(ages) - 1)]
        p[t] = sum(w * raw[t - k] for w, k in zip(weights, ages, strict=True)) / np.sum(weights)
    target = dense_plugins.clips("test", None, None).targets.read(0, 6).numpy()
    known = target != VOID
    picked = np.take_along_axis(p, np.where(known, target, 0)[:, None], axis=1)[:, 0]
    label = p.argmax(axis=1)
    pairs = [(t, t - 1) for t in range(1, 6) if RECORDINGS[t] == RECORDINGS[t - 1]]
    return float(-np.log(picked[known]).mean()), float(np.mean([label[a] == label[b] for a, b in pairs]))


@pytest.mark.parametrize("size", [2, 6])
@pytest.mark.parametrize("rate", [None, 0.8])
def test_nll_and_consistency_of_smoothed_predictions(rate: float | None, size: int, tmp_path: Path) -> None:
    model = "pixelwise" if rate is None else f"temporal:pixelwise,frames=2,rate={rate}"
    found = record(tmp_path, "--model", model, "--batch-size", size)
    clean, noisy = (row["metrics"] for row in found["conditions"])
    for row, images in ((clean, frames(None)), (noisy, frames(RECORDINGS))):
        nll, consistency = by_hand(images, rate)
        assert row["nll"] == pytest.approx(nll, rel=1e-5)
        assert row["consistency"] == pytest.approx(consistency)
        assert row["passes"] == 1
    metrics = found["metrics"]
    assert metrics["clean_consistency"] == clean["consistency"]
    assert metrics["mean_nll"] == noisy["nll"]
    low, high = found["intervals"]["mean_consistency"]["1"]
    assert low <= metrics["mean_consistency"] <= high


def test_each_frame_may_have_random_numbers_of_its_own(tmp_path: Path) -> None:
    found = record(tmp_path, "--model", "pixelwise", "-o", "stress_seed=frame")
    assert found["conditions"][1]["metrics"]["nll"] == pytest.approx(by_hand(frames([0, 1, 2, 3, 4, 5]))[0], rel=1e-5)
    assert found["suite"]["options"]["stress_seed"] == "frame"
    assert "each frame" in found["suite"]["protocol"]


def test_temporal_weights_to_four_digits() -> None:
    data = dense_plugins.clips("test", None, None)
    module = registry.resolve("temporal:pixelwise").build(data)
    weights = [round(weight, 4) for weight in traits(module).frame_weights]
    assert weights == [0.5552, 0.2495, 0.1121, 0.0504, 0.0226, 0.0102]


def test_a_dropout_network_makes_one_draw_a_frame_and_its_own_number_without() -> None:
    data = dense_plugins.clips("test", None, None)
    assert traits(registry.resolve("dropping").build(data)).draws() == 3
    assert traits(registry.resolve("temporal:dropping").build(data)).draws() == 1


def test_a_batch_costs_a_pass_for_each_frame_and_each_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[int] = []
    forward = Dropping.forward

    def counting(self: Dropping, images: Tensor) -> Tensor:
        passed.append(len(images))
        return forward(self, images)

    monkeypatch.setattr("stressbench.execution.cells.judge", lambda *_: [])
    monkeypatch.setattr("stressbench.execution.cells.CellWorker._drifted", lambda _: [])
    monkeypatch.setattr(Dropping, "forward", counting)
    record(tmp_path, "--model", "temporal:dropping,frames=2", "--batch-size", 3)
    # Before the run, two images find the best memory layout. Then, under each of two conditions, frames 0–2; and 3–5,
    # with the one before them, to compare with, and the two before that one, which its prediction averages over.
    assert passed == [2, *[3] * 6]


def test_the_first_frames_divide_by_the_weights_that_count() -> None:
    p = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.1, 0.9], [0.2, 0.8]])
    found = over_time(p.log(), torch.tensor([0, 0, 0, 1]), (0.6, 0.3, 0.1)).exp()
    expected = [
        [0.5, 0.5],
        [(0.6 * 0.9 + 0.3 * 0.5) / 0.9, (0.6 * 0.1 + 0.3 * 0.5) / 0.9],
        [0.6 * 0.1 + 0.3 * 0.9 + 0.1 * 0.5, 0.6 * 0.9 + 0.3 * 0.1 + 0.1 * 0.5],
        [0.2, 0.8],
    ]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_an_impossible_class_keeps_a_finite_log_probability() -> None:
    log_p = torch.tensor([[-300.0, 0.0], [-200.0, 0.0]])
    found = over_time(log_p, torch.tensor([0, 0]), (0.5, 0.5))
    assert found[1, 0] == pytest.approx(-200 + np.log(0.5), rel=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--dataset", "masks"), "it has no recordings of consecutive frames"),
        (("--dataset", "clips", "--corruptions", "mist"), "unknown corruption 'mist'"),
        (("--dataset", "clips", "--severities", "6"), "invalid severities=6"),
    ],
)
def test_what_it_cannot_measure_is_named(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("run", "--suite", "video", "--model", "pixelwise", *words, "--out", tmp_path) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("options", ["frames=-1", "rate=-1"])
def test_wrong_windows_are_refused(options: str) -> None:
    with pytest.raises(UserError, match="invalid"):
        registry.resolve(f"temporal:pixelwise,{options}").build(dense_plugins.clips("test", None, None))
