"""Fits that are kept: used again for the same weights, images and options, and made again for any others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from stressbench import held_out, weights
from stressbench.contracts import Dataset, InMemory
from stressbench.datasets.digits import digits
from stressbench.execution import fits
from stressbench_plugins.calibrated import Calibrated, Method
from stressbench_plugins.laplace import LastLayerLaplace
from stressbench_plugins.swag import Swag
from tiny_models import Dropped, Small, Tiny


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path / "home"))


@pytest.fixture
def data() -> Dataset:
    return held_out.part(digits("test"), "calibration")


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The classes of modules whose `fit` was called."""
    calls: list[str] = []
    for kind in (Calibrated, LastLayerLaplace, Swag):

        def fit(self: object, data: Dataset, _fit: Callable[..., str] = kind.fit) -> str:
            calls.append(type(self).__name__)
            return _fit(self, data)

        monkeypatch.setattr(kind, "fit", fit)
    return calls


def calibrated(method: Method = "temperature", net: nn.Module | None = None) -> Calibrated:
    test = digits("test")
    return Calibrated(Tiny(test) if net is None else net, "tiny", test, method).eval()


def laplace(precision: float | None = None) -> LastLayerLaplace:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LastLayerLaplace(Small(10), "small", (32, 32), precision).eval()


def swag(samples: int = 2) -> Swag:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Swag(Small(10), "small", samples)
    for step in range(2):
        with torch.no_grad():
            for parameter in made.model.parameters():
                parameter += 0.01 * step
        made.collect()
    return made.eval()


def state(module: nn.Module) -> Mapping[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize(
    "build",
    [
        *(lambda method=method: calibrated(method) for method in ("temperature", "vector", "isotonic", "histogram")),
        lambda: calibrated(net=Dropped(digits("test"))),
        laplace,
        swag,
    ],
)
def test_a_second_process_finds_what_the_first_one_found(
    build: Callable[[], nn.Module], data: Dataset, fitted: list[str]
) -> None:
    first, second = build(), build()
    said = fits.fit(first, data)
    assert len(fitted) == 1
    assert fits.fit(second, data) == said
    assert len(fitted) == 1
    found, kept = state(first), state(second)
    assert found.keys() == kept.keys()
    assert all(torch.equal(found[name], kept[name]) for name in found)
    images = data.images.read(0, 4) / 255
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        one = first(images)
        torch.manual_seed(0)
        assert torch.equal(second(images), one)


def other_images(data: Dataset) -> Dataset:
    images = data.images.read(0, len(data.images)).clone()
    images[-1, 0, 0, 0] ^= 1
    return replace(data, images=InMemory(images))


def other_labels(data: Dataset) -> Dataset:
    labels = data.labels.clone()
    labels[-1] = (labels[-1] + 1) % 10
    return replace(data, targets=InMemory(labels))


class Louder(Tiny):
    """The same weights, and a code that was changed."""

    def forward(self, images: Tensor) -> Tensor:
        return 1.01 * super().forward(images)


def test_anything_else_is_fitted_again(data: Dataset, fitted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fits_again(module: nn.Module, images: Dataset) -> bool:
        before = len(fitted)
        fits.fit(module, images)
        return len(fitted) > before

    assert fits_again(calibrated(), data)
    assert fits_again(calibrated(), other_images(data))
    assert fits_again(calibrated(), other_labels(data))
    assert fits_again(calibrated("vector"), data)
    changed = Tiny(digits("test"))
    with torch.no_grad():
        changed.head.bias[0] += 1e-3
    assert fits_again(calibrated(net=changed), data)
    assert fits_again(calibrated(net=Louder(digits("test"))), data)
    assert fits_again(laplace(), data)
    assert fits_again(laplace(2.0), data)
    assert fits_again(swag(), data)
    assert fits_again(swag(3), data)
    assert not fits_again(laplace(2.0), data)
    with monkeypatch.context() as patch:
        patch.setattr(Calibrated, "fit_version", "2 Vector")
        assert fits_again(calibrated("vector"), data)
    assert not fits_again(calibrated("vector"), data)


def test_a_damaged_or_edited_file_is_replaced(data: Dataset, fitted: list[str], tmp_path: Path) -> None:
    fits.fit(first := calibrated(), data)
    (path,) = (tmp_path / "home" / "fits").iterdir()
    whole = path.read_bytes()
    for damage in (b"", whole[:-1], whole[:-4] + bytes(4)):
        path.write_bytes(damage)
        fits.fit(again := calibrated(), data)
        assert torch.equal(again.map.temperature, first.map.temperature)  # type: ignore[union-attr]
    told = weights.metadata(path)
    weights.save_tensors({"found.temperature": torch.tensor(9.0)}, path, told)
    fits.fit(calibrated(), data)
    assert len(fitted) == 5
    fits.fit(calibrated(), data)
    assert len(fitted) == 5


def test_without_a_map_or_a_place_to_write_nothing_is_kept(
    data: Dataset, fitted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits.fit(calibrated("none"), data)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path / "file"))
    for _ in range(2):
        fits.fit(calibrated(), data)
    assert len(fitted) == 3
    assert not (tmp_path / "home").exists()
