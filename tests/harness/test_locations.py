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
from stressbench_plugins import alexnet, resnet
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
    # Of four ends, the stem's is not taken; a bottleneck narrows in its second layer, which is no stage's end.
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
    assert found(ResNet20(10))[1:] == [
        "1 output of layer1", "2 output of layer2", "3 output of layer3", "4 input of linear"
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
