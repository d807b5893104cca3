"""A contact sheet: what a dataset's image looks like under every condition of a suite."""

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

from stressbench import registry, store
from stressbench.contracts import Condition, Dataset, Suite
from stressbench.datasets.export import clean, to_pixels
from stressbench.datasets.resident import read, to_float
from stressbench.errors import UserError
from stressbench.runner import describe
from stressbench.series import CLEAN, budget
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
    """One image, (3, H, W) in [0, 1], with what is written below it, line by line."""

    image: Tensor
    caption: Sequence[str]


@dataclass(frozen=True)
class Row:
    """Panels side by side, with what is written on their left."""

    label: str
    panels: Sequence[Panel]


class _Missing(nn.Module):
    """Stands where a suite may look for a model, and tells a person of it if it does."""

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
) -> Path:
    """Write a PNG of one image of the split under each condition of the suite that a spec names; returns its path.

    A row shows one kind of stress at its levels, of sequences the first frame, the last and some between; kinds that
    have one image each share rows. `model` is what attacks look through, as `predict.prepared` leaves it; with
    `difference`, below each row is what was added to the clean image, amplified.

    Raises `UserError` for an index that the split does not have, for a suite that fails, that says nothing about the
    dataset or that lacks a model, and for a file that cannot be written.
    """
    if index >= len(dataset.images):
        raise UserError(f"{dataset.name} has {len(dataset.images)} {dataset.split} images: --image is 0 to one less")
    name = parse(suite).name
    made = registry.suite(suite)
    through = None if model is None else registry.origin(model)
    with registry.blamed(f"{registry.find('suites', name)} failed{f' with {through}' if through else ''}"):
        if (why := made.unsupported(dataset)) is not None:
            raise UserError(f"the {name} suite says nothing about {dataset.name}: {why}")
        rows = _rows(dataset, made, index, seed, model or _Missing(name))
    if difference:
        original = to_float(read(dataset, index, index + 1), torch.device("cpu"))[0]
        rows = [part for row in rows for part in (row, *_differences(row, original))]
    content = io.BytesIO()
    _page(rows).save(content, "PNG", optimize=True)
    with store.writing(out):
        store.replace(out, content.getvalue())
    return out


def _rows(dataset: Dataset, suite: Suite, index: int, seed: int, model: nn.Module) -> list[Row]:
    """The image under each condition, in the suite's order."""
    kinds: dict[str, list[Panel]] = {}
    for condition in suite.conditions():
        batch = clean(dataset, condition, index, index + 1, seed)
        try:
            stressed = suite.present(condition, batch, model).images
        except UserError as error:
            raise UserError(f"under {describe(condition)}, {error}") from error
        if len(stressed) != 1 or stressed.ndim not in (4, 5) or stressed.shape[-3:] != batch.images.shape[-3:]:
            raise ValueError(f"it made {tuple(stressed.shape)} of images {tuple(batch.images.shape)}")
        kinds.setdefault(_kind(condition) or suite.name, []).extend(_panels(condition, stressed[0].detach()))
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
    """The one panel of each kind with the kind's name, and with its level where that is not the same for all."""
    levels = {tuple(panel.caption) for kind, (panel,) in kinds.items() if kind != _CLEAN}
    return [
        Panel(panel.image, [*textwrap.wrap(kind, _CHARACTERS), *(panel.caption if len(levels) > 1 else ())])
        for kind, (panel,) in kinds.items()
    ]


def _broken(label: str, panels: Sequence[Panel], most: int) -> list[Row]:
    """As many rows as it takes where a row has at most so many panels."""
    return [Row(label, panels[start : start + most]) for start in range(0, len(panels), most)]


def _kind(condition: Condition) -> str:
    """The words of a condition, for a person."""
    if CLEAN in condition.values():
        return _CLEAN
    return ", ".join(value.replace("_", " ") for value in condition.values() if isinstance(value, str))


def _panels(condition: Condition, stressed: Tensor) -> list[Panel]:
    """An image (3, H, W), or some frames of a sequence (T, 3, H, W), with the numbers of the condition."""
    level = [] if CLEAN in condition.values() else _level(condition)
    if stressed.ndim == 3:
        return [Panel(stressed, level)]
    last = len(stressed) - 1
    chosen = sorted({step * last // (_FRAMES - 1) for step in range(_FRAMES)})
    return [Panel(stressed[frame], [*level, f"frame {frame}"]) for frame in chosen]


def _level(condition: Condition) -> list[str]:
    """The numbers of a condition, for a person."""
    numbers = {key: value for key, value in condition.items() if not isinstance(value, str)}
    told = (f"{key} {budget(value) if key == 'eps' else f'{value:.3g}'}" for key, value in numbers.items())
    return [line for text in told for line in textwrap.wrap(text.replace("_", " "), _CHARACTERS)]


def _differences(row: Row, original: Tensor) -> list[Row]:
    """What was added to the clean image (3, H, W), on grey, amplified by the round number that keeps it in range.

    No row where nothing was.
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
