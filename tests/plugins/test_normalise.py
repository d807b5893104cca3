"""`normalise` against torchvision's own normalisation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from stressbench import registry, weights
from stressbench.errors import UserError
from stressbench.testing import random_dataset
from stressbench_plugins.normalise import KNOWN

DATASET = random_dataset(classes=5, image_size=(8, 8))
IMAGES = DATASET.images.read(0, 4) / 255
NET = """
from torch import nn
def net(dataset):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, dataset.classes))
"""


@pytest.fixture
def spec(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(NET)
    return f"file:{tmp_path}/nets.py:net"


@pytest.mark.parametrize(
    ("options", "mean", "std"),
    [(f"mean={name}", *values) for name, values in KNOWN.items()]
    + [
        ("mean=0.1+0.2+0.3,std=0.4+0.5+0.6", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
        ("mean=0.5,std=0.25", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    ],
)
def test_the_network_sees_normalised_images(
    options: str, mean: tuple[float, ...], std: tuple[float, ...], spec: str, tmp_path: Path
) -> None:
    bare = registry.model(spec, DATASET)
    torch.save(bare.state_dict(), tmp_path / "mine.pt")
    ours = registry.model(f"normalise:{spec},{options}", DATASET)
    assert ours.state_dict().keys() == bare.state_dict().keys()
    weights.load(ours, tmp_path / "mine.pt")
    torch.testing.assert_close(ours(IMAGES), bare(v2.functional.normalize(IMAGES, list(mean), list(std))))
    images = IMAGES.clone().requires_grad_()
    ours(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("mean=imagenet,std=0.2", "has its own std"),
        ("mean=0.5", "needs a std"),
        ("mean=imagnet", "needs a std: expected mean=imagenet"),
        ("mean=123.7,std=58.4", "divide values for 0 … 255 by 255"),
        ("mean=0.5,std=0", "invalid mean"),
        ("mean=0.5+0.5,std=0.2", "one number, or three"),
        ("mean=x,std=0.2", "one number or three"),
    ],
)
def test_values_that_are_no_statistics(options: str, words: str, spec: str) -> None:
    with pytest.raises(UserError, match=words):
        registry.model(f"normalise:{spec},{options}", DATASET)


@pytest.mark.parametrize("inner", ["resnet18", "torchvision:resnet18,weights=none,size=32"])
def test_input_is_not_normalised_twice(inner: str) -> None:
    with pytest.raises(UserError, match="normalised twice"):
        registry.model(f"normalise:({inner}),mean=imagenet", DATASET)


def test_parts_are_normalised(spec: str) -> None:
    with pytest.raises(UserError, match="normalise those instead"):
        registry.model(f"normalise:(ensemble:({spec}),size=2),mean=half", DATASET)
    module = registry.model(f"ensemble:(normalise:{spec},mean=half),size=2", DATASET)
    assert isinstance(module, nn.Module)
