"""`check_model`: every check catches the model that breaks its promise, and no other check takes the blame."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conftest import ROOT
from stressbench import randomness, testing
from stressbench.contracts import Dataset, Part
from stressbench.errors import UserError
from stressbench.testing import check_model
from stressbench.testing.promises import PROMISES
from tiny_models import Dropped, Tiny, tiny

DATASET = testing.random_dataset(classes=5, image_size=(12, 16))


def failed(model: str | Callable[[Dataset], Any], dataset: Dataset = DATASET) -> dict[str, testing.Finding]:
    return {found.check: found for found in testing.findings(model, dataset) if found.status == "failed"}


class Base(nn.Module):
    """A small network that keeps every promise; what is broken in it is below."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.head = nn.Linear(24, dataset.classes)

    def maps(self, images: Tensor) -> Tensor:
        return self.features(images - 0.5).relu()

    def classify(self, maps: Tensor) -> Tensor:
        return self.head(F.adaptive_avg_pool2d(maps, 2).flatten(1))

    def forward(self, images: Tensor) -> Any:
        return self.classify(self.maps(images))


class Noisy(Base):
    """Keeps every promise too, with noise that follows the images."""

    stochastic = True
    default_draws = 3

    def classify(self, maps: Tensor) -> Tensor:
        return super().classify(randomness.dropout(maps, 0.3))


class Members(Base):
    """Three heads that take turns, with draws of its own."""

    stochastic = True
    default_draws: Any = 3
    most_draws: Any = 3

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * (1 + randomness.draw_index() % 3)

    def draws(self, images: Tensor, n: int) -> Tensor:
        return torch.stack([super(Members, self).forward(images) * (1 + s % 3) for s in range(n)])


class Wrapped(nn.Module):
    """A model made of one part."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__()
        self.inner = Base(dataset)

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)

    def parts(self) -> list[Part]:
        return [Part("base", 0, self.inner)]


@pytest.mark.parametrize(
    "model", [Base, Noisy, Members, Wrapped, Tiny, Dropped, partial(tiny, width=3), "tiny,width=3"]
)
def test_a_model_that_keeps_its_promises_passes(model: str | Callable[[Dataset], nn.Module]) -> None:
    findings = check_model(model, DATASET)
    assert {found.status for found in findings} == {"passed", "skipped"}
    assert next(found.status for found in findings if found.check == "batch") == "passed"
    check_model(model)


# --- broken ones ----------------------------------------------------------------------------------------------


class Probabilities(Base):
    def forward(self, images: Tensor) -> Any:
        return {"logits": super().forward(images)}


class OneMoreClass(Base):
    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.head = nn.Linear(24, dataset.classes + 1)


class Votes(Base):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).argsort(1)


class Half(Base):
    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.double()


class Diverged(Base):
    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        nn.init.constant_(self.head.bias, float("nan"))


class Squeezed(Base):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).squeeze()


class Standardised(Base):
    """Divides by each image's deviation, which is 0 for a flat one."""

    def forward(self, images: Tensor) -> Tensor:
        axes = (1, 2, 3)
        return super().forward((images - images.mean(axes, keepdim=True)) / images.std(axes, keepdim=True))


class Halved(Base):
    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            images.mul_(0.5)
        return super().forward(images)


class InPlace(Base):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.sub_(0.5))


class Detached(Base):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.detach())


class Frozen(Base):
    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(images)


class Rounded(Base):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward((255 * images).round() / 255)


