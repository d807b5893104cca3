"""CIFAR-10-P, in files that the test makes: whole or refused, and in the order of the clean images or refused."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stressbench.contracts import Archive, InMemory
from stressbench.datasets.checksums import CHECKSUMS, CIFAR10_P
from stressbench.datasets.digits import digits
from stressbench.datasets.official import PerturbationArchive
from stressbench.datasets.published import cifar10, cifar100
from stressbench.errors import UserError
from stressbench.randomness import image_keys
from stressbench_suites.perturbation.engine import perturb

M = 16
LABELS = torch.arange(M) % 10
SOME = [{"perturbation": name} for name in ("spatter", "translate", "rotate")]
ROTATE = [{"perturbation": "rotate"}]


@pytest.fixture(scope="module")
def clean() -> torch.Tensor:
    """(M, 3, 32, 32), uint8: handwritten digits, which are more alike than photographs are."""
    return digits("test").images.read(0, M)


@pytest.fixture(scope="module")
def sequences(clean: torch.Tensor) -> dict[str, np.ndarray]:
    """All ten types as published, (M, T, 32, 32, 3), uint8."""
    keys = image_keys(1, torch.arange(M))
    made = {name: perturb(clean.float() / 255, name, keys) for name in CIFAR10_P}
    return {name: (s * 255).round().byte().permute(0, 1, 3, 4, 2).numpy() for name, s in made.items()}


@pytest.fixture
def folder(tmp_path: Path, sequences: dict[str, np.ndarray]) -> Path:
    for condition in SOME:
        np.save(tmp_path / f"{condition['perturbation']}.npy", sequences[condition["perturbation"]])
    return tmp_path


def opened(folder: Path, clean: torch.Tensor, conditions: Any = tuple(SOME), **options: Any) -> PerturbationArchive:
    archive = PerturbationArchive(folder, InMemory(clean), **options)
    archive.open(conditions, LABELS[: len(clean)])
    return archive


def refuses(folder: Path, clean: torch.Tensor, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        opened(folder, clean)
    for word in (*words, "--stress generated"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sequences_are_read_row_for_row(folder: Path, clean: torch.Tensor, sequences: dict[str, np.ndarray]) -> None:
    archive: Archive = opened(folder, clean)
    for condition in SOME:
        read = archive.read(condition, 3, 8)
        assert read.dtype == torch.uint8
        assert read.is_contiguous()
        np.testing.assert_array_equal(read.permute(0, 1, 3, 4, 2), sequences[condition["perturbation"]][3:8])
    assert len(archive.read(SOME[0], M - 1, M + 100)) == 1


def test_a_file_in_fortrans_order_is_read_alike(
    folder: Path, clean: torch.Tensor, sequences: dict[str, np.ndarray]
) -> None:
    np.save(folder / "rotate.npy", np.asfortranarray(sequences["rotate"]))
    read = opened(folder, clean).read(ROTATE[0], 2, 5)
    np.testing.assert_array_equal(read.permute(0, 1, 3, 4, 2), sequences["rotate"][2:5])


def test_a_batch_can_be_written_to(folder: Path, clean: torch.Tensor, sequences: dict[str, np.ndarray]) -> None:
    opened(folder, clean).read(ROTATE[0], 0, 4).zero_()
    np.testing.assert_array_equal(np.load(folder / "rotate.npy"), sequences["rotate"])


def test_what_it_holds(folder: Path, clean: torch.Tensor) -> None:
    archive = PerturbationArchive(folder, InMemory(clean))
    (folder / "translate.npy").unlink()
    assert ROTATE[0] in archive
    assert {"perturbation": "translate"} not in archive
    assert "rotate" not in archive


def test_only_the_types_that_are_asked_for_must_be_there(folder: Path, clean: torch.Tensor) -> None:
    (folder / "translate.npy").unlink()
    assert opened(folder, clean, ROTATE).read(ROTATE[0], 0, 1).shape == (1, 31, 3, 32, 32)
    refuses(folder, clean, "translate.npy is missing", "bench data pull")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", pickle.dumps([1, 2, 3])])
def test_garbage(folder: Path, clean: torch.Tensor, content: bytes) -> None:
    (folder / "spatter.npy").write_bytes(content)
    refuses(folder, clean, "spatter.npy is not a whole .npy file")


@pytest.mark.parametrize("keep", [5, 100, -1])
def test_truncated(folder: Path, clean: torch.Tensor, keep: int) -> None:
    path = folder / "spatter.npy"
    path.write_bytes(path.read_bytes()[:keep])
    refuses(folder, clean, "spatter.npy is not a whole .npy file")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows.astype(np.float32), "holds float32, not uint8"),
        (lambda rows: rows[:, :30], "has shape (16, 30, 32, 32, 3), but (16, 31, 32, 32, 3)"),
        (lambda rows: rows[:-1], "has shape (15, 31, 32, 32, 3), but (16, 31, 32, 32, 3)"),
        (lambda rows: np.moveaxis(rows, -1, 2), "has shape (16, 31, 3, 32, 32)"),
        (lambda rows: rows[:, 0], "has shape (16, 32, 32, 3)"),
        (np.zeros_like, "does not match the clean images"),
    ],
    ids=["type", "frames", "rows", "channels", "images", "black"],
)
def test_contents_that_do_not_fit(
    folder: Path, clean: torch.Tensor, change: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    np.save(folder / "rotate.npy", change(np.load(folder / "rotate.npy")))
    refuses(folder, clean, "rotate.npy", words)


@pytest.mark.parametrize("name", list(CIFAR10_P))
@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[::-1],
        lambda rows: np.roll(rows, 1, axis=0),
        lambda rows: rows[np.random.default_rng(0).permutation(M)],
        lambda rows: np.concatenate([rows[: M // 2], rows[: M // 2]]),
        lambda rows: np.broadcast_to(rows[:1], rows.shape),
    ],
    ids=["reversed", "shifted", "shuffled", "half", "one"],
)
def test_another_order(
    tmp_path: Path,
    clean: torch.Tensor,
    sequences: dict[str, np.ndarray],
    name: str,
    change: Callable[[np.ndarray], np.ndarray],
) -> None:
    path = tmp_path / f"{name}.npy"
    np.save(path, sequences[name])
    opened(tmp_path, clean, [{"perturbation": name}])
    np.save(path, change(sequences[name]))
    with pytest.raises(UserError, match=rf"{name}\.npy does not match the clean images, which may be in another order"):
        opened(tmp_path, clean, [{"perturbation": name}])


def test_a_copy_of_the_clean_images_that_was_altered_a_little_goes_with_them(folder: Path, clean: torch.Tensor) -> None:
    noise = torch.randint(-12, 13, clean.shape, generator=torch.Generator().manual_seed(0))
    opened(folder, (clean + noise).clamp(0, 255).byte())


def test_one_image_has_no_order(folder: Path, clean: torch.Tensor) -> None:
    for path in folder.glob("*.npy"):
        np.save(path, np.load(path)[:1])
    assert len(opened(folder, clean[:1]).read(ROTATE[0], 0, 1)) == 1


def test_images_that_are_all_alike_are_no_fault(tmp_path: Path) -> None:
    plain = torch.full((8, 3, 32, 32), 99, dtype=torch.uint8)
    np.save(tmp_path / "rotate.npy", np.full((8, 31, 32, 32, 3), 90, np.uint8))
    opened(tmp_path, plain, ROTATE)


@pytest.mark.parametrize("name", list(CIFAR10_P))
def test_real_photographs_are_told_apart(shared: Path, tmp_path: Path, name: str) -> None:
    """The first 32 of CIFAR-10's test images and their sequences: never most like another one."""
    from stressbench.datasets.official import _share_alike

    images = cifar10("test", shared / "data" / "cifar10").images.read(0, 32)
    made = perturb(images.float() / 255, name, image_keys(0, torch.arange(32)))
    rows = (made * 255).round().byte().permute(0, 1, 3, 4, 2).numpy()
    assert _share_alike(rows, images) == 1
    assert _share_alike(np.roll(rows, 1, axis=0), images) == 0


