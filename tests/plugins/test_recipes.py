"""The recipes that come with stressbench, and what any recipe's name may say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from conftest import write_distribution
from stressbench import randomness, registry
from stressbench.contracts import Dataset
from stressbench.datasets.digits import digits
from stressbench.errors import BrokenPlugin, UserError
from stressbench.recipe import Options, Recipe
from stressbench_plugins import recipes
from tiny_models import Small


class Drawing(Small):
    stochastic = True


@pytest.fixture(scope="module")
def embedded() -> Dataset:
    return digits("train")


@pytest.fixture(scope="module")
def photos(embedded: Dataset) -> Dataset:
    return replace(embedded, embedded=False)


def test_the_paper_recipe_has_the_papers_numbers() -> None:
    paper = recipes.PAPER
    assert (paper.epochs, paper.batch_size, paper.momentum, paper.nesterov) == (200, 128, 0.9, False)
    assert (paper.weight_decay, paper.padding, paper.flip) == (5e-4, 4, True)
    moments = (0, 0.5, 1, 59.9, 60, 119.9, 120, 159.9, 160, 199.9)
    expected = (0, 0.05, 0.1, 0.1, 0.02, 0.02, 0.004, 0.004, 0.0008, 0.0008)
    assert [paper.rate(epoch) for epoch in moments] == pytest.approx(expected)
    large = recipes.PAPER_LARGE
    assert (large.epochs, large.batch_size, large.weight_decay) == (90, 256, 1e-4)
    assert [large.rate(e) for e in (29.9, 30, 60, 80)] == pytest.approx([0.1, 0.01, 0.001, 0.0001])


def test_one_cycle_rises_and_falls_to_nothing() -> None:
    recipe = replace(recipes.FAST, epochs=10, warmup=2.0, learning_rate=1.0)
    assert [recipe.rate(e) for e in (0, 1, 2, 6, 10)] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_the_short_recipe_is_one_cycle_of_the_papers_otherwise() -> None:
    short, paper = recipes.SHORT, recipes.PAPER
    assert (short.epochs, short.nesterov, short.decay_norm_and_bias) == (16, True, False)
    same = ("batch_size", "learning_rate", "momentum", "weight_decay", "padding", "flip")
    assert [getattr(short, name) for name in same] == [getattr(paper, name) for name in same]
    assert [short.rate(e) for e in (0, 2, 4, 10, 16)] == pytest.approx([0, 0.05, 0.1, 0.05, 0])


def test_fewer_epochs_keep_the_shape() -> None:
    short = recipes.PAPER.with_epochs(10)
    assert (short.epochs, short.milestones, short.warmup) == (10, (3, 6, 8), 1)
    assert recipes.EMBEDDED.with_epochs(1).warmup == 0.25
    with pytest.raises(UserError, match="invalid epochs=0"):
        recipes.PAPER.with_epochs(0)


def test_a_dataset_decides_what_a_recipe_is(embedded: Dataset, photos: Dataset) -> None:
    def made(dataset: Dataset, name: str) -> Recipe:
        return registry.recipe(name, dataset, Small())

    assert (made(embedded, "fast").batch_size, made(embedded, "fast").flip) == (16, False)
    assert not made(embedded, "paper").flip
    for name, numbers in {"fast": recipes.FAST, "paper": recipes.PAPER, "short": recipes.SHORT}.items():
        assert made(photos, name) == replace(numbers, name=name)
    assert made(embedded, "short") == replace(recipes.SHORT, flip=False, name="short")
    large = replace(photos, image_size=(224, 224))
    assert made(large, "paper") == replace(recipes.PAPER_LARGE, name="paper")
    with pytest.raises(UserError, match="milestones=text is for images of up to 64 pixels"):
        made(large, "paper,milestones=text")


def test_the_papers_text_has_other_milestones(photos: Dataset) -> None:
    text = registry.recipe("paper,milestones=text", photos, Small())
    assert text == replace(recipes.PAPER, milestones=(60, 130, 160), name="paper,milestones=text")
    # Of the published list's rates, those between the two second milestones alone are others.
    assert [e for e in range(200) if text.rate(e) != recipes.PAPER.rate(e)] == list(range(120, 130))


def test_a_name_may_change_any_number_of_its_recipe(photos: Dataset) -> None:
    recipe = registry.recipe("paper, weight_decay=1e-4, flip=false, epochs=8, clip=2", photos, Small())
    changed = replace(recipes.PAPER.with_epochs(8), weight_decay=1e-4, flip=False, clip=2.0)
    assert recipe == replace(changed, name="paper,clip=2,epochs=8,flip=false,weight_decay=1e-4")
    assert registry.recipe("fast,milestones=3+4", photos, Small()).milestones == (3, 4)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("papr", "did you mean 'paper'"),
        ("short,epoch=3", "has no option 'epoch': did you mean 'epochs'"),
        ("short,epochs=0", "option 'epochs' of recipe 'short' of stressbench .* cannot be '0'"),
        ("short,learning_rate=-1", "cannot be '-1'"),
        ("paper,milestones=both", "cannot be 'both'"),
        ("short,augment=x", "has no option 'augment'"),
        ("short:paper", "does not fit recipe 'short' .*: it builds on no other recipe, so it comes first"),
        ("short+short", "comes first in a sum, and once: write short$"),
        ("mixup+short", "comes first in a sum, and once: write short$"),
        ("mixup", "write mixup:RECIPE, or RECIPE\\+mixup$"),
        ("short+short+mixup", "comes first in a sum, and once: write short$"),
        ("mixup+sam", "write mixup:RECIPE, or RECIPE\\+mixup$"),
    ],
)
def test_a_wrong_name_is_refused_before_anything_is_built(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        registry.check_recipe(text)


def test_options_change_a_recipe_and_nothing_else(photos: Dataset) -> None:
    assert Options().applied(Small(), photos) == replace(recipes.FAST, name="fast")
    assert Options("paper").applied(Small(), photos) == replace(recipes.PAPER, name="paper")
    asked = Options(epochs=10, learning_rate=0.3, flip=False, precision="bfloat16").applied(Small(), photos)
    changed = replace(recipes.FAST.with_epochs(10), learning_rate=0.3, flip=False, precision="bfloat16")
    assert asked == replace(changed, name="fast")
    assert Options(draws=3).applied(Drawing(), photos) == replace(recipes.FAST, draws=3, name="fast")
    for several in (Options(draws=3), Options("fast,draws=3")):
        with pytest.raises(UserError, match="training with 3 draws is for stochastic models"):
            several.applied(Small(), photos)


@pytest.mark.parametrize(("budget", "epochs"), [(0.2, 1), (2.6, 3), (50, recipes.EMBEDDED_MOST_EPOCHS)])
def test_the_dearer_a_network_the_fewer_epochs_it_has_on_the_embedded_set(
    embedded: Dataset, monkeypatch: pytest.MonkeyPatch, budget: float, epochs: int
) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Dropout())
    # A multiplication and an addition for each position, tap, and channel in and out, in every image.
    work = 2 * (32 * 32) * (3 * 3) * (3 * 8) * 1597
    monkeypatch.setattr(recipes, "EMBEDDED_WORK", budget * work)
    before = torch.get_rng_state()
    assert recipes.fast(embedded, net) == recipes.EMBEDDED.with_epochs(epochs)
    assert net.training
    assert torch.equal(torch.get_rng_state(), before)


# --- a stranger's ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Noise:
    scale: float

    def __call__(self, images: Tensor, targets: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        return images + self.scale * randomness.normal(keys, tuple(images.shape[1:])), targets


def noisy(dataset: Dataset, module: nn.Module, argument: str, scale: float = 0.1) -> Recipe:
    return replace(registry.recipe(argument, dataset, module), augment=Noise(scale))


def wrong(dataset: Dataset, module: nn.Module) -> int:
    return 3


@pytest.fixture
def strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = {name: f"{__name__}:{name}" for name in ("noisy", "wrong")}
    write_distribution(tmp_path, "strange-recipes", {"stressbench.recipes": points})
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("strangers")
def test_a_recipe_of_another_package_builds_on_one_of_ours(photos: Dataset) -> None:
    recipe = registry.recipe("noisy:(short,epochs=4),scale=0.2,flip=false", photos, Small())
    assert (recipe.epochs, recipe.flip, recipe.augment) == (4, False, Noise(0.2))
    assert recipe.name == "noisy:(short,epochs=4),flip=false,scale=0.2"
    assert recipe.described()["augment"] == "Noise(scale=0.2)"
    assert recipe.described()["loss"] == "None"
    with pytest.raises(UserError, match="write noisy:SOMETHING"):
        registry.check_recipe("noisy")
    with pytest.raises(BrokenPlugin, match=r"recipe 'wrong' of strange-recipes 1\.0 returned a int"):
        registry.recipe("wrong", photos, Small())
