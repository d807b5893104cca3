"""The last layer's Laplace approximation, against the Hessian by automatic differentiation and closed forms."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian

from stressbench import randomness
from stressbench.cli import main
from stressbench.contracts import Classification, Dataset, InMemory
from stressbench.errors import UserError
from stressbench.sampling import sample
from stressbench.testing import check_model, random_dataset
from stressbench_plugins.laplace import LastLayerLaplace, prior_precision

SIDE, CLASSES, IMAGES = 4, 3, 40


class Plain(nn.Module):
    """Two channels, pooled, and a linear layer."""

    def __init__(self, dataset: Dataset | None = None, bias: bool = True, scale: float = 1.0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.body = nn.Conv2d(3, 2, 3, padding=1)
            self.head = nn.Linear(2, CLASSES if dataset is None else dataset.classes, bias=bias)
        self.head.weight.data *= scale
        if bias:
            self.head.bias.data *= scale

    def features(self, images: Tensor) -> Tensor:
        return self.body(images).relu().mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits


def training_images(n: int = IMAGES) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (n,), generator=generator)
    return Dataset("made", "train", Classification(CLASSES), InMemory(images), InMemory(labels), (SIDE, SIDE))


def fitted(model: Plain, precision: float | None = None) -> LastLayerLaplace:
    made = LastLayerLaplace(model, "plain", (SIDE, SIDE), precision)
    made.fit(training_images())
    return made.eval()


def exact_covariance(model: Plain, precision: float, images: Tensor) -> Tensor:
    """Of the logits, with the whole Hessian of the training NLL in the last layer's weights, float64."""
    data = training_images()
    with torch.no_grad():
        h = model.features(data.images.read(0, IMAGES) / 255).double()
        own = model.features(images).double()
        parts = [model.head.weight.double()]
        if model.head.bias is not None:
            h, own = (torch.cat([x, torch.ones(len(x), 1)], dim=1).double() for x in (h, own))
            parts.append(model.head.bias.double()[:, None])
        weight = torch.cat(parts, dim=1)

    def nll(flat: Tensor) -> Tensor:
        return nn.functional.cross_entropy(h @ flat.view(weight.shape).T, data.labels, reduction="sum")

    whole = hessian(nll, weight.flatten())
    posterior = torch.linalg.inv(whole + precision * torch.eye(weight.numel(), dtype=torch.float64))
    jacobian = torch.stack([torch.kron(torch.eye(CLASSES, dtype=torch.float64), x[None]) for x in own])
    return jacobian @ posterior @ jacobian.transpose(1, 2)


@pytest.mark.parametrize("bias", [True, False])
def test_with_equal_probabilities_the_factors_are_the_whole_hessian(bias: bool) -> None:
    model = Plain(bias=bias, scale=0.0)
    images = torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        found = fitted(model, precision=2.0).covariance(images)
    np.testing.assert_allclose(found.numpy(), exact_covariance(model, 2.0, images).numpy(), rtol=1e-4)


def test_of_other_probabilities_the_factors_are_near_the_whole_hessian() -> None:
    model = Plain(scale=2.0)
    images = torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        found = fitted(model, precision=2.0).covariance(images)
    exact = exact_covariance(model, 2.0, images)
    assert float((found - exact).abs().max() / exact.abs().max()) < 0.05


def test_draws_have_the_mean_and_the_covariance_of_the_linear_model() -> None:
    model = Plain()
    images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    laplace = fitted(model, precision=0.5)
    with torch.no_grad():
        many, keys = images[:1].expand(40_000, -1, -1, -1), torch.arange(40_000)
        with randomness.draw(keys, 0), torch.random.fork_rng():
            (logits,) = sample(laplace, many, 1)
        assert torch.allclose(logits.mean(dim=0), model(images[:1])[0], atol=0.02)
        assert torch.allclose(torch.cov(logits.T), laplace.covariance(images[:1])[0], rtol=0.05, atol=2e-3)


