"""Passes with one place changed: as if each were made from the start, with what is before the place run once."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stressbench import locations, passes, randomness
from stressbench.errors import UserError
from stressbench.passes import Place

SIZE = (8, 8)
KEYS = randomness.image_keys(randomness.derive(2), torch.arange(3))


class Branched(nn.Module):
    """One module twice in a pass, a shortcut around the place, steps that are no modules, and in-place ones."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.shared = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.side = nn.Conv2d(4, 4, 1)
        self.pair = Pair()
        self.head = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        skipped = self.side(x)
        x = self.shared(F.gelu(x))
        a, b = self.pair(x)["halves"]
        x = self.shared(a + 2 * b)
        # In place on what came from before the place, in every pass.
        skipped.mul_(0.5).add_(a.relu_())
        return self.head((x + skipped).mean((-2, -1)))


class Pair(nn.Module):
    """Returns what is not a tensor."""

    def forward(self, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        return {"halves": (x - 1, x.flip(-1))}


@pytest.fixture
def net() -> Branched:
    torch.manual_seed(0)
    return Branched().eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def noise(x: Tensor) -> Tensor:
    return x + 0.3 * randomness.normal_like(x)


def naive(net: nn.Module, images: Tensor, place: Place, n: int) -> Tensor:
    """Every draw from the start, with hooks of torch at the place's call of the module."""
    outputs = []
    before = [c for c in passes.calls(net, SIZE) if c.module is place.call.module and c.number < place.call.number]
    for index in range(n):
        seen = 0

        def hook(_: nn.Module, value: object, out: object = None) -> object:
            nonlocal seen
            seen += 1
            if seen - 1 != len(before):
                return None
            return (noise(value[0]),) if place.side == "input" else noise(out)  # type: ignore[index, arg-type]

        module = place.call.module
        handle = (module.register_forward_pre_hook if place.side == "input" else module.register_forward_hook)(hook)
        with randomness.redraw(index):
            outputs.append(net(images))
        handle.remove()
    return torch.stack(outputs)


def places(net: nn.Module) -> list[Place]:
    calls = passes.calls(net, SIZE)
    return [Place(c, "input") for c in calls if c.given] + [Place(c, "output") for c in calls if c.returned]


def test_every_place_is_as_a_naive_loop(net: Branched, images: Tensor) -> None:
    tried = places(net)
    assert {str(place) for place in tried} > {"input of stem", "output of shared", "input of shared.1", "input of head"}
    assert Counter(map(str, tried))["output of shared"] == 2
    for place in tried:
        with torch.no_grad(), randomness.draw(KEYS, 0):
            expected = naive(net, images, place, 3)
            torch.testing.assert_close(passes.changed(net, images, place, noise, 3), expected)
            torch.testing.assert_close(passes.changed(net, images, place, noise), expected[0])
        assert not torch.allclose(expected[0], expected[1]), place


def test_what_is_before_the_place_runs_once(net: Branched, images: Tensor) -> None:
    ran: Counter[str] = Counter()
    for name, module in net.named_modules():
        inner = module.forward

        def forward(*args: object, _name: str = name, _inner: object = inner) -> object:
            ran[_name] += 1
            return _inner(*args)  # type: ignore[operator]

        module.forward = forward  # type: ignore[method-assign]
    place = next(p for p in places(net) if str(p) == "output of shared")
    ran.clear()
    with torch.no_grad():
        passes.changed(net, images, place, noise, 6)
    # `shared` runs twice a pass: the place is after the first.
    assert ran == {"": 6, "stem": 1, "side": 1, "shared": 7, "shared.0": 7, "shared.1": 7, "pair": 6, "head": 6}


@pytest.mark.parametrize("draws", [None, 3])
def test_the_model_is_left_as_it_was(net: Branched, images: Tensor, draws: int | None) -> None:
    place = places(net)[3]
    clean = net(images)

    def fail(x: Tensor) -> Tensor:
        raise KeyError("no")

    with pytest.raises(KeyError):
        passes.changed(net, images, place, fail, draws)
    passes.changed(net, images, place, noise, draws)
    assert not any("forward" in vars(module) for module in net.modules())
    assert torch.equal(net(images), clean)
    assert [module.training for module in net.train().modules()] == [True] * len(list(net.modules()))
    passes.calls(net, SIZE)
    assert all(module.training for module in net.modules())


def test_a_place_that_is_not_reached_is_said(images: Tensor) -> None:
    class Fickle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.passes = nn.Flatten(), nn.Flatten(), 0

        def forward(self, x: Tensor) -> Tensor:
            self.passes += 1
            return self.a(x) if self.passes % 2 else self.b(x)

    net = Fickle()
    place = locations.locate(net, SIZE, "a")
    with pytest.raises(UserError, match="output of a was not reached"):
        passes.changed(net, images, place, noise)


def test_a_model_that_fails_on_the_images_is_said() -> None:
    with pytest.raises(UserError, match="fails on images of 8×8 pixels"):
        passes.calls(nn.Sequential(nn.Conv2d(3, 4, 11), nn.Flatten()), SIZE)


def test_outputs_are_those_that_hooks_leave() -> None:
    """As dropout that is kept on makes them: what a hook returns is what the next module gets."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout2d(0.5), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 10))
    net[1].register_forward_hook(lambda layer, args, output: output * 2)
    images = torch.rand(2, 3, 8, 8)
    places = [Place(call, "output") for call in passes.calls(net.eval(), (8, 8)) if call.name in ("0", "1")]
    seen: dict[int, Tensor] = {}
    with torch.no_grad(), passes.watched(net, places, seen.__setitem__):
        net(images)
    assert torch.equal(seen[1], seen[0] * 2)
    assert passes.calls(net, (8, 8))[0].chained  # the hook's own product is no step between the modules
    with torch.no_grad():
        changed_to = passes.changed(net, images, places[1], torch.zeros_like)
        assert torch.equal(changed_to, net[2:](torch.zeros(2, 4, 6, 6)))
