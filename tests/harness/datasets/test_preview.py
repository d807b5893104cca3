"""The contact sheet shows what a run shows: each panel is compared with the suite's own images."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import write_distribution
from stressbench import registry
from stressbench.cli import main
from stressbench.contracts import Batch, Condition, StressSuite
from stressbench.datasets.digits import digits
from stressbench.errors import UserError
from stressbench.execution.device import prepared
from stressbench.plots.contact_sheet import sheet
from stressbench.randomness import derive, image_keys
from stressbench.sampling import Unjudged

STRANGERS = """
import torch
from torch import nn
from fake_suites import Frames
from stressbench.contracts import Stressed

class Broken(Frames):
    name = "broken"
    def stress(self, condition, batch, model):
        raise RuntimeError("no\\nflux")

class Narrow(Frames):
    name = "narrow"
    def stress(self, condition, batch, model):
        return Stressed(batch.images[..., :5])

class Empty(Frames):
    name = "empty"
    def conditions(self):
        return []

class Dim(Frames):
    name = "dim"
    def conditions(self):
        return [{"a_very_long_name_of_light": light / 10} for light in range(12)]
    def stress(self, condition, batch, model):
        return Stressed(batch.images * condition["a_very_long_name_of_light"])
    def unsupported(self, dataset):
        return None if dataset.image_size == (32, 32) else "it is too large"
"""


@pytest.fixture(scope="module", autouse=True)
def _strangers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    site = tmp_path_factory.mktemp("strangers")
    (site / "strangers.py").write_text(STRANGERS)
    suites = {name: f"strangers:{name.title()}" for name in ("broken", "narrow", "empty", "dim")}
    write_distribution(site, "strangers", {"stressbench.suites": suites})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        yield
    sys.modules.pop("strangers", None)


def stressed(suite: StressSuite, condition: Condition, index: int, seed: int = 0, model: Any = None) -> np.ndarray:
    """The suite's own images of a digit, (H, W, 3) or (T, H, W, 3), in [0, 1]."""
    data = digits("test")
    indices = torch.arange(index, index + 1)
    clean = data.images.read(index, index + 1).float() / 255
    batch = Batch(clean, data.labels[index : index + 1], indices, image_keys(derive(seed, condition), indices))
    images = suite.stress(condition, batch, Unjudged(model or torch.nn.Identity())).images[0]
    return np.moveaxis(images.detach().numpy(), -3, -1)


def grey(images: np.ndarray) -> np.ndarray:
    return np.rint(255 * images).astype(np.uint8)


class Page:
    """A sheet with 32×32 images in cells of 112 pixels, right of its labels."""

    def __init__(self, path: Path, columns: int) -> None:
        self.pixels = np.asarray(Image.open(path))
        self.margin = self.pixels.shape[1] - 112 * columns
        self.top = 0

    def row(self, images: Sequence[np.ndarray], lines: int) -> None:
        """The next row has these images, with so many lines of text below them, and nothing beside them."""
        for place, image in enumerate(images):
            left = self.margin + 112 * place
            cell = self.pixels[self.top : self.top + 112, left : left + 112]
            np.testing.assert_array_equal(cell[2:98, 8:104], image.repeat(3, 0).repeat(3, 1))
            for around in (cell[:, :8], cell[:, 104:], cell[98:111]):
                assert (around == 255).all()
        assert (self.pixels[self.top : self.top + 112, self.margin + 112 * len(images) :] == 255).all()
        self.top += 112 + 12 * lines + 4 + (8 if self.margin else 0)

    def end(self) -> None:
        assert self.pixels.shape[0] == self.top


def of(suite: StressSuite, **words: str) -> list[Condition]:
    return [condition for condition in suite.conditions() if words.items() <= condition.items()]


@pytest.fixture(scope="module")
def tiny() -> torch.nn.Module:
    return prepared(registry.model("tiny", digits("test")))


def test_a_kind_of_one_level_has_its_name_below(tmp_path: Path) -> None:
    suite = registry.suite("corruption", {"severities": "4"})
    page = Page(sheet(digits("test"), "corruption,severities=4", 7, 0, tmp_path / "sheet.png"), 8)
    assert page.margin == 0
    images = [grey(stressed(suite, condition, 7)) for condition in suite.conditions()]
    page.row(images[:8], 1)
    page.row(images[8:], 1)
    page.end()


@pytest.mark.parametrize(("words", "severity"), [((), 3), (("--severity", "5"), 5)])
def test_without_a_suite_it_is_every_corruption_at_one_severity(
    tmp_path: Path, words: tuple[str, ...], severity: int
) -> None:
    with pytest.raises(SystemExit) as done:
        main(["data", "preview", *words, "--image", "4", "--out", str(tmp_path / "command.png")])
    assert done.value.code == 0
    made = sheet(digits("test"), f"corruption,severities={severity}", 4, 0, tmp_path / "sheet.png")
    assert made.read_bytes() == (tmp_path / "command.png").read_bytes()


def test_levels_are_side_by_side(tmp_path: Path) -> None:
    suite = registry.suite("uncertainty")
    page = Page(sheet(digits("test"), "uncertainty", 3, 5, tmp_path / "sheet.png"), 3)
    page.row([grey(stressed(suite, of(suite, corruption="none")[0], 3, 5))], 1)
    for kind in ("gaussian_noise", "defocus_blur", "fog", "jpeg_compression"):
        page.row([grey(stressed(suite, condition, 3, 5)) for condition in of(suite, corruption=kind)], 1)
    page.end()


