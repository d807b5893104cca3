"""The weights of models, and of models that are made of models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from stressbench import registry, weights
from stressbench.contracts import Dataset
from stressbench.datasets.digits import digits
from stressbench.errors import UserError
from stressbench.execution import models
from stressbench_plugins.ensemble import Ensemble


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return digits("test")


@pytest.fixture(autouse=True)
def _empty_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path / "home"))


def no_training(spec: str, seed: int, build: Callable[[], nn.Module]) -> Path:
    path = weights.stored("digits", spec, seed)
    if not path.exists():
        raise UserError(f"{spec}, seed {seed}, is not there")
    return path


def marked(dataset: Dataset, spec: str, path: Path, mark: float) -> Path:
    """A weights file of a model in which one bias says which file it is."""
    module = registry.model(spec, dataset)
    with torch.no_grad():
        module.head.bias.fill_(mark)  # type: ignore[operator, union-attr]
    weights.save(module, path, {})
    return path


def marks(ready: models.Ready) -> list[float]:
    assert isinstance(ready.module, Ensemble)
    return [member.head.bias[0].item() for member in ready.module.members]  # type: ignore[index, union-attr]


def test_members_get_the_stores_weights_of_their_seeds(dataset: Dataset) -> None:
    for seed in range(3):
        marked(dataset, "untrained", weights.stored("digits", "untrained", seed), seed)
    ready = models.ready(registry.resolve("ensemble:untrained,size=3"), dataset, (), no_training)
    assert marks(ready) == [0, 1, 2]
    assert ready.weights_source == "trained here, seed 0; trained here, seed 1; trained here, seed 2"
    own = ready.traits
    assert (own.stochastic, own.default_draws, own.max_draws) == (True, 3, 3)
    assert ready.parameters == 3 * sum(p.numel() for p in registry.model("untrained", dataset).parameters())
    fewer = models.ready(registry.resolve("ensemble:untrained,size=2"), dataset, (), no_training)
    assert fewer.checksum != ready.checksum


def test_weights_that_say_how_they_were_trained_are_quoted(dataset: Dataset) -> None:
    module = registry.model("untrained", dataset)
    for epochs, words in ((1, "1 epoch"), (20, "20 epochs")):
        path = weights.stored("digits", "untrained", 0)
        weights.save(module, path, {"recipe": "fast", "epochs": str(epochs)})
        ready = models.ready(registry.resolve("untrained"), dataset, (), no_training)
        assert ready.weights_source == f"trained here, seed 0, recipe fast, {words}"
        assert ready.training == ()  # of a file that lacks the rest


def test_a_missing_member_is_asked_for_by_its_seed(dataset: Dataset) -> None:
    marked(dataset, "untrained", weights.stored("digits", "untrained", 0), 0)
    with pytest.raises(UserError, match="untrained, seed 1, is not there"):
        models.ready(registry.resolve("ensemble:untrained,size=2"), dataset, (), no_training)

    def train(spec: str, seed: int, build: Callable[[], nn.Module]) -> Path:
        assert isinstance(build(), type(registry.model("untrained", dataset)))
        path = weights.stored("digits", spec, seed)
        return path if path.exists() else marked(dataset, spec, path, 7)

    assert marks(models.ready(registry.resolve("ensemble:untrained,size=2"), dataset, (), train)) == [0, 7]


@pytest.mark.parametrize(
    ("spec", "seeds"),
    [("untrained", [2]), ("ensemble:untrained,size=3", [6, 7, 8]), ("infer-noise:untrained,location=0", [2])],
)
def test_a_models_trainings_share_no_weights(dataset: Dataset, spec: str, seeds: list[int]) -> None:
    for seed in seeds:
        marked(dataset, "untrained", weights.stored("digits", "untrained", seed), seed)
    ready = models.ready(registry.resolve(spec), dataset, (), no_training, training=2)
    assert ready.weights_source == "; ".join(f"trained here, seed {seed}" for seed in seeds)


def test_files_go_to_the_members_in_order(dataset: Dataset, tmp_path: Path) -> None:
    a, b = (marked(dataset, "untrained", tmp_path / f"{mark}.safetensors", mark) for mark in (5, 6))
    spec = registry.resolve("ensemble:untrained,size=2")
    ready = models.ready(spec, dataset, (b, a), no_training)
    assert marks(ready) == [6, 5]
    assert ready.weights_source == "file 6.safetensors; file 5.safetensors"
    with pytest.raises(UserError, match=r"takes 2 weights files and 1 .* untrained \(seed 0\), untrained \(seed 1\)"):
        models.ready(spec, dataset, (a,), no_training)
    with pytest.raises(UserError, match="takes 1 weights files and 2"):
        models.ready(registry.resolve("untrained"), dataset, (a, b), no_training)
    # The same file twice would be an ensemble of one, five draws of which look like perfect agreement.
    with pytest.raises(UserError, match="same weights for two members, untrained with seeds 0 and 1"):
        models.ready(spec, dataset, (a, a), no_training)


def test_a_folder_has_a_file_for_each_seed(dataset: Dataset, tmp_path: Path) -> None:
    for seed in range(2):
        marked(dataset, "untrained", tmp_path / f"seed{seed}.safetensors", 10 + seed)
    assert marks(models.ready(registry.resolve("ensemble:untrained,size=2"), dataset, (tmp_path,), no_training)) == [
        10,
        11,
    ]
    with pytest.raises(UserError, match=r"no weights file .*seed2.safetensors"):
        models.ready(registry.resolve("ensemble:untrained,size=3"), dataset, (tmp_path,), no_training)


def test_a_mixed_ensemble_takes_a_folder_of_folders(dataset: Dataset, tmp_path: Path) -> None:
    marked(dataset, "untrained", tmp_path / "untrained" / "seed0.safetensors", 20)
    marked(dataset, "tiny", tmp_path / "tiny" / "seed0.safetensors", 21)
    assert marks(models.ready(registry.resolve("ensemble:untrained+tiny"), dataset, (tmp_path,), no_training)) == [
        20,
        21,
    ]


def test_copies_that_come_with_their_weights_are_no_ensemble(dataset: Dataset) -> None:
    with pytest.raises(UserError, match="same weights for two members"):
        models.ready(registry.resolve("ensemble:tiny,size=2"), dataset, (), no_training)
    # One seed of two models that share all weights is: what they compute may differ.
    assert (
        models.ready(registry.resolve("ensemble:tiny+dropped"), dataset, (), no_training).weights_source
        == "the plugin's own"
    )


def test_seeds_of_wrapped_members_are_the_members(dataset: Dataset) -> None:
    for seed in range(2):
        marked(dataset, "untrained", weights.stored("digits", "untrained", seed), seed)
    plain = models.ready(registry.resolve("ensemble:untrained,size=2"), dataset, (), no_training)
    for spec in (
        "ensemble:(infer-noise:untrained,location=0),size=2",
        "infer-noise:(ensemble:untrained,size=2),location=0",
    ):
        ready = models.ready(registry.resolve(spec), dataset, (), no_training)
        assert ready.weights_source == plain.weights_source
        wrapped = [member.model for member in ready.module.members]  # type: ignore[attr-defined, union-attr]
        assert [inner.head.bias[0].item() for inner in wrapped] == [0, 1]
