"""A contact sheet: what a dataset's image looks like under every corruption."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from stressbench import store
from stressbench.contracts import Dataset, Suite
from stressbench.datasets.export import present
from stressbench.errors import UserError

_CELL = 112  # pixels a side, for an image enlarged by a whole factor
_GAP = 4  # between images, and between an image and its caption
_LINE = 12  # of text
_COLUMNS = 8


@dataclass(frozen=True)
class Panel:
    """One image with what is written below it, line by line."""

    picture: Image.Image
    caption: Sequence[str]


def sheet(dataset: Dataset, suite: Suite, severity: int, index: int, seed: int, out: Path) -> Path:
    """Write a PNG of one image of the split, clean and under each corruption at a severity; returns its path.

    Raises `UserError` for an index that the split does not have, and for a file that cannot be written.
    """
    if index >= len(dataset.images):
        raise UserError(f"{dataset.name} has {len(dataset.images)} {dataset.split} images: --image is 0 to one less")
    panels = []
    for condition in suite.conditions():
        if int(condition["severity"]) in (0, severity):
            name = "clean" if condition["severity"] == 0 else str(condition["corruption"]).replace("_", " ")
            pixels = present(dataset, suite, condition, index, index + 1, seed)[0]
            panels.append(Panel(Image.fromarray(pixels), [name]))
    content = io.BytesIO()
    _page([panels[start : start + _COLUMNS] for start in range(0, len(panels), _COLUMNS)]).save(
        content, "PNG", optimize=True
    )
    with store.writing(out):
        store.replace(out, content.getvalue())
    return out


def _page(rows: Sequence[Sequence[Panel]]) -> Image.Image:
    """The panels in their rows, one below the other."""
    heights = [_CELL + _GAP + _LINE * max(len(panel.caption) for panel in row) for row in rows]
    page = Image.new("RGB", (_CELL * max(map(len, rows)), sum(heights)), "white")
    draw = ImageDraw.Draw(page)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for place, panel in enumerate(row):
            picture = _fitted(panel.picture)
            page.paste(picture, (place * _CELL + (_CELL - picture.width) // 2, top + _GAP // 2))
            for number, line in enumerate(panel.caption):
                draw.text(((place + 0.5) * _CELL, top + _CELL + number * _LINE), line, fill="black", anchor="mt")
        top += height
    return page


def _fitted(picture: Image.Image) -> Image.Image:
    """A small image enlarged by a whole factor, a large one reduced to its cell."""
    room = _CELL - _GAP
    scale = max(room // max(picture.size), 1)
    enlarged = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    enlarged.thumbnail((room, room))
    return enlarged
