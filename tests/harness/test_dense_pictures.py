"""Pictures of dense predictions: every panel against numpy, their layout, and `bench data preview`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

import dense_plugins
from conftest import ROOT, write_distribution
from dense_plugins import SIZE, VOID
from stressbench import randomness, registry
from stressbench._util.terminal import Screen
from stressbench.cli import main
from stressbench.contracts import Predictor, Regression, Segmentation, SuperResolution
from stressbench.execution import session
from stressbench.execution.request import RunRequest
from stressbench.plots.dense import Panel, Row, drawn, maps, rows
from stressbench.training.provide import provider
from stressbench_suites.corruption.engine import corrupt

NOISE = {"corruption": "gaussian_noise", "severity": 3}
ONE = {"corruptions": "gaussian_noise", "severities": "3"}


@pytest.fixture(autouse=True, scope="module")
def _plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    site = tmp_path_factory.mktemp("dense")
    points = {
        "stressbench.datasets": {name: f"dense_plugins:{name}" for name in ("clips", "masks", "depths")},
        "stressbench.models": {name: f"dense_plugins:{name}" for name in ("pixelwise", "dropping")},
    }
    write_distribution(site, "dense-plugins", points)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.syspath_prepend(str(ROOT / "tests"))
        yield


def predictor(model: str, dataset: str) -> Predictor:
    request = RunRequest((), (model,), dataset)
    return session.predictor(request, registry.dataset(dataset, "test"), Screen(), provider)


def found(model: str, dataset: str, index: int = 1, suite: str = "corruption") -> list[Row]:
    return rows(registry.dataset(dataset, "test"), suite, index, 0, predictor(model, dataset), ONE)


def colours(classes: np.ndarray) -> np.ndarray:
    palette = np.array(matplotlib.colormaps["tab20"].colors)
    return np.where((classes == VOID)[..., None], 0.85, palette[np.where(classes == VOID, 0, classes)])


def noisy(index: int) -> torch.Tensor:
    keys = randomness.image_keys(randomness.derive(0, NOISE), torch.arange(index, index + 1))
    return corrupt(dense_plugins.images()[index : index + 1] / 255, "gaussian_noise", 3, keys)


def test_maps_of_regression_are_errors_and_deviations() -> None:
    draws = np.random.default_rng(0).normal(size=(3, 4, 5, 2))
    target = np.random.default_rng(1).normal(size=(2, 4, 5))
    target[1, 0, 0] = np.nan
    tensors = torch.from_numpy(draws), torch.from_numpy(draws[0]), torch.from_numpy(target)
    panels = {panel.title: panel for panel in maps(Regression(2, "m"), *tensors)}
    error = np.abs(draws[0] - target.transpose(1, 2, 0)).mean(axis=-1)
    np.testing.assert_allclose(panels["error"].pixels, error)
    assert np.isnan(panels["error"].pixels[0, 0])
    np.testing.assert_allclose(panels["uncertainty"].pixels, np.sqrt(draws.var(axis=0).mean(axis=-1)))
    np.testing.assert_array_equal(panels["prediction"].pixels, draws[0][..., 0])
    assert panels["target"].scale == panels["prediction"].scale == "value"
    assert panels["uncertainty"].unit == "standard deviation (m)"
    one = maps(Regression(2, "m"), tensors[0][:1], *tensors[1:])
    assert [panel.title for panel in one] == ["target", "prediction", "error"]


def test_maps_of_super_resolution_are_in_colour() -> None:
    draws, target = torch.rand(2, 4, 5, 3) * 2, torch.rand(3, 4, 5)
    shown = maps(SuperResolution(), draws, draws[1], target)
    np.testing.assert_array_equal(shown[0].pixels, target.movedim(0, -1).double())
    np.testing.assert_array_equal(shown[1].pixels, draws[1].double().clamp(max=1))
    assert [panel.scale for panel in shown] == [None, None, "error", "uncertainty"]


def test_maps_of_segmentation_are_losses_and_entropies() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(4), size=(3, 4, 5))
    target = np.random.default_rng(1).integers(0, 4, (4, 5))
    target[2, 3] = VOID
    log_p = torch.from_numpy(np.log(p))
    shown = {panel.title: panel.pixels for panel in maps(Segmentation(4), log_p, log_p[0], torch.from_numpy(target))}
    nll = -np.log(np.take_along_axis(p[0], np.where(target == VOID, 0, target)[..., None], -1)[..., 0])
    np.testing.assert_allclose(shown["error"], np.where(target == VOID, np.nan, nll))
    mean = p.mean(axis=0)
    np.testing.assert_allclose(shown["uncertainty"], -(mean * np.log(mean)).sum(axis=-1))
    np.testing.assert_allclose(shown["target"], colours(target))
    np.testing.assert_allclose(shown["prediction"], colours(p[0].argmax(axis=-1)))


def test_a_row_is_what_a_run_shows_and_the_undisturbed_prediction() -> None:
    clean, stressed = found("infer-dropout:pixelwise,location=0,rate=0.5", "depths")
    assert (clean.label, stressed.label) == ("clean", "gaussian noise, severity 3")
    image = noisy(1)
    np.testing.assert_allclose(stressed.panels[0].pixels, image[0].permute(1, 2, 0), atol=1e-6)
    plain = registry.model("pixelwise", registry.dataset("depths", "test"))
    with torch.no_grad():
        wanted = plain(image)[0, 0]
    np.testing.assert_allclose(stressed.panels[2].pixels, wanted, atol=1e-5)
    assert [panel.title for panel in stressed.panels] == ["image", "target", "prediction", "error", "uncertainty"]
    assert float(np.max(stressed.panels[4].pixels)) > 0


@pytest.mark.parametrize("suite", ["corruption", "video"])
def test_a_strip_has_frames_of_one_recording_alone_and_averaged(suite: str) -> None:
    strip = found("temporal:pixelwise,frames=1,rate=0", "clips", suite=suite)
    labels = [row.label.splitlines()[0] for row in strip[:4]]
    assert labels == ["clean", "target", "each frame alone", "averaged"]
    assert strip[4].label == "gaussian noise, severity 3"
    images, target = dense_plugins.images() / 255, registry.dataset("clips", "test").targets.read(0, 6).numpy()
    with torch.no_grad():
        p = registry.model("pixelwise", registry.dataset("clips", "test"))(images).softmax(dim=1).numpy()
    assert [panel.title for panel in strip[0].panels] == ["frame 1", "frame 2", "frame 3"]
    alone = p.argmax(axis=1)
    averaged = ((p[1:] + p[:-1]) / 2).argmax(axis=1)  # of frames 1 to 5
    for place, frame in enumerate((1, 2, 3)):
        np.testing.assert_allclose(strip[0].panels[place].pixels, images[frame].permute(1, 2, 0), atol=1e-6)
        np.testing.assert_allclose(strip[1].panels[place].pixels, colours(target[frame]))
        np.testing.assert_allclose(strip[2].panels[place].pixels, colours(alone[frame]))
        np.testing.assert_allclose(strip[3].panels[place].pixels, colours(averaged[frame - 1]))
    stay = (averaged[1:3] == averaged[:2]).mean()
    assert strip[3].label.splitlines()[1] == f"{100 * stay:.1f} % stay"


def test_a_model_of_single_images_has_no_strip() -> None:
    assert found("pixelwise", "clips")[0].panels[0].title == "image"


def test_panels_of_a_scale_share_their_colours_and_a_bar() -> None:
    numbers = np.arange(240.0).reshape(SIZE)
    row = [Panel("image", np.zeros((*SIZE, 3))), Panel("error", numbers, "error", "m"), Panel("a", numbers, "value")]
    figure = drawn([Row("one", row), Row("two", [row[0], Panel("error", numbers + 10, "error", "m"), row[2]])])
    axes = figure.axes
    assert len(axes) == 2 * 3 + 2
    norms = [axes[place].images[0].norm for place in (1, 4)]
    assert norms[0] is norms[1]
    both = np.concatenate([numbers.ravel(), numbers.ravel() + 10])
    assert (norms[0].vmin, norms[0].vmax) == (0, np.percentile(both, 99))
    assert (axes[2].images[0].norm.vmin, axes[2].images[0].norm.vmax) == (0, 239)
    assert axes[6].get_xlabel() == "m"
    width, height = figure.get_size_inches()
    for ax in axes[:6]:
        box = ax.get_position()
        assert box.width * width / (box.height * height) == pytest.approx(SIZE[1] / SIZE[0])
        assert 0 < box.x0 < box.x1 < 1


def bench(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def width(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.width


def test_preview_writes_a_picture_of_a_pages_width(tmp_path: Path, capsys: Any) -> None:
    words = ("data", "preview", "--dataset", "masks", "--corruptions", "fog,contrast", "--out", tmp_path / "a.png")
    assert bench(*words, "--model", "dropping") == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "a.png")
    assert width(tmp_path / "a.png") == 1380
    assert bench(*words) == 0  # without a model: the images alone
    assert width(tmp_path / "a.png") != 1380


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--image", "6"), "masks has 6 test images: --image is 0 to one less"),
        (("--difference",), "--difference draws images alone"),
        (("--suite", "dense-uncertainty"), "the dense-uncertainty suite changes no images"),
    ],
)
def test_faults_are_one_line(words: tuple[str, ...], line: str, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "a.png"
    assert bench("data", "preview", "--dataset", "masks", "--model", "pixelwise", *words, "--out", out) == 2
    assert line in capsys.readouterr().err
    assert not out.exists()
