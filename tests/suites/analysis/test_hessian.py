"""Eigenvalues of the loss's Hessian against the whole matrix, closed forms and whole runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from batches import batch
from stressbench import randomness, registry
from stressbench.cli import main
from stressbench.datasets.digits import digits
from stressbench.errors import UserError
from stressbench.sampling import Unjudged
from stressbench_plugins.layers import MCDropout
from stressbench_suites.analysis.eigenvalues import Hessian, density, largest
from stressbench_suites.analysis.hessian import HessianSuite
from stressbench_suites.analysis.training_images import augmented

Matrix = NDArray[np.float64]


class Squeezed(nn.Module):
    """A network of 214 weights with every kind of layer that matters: convolution, normalisation, ReLU, dropout."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stochastic = rate > 0
        self.body = nn.Sequential(
            nn.AvgPool2d(4), nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), MCDropout(rate)
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5))
        self.unused = nn.Parameter(torch.ones(3))
        nn.init.normal_(self.head[2].weight)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images - 0.5))
        return logits


def suite(**options: Any) -> HessianSuite:
    found = HessianSuite(**{"augment": False, "weight_decay": 0.0} | options).for_dataset(digits("train"))
    assert isinstance(found, HessianSuite)
    return found


def whole(module: nn.Module, images: Tensor, labels: Tensor, keys: Tensor, decay: float, draws: int = 1) -> Matrix:
    """The Hessian of the regularised loss by torch, row by row, in float64."""
    module = module.double()
    names = [name for name, _ in module.named_parameters()]
    shapes = [parameter.shape for parameter in module.parameters()]
    flat = torch.cat([parameter.detach().flatten() for parameter in module.parameters()])

    def loss(theta: Tensor) -> Tensor:
        parts = theta.split([shape.numel() for shape in shapes])
        values = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        probabilities = []
        with randomness.draw(keys, 0):
            for index in range(draws):
                with randomness.redraw(index):
                    logits = torch.func.functional_call(module, values, (images.double(),))
                probabilities.append(logits.softmax(dim=1))
        mean = torch.stack(probabilities).mean(dim=0)
        nll = -mean.gather(1, labels[:, None]).log().mean()
        return nll + decay / 2 * theta.square().sum()

    found: Matrix = torch.autograd.functional.hessian(loss, flat).numpy()
    module.float()
    return found


def by_magnitude(matrix: Matrix) -> Matrix:
    values = np.linalg.eigvalsh(matrix)
    return values[np.argsort(-np.abs(values))]


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(("rate", "draws"), [(0.0, 1), (0.4, 1), (0.4, 3)])
def test_eigenvalues_are_those_of_the_whole_matrix(decay: float, rate: float, draws: int) -> None:
    module, b = Squeezed(rate).eval(), batch(12, classes=5)
    model = replace(Unjudged(module), sizes=(draws,))
    columns = suite(top=4, weight_decay=decay).measure({"images": "clean"}, b, model)[draws]
    expected = by_magnitude(whole(module, b.images, b.targets, b.keys, decay, draws))
    np.testing.assert_allclose(columns["eigenvalues"][0], expected[:4], rtol=1e-3)
    assert float(columns["eigenvalue"]) == float(columns["eigenvalues"][0, 0])
    assert bool(columns["converged"])
    assert int(columns["classes"]) == len(b.targets.unique())


def test_the_largest_is_of_the_greatest_magnitude_and_keeps_its_sign() -> None:
    torch.manual_seed(0)
    directions = torch.linalg.qr(torch.randn(30, 30)).Q
    values = torch.linspace(-2, 1, 30)
    weight = nn.Parameter(torch.zeros(30))
    hessian = Hessian(0.5 * (values * (directions @ weight).square()).sum(), [weight])
    found = largest(hessian, 3, np.ones(30, dtype=np.float32))
    assert found is not None
    np.testing.assert_allclose(found, [-2, -2 + 3 / 29, -2 + 6 / 29], rtol=1e-3)


