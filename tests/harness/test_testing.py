"""`check_model`: every check catches the model that breaks its promise, and no other check takes the blame."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dense_plugins
from conftest import ROOT
from faulty_models import (
    Base,
    BatchSize,
    BatchStatistics,
    Beside,
    Counting,
    Detached,
    Diverged,
    Endless,
    ExtraState,
    FewerDraws,
    Frozen,
    Half,
    Halved,
    Idle,
    InPlace,
    LaterRepeat,
    Members,
    MemoryOrder,
    Noisy,
    NumpyNoise,
    OneMoreClass,
    OtherDraws,
    Probabilities,
    Rounded,
    SaysItIsRandom,
    SeedOfItsOwn,
    SharedMask,
    Silent,
    SoonerRepeat,
    Squeezed,
    Standardised,
    SteepRoot,
    Switched,
    TensorOfDraws,
    TrainingMode,
    Twins,
    Unregistered,
    Viewed,
    Votes,
    Wrapped,
)
from stressbench import randomness, testing
from stressbench.contracts import Dataset
from stressbench.errors import UserError
from stressbench.testing import check_model
from stressbench.testing.requirements import CHECKS
from tiny_models import Dropped, Tiny, masked, tiny

DATASET = testing.random_dataset(classes=5, image_size=(12, 16))


def failed(model: str | Callable[[Dataset], Any], dataset: Dataset = DATASET) -> dict[str, testing.Finding]:
    return {found.check: found for found in testing.findings(model, dataset) if found.status == "failed"}


@pytest.mark.parametrize(
    "model", [Base, Noisy, Members, Wrapped, Tiny, Dropped, partial(tiny, width=3), "tiny,width=3"]
)
def test_a_model_that_keeps_its_promises_passes(model: str | Callable[[Dataset], nn.Module]) -> None:
    findings = check_model(model, DATASET)
    assert {found.status for found in findings} == {"passed", "skipped"}
    assert next(found.status for found in findings if found.check == "batch") == "passed"
    check_model(model)


@pytest.mark.parametrize("dataset", [dense_plugins.masks, dense_plugins.depths])
@pytest.mark.parametrize("model", [dense_plugins.pixelwise, dense_plugins.dropping])
def test_models_of_dense_tasks_are_held_to_the_same_promises(model: Any, dataset: Any) -> None:
    found = {finding.check: finding.status for finding in check_model(model, dataset("test", None, None))}
    assert found["output"] == found["gradient"] == found["batch"] == "passed"


# --- broken ones ----------------------------------------------------------------------------------------------


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
        (saying(Members, max_draws=0), ["declarations"], "max_draws is 0"),
        (saying(Members, default_draws=5), ["declarations"], "default_draws is 5 and max_draws 3"),
        (Probabilities, ["output"], "a dict"),
        (OneMoreClass, ["output"], r"shape \(7, 6\); return logits \(7, 5\)"),
        (Votes, ["output"], "torch.int64"),
        (Half, ["output"], "it raised RuntimeError: .*float"),
        (Diverged, ["output"], "the logits of 7 of 7 images are NaN"),
        (Beside, ["parts"], "1 of its tensors are in no part, bias first"),
        (Twins, ["parts"], "two parts go by base, seed 0"),
        (Standardised, ["range"], "for black images the logits of 2 of 2 images"),
        (Squeezed, ["one-image"], r"shape \(5,\); return logits \(1, 5\)"),
        (Halved, ["input"], "changed its input by up to 0.5"),
        (InPlace, ["gradient", "input"], "in-place operation"),
        (Detached, ["gradient"], "does not reach the images"),
        (Frozen, ["gradient"], "a pass has no gradient"),
        (Rounded, ["gradient"], "is zero everywhere"),
        (SteepRoot, ["gradient"], "NaN or infinite"),
        (Counting, ["state"], "changed 1 of 5 tensors, passes first"),
        (TrainingMode, ["state"], "changed 3 of 9 tensors, norm.running_mean first"),
        (BatchStatistics, ["batch"], "when only the other images of the batch are changed"),
        (BatchSize, ["batch"], "between a batch of 7 and batches of 1 and 1"),
        (Silent, ["stochastic"], "two passes differ by"),
        (Idle, ["reproducible"], "takes numbers from torch's generator"),
        (SaysItIsRandom, ["stochastic"], "8 draws of an image are the same"),
        (SharedMask, ["stochastic"], "4 draws of an image are the same"),
        (Endless, ["stochastic"], "sets no `max_draws`, and its draws come again after 3"),
        (SoonerRepeat, ["stochastic"], "its max_draws is 4, and its draws come again after 3"),
        (LaterRepeat, ["stochastic"], "its max_draws is 2, and 4 of its draws do not come again"),
        (NumpyNoise, ["reproducible"], "between two passes of the same draw"),
        (SeedOfItsOwn, ["reproducible"], "another seed gives the same draws"),
        (OtherDraws, ["draws"], "between draw 0 of `draws` and a pass of it"),
        (FewerDraws, ["draws"], "between the first of 3 draws and 2 draws"),
        (TensorOfDraws, ["draws"], "a list"),
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
    default_draws = max_draws = 2

    def forward(self, images: Tensor) -> Tensor:
        which = randomness.draw_index() % 2
        with randomness.redraw(0, part=which):
            return self.inner(images.flip(-1) if which else images)


def test_a_network_that_takes_contiguous_images_alone_is_noted() -> None:
    found = {finding.check: finding for finding in testing.findings(Viewed)}["layout"]
    assert found.status == "noted"
    assert "view size is not compatible" in found.seen


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
    found = failed(saying(Mixed, max_draws=4))
    assert "its max_draws is 4, and 8 of its draws do not come again" in found["stochastic"].seen


def test_classes_may_be_ruled_out_by_minus_infinity() -> None:
    assert not failed(partial(masked, known=4))
    found = failed(partial(masked, known=0))
    assert "the logits of 7 of 7 images are NaN or infinite" in found["output"].seen


class RulesOutByBatch(Base):
    """Rules a class out in some batches only."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits.index_fill(1, torch.tensor([0]), -torch.inf) if len(images) > 1 else logits


def test_a_class_that_only_some_batches_rule_out_is_a_difference() -> None:
    assert "differ by up to inf" in failed(RulesOutByBatch)["batch"].seen


class Softmax(Base):
    scale = 1

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * super().forward(images).softmax(1)


@pytest.mark.parametrize(("scale", "what"), [(1, "add up to 1, as probabilities"), (100, "add up to 100, as percent")])
def test_outputs_that_are_no_logits_are_noted(scale: int, what: str) -> None:
    findings = {found.check: found for found in check_model(saying(Softmax, scale=scale), DATASET)}
    assert findings["logits"].status == "noted"
    assert what in findings["logits"].seen
    assert {found.status for check, found in findings.items() if check != "logits"} == {"passed", "skipped"}


def test_what_says_nothing_any_more_is_skipped() -> None:
    findings = list(testing.findings(OneMoreClass, DATASET))
    assert [found.status for found in findings] == ["passed", "passed", "failed"] + ["skipped"] * (len(findings) - 3)
    assert findings[-1].seen == "it says nothing before 'state' passes"


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
    assert first == "InPlace fails 2 of 18 checks:"
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
    assert rows == [promise.name for promise in CHECKS]
