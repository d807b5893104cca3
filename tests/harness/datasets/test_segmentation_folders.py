"""Segmentation sets in local folders, on made-up files: CamVid's layouts, folders, Parquet, and their faults."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stressbench import registry
from stressbench.contracts import Dataset, Segmentation
from stressbench.datasets.camvid import COLOURS
from stressbench.errors import UserError

# The eleven classes' colours that the masks of the tests are made of, then void.
OF_CLASS = [colours[-1] for _, colours in COLOURS] + [(0, 0, 0)]
TEST = ["0001TP_008550", "0001TP_010380", "Seq05VD_f00000", "Seq05VD_f05100"]
TRAIN = ["0001TP_006690", "0006R0_f00930", "0016E5_00390"]
VALIDATION = ["0016E5_07959"]


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def mask(number: int, size: tuple[int, int] = (360, 480)) -> np.ndarray:
    """All twelve classes in stripes, the first of which is `number`."""
    return np.broadcast_to((np.arange(size[1]) // (size[1] // 12) + number) % 12, size)


def picture(number: int, size: tuple[int, int] = (360, 480)) -> np.ndarray:
    return np.full((*size, 3), 20 * number + 5)


def colours(indices: np.ndarray) -> np.ndarray:
    return np.array(OF_CLASS)[indices]


def segnet(folder: Path) -> None:
    for split, names in (("train", TRAIN), ("test", TEST)):
        for number, name in enumerate(names):
            write(folder / split / f"{name}.png", picture(number))
            write(folder / f"{split}annot" / f"{name}.png", mask(number))


def coloured(folder: Path) -> None:
    for split, names in (("train", TRAIN), ("test", TEST)):
        for number, name in enumerate(names):
            write(folder / split / f"{name}.png", picture(number))
            write(folder / f"{split}_labels" / f"{name}_L.png", colours(mask(number)))


def original(folder: Path) -> None:
    """Twice as large, as published."""
    for names in (TRAIN, TEST, VALIDATION):
        for number, name in enumerate(names):
            write(folder / "701_StillsRaw_full" / f"{name}.png", picture(number, (720, 960)))
            large = colours(mask(number)).repeat(2, axis=0).repeat(2, axis=1)
            write(folder / "LabeledApproved_full" / f"{name}_L.png", large)


@pytest.mark.parametrize("layout", [segnet, coloured, original])
def test_camvid_in_its_layouts(layout: Callable[[Path], None], tmp_path: Path) -> None:
    layout(tmp_path)
    data = registry.dataset("camvid", "test", tmp_path)
    assert (data.name, data.task, data.image_size) == ("camvid", Segmentation(11, 255), (360, 480))
    assert len(data.images) == len(TEST)
    images, masks = data.images.read(0, 4).numpy(), data.targets.read(0, 4).numpy()
    for number in range(4):
        assert (images[number] == picture(number).transpose(2, 0, 1)).all()
        expected = mask(number)
        assert (masks[number] == np.where(expected == 11, 255, expected)).all()
    assert data.recordings is not None
    assert data.recordings.tolist() == [0, 0, 1, 1]
    assert len(registry.dataset("camvid", "train", tmp_path).images) == len(TRAIN)


def test_the_eleven_classes_are_those_of_thirty_one_colours() -> None:
    every = [colour for _, colours in COLOURS for colour in colours]
    assert len(set(every)) == len(every) == 31
    names = " ".join(name for name, _ in COLOURS)
    assert names == "sky building pole road pavement tree sign fence car pedestrian bicyclist"
    of = dict(COLOURS)
    assert of["building"][2] == (64, 192, 0)  # Wall
    assert (192, 0, 192) in of["bicyclist"]  # MotorcycleScooter
    assert (64, 128, 64) in of["pedestrian"]  # Animal


def wrong_colour(folder: Path) -> None:
    coloured(folder)
    wrong = colours(mask(0))
    wrong[3, 7] = (1, 2, 3)
    write(folder / "test_labels" / f"{TEST[0]}_L.png", wrong)


def stranger(folder: Path) -> None:
    original(folder)
    write(folder / "701_StillsRaw_full" / "holiday_01.png", picture(0))


def no_mask(folder: Path) -> None:
    segnet(folder)
    (folder / "testannot" / f"{TEST[1]}.png").unlink()


def no_image(folder: Path) -> None:
    segnet(folder)
    (folder / "test" / f"{TEST[1]}.png").unlink()


def other_layout(folder: Path) -> None:
    write(folder / "pictures" / "a.png", picture(0))


def many_classes(folder: Path) -> None:
    segnet(folder)
    write(folder / "testannot" / f"{TEST[0]}.png", np.full((360, 480), 12))


def small_mask(folder: Path) -> None:
    segnet(folder)
    write(folder / "testannot" / f"{TEST[0]}.png", mask(0, (180, 240)))


def lossy_mask(folder: Path) -> None:
    segnet(folder)
    (folder / "testannot" / f"{TEST[0]}.png").unlink()
    write(folder / "testannot" / f"{TEST[0]}.jpg", mask(0))


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (wrong_colour, r"0001TP_008550_L.png has the colour \(1, 2, 3\) at row 3, column 7"),
        (stranger, r"holiday_01.png is of none of CamVid's four recordings"),
        (no_mask, "0001TP_010380.png has no mask 0001TP_010380"),
        (no_image, "0001TP_010380.png has no image"),
        (other_layout, "none of CamVid's layouts: expected folders train/, trainannot/.*; it has pictures"),
        (many_classes, "^[^ ]*0001TP_008550.png has the class 12; CamVid's are 0–10, and 11 for void"),
        (small_mask, r"testannot/0001TP_008550.png is 240×180, and its image .*/0001TP_008550.png is 480×360"),
        (lossy_mask, "0001TP_008550.jpg is a JPEG file, which changes the numbers of classes"),
    ],
)
def test_what_is_wrong_with_a_camvid_folder(layout: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    layout(tmp_path)
    with pytest.raises(UserError, match=message):
        registry.dataset("camvid", "test", tmp_path).targets.read(0, len(TEST))


# --- any set --------------------------------------------------------------------------------------------------

SMALL = (24, 36)


def seven(number: int) -> np.ndarray:
    """A mask of seven classes and void."""
    twelve = mask(number, SMALL)
    return np.where(twelve > 6, 255, twelve)


def by_split(folder: Path) -> None:
    for split, numbers in (("train", [0]), ("test", [1, 2])):
        for number in numbers:
            write(folder / split / "images" / f"{number}.jpg", picture(number, SMALL))
            write(
                folder / split / "masks" / f"{number}.png", np.where(mask(number, SMALL) > 6, 255, mask(number, SMALL))
            )


def by_kind(folder: Path) -> None:
    by_split(folder / "other")
    for split in ("train", "test"):
        for kind in ("images", "masks"):
            (folder / kind).mkdir(exist_ok=True)
            (folder / "other" / split / kind).rename(folder / kind / split)


def parquet(folder: Path) -> None:
    for split, numbers in (("train", [0]), ("test", [1, 2])):
        masks = [seven(number) for number in numbers]
        table = pa.table(
            {
                "image": [{"bytes": png(picture(number, SMALL)), "path": None} for number in numbers],
                "mask": [png(one) for one in masks],
            }
        )
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")


def read(folder: Path, split: str = "test") -> Dataset:
    data = registry.dataset("segmentation", split, folder, "mine")
    data.targets.read(0, len(data.targets))
    data.images.read(0, len(data.images))
    return data


@pytest.mark.parametrize("layout", [by_split, by_kind, parquet])
def test_any_set_in_its_layouts(layout: Callable[[Path], None], tmp_path: Path) -> None:
    layout(tmp_path)
    data = read(tmp_path)
    assert (data.name, data.task, data.image_size) == ("mine", Segmentation(7, 255), SMALL)
    assert read(tmp_path, "train").task == data.task
    masks = data.targets.read(0, 2).numpy()
    for number in (1, 2):
        assert (masks[number - 1] == seven(number)).all()
        assert np.abs(data.images.read(number - 1, number)[0, 0].numpy() - (20.0 * number + 5)).max() <= 2


def small_mask(folder: Path) -> None:
    by_split(folder)
    write(folder / "test" / "masks" / "2.png", mask(2, (12, 36)))


def colour_mask(folder: Path) -> None:
    by_split(folder)
    write(folder / "test" / "masks" / "2.png", picture(2, SMALL))


def damaged(folder: Path) -> None:
    by_split(folder)
    (folder / "test" / "images" / "2.jpg").write_bytes(b"no picture")


def wrong_column(folder: Path) -> None:
    pq.write_table(pa.table({"image": [b"a"], "masks": [b"b"]}), folder / "test.parquet")


def empty(folder: Path) -> None:
    by_split(folder)
    for path in (folder / "test" / "images").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (small_mask, "2.png is 36×12, but the first image is 36×24"),
        (colour_mask, "2.png has 3 dimensions of uint8, and not the number of a class in each pixel"),
        (damaged, "2.jpg cannot be decoded"),
        (wrong_column, "test.parquet has no column 'mask': did you mean 'masks'"),
        (empty, "images holds no image files"),
        (other_layout, "holds no test split: expected test/images/ and test/masks/.*; it holds pictures"),
    ],
)
def test_what_is_wrong_with_a_folder(layout: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    layout(tmp_path)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [([0, 255], "no class but 0 beside 255"), ([255, 255], "no class but 0 beside 255"), ([0, 1, 255], None)],
)
def test_masks_of_one_class_are_refused(values: list[int], message: str | None, tmp_path: Path) -> None:
    write(tmp_path / "test" / "images" / "0.png", picture(0, SMALL))
    write(tmp_path / "test" / "masks" / "0.png", np.resize(values, SMALL))
    if message is None:
        assert read(tmp_path).task == Segmentation(2, 255)
        return
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_lossy_masks_are_refused(tmp_path: Path) -> None:
    by_split(tmp_path)
    Image.open(tmp_path / "test" / "masks" / "1.png").save(tmp_path / "test" / "masks" / "1.jpg")
    (tmp_path / "test" / "masks" / "1.png").unlink()
    with pytest.raises(UserError, match=r"1\.jpg is a JPEG file"):
        read(tmp_path)
