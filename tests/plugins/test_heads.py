"""The heads against numpy: alone, and as the ends of networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from model_family import LARGE, SMALL, build, outline, outputs, parameters
from stressbench_plugins.heads import GlobalMedian, head

POOLINGS = {"gap": np.mean, "gmaxp": np.max, "gmedp": np.median}


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (4, 4), (2, 5)])
@pytest.mark.parametrize("name", POOLINGS)
def test_global_poolings_are_numpys(name: str, size: tuple[int, int]) -> None:
    x = torch.randn(2, 7, *size, generator=torch.Generator().manual_seed(0))
    pool, linear = head(name, 7, 1, 10)
    expected = POOLINGS[name](x.numpy(), axis=(2, 3), keepdims=True)
    np.testing.assert_allclose(pool(x).numpy(), expected, rtol=1e-5, atol=1e-7)
    assert linear.weight.shape == (10, 7)


def test_the_median_of_an_even_count_is_the_mean_of_the_middle_two() -> None:
    x = torch.tensor([[1.0, 2.0], [4.0, 50.0]], requires_grad=True)
    median = GlobalMedian()(x[None, None])
    assert median.item() == 3
    median.backward()
    assert x.grad.tolist() == [[0, 0.5], [0.5, 0]]


# (channels, side) of the last map of a 32×32 image: a global head stands in the place of VGG's and AlexNet's pooling.
@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize(
    ("base", "last", "final", "shape"),
    [
        ("resnet18", "layer4", "fc", (512, 4)),
        ("preresnet18", "norm", "fc", (512, 4)),
        ("vgg11", "features", "classifier", (512, 2)),
        ("alexnet", "features", "classifier", (256, 4)),
    ],
)
def test_a_networks_logits_are_linear_in_the_pooled_map(
    base: str, last: str, final: str, shape: tuple[int, int], name: str
) -> None:
    net = build(base, head=name)
    linear = getattr(net, final)
    features, logits = outputs(net, [getattr(net, last), linear])
    assert features.shape == (1, shape[0], shape[1], shape[1])
    pooled = POOLINGS[name](features.double().numpy(), axis=(2, 3))
    expected = pooled @ linear.weight.detach().double().numpy().T + linear.bias.detach().numpy()
    np.testing.assert_allclose(logits.numpy(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("base", ["resnet18", "resnet50", "preresnet18", "vgg16", "prevgg11", "alexnet"])
def test_global_heads_have_the_same_size_and_the_same_names(base: str) -> None:
    nets = [outline(f"{base}-smooth", head=name) for name in POOLINGS]
    assert len({parameters(net) for net in nets}) == 1
    assert len({tuple(net.state_dict()) for net in nets}) == 1


def test_an_mlp_has_two_hidden_layers_of_4096_and_dropout_in_training_alone() -> None:
    for data, positions in ((SMALL, 16), (LARGE, 49)):
        net = outline("resnet50-smooth", data, head="mlp")
        linears = [m for m in net.fc if isinstance(m, nn.Linear)]
        shapes = [(m.in_features, m.out_features) for m in linears]
        assert shapes == [(2048 * positions, 4096), (4096, 4096), (4096, data.classes)]
        assert [m.p for m in net.fc if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    net = build("vgg11")
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(net(image), net(image))
        net.classifier.train()
        assert not torch.equal(net(image), net(image))


def test_an_mlp_of_a_map_that_smoothing_has_grown_has_the_same_weights() -> None:
    plain, smooth = outline("resnet18", head="mlp"), outline("resnet18-smooth", head="mlp")
    assert {k: v.shape for k, v in plain.state_dict().items()} == {k: v.shape for k, v in smooth.state_dict().items()}
    assert smooth(torch.rand(2, 3, 32, 32, device="meta")).shape == (2, 10)


def test_hidden_layers_start_as_wide_as_their_family_needs() -> None:
    vgg, alexnet = build("vgg11").classifier, build("alexnet").classifier
    assert [vgg[i].weight.std().item() for i in (0, 3)] == pytest.approx([0.01, 0.01], rel=0.01)
    he = [(2 / layer.in_features) ** 0.5 for layer in (alexnet[1], alexnet[4])]
    assert [alexnet[i].weight.std().item() for i in (1, 4)] == pytest.approx(he, rel=0.01)
    assert not any(layer.bias.any() for layer in (vgg[0], vgg[3], alexnet[1], alexnet[4]))