class SteepRoot(Base):
    """Its slope is infinite where an image is 0.5."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + 0 * (images - images.detach()).pow(0.5).sum((1, 2, 3)).unsqueeze(1)


class Counting(Base):
    passes: Tensor

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.passes += 1
        return super().forward(images)


class Stubborn(nn.BatchNorm2d):
    """Batch normalisation that somebody keeps in training mode, so that MC dropout stays on."""

    def train(self, mode: bool = True) -> Stubborn:
        return super().train(True)


class TrainingMode(Base):
    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.norm = Stubborn(6)

    def maps(self, images: Tensor) -> Tensor:
        return self.norm(super().maps(images))


class BatchStatistics(Base):
    def maps(self, images: Tensor) -> Tensor:
        maps = super().maps(images)
        return maps - maps.mean(0, keepdim=True)


class BatchSize(Base):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) / len(images)


class Silent(Base):
    """Random, and does not say so."""

    def maps(self, images: Tensor) -> Tensor:
        return F.dropout(super().maps(images), 0.3)


class Idle(Base):
    """Takes random numbers and does nothing with them."""

    def maps(self, images: Tensor) -> Tensor:
        torch.rand(1)
        return super().maps(images)


class SaysItIsRandom(Base):
    stochastic = True
    default_draws = 4


class SharedMask(Base):
    """The first image's draws differ, the others' do not."""

    stochastic = True

    def classify(self, maps: Tensor) -> Tensor:
        return super().classify(torch.cat([randomness.dropout(maps, 0.3)[:1], maps[1:]]))


class Endless(Members):
    """Begins again after three draws and does not say so."""

    most_draws = None


class SoonerRepeat(Members):
    """Says that there are four draws, and there are three."""

    default_draws, most_draws = 3, 4


class LaterRepeat(Members):
    """Says that there are two draws, and there are three."""

    default_draws, most_draws = 2, 2


class NumpyNoise(Base):
    stochastic = True

    def maps(self, images: Tensor) -> Tensor:
        maps = super().maps(images)
        return maps + 0.1 * torch.from_numpy(np.random.default_rng().normal(size=tuple(maps.shape))).float()


class SeedOfItsOwn(Base):
    """Draws differ and come again, and no --seed changes them."""

    stochastic = True

    def maps(self, images: Tensor) -> Tensor:
        maps = super().maps(images)
        mask = torch.rand(maps.shape[1:], generator=torch.Generator().manual_seed(randomness.draw_index()))
        return maps * mask


class OtherDraws(Members):
    """Its draws are in another order than passes are."""

    def draws(self, images: Tensor, n: int) -> Tensor:
        return super().draws(images, n).flip(0)


class FewerDraws(Noisy):
    """Its first draws depend on how many there are."""

    def draws(self, images: Tensor, n: int) -> Tensor:
        drawn = []
        for index in range(n):
            with randomness.redraw(index if n == 3 else index + 1):
                drawn.append(self(images))
        return torch.stack(drawn)


class TensorOfDraws(Members):
    def draws(self, images: Tensor, n: int) -> Any:
        return list(super().draws(images, n))


class Viewed(Base):
    def classify(self, maps: Tensor) -> Tensor:
        return super().classify(maps.view(len(maps), -1).view(maps.shape))


class MemoryOrder(Base):
    """Reads the pixels as they lie in memory."""

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        lie = torch.as_strided(images, images.shape, (3 * height * width, height * width, width, 1))
        return super().forward(lie)


class Switched(Base):
    """MC dropout that a layer in training mode makes, which only its own `eval` leaves on."""

    stochastic = True

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.dropout = nn.Dropout(0.3)

    def maps(self, images: Tensor) -> Tensor:
        maps = super().maps(images)
        return randomness.dropout(maps, 0.3) if self.dropout.training else maps

    def eval(self) -> Switched:
        super().eval()
        self.dropout.train()
        return self


class Unregistered(Base):
    """Has a weight that no state dict holds."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.scale = torch.rand(dataset.classes)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * self.scale


class ExtraState(Base):
    def get_extra_state(self) -> dict[str, int]:
        return {"epoch": 3}

    def set_extra_state(self, state: object) -> None:
        pass


