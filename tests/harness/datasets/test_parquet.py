"""Parquet folders: what is found, what is read, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stressbench.datasets.identity import identify
from stressbench.datasets.parquet import parquet
from stressbench.errors import UserError

Write = Callable[..., Path]
Noise = Callable[..., np.ndarray]
Encode = Callable[..., bytes]


def load(folder: Path, split: str = "test") -> Any:
    return parquet(split, folder, "mine")


@pytest.fixture
def folder(tmp_path: Path, noise: Noise, encode: Encode, write: Write) -> Path:
    """Five test images, labels 0 … 4."""
    write(tmp_path / "set" / "test-00000-of-00001.parquet", [encode(p) for p in noise(5)], range(5))
    return tmp_path / "set"


def refuses(folder: Path, *words: str, split: str = "test") -> None:
    with pytest.raises(UserError) as caught:
        load(folder, split)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


# --- what is read ---------------------------------------------------------------------------------------------


def test_pixels_and_labels(folder: Path, noise: Noise) -> None:
    data = load(folder)
    assert (data.name, data.split, data.classes, data.image_size) == ("mine", "test", 5, (8, 8))
    assert (data.altered, data.embedded, data.archives) == (False, False, {})
    np.testing.assert_array_equal(data.images.read(0, 5).permute(0, 2, 3, 1), noise(5))
    assert data.images.read(0, 5).dtype == torch.uint8
    assert data.labels.tolist() == [0, 1, 2, 3, 4]
    assert data.labels.dtype == torch.int64


def test_a_range_is_that_range(folder: Path, noise: Noise) -> None:
    images, pixels = load(folder).images, noise(5)

    @settings(deadline=None, max_examples=40)
    @given(st.integers(0, 5), st.integers(0, 7))
    def check(start: int, stop: int) -> None:
        stop = max(start, stop)
        np.testing.assert_array_equal(images.read(start, stop).permute(0, 2, 3, 1), pixels[start:stop])

    check()


def test_only_the_range_is_decoded(tmp_path: Path, noise: Noise, encode: Encode, write: Write) -> None:
    write(tmp_path / "test.parquet", [encode(noise(1)[0]), b"no image"], [0, 1])
    data = load(tmp_path)
    assert len(data.images.read(0, 1)) == 1
    with pytest.raises(UserError, match=r"image 1 \(row 1 of .*test\.parquet\) cannot be decoded"):
        data.images.read(0, 2)


def test_shards_follow_each_other(tmp_path: Path, noise: Noise, encode: Encode, write: Write) -> None:
    for shard in range(3):
        encoded = [encode(p) for p in noise(2, seed=shard)]
        if shard == 2:
            encoded[0] = b"no image"
        write(tmp_path / f"test-0000{shard}-of-00003.parquet", encoded, [shard, shard])
    data = load(tmp_path)
    assert data.labels.tolist() == [0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(data.images.read(3, 4)[0].permute(1, 2, 0), noise(2, seed=1)[1])
    with pytest.raises(UserError, match=r"image 4 \(row 0 of .*test-00002-of-00003"):
        data.images.read(0, 6)


def test_plain_bytes_other_integers_and_other_columns(tmp_path: Path, noise: Noise, encode: Encode) -> None:
    table = pa.table(
        {
            "more": pa.array(["a", "b"]),
            "label": pa.array([1, 0], pa.uint8()),
            "img": pa.array([encode(p) for p in noise(2)], pa.large_binary()),
        }
    )
    pq.write_table(table, tmp_path / "test.parquet")
    data = load(tmp_path)
    assert data.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(data.images.read(0, 2).permute(0, 2, 3, 1), noise(2))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(tmp_path: Path, encode: Encode, write: Write, mode: str) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) << 8)
    else:
        colours = Image.fromarray(np.stack([grey] * 3, axis=-1))
        image = colours.convert(mode, palette=Image.Palette.ADAPTIVE)
    assert image.mode == mode
    write(tmp_path / "test.parquet", [encode(image, "TIFF" if mode == "CMYK" else "PNG")], [0])
    read = load(tmp_path).images.read(0, 1)
    assert read.shape == (1, 3, 8, 8)
    if mode != "1":
        np.testing.assert_array_equal(read[0], np.stack([grey] * 3))


def test_a_palette_with_transparency_does_not_warn(tmp_path: Path, encode: Encode, write: Write) -> None:
    image = Image.fromarray(np.zeros((8, 8, 3), np.uint8)).convert("P")
    write(tmp_path / "test.parquet", [encode(image, transparency=b"\x00\x80")], [0])
    assert load(tmp_path).images.read(0, 1).sum() == 0


def test_orientation_is_followed(tmp_path: Path, encode: Encode, write: Write, noise: Noise) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held on its side
    write(tmp_path / "test.parquet", [encode(noise(1, 4, 8)[0], exif=exif)], [0])
    data = load(tmp_path)
    assert data.image_size == (8, 4)
    np.testing.assert_array_equal(data.images.read(0, 1)[0].permute(1, 2, 0), np.rot90(noise(1, 4, 8)[0], -1))


def test_classes_agree_between_the_splits(folder: Path, noise: Noise, encode: Encode, write: Write) -> None:
    write(folder / "train.parquet", [encode(p) for p in noise(2)], [8, 0])
    assert load(folder).classes == load(folder, "train").classes == 9


def test_classes_come_from_the_names(folder: Path, noise: Noise, encode: Encode, write: Write) -> None:
    names = [f"class {i}" for i in range(12)]
    write(folder / "train.parquet", [encode(p) for p in noise(2)], [1, 0], names)
    assert load(folder).classes == load(folder, "train").classes == 12
    write(folder / "test-00000-of-00001.parquet", [encode(p) for p in noise(2)], [1, 0], names[::-1])
    refuses(folder, "name different classes", "train.parquet")


def test_a_changed_file_is_read_anew(folder: Path, noise: Noise, encode: Encode, write: Write) -> None:
    before = load(folder).images.read(0, 2)
    write(folder / "test-00000-of-00001.parquet", [encode(p) for p in noise(2, seed=1)], [0, 1])
    assert not torch.equal(load(folder).images.read(0, 2), before)


def test_writes_only_to_the_store(folder: Path, home: Path, tmp_path: Path) -> None:
    before = sorted(folder.rglob("*"))
    load(folder).images.read(0, 5)
    assert sorted(folder.rglob("*")) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home", "set"]
    assert [p.name for p in home.iterdir()] == ["cache"]


def test_no_network_is_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.load.get_session", lambda: pytest.fail("a request was made"))
    load(folder)


@pytest.mark.parametrize("name", ["with [brackets] and *", ".hidden"])
def test_odd_folder_names(folder: Path, name: str) -> None:
    odd = folder.rename(folder.parent / name)
    assert len(load(odd).images) == 5


# --- where files are found ------------------------------------------------------------------------------------


def test_one_folder_down(folder: Path) -> None:
    inner = folder / "plain_text"
    inner.mkdir()
    (folder / "test-00000-of-00001.parquet").rename(inner / "test-00000-of-00001.parquet")
    assert len(load(folder).images) == 5


def test_two_places(folder: Path, noise: Noise, encode: Encode, write: Write) -> None:
    write(folder / "data" / "test.parquet", [encode(p) for p in noise(2)], [1, 0])
    refuses(folder, f"both {folder} and {folder / 'data'}")


def test_nothing_there(folder: Path, tmp_path: Path) -> None:
    refuses(folder, "no train split", "train.parquet", "one folder down", split="train")
    refuses(tmp_path / "nowhere", "nowhere is not there", "--data-dir")
    refuses(folder / "test-00000-of-00001.parquet", "is not a folder")


def test_a_missing_shard(folder: Path) -> None:
    (folder / "test-00000-of-00001.parquet").rename(folder / "test-00001-of-00002.parquet")
    refuses(folder, "does not hold all 2 shards")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["test-00000-of-00002-3c2da3c1f9e4d0ab.parquet"], "does not hold all 2 shards"),
        (
            [
                "test-00000-of-00002-3c2da3c1f9e4d0ab.parquet",
                "test-00001-of-00002-9d1b7e02c4aa5f10.parquet",
                "test-00000-of-00002-77e0d1c2b3a49586.parquet",
            ],
            "not of one numbering",
        ),
        (["test-00000-of-00001.parquet", "test-00000-of-00002.parquet", "test-00001-of-00002.parquet"], "numbering"),
        (["test-00000-of-00001.parquet", "test-00000-of-00001 (1).parquet"], "(1).parquet is not a shard"),
        (["test.parquet", "test_backup.parquet"], "test_backup.parquet is not a shard"),
        (["test.parquet", "test-1.parquet"], "not of one numbering"),
        (["test_0.parquet", "test_2.parquet"], "number 1"),
        (["test/part-0.parquet", "test/part-0 copy.parquet"], "is not a shard of the test split"),
        (["test/0.parquet", "test.parquet"], "hold the test split"),
    ],
)
def test_what_is_not_one_whole_split(
    names: list[str], words: str, tmp_path: Path, noise: Noise, encode: Encode, write: Write
) -> None:
    for number, name in enumerate(names):
        write(tmp_path / name, [encode(noise(1, seed=number)[0])], [0])
    refuses(tmp_path, words)


@pytest.mark.parametrize(
    "names",
    [
        ["test-00000-of-00002-3c2da3c1f9e4d0ab.parquet", "test-00001-of-00002-9d1b7e02c4aa5f10.parquet"],
        ["test_0.parquet", "test_1.parquet"],
        ["test1.parquet", "test2.parquet"],
        ["default/test/0000.parquet", "default/test/0001.parquet"],
        ["test/part-0.parquet", "test/part-1.parquet"],
        ["test.parquet", "testing.parquet"],
        ["test.parquet", "._test.parquet"],
    ],
)
def test_each_file_of_a_split_is_read_once(
    names: list[str], tmp_path: Path, noise: Noise, encode: Encode, write: Write
) -> None:
    for number, name in enumerate(names):
        write(tmp_path / name, [encode(noise(1, seed=number)[0])], [0])
    expected = 1 if names[0] == "test.parquet" else 2
    np.testing.assert_array_equal(
        load(tmp_path).images.read(0, 9).permute(0, 2, 3, 1), [noise(1, seed=seed)[0] for seed in range(expected)]
    )


def test_scripts_are_left_alone(folder: Path) -> None:
    flag = folder / "executed"
    for name in (f"{folder.name}.py", "dataset_infos.py", "__init__.py"):
        (folder / name).write_text(f"open({str(flag)!r}, 'w')")
    assert len(load(folder).images) == 5
    assert not flag.exists()


# --- what is refused ------------------------------------------------------------------------------------------


def test_words_that_are_missing(folder: Path) -> None:
    with pytest.raises(UserError, match="--data-dir"):
        parquet("test", None, "mine")
    with pytest.raises(UserError, match="--dataset-name"):
        parquet("test", folder, None)


@pytest.mark.parametrize("name", ["cifar10", "CIFAR-10", "Cifar.10", "cifar_100", "digits"])
def test_names_of_published_sets(folder: Path, name: str) -> None:
    with pytest.raises(UserError, match="stands for the dataset"):
        parquet("test", folder, name)


@pytest.mark.parametrize("name", ["", "../up", "a b", "a|b", "x" * 65])
def test_names_that_are_none(folder: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot name a dataset"):
        parquet("test", folder, name)


def test_images_of_two_sizes(tmp_path: Path, noise: Noise, encode: Encode, write: Write) -> None:
    encoded = [encode(p) for p in noise(6)]
    encoded[3] = encoded[5] = encode(noise(1, height=9)[0])
    write(tmp_path / "test.parquet", encoded, range(6))
    with pytest.raises(UserError, match=r"image 3 \(row 3 of .*test.parquet\) is 8×9, but image 0 is 8×8"):
        load(tmp_path).images.read(2, 6)


def test_postscript_is_not_handed_on(tmp_path: Path, encode: Encode, write: Write) -> None:
    write(tmp_path / "test.parquet", [encode(Image.new("RGB", (8, 8)), "EPS")], [0])
    refuses(tmp_path, "image 0", "cannot be decoded")


def test_truncated_image(tmp_path: Path, noise: Noise, encode: Encode, write: Write) -> None:
    write(tmp_path / "test.parquet", [encode(noise(1)[0])[:-40]], [0])
    refuses(tmp_path, "image 0 (row 0 of", "test.parquet", "cannot be decoded")


def test_float_pixels(tmp_path: Path, encode: Encode, write: Write) -> None:
    write(tmp_path / "test.parquet", [encode(Image.new("F", (8, 8)), "TIFF")], [0])
    refuses(tmp_path, "no fixed range")


def test_an_image_by_its_path(tmp_path: Path, encode: Encode, write: Write) -> None:
    write(tmp_path / "test.parquet", [None], [0])
    refuses(tmp_path, "image 0", "has no bytes")


def test_missing_columns(tmp_path: Path, noise: Noise, encode: Encode, write: Write) -> None:
    path = write(tmp_path / "test.parquet", [encode(noise(1)[0])], [0], columns=("picture", "label"))
    refuses(tmp_path, str(path), "no column is known to be the image", "image=NAME", "the columns are picture, label")
    write(tmp_path / "test.parquet", [encode(noise(1)[0])], [0], columns=("img", "kind"))
    refuses(tmp_path, "no column is known to be the label")


def test_wrong_types(tmp_path: Path, noise: Noise, encode: Encode, write: Write) -> None:
    write(tmp_path / "test.parquet", [encode(noise(1)[0])], [0.5])
    refuses(tmp_path, "test.parquet", "is double, not integers or text")
    pq.write_table(pa.table({"img": [[1, 2]], "label": [0]}), tmp_path / "test.parquet")
    refuses(tmp_path, "test.parquet", "not encoded images")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, None, 1], "row 1 has no label"),
        ([0, 1, -1], "row 2 has label -1"),
        ([0, 5, 3], "row 1 has label 5, but there are 3 classes"),
    ],
)
def test_labels_out_of_range(
    tmp_path: Path, noise: Noise, encode: Encode, write: Write, labels: list[int | None], words: str
) -> None:
    write(tmp_path / "test.parquet", [encode(p) for p in noise(3)], labels, ["a", "b", "c"])
    refuses(tmp_path, "test.parquet", words)


def test_no_rows(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "test.parquet", [], pa.array([], pa.int64()))
    refuses(tmp_path, "test.parquet", "has no rows")


@pytest.mark.parametrize("keep", [0, 3, 200, -1])
def test_truncated_file(folder: Path, keep: int) -> None:
    path = folder / "test-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    refuses(folder, str(path), "not a whole Parquet file")


def test_a_clone_without_git_lfs(folder: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + 64 * "0" + "\nsize 12345\n"
    (folder / "test-00000-of-00001.parquet").write_text(pointer)
    refuses(folder, "is a Git LFS pointer", f"git lfs pull` in {folder}")


def test_a_file_damaged_inside(folder: Path) -> None:
    path = folder / "test-00000-of-00001.parquet"
    content = bytearray(path.read_bytes())
    content[4:40] = bytes(36)  # the first page's header; the footer stays whole
    path.write_bytes(content)
    refuses(folder, str(path))


def test_metadata_that_is_nonsense(folder: Path) -> None:
    path = folder / "test-00000-of-00001.parquet"
    table = pq.read_table(path).replace_schema_metadata({"huggingface": "{"})
    pq.write_table(table, path)
    refuses(folder, str(path), "metadata")


@pytest.mark.parametrize("name", ["imagenet", "ImageNet"])
def test_a_folder_of_ones_own_is_not_called_imagenet(
    name: str, tmp_path: Path, noise: Any, encode: Any, write: Any
) -> None:
    write(tmp_path / "test.parquet", [encode(p) for p in noise(4, 32, 32)], [0, 1, 2, 999])
    with pytest.raises(UserError, match="stands for the dataset imagenet"):
        parquet("test", tmp_path, name)


def test_imagenet_is_recognised_by_its_form_and_name() -> None:
    class Unread:
        def __len__(self) -> int:
            return 50_000

        def read(self, start: int, stop: int) -> torch.Tensor:
            raise AssertionError("no digest is known, so no pixel is needed")

    labels = torch.arange(1000).repeat(50)
    assert identify("imagenet", Unread(), labels, 1000, (224, 224)) == "imagenet"
    assert identify("stylized", Unread(), labels, 1000, (224, 224)) is None
    assert identify("imagenet", Unread(), labels, 1000, (32, 32)) is None
    labels[0] = 1
    assert identify("imagenet", Unread(), labels, 1000, (224, 224)) is None
