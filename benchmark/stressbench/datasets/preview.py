"""A contact sheet: what a dataset's image looks like under every corruption."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageDraw

from stressbench import store
from stressbench.contracts import Dataset, Suite
from stressbench.datasets.export import present
from stressbench.errors import UserError

_CELL = 112  # pixels a side, for an image enlarged by a whole factor
_CAPTION = 16
_COLUMNS = 8


def sheet(dataset: Dataset, suite: Suite, severity: int, index: int, seed: int, out: Path) -> Path:
    """Write a PNG of one image of the split, clean and under each corruption at a severity; returns its path.

    Raises `UserError` for an index that the split does not have, and for a file that cannot be written.
    """
    if index >= len(dataset.images):
        raise UserError(f"{dataset.name} has {len(dataset.images)} {dataset.split} images: --image is 0 to one less")
    conditions = [c for c in suite.conditions() if int(c["severity"]) in (0, severity)]
    rows = -(-len(conditions) // _COLUMNS)
    page = Image.new("RGB", (_COLUMNS * _CELL, rows * (_CELL + _CAPTION)), "white")
    draw = ImageDraw.Draw(page)
    scale = max((_CELL - 4) // max(dataset.image_size), 1)
    for place, condition in enumerate(conditions):
        pixels = present(dataset, suite, condition, index, index + 1, seed)[0]
        picture = Image.fromarray(pixels)
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
        picture.thumbnail((_CELL - 4, _CELL - 4))
        left, top = place % _COLUMNS * _CELL, place // _COLUMNS * (_CELL + _CAPTION)
        page.paste(picture, (left + (_CELL - picture.width) // 2, top + 2))
        name = "clean" if condition["severity"] == 0 else str(condition["corruption"]).replace("_", " ")
        draw.text((left + _CELL / 2, top + _CELL), name, fill="black", anchor="mt")
    content = io.BytesIO()
    page.save(content, "PNG", optimize=True)
    with store.writing(out):
        store.replace(out, content.getvalue())
    return out
