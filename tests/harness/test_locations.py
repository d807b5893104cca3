"""Locations 0 … 4 of networks that nobody has described."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from public_resnet20 import ResNet20
from stressbench import locations
from stressbench.datasets.digits import digits
from stressbench.errors import UserError
from stressbench_plugins import alexnet, cifar_resnet, resnet
from tiny_models import Tiny


def found(model: nn.Module, side: int = 32) -> list[str]:
    return [f"{number} {place}" for number, place in locations.find(model, (side, side)).items()]


def test_stages_of_a_resnet() -> None:
    for build in (resnet.resnet18, resnet.resnet18_mcdo_smooth):
        places = locations.find(build(digits("test")), (32, 32))
        assert [str(place) for place in places.values()] == [
            "input of conv1", "output of layer1", "output of layer2", "output of layer3", "input of fc"
        ]  # fmt: skip
        side = 33 if build is resnet.resnet18_mcdo_smooth else 32
        assert [place.shape for place in places.values()][:2] == [(3, 32, 32), (64, side, side)]
        assert places[4].shape == (512,)


def test_stages_of_networks_made_elsewhere() -> None:
    with torch.device("meta"):
        nets = {name: getattr(torchvision.models, name)() for name in ("resnet50", "vgg11", "vit_b_16")}
    # Of four ends, the stem's is not taken; a bottleneck narrows in its second layer, which is not the end of a stage.
    assert found(nets["resnet50"], 224)[1:4] == ["1 output of layer1", "2 output of layer2", "3 output of layer3"]
    assert found(nets["vgg11"], 224)[0::4] == ["0 input of features.0", "4 input of classifier.6"]
    # Three of the five ends before the poolings of a flat list: after 2, 6 and 8 of 11 layers.
    assert found(nets["vgg11"], 224)[1:4] == [f"{k} output of features.{n}" for k, n in ((1, 4), (2, 14), (3, 19))]
    # One resolution: the blocks after a quarter, half and three quarters of the layers.
    assert found(nets["vit_b_16"], 224)[1:4] == [
        f"{k} output of encoder.layers.encoder_layer_{n}" for k, n in ((1, 2), (2, 5), (3, 8))
    ]


def test_other_small_networks() -> None:
    assert found(alexnet.alexnet(digits("test")))[1:4] == [
        f"{k} output of features.{n}" for k, n in ((1, 1), (2, 4), (3, 11))
    ]
    # Three stages have two ends between them, so the last one's counts too.
    ours, pre = (build(digits("test")) for build in (cifar_resnet.resnet20, cifar_resnet.preresnet20_mcdo_smooth))
    for net, last in ((ResNet20(10), "layer3"), (ours, "layer3"), (pre, "norm")):
        assert found(net)[1:] == [
            "1 output of layer1", "2 output of layer2", f"3 output of {last}", "4 input of linear"
        ]  # fmt: skip
    layers = [nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(8)]
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), *layers, nn.Linear(4, 2))
    assert found(mlp, 8) == ["0 input of 1", "1 output of 3", "2 output of 5", "3 output of 8", "4 input of 10"]


def test_a_convolution_without_padding_begins_no_stage() -> None:
    def conv() -> nn.Module:
        return nn.Conv2d(3, 3, 3)

    def pool() -> nn.Module:
        return nn.MaxPool2d(2)

    layers = [conv(), nn.ReLU(), conv(), pool(), conv(), conv(), pool(), conv(), pool(), nn.Flatten(), nn.Linear(75, 2)]
    assert found(nn.Sequential(*layers), 64)[1:4] == ["1 output of 2", "2 output of 5", "3 output of 7"]


def test_a_network_without_stages_has_two_locations_and_its_names() -> None:
    tiny = Tiny(digits("test"))
    assert found(tiny) == ["0 input of features", "4 input of head"]
    with pytest.raises(UserError, match=r"no location '2': give one of 0, 4, features, head$"):
        locations.locate(tiny, (32, 32), "2")
    with pytest.raises(UserError, match="did you mean 'features'"):
        locations.locate(tiny, (32, 32), "feature")
    assert str(locations.locate(tiny, (32, 32), "features")) == "output of features"


def test_a_network_without_layers_has_no_location() -> None:
    assert found(nn.Flatten()) == []


def test_the_name_of_a_module_that_runs_twice_is_its_last_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.turn = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.turn(self.turn(x).relu()).mean((1, 2))

    assert locations.locate(Twice(), (8, 8), "turn").call.number == 2


def blocks(model: nn.Module, side: int = 32) -> list[str]:
    return [place.call.name for place in locations.blocks(model, (side, side))]


def test_blocks_of_networks_of_ours() -> None:
    smooth = cifar_resnet.resnet20_mcdo_smooth(digits("test"))
    stages = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(4)]  # the fourth of each is a Smooth
    assert blocks(smooth) == ["relu", *stages]
    assert blocks(resnet.resnet18(digits("test"))) == [
        "maxpool", *(f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in range(2))
    ]  # fmt: skip


def test_blocks_of_networks_made_elsewhere() -> None:
    with torch.device("meta"):
        nets = {
            name: getattr(torchvision.models, name)()
            for name in ("resnet50", "vgg11", "mobilenet_v3_small", "convnext_tiny", "densenet121")
        }
    # A residual block adds to its output in place, so that the tensor stays the same one.
    resnet50 = [f"layer{s}.{b}" for s, n in ((1, 3), (2, 4), (3, 6), (4, 3)) for b in range(n)]
    assert blocks(nets["resnet50"], 64) == ["maxpool", *resnet50]
    assert blocks(nets["vgg11"], 64) == [*(f"features.{k}" for k in (2, 5, 7, 10, 12, 15, 17)), "avgpool"]
    # Some inverted residuals only chain their layers, and are blocks as the others of their class are.
    assert blocks(nets["mobilenet_v3_small"], 64) == [
        "features.0.2",
        *(f"features.{k}" for k in range(1, 12)),
        "features.12.2",
    ]
    assert blocks(nets["densenet121"], 64)[:3] == [
        "features.pool0",
        "features.denseblock1",
        "features.transition1.pool",
    ]
    assert len(blocks(nets["convnext_tiny"], 64)) == 4 + 3 + 3 + 9 + 3  # downsampling layers and blocks


def test_blocks_of_wrapped_networks_and_of_those_that_return_maps() -> None:
    class Wrapped(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.inner(2 * images)
            return logits

    class Skipping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)

        def forward(self, images: Tensor) -> Tensor:
            x = self.first(images)
            logits: Tensor = self.last(x + self.second(x))
            return logits

    assert blocks(Wrapped(Skipping()), 8) == ["inner.first", "inner.second", "inner.last"]
    assert blocks(nn.Flatten()) == []
