"""Networks for super-resolution and depth, and the wrappers around networks that return maps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stressbench import locations, randomness, registry
from stressbench.contracts import Classification, Dataset, Depth, InMemory, Regression, SuperResolution
from stressbench.errors import UserError
from stressbench.sampling import sample
from stressbench_plugins.fcrn import UpProjection
from stressbench_plugins.super_resolution import SRResNet
from stressbench_plugins.training_free import TRANSFORMS, InferTransform


def dataset(task: Regression, side: tuple[int, int] = (24, 24)) -> Dataset:
    none = InMemory(torch.zeros(0, 3, *side, dtype=torch.uint8))
    return Dataset("some", "test", task, none, none, side)


PHOTOS, ROAD = dataset(SuperResolution()), dataset(Depth(), (24, 40))
IMAGES = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(0))
KEYS = torch.tensor([3, 4])


def built(spec: str, data: Dataset) -> nn.Module:
    torch.manual_seed(0)
    return registry.model(spec, data).eval()


@torch.no_grad()
def draws(model: nn.Module, images: Tensor, n: int) -> Tensor:
    with randomness.draw(KEYS, 0):
        return torch.stack(list(sample(model, images, n)))


def test_srresnet_has_the_published_size_and_shape() -> None:
    with torch.device("meta"):
        net = SRResNet(3, 4)
    # 3→64, 16 blocks of two 64→64 and two norms, 64→64 and a norm, two 64→256, 64→3.
    blocks = 16 * (2 * 64 * 64 * 9 + 4 * 64) + 64 * 64 * 9 + 2 * 64
    assert sum(p.numel() for p in net.parameters()) == 3 * 64 * 9 + 64 + blocks + 2 * (64 * 256 * 9 + 256) + 64 * 3 + 3
    made = built("srresnet,width=4,blocks=2", PHOTOS)(IMAGES)
    assert made.shape == (2, 3, 96, 160)
    assert made.min() >= 0
    assert made.max() <= 1


def test_the_long_skip_goes_around_the_blocks() -> None:
    net = built("srresnet,width=4,blocks=2", PHOTOS)
    assert isinstance(net, SRResNet)
    net.merge[1].weight.data.zero_()  # what the blocks make counts for nothing then
    expected = net.stem(2 * IMAGES - 1)
    for up in net.up:
        expected = up(expected)
    torch.testing.assert_close(net(IMAGES), (net.head(expected).tanh() + 1) / 2)


@pytest.mark.parametrize("encoder", ["resnet18", "resnet50"])
def test_fcrns_maps_are_the_papers(encoder: str) -> None:
    with torch.device("meta"):
        net = registry.model(f"fcrn,encoder={encoder}", dataset(Depth(), (228, 304))).eval()
    shapes = []
    for up in net.up:
        up.register_forward_hook(lambda _m, _a, output: shapes.append(tuple(output.shape[1:])))
    bottleneck: list[tuple[int, ...]] = []
    net.bottleneck.register_forward_hook(lambda _m, _a, output: bottleneck.append(tuple(output.shape[1:])))
    assert net(torch.empty(1, 3, 228, 304, device="meta")).shape == (1, 1, 228, 304)
    part = 1 if encoder == "resnet50" else 4
    assert bottleneck == [(1024 // part, 8, 10)]
    assert shapes == [(c // part, h, w) for c, h, w in ((512, 16, 20), (256, 32, 40), (128, 64, 80), (64, 128, 160))]


def test_unpooling_puts_values_into_the_first_of_four_pixels() -> None:
    block = UpProjection(4)
    x = torch.rand(1, 4, 2, 3)
    large = F.conv_transpose2d(x, block.kernel, stride=2, groups=4)
    assert torch.equal(large[..., ::2, ::2], x)
    assert float(large.sum()) == pytest.approx(float(x.sum()))
    assert block(x).shape == (1, 2, 4, 6)


def test_dropout_is_before_the_last_convolution_and_stays_on_where_it_is_asked_to() -> None:
    plain, dropping = built("fcrn,encoder=resnet18", ROAD), built("fcrn-mcdo,encoder=resnet18", ROAD)
    assert plain.state_dict().keys() == dropping.state_dict().keys()
    first, second = draws(dropping, IMAGES, 2)
    assert not torch.equal(first, second)
    assert torch.equal(plain(IMAGES), plain(IMAGES))
    assert str(locations.find(plain, (24, 40))[4]) == "input of head"
    # The two ways to MC dropout are one: of the same weights, by the same random numbers.
    kept = built("mc-dropout:(fcrn,encoder=resnet18)", ROAD)
    torch.testing.assert_close(draws(kept, IMAGES, 2), torch.stack([first, second]))
    assert draws(built("mc-dropout:(srresnet,width=4,blocks=2,rate=0.1)", PHOTOS), IMAGES, 2).var(dim=0).max() > 0


def test_locations_are_between_the_blocks_and_the_stages_of_a_decoder() -> None:
    found = locations.find(built("srresnet,width=4", PHOTOS), (24, 24))
    assert [str(place) for place in found.values()] == [
        "input of stem.0", "output of blocks.3", "output of blocks.8", "output of blocks.12", "input of head"
    ]  # fmt: skip
    found = locations.find(built("fcrn,encoder=resnet18", ROAD), (24, 40))
    # Of 34 layers; the ends before a map is half or twice as large.
    assert [str(place) for place in found.values()] == [
        "input of stem.0", "output of layer2", "output of layer3", "output of up.1", "input of head"
    ]  # fmt: skip


@pytest.mark.parametrize("location", range(5))
def test_noise_and_dropout_at_every_location(location: int) -> None:
    for spec, data in (("srresnet,width=4,blocks=4", PHOTOS), ("fcrn,encoder=resnet18", ROAD)):
        for wrapper in ("infer-noise", "infer-dropout"):
            model = built(f"{wrapper}:({spec}),location={location}", data)
            made = draws(model, IMAGES, 3)
            assert made.shape[:3] == (3, 2, data.task.channels)  # type: ignore[attr-defined]
            assert float(made.var(dim=0).max()) > 0
            # Fewer draws begin the same, and each is what a pass of its own gives.
            torch.testing.assert_close(draws(model, IMAGES, 1), made[:1])


class Position(nn.Module):
    """Adds each pixel's column: not equivariant, so that it matters where a map was turned back."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :1] + torch.arange(images.shape[-1])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_is_undone_on_the_output(name: str) -> None:
    pixelwise = InferTransform(nn.Conv2d(3, 2, 1), "net", TRANSFORMS[name])
    made = draws(pixelwise, IMAGES, len(TRANSFORMS[name]))
    # A network that looks at pixels one by one makes the same map whatever the transform.
    for one in made:
        torch.testing.assert_close(one, made[0])
    for turn in TRANSFORMS[name]:
        assert torch.equal(turn.undone(turn(IMAGES)), IMAGES)
    flipped = draws(InferTransform(Position(), "net", TRANSFORMS["flip"]), IMAGES, 2) - IMAGES[:, :1]
    columns = torch.arange(40.0)
    assert torch.allclose(flipped[0], columns.expand(2, 1, 24, 40), atol=1e-5)
    assert torch.allclose(flipped[1], columns.flip(0).expand(2, 1, 24, 40), atol=1e-5)


