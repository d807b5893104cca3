"""Rotations and translations, against SciPy's interpolation and a search by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform
from torch import nn

from attack_cases import SIDE, Linear, batch, run
from stressbench.contracts import Batch
from stressbench.errors import UserError
from stressbench.sampling import Unjudged
from stressbench.spec import parse
from stressbench_suites.adversarial.spatial import Spatial, transformed
from stressbench_suites.adversarial.suite import AdversarialSuite

CONDITION = {"attack": "spatial,angles=5,shift=0.3,shifts=3", "norm": "none"}


def by_scipy(image: np.ndarray, angle: float, down: float, right: float) -> np.ndarray:
    """Counter-clockwise around the centre, then moved; rows go down."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    back = np.array([[cos, sin], [-sin, cos]])  # (row, column) of the result, from the centre, to that of the source
    centre = (np.array(image.shape[1:]) - 1) / 2
    offset = centre - back @ (centre + np.array([down, right]))
    return np.stack([affine_transform(plane, back, offset, order=1, mode="grid-constant", cval=0) for plane in image])


@pytest.mark.parametrize(("angle", "down", "right"), [(0, 2, -1), (30, 0, 0), (-12.5, 1.5, -0.75), (90, 0, 1)])
@pytest.mark.parametrize("size", [(8, 8), (6, 10)])
def test_a_place_is_what_scipy_makes_of_it(size: tuple[int, int], angle: float, down: float, right: float) -> None:
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    expected = np.stack([by_scipy(image.double().numpy(), angle, down, right) for image in images])
    np.testing.assert_allclose(transformed(images, angle, down, right).numpy(), expected, atol=2e-5)


def test_the_default_grid_is_the_published_one() -> None:
    places = list(Spatial(parse("spatial")).places(32, 32))
    assert len(places) == 31 * 5 * 5
    angles, down, right = (sorted(set(values)) for values in zip(*places, strict=True))
    assert angles == pytest.approx(list(range(-30, 31, 2)))
    assert down == right == [-3.0, -1.5, 0.0, 1.5, 3.0]


def cases() -> tuple[nn.Module, Batch]:
    model = Linear(classes=3, scale=0.1)
    model.layer.bias.data[0] += 1.0  # some images are far from the other classes
    return model, batch(24, model, wrong=3)


def test_each_image_keeps_the_worst_place_of_the_grid() -> None:
    model, b = cases()
    suite = AdversarialSuite(attack=(str(CONDITION["attack"]),), audit=False)
    assert suite.conditions()[1:] == [CONDITION]
    found = suite.stress(CONDITION, b, Unjudged(model))
    moved = [-2.0, 0.0, 2.0]  # 0.3 of 6 pixels, rounded
    places = itertools.product([-30.0, -15.0, 0.0, 15.0, 30.0], moved, moved)
    tried = np.stack([[by_scipy(image.numpy(), *place) for image in b.images] for place in places])
    with torch.no_grad():
        logits = torch.stack([model(torch.from_numpy(images).float()) for images in tried])
        wrong = logits.argmax(dim=2) != b.targets
        loss = -logits.log_softmax(dim=2)[:, torch.arange(24), b.targets]
        reached = -model(found.images).log_softmax(dim=1)[torch.arange(24), b.targets]
    fooled = wrong.any(dim=0)
    assert 0 < int(fooled.sum()) < 24
    assert torch.equal(found.columns["fooled"].bool(), fooled)
    expected = torch.where(wrong | ~fooled, loss, -math.inf).amax(dim=0)
    assert torch.allclose(reached, expected, atol=1e-4)


def test_verdicts_alone_are_the_same() -> None:
    model, b = cases()
    rows = [
        run(AdversarialSuite(attack=("spatial,angles=5",), audit=False, verdicts_only=only), model, b)[2][1]
        for only in (False, True)
    ]
    assert rows[0]["accuracy"] == rows[1]["accuracy"] < 1
    assert rows[0]["nll"] is not None
    assert rows[1]["nll"] is None


def test_a_model_that_sees_no_places_is_not_fooled() -> None:
    class Centre(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            bright = images.mean(dim=(1, 2, 3)) > -1
            return torch.stack([bright.float(), torch.zeros(len(images))], dim=1)

    model = Centre()
    b = batch(4, model)
    assert b.images.shape[-1] == SIDE
    _, _, rows = run(AdversarialSuite(attack=("spatial,angles=3",), audit=False), model, b)
    assert rows[1]["accuracy"] == 1


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        ("spatial,angels=3", "spatial has no option 'angels': did you mean 'angles'"),
        ("spatial:CW", "write spatial, with options"),
        ("spatial,angles=4", "invalid angles=4: expected an odd number"),
        ("spatial,shifts=0", "invalid shifts=0: expected an odd number"),
        ("spatial,angle=181", "invalid angle=181: expected 0 to 180"),
        ("spatial,shift=0.6", "invalid shift=0.6: expected 0 to 0.5"),
    ],
)
def test_what_makes_no_grid_is_refused(attack: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        AdversarialSuite(attack=(attack,))
