"""Each architecture: its size, torchvision's weights, and where its smoothing and its dropout sit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from model_family import (
    ARCHITECTURES,
    ENDINGS,
    ENTRY_POINTS,
    LARGE,
    SMALL,
    build,
    dataset,
    outline,
    outputs,
    parameters,
    sizes,
)
from public_resnet20 import trained
from stressbench import weights
from stressbench.contracts import Dataset
from stressbench_plugins.layers import MCDropout, Smooth
from stressbench_plugins.variants import large

# The counts that torchvision's documentation gives for 1000 classes.
PUBLISHED = {
    "alexnet": ("alexnet", 61_100_840),
    "resnet18": ("resnet18", 11_689_512),
    "resnet34": ("resnet34", 21_797_672),
    "resnet50": ("resnet50", 25_557_032),
    "resnet101": ("resnet101", 44_549_160),
    "resnet152": ("resnet152", 60_192_808),
    "resnext50": ("resnext50_32x4d", 25_028_904),
    "resnext101": ("resnext101_32x8d", 88_791_336),
    "wideresnet50": ("wide_resnet50_2", 68_883_240),
    "wideresnet101": ("wide_resnet101_2", 126_886_696),
    "vgg11": ("vgg11_bn", 132_868_840),
    "vgg13": ("vgg13_bn", 133_053_736),
    "vgg16": ("vgg16_bn", 138_365_992),
    "vgg19": ("vgg19_bn", 143_678_248),
}
# Those of timm's resnetv2_* (v1.0), which are pre-activation ResNets, as the reference implementation's, without batch
# normalisation in the stem and in the four shortcuts that have a convolution.
PREACTIVATION = {"preresnet50": 25_549_352, "preresnet101": 44_541_480, "preresnet152": 60_185_128}
# The well-known ones of the CIFAR networks, 10 classes.
CIFAR = {
    "resnet18": 11_173_962,
    "resnet34": 21_282_122,
    "resnet50": 23_520_842,
    "resnet101": 42_512_970,
    "resnet152": 58_156_618,
}
DEPTHS = {
    "18": (2, 2, 2, 2),
    "34": (3, 4, 6, 3),
    "50": (3, 4, 6, 3),
    "101": (3, 4, 23, 3),
    "152": (3, 8, 36, 3),
    "20": (3, 3, 3),
    "32": (5, 5, 5),
    "56": (9, 9, 9),
}
# He et al. (2016), table 6: 0.27, 0.46 and 0.85 million.
CIFAR_NETWORKS = {"resnet20": 269_722, "resnet32": 464_154, "resnet56": 853_018}
VGG_DEPTHS = {"11": (1, 1, 2, 2, 2), "13": (2,) * 5, "16": (2, 2, 3, 3, 3), "19": (2, 2, 4, 4, 4)}


def digits(name: str) -> str:
    return name.lstrip("abcdefghijklmnopqrstuvwxyz")


def residual(name: str) -> bool:
    return "res" in name


def count_of_resnet(name: str, stem: int, classes: int) -> int:
    """The parameters of a ResNet of any kind, layer by layer."""
    groups, width = {"resnext50": (32, 4), "resnext101": (32, 8)}.get(name, (1, 128 if "wide" in name else 64))
    pre, deep = name.startswith("pre"), int(digits(name)) >= 50
    norm = lambda channels: 2 * channels  # noqa: E731
    total, inputs = 3 * 64 * stem**2 + (0 if pre else norm(64)), 64
    for stage, depth in enumerate(DEPTHS[digits(name)]):
        planes = 64 * 2**stage
        outputs = planes * (4 if deep else 1)
        inner = planes * width // 64 * groups if deep else planes
        for block in range(depth):
            if deep:
                total += inputs * inner + 9 * inner * inner // groups + inner * outputs
                total += norm(inner) + norm(inner) + norm(inputs if pre else outputs)
            else:
                total += 9 * inputs * planes + 9 * planes * planes
                total += norm(planes) + norm(inputs if pre else planes)
            if block == 0 and (stage > 0 or deep):
                total += inputs * outputs + (0 if pre else norm(outputs))
            inputs = outputs
    return total + (norm(inputs) if pre else 0) + (inputs + 1) * classes


def cifar_network(name: str) -> bool:
    return residual(name) and len(DEPTHS[digits(name)]) == 3


def count_of_cifar_network(name: str, classes: int) -> int:
    """Layer by layer, without a parameter in any shortcut."""
    pre = name.startswith("pre")
    total, inputs = 27 * 16 + (0 if pre else 2 * 16), 16
    for planes, depth in zip((16, 32, 64), DEPTHS[digits(name)], strict=True):
        for _ in range(depth):
            total += 9 * inputs * planes + 9 * planes * planes
            total += 2 * planes + 2 * (inputs if pre else planes)
            inputs = planes
    return total + (2 * 64 if pre else 0) + 65 * classes


def count_of_vgg(name: str, positions: int, classes: int) -> int:
    total, inputs = 0, 3
    for depth, channels in zip(VGG_DEPTHS[digits(name)], (64, 128, 256, 512, 512), strict=True):
        for _ in range(depth):
            total += (9 * inputs + 1) * channels + 2 * (inputs if name.startswith("pre") else channels)
            inputs = channels
    return total + (512 * positions + 1) * 4096 + 4097 * 4096 + 4097 * classes


def count(name: str, data: Dataset) -> int:
    big = data is LARGE
    if name == "alexnet":
        first, positions = (3 * 121, 36) if big else (3 * 9, 4)
        convolutions = 64 * (first + 1) + 192 * 1601 + 384 * 1729 + 256 * 3457 + 256 * 2305
        return convolutions + 4096 * (256 * positions + 1) + 4096 * 4097 + data.classes * 4097
    if cifar_network(name):
        return count_of_cifar_network(name, data.classes)
    if residual(name):
        return count_of_resnet(name, 7 if big else 3, data.classes)
    return count_of_vgg(name, 49 if big else 1, data.classes)


def test_the_family_is_whole() -> None:
    depths = {
        "resnet": (18, 20, 32, 34, 50, 56, 101, 152),
        "preresnet": (18, 20, 34, 50, 101, 152),
        "resnext": (50, 101),
        "wideresnet": (50, 101),
        "vgg": (11, 13, 16, 19),
        "prevgg": (11, 13, 16, 19),
    }
    expected = {"alexnet"} | {f"{family}{depth}" for family in depths for depth in depths[family]}
    assert set(ARCHITECTURES) == expected
    assert set(ENTRY_POINTS) == {base + ending for base in expected for ending in ENDINGS}
    for name, point in ENTRY_POINTS.items():
        assert point.partition(":")[2] == name.replace("-", "_")


@pytest.mark.parametrize("base", ARCHITECTURES)
def test_parameter_counts_and_smoothing_and_dropout_add_none(base: str) -> None:
    nets = [outline(base + ending) for ending in ENDINGS]
    assert [parameters(net) for net in nets] == [count(base, SMALL)] * 4
    shapes = [[(name, weight.shape) for name, weight in net.state_dict().items()] for net in nets]
    assert shapes[1:] == shapes[:1] * 3
    assert parameters(outline(f"{base}-mcdo-smooth", LARGE)) == count(base, LARGE)


def test_the_counts_above_are_the_published_ones() -> None:
    assert {name: count(name, LARGE) for name in PUBLISHED} == {name: n for name, (_, n) in PUBLISHED.items()}
    assert {name: count(name, SMALL) for name in CIFAR} == CIFAR
    assert {name: count(name, SMALL) for name in CIFAR_NETWORKS} == CIFAR_NETWORKS
    for name, published in PREACTIVATION.items():
        assert count(name, LARGE) == published


@pytest.mark.parametrize("base", PUBLISHED)
def test_torchvisions_weights_fit_each_by_name_and_shape(base: str) -> None:
    with torch.device("meta"):
        theirs = getattr(torchvision.models, PUBLISHED[base][0])()
    ours = outline(base, LARGE)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


@pytest.mark.parametrize("base", ["resnet18", "resnet50", "resnext50", "alexnet"])
def test_torchvisions_weights_give_torchvisions_logits(base: str) -> None:
    # Large enough for the ImageNet stems; as many classes as torchvision has.
    ours, images = build(base, LARGE), torch.rand(1, 3, 80, 80)
    theirs = getattr(torchvision.models, PUBLISHED[base][0])().eval()
    theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs((images - 0.5) / 0.25), rtol=1e-3, atol=1e-4)


def test_vggs_blocks_are_torchvisions() -> None:
    # Not whole networks: their heads alone have 120 million weights.
    ours, images = build("vgg16").features, torch.rand(1, 3, 32, 32)
    configuration = torchvision.models.vgg.cfgs["D"]
    theirs = torchvision.models.vgg.make_layers(configuration, batch_norm=True).eval()
    theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-3, atol=1e-4)


def smoothed(base: str, data: Dataset) -> list[int]:
    """The sizes that the facts ask for: each Smooth adds one, each stage or pooling halves."""
    if base == "alexnet":
        return [17, 9, 5] if data is SMALL else [56, 28, 14]
    if not residual(base):
        return [33, 17, 9, 5, 3] if data is SMALL else [225, 113, 57, 29, 15]
    if cifar_network(base):
        expected = [33, 18, 10] if data is SMALL else [225, 114, 58]  # one stem for images of any size
        return expected[:2] if base.startswith("pre") else expected
    expected = [33, 18, 10, 6] if data is SMALL else [57, 30, 16, 9]
    return expected[:3] if base.startswith("pre") else expected


@pytest.mark.parametrize("base", ARCHITECTURES)
def test_smooth_sits_after_every_stage_and_adds_a_row(base: str) -> None:
    for data in (SMALL, LARGE):
        net = outline(f"{base}-mcdo-smooth", data)
        assert sizes(net, Smooth, data.image_size[0]) == smoothed(base, data)
    assert not any(isinstance(m, Smooth) for ending in ("", "-mcdo") for m in outline(base + ending).modules())


@pytest.mark.parametrize("base", ARCHITECTURES)
def test_dropout_is_in_every_block(base: str) -> None:
    seen = sizes(outline(f"{base}-mcdo"), MCDropout)
    if base == "alexnet":
        assert seen == [16, 8, 4, 4, 4]
    else:
        depths = DEPTHS if residual(base) else VGG_DEPTHS
        expected = zip((32, 16, 8, 4, 2), depths[digits(base)], strict=False)
        assert seen == [size for size, depth in expected for _ in range(depth)]
    assert not any(isinstance(m, MCDropout) for ending in ("", "-smooth") for m in outline(base + ending).modules())


def test_smooth_is_the_last_of_a_resnets_stage_and_before_the_others_pooling() -> None:
    for base in ("resnet50", "preresnet18", "resnext50", "wideresnet50"):
        net = outline(f"{base}-mcdo-smooth", stages="1111")
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            assert [type(m) for m in stage].index(Smooth) == len(stage) - 1
    for base, places in (("alexnet", (2, 5, 12)), ("vgg11", (3, 7, 14, 21, 28)), ("prevgg11", (4, 9, 18, 27, 36))):
        features = outline(f"{base}-mcdo-smooth").features
        for i in places:
            assert [type(m) for m in features[i]] == [Smooth, nn.MaxPool2d]
        assert sum(isinstance(m, Smooth) for m in features.modules()) == len(places)


@pytest.mark.parametrize(
    ("base", "last"), [("resnet18", "conv2"), ("resnet50", "conv3"), ("preresnet18", "conv2"), ("preresnet50", "conv3")]
)
def test_dropout_sits_right_before_the_last_convolution_of_a_residual_block(base: str, last: str) -> None:
    block = build(f"{base}-mcdo").layer2[0]
    taken: dict[str, Tensor] = {}
    block.dropout.register_forward_hook(lambda _, args, out: taken.update(before=args[0], out=out))
    getattr(block, last).register_forward_hook(lambda _, args, out: taken.update(used=args[0]))
    with torch.no_grad():
        block(torch.rand(1, block.conv1.in_channels, 4, 4))
    assert taken["used"] is taken["out"]
    assert (taken["before"] >= 0).all()  # after the ReLU
    assert (taken["before"] == 0).any()


@pytest.mark.parametrize("base", ["resnet20", "preresnet20"])
def test_shortcuts_of_the_cifar_networks_take_every_second_pixel_and_add_zeros(base: str) -> None:
    block = build(base).layer2[0]
    x = torch.randn(2, 16, 7, 6)
    with torch.no_grad():
        first = normalised(block.bn1, x) if base == "preresnet20" else x
        shortcut = torch.zeros(2, 32, 4, 3)
        shortcut[:, 8:24] = first[:, :, ::2, ::2]
        if base == "preresnet20":
            y = F.conv2d(first, block.conv1.weight, padding=1, stride=2)
            expected = F.conv2d(normalised(block.bn2, y), block.conv2.weight, padding=1) + shortcut
        else:
            y = normalised(block.bn1, F.conv2d(first, block.conv1.weight, padding=1, stride=2))
            y = F.batch_norm(
                F.conv2d(y, block.conv2.weight, padding=1), block.bn2.running_mean, block.bn2.running_var,
                block.bn2.weight, block.bn2.bias,
            )  # fmt: skip
            expected = (y + shortcut).clamp(min=0)
        torch.testing.assert_close(block(x.clone()), expected, rtol=1e-4, atol=1e-5)


def test_resnet20_takes_the_public_weights_key_by_key_and_computes_what_they_computed(shared: Path) -> None:
    """Beside `public_resnet20`, which is written after the paper alone."""
    theirs, data = trained(shared, "cpu")
    images = data.images.read(0, 32).float() / 255
    ours = build("resnet20", data, normalisation="imagenet")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    weights.load(ours, shared / "weights" / "cifar10_resnet20_public.th")
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)


def test_dropout_ends_the_blocks_of_vgg() -> None:
    post = [type(m) for m in outline("vgg11-mcdo").features[:3]]
    assert post == [nn.Conv2d, nn.BatchNorm2d, nn.Sequential]
    assert [type(m) for m in outline("vgg11-mcdo").features[2]] == [nn.ReLU, MCDropout]
    pre = [type(m) for m in outline("prevgg11-mcdo").features[:4]]
    assert pre == [nn.BatchNorm2d, nn.ReLU, nn.Conv2d, MCDropout]


def normalised(layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch normalisation in eval mode and a ReLU."""
    scale = layer.weight / (layer.running_var + layer.eps).sqrt()
    shift = layer.bias - layer.running_mean * scale
    return (x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)).clamp(min=0)


