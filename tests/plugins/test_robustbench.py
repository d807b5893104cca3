"""Networks of RobustBench, from a stand-in of its package and, where it is installed, from itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from conftest import write_distribution
from stressbench import registry, weights
from stressbench.contracts import Classification, Dataset, InMemory, traits
from stressbench.errors import UserError

ZOO = """
from enum import Enum
import torch
from torch import nn

class BenchmarkDataset(Enum):
    cifar_10 = "cifar10"
    imagenet = "imagenet"

class ThreatModel(Enum):
    Linf = "Linf"
    L2 = "L2"
    corruptions = "corruptions"

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 10)
        self.register_buffer("mu", torch.tensor([0.4, 0.5, 0.6]))
        self.register_buffer("sigma", torch.tensor([0.2, 0.25, 0.5]))

    def forward(self, images):
        return self.linear((images.mean(dim=(2, 3)) - self.mu) / self.sigma)

class Normalize(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1))

    def forward(self, images):
        return (images - self.mean).mean(dim=(2, 3))

def large():
    return nn.Sequential(OrderedDict(normalize=Normalize(), model=nn.Sequential(OrderedDict(fc=nn.Linear(3, 10)))))

from collections import OrderedDict

model_dicts = {
    BenchmarkDataset.cifar_10: {
        ThreatModel.Linf: {
            "Wong2020Fast": {"model": Net, "gdrive_id": "1"},
            "Deck": {"model": Net, "gdrive_id": ["1", "2"]},
        }
    },
    BenchmarkDataset.imagenet: {
        ThreatModel.Linf: {"Large": {"model": large, "gdrive_id": "1", "preprocessing": "Res256Crop224"}}
    },
}
"""


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package `robustbench` whose `__init__` cannot be imported, as the real one's in a fresh environment."""
    site = tmp_path / "site"
    models = site / "robustbench" / "model_zoo"
    models.mkdir(parents=True)
    (site / "robustbench" / "__init__.py").write_text("import autoattack_that_nobody_has\n")
    (models / "__init__.py").touch()
    (models / "models.py").write_text(ZOO)
    (models / "enums.py").write_text("from robustbench.model_zoo.models import BenchmarkDataset, ThreatModel\n")
    write_distribution(site, "robustbench", {})
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "robustbench"}
    monkeypatch.syspath_prepend(str(site))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "robustbench"]:
        del sys.modules[name]
    sys.modules.update(before)


def data(name: str = "cifar10") -> Dataset:
    images = InMemory(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
    return Dataset(name, "test", Classification(10), images, InMemory(torch.zeros(2, dtype=torch.int64)), (4, 4))


def saved(path: Path, tensors: dict[str, Tensor]) -> Path:
    torch.save({"state_dict": tensors, "epoch": 3}, path)
    return path


@pytest.mark.usefixtures("zoo")
def test_a_file_without_normalisation_keeps_the_networks_own(tmp_path: Path) -> None:
    network = registry.model("robustbench:Wong2020Fast", data())
    assert traits(network).untrained
    assert str(traits(network).source).startswith("robustbench ")
    weight, bias = torch.rand(10, 3), torch.rand(10)
    file = saved(tmp_path / "Wong2020Fast.pt", {"module.linear.weight": weight, "module.linear.bias": bias})
    weights.load(network, file)
    images = torch.rand(2, 3, 4, 4)
    pixel = (images.mean(dim=(2, 3)) - torch.tensor([0.4, 0.5, 0.6])) / torch.tensor([0.2, 0.25, 0.5])
    assert torch.allclose(network(images), pixel @ weight.T + bias, atol=1e-5)


@pytest.mark.usefixtures("zoo")
def test_a_file_with_normalisation_brings_its_own(tmp_path: Path) -> None:
    network = registry.model("robustbench:Wong2020Fast,zoo=cifar10", data("mine"))
    file = saved(tmp_path / "a.pt", {**network.state_dict(), "mu": torch.zeros(3)})
    weights.load(network, file)
    assert network.mu.tolist() == [0, 0, 0]


@pytest.mark.usefixtures("zoo")
def test_an_imagenet_file_goes_behind_the_normalisation(tmp_path: Path) -> None:
    network = registry.model("robustbench:Large", data("imagenet"))
    assert "for images by Res256Crop224" in str(traits(network).source)
    weight = torch.rand(10, 3)
    weights.load(network, saved(tmp_path / "a.pt", {"module.fc.weight": weight, "module.fc.bias": torch.zeros(10)}))
    images = torch.rand(2, 3, 4, 4)
    expected = (images.mean(dim=(2, 3)) - torch.tensor([0.4, 0.5, 0.6])) @ weight.T
    assert torch.allclose(network(images), expected, atol=1e-5)


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize("content", [{"linear.weight": torch.rand(10, 3)}, {"other.weight": torch.rand(10, 3)}])
def test_a_file_of_another_network_is_refused(content: dict[str, Tensor], tmp_path: Path) -> None:
    network = registry.model("robustbench:Wong2020Fast", data())
    with pytest.raises(UserError):
        weights.load(network, saved(tmp_path / "a.pt", content))


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(
    ("spec", "name", "words"),
    [
        ("robustbench:Wong2020Fats", "cifar10", "no network 'Wong2020Fats' for cifar10 under Linf: did you mean"),
        ("robustbench:Wong2020Fast,threat=L2", "cifar10", "no network 'Wong2020Fast' for cifar10 under L2"),
        ("robustbench:Deck", "cifar10", "is made of several files"),
        ("robustbench:Wong2020Fast", "digits", "has no networks for digits: give zoo="),
    ],
)
def test_what_the_zoo_does_not_have_is_refused(spec: str, name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        registry.model(spec, data(name))


@pytest.mark.usefixtures("zoo")
def test_a_folder_that_an_uninstalled_package_left_behind_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("stressbench_plugins.robustbench_models.version", missing)
    with pytest.raises(UserError, match=r"robustbench is not installed: pip install 'stressbench\[robustbench\]'"):
        registry.model("robustbench:Wong2020Fast", data())


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_its_own_network_normalises_as_its_code_says() -> None:
    pytest.importorskip("geotorch", reason="robustbench is not installed")
    network = registry.model("robustbench:Gowal2021Improving_R18_ddpm_100m", data()).eval()
    inner = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    seen: list[Tensor] = []
    inner[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        network(images)
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2471, 0.2435, 0.2616])
    assert torch.allclose(seen[0], (images - mean.view(3, 1, 1)) / std.view(3, 1, 1), atol=5e-3)
