"""`mc-dropout` against closed forms of what dropout does to a linear layer, a channel and a residual branch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from stressbench import randomness, registry
from stressbench.contracts import Classification, Dataset
from stressbench.errors import UserError
from stressbench.execution.predict import Predictor
from stressbench.testing import check_model, random_dataset
from stressbench_plugins.mc_dropout import MCDropoutOf, mc_dropout
from stressbench_plugins.training_free import infer_dropout

DATASET = random_dataset(classes=5, image_size=(4, 4))
IMAGES = DATASET.images.read(0, 4) / 255
KEYS = randomness.image_keys(randomness.derive(1), torch.arange(4))


class DropPath(nn.Module):
    """As timm's, off in eval mode."""

    def __init__(self, drop_prob: float, scale_by_keep: bool = True) -> None:
        super().__init__()
        self.drop_prob, self.scale_by_keep = drop_prob, scale_by_keep

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        return x


class Residual(nn.Module):
    """2x + branch(x), whose branch is dropped as a whole; the first five pixels are its logits."""

    def __init__(self, path: nn.Module) -> None:
        super().__init__()
        self.path = path

    def forward(self, images: Tensor) -> Tensor:
        return (2 * images + self.path(images)).flatten(1)[:, :5]


class Windows(nn.Module):
    """Cuts each image into two halves, which are rows of their own when they are dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        halves = self.drop(images.reshape(2 * len(images), 24))
        return halves.view(len(images), 48)[:, 20:30:2]


def wrapped(model: nn.Module, monkeypatch: pytest.MonkeyPatch, **options: Any) -> nn.Module:
    monkeypatch.setattr(registry, "model", lambda text, data: model.eval())
    return mc_dropout(DATASET, "net", **options)


def draw(module: nn.Module, index: int = 0, chunk: int = 4) -> Tensor:
    """Logits (4, 5) of one draw, computed in batches of `chunk` images."""
    parts = []
    for images, keys in zip(IMAGES.split(chunk), KEYS.split(chunk), strict=True):
        with torch.no_grad(), randomness.draw(keys, index):
            parts.append(module(images))
    return torch.cat(parts)


def many(module: nn.Module, image: Tensor, n: int) -> Tensor:
    """Logits (n, 5) of n independent draws for one image, in one pass of n copies with keys of their own."""
    keys = randomness.image_keys(randomness.derive(2), torch.arange(n))
    with torch.no_grad(), randomness.draw(keys, 0):
        return module(image.expand(n, -1, -1, -1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("rate", "used"), [(None, 0.3), (0.6, 0.6)])
def test_a_linear_layer_after_dropout_has_the_moments_of_the_closed_form(
    rate: float | None, used: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    linear = nn.Linear(48, 5)
    module = wrapped(nn.Sequential(nn.Flatten(), nn.Dropout(0.3), linear), monkeypatch, rate=rate)
    found = many(module, IMAGES[0], 20_000).double()
    x, weight = IMAGES[0].flatten().double(), linear.weight.detach().double()
    # Each input is kept with probability 1 − p and then divided by it: mean x, variance x²·p/(1 − p).
    mean = x @ weight.T + linear.bias.detach()
    variance = x.square() @ weight.T.square() * used / (1 - used)
    assert ((found.mean(0) - mean).abs() < 5 * (variance / len(found)).sqrt()).all()
    torch.testing.assert_close(found.var(0), variance, rtol=0.06, atol=0)


def test_channels_and_elements_are_dropped_as_their_layers_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Maps(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.drop = layer

        def forward(self, images: Tensor) -> Tensor:
            self.seen = self.drop(torch.ones(len(images), 6, 4, 4))
            return self.seen.flatten(1)[:, :5]

    for layer, sizes in ((nn.Dropout2d(0.25), {0, 16}), (nn.Dropout(0.25), set(range(17)))):
        maps = Maps(layer)
        draw(wrapped(maps, monkeypatch))
        kept = maps.seen != 0
        assert maps.seen.unique().tolist() == pytest.approx([0, 1 / 0.75])
        counts = set(kept.sum((2, 3)).flatten().tolist())
        assert counts <= sizes
        assert len(counts) > 1


@pytest.mark.parametrize(
    ("path", "factor"),
    [
        (DropPath(0.25), 1 / 0.75),
        (DropPath(0.25, scale_by_keep=False), 1),
        (StochasticDepth(0.25, "row"), 1 / 0.75),
    ],
)
def test_a_residual_branch_is_dropped_for_an_image_as_a_whole(
    path: nn.Module, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = many(wrapped(Residual(path), monkeypatch), IMAGES[0], 2000)
    x = IMAGES[0].flatten()[:5]
    kept = torch.isclose(found, (2 + factor) * x).all(-1)
    assert (kept ^ torch.isclose(found, 2 * x).all(-1)).all()
    assert abs(float(kept.double().mean()) - 0.75) < 5 * math.sqrt(0.25 * 0.75 / len(kept))


@pytest.mark.parametrize(
    "model", [nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 5)), Windows(), Residual(DropPath(0.5))]
)
def test_draws_follow_the_images_and_not_the_batch(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    module = wrapped(model, monkeypatch)
    whole = [draw(module, index) for index in range(6)]
    for chunk in (1, 3):
        for index, logits in enumerate(whole):
            torch.testing.assert_close(draw(module, index, chunk), logits)
    assert not all(torch.equal(logits, whole[0]) for logits in whole)


def test_two_uses_of_one_layer_have_masks_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, images: Tensor) -> Tensor:
            ones = torch.ones(len(images), 5)
            return self.drop(ones) - self.drop(ones)

    assert draw(wrapped(Twice(), monkeypatch)).any()


def test_the_unwrapped_network_drops_nothing_and_no_hook_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 5))
    module = wrapped(model, monkeypatch)
    assert isinstance(module, MCDropoutOf)
    before = model(IMAGES)
    predictor = Predictor(module, registry.find("models", "tiny"), Classification(5), [3], True, "float32", 100)
    predictor.predict(IMAGES, KEYS)
    assert predictor.unwrapped is not None
    torch.testing.assert_close(predictor.unwrapped.predict(IMAGES, KEYS)[0], before.log_softmax(-1))
    assert not model[1]._forward_hooks


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(48, 5)), {"rate": 0.2}, "no dropout layers .*`infer-dropout:net,rate"),
        (nn.Sequential(nn.Flatten(), nn.Dropout(0.0)), {}, "all have rate 0: give a rate, say mc-dropout:net,rate=0.1"),
        (nn.Sequential(nn.Flatten(), nn.AlphaDropout(0.1)), {}, "cannot keep AlphaDropout on, which net has as 1"),
        (nn.Sequential(nn.Flatten(), nn.Dropout(1.0)), {}, "has rate 1"),
        (nn.Sequential(nn.Flatten(), nn.Dropout(0.1)), {"rate": 1.0}, "invalid rate=1.0"),
    ],
)
def test_what_cannot_be_kept_on_is_refused_with_the_cure(
    model: nn.Module, options: dict[str, float], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=words):
        wrapped(model, monkeypatch, **options)


def test_weights_are_those_of_the_network_inside() -> None:
    data = random_dataset()
    module = mc_dropout(data, "small", rate=0.2)
    assert isinstance(module, MCDropoutOf)
    assert [(part.spec, part.seed) for part in module.parts()] == [("small", 0)]
    assert module.parts()[0].module is module.unwrapped


@pytest.mark.parametrize("spec", ["mc-dropout:small", "mc-dropout:(ensemble:small,size=2),rate=0.3"])
def test_it_keeps_every_promise_of_a_model(spec: str) -> None:
    statuses = {found.check: found.status for found in check_model(spec, random_dataset(classes=7))}
    assert set(statuses.values()) == {"passed", "skipped"}
    assert statuses["parts"] == statuses["state-dict"] == "passed"


def test_it_agrees_with_another_wrapper_at_the_same_place() -> None:
    """Of one network, dropout before the last layer is what infer-dropout puts there: the same distribution."""
    data = random_dataset()
    torch.manual_seed(0)
    ours, theirs = mc_dropout(data, "small", rate=0.3), infer_dropout(data, "small", rate=0.3, location="4")
    theirs.load_state_dict(ours.state_dict())
    images, keys = data.images.read(0, 2) / 255, randomness.image_keys(randomness.derive(2), torch.arange(2))
    entry = registry.find("models", "tiny")
    a, b = (
        Predictor(module, entry, Classification(10), [200], True, "float32", 100).predict(images, keys).exp()
        for module in (ours, theirs)
    )
    error = ((a.var(0) + b.var(0)) / 200).sqrt()
    assert ((a.mean(0) - b.mean(0)).abs() < 5 * error + 1e-6).all()


def test_a_network_of_timm_keeps_its_dropout_and_drop_path() -> None:
    timm = pytest.importorskip("timm", reason="the extra timm is not installed")

    def build(dataset: Dataset) -> nn.Module:
        options = {"img_size": 32, "drop_rate": 0.1, "proj_drop_rate": 0.1, "drop_path_rate": 0.2}
        net = timm.create_model("test_vit", num_classes=dataset.classes, **options)
        from stressbench_plugins.mc_dropout import _rates

        return MCDropoutOf(net, "net", _rates(net, "net", None))

    check_model(build, random_dataset())
