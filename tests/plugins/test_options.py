"""The options of the models: what each has, what they do, and how wrong ones are refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_family import ARCHITECTURES, ENTRY_POINTS, LARGE, build, dataset, factory, outline, outputs, sizes
from stressbench import registry
from stressbench.errors import UserError
from stressbench_plugins.layers import Blur, MCDropout, Prob, Scale, Smooth


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry sees the entry points of this checkout's `setup.cfg`, whatever is installed."""
    from importlib.metadata import EntryPoint

    def find(kind: str, name: str) -> registry.Entry:
        point = EntryPoint(name, ENTRY_POINTS[name], f"stressbench.{kind}")
        return registry.Entry(kind, name, "stressbench", "1", point)

    monkeypatch.setattr(registry, "find", find)


def _stages(base: str) -> str:
    """How many Smooth follow each stage by default."""
    if "res" not in base:
        return "111" if base == "alexnet" else "11111"
    count = 3 if base.endswith(("20", "32", "56")) else 4
    return "1" * (count - 1) + "0" if base.startswith("pre") else "1" * count


STAGES = {base: _stages(base) for base in ARCHITECTURES}


def layers(net: nn.Module, kind: type[nn.Module]) -> list:
    return [m for m in net.modules() if isinstance(m, kind)]


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_signatures_say_which_options_a_model_has(name: str) -> None:
    options = dict(list(inspect.signature(factory(name)).parameters.items())[1:])
    expected = ["head", "activation"]
    stages = STAGES[name.partition("-")[0]]
    if "res" in name:
        expected.append("normalisation" if len(stages) == 3 else "downsample")
    if "-mcdo" in name:
        expected.append("rate")
    if "-smooth" in name:
        expected += ["prob", "temperature", "kernel", "stages"]
    assert list(options) == expected
    assert options["head"].default == ("gap" if "res" in name else "mlp")
    if "-smooth" in name:
        assert options["stages"].default == stages


def test_words_become_typed_options(declared: None) -> None:
    spec = "resnet18-mcdo-smooth,rate=0.2,prob=scale,temperature=3,kernel=3,stages=1020,activation=relu6"
    net = registry.model(spec, dataset(32))
    assert {m.rate for m in layers(net, MCDropout)} == {0.2}
    assert [type(m[0]) for m in layers(net, Smooth)] == [Scale] * 3
    assert {m.temperature for m in layers(net, Scale)} == {3.0}
    assert {m.length for m in layers(net, Blur)} == {3}
    stages = (net.layer1, net.layer2, net.layer3, net.layer4)
    assert [len(layers(stage, Smooth)) for stage in stages] == [1, 0, 2, 0]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("resnet18-smooth,prob=sigmoid", ["'prob'", "'tanh', 'relu6', 'scale' or 'none'"]),
        ("resnet18,head=mean", ["'head'", "'gap', 'mlp', 'gmaxp' or 'gmedp'"]),
        ("resnet18,activation=gelu", ["'activation'", "'relu' or 'relu6'"]),
        ("resnet18,downsample=max", ["'downsample'", "'stride' or 'blurpool'"]),
        ("vgg11,downsample=blurpool", ["no option 'downsample'", "head, activation"]),
        ("resnet18,rate=0.1", ["no option 'rate'", "head, activation, downsample"]),
        ("resnet18-mcdo,prob=tanh", ["no option 'prob'", "rate"]),
        ("resnet18-smooth,kernel=2.5", ["'kernel'", "integer"]),
        ("resnet18-smooth,kernel=4", ["kernel=4", "1, 2, 3, 5"]),
        ("resnet18-smooth,stages=111", ["stages=111", "4 digits", "1111"]),
        ("resnet18-smooth,stages=11a1", ["stages=11a1", "4 digits"]),
        ("resnet18-smooth,stages=1١11", ["4 digits"]),
        ("vgg11-smooth,stages=1111", ["5 digits", "11111"]),
        ("alexnet-smooth,stages=1111", ["3 digits", "111"]),
        ("resnet18-smooth,temperature=0", ["temperature=0"]),
        ("resnet18-smooth,prob=relu6,temperature=6", ["prob=relu6 has no temperature"]),
        ("resnet18-mcdo,rate=1", ["rate=1"]),
    ],
)
def test_wrong_options_are_refused_in_a_line(spec: str, words: list[str], declared: None) -> None:
    with pytest.raises(UserError) as error:
        registry.model(spec, dataset(32))
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_a_callers_wrong_value_is_refused_too() -> None:
    with pytest.raises(UserError, match="head=mean is not one of gap, mlp, gmaxp, gmedp"):
        factory("resnet18")(dataset(32), head="mean")
    with pytest.raises(UserError, match="stages=None"):
        factory("resnet18-smooth")(dataset(32), stages=None)
    with pytest.raises(TypeError, match="rate"):
        factory("resnet18")(dataset(32), rate=0.1)