class Beside(Wrapped):
    """Has a weight that is in no part."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.bias = nn.Parameter(torch.ones(dataset.classes))

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.bias


class Twins(Wrapped):
    def parts(self) -> list[Part]:
        return [Part("base", 0, self.inner), Part("base", 0, self.inner)]


def saying(base: type[Base], **said: object) -> Callable[[Dataset], nn.Module]:
    return type(f"Saying{base.__name__}", (base,), said)


@pytest.mark.parametrize(
    ("model", "checks", "words"),
    [
        (lambda _: 42, ["module"], "it is a int"),
        (saying(Base, stochastic="no"), ["declarations"], "stochastic is 'no'"),
        (saying(Base, untrained=None), ["declarations"], "untrained is None"),
        (saying(Noisy, default_draws=0), ["declarations"], "default_draws is 0"),
        (saying(Noisy, default_draws=2.5), ["declarations"], "default_draws is 2.5"),
        (saying(Base, default_draws=8), ["declarations"], "default_draws 8 and does not say that it is stochastic"),
        (saying(Members, stochastic=False, default_draws=1), ["declarations"], "a method `draws`"),
        (saying(Members, most_draws=0), ["declarations"], "most_draws is 0"),
        (saying(Members, default_draws=5), ["declarations"], "default_draws is 5 and most_draws 3"),
        (Probabilities, ["output"], "a dict"),
        (OneMoreClass, ["output"], r"shape \(7, 6\); return logits \(7, 5\)"),
        (Votes, ["output"], "torch.int64"),
        (Half, ["output"], "it raised RuntimeError: .*float"),
        (Diverged, ["output"], "7 of 7 rows of logits are NaN"),
        (Beside, ["parts"], "1 of its tensors are in no part, bias first"),
        (Twins, ["parts"], "two parts go by base, seed 0"),
        (Standardised, ["range"], "for black images 2 of 2 rows"),
        (Squeezed, ["one-image"], r"shape \(5,\); return logits \(1, 5\)"),
        (Halved, ["input"], "changed its input by up to 0.5"),
        (InPlace, ["gradient", "input"], "in-place operation"),
        (Detached, ["gradient"], "does not reach the images"),
        (Frozen, ["gradient"], "a pass has no gradient"),
        (Rounded, ["gradient"], "is zero everywhere"),
        (SteepRoot, ["gradient"], "NaN or infinite"),
        (Counting, ["state"], "changed 1 of 5 tensors, passes first"),
        (TrainingMode, ["batch", "state"], "when only the other images of the batch are changed"),
        (BatchStatistics, ["batch"], "when only the other images of the batch are changed"),
        (BatchSize, ["batch"], "between a batch of 7 and batches of 1 and 1"),
        (Silent, ["stochastic"], "two passes differ by"),
        (Idle, ["reproducible"], "takes numbers from torch's generator"),
        (SaysItIsRandom, ["stochastic"], "8 draws of an image are the same"),
        (SharedMask, ["stochastic"], "4 draws of an image are the same"),
        (Endless, ["stochastic"], "sets no `most_draws`, and its draws come again after 3"),
        (SoonerRepeat, ["stochastic"], "its most_draws is 4, and its draws come again after 3"),
        (LaterRepeat, ["stochastic"], "its most_draws is 2, and 4 of its draws do not come again"),
        (NumpyNoise, ["reproducible"], "between two passes of the same draw"),
        (SeedOfItsOwn, ["reproducible"], "another seed gives the same draws"),
        (OtherDraws, ["draws"], "between draw 0 of `draws` and a pass of it"),
        (FewerDraws, ["draws"], "between the first of 3 draws and 2 draws"),
        (TensorOfDraws, ["draws"], "a list"),
        (Viewed, ["layout"], "view size is not compatible"),
        (MemoryOrder, ["layout"], "between contiguous and channels-last images"),
        (Switched, ["eval-mode"], r"between model.eval\(\) and torch.nn.Module.eval\(model\)"),
        (Unregistered, ["state-dict"], "between the model and a new one with its weights"),
        (ExtraState, ["state-dict"], "it raised AttributeError"),
    ],
)
def test_each_check_catches_its_fault_alone(model: Callable[[Dataset], Any], checks: list[str], words: str) -> None:
    found = failed(model)
    assert sorted(found) == checks
    with pytest.raises(AssertionError, match=words):
        check_model(model, DATASET)
    assert all(finding.seen and finding.change for finding in found.values())


# --- noted, skipped, refused ----------------------------------------------------------------------------------


class TorchNoise(Base):
    """A stranger's MC dropout: it knows torch's generator alone."""

    stochastic = True
    default_draws = 3

    def maps(self, images: Tensor) -> Tensor:
        return F.dropout(super().maps(images), 0.3, training=True)


class TorchNoiseOfTheBatch(TorchNoise):
    def maps(self, images: Tensor) -> Tensor:
        maps = super().maps(images)
        return maps - maps.mean(0, keepdim=True)


class Redrawn(Wrapped):
    """Seeds torch's generator with each pass, as wrappers do, and takes nothing from it."""

    stochastic = True
    default_draws = most_draws = 2

    def forward(self, images: Tensor) -> Tensor:
        which = randomness.draw_index() % 2
        with randomness.redraw(0, part=which):
            return self.inner(images.flip(-1) if which else images)


