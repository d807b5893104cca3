"""CIFAR-10 and CIFAR-100, from the hub or from a local folder, with their official stressed sets where those are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stressbench._util.home import home
from stressbench.contracts import Archive, Classification, Dataset, InMemory
from stressbench.datasets.batches import load_batches
from stressbench.datasets.checksums import CIFAR10_C, LABELS
from stressbench.datasets.folder import Columns
from stressbench.datasets.from_hub import from_hub
from stressbench.datasets.identity import identify
from stressbench.datasets.official import CorruptionArchive, PerturbationArchive
from stressbench.datasets.own import Pixels, check_name
from stressbench.datasets.parquet import load_folder
from stressbench.datasets.pull import ARCHIVES
from stressbench.errors import UserError

_SIZE = (32, 32)
_TRAIN = 50_000  # images


@dataclass(frozen=True)
class _Published:
    name: str
    repository: str  # on the hub
    image: str  # its columns
    label: str
    classes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    corrupted: str  # its archive's key in `pull.ARCHIVES`
    checksums: dict[str, str] | None  # of the corrupted set's files, where they are published
    perturbed: str | None  # as `corrupted`, of the set of sequences; None where there is none
    bar: (
        str | None
    )  # the folder that the authors' code writes C-bar to, which has no download; None where there is none


_CIFAR10 = _Published(
    name="cifar10",
    repository="uoft-cs/cifar10",
    image="img",
    label="label",
    classes=10,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
    corrupted="cifar10-c",
    checksums=CIFAR10_C,
    perturbed="cifar10-p",
    bar="CIFAR-10-C-Bar",
)
_CIFAR100 = _Published(
    name="cifar100",
    repository="uoft-cs/cifar100",
    image="img",
    label="fine_label",
    classes=100,
    mean=(0.5071, 0.4867, 0.4408),
    std=(0.2675, 0.2565, 0.2761),
    corrupted="cifar100-c",
    checksums=None,
    perturbed=None,
    bar=None,
)


def cifar10(split: str, data_dir: Path | None = None, name: str | None = None) -> Dataset:
    """CIFAR-10: 32×32, 10 classes, 50,000 train and 10,000 test images; see `_dataset`."""
    return _dataset(_CIFAR10, split, data_dir, name)


def cifar100(split: str, data_dir: Path | None = None, name: str | None = None) -> Dataset:
    """CIFAR-100 with its fine labels: 32×32, 100 classes, 50,000 train and 10,000 test images; see `_dataset`."""
    return _dataset(_CIFAR100, split, data_dir, name)


def _dataset(published: _Published, split: str, data_dir: Path | None, name: str | None) -> Dataset:
    """A published set from the hub, or from `data_dir`: a Parquet folder with the hub's column names, or CIFAR's own
    python version.

    A test split counts as altered unless its content is the published one (see `identity.py`), a train split unless
    all its images are lossless (PNG, as published), 32×32, and as many as published. A folder under a `name` of its own
    claims to be nothing else, so it is not altered.

    Raises `UserError` where the hub is out of reach and the set not in its cache, for a faulty folder (see
    `folder.py`), and for a `name` without a `data_dir`.
    """
    called = published.name if name is None else check_name(name)
    if data_dir is not None:
        rows = load_batches(published.name, data_dir, split) or load_folder(
            data_dir, split, Columns(published.image, published.label), published.classes
        )
    elif name is not None:
        raise UserError(f"the published '{published.name}' keeps its name: --dataset-name goes with --data-dir")
    else:
        columns = Columns(published.image, published.label)
        rows = from_hub(published.name, published.repository, split, columns, published.classes)
    content = (
        identify(called, rows.images, rows.labels, rows.classes, rows.images.size)
        if split == "test"
        else published.name
        if len(rows.images) == _TRAIN and rows.images.size == _SIZE and rows.images.lossless()
        else None
    )
    return Dataset(
        name=called,
        split=split,
        task=Classification(rows.classes),
        images=rows.images,
        targets=InMemory(rows.labels),
        image_size=rows.images.size,
        mean=published.mean,
        std=published.std,
        altered=name is None and content != published.name,
        published=content,
        archives=_archives(published, data_dir, rows.images) if split == "test" else {},
    )


def _archives(published: _Published, data_dir: Path | None, images: Pixels) -> dict[str, Archive]:
    """The stressed sets beside the clean one.

    Without a `data_dir` that is the store. With one the store is not looked at, so that a re-encoded copy is never
    paired with the official files just because both are on one machine.
    """
    place = home() / "data" if data_dir is None else data_dir
    archives: dict[str, Archive] = {}
    corrupted = ARCHIVES[published.corrupted]
    folder = place / corrupted.folder
    if data_dir is not None and not folder.is_dir() and (data_dir / f"{LABELS}.npy").is_file():
        folder = data_dir
    if folder.is_dir():
        archives["corruption"] = CorruptionArchive(folder, images.size, published.checksums, corrupted.checksum)
    if published.perturbed is not None:
        perturbed = ARCHIVES[published.perturbed]
        folder = place / perturbed.folder
        if folder.is_dir():
            archives["perturbation"] = PerturbationArchive(folder, images, images.size, perturbed.checksum)
    if published.bar is not None and (place / published.bar).is_dir():
        archives["c-bar"] = CorruptionArchive(place / published.bar, images.size)
    return archives
