"""SWAG: its moments, its samples' covariance and its batch statistics against NumPy, and a short training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stressbench import randomness, weights
from stressbench.cli import main
from stressbench.contracts import Classification, Dataset, InMemory
from stressbench.errors import UserError
from stressbench.sampling import sample
from stressbench_plugins.swag import RANK, Swag


class Net(nn.Module):
    """A batch normalisation between two linear layers of mean colours."""

    untrained = True

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(self.norm(self.first(images.mean(dim=(2, 3)))))
        return logits


def walked(steps: int) -> tuple[Swag, np.ndarray]:
    """A network after some epochs, and the weights at the end of each."""
    generator = torch.Generator().manual_seed(0)
    made = Swag(Net(), "net", samples=3)
    path = []
    for _ in range(steps):
        made.train()
        made(torch.rand(4, 3, 2, 2, generator=generator))
        with torch.no_grad():
            for parameter in made.model.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        made.eval()
        path.append(torch.cat([p.detach().flatten() for p in made.model.parameters()]).double().numpy())
    return made, np.stack(path)


def training_images() -> Dataset:
    images = torch.randint(0, 256, (30, 3, 2, 2), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    labels = torch.zeros(30, dtype=torch.int64)
    return Dataset("made", "train", Classification(2), InMemory(images), InMemory(labels), (2, 2))


@pytest.mark.parametrize("steps", [3, RANK + 4])
def test_the_weights_at_the_ends_of_epochs_are_collected(steps: int) -> None:
    made, path = walked(steps)
    made.eval()  # once more, without a pass in between
    assert int(made.collected) == steps
    np.testing.assert_allclose(made.mean.numpy(), path.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(made.square.numpy(), (path**2).mean(axis=0), atol=1e-5)
    deviations = np.zeros((RANK, path.shape[1]))
    for n in range(steps):
        deviations[n % RANK] = path[n] - path[: n + 1].mean(axis=0)
    np.testing.assert_allclose(made.deviations.numpy(), deviations, atol=1e-5)


@pytest.mark.parametrize("diagonal", [True, False])
def test_samples_have_the_published_covariance(diagonal: bool) -> None:
    made, path = walked(RANK + 4)
    variance = path.var(axis=0)
    if not diagonal:
        made.square.copy_(made.mean**2)
        variance = np.zeros_like(variance)
    generator = torch.Generator().manual_seed(2)
    drawn = torch.stack([made.sample(generator) for _ in range(4000)]).double().numpy()
    d = made.deviations.double().numpy()
    expected = 0.5 * np.diag(variance) + 0.5 * d.T @ d / (RANK - 1)
    found = np.cov(drawn.T)
    assert np.trace(found) == pytest.approx(np.trace(expected), rel=0.03)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.abs((found - expected) / scale).max() < 0.1
    np.testing.assert_allclose(drawn.mean(axis=0), path.mean(axis=0), atol=0.03)


def test_draws_are_samples_with_their_own_batch_statistics() -> None:
    made, _ = walked(5)
    running = made.model.norm.running_mean.clone()
    data = training_images()
    assert made.fit(data) == "SWAG of 5 epochs, 3 samples and the statistics of 30 training images"
    assert torch.equal(made.model.norm.running_mean, running)
    assert (made.model.norm.momentum, made.model.norm.training) == (0.1, False)
    images = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(3))
    with torch.no_grad(), torch.random.fork_rng(), randomness.draw(torch.arange(4), 0):
        draws = sample(made, images, 3)
    for index, logits in enumerate(draws):
        flat = made.sample(torch.Generator().manual_seed(randomness.derive("swag", index)))
        one, own = Net(), iter(flat.split([p.numel() for p in made.model.parameters()]))
        with torch.no_grad():
            for parameter in one.parameters():
                parameter.copy_(next(own).view(parameter.shape))
            hidden = one.first((data.images.read(0, 30) / 255).mean(dim=(2, 3)))
            mean, variance = hidden.mean(dim=0), hidden.var(dim=0)
            normal = (one.first(images.mean(dim=(2, 3))) - mean) / (variance + one.norm.eps).sqrt()
            expected = one.last(normal * one.norm.weight + one.norm.bias)
        assert torch.allclose(logits, expected, atol=1e-4)
    assert not torch.equal(draws[0], draws[1])


def test_the_networks_own_weights_begin_a_training_and_its_own_file_goes_on(tmp_path: Path) -> None:
    made, _ = walked(4)
    weights.save(made, tmp_path / "swag.safetensors", {})
    weights.save(net := Net(), tmp_path / "net.safetensors", {})
    again = Swag(Net(), "net", samples=3)
    weights.load(again, tmp_path / "swag.safetensors")
    assert torch.equal(again.deviations, made.deviations)
    assert int(again.collected) == 4
    weights.load(again, tmp_path / "net.safetensors")
    assert torch.equal(again.model.first.weight, net.first.weight)
    assert int(again.collected) == 0
    with pytest.raises(UserError, match="swag:net has the weights of 0 epochs: train it for more"):
        again.fit(training_images())


@pytest.mark.parametrize("spec", ["swag:tiny", "swag:(ensemble:small,size=2)", "swag:(infer-noise:small)"])
def test_what_cannot_be_trained_so_is_refused(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--suite", "ood", "--scores", "msp", "--model", spec, "--limit", "10"])
    assert ended.value.code == 2
    assert "swag needs a deterministic network that bench train can train" in capsys.readouterr().err


def test_a_short_training_goes_on_from_the_network_and_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path / "home"))

    def bench(*words: str) -> None:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        assert ended.value.code == 0

    bench("train", "--model", "small", "--recipe", "fast,epochs=1")
    constant = "fast,epochs=3,schedule=steps,warmup=0,learning_rate=0.005"
    bench("train", "--model", "swag:small,samples=3", "--start", "small", "--recipe", constant)
    out = tmp_path / "runs"
    suite = ("--suite", "ood", "--sources", "noise", "--scores", "msp,mutual_information", "--out", str(out))
    bench("run", "--model", "swag:small,samples=3", *suite)
    (path,) = out.glob("*/record.json")
    found: dict[str, Any] = json.loads(path.read_text())
    assert found["draws"] == 3
    assert "SWAG of 3 epochs, 3 samples" in found["model"]["weights_source"]
    assert found["metrics"]["accuracy"] > 0.5
