"""Downloads published corrupted and perturbed sets, checks their md5, and unpacks them."""

from __future__ import annotations

import errno
import json
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from stressbench._util.home import home
from stressbench._util.locks import hold
from stressbench._util.terminal import Screen
from stressbench.datasets.checksums import CHECKSUMS, CIFAR10_C, CIFAR10_P, md5
from stressbench.datasets.download import disk_full, download
from stressbench.errors import UserError, did_you_mean


@dataclass(frozen=True)
class PublishedArchive:
    """A tar of .npy files on Zenodo."""

    folder: str  # that it unpacks to; the tar is called {folder}.tar
    record: int
    md5: str
    names: tuple[str, ...]  # the .npy files that must be in it, without suffix

    @property
    def tar(self) -> str:
        return f"{self.folder}.tar"

    @property
    def url(self) -> str:
        return f"https://zenodo.org/records/{self.record}/files/{self.tar}"


ARCHIVES = {
    "cifar10-c": PublishedArchive("CIFAR-10-C", 2535967, "56bf5dcef84df0e2308c6dcbcbbd8499", tuple(CIFAR10_C)),
    "cifar100-c": PublishedArchive("CIFAR-100-C", 3555552, "11f0ed0f1191edbf9fa23466ae6021d3", tuple(CIFAR10_C)),
    "cifar10-p": PublishedArchive("CIFAR-10-P", 2535967, "125d6775afc5846ea84584d7524dedff", tuple(CIFAR10_P)),
}


@dataclass(frozen=True)
class Pulled:
    """The folder of a set, and whether it existed before."""

    folder: Path
    already: bool


def pull(name: str, screen: Screen, data_dir: Path | None = None, url: str | None = None) -> Pulled:
    """Bring a published set into `data_dir` (default: the store), as a folder that is there whole or not at all.

    A tar that lies in `data_dir` already, put there by hand say, is used without a network. It is checked against
    the published md5 before anything is unpacked, whichever `url` it came from, and removed afterwards.

    Raises `UserError` for an unknown name, for a folder that is there but not whole, for a download that fails, for a
    wrong md5 (the file is set aside as `.bad`), for a tar that holds more than files and folders, and for a full disk.
    """
    if name not in ARCHIVES:
        raise UserError(f"there is no published set '{name}': {did_you_mean(name, ARCHIVES)}choose {_listed()}")
    archive = ARCHIVES[name]
    place = home() / "data" if data_dir is None else data_dir
    folder, tar = place / archive.folder, place / archive.tar
    if folder.exists():
        missing = [n for n in archive.names if not (folder / f"{n}.npy").is_file()]
        if missing:
            raise UserError(f"{folder} is there, but has no {missing[0]}.npy: move it away and run this again")
        return Pulled(folder, already=True)
    try:
        place.mkdir(parents=True, exist_ok=True)
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
    found = md5(tar)
    if found != archive.md5:
        bad = tar.replace(tar.with_name(tar.name + ".bad"))
        raise UserError(
            f"{tar} has md5 {found}, but {archive.md5} is published, so it was set aside as {bad.name}: "
            "run the command again to fetch it again"
        )


def _unpack(archive: PublishedArchive, tar: Path, folder: Path, screen: Screen) -> None:
    """Unpack beside `folder`, write the checksums, and move the whole into place."""
    scratch = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed; the lock says that none is at work
    try:
        _extract(tar, scratch, screen)
        # Files at the top of the tar would do as well as files in a folder of its name.
        root = scratch / archive.folder if (scratch / archive.folder).is_dir() else scratch
        missing = [n for n in archive.names if not (root / f"{n}.npy").is_file()]
        if missing:
            raise UserError(f"{tar} holds no {archive.folder}/{missing[0]}.npy: it is not the published set")
        files = {path.name: md5(path) for path in sorted(root.glob("*.npy"))}
        text = json.dumps({"archive": archive.tar, "md5": archive.md5, "files": files}, indent=2)
        (root / CHECKSUMS).write_text(text + "\n", encoding="utf-8")
        root.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _extract(tar: Path, into: Path, screen: Screen) -> None:
    into.mkdir()
    try:
        with tarfile.open(tar, mode="r:") as file:
            members = file.getmembers()
            with screen.progress(f"unpacking {tar.name}", len(members), "files") as advance:
                for member in members:
                    file.extract(member, into, filter=_only_files)
                    advance(1, member.name)
    except tarfile.FilterError as error:
        raise UserError(f"{tar} is not safe to unpack: {error}. Fetch it from where it is published") from error
    except tarfile.TarError as error:
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