@pytest.mark.parametrize(
    ("base", "stages", "expected"),
    [
        ("resnet50", "0000", []),
        ("resnet50", "0010", [9]),
        ("resnet50", "2001", [34, 6]),
        ("preresnet18", "1111", [33, 18, 10, 6]),
        ("vgg16", "00100", [9]),
        ("prevgg11", "00001", [3]),
        ("alexnet", "010", [9]),
    ],
)
def test_stages_say_how_many_smooth_follow_each(base: str, stages: str, expected: list[int]) -> None:
    seen = sizes(outline(f"{base}-smooth", stages=stages), Smooth)
    assert seen == ([33, *expected] if stages[0] == "2" else expected)


@pytest.mark.parametrize(("kernel", "expected"), [(1, 32), (2, 33), (3, 32), (5, 32)])
def test_kernels_reach_every_smooth(kernel: int, expected: int) -> None:
    net = outline("resnet18-smooth", kernel=kernel)
    assert [m.length for m in layers(net, Blur)] == [kernel] * 4
    assert sizes(net, Smooth)[0] == expected


@pytest.mark.parametrize("base", ["resnet18", "resnet50", "preresnet18", "vgg11", "prevgg11", "alexnet"])
@pytest.mark.parametrize("head", ["gap", "mlp"])
def test_relu6_takes_the_place_of_every_relu_and_leaves_prob_alone(base: str, head: str) -> None:
    usual = outline(f"{base}-mcdo-smooth", head=head)
    bound = outline(f"{base}-mcdo-smooth", head=head, activation="relu6")
    assert not layers(bound, nn.ReLU)
    assert len(layers(bound, nn.ReLU6)) == len(layers(usual, nn.ReLU)) > 0
    assert len(layers(bound, Prob)) == len(layers(usual, Prob)) > 0
    assert list(bound.state_dict()) == list(usual.state_dict())


def test_relu6_bounds_what_the_network_computes() -> None:
    for activation, bounded in (("relu", False), ("relu6", True)):
        net = build("vgg11", head="gap", activation=activation)
        with torch.no_grad():
            net.features[4].weight.mul_(100)  # a batch normalisation
        assert (max(out.max() for out in outputs(net, [net.features[6]])) <= 6) == bounded


def blurred(x: Tensor) -> Tensor:
    """Every second of (1, 2, 1) ⊗ (1, 2, 1) / 16 over reflected borders, written as shifts of the map."""
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    rows = (padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]) / 4
    return torch.from_numpy(((rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 4)[:, :, ::2, ::2])


Block = Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]]


def basic(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    y = F.relu(block.bn1(F.conv2d(x, block.conv1.weight, padding=1)))
    return block.bn2(block.conv2(blurred(y))), x


def bottleneck(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    y = F.relu(block.bn1(block.conv1(x)))
    y = F.relu(block.bn2(F.conv2d(y, block.conv2.weight, padding=1)))
    return block.bn3(block.conv3(blurred(y))), x


def pre_basic(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    first = F.relu(block.bn1(x))
    return block.conv2(blurred(F.relu(block.bn2(F.conv2d(first, block.conv1.weight, padding=1))))), first


@pytest.mark.parametrize(("base", "main"), [("resnet18", basic), ("resnet50", bottleneck), ("preresnet18", pre_basic)])
def test_blurpool_is_a_dense_convolution_and_a_strided_blur(base: str, main: Block) -> None:
    block = build(base, downsample="blurpool").layer2[0]
    x = torch.randn(1, block.conv1.in_channels, 8, 8)
    with torch.no_grad():
        y, entry = main(block, x)
        # The dense convolution first, although the block blurs first: it is the same for one of 1×1.
        dense = F.conv2d(entry, block.downsample[0].weight)
        expected = y + block.downsample[1:](blurred(dense))
        expected = expected if base.startswith("pre") else F.relu(expected)
        torch.testing.assert_close(block(x.clone()), expected, rtol=1e-4, atol=1e-4)


def test_blurpool_leaves_no_stride_but_the_stems_and_all_sizes_and_names() -> None:
    for base in ("resnet18", "preresnet50", "resnext50", "wideresnet50"):
        usual, anti = (outline(f"{base}-smooth", LARGE, downsample=how) for how in ("stride", "blurpool"))
        assert [m for m in layers(anti, nn.Conv2d) if m.stride != (1, 1)] == [anti.conv1]
        assert len([m for m in layers(anti, Blur) if m.stride == 2]) == 1 + 3
        assert sizes(anti, Smooth, 224) == sizes(usual, Smooth, 224)
        assert {k: v.shape for k, v in anti.state_dict().items()} == {k: v.shape for k, v in usual.state_dict().items()}


def test_blurpool_takes_the_stride_from_the_stems_pooling() -> None:
    net = build("resnet18", dataset(96), downsample="blurpool")
    stem, pooled = outputs(net, [net.relu, net.maxpool], 96)
    assert stem.shape[-1] == 48
    expected = blurred(F.max_pool2d(stem, kernel_size=3, stride=1, padding=1))
    torch.testing.assert_close(pooled, expected, rtol=1e-5, atol=1e-6)
