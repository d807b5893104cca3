"""Downloads published sets, checks their checksums, and unpacks them."""

from __future__ import annotations

import errno
import gzip
import json
import shutil
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stressbench._util.home import home
from stressbench._util.locks import hold
from stressbench._util.terminal import Screen
from stressbench.datasets.checksums import CHECKSUMS, CIFAR10_C, CIFAR10_P, digest, md5
from stressbench.datasets.download import disk_full, download
from stressbench.errors import UserError, did_you_mean


@dataclass(frozen=True)
class PublishedArchive:
    """A tar, or a compressed one, of a published set."""

    folder: str
    """That its content is put into; its last part is what the tar itself may call it."""
    url: str
    checksum: str
    """In hexadecimal: an md5, or a longer sha256."""
    holds: tuple[str, ...] = ()
    """Files and folders that must be in the folder."""

    @property
    def tar(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def algorithm(self) -> str:
        return "md5" if len(self.checksum) == 32 else "sha256"


def _cifar(folder: str, record: int, md5_of_tar: str, names: Iterable[str]) -> PublishedArchive:
    url = f"https://zenodo.org/records/{record}/files/{folder}.tar"
    return PublishedArchive(folder, url, md5_of_tar, tuple(f"{name}.npy" for name in names))


def _imagenet_c(group: str, md5_of_tar: str, *names: str) -> PublishedArchive:
    """The archives of ImageNet-C are by group, and are read in folders of the groups."""
    url = f"https://zenodo.org/records/2235448/files/{group}.tar"
    cells = tuple(f"{name}/{severity}" for name in names for severity in range(1, 6))
    return PublishedArchive(f"ImageNet-C/{group}", url, md5_of_tar, cells)


_BERKELEY = "https://people.eecs.berkeley.edu/~hendrycks"
_V2 = "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main"
ARCHIVES = {
    "cifar10-c": _cifar("CIFAR-10-C", 2535967, "56bf5dcef84df0e2308c6dcbcbbd8499", CIFAR10_C),
    "cifar100-c": _cifar("CIFAR-100-C", 3555552, "11f0ed0f1191edbf9fa23466ae6021d3", CIFAR10_C),
    "cifar10-p": _cifar("CIFAR-10-P", 2535967, "125d6775afc5846ea84584d7524dedff", CIFAR10_P),
    "imagenet-c-noise": _imagenet_c(
        "noise", "e80562d7f6c3f8834afb1ecf27252745", "gaussian_noise", "shot_noise", "impulse_noise"
    ),
    "imagenet-c-blur": _imagenet_c(
        "blur", "2d8e81fdd8e07fef67b9334fa635e45c", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"
    ),
    "imagenet-c-weather": _imagenet_c(
        "weather", "33ffea4db4d93fe4a428c40a6ce0c25d", "frost", "snow", "fog", "brightness"
    ),
    "imagenet-c-digital": _imagenet_c(
        "digital",
        "89157860d7b10d5797849337ca2e5c03",
        "contrast",
        "elastic_transform",
        "pixelate",
        "jpeg_compression",
    ),
    "imagenet-c-extra": _imagenet_c(
        "extra", "d492dfba5fc162d8ec2c3cd8ee672984", "speckle_noise", "spatter", "gaussian_blur", "saturate"
    ),
    "imagenet-a": PublishedArchive("imagenet-a", f"{_BERKELEY}/imagenet-a.tar", "c3e55429088dc681f30d81f4726b6595"),
    "imagenet-r": PublishedArchive("imagenet-r", f"{_BERKELEY}/imagenet-r.tar", "a61312130a589d0ca1a8fca1f2bd3337"),
    "imagenet-v2": PublishedArchive(
        "imagenetv2-matched-frequency-format-val",
        f"{_V2}/imagenetv2-matched-frequency.tar.gz",
        "f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c",
        tuple(str(label) for label in range(1000)),
    ),
}


@dataclass(frozen=True)
class Pulled:
    """The folder of a set, and whether it existed before."""

    folder: Path
    already: bool


def pull(name: str, screen: Screen, data_dir: Path | None = None, url: str | None = None) -> Pulled:
    """Bring a published set into `data_dir` (default: the store), as a folder that is there whole or not at all.

    A tar that lies in `data_dir` already, put there by hand say, is used without a network. It is checked against
    the published checksum before anything is unpacked, whichever `url` it came from, and removed afterwards.

    Raises `UserError` for an unknown name, for a folder that is there but not whole, for a download that fails, for a
    wrong checksum (the file is set aside as `.bad`), for a tar that holds more than files and folders, and for a full
    disk.
    """
    if name not in ARCHIVES:
        raise UserError(f"there is no published set '{name}': {did_you_mean(name, ARCHIVES)}choose {_listed()}")
    archive = ARCHIVES[name]
    place = home() / "data" if data_dir is None else data_dir
    folder, tar = place / archive.folder, place / archive.tar
    if folder.exists():
        if missing := _missing(archive, folder):
            raise UserError(f"{folder} is there, but has no {missing}: move it away and run this again")
        return Pulled(folder, already=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with hold(place / f".{archive.tar}.lock", f"fetching {tar}", "choose a folder with --data-dir"):
            _fetch(archive, tar, url or archive.url, screen)
            _unpack(archive, tar, folder, screen)
            tar.unlink()
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise disk_full(place) from error
        raise UserError(f"{place} cannot be written: {error}. Choose another place with --data-dir") from error
    return Pulled(folder, already=False)


def _fetch(archive: PublishedArchive, tar: Path, url: str, screen: Screen) -> None:
    if not tar.exists():
        download(url, tar, screen)
    found = digest(tar, archive.algorithm)
    if found != archive.checksum:
        bad = tar.replace(tar.with_name(tar.name + ".bad"))
        raise UserError(
            f"{tar} has {archive.algorithm} {found}, but {archive.checksum} is published, so it was set aside as "
            f"{bad.name}: run the command again to fetch it again"
        )


def _unpack(archive: PublishedArchive, tar: Path, folder: Path, screen: Screen) -> None:
    """Unpack beside the tar, write the checksums of arrays, and move the whole into place."""
    scratch = tar.with_name(f".{folder.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed; the lock says that none is at work
    try:
        _extract(tar, scratch, screen)
        # Files at the top of the tar would do as well as files in a folder of its name.
        root = scratch / folder.name if (scratch / folder.name).is_dir() else scratch
        if missing := _missing(archive, root):
            raise UserError(f"{tar} holds no {folder.name}/{missing}: it is not the published set")
        files = {path.name: md5(path) for path in sorted(root.glob("*.npy"))}
        if files:
            text = json.dumps({"archive": archive.tar, archive.algorithm: archive.checksum, "files": files}, indent=2)
            (root / CHECKSUMS).write_text(text + "\n", encoding="utf-8")
        root.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _missing(archive: PublishedArchive, root: Path) -> str | None:
    return next((name for name in archive.holds if not (root / name).exists()), None)


def _extract(tar: Path, into: Path, screen: Screen) -> None:
    into.mkdir()
    try:
        with (
            tarfile.open(tar, mode="r:gz" if tar.suffix == ".gz" else "r:") as file,
            screen.progress(f"unpacking {tar.name}", tar.stat().st_size >> 20, "MB") as advance,
        ):
            read = 0
            for member in file:
                file.extract(member, into, filter=_only_files)
                before, read = read, read + member.size
                if more := (read >> 20) - (before >> 20):
                    advance(more, member.name)
                # Of the million files of a set of images, the list would take a GB.
                file.members.clear()  # type: ignore[attr-defined]
    except tarfile.FilterError as error:
        raise UserError(f"{tar} is not safe to unpack: {error}. Fetch it from where it is published") from error
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{tar} is not a whole tar ({error}): remove it and run this again") from error


def _only_files(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo:
    """tarfile's "data" filter, and no links or absolute paths either: a published set needs none."""
    if not (member.isreg() or member.isdir()):
        raise tarfile.SpecialFileError(member)
    if Path(member.name).is_absolute():
        raise tarfile.AbsolutePathError(member)
    return tarfile.data_filter(member, path)


def _listed() -> str:
    *most, last = ARCHIVES
    return f"{', '.join(most)} or {last}"