def test_softmax_regression_has_its_closed_form() -> None:
    """H = (1/N) Σ_n (diag(p_n) − p_n p_nᵀ) ⊗ x_n x_nᵀ."""
    b = batch(9, classes=3, size=(4, 4))
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 3, bias=False)).eval()
    x = b.images.flatten(1).double().numpy()
    with torch.no_grad():
        p = module(b.images).softmax(dim=1).double().numpy()
    closed = sum(np.kron(np.diag(q) - np.outer(q, q), np.outer(row, row)) for q, row in zip(p, x, strict=True)) / len(x)
    columns = suite(top=2, recipe="short").measure({"images": "clean"}, b, Unjudged(module))[1]
    np.testing.assert_allclose(columns["eigenvalues"][0], by_magnitude(closed)[:2], rtol=1e-3)


def test_a_recipe_that_spares_vectors_leaves_them_out_of_the_penalty() -> None:
    module, b = Squeezed().eval(), batch(8, classes=5)
    own = suite(weight_decay=None, recipe="short", top=3).measure({"images": "clean"}, b, Unjudged(module))[1]
    matrix = whole(module, b.images, b.targets, b.keys, 0.0)
    spared = np.concatenate([np.full(p.numel(), p.ndim > 1) for p in module.parameters()])
    np.testing.assert_allclose(own["eigenvalues"][0], by_magnitude(matrix + 5e-4 * np.diag(spared))[:3], rtol=1e-3)


def test_the_density_has_the_moments_of_the_whole_spectrum() -> None:
    module, b = Squeezed().eval(), batch(10, classes=5)
    columns = suite(spectrum=True, steps=40).measure({"images": "clean"}, b, Unjudged(module))[1]
    nodes, weights = columns["density_nodes"][0].numpy(), columns["density_weights"][0].numpy()
    matrix = whole(module, b.images, b.targets, b.keys, 0.0)
    signs = (randomness.uniform(b.keys[:1], (len(matrix),), stream=1)[0] < 0.5).double().numpy() * 2 - 1
    start = signs / np.linalg.norm(signs)
    for power in range(6):  # Gauss quadrature is exact for polynomials
        expected = start @ np.linalg.matrix_power(matrix, power) @ start
        assert np.nansum(weights * nodes**power) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_a_density_of_all_steps_is_the_whole_spectrum() -> None:
    values = np.array([3.0, 1.0, 0.5, -1.0, 0.0])
    weight = nn.Parameter(torch.zeros(5))
    scale = torch.tensor(values, dtype=torch.float32)
    found = density(Hessian(0.5 * (scale * weight.square()).sum(), [weight]), 50, np.ones(5, dtype=np.float32))
    np.testing.assert_allclose(found.nodes, np.sort(values), atol=1e-5)
    np.testing.assert_allclose(found.weights, np.full(5, 0.2), atol=1e-5)


def test_an_eigenvalue_that_does_not_converge_is_said_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stressbench_suites.analysis.eigenvalues.TOLERANCE", 1e-15)
    monkeypatch.setattr("stressbench_suites.analysis.eigenvalues._MOST_RESTARTS", 1)
    analysis, b = suite(), batch(12, classes=5)
    columns = analysis.measure({"images": "clean"}, b, Unjudged(Squeezed().eval()))[1]
    assert not bool(columns["converged"])
    assert bool(columns["eigenvalue"].isnan())
    good, bad = ({"eigenvalue": value, "nll": 1.0, "classes": 5} for value in (2.0, np.nan))
    conditions = analysis.conditions()
    rows = analysis.score(conditions, [pd.DataFrame([good, bad, good, good])])
    assert (rows[0]["mean_eigenvalue"], rows[0]["unconverged_share"]) == (2.0, 0.25)
    assert analysis.findings(conditions, rows)[0].check == "unconverged-eigenvalues"
    assert analysis.aggregate(conditions, analysis.score(conditions, [pd.DataFrame([bad])]))["mean_eigenvalue"] is None


