"""Networks in the memory order that suits them: predicted with, attacked and trained."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from stressbench import randomness, registry, training
from stressbench.contracts import Classification, InMemory
from stressbench.datasets.digits import digits
from stressbench.execution.layout import arrange
from stressbench.execution.predict import Predictor
from stressbench_plugins.recipes import EMBEDDED
from tiny_models import Tiny

SIZE = (32, 32)


class LeNet(nn.Module):
    """Flattened with `view`, as hundreds of repositories have it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 6, 5), nn.BatchNorm2d(6), nn.Linear(6 * 14 * 14, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = nn.functional.max_pool2d(self.norm(self.conv(images)).relu(), 2)
        logits: Tensor = self.head(maps.view(len(maps), -1))
        return logits


def batch() -> Tensor:
    return torch.rand(6, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def test_a_network_that_needs_contiguous_maps_gets_them_and_its_own_numbers() -> None:
    net = training.fresh(LeNet, 0).eval()
    own = deepcopy(net)
    arrange(net, SIZE)
    keys = randomness.image_keys(0, torch.arange(6))
    predictor = Predictor(net, registry.find("models", "tiny"), Classification(10), [1], False, "float32", 4)
    # torch's kernels may round otherwise for another number of images.
    expected = own(batch()).log_softmax(-1)
    torch.testing.assert_close(predictor.predict(batch(), keys)[0], expected)
    given = batch().to(memory_format=torch.channels_last).requires_grad_()
    net(given).sum().backward()
    assert given.grad is not None
    assert torch.equal(net(batch()), own(batch()))


def test_convolutions_are_given_channels_last_and_the_trial_leaves_no_trace() -> None:
    convolution = nn.Conv2d(3, 4, 3)
    net = nn.Sequential(convolution, nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(4 * 30 * 30, 10))
    seen: list[Tensor] = []
    convolution.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    before, random = deepcopy(net.state_dict()), torch.get_rng_state()
    for _ in range(2):
        arrange(net, SIZE)
    assert len(seen) == 1
    assert net.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    net(batch())
    assert seen[-1].is_contiguous(memory_format=torch.channels_last)
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)


def test_what_fails_in_any_order_is_left_to_fail_where_it_is_used() -> None:
    class Volume(nn.Module):
        """Its weights have no channels-last order."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(3, 10, (1, *SIZE))

        def forward(self, images: Tensor) -> Tensor:
            return self.conv(images.unsqueeze(2)).flatten(1)

    class Failing(Tiny):
        def forward(self, images: Tensor) -> Tensor:
            raise ValueError("no")

    arrange(Failing(digits("test")), SIZE)
    volume = Volume()
    arrange(volume, SIZE)
    assert volume(batch()).shape == (6, 10)


def test_it_trains() -> None:
    few = digits("train")
    few = replace(few, images=InMemory(few.images.read(0, 40)), targets=InMemory(few.labels[:40]))
    net = training.fresh(LeNet, 0)
    recipe = replace(EMBEDDED, epochs=1, batch_size=20)
    training.train(net, few, recipe, 0, torch.device("cpu"), lambda *_: None, few)
    assert not net.training