def test_oblong_images_are_turned_where_maps_are_predicted() -> None:
    oblong = replace(PHOTOS, image_size=(24, 40))
    made = draws(built("infer-transform:(srresnet,width=4,blocks=2),transforms=dihedral", oblong), IMAGES, 8)
    assert made.shape == (8, 2, 3, 96, 160)


def test_ensembles_have_a_map_for_each_member() -> None:
    model = built("ensemble:(srresnet,width=4,blocks=2),size=3", PHOTOS)
    assert draws(model, IMAGES, 3).shape == (3, 2, 3, 96, 160)


@pytest.mark.parametrize(
    ("spec", "data", "words"),
    [
        ("srresnet", replace(PHOTOS, task=Classification(3)), "for super-resolution, and some is for classification"),
        ("srresnet", replace(PHOTOS, task=SuperResolution(scale=3)), "asks for 3 times"),
        ("srgan,width=0", PHOTOS, "invalid width=0"),
        ("srresnet,rate=1", PHOTOS, "invalid rate=1"),
        ("fcrn", PHOTOS, "for super-resolution"),
        ("fcrn-mcdo,rate=-1", ROAD, "invalid rate=-1"),
    ],
)
def test_what_does_not_fit_is_refused(spec: str, data: Dataset, words: str) -> None:
    with pytest.raises(UserError, match=words):
        registry.model(spec, data)


# The released code's at its width; torch's own, of which the deviation is 1/√(3 · inputs), in narrower networks.
@pytest.mark.parametrize(("width", "deviation"), [(64, 0.02), (8, (3 * 8 * 9) ** -0.5)])
def test_initial_weights(width: int, deviation: float) -> None:
    module = registry.model(f"srresnet,width={width},blocks=1", registry.dataset("photos", "test"))
    assert float(module.blocks[0].conv1.weight.detach().std()) == pytest.approx(deviation, rel=0.1)
