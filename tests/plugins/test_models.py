"""Every model of the family: its size, its places of smoothing and dropout, and what it promises the harness."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from stressbench import randomness, weights
from stressbench.contracts import Dataset, Model
from stressbench.datasets.digits import InMemory
from stressbench.errors import UserError
from stressbench_plugins import alexnet, resnet
from stressbench_plugins.layers import MCDropout, Smooth
from stressbench_plugins.variants import large, variants

FACTORIES: dict[str, Callable[..., nn.Module]] = {
    f"{base}{end}": getattr(module, f"{base}{end}")
    for module, base in ((resnet, "resnet18"), (alexnet, "alexnet"))
    for end in ("", "_smooth", "_mcdo", "_mcdo_smooth")
}


def dataset(size: int, classes: int = 10) -> Dataset:
    pixels = torch.zeros(0, 3, size, size, dtype=torch.uint8)
    return Dataset("some", "test", InMemory(pixels), torch.zeros(0, dtype=torch.int64), classes, (size, size))


SMALL, LARGE = dataset(32), dataset(224, classes=1000)


@pytest.fixture(scope="module")
def small() -> dict[str, nn.Module]:
    """Every model for small images, in eval mode."""
    torch.manual_seed(0)
    return {name: factory(SMALL).eval() for name, factory in FACTORIES.items()}


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def sizes(module: nn.Module, kind: type[nn.Module], side: int) -> list[int]:
    """The heights of the maps that come out of the layers of a kind, in their order."""
    seen: list[int] = []

    def note(_: nn.Module, __: object, out: Tensor) -> None:
        seen.append(out.shape[-2])

    hooks = [m.register_forward_hook(note) for m in module.modules() if isinstance(m, kind)]
    with torch.no_grad():
        module(torch.rand(1, 3, side, side))
    for hook in hooks:
        hook.remove()
    return seen


# The ResNet counts are the well-known ones; AlexNet's for 32×32 is summed by hand from its layers.
@pytest.mark.parametrize(
    ("base", "data", "count"),
    [
        ("resnet18", SMALL, 11_173_962),
        ("resnet18", LARGE, 11_689_512),
        ("alexnet", LARGE, 61_100_840),
        (
            "alexnet",
            SMALL,
            64 * 28 + 192 * 1601 + 384 * 1729 + 256 * 3457 + 256 * 2305 + 4096 * 1025 + 4096 * 4097 + 10 * 4097,
        ),
    ],
)
def test_parameter_counts_and_smoothing_and_dropout_add_none(base: str, data: Dataset, count: int) -> None:
    assert parameters(FACTORIES[base](data)) == count
    if data is SMALL:
        assert parameters(FACTORIES[f"{base}_mcdo_smooth"](data)) == count


def test_smooth_follows_every_stage_and_adds_a_row(small: dict[str, nn.Module]) -> None:
    assert sizes(small["resnet18_smooth"], Smooth, 32) == [33, 18, 10, 6]
    assert sizes(small["alexnet_smooth"], Smooth, 32) == [17, 9, 5]
    assert sizes(small["resnet18"], Smooth, 32) == []


def test_smooth_is_the_last_of_a_resnets_stage_and_before_alexnets_pooling(small: dict[str, nn.Module]) -> None:
    net = small["resnet18_mcdo_smooth"]
    for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
        assert [type(m) for m in stage] == [resnet.BasicBlock, resnet.BasicBlock, Smooth]
    features = small["alexnet_mcdo_smooth"].features
    for i in (2, 5, 12):
        assert [type(m) for m in features[i]] == [Smooth, nn.MaxPool2d]


def test_dropout_sits_before_the_last_convolution_of_each_block(small: dict[str, nn.Module]) -> None:
    assert sizes(small["resnet18_mcdo"], MCDropout, 32) == [32, 32, 16, 16, 8, 8, 4, 4]
    block = small["resnet18_mcdo"].layer2[0]
    taken: dict[str, Tensor] = {}
    hooks = [
        block.dropout.register_forward_hook(lambda _, args, out: taken.update(out=out)),
        block.conv2.register_forward_hook(lambda _, args, out: taken.update(used=args[0])),
    ]
    with torch.no_grad():
        block(torch.rand(1, 64, 4, 4))
    for hook in hooks:
        hook.remove()
    assert taken["used"] is taken["out"]
    assert (taken["out"] >= 0).all()  # after the ReLU
    assert sizes(small["alexnet_mcdo"], MCDropout, 32) == [16, 8, 4, 4, 4]


@pytest.mark.parametrize(
    ("name", "data", "rate"),
    [
        ("resnet18_mcdo", SMALL, 0.3),
        ("resnet18_mcdo_smooth", LARGE, 0.05),
        ("alexnet_mcdo", SMALL, 0.1),
        ("alexnet_mcdo_smooth", SMALL, 0.1),
    ],
)
def test_default_rates(name: str, data: Dataset, rate: float) -> None:
    assert {m.rate for m in FACTORIES[name](data).modules() if isinstance(m, MCDropout)} == {rate}


def test_options_reach_the_layers_and_bad_ones_are_refused() -> None:
    net = resnet.resnet18_mcdo_smooth(SMALL, rate=0.2, temperature=3.0)
    assert {m.rate for m in net.modules() if isinstance(m, MCDropout)} == {0.2}
    assert {m[0].temperature for m in net.modules() if isinstance(m, Smooth)} == {3.0}
    with pytest.raises(UserError, match="rate=1"):
        resnet.resnet18_mcdo(SMALL, rate=1.0)
    with pytest.raises(UserError, match="temperature=0"):
        alexnet.alexnet_smooth(SMALL, temperature=0.0)


def test_signatures_type_the_options() -> None:
    hints = typing.get_type_hints(resnet.resnet18_mcdo_smooth)
    assert hints == {"dataset": Dataset, "rate": float | None, "temperature": float, "return": nn.Module}
    assert list(inspect.signature(resnet.resnet18).parameters) == ["dataset"]
    assert list(inspect.signature(resnet.resnet18_smooth).parameters) == ["dataset", "temperature"]
    assert list(inspect.signature(resnet.resnet18_mcdo).parameters) == ["dataset", "rate"]


@pytest.mark.parametrize("name", FACTORIES)
def test_what_a_model_says_of_itself_is_true(name: str, small: dict[str, nn.Module]) -> None:
    net, images = small[name], torch.rand(2, 3, 32, 32)
    assert isinstance(net, Model)
    stochastic = "mcdo" in name
    assert (net.untrained, net.stochastic, net.default_draws) == (True, stochastic, 50 if stochastic else 1)
    with torch.no_grad():
        first, second = net(images), net(images)
    assert first.shape == (2, 10)
    assert torch.equal(first, second) == (not stochastic)


def test_a_draw_of_an_image_is_the_same_alone_and_in_a_batch(small: dict[str, nn.Module]) -> None:
    net, images = small["resnet18_mcdo_smooth"], torch.rand(4, 3, 32, 32)
    keys = randomness.image_keys(7, torch.arange(4))
    with torch.no_grad():
        with randomness.draw(keys, 3):
            together = net(images)
        with randomness.draw(keys[2:3], 3):
            alone = net(images[2:3])
        with randomness.draw(keys, 4):
            other = net(images)
    torch.testing.assert_close(together[2:3], alone, rtol=1e-4, atol=1e-5)
    assert not together.allclose(other, rtol=1e-2)


@pytest.mark.parametrize("name", ["resnet18_mcdo_smooth", "alexnet_mcdo_smooth"])
def test_gradients_reach_the_input(name: str, small: dict[str, nn.Module]) -> None:
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    small[name](images).logsumexp(1).sum().backward()
    assert images.grad is not None
    assert (images.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


def test_published_imagenet_weights_fit_and_give_torchvisions_logits() -> None:
    mean, std = torch.tensor((0.5, 0.5, 0.5)).view(3, 1, 1), 0.25
    images = torch.rand(1, 3, 96, 96)  # large enough for the ImageNet stems
    for theirs, ours in (
        (torchvision.models.resnet18(), resnet.resnet18(LARGE)),
        (torchvision.models.alexnet(), alexnet.alexnet(LARGE)),
    ):
        ours.load_state_dict(theirs.state_dict())
        with torch.no_grad():
            expected = theirs.eval()((images - mean) / std)
            torch.testing.assert_close(ours.eval()(images), expected, rtol=1e-4, atol=1e-5)


def test_all_variants_have_the_same_weight_names(small: dict[str, nn.Module]) -> None:
    for base in ("resnet18", "alexnet"):
        names = [list(small[f"{base}{end}"].state_dict()) for end in ("", "_smooth", "_mcdo", "_mcdo_smooth")]
        assert names[1:] == names[:1] * 3


def test_large_images_get_the_imagenet_stem() -> None:
    assert not large(dataset(64))
    assert large(dataset(96))
    net = resnet.resnet18_smooth(dataset(96)).eval()
    assert sizes(net, Smooth, 96) == [25, 14, 8, 5]
    assert net(torch.rand(1, 3, 96, 96)).shape == (1, 10)


def test_a_bottleneck_network_is_one_line_more() -> None:
    build = lambda data, variant: resnet.ResNet(data, variant, resnet.Bottleneck, (1, 1, 1, 1), width=8)  # noqa: E731
    plain, *_, mcdo_smooth = variants(build, lambda _: 0.3)
    net = mcdo_smooth(SMALL).eval()
    assert sizes(net, MCDropout, 32) == [32, 17, 9, 5]
    assert parameters(net) == parameters(plain(SMALL))
    with torch.no_grad():
        assert net(torch.rand(1, 3, 32, 32)).shape == (1, 10)


def test_weights_survive_the_file(tmp_path, small: dict[str, nn.Module]) -> None:
    net, other = small["resnet18_smooth"], resnet.resnet18_smooth(SMALL).eval()
    assert weights.checksum(net) != weights.checksum(other)
    weights.save(net, tmp_path / "w.safetensors", {})
    weights.load(other, tmp_path / "w.safetensors")
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(net(images), other(images))
    assert weights.checksum(net) == weights.checksum(other)
