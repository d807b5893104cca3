"""The published corrupted sets, in files that the test makes."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stressbench.contracts import Archive
from stressbench.datasets.checksums import CHECKSUMS, CIFAR10_C
from stressbench.datasets.official import CorruptionArchive
from stressbench.errors import UserError

M = 4
LABELS = torch.tensor([3, 1, 0, 2])
CLEAN = {"corruption": "none", "severity": 0}
FOG = [{"corruption": "fog", "severity": s} for s in range(1, 6)]


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5 * M, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path, rows: np.ndarray) -> Path:
    np.save(tmp_path / "fog.npy", rows)
    np.save(tmp_path / "labels.npy", np.tile(LABELS.numpy().astype(np.uint8), 5))
    return tmp_path


def refuses(folder: Path, *words: str, conditions: Any = (CLEAN, *FOG), labels: torch.Tensor = LABELS) -> None:
    with pytest.raises(UserError) as caught:
        CorruptionArchive(folder).open(conditions, labels)
    for word in (*words, "--stress generated"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_severities_follow_each_other(folder: Path, rows: np.ndarray) -> None:
    archive: Archive = CorruptionArchive(folder)
    archive.open([CLEAN, *FOG], LABELS)
    for condition in FOG:
        first = (int(condition["severity"]) - 1) * M
        read = archive.read(condition, 1, 3)
        assert read.dtype == torch.uint8
        assert read.is_contiguous()
        np.testing.assert_array_equal(read.permute(0, 2, 3, 1), rows[first + 1 : first + 3])


def test_reading_stops_at_the_severity(folder: Path) -> None:
    archive = CorruptionArchive(folder)
    archive.open(FOG, LABELS)
    assert len(archive.read(FOG[0], 3, 100)) == 1


def test_a_batch_can_be_written_to(folder: Path, rows: np.ndarray) -> None:
    archive = CorruptionArchive(folder)
    archive.open(FOG, LABELS)
    archive.read(FOG[0], 0, 4).zero_()
    np.testing.assert_array_equal(np.load(folder / "fog.npy"), rows)


def test_what_it_holds(folder: Path) -> None:
    archive = CorruptionArchive(folder)
    assert FOG[0] in archive
    assert CLEAN not in archive
    assert {"corruption": "snow", "severity": 1} not in archive
    assert "fog" not in archive


def test_clean_images_need_no_file(tmp_path: Path) -> None:
    archive = CorruptionArchive(tmp_path / "nowhere")
    archive.open([CLEAN], LABELS)
    assert archive.verified is None


@pytest.mark.parametrize("name", ["fog", "labels"])
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / f"{name}.npy").unlink()
    refuses(folder, f"{name}.npy is missing", "bench data pull")


@pytest.mark.parametrize("name", ["fog", "labels"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>", pickle.dumps([1, 2, 3])])
def test_garbage(folder: Path, name: str, content: bytes) -> None:
    (folder / f"{name}.npy").write_bytes(content)
    refuses(folder, f"{name}.npy is not a whole .npy file")


@pytest.mark.parametrize("keep", [5, 100, -1])
def test_truncated(folder: Path, keep: int) -> None:
    path = folder / "fog.npy"
    path.write_bytes(path.read_bytes()[:keep])
    refuses(folder, "fog.npy is not a whole .npy file")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("it was unpickled",))


def test_objects_are_never_unpickled(folder: Path) -> None:
    np.save(folder / "fog.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    refuses(folder, "fog.npy")


def test_a_header_is_never_executed(folder: Path) -> None:
    content = (folder / "fog.npy").read_bytes()
    (folder / "fog.npy").write_bytes(content.replace(b"False", b"exit("))
    refuses(folder, "fog.npy")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("fog", np.zeros((5 * M, 32, 32, 3), np.float32), "holds float32, not uint8"),
        ("fog", np.zeros((4 * M, 32, 32, 3), np.uint8), "has shape (16, 32, 32, 3), but (20, 32, 32, 3)"),
        ("fog", np.zeros((5 * M, 3, 32, 32), np.uint8), "has shape"),
        ("labels", np.zeros(M, np.uint8), "labels.npy has shape (4,), but (20,)"),
        ("labels", np.zeros(5 * M), "holds float64, not integers"),
        ("labels", np.tile(LABELS.numpy()[::-1], 5), "labels.npy does not match the labels"),
    ],
)
def test_contents_that_do_not_fit(folder: Path, name: str, content: np.ndarray, words: str) -> None:
    np.save(folder / f"{name}.npy", content)
    refuses(folder, f"{name}.npy", words)


def test_every_block_of_labels_counts(folder: Path) -> None:
    labels = np.tile(LABELS.numpy(), 5)
    labels[-1] += 1
    np.save(folder / "labels.npy", labels)
    refuses(folder, "does not match the labels")


def test_other_image_sizes(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match=r"\(20, 64, 64, 3\)"):
        CorruptionArchive(folder, (64, 64)).open(FOG, LABELS)


# --- checksums ------------------------------------------------------------------------------------------------


def sums(folder: Path) -> dict[str, str]:
    return {p.stem: hashlib.md5(p.read_bytes()).hexdigest() for p in folder.glob("*.npy")}


def opened(folder: Path, **options: Any) -> CorruptionArchive:
    archive = CorruptionArchive(folder, **options)
    archive.open(FOG, LABELS)
    return archive


def test_verified_by_published_checksums(folder: Path) -> None:
    assert opened(folder, published=sums(folder)).verified is True
    assert opened(folder, published=CIFAR10_C).verified is False
    assert opened(folder, published={**sums(folder), "labels": "0" * 32}).verified is False
    assert opened(folder).verified is None
    assert CorruptionArchive(folder, published=sums(folder)).verified is None


def test_verified_by_what_pull_wrote(folder: Path) -> None:
    files = {f"{name}.npy": value for name, value in sums(folder).items()}
    (folder / CHECKSUMS).write_text(json.dumps({"archive": "x.tar", "md5": "published", "files": files}))
    assert opened(folder, archive="published").verified is True
    assert opened(folder, archive="another").verified is None
    (folder / "fog.npy").write_bytes((folder / "fog.npy").read_bytes()[:-1] + b"\x00")
    assert opened(folder, archive="published").verified is False
    (folder / CHECKSUMS).write_text("[]")
    with pytest.raises(UserError, match=r"checksums\.json is not what"):
        _ = opened(folder, archive="published").verified


def test_all_of_cifar10_c_is_known() -> None:
    assert len(CIFAR10_C) == 20
    assert all(len(value) == 32 and set(value) <= set("0123456789abcdef") for value in CIFAR10_C.values())


def test_a_file_that_is_cut_while_it_is_in_use_is_a_line(folder: Path, rows: np.ndarray) -> None:
    archive = CorruptionArchive(folder)
    archive.open(FOG, LABELS)
    with (folder / "fog.npy").open("r+b") as file:
        file.truncate(file.seek(0, 2) // 2)
    with pytest.raises(UserError, match=r"fog\.npy was changed while it was in use"):
        archive.read(FOG[4], 0, M)


def test_a_file_that_is_replaced_while_it_is_in_use_is_read_as_it_was(folder: Path, rows: np.ndarray) -> None:
    archive = CorruptionArchive(folder)
    archive.open(FOG, LABELS)
    before = archive.digests
    assert before["fog"] == hashlib.md5((folder / "fog.npy").read_bytes()).hexdigest()
    np.save(folder / "other.npy", 255 - rows)
    (folder / "other.npy").replace(folder / "fog.npy")
    np.testing.assert_array_equal(archive.read(FOG[0], 0, M).permute(0, 2, 3, 1), rows[:M])
    again = CorruptionArchive(folder)
    again.open(FOG, LABELS)
    assert {name for name in before if again.digests[name] != before[name]} == {"fog"}