@pytest.mark.parametrize("base", ["preresnet18", "preresnet50"])
def test_preactivation_blocks_are_what_they_say(base: str) -> None:
    stage = build(base).layer2
    x = torch.randn(1, stage[0].conv1.in_channels, 6, 6)
    with torch.no_grad():
        for block in stage[:2]:
            first = normalised(block.bn1, x)
            stride = 2 if block is stage[0] else 1
            if base == "preresnet18":
                y = F.conv2d(first, block.conv1.weight, padding=1, stride=stride)
                y = F.conv2d(normalised(block.bn2, y), block.conv2.weight, padding=1)
            else:
                y = F.conv2d(first, block.conv1.weight)
                y = F.conv2d(normalised(block.bn2, y), block.conv2.weight, padding=1, stride=stride)
                y = F.conv2d(normalised(block.bn3, y), block.conv3.weight)
            shortcut = block.downsample(first) if stride == 2 else x
            expected = y + shortcut
            torch.testing.assert_close(block(x.clone()), expected, rtol=1e-4, atol=1e-5)
            x = expected


def test_a_preactivation_resnet_begins_with_a_bare_convolution() -> None:
    net = build("preresnet18")
    x, stem = outputs(net, [net.normalise, net.maxpool])
    torch.testing.assert_close(stem, F.conv2d(x, net.conv1.weight.detach(), padding=1), rtol=1e-4, atol=1e-5)
    assert [type(layer) for layer in net.layer2[0].downsample] == [nn.Conv2d]


