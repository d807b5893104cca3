"""Training-free wrappers against naive loops over whole passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stressbench import randomness, registry
from stressbench.contracts import Classification, Composite, Dataset, Part, Sampler
from stressbench.datasets.digits import digits
from stressbench.errors import UserError
from stressbench.execution.predict import Predictor
from stressbench.locations import locate
from stressbench.testing import check_model
from stressbench_plugins import resnet
from stressbench_plugins.ensemble import Ensemble
from stressbench_plugins.training_free import Disturbed, Noise, infer_dropout, infer_noise, infer_transform
from tiny_models import Tiny

KEYS = randomness.image_keys(randomness.derive(3), torch.arange(4))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return digits("test")


@pytest.fixture(scope="module")
def images(dataset: Dataset) -> Tensor:
    return dataset.images.read(0, 4) / 255


def predict(module: nn.Module, images: Tensor, keys: Tensor, draws: int, chunk: int = 100) -> Tensor:
    return Predictor(
        module, registry.find("models", "tiny"), Classification(10), [draws], True, "float32", chunk
    ).predict(images, keys)


class OnePass(nn.Module):
    """A wrapper that has no draws of its own: the harness makes whole passes of it."""

    def __init__(self, wrapper: nn.Module) -> None:
        super().__init__()
        self.wrapper = wrapper

    def forward(self, images: Tensor) -> Tensor:
        return self.wrapper(images)


WRAPPERS: dict[str, Callable[[Dataset], nn.Module]] = {
    "noise at 0": lambda d: infer_noise(d, "tiny", sigma=0.2, location="0"),
    "noise at 4": lambda d: infer_noise(d, "tiny", sigma=0.2, location="4"),
    "dropout at a name": lambda d: infer_dropout(d, "tiny", rate=0.3, location="features"),
    "dropout of dropout": lambda d: infer_dropout(d, "dropped", rate=0.3, location="features"),
    "noise of dropout": lambda d: infer_noise(d, "infer-dropout-tiny", sigma=0.2, location="4"),
    "flips of dropout": lambda d: infer_transform(d, "dropped"),
    "dropout of members": lambda d: infer_dropout(d, "pair", location="features"),
    "turns of members": lambda d: infer_transform(d, "pair", transforms="rotate"),
}


@pytest.fixture(autouse=True)
def _nested(monkeypatch: pytest.MonkeyPatch, dataset: Dataset) -> None:
    """Two composite models by name, whatever is installed."""
    real = registry.model

    def pair() -> nn.Module:
        built = [Tiny(dataset), Tiny(dataset)]
        nn.init.constant_(built[1].head.bias, 1)
        return Ensemble([Part("tiny", seed, module) for seed, module in enumerate(built)])

    def model(text: str, data: Dataset) -> nn.Module:
        if text == "infer-dropout-tiny":
            return infer_dropout(data, "tiny", rate=0.3, location="features")
        return pair() if text == "pair" else real(text, data)

    monkeypatch.setattr(registry, "model", model)


@pytest.mark.parametrize("name", WRAPPERS)
def test_draws_are_those_of_whole_passes_whatever_the_batch(name: str, dataset: Dataset, images: Tensor) -> None:
    wrapper = WRAPPERS[name](dataset)
    whole = predict(wrapper, images, KEYS, 5)
    torch.testing.assert_close(predict(OnePass(wrapper), images, KEYS, 5), whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(predict(wrapper, images, KEYS, 5, chunk=1), whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(predict(wrapper, images[2:3], KEYS[2:3], 2), whole[:2, 2:3], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(predict(wrapper, images, KEYS, 5), whole)
    assert all(not torch.allclose(whole[a], whole[b]) for a in range(4) for b in range(a))


@pytest.mark.parametrize("name", WRAPPERS)
def test_one_call_is_one_draw_through_which_gradients_reach_the_images(
    name: str, dataset: Dataset, images: Tensor
) -> None:
    wrapper = WRAPPERS[name](dataset).eval()
    assert isinstance(wrapper, Composite)
    assert wrapper.stochastic is True
    given = images.clone().requires_grad_()
    wrapper(given).logsumexp(1).sum().backward()
    assert given.grad is not None
    assert (given.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


def test_noise_and_masks_are_what_they_say(dataset: Dataset, images: Tensor) -> None:
    tiny = Tiny(dataset)
    with torch.no_grad():
        clean = tiny.features(images - 0.5).relu()
        pooled = nn.functional.adaptive_avg_pool2d(clean, 4).flatten(1)

        noisy = infer_noise(dataset, "tiny", sigma=0.2, location="4")
        with randomness.draw(KEYS, 1):
            expected = 20 * tiny.head(pooled + 0.2 * randomness.normal_like(pooled))
        with randomness.draw(KEYS, 0):
            torch.testing.assert_close(noisy.draws(images, 2)[1], expected)

        dropped = infer_dropout(dataset, "tiny", rate=0.4, location="4")
        with randomness.draw(KEYS, 1):
            expected = 20 * tiny.head(randomness.dropout(pooled, 0.4))
        with randomness.draw(KEYS, 0):
            torch.testing.assert_close(dropped.draws(images, 2)[1], expected)

        for still in (infer_noise(dataset, "tiny", 0.0, "0"), infer_dropout(dataset, "tiny", 0.0, "features")):
            torch.testing.assert_close(still.draws(images, 2), tiny(images).expand(2, -1, -1))


def test_noise_has_the_deviation_asked_for() -> None:
    x = torch.full((4, 16, 20, 20), 3.0)
    with randomness.draw(KEYS, 0):
        noise = randomness.normal_like(x)
        other = randomness.normal_like(x)
    assert noise.mean().abs() < 0.02
    assert (noise.std() - 1).abs() < 0.02
    assert not torch.allclose(noise, other)
    assert randomness.normal_like(x.bfloat16()).dtype == torch.bfloat16
    # Outside of a draw, torch's generator.
    torch.manual_seed(0)
    first = randomness.normal_like(x)
    torch.manual_seed(0)
    assert torch.equal(first, torch.randn_like(x))


@pytest.mark.parametrize(("transforms", "count"), [("flip", 2), ("rotate", 4), ("dihedral", 8)])
def test_transforms_are_different_symmetries_of_the_image(
    transforms: str, count: int, dataset: Dataset, images: Tensor
) -> None:
    wrapper = infer_transform(dataset, "tiny", transforms=transforms).eval()  # type: ignore[arg-type]
    assert (wrapper.default_draws, wrapper.max_draws) == (count, count)
    seen: list[Tensor] = []
    wrapper.model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    drawn = predict(wrapper, images, KEYS, count)
    with torch.no_grad():
        passes = torch.stack([Tiny(dataset)(image).log_softmax(-1) for image in seen])
    torch.testing.assert_close(drawn, passes)
    torch.testing.assert_close(seen[0], images)
    symmetries = [torch.rot90(m, k, (-2, -1)) for m in (images, images.flip(-1)) for k in range(4)]
    for a, image in enumerate(seen):
        assert sum(torch.equal(image, other) for other in symmetries) == 1
        assert not any(torch.equal(image, other) for other in seen[:a])
    if transforms == "flip":
        assert torch.equal(seen[1], images.flip(-1))


def test_more_noise_disturbs_more(dataset: Dataset, images: Tensor) -> None:
    spread = [
        predict(infer_noise(dataset, "tiny", sigma, "features"), images, KEYS, 16).exp().var(0).mean().item()
        for sigma in (0.01, 0.05, 0.2)
    ]
    assert spread == sorted(spread)
    assert spread[0] > 0


def test_eval_switches_nothing_off(dataset: Dataset, images: Tensor) -> None:
    wrapper = infer_dropout(dataset, "tiny", location="features")
    with torch.no_grad(), randomness.draw(KEYS, 0):
        torch.testing.assert_close(wrapper.eval().draws(images, 2), wrapper.train().draws(images, 2))


def test_resnet18_at_every_location(dataset: Dataset, images: Tensor) -> None:
    torch.manual_seed(0)
    net = resnet.resnet18(dataset).eval()
    stages = {"1": net.layer1, "2": net.layer2, "3": net.layer3}
    with torch.no_grad():
        for location, stage in stages.items():
            wrapper = Disturbed(net, "resnet18", locate(net, (32, 32), location), Noise(0.1)).eval()
            assert isinstance(wrapper, Sampler)
            ran: list[int] = []
            counter = net.conv1.register_forward_hook(lambda *_, ran=ran: ran.append(1))
            with randomness.draw(KEYS[:2], 0):
                ours = wrapper.draws(images[:2], 2)
            counter.remove()
            hook = stage.register_forward_hook(lambda _, __, out: out + 0.1 * randomness.normal_like(out))
            naive = []
            for index in range(2):
                with randomness.draw(KEYS[:2], index):
                    naive.append(net(images[:2]))
            hook.remove()
            torch.testing.assert_close(ours, torch.stack(naive), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda d: infer_noise(d, "tiny"), "no location '2'.*give one of 0, 4, features, head"),
        (lambda d: infer_noise(d, "tiny", sigma=-1), "sigma=-1"),
        (lambda d: infer_noise(d, "tiny", sigma=float("nan")), "sigma=nan"),
        (lambda d: infer_dropout(d, "tiny", rate=1), "rate=1"),
        (lambda d: infer_dropout(d, "tinny"), "called 'tinny'"),
    ],
)
def test_wrong_options_are_refused(build: Callable[[Dataset], nn.Module], words: str, dataset: Dataset) -> None:
    with pytest.raises(UserError, match=words):
        build(dataset)


def test_oblong_images_are_not_turned(dataset: Dataset) -> None:
    oblong = replace(dataset, image_size=(32, 24))
    assert infer_transform(oblong, "tiny").default_draws == 2
    with pytest.raises(UserError, match="32×24"):
        infer_transform(oblong, "tiny", transforms="rotate")


# --- a stranger's network -------------------------------------------------------------------------------------


class Gate(nn.Module):
    """Takes what it needs by name."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(channels, channels, 1)

    def forward(self, *, maps: Tensor, skipped: Tensor | None = None) -> Tensor:
        gated = maps * torch.sigmoid(self.weigh(maps))
        return gated if skipped is None else torch.cat([gated, skipped], dim=1)


