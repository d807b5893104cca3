"""What every model of the family promises the harness, and what keeps its draws and its weights whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from model_family import ENDINGS, ENTRY_POINTS, build, outline
from stressbench import randomness, weights
from stressbench.contracts import traits

# One of each kind of block, small enough for the CPU; the others differ in numbers alone.
BASES = ("resnet18", "preresnet18", "resnet20", "preresnet20", "vgg11", "prevgg11", "alexnet")
SAMPLE = [base + ending for base in BASES for ending in ENDINGS]


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_every_model_makes_logits_and_says_what_it_is(name: str) -> None:
    net = outline(name)
    own, stochastic = traits(net), "mcdo" in name
    assert (own.untrained, own.stochastic, own.draws()) == (True, stochastic, 50 if stochastic else 1)
    assert net(torch.rand(2, 3, 32, 32, device="meta")).shape == (2, 10)


@pytest.mark.parametrize("name", SAMPLE)
def test_only_mc_dropout_makes_draws_differ_in_eval_mode(name: str) -> None:
    net, images = build(name), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        first, second = net(images), net(images)
    assert first.shape == (2, 10)
    assert first.isfinite().all()
    assert torch.equal(first, second) == (not net.stochastic)


@pytest.mark.parametrize("base", BASES)
def test_the_variants_compute_one_network_where_nothing_is_added(base: str) -> None:
    images, plain, smooth = torch.rand(2, 3, 32, 32), build(base), build(f"{base}-smooth")
    stages = {"alexnet": 3, "resnet20": 3, "preresnet20": 3, "vgg11": 5, "prevgg11": 5}.get(base, 4)
    bare = build(f"{base}-mcdo-smooth", rate=0.0, stages="0" * stages)
    bare.load_state_dict(plain.state_dict())
    smooth.load_state_dict(plain.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(bare(images), plain(images), rtol=1e-5, atol=1e-6)
        assert not smooth(images).allclose(plain(images), rtol=1e-2)


@pytest.mark.parametrize("name", ["resnet18-mcdo-smooth", "prevgg11-mcdo"])
def test_a_draw_of_an_image_is_the_same_alone_and_in_a_batch(name: str) -> None:
    net, images = build(name), torch.rand(4, 3, 32, 32)
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


@pytest.mark.parametrize("name", [name for name in SAMPLE if name.endswith("-mcdo-smooth")])
def test_gradients_reach_the_input(name: str) -> None:
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    build(name)(images).logsumexp(1).sum().backward()
    assert images.grad is not None
    assert (images.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


def test_weights_survive_the_file(tmp_path: Path) -> None:
    net, other = build("resnet18-smooth"), build("resnet18-smooth")
    nn.init.normal_(other.conv1.weight)
    assert weights.checksum(net) != weights.checksum(other)
    weights.save(net, tmp_path / "w.safetensors", {})
    weights.load(other, tmp_path / "w.safetensors")
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(net(images), other(images))
    assert weights.checksum(net) == weights.checksum(other)
