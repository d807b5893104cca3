"""Our models keep what any model has to promise; `tests/harness/test_testing.py` shows that each check can fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from model_family import ENDINGS, ENTRY_POINTS, SMALL, build, factory, outline
from stressbench import randomness, registry
from stressbench.testing import check_model, random_dataset

# The smallest of each family and one of each other kind of block, on images as small as they take.
SIDES = dict.fromkeys(("resnet18", "preresnet18", "resnet20", "preresnet20"), 16) | dict.fromkeys(
    ("vgg11", "prevgg11", "alexnet"), 32
)
SAMPLE = {
    **{f"resnet18{ending}": 16 for ending in ENDINGS},
    **{f"{base}{ending}": side for base, side in SIDES.items() for ending in ("", "-mcdo-smooth")},
    "resnext50": 8,
    "preresnet50": 8,
}

OF_MODELS = [
    "ensemble:resnet18-mcdo,size=2",
    "infer-transform:resnet18-smooth",
    "infer-dropout:preresnet18",
    # Around a stranger's.
    "infer-transform:tiny,transforms=dihedral",
    "infer-transform:(ensemble:dropped+tiny),transforms=rotate",
    "infer-noise:tiny,location=features",
    "infer-noise:(infer-dropout:tiny,location=features),location=4",
    "infer-dropout:(tiny,width=4),location=4",
    "infer-dropout:dropped,location=features",
    "infer-noise:(ensemble:tiny+(tiny,width=4)),location=4",
    "ensemble:tiny+(tiny,width=4)+dropped",
    "ensemble:(infer-transform:tiny)+(tiny,width=4)",
    "ensemble:(infer-noise:tiny,location=4)",
]


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_every_model_has_the_shapes_and_says_what_it_is(name: str) -> None:
    check_model(lambda _: outline(name), SMALL, meta=True)


@pytest.mark.parametrize("name", SAMPLE)
def test_one_of_each_kind_passes_every_check(name: str) -> None:
    side = SAMPLE[name]
    findings = check_model(factory(name), random_dataset(classes=7, image_size=(side, side)))
    # A note would be one too many: our random numbers are each image's own.
    assert {finding.status for finding in findings} == {"passed", "skipped"}


@pytest.mark.parametrize("spec", OF_MODELS)
def test_models_of_models_pass_every_check(spec: str) -> None:
    findings = check_model(spec, random_dataset(classes=7, image_size=(16, 16)))
    assert {finding.status for finding in findings} == {"passed", "skipped"}
    assert {finding.check: finding.status for finding in findings}["parts"] == "passed"


@pytest.mark.parametrize(
    "switch_off",
    [
        torch.nn.Module.eval,
        lambda net: net.eval(),
        lambda net: net.train(False),
        lambda net: [module.eval() for module in net.modules()],
        lambda net: [setattr(module, "training", False) for module in net.modules()],
    ],
    ids=["Module.eval", "eval", "train(False)", "eval of each module", "the flag of each module"],
)
@pytest.mark.parametrize("name", ["resnet18-mcdo", "alexnet-mcdo", "ensemble:dropped,size=1"])
def test_nothing_that_other_libraries_call_switches_mc_dropout_off(
    name: str, switch_off: Callable[[nn.Module], object]
) -> None:
    data = random_dataset(image_size=(32, 32))
    net = build(name) if name in ENTRY_POINTS else registry.model(name, data)
    # Normalisations in eval mode, dropout in training mode: what it is meant to compute.
    net.eval()
    images, keys = torch.rand(2, 3, 32, 32), randomness.image_keys(randomness.derive(4), torch.arange(2))

    def draws() -> list[torch.Tensor]:
        found = []
        for index in (0, 2):  # of an ensemble, both are of the first member
            with torch.no_grad(), randomness.draw(keys, index):
                found.append(net(images))
        return found

    before = draws()
    net.train()
    switch_off(net)
    after = draws()
    assert not torch.allclose(after[0], after[1], rtol=1e-3)
    for first, second in zip(before, after, strict=True):
        torch.testing.assert_close(first, second)