class Stranger(nn.Module):
    """Steps that are no modules, weights without a layer, a block that runs twice, and calls by name."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(8, 3, 3, 3) / 5)
        self.stem = nn.Conv2d(8, 8, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.gate = Gate(8)
        self.head = nn.Linear(16, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.conv2d(images - 0.5, self.kernel, stride=2, padding=1)
        skipped = F.gelu(self.stem(x))
        x = self.block(F.max_pool2d(self.block(skipped), 2))
        x = self.gate(maps=x, skipped=F.avg_pool2d(skipped, 2))
        return self.head(input=x.mean((-2, -1)))


@pytest.fixture
def stranger(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Stranger:
    torch.manual_seed(0)
    net = Stranger(dataset.classes).eval()
    monkeypatch.setattr(registry, "model", lambda text, data: net)
    return net


# The place's call among those of its module, and what it gives to `hook`.
PLACES = {
    "0": ("stem", 0, "input"),
    "stem": ("stem", 0, "output"),
    "block": ("block", 1, "output"),  # the last of two
    "block.0": ("block.0", 1, "output"),
    "gate": ("gate", 0, "output"),
    "gate.weigh": ("gate.weigh", 0, "output"),
    "head": ("head", 0, "output"),
}


@pytest.mark.parametrize("location", PLACES)
@pytest.mark.parametrize("wrap", [infer_noise, infer_dropout])
def test_a_strangers_network_is_disturbed_where_hooks_would_disturb_it(
    wrap: Callable[..., nn.Module], location: str, stranger: Stranger, dataset: Dataset, images: Tensor
) -> None:
    wrapper = wrap(dataset, "stranger", 0.3, location)
    name, call, side = PLACES[location]

    def disturb(x: Tensor) -> Tensor:
        return x + 0.3 * randomness.normal_like(x) if wrap is infer_noise else randomness.dropout(x, 0.3)

    def naive() -> Tensor:
        seen = -1

        def hook(_: nn.Module, given: tuple[Tensor, ...], *returned: Tensor) -> object:
            nonlocal seen
            seen += 1
            if seen != call:
                return None
            return disturb(*returned) if side == "output" else (disturb(given[0]),)

        module = stranger.get_submodule(name)
        handle = (module.register_forward_hook if side == "output" else module.register_forward_pre_hook)(hook)
        try:
            return stranger(images)
        finally:
            handle.remove()

    expected = []
    with torch.no_grad():
        for index in range(3):
            with randomness.draw(KEYS, index):
                expected.append(naive())
            with randomness.draw(KEYS, index):
                torch.testing.assert_close(wrapper(images), expected[-1])
        with randomness.draw(KEYS, 0):
            torch.testing.assert_close(wrapper.draws(images, 3), torch.stack(expected))  # type: ignore[operator]
    assert not torch.allclose(expected[0], expected[1])
    check_model(lambda _: wrap(dataset, "stranger", 0.3, location), dataset)


def test_the_input_of_a_layer_that_is_called_by_name_is_no_location(stranger: Stranger, dataset: Dataset) -> None:
    with pytest.raises(UserError, match="no location '4': give one of 0, 1, 2, 3, "):
        infer_noise(dataset, "stranger", location="4")
