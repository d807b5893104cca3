"""A contact sheet: an image of a dataset under every condition of a suite."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from stressbench import registry
from stressbench._util import files
from stressbench.contracts import Condition, Dataset, StressSuite
from stressbench.datasets.cache import read, to_float
from stressbench.datasets.export import clean, to_pixels
from stressbench.errors import UserError, plugin_errors
from stressbench.results.conditions import describe, written
from stressbench.results.selection import is_clean
from stressbench.sampling import Unjudged
from stressbench.spec import parse

_CLEAN = "clean"
_CELL = 112  # pixels a side, for an image enlarged by a whole factor
_GAP = 4  # between images, and between an image and its caption
_LINE = 12  # of text
_CHARACTERS = 20  # in a line of text as wide as a cell
_COLUMNS = 8  # where each kind of stress has one image
_LEVELS = 10  # of one kind, side by side
_FRAMES = 5  # of a sequence, side by side
_FACTORS = [digit * 10**zeros for zeros in range(4) for digit in (1, 2, 5)]  # for differences


@dataclass(frozen=True)
class Panel:
    """One image, (3, H, W) in [0, 1], with the lines of text below it."""

    image: Tensor
    caption: Sequence[str]


@dataclass(frozen=True)
class Row:
    """Panels side by side, with the text on their left."""

    label: str
    panels: Sequence[Panel]


class _Missing(nn.Module):
    """Placeholder for a model; raises `UserError` if the suite uses it."""

    def __init__(self, suite: str) -> None:
        super().__init__()
        self._suite = suite

    def forward(self, images: Tensor) -> Tensor:
        options = ", ".join(registry.options("suites", self._suite)) or "it has none"
        raise UserError(
            f"the {self._suite} suite needs a model to make its stress: name one with --model, or leave that stress "
            f"out with the suite's options ({options})"
        )


def sheet(
    dataset: Dataset,
    suite: str,
    index: int,
    seed: int,
    out: Path,
    model: nn.Module | None = None,
    difference: bool = False,
    options: Mapping[str, str] | None = None,
) -> Path:
    """Write a PNG of one image of the split under each condition of a suite; returns its path.

    `options` are options of the suite in addition to those of the spec.

    A row shows one kind of stress at its levels; of sequences it shows the first frame, the last, and some between.
    Kinds with one image each share rows. `model` is the model to attack, as returned by `predict.prepared`. With
    `difference`, the amplified difference from the clean image is below each row.

    Raises `UserError` for an index outside the split, for a suite that fails, does not support the dataset or needs a
    model, and for a file that cannot be written.
    """
    if index >= len(dataset.images):
        raise UserError(f"{dataset.name} has {len(dataset.images)} {dataset.split} images: --image is 0 to one less")
    name = parse(suite).name
    made = registry.suite(suite, options, dataset.task.name)
    if not isinstance(made, StressSuite):
        raise UserError(f"the {name} suite changes no images, so there is nothing to draw")
    through = None if model is None else registry.built_by(model)
    with plugin_errors(f"{registry.find('suites', name)} failed{f' with {through}' if through else ''}"):
        if (why := made.unsupported(dataset)) is not None:
            raise UserError(f"the {name} suite does not support {dataset.name}: {why}")
        rows = _rows(dataset, made, index, seed, model or _Missing(name))
    if difference:
        original = to_float(read(dataset, index, index + 1), torch.device("cpu"))[0]
        rows = [part for row in rows for part in (row, *_differences(row, original))]
    content = io.BytesIO()
    _page(rows).save(content, "PNG", optimize=True)
    with files.writing(out):
        files.replace(out, content.getvalue())
    return out


def _rows(dataset: Dataset, suite: StressSuite, index: int, seed: int, model: nn.Module) -> list[Row]:
    """The image under each condition, in the suite's order."""
    kinds: dict[str, list[Panel]] = {}
    for condition in suite.conditions():
        batch = clean(dataset, condition, index, index + 1, seed)
        try:
            stressed = suite.stress(condition, batch, Unjudged(model)).images
        except UserError as error:
            raise UserError(f"under {describe(condition)}, {error}") from error
        if len(stressed) != 1 or stressed.ndim not in (4, 5) or stressed.shape[-3:] != batch.images.shape[-3:]:
            raise ValueError(f"it made {tuple(stressed.shape)} of images {tuple(batch.images.shape)}")
        unstressed = is_clean(suite.axes, condition)
        kind = _CLEAN if unstressed else _kind(condition) or suite.name
        kinds.setdefault(kind, []).extend(_panels([] if unstressed else _level(condition), stressed[0].detach()))
    if not kinds:
        raise ValueError("it has no conditions")
    rows = []
    for alone, group in groupby(kinds.items(), key=lambda kind: len(kind[1]) == 1):
        if alone:
            rows += _broken("", _named(dict(group)), _COLUMNS)
        else:
            rows += [row for kind, panels in group for row in _broken(kind, panels, _LEVELS)]
    return rows


