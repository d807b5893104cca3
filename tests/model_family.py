"""What the tests of the model plugins share: every architecture of ours, datasets for them, and looks inside."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from configparser import ConfigParser

import torch
from torch import Tensor, nn

from conftest import ROOT
from stressbench.contracts import Classification, Dataset, InMemory

ENDINGS = ("", "-smooth", "-mcdo", "-mcdo-smooth")

# Dense models do not classify, and what a name with a colon stands for is made of other models, or is from elsewhere.
_DENSE = tuple(f"stressbench_plugins.{module}:" for module in ("super_resolution", "fcrn", "unet"))


def _entry_points() -> dict[str, str]:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options.entry_points"]["stressbench.models"].split("\n")
    points = [line.partition(" = ")[::2] for line in lines if " = " in line]
    assert len(dict(points)) == len(points), "a name is there twice"
    return {name: target for name, target in points if ":" not in name and not target.startswith(_DENSE)}


# What `setup.cfg` says, and not what is installed, so that a new line is tested before the next installation.
ENTRY_POINTS = _entry_points()
ARCHITECTURES = [name for name in ENTRY_POINTS if "-" not in name]


def factory(name: str) -> Callable[..., nn.Module]:
    module, _, attribute = ENTRY_POINTS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def dataset(size: int, classes: int = 10) -> Dataset:
    pixels = torch.zeros(0, 3, size, size, dtype=torch.uint8, device="cpu")
    labels = torch.zeros(0, dtype=torch.int64, device="cpu")
    return Dataset("some", "test", Classification(classes), InMemory(pixels), InMemory(labels), (size, size))


_outlines: dict[tuple[object, ...], nn.Module] = {}
SMALL, LARGE = dataset(32), dataset(224, classes=1000)


def build(name: str, data: Dataset = SMALL, **options: object) -> nn.Module:
    """A model in eval mode, from seed 0, with batch normalisations that do something."""
    torch.manual_seed(0)
    net = factory(name)(data, **options)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.8, 1.2)
            nn.init.uniform_(layer.bias, -0.2, 0.2)
    return net.eval()


def outline(name: str, data: Dataset = SMALL, **options: object) -> nn.Module:
    """A model in eval mode on the meta device: shapes and names, and no numbers. Many tests share it."""
    key = (name, data.image_size, data.classes, *sorted(options.items()))
    if key not in _outlines:
        with torch.device("meta"):
            _outlines[key] = factory(name)(data, **options).eval()
    return _outlines[key]


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def outputs(net: nn.Module, watched: list[nn.Module], side: int = 32) -> list[Tensor]:
    """What comes out of these layers, in the order of their turns, when the network sees one image."""
    seen: list[Tensor] = []
    hooks = [m.register_forward_hook(lambda _, __, out: seen.append(out.clone())) for m in watched]
    device = next(net.parameters()).device
    with torch.no_grad():
        net(torch.rand(1, 3, side, side, device=device))
    for hook in hooks:
        hook.remove()
    return seen


def sizes(net: nn.Module, kind: type[nn.Module], side: int = 32) -> list[int]:
    """The heights of the maps that come out of the layers of a kind, in the order of their turns."""
    return [out.shape[-2] for out in outputs(net, [m for m in net.modules() if isinstance(m, kind)], side)]