# --- checksums ------------------------------------------------------------------------------------------------


def test_verified_by_what_pull_wrote(folder: Path, clean: torch.Tensor) -> None:
    assert opened(folder, clean).verified is None
    files = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.glob("*.npy")}
    (folder / CHECKSUMS).write_text(json.dumps({"archive": "x.tar", "md5": "published", "files": files}))
    assert opened(folder, clean, archive="published").verified is True
    assert opened(folder, clean, archive="another").verified is None
    assert PerturbationArchive(folder, InMemory(clean), archive="published").verified is None
    rows = np.load(folder / "rotate.npy")
    rows[-1, -1, -1, -1, -1] ^= 1
    np.save(folder / "rotate.npy", rows)
    assert opened(folder, clean, archive="published").verified is False


# --- beside a dataset -----------------------------------------------------------------------------------------


def test_beside_a_folder_of_cifar10(folder: Path, clean: torch.Tensor, tmp_path: Path, encode: Any, write: Any) -> None:
    pictures = [encode(picture) for picture in clean.permute(0, 2, 3, 1).numpy()]
    place = tmp_path / "set"
    write(place / "test-00000-of-00001.parquet", pictures, LABELS.tolist())
    write(place / "train-00000-of-00001.parquet", pictures, LABELS.tolist())
    assert not cifar10("test", place).archives
    (place / "CIFAR-10-P").mkdir()
    for path in folder.glob("*.npy"):
        path.rename(place / "CIFAR-10-P" / path.name)
    data = cifar10("test", place)
    assert list(data.archives) == ["perturbation"]
    data.archives["perturbation"].open(SOME, data.labels)
    assert data.archives["perturbation"].read(ROTATE[0], 0, 2).shape == (2, 31, 3, 32, 32)
    assert not cifar10("train", place).archives
    fine = tmp_path / "fine"
    write(fine / "test.parquet", pictures, LABELS.tolist(), columns=("img", "fine_label"))
    (place / "CIFAR-10-P").rename(fine / "CIFAR-10-P")
    assert not cifar100("test", fine).archives