def test_the_prior_precision_has_the_highest_marginal_likelihood() -> None:
    generator = np.random.default_rng(0)
    curvature, weight = generator.exponential(20, 30), generator.normal(0, 0.3, 30)
    found = prior_precision(curvature, float((weight**2).sum()))

    def evidence(precision: float) -> float:
        """Of data whose likelihood is exactly Gaussian in the weights with this curvature and this mode."""
        # ∫ N(w; 0, 1/λ) exp(−½ c (w − ŵ)²) dw with the mode of the product at `weight`: ŵ = w (c + λ) / c.
        log_prior = 0.5 * len(weight) * math.log(precision / (2 * math.pi)) - 0.5 * precision * (weight**2).sum()
        return float(log_prior + 0.5 * np.log(2 * math.pi / (curvature + precision)).sum())

    grid = found * np.exp(np.linspace(-3, 3, 601))
    assert found == pytest.approx(grid[np.argmax([evidence(value) for value in grid])], rel=0.02)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_exact_covariance_is_laplace_torchs() -> None:
    library = pytest.importorskip("laplace", reason="laplace-torch is not installed")
    model, data = Plain(scale=2.0), training_images()
    images = torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    theirs = library.Laplace(model, "classification", "last_layer", "full", prior_precision=2.0)
    pairs = torch.utils.data.TensorDataset(data.images.read(0, IMAGES) / 255, data.labels)
    theirs.fit(torch.utils.data.DataLoader(pairs, batch_size=IMAGES))
    _, expected = theirs._glm_predictive_distribution(images)
    np.testing.assert_allclose(exact_covariance(model, 2.0, images).numpy(), expected.detach().numpy(), rtol=1e-3)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("laplace:dropped", "laplace needs a deterministic network and dropped has draws"),
        ("laplace:tiny", "laplace needs logits that are a linear layer's: tiny changes them"),
        ("laplace:untrained", "laplace needs logits that are a linear layer's: untrained changes them"),
        ("laplace:calibrated:untrained", "calibrate outside of it, as calibrated:laplace:MODEL"),
        ("laplace:(ensemble:(calibrated:untrained),size=2)", "calibrate outside of it, as calibrated:laplace:MODEL"),
        ("laplace:small,precision=0", "invalid precision=0.0: expected a number above 0"),
    ],
)
def test_what_has_no_such_last_layer_is_refused_before_anything_trains(
    spec: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--suite", "ood", "--scores", "msp", "--model", spec, "--limit", "10"])
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert "training" not in printed  # which may take hours


def test_it_passes_every_check() -> None:
    def made(data: Dataset) -> nn.Module:
        return LastLayerLaplace(Plain(data), "plain", data.image_size, 1.0)

    findings = check_model(made, random_dataset(classes=7, image_size=(8, 8)))
    assert {finding.status for finding in findings} == {"passed", "skipped"}


def test_a_run_fits_it_to_the_training_images_and_scores_all_test_images(tmp_path: Path) -> None:
    words = ("--suite", "ood", "--sources", "noise", "--scores", "msp,mutual_information", "--limit", "1000")
    nets = tmp_path / "nets.py"
    nets.write_text(
        "import torch\nfrom torch import nn\n\ndef plain(dataset):\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(12, dataset.classes))\n"
    )
    model = f"laplace:(file:{nets}:plain)"
    with pytest.raises(SystemExit) as ended:
        main(["run", *words, "--model", model, "--draws", "3", "--out", str(tmp_path / "runs")])
    assert ended.value.code == 0
    (path,) = (tmp_path / "runs").glob("*/record.json")
    found: dict[str, Any] = json.loads(path.read_text())
    assert "fitted on 1,597 training images" in found["model"]["weights_source"]
    assert (found["draws"], found["dataset"]["n"]) == (3, 200)


def test_the_network_that_is_wrapped_keeps_its_name() -> None:
    with pytest.raises(UserError, match="laplace needs a network that ends with a linear layer"):
        LastLayerLaplace(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(1)), "conv", (3, 3), None)