def _named(kinds: Mapping[str, Sequence[Panel]]) -> list[Panel]:
    """The single panel of each kind, labelled by the kind, and by its level if levels differ."""
    levels = {tuple(panel.caption) for kind, (panel,) in kinds.items() if kind != _CLEAN}
    return [
        Panel(panel.image, [*textwrap.wrap(kind, _CHARACTERS), *(panel.caption if len(levels) > 1 else ())])
        for kind, (panel,) in kinds.items()
    ]


def _broken(label: str, panels: Sequence[Panel], most: int) -> list[Row]:
    """The panels in rows of limited length."""
    return [Row(label, panels[start : start + most]) for start in range(0, len(panels), most)]


def _kind(condition: Condition) -> str:
    """The text fields of a condition, formatted."""
    return ", ".join(value.replace("_", " ") for value in condition.values() if isinstance(value, str))


def _panels(level: Sequence[str], stressed: Tensor) -> list[Panel]:
    """An image (3, H, W), or some frames of a sequence (T, 3, H, W), with the numbers of the condition."""
    if stressed.ndim == 3:
        return [Panel(stressed, level)]
    last = len(stressed) - 1
    chosen = sorted({step * last // (_FRAMES - 1) for step in range(_FRAMES)})
    return [Panel(stressed[frame], [*level, f"frame {frame}"]) for frame in chosen]


def _level(condition: Condition) -> list[str]:
    """The numbers of a condition, formatted."""
    numbers = {key: value for key, value in condition.items() if not isinstance(value, str)}
    captions = (f"{key} {written(value, digits=3)}" for key, value in numbers.items())
    return [line for text in captions for line in textwrap.wrap(text.replace("_", " "), _CHARACTERS)]


def _differences(row: Row, original: Tensor) -> list[Row]:
    """The difference from the clean image (3, H, W) on grey, amplified by a round number that keeps it in range.

    No row if there is no difference.
    """
    panels = []
    for panel in row.panels:
        added = panel.image - original
        most = float(added.abs().max())
        factor = max((f for f in _FACTORS if f * most <= 0.5), default=1)
        panels.append(Panel((0.5 + factor * added).clamp(0, 1), [f"difference x{factor}" if most else "no difference"]))
    return [Row("", panels)] if any(not torch.equal(panel.image, original) for panel in row.panels) else []


def _page(rows: Sequence[Row]) -> Image.Image:
    """The rows, one below the other."""
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    labels = [textwrap.wrap(row.label, _CHARACTERS) for row in rows]
    widths = [draw.textlength(line) for label in labels for line in label]
    margin, apart = (int(max(widths)) + 2 * _GAP, 2 * _GAP) if widths else (0, 0)
    lines = [max(len(panel.caption) for panel in row.panels) for row in rows]
    heights = [_CELL + _LINE * number + _GAP + apart for number in lines]
    page = Image.new("RGB", (margin + _CELL * max(len(row.panels) for row in rows), sum(heights)), "white")
    draw = ImageDraw.Draw(page)
    top = 0
    for row, label, height in zip(rows, labels, heights, strict=True):
        _write(draw, label, _GAP, top + (_CELL - _LINE * len(label)) / 2, "lt")
        for place, panel in enumerate(row.panels):
            left = margin + place * _CELL
            picture = _fitted(Image.fromarray(to_pixels(panel.image)))
            page.paste(picture, (left + (_CELL - picture.width) // 2, top + _GAP // 2))
            _write(draw, panel.caption, left + _CELL / 2, top + _CELL, "mt")
        top += height
    return page


def _write(draw: ImageDraw.ImageDraw, lines: Sequence[str], x: float, top: float, anchor: str) -> None:
    for number, line in enumerate(lines):
        draw.text((x, top + number * _LINE), line, fill="black", anchor=anchor)


def _fitted(picture: Image.Image) -> Image.Image:
    """A small image enlarged by a whole factor, a large one reduced to its cell."""
    room = _CELL - _GAP
    scale = max(room // max(picture.size), 1)
    enlarged = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    enlarged.thumbnail((room, room))
    return enlarged