def test_noise_that_depends_on_the_batch_size_is_noted() -> None:
    findings = {found.check: found for found in check_model(TorchNoise, DATASET)}
    assert findings["batch"].status == "noted"
    assert "another batch size gives others" in findings["batch"].seen
    assert "stressbench.randomness" in findings["batch"].change
    # It excuses nothing else.
    assert list(failed(TorchNoiseOfTheBatch)) == ["batch"]
    assert {found.status for found in check_model(Redrawn, DATASET)} == {"passed", "skipped"}


class Mixed(Base):
    """Two members take turns, of which the first is deterministic: half of the draws are the same, and rightly."""

    stochastic = True
    default_draws = 4

    def forward(self, images: Tensor) -> Tensor:
        turn, member = divmod(randomness.draw_index(), 2)
        with randomness.redraw(turn, part=member):
            return super().forward(randomness.dropout(images, 0.3) if member else images)


def test_draws_of_a_deterministic_member_may_come_again() -> None:
    assert not failed(Mixed)
    found = failed(saying(Mixed, most_draws=4))
    assert "its most_draws is 4, and 8 of its draws do not come again" in found["stochastic"].seen


def test_what_says_nothing_any_more_is_skipped() -> None:
    findings = list(testing.findings(OneMoreClass, DATASET))
    assert [found.status for found in findings] == ["passed", "passed", "failed"] + ["skipped"] * (len(findings) - 3)
    assert findings[-1].seen == "it says nothing before 'stochastic' passes"


def test_a_check_leaves_torchs_generator_and_the_mode_of_other_modules_alone() -> None:
    before = torch.get_rng_state()
    built: list[nn.Module] = []

    def build(dataset: Dataset) -> nn.Module:
        built.append(TorchNoise(dataset))
        return built[-1]

    check_model(build, DATASET)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(built) == 2
    assert not any(module.training for net in built for module in net.modules())
    assert not torch.equal(built[0].head.weight, torch.zeros_like(built[0].head.weight))  # type: ignore[arg-type, union-attr]


def test_the_error_lists_every_finding() -> None:
    with pytest.raises(AssertionError) as error:
        check_model(InPlace, DATASET)
    first, *lines = str(error.value).splitlines()
    assert first == "InPlace fails 2 of 17 checks:"
    assert [line.split(":")[0] for line in lines] == ["  input", "  gradient"]
    assert lines[0].endswith("make the first operation not one in place")


def test_names_that_cannot_be_built_are_refused_and_a_callables_own_error_is_shown() -> None:
    for name, words in (("tinny", "did you mean 'tiny'"), ("tiny,depth=3", "depth"), ("unbuildable", "no such checkp")):
        with pytest.raises(UserError, match=words):
            check_model(name)

    def broken(dataset: Dataset) -> nn.Module:
        raise KeyError("layer9")

    with pytest.raises(KeyError, match="layer9"):
        check_model(broken)


def test_the_meta_device_shows_shapes_alone() -> None:
    statuses = {found.check: found.status for found in check_model(Wrapped, DATASET, meta=True)}
    assert [check for check, status in statuses.items() if status == "passed"] == [
        *("module", "declarations", "output", "parts"),
    ]
    for wrong, check in ((OneMoreClass, "output"), (Votes, "output"), (Beside, "parts")):
        with pytest.raises(AssertionError, match=check):
            check_model(wrong, DATASET, meta=True)


def test_the_dataset_that_models_are_built_for() -> None:
    data = testing.random_dataset(classes=3, image_size=(8, 9), n=5)
    assert data.images.read(1, 4).shape == (3, 3, 8, 9)
    assert data.labels.tolist() == [0, 1, 2, 0, 1]
    assert torch.equal(data.images.read(0, 5), testing.random_dataset(3, (8, 9), 5).images.read(0, 5))


class OfTheCpu(Base):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + torch.ones(DATASET.classes, device="cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_model_that_works_on_the_cpu_alone_is_found() -> None:
    assert list(failed(OfTheCpu)) == ["gpu"]
    for right in (Base, Noisy, Members):
        found = {finding.check: finding.status for finding in check_model(right, DATASET)}
        assert found["gpu"] == "passed"


def test_the_documentation_lists_every_check_in_order() -> None:
    rows = re.findall(r"^\| `(.+?)` \|", (ROOT / "docs" / "checking-a-model.md").read_text(), re.MULTILINE)
    assert rows == [promise.name for promise in PROMISES]
