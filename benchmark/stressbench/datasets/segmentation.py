"""Any segmentation set in a local folder: image files with index masks, or Parquet files with both."""

from __future__ import annotations

from pathlib import Path

from stressbench.contracts import Dataset, Segmentation
from stressbench.datasets import folder as parquet_folder
from stressbench.datasets.masks import Encoded, Images, Masks, column, indices, listed, paired
from stressbench.datasets.own import check_name
from stressbench.errors import UserError

VOID = 255
_SPLITS = ("train", "test")
_BLOCK = 32  # masks that are read at a time
_LAYOUTS = (
    "{split}/images/ and {split}/masks/, images/{split}/ and masks/{split}/, or {split}*.parquet with the columns "
    "image and mask"
)

_Pair = tuple[Encoded, Encoded]


def segmentation(split: str, data_dir: Path | None = None, name: str | None = None) -> Dataset:
    """The folder `data_dir` of images with a mask for each, called `name`.

    Masks hold the number of each pixel's class, from 0, or 255 for void, in 8-bit greyscale or palette images. Layouts
    are `test/images` with `test/masks`, `images/test` with `masks/test`, where an image and its mask have one name, and
    `test*.parquet` with the columns `image` and `mask` of encoded images. The number of classes is 1 + the highest in
    both splits' masks, so that they agree. All pictures have one size.

    Raises `UserError` without a folder or a name, for another layout, and for files that cannot be read.
    """
    if data_dir is None:
        raise UserError("'segmentation' reads a folder of yours: name it with --data-dir")
    if name is None:
        raise UserError("'segmentation' needs a name for the record and the leaderboard: specify --dataset-name")
    called = check_name(name)
    if not data_dir.is_dir():
        raise UserError(f"{data_dir} is {'not a folder' if data_dir.exists() else 'not there'}: check --data-dir")
    found = _pictures(data_dir, split)
    if found is None:
        layouts = _LAYOUTS.format(split=split)
        there = ", ".join(sorted(path.name for path in data_dir.iterdir())[:8]) or "nothing"
        raise UserError(f"{data_dir} holds no {split} split: expected {layouts}; it holds {there}")
    size = found[0].size(0)
    others = [pair for other in _SPLITS if other != split and (pair := _pictures(data_dir, other)) is not None]
    classes = 1 + max(_highest(masks, size if masks is found[1] else masks.size(0)) for _, masks in [found, *others])
    if classes < 2:
        raise UserError(
            f"the masks of {data_dir} have no class but 0 beside 255, which stands for void: save the classes as 0, 1, "
            "and so on, also where there are two"
        )
    return Dataset(
        name=called,
        split=split,
        task=Segmentation(classes, VOID),
        images=Images(found[0], size, resize=False),
        targets=Masks(found[1], size, resize=False, lookup=indices),
        image_size=size,
    )


def _pictures(folder: Path, split: str) -> _Pair | None:
    """A split's images and masks; None where there are none."""
    for images, masks in (
        (folder / split / "images", folder / split / "masks"),
        (folder / "images" / split, folder / "masks" / split),
    ):
        if images.is_dir() and masks.is_dir():
            first, second = paired(listed(images), listed(masks))
            return Encoded.files(first), Encoded.files(second)
    if not any(folder.glob("**/*.parquet")):
        return None
    files = parquet_folder.find(folder, split)
    return (column(files, "image"), column(files, "mask")) if files else None


def _highest(masks: Encoded, size: tuple[int, int]) -> int:
    source, highest = Masks(masks, size, resize=False, lookup=indices), 0
    for start in range(0, len(source), _BLOCK):
        values = source.read(start, start + _BLOCK)
        known = values[values != VOID]
        highest = max(highest, int(known.max()) if len(known) else 0)
    return highest
