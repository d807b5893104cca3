"""Dense regression in local folders, on made-up files: super-resolution, NYU Depth V2, pairs, and their faults."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from stressbench import registry
from stressbench.contracts import Depth, Regression, SuperResolution
from stressbench.datasets.bicubic import shrink
from stressbench.errors import UserError


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def table(path: Path, **columns: list[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: pa.array(values, pa.binary()) for name, values in columns.items()}), path)


# --- super-resolution -----------------------------------------------------------------------------------------


def test_tiles_are_cut_from_the_image_and_from_what_was_made_of_all_of_it(tmp_path: Path) -> None:
    images = [picture(98, 207, 1), picture(197, 100, 2)]
    for number, pixels in enumerate(images):
        write(tmp_path / f"{number}.png", pixels)
    data = registry.dataset("super-resolution", "test", tmp_path, "set2")
    assert data.task == SuperResolution(scale=4)
    assert (data.name, len(data.images), data.image_size) == ("set2", 4, (24, 24))
    # 207 pixels are 51 small ones, two tiles of 24 and 3 left over: 1 on the left. 98 are 24, of which none is left.
    wide = torch.from_numpy(images[0][:96, :204]).permute(2, 0, 1)
    small = shrink(wide[None], 4)[0]
    low, high = data.images.read(0, 4), data.targets.read(0, 4)
    assert torch.equal(low[1], small[:, :24, 25:49])
    assert torch.equal(high[1], wide[:, :96, 100:196].float() / 255)
    tall = torch.from_numpy(images[1][:196, :100]).permute(2, 0, 1)
    assert torch.equal(high[2], tall[:, :96, :96].float() / 255)
    assert torch.equal(high[3], tall[:, 96:192, :96].float() / 255)
    assert torch.equal(data.images.read(2, 3)[0], shrink(tall[None], 4)[0][:, :24, :24])
    assert not torch.equal(low[1], shrink(wide[None, :, :96, 100:196], 4)[0])  # whose border is mirrored


def test_splits_of_div2k_and_of_folders(tmp_path: Path) -> None:
    write(tmp_path / "div2k" / "DIV2K_train_HR" / "0001.png", picture(96 * 5, 96 * 4))
    write(tmp_path / "div2k" / "DIV2K_valid_HR" / "0801.png", picture(96 * 5, 96 * 4))
    train, test = (
        registry.dataset("super-resolution", split, tmp_path / "div2k", "mine") for split in ("train", "test")
    )
    assert (len(train.images), len(test.images)) == (16, 20)
    # Every 20/16th of the tiles: numbers 0, 1, 2, 3, 5, …
    assert torch.equal(train.targets.read(3, 5), test.targets.read(3, 6)[[0, 2]])
    for split in ("train", "test", "pool"):
        write(tmp_path / "own" / split / "a.png", picture(96, 96, len(split)))
    pool = registry.dataset("super-resolution", "pool", tmp_path / "own", "mine")
    assert torch.equal(pool.targets.read(0, 1)[0], torch.from_numpy(picture(96, 96, 4)).permute(2, 0, 1) / 255)
    write(tmp_path / "pairs" / "img_001_SRF_4_HR.png", picture(96, 96))
    write(tmp_path / "pairs" / "img_001_SRF_4_LR.png", picture(24, 24))
    assert len(registry.dataset("super-resolution", "test", tmp_path / "pairs", "mine").images) == 1


# --- NYU Depth V2 ---------------------------------------------------------------------------------------------


def labelled(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The published file with three images, as h5py sees what MATLAB wrote: (3, 3, 640, 480) and (3, 640, 480)."""
    h5py = pytest.importorskip("h5py")
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 640, 480), dtype=np.uint8)
    depths = np.random.default_rng(1).uniform(0.5, 9.5, (3, 640, 480)).astype(np.float32)
    # Pixels of the half-size map that is kept: row 6 + 1, columns 8 to 10.
    depths[1, 2 * 8 + 1, 2 * 7 + 1], depths[1, 2 * 9 + 1, 2 * 7 + 1], depths[1, 2 * 10 + 1, 2 * 7 + 1] = 0, 10, 9.99
    with h5py.File(folder / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"], file["rawDepths"], file["depths"] = images, depths, depths + 1
    savemat(folder / "splits.mat", {"trainNdxs": np.array([[1], [3]]), "testNdxs": np.array([[2]])})
    return images, depths


def test_nyus_published_file_has_rows_columns_and_splits_where_they_belong(tmp_path: Path) -> None:
    images, depths = labelled(tmp_path)
    train, test = (registry.dataset("nyu", split, tmp_path) for split in ("train", "test"))
    assert test.task == Depth()
    assert (test.name, len(train.images), len(test.images), test.image_size) == ("nyu", 2, 1, (228, 304))
    depth = test.targets.read(0, 1)[0, 0]
    # Every other pixel, from the second, of which 6 rows and 8 columns are cut at each side.
    wanted = depths[1].T[1::2, 1::2][6:-6, 8:-8]
    unknown = np.zeros(wanted.shape, dtype=bool)
    unknown[1, :2] = True
    np.testing.assert_array_equal(depth.isnan().numpy(), unknown)
    np.testing.assert_array_equal(depth.numpy()[~unknown], wanted[~unknown])
    half = Image.fromarray(np.ascontiguousarray(images[2].T)).resize((320, 240), Image.Resampling.BILINEAR)
    shown = train.images.read(1, 2)[0].permute(1, 2, 0).numpy()
    assert np.abs(shown.astype(int) - np.asarray(half).astype(int)[6:-6, 8:-8]).max() <= 1


@pytest.mark.parametrize(
    ("name", "form", "factor", "dtype"), [("depth_map", "TIFF", 1, "f4"), ("depth", "PNG", 1e3, "u2")]
)
def test_nyu_in_parquet_has_metres_or_millimetres(
    name: str, form: str, factor: float, dtype: str, tmp_path: Path
) -> None:
    depth = np.full((240, 320), 2.5)
    depth[6, 8] = 0
    columns = {"image": [encoded(picture(240, 320))], name: [encoded((depth * factor).astype(dtype), form)]}
    table(tmp_path / "val-00000-of-00001.parquet", **columns)
    data = registry.dataset("nyu", "test", tmp_path)
    np.testing.assert_array_equal(data.images.read(0, 1)[0].permute(1, 2, 0), picture(240, 320)[6:-6, 8:-8])
    read = data.targets.read(0, 1)[0, 0]
    assert bool(read[0, 0].isnan())
    assert read[0, 1] == 2.5


# --- pairs ----------------------------------------------------------------------------------------------------


def test_pairs_of_arrays_keep_values_and_find_the_scale(tmp_path: Path) -> None:
    images = np.stack([picture(4, 6, n) for n in range(3)])
    targets = np.random.default_rng(0).normal(size=(3, 2, 8, 12))
    targets[0, 0, 0, 0] = np.nan
    np.save(tmp_path / "test_images.npy", images)
    np.save(tmp_path / "test_targets.npy", targets)
    data = registry.dataset("pairs", "test", tmp_path, "mine")
    assert data.task == Regression(2, "1", 2)
    np.testing.assert_array_equal(data.images.read(1, 3).numpy(), images[1:].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(data.targets.read(0, 3).numpy(), targets.astype(np.float32))
    np.save(tmp_path / "train_images.npy", images.transpose(0, 3, 1, 2))
    np.save(tmp_path / "train_targets.npy", targets)
    again = registry.dataset("pairs", "train", tmp_path, "mine")
    assert torch.equal(again.images.read(0, 3), data.images.read(0, 3))


def test_pairs_in_parquet_are_fractions_or_floats(tmp_path: Path) -> None:
    eight, floats = picture(8, 12), np.arange(96, dtype=np.float32).reshape(8, 12)
    sixteen = (np.arange(96).reshape(8, 12) * 600).astype(np.uint16)
    wanted = [(eight / 255).transpose(2, 0, 1), sixteen[None] / 65535, floats[None]]
    for split, target, values in zip(
        "abc", (encoded(eight), encoded(sixteen), encoded(floats, "TIFF")), wanted, strict=True
    ):
        table(tmp_path / f"{split}.parquet", image=[encoded(picture(4, 6))], target=[target])
        data = registry.dataset("pairs", split, tmp_path, "mine")
        assert data.task == Regression(len(values), "1", 2)
        np.testing.assert_array_equal(data.targets.read(0, 1)[0].numpy(), values.astype(np.float32))


# --- faults ---------------------------------------------------------------------------------------------------


def small_image(folder: Path) -> None:
    write(folder / "a.png", picture(95, 200))


def no_train(folder: Path) -> None:
    write(folder / "test" / "a.png", picture(96, 96))
    (folder / "train.txt").touch()


def no_splits(folder: Path) -> None:
    (folder / "nyu_depth_v2_labeled.mat").touch()


def damaged(folder: Path) -> None:
    pytest.importorskip("h5py")
    labelled(folder)
    (folder / "nyu_depth_v2_labeled.mat").write_bytes(b"MATLAB 7.3")


def wrong_ratio(folder: Path) -> None:
    table(folder / "test.parquet", image=[encoded(picture(30, 30))], depth=[encoded(np.ones((30, 30), "f4"), "TIFF")])


def coloured_depth(folder: Path) -> None:
    table(folder / "test.parquet", image=[encoded(picture(30, 40))], depth=[encoded(picture(30, 40))])


def no_depth(folder: Path) -> None:
    table(folder / "test.parquet", image=[encoded(picture(30, 40))], deph_map=[encoded(picture(30, 40))])


def grey_arrays(folder: Path) -> None:
    np.save(folder / "test_images.npy", np.zeros((2, 8, 8), np.uint8))
    np.save(folder / "test_targets.npy", np.zeros((2, 1, 8, 8)))


def other_size(folder: Path) -> None:
    np.save(folder / "test_images.npy", np.zeros((2, 8, 8, 3), np.uint8))
    np.save(folder / "test_targets.npy", np.zeros((2, 1, 12, 12)))


def fewer(folder: Path) -> None:
    np.save(folder / "test_images.npy", np.zeros((2, 8, 8, 3), np.uint8))
    np.save(folder / "test_targets.npy", np.zeros((1, 1, 8, 8)))


def empty(folder: Path) -> None:
    (folder / "notes.txt").touch()


@pytest.mark.parametrize(
    ("name", "split", "make", "message"),
    [
        ("super-resolution", "test", small_image, r"a\.png is 200×95, less than a tile of 96×96 pixels: remove it"),
        (
            "super-resolution",
            "train",
            no_train,
            r"no train split: expected train/ or DIV2K_train_HR/; it holds test, train",
        ),
        (
            "super-resolution",
            "test",
            empty,
            r"expected test/ or DIV2K_valid_HR/, or image files in the folder itself; it",
        ),
        (
            "nyu",
            "test",
            empty,
            r"expected nyu_depth_v2_labeled\.mat and splits\.mat as published, or test\*\.parquet or val",
        ),
        ("nyu", "test", no_splits, r"splits\.mat is missing, which has the split"),
        ("nyu", "test", damaged, r"labeled\.mat is not the whole published file .* download it again"),
        ("nyu", "test", wrong_ratio, "pictures are 30×30; those of NYU Depth V2 are 640×480"),
        ("nyu", "test", coloured_depth, "has 3 dimensions of uint8, and not a depth in each pixel: write metres"),
        ("nyu", "test", no_depth, "no column 'depth_map': did you mean 'deph_map'"),
        ("pairs", "test", empty, r"expected test_images\.npy, uint8 .* it holds notes\.txt"),
        ("pairs", "test", grey_arrays, r"is uint8 \(2, 8, 8\): expected uint8 \(N, H, W, 3\)"),
        ("pairs", "test", other_size, "targets of 12×12 for images of 8×8"),
        ("pairs", "test", fewer, "2 test images and 1 targets"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_right(
    name: str, split: str, make: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    make(tmp_path)
    with pytest.raises(UserError, match=message):
        registry.dataset(name, split, tmp_path, "mine").targets.read(0, 1)


@pytest.mark.parametrize("name", ["super-resolution", "nyu", "pairs"])
def test_a_folder_and_a_name_are_asked_for(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="specify it with --data-dir"):
        registry.dataset(name, "test")
    with pytest.raises(UserError, match="is not there: check --data-dir"):
        registry.dataset(name, "test", tmp_path / "none", "mine")
    if name != "nyu":
        with pytest.raises(UserError, match="--dataset-name"):
            registry.dataset(name, "test", tmp_path)