def test_sequences_are_shown_from_the_first_frame_to_the_last(tmp_path: Path) -> None:
    suite = registry.suite("perturbation")
    page = Page(sheet(digits("test"), "perturbation", 2, 0, tmp_path / "sheet.png"), 5)
    for condition in suite.conditions():
        frames = stressed(suite, condition, 2)
        at = {31: (0, 7, 15, 22, 30), 21: (0, 5, 10, 15, 20), 16: (0, 3, 7, 11, 15)}[len(frames)]
        page.row([grey(frames[t]) for t in at], 1)
    page.end()


def test_noise_in_bands_needs_no_model_and_steps_do(tmp_path: Path, tiny: torch.nn.Module) -> None:
    suite = registry.suite("frequency")
    noise = [grey(stressed(suite, condition, 1)) for condition in of(suite, signal="noise")]
    steps = [grey(stressed(suite, condition, 1, 0, tiny)) for condition in of(suite, signal="fgsm")]
    clean = grey(stressed(suite, of(suite, signal="none")[0], 1))
    assert any((step != clean).any() for step in steps)
    for name, model in (("frequency,signals=noise", None), ("frequency", tiny)):
        page = Page(sheet(digits("test"), name, 1, 0, tmp_path / "sheet.png", model), 10)
        page.row([clean], 1)
        page.row(noise, 3)
        if model:
            page.row(steps, 3)
        page.end()


def test_attacks_and_what_they_added(tmp_path: Path, tiny: torch.nn.Module) -> None:
    name = "adversarial,eps=2/255+8/255,steps=2"
    suite = registry.suite(name)
    images = {
        attack: [stressed(suite, condition, 6, 0, tiny) for condition in of(suite, attack=attack)]
        for attack in ("none", "fgsm", "pgd", "audit-noise", "audit-once", "audit-several", "audit-large")
    }
    (clean,) = images.pop("none")
    audit = [images.pop(attack)[0] for attack in list(images) if attack.startswith("audit")]
    page = Page(sheet(digits("test"), name, 6, 0, tmp_path / "sheet.png", tiny, difference=True), 4)
    page.row([grey(clean)], 1)
    # The most that 1, 2, 5, 10, … times the budget may be is half of a pixel's range.
    for shown, factors, lines in (
        (images["fgsm"], (50, 10), 1),
        (images["pgd"], (50, 10), 1),
        (audit, (10, 10, 10, 1), 2),
    ):
        page.row([grey(image) for image in shown], lines)
        added = [np.clip(0.5 + f * (image - clean), 0, 1) for f, image in zip(factors, shown, strict=True)]
        page.row([grey(image) for image in added], 1)
    page.end()


def test_conditions_without_words_fill_rows(tmp_path: Path) -> None:
    suite = registry.suite("dim")
    images = [grey(stressed(suite, condition, 0)) for condition in suite.conditions()]
    page = Page(sheet(digits("test"), "dim", 0, 0, tmp_path / "sheet.png"), 10)
    page.row(images[:10], 2)
    page.row(images[10:], 2)
    page.end()


def test_a_command_with_a_model_says_its_file_and_repeats_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / f"{number}.png" for number in range(2)]
    for file in files:
        words = ("--suite", "frequency,bands=3", "--model", "tiny", "--difference", "--out", str(file))
        with pytest.raises(SystemExit) as done:
            main(["data", "preview", *words])
        assert done.value.code == 0
        assert capsys.readouterr().out == f"{file}\n"
    assert files[0].read_bytes() == files[1].read_bytes()
    with Image.open(files[0]) as image:
        assert image.format == "PNG"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--image", "200"], "digits has 200 test images: --image is 0 to one less"),
        (
            ["--suite", "adversarial"],
            "under fgsm, linf, eps 1/255, the adversarial suite needs a model to make its stress: name one with "
            "--model, or leave that stress out with the suite's options (attack, eps, norm, steps, step_size, "
            "restarts, random_start, eot_draws, verdicts_only, audit)",
        ),
        (["--suite", "frequencies"], "there is no suite called 'frequencies': did you mean 'frequency'? `bench list"),
        (["--suite", "perturbation", "--severity", "3"], "has no option 'severities': its options are: perturbations"),
        (["--suite", "corruption,severities=3", "--severity", "2"], "option 'severities' appears twice"),
        (
            ["--suite", "broken"],
            "suite 'broken' of strangers 1.0 failed: RuntimeError: no flux; fix its code",
        ),
        (
            ["--suite", "broken", "--model", "tiny"],
            "suite 'broken' of strangers 1.0 failed with model 'tiny' of tiny-models 1.0: RuntimeError: no flux; fix",
        ),
        (["--suite", "narrow"], "it made (1, 3, 32, 5) of images (1, 3, 32, 32); fix its code"),
        (["--suite", "empty"], "suite 'empty' of strangers 1.0 failed: ValueError: it has no conditions; fix its"),
        (["--suite", "adversarial", "--model", "wrong"], "model 'wrong' of tiny-models 1.0"),
        (["--weights", "x.safetensors"], "--weights are a model's: name it with --model."),
    ],
)
def test_faults_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str) -> None:
    with pytest.raises(SystemExit) as done:
        main(["data", "preview", *words, "--out", str(tmp_path / "sheet.png")])
    assert done.value.code == 2
    said = capsys.readouterr().err
    assert line in said
    assert len(said.splitlines()) == 1 or said.startswith("Usage: ")
    assert not list(tmp_path.iterdir())


def test_a_suite_that_says_nothing_about_a_dataset(tmp_path: Path) -> None:
    large = replace(digits("test"), image_size=(40, 40))
    with pytest.raises(UserError, match=r"^the dim suite does not support digits: it is too large"):
        sheet(large, "dim", 0, 0, tmp_path / "sheet.png")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write to"):
        sheet(digits("test"), "corruption,severities=3", 0, 0, tmp_path / "no" / "sheet.png")
