"""U-Net: its layers are those of the paper, it takes any size, and it is trained for masks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dense_plugins import CLASSES, VOID, masks
from stressbench import registry
from stressbench.contracts import Dataset, InMemory, Segmentation, traits
from stressbench.errors import UserError
from stressbench.recipe import Options
from stressbench_plugins.layers import MCDropout, Smooth
from stressbench_plugins.segmentation_recipes import WeightedCrossEntropy, median_frequency

ENDINGS = ("", "-smooth", "-mcdo", "-mcdo-smooth")


def built(name: str, **options: object) -> nn.Module:
    text = "".join([name, *(f",{key}={value}" for key, value in options.items())])
    return registry.resolve(text).build(masks("test", None, None)).eval()


def test_the_plain_network_has_the_papers_layers() -> None:
    net = built("unet", width=2)
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    ups = [layer for layer in net.modules() if isinstance(layer, nn.ConvTranspose2d)]
    widths = [2, 2, 4, 4, *[8] * 3, *[16] * 3, *[32] * 3, *[16] * 3, *[8] * 3, *[4] * 3, *[2] * 2, CLASSES]
    assert [layer.out_channels for layer in convolutions] == widths
    assert [(layer.in_channels, layer.out_channels) for layer in ups] == [(32, 16), (16, 8), (8, 4), (4, 2)]
    assert {layer.kernel_size for layer in convolutions[:-1]} | {layer.kernel_size for layer in ups} == {(3, 3)}
    order = [type(layer) for layer in net.encoder[0][0]]  # type: ignore[union-attr, index]
    assert order == [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]


@pytest.mark.parametrize("ending", ENDINGS)
def test_smooth_and_dropout_are_where_they_belong(ending: str) -> None:
    net = built(f"unet{ending}", width=1)
    assert sum(isinstance(layer, Smooth) for layer in net.modules()) == (4 if "smooth" in ending else 0)
    dropped = [name for name, layer in net.named_modules() if isinstance(layer, MCDropout)]
    places = ["ends.2", "ends.3", "ends.4", "decoder_ends.0", "decoder_ends.1", "decoder_ends.2"]
    assert dropped == (places if "mcdo" in ending else [])
    assert {layer.rate for layer in net.modules() if isinstance(layer, MCDropout)} <= {0.5}
    assert traits(net).default_draws == (50 if "mcdo" in ending else 1)


@pytest.mark.parametrize("ending", ["", "-smooth"])
@pytest.mark.parametrize("size", [(360, 480), (45, 61), (16, 33), (97, 130)])
def test_logits_have_the_images_size(ending: str, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert built(f"unet{ending}", width=1)(torch.rand(1, 3, *size)).shape == (1, CLASSES, *size)


def test_the_skips_are_added() -> None:
    """Without what comes from below, a decoder stage is given the encoder's map of its size."""
    net = built("unet", width=2)
    seen: dict[str, Tensor] = {}
    for name, layer in (("encoder", net.encoder[3]), ("decoder", net.decoder[0])):  # type: ignore[index]
        if name == "encoder":
            layer.register_forward_hook(lambda _m, _a, output: seen.__setitem__("encoder", output.clone()))
        else:
            layer.register_forward_pre_hook(lambda _m, args: seen.__setitem__("decoder", args[0].clone()))
    norm = net.ups[0].norm  # type: ignore[index, union-attr]
    nn.init.zeros_(norm.weight)
    nn.init.zeros_(norm.bias)
    with torch.no_grad():
        net(torch.rand(1, 3, 32, 48))
    assert seen["decoder"].equal(seen["encoder"])


def test_it_is_for_segmentation_alone() -> None:
    with pytest.raises(UserError, match="U-Net predicts a class for each pixel, and digits is for classification"):
        registry.resolve("unet").build(registry.dataset("digits", "test"))
    with pytest.raises(UserError, match="invalid width=0"):
        built("unet", width=0)


# --- how it is trained ----------------------------------------------------------------------------------------


def tiny_set() -> Dataset:
    """Of the 14 pixels that are not void 8 are class 0; 4 of the first image's 8 are class 1, 2 of the second one's 6
    are class 2, and class 3 is nowhere."""
    target = torch.tensor([[[0, 0, 0, 0], [1, 1, 1, 1]], [[0, 0, 0, 0], [2, 2, VOID, VOID]]])
    images = torch.zeros(2, 3, 2, 4, dtype=torch.uint8)
    return Dataset("some", "train", Segmentation(4), InMemory(images), InMemory(target), (2, 4))


def test_median_frequency_weights_by_hand() -> None:
    # Shares: 8/14, 4/8, 2/6; the median is 1/2.
    assert median_frequency(tiny_set(), Segmentation(4)) == (0.875, 1.0, 1.5, 0.0)


def test_weighted_cross_entropy_is_the_mean_over_pixels_that_are_not_void() -> None:
    logits = torch.randn(2, 4, 2, 4, generator=torch.Generator().manual_seed(0))
    target = tiny_set().targets.read(0, 2)
    weights = torch.tensor([0.875, 1.0, 1.5, 0.0])
    known = target != VOID
    each = -logits.log_softmax(1).gather(1, target.clamp(max=3)[:, None])[:, 0] * weights[target.clamp(max=3)]
    loss = WeightedCrossEntropy(tuple(weights.tolist()), VOID)(nn.Identity(), logits, target)
    torch.testing.assert_close(loss, each[known].mean())


def test_recipes_for_masks() -> None:
    net, data = built("unet", width=1), tiny_set()
    paper = Options(recipe="paper").applied(net, data)
    assert (paper.epochs, paper.batch_size, paper.optimiser, paper.learning_rate) == (130, 3, "adam", 1e-3)
    assert [paper.rate(99.9), paper.rate(100.1)] == pytest.approx([1e-3, 1e-4])
    assert paper.loss == WeightedCrossEntropy((0.875, 1.0, 1.5, 0.0), VOID)
    assert Options(recipe="segmentation,weights=none").applied(net, data).loss is None
    assert Options().applied(net, data).optimiser == "adam"
    with pytest.raises(UserError, match="the recipe segmentation is for segmentation"):
        Options(recipe="segmentation").applied(net, registry.dataset("digits", "train"))