def test_metrics_are_numpys_of_the_batches() -> None:
    values = [4.0, -1.0, 2.0, 9.0, 0.5]
    (row,) = suite().score([{"images": "clean"}], [pd.DataFrame({"eigenvalue": values, "nll": [1, 2, 3, 4, 5.0]})])
    assert row["mean_eigenvalue"] == pytest.approx(np.mean(values))
    assert row["median_eigenvalue"] == 2.0
    assert row["p90_eigenvalue"] == pytest.approx(np.percentile(values, 90))
    assert (row["largest_eigenvalue"], row["negative_share"], row["mean_nll"]) == (9.0, 0.2, 3.0)


def test_crops_and_mirrors_are_of_the_image() -> None:
    images = torch.rand(64, 3, 6, 6)
    keys = randomness.image_keys(1, torch.arange(64))
    found = augmented(images, keys, padding=2, flip=True)
    padded = nn.functional.pad(images, [2] * 4)
    seen = set()
    for image, out in zip(padded, found, strict=True):
        options = {
            (top, left, mirrored): crop.flip(-1) if mirrored else crop
            for top in range(5)
            for left in range(5)
            for crop in (image[:, top : top + 6, left : left + 6],)
            for mirrored in (False, True)
        }
        (place,) = (place for place, crop in options.items() if torch.equal(crop, out))
        seen.add(place)
    assert len(seen) > 30
    assert torch.equal(augmented(images[5:6], keys[5:6], 2, True), found[5:6])


@pytest.mark.parametrize(("available", "taken"), [(50_000, 50 * 128), (1437, 11 * 128), (128, 128), (100, 100)])
def test_batches_are_whole(available: int, taken: int) -> None:
    assert HessianSuite().take(available) == taken


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"batches": 0}, "batches=0"),
        ({"weight_decay": -1.0}, "weight_decay=-1"),
        ({"recipe": "papr"}, "did you mean 'paper'"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        HessianSuite(**options)


def test_more_eigenvalues_than_weights_are_refused() -> None:
    weight = nn.Parameter(torch.zeros(4))
    with pytest.raises(UserError, match="top=4 needs more than 4 weights"):
        largest(Hessian(weight.square().sum(), [weight]), 4, np.ones(4, dtype=np.float32))
    with pytest.raises(UserError, match="has no Hessian"):
        Hessian(torch.zeros(()), [weight])


def run(out: Path, *words: object) -> tuple[dict[str, Any], Sequence[pd.DataFrame]]:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--suite", "hessian", "--out", str(out), *map(str, words)])
    assert not ended.value.code
    (folder,) = out.glob("digits-hessian-*")
    return json.loads((folder / "record.json").read_text()), [
        pd.read_parquet(path) for path in sorted((folder / "tables").iterdir())
    ]


def test_a_run_has_a_row_for_each_batch_of_the_train_split_in_its_order(tmp_path: Path) -> None:
    words = ("-o", "batches=3", "-o", "batch_size=16", "-o", "augment=false", "--model", "tiny,width=2")
    record, (table,) = run(tmp_path, *words)
    assert (record["dataset"]["split"], record["dataset"]["n"], record["draws"]) == ("train", 48, 1)
    data = digits("train")
    module = registry.model("tiny,width=2", data).eval()
    keys = torch.arange(16)
    for row, found in enumerate(table["eigenvalue"]):
        images = data.images.read(16 * row, 16 * row + 16) / 255
        matrix = whole(module, images, data.targets.read(16 * row, 16 * row + 16), keys, 5e-4)
        assert found == pytest.approx(by_magnitude(matrix)[0], rel=1e-3)
    low, high = record["intervals"]["mean_eigenvalue"]["1"]
    assert record["metrics"]["mean_eigenvalue"] == pytest.approx(table["eigenvalue"].mean())
    assert low < record["metrics"]["mean_eigenvalue"] < high
    # 0 of 3 batches (Wilson, 1927): z² / (n + z²).
    assert record["intervals"]["negative_share"]["1"] == pytest.approx([0, 1.959964**2 / (3 + 1.959964**2)])
    assert "w = the weight decay of recipe fast" in record["suite"]["protocol"]