def test_a_preactivation_resnet_ends_with_batch_normalisation_and_relu() -> None:
    net = build("preresnet18-smooth")
    last, pooled = outputs(net, [net.layer4, net.avgpool])
    assert last.min() < 0
    with torch.no_grad():
        expected = normalised(net.norm[0], last).mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(pooled, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "data", "rate"),
    [
        ("resnet18-mcdo", SMALL, 0.3),
        ("resnext50-mcdo-smooth", LARGE, 0.05),
        ("preresnet18-mcdo", SMALL, 0.3),
        ("vgg11-mcdo", SMALL, 0.3),
        ("prevgg11-mcdo-smooth", LARGE, 0.05),
        ("resnet20-mcdo", SMALL, 0.1),
        ("preresnet20-mcdo-smooth", SMALL, 0.1),
        ("alexnet-mcdo", SMALL, 0.1),
        ("alexnet-mcdo-smooth", LARGE, 0.1),
    ],
)
def test_default_rates(name: str, data: Dataset, rate: float) -> None:
    assert {m.rate for m in outline(name, data).modules() if isinstance(m, MCDropout)} == {rate}


def test_large_images_get_the_imagenet_stem() -> None:
    assert not large(dataset(64))
    assert large(dataset(96))
    net = build("resnet18-smooth", dataset(96))
    assert sizes(net, Smooth, 96) == [25, 14, 8, 5]
    assert net(torch.rand(1, 3, 96, 96)).shape == (1, 10)
