"""Pulling published sets from a web server on this machine, and what can go wrong on the way."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import shutil
import socket
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from stressbench._util.terminal import Screen
from stressbench.datasets import download, pull
from stressbench.datasets.official import CorruptionArchive
from stressbench.datasets.pull import ARCHIVES, PublishedArchive
from stressbench.datasets.trees import TreeArchive
from stressbench.errors import UserError
from stressbench_suites.corruption.engine import CORRUPTIONS, EXTRA_CORRUPTIONS

NAMES = ("fog.npy", "labels.npy")
LABELS = torch.tensor([1, 0])


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


CONTENTS = {
    "X-C/fog.npy": npy(np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)),
    "X-C/labels.npy": npy(np.tile(LABELS.numpy(), 5)),
}


def tar(contents: dict[str, bytes], extra: Sequence[tarfile.TarInfo] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
        for member in extra:
            file.addfile(member)
    return buffer.getvalue()


@pytest.fixture
def publish(server: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Makes the server's content a published set called x-c."""

    def make(content: bytes) -> None:
        server.content = content
        archive = PublishedArchive("X-C", "https://host/X-C.tar", hashlib.md5(content).hexdigest(), NAMES)
        monkeypatch.setitem(ARCHIVES, "x-c", archive)

    make(tar(CONTENTS))
    return make


@pytest.fixture
def fetch(publish: Any, server: Any, tmp_path: Path) -> Callable[..., pull.Pulled]:
    return lambda name="x-c", **options: pull.pull(
        name, Screen(), options.get("data_dir", tmp_path / "data"), options.get("url", server.url)
    )


def left(folder: Path) -> list[str]:
    """What is in a folder, without the lock."""
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


# --- what works -----------------------------------------------------------------------------------------------


def test_fetch_check_and_unpack(fetch: Any, server: Any, tmp_path: Path) -> None:
    assert fetch() == pull.Pulled(tmp_path / "data" / "X-C", already=False)
    assert left(tmp_path / "data") == ["X-C"]
    for name, content in CONTENTS.items():
        assert (tmp_path / "data" / name).read_bytes() == content
    checksums = json.loads((tmp_path / "data" / "X-C" / "checksums.json").read_text())
    assert checksums["files"] == {n.removeprefix("X-C/"): hashlib.md5(c).hexdigest() for n, c in CONTENTS.items()}

    archive = CorruptionArchive(tmp_path / "data" / "X-C", archive=ARCHIVES["x-c"].checksum)
    archive.open([{"corruption": "fog", "severity": 1}], LABELS)
    assert archive.verified is True

    assert fetch() == pull.Pulled(tmp_path / "data" / "X-C", already=True)
    assert len(server.requests) == 1


def test_the_store_is_the_default(fetch: Any, home: Path) -> None:
    assert fetch(data_dir=None).folder == home / "data" / "X-C"


def test_progress_goes_to_stderr(fetch: Any, publish: Any, capsys: pytest.CaptureFixture[str]) -> None:
    publish(tar({**CONTENTS, "X-C/big.npy": bytes(3 << 20)}))
    fetch()
    out, err = capsys.readouterr()
    assert out == ""
    assert "X-C.tar: 3 of 3 MB" in err
    assert "unpacking X-C.tar" in err


def test_goes_on_where_it_stopped(fetch: Any, server: Any, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "X-C.tar.part").write_bytes(server.content[:1000])
    fetch()
    assert server.requests == ["bytes=1000-"]


def test_broken_connections_are_taken_up_again(fetch: Any, server: Any) -> None:
    server.break_after = [700, 800]
    fetch()
    assert server.requests == [None, "bytes=700-", "bytes=1500-"]


def test_a_connection_that_brings_nothing_ends_it(fetch: Any, server: Any, tmp_path: Path) -> None:
    server.break_after = [700, 0]
    with pytest.raises(UserError, match=r"the connection broke .* Run it again to resume"):
        fetch()
    assert (tmp_path / "data" / "X-C.tar.part").read_bytes() == server.content[:700]
    fetch()
    assert server.requests == [None, "bytes=700-", "bytes=700-"]


def test_a_server_without_ranges(fetch: Any, server: Any, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "X-C.tar.part").write_bytes(b"something else" * 9999)
    fetch()
    assert server.requests == ["bytes=139986-"]


@pytest.mark.parametrize("surplus", [b"", b"more"])
def test_nothing_more_to_fetch(fetch: Any, server: Any, tmp_path: Path, surplus: bytes) -> None:
    """The server answers 416: the part is whole, or it is not the beginning of this file at all."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "X-C.tar.part").write_bytes(server.content + surplus)
    fetch()
    assert len(server.requests) == (2 if surplus else 1)


def test_a_tar_put_there_by_hand(fetch: Any, server: Any, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "X-C.tar").write_bytes(server.content)
    fetch()
    assert server.requests == []
    assert left(tmp_path / "data") == ["X-C"]


def test_files_at_the_top_of_the_tar(fetch: Any, publish: Any, tmp_path: Path) -> None:
    publish(tar({name.removeprefix("X-C/"): content for name, content in CONTENTS.items()}))
    fetch()
    assert (tmp_path / "data" / "X-C" / "fog.npy").read_bytes() == CONTENTS["X-C/fog.npy"]


@pytest.mark.parametrize("top", ["blur/", ""])
def test_a_group_of_imagenet_c(server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, top: str) -> None:
    """A tree of images, whether or not its tar holds the group's folder, is read where it was put."""
    image = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 77, np.uint8)).save(image, "PNG")
    name = "n01440764/ILSVRC2012_val_00000293"
    holds = tuple(f"zoom_blur/{severity}" for severity in range(1, 6))
    server.content = tar({f"{top}{cell}/{name}.JPEG": image.getvalue() for cell in holds})
    published = replace(ARCHIVES["imagenet-c-blur"], checksum=hashlib.md5(server.content).hexdigest(), holds=holds)
    monkeypatch.setitem(ARCHIVES, "imagenet-c-blur", published)
    for already in (False, True):
        pulled = pull.pull("imagenet-c-blur", Screen(), tmp_path, server.url)
        assert pulled == pull.Pulled(tmp_path / "ImageNet-C" / "blur", already)
    assert left(tmp_path) == ["ImageNet-C"]
    assert left(tmp_path / "ImageNet-C" / "blur") == ["zoom_blur"]
    archive = TreeArchive(tmp_path / "ImageNet-C", [name], (8, 8))
    condition = {"corruption": "zoom_blur", "severity": 3}
    archive.open([condition], torch.tensor([0]))
    assert archive.read(condition, 0, 1).unique().tolist() == [77]


def test_a_compressed_tar_with_a_sha256(server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = gzip.compress(tar({f"v2/{label}/a.jpeg": bytes(9000) for label in range(3)}))
    for content, why in ((whole, None), (whole[:-20], "is not a whole tar"), (gzip.compress(b"no tar"), "whole tar")):
        server.content = content
        archive = PublishedArchive("v2", "https://host/v2.tar.gz", hashlib.sha256(content).hexdigest(), ("0", "2"))
        monkeypatch.setitem(ARCHIVES, "v2", archive)
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        if why is None:
            folder = pull.pull("v2", Screen(), tmp_path / "data", server.url).folder
            assert (folder / "2" / "a.jpeg").read_bytes() == bytes(9000)
            assert left(folder) == ["0", "1", "2"]  # of images there are no checksums to write
            continue
        with pytest.raises(UserError, match=why):
            pull.pull("v2", Screen(), tmp_path / "data", server.url)
    (tmp_path / "data" / "v2.tar.gz").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"has sha256 \w+, but \w{64} is published"):
        pull.pull("v2", Screen(), tmp_path / "data", server.url)


def test_ctrl_c_keeps_what_came(fetch: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Impatient(Screen):
        def progress(self, *_: Any) -> Any:
            raise KeyboardInterrupt

    (tmp_path / "data").mkdir()
    part = tmp_path / "data" / "X-C.tar.part"
    part.write_bytes(server.content[:1000])
    with pytest.raises(KeyboardInterrupt):
        pull.pull("x-c", Impatient(), tmp_path / "data", server.url)
    assert part.read_bytes() == server.content[:1000]
    fetch()


def test_left_by_a_killed_process(fetch: Any, tmp_path: Path) -> None:
    (tmp_path / "data" / ".X-C.partial" / "X-C").mkdir(parents=True)
    fetch()
    assert left(tmp_path / "data") == ["X-C"]


def test_two_at_once(fetch: Any, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with FileLock(tmp_path / "data" / ".X-C.tar.lock"), pytest.raises(UserError, match="another process"):
        fetch()


def test_ctrl_c_while_unpacking(fetch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pull, "_only_files", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch()
    assert left(tmp_path / "data") == ["X-C.tar"]
    fetch()
    assert left(tmp_path / "data") == ["X-C"]


# --- what is refused ------------------------------------------------------------------------------------------


def test_a_wrong_checksum(fetch: Any, server: Any, tmp_path: Path) -> None:
    good, server.content = server.content, b"<html>Please log in</html>"
    with pytest.raises(UserError, match=r"has md5 \w+, but \w+ is published, .* set aside as X-C\.tar\.bad"):
        fetch()
    assert left(tmp_path / "data") == ["X-C.tar.bad"]
    server.content = good
    fetch()


def test_an_unknown_name(fetch: Any) -> None:
    with pytest.raises(UserError, match="no published set 'cifar10c': did you mean 'cifar10-c'"):
        fetch("cifar10c")


def test_the_published_addresses() -> None:
    assert ARCHIVES["cifar100-c"].url == "https://zenodo.org/records/3555552/files/CIFAR-100-C.tar"
    assert ARCHIVES["cifar10-p"].checksum == "125d6775afc5846ea84584d7524dedff"
    assert ARCHIVES["imagenet-c-blur"].url == "https://zenodo.org/records/2235448/files/blur.tar"
    groups = [name for name in ARCHIVES if name.startswith("imagenet-c-")]
    cells = [cell for name in groups for cell in ARCHIVES[name].holds]
    assert {cell.partition("/")[0] for cell in cells} == {*CORRUPTIONS, *EXTRA_CORRUPTIONS}
    assert len(cells) == len(set(cells)) == 19 * 5
    assert [name for name, archive in ARCHIVES.items() if archive.algorithm == "sha256"] == ["imagenet-v2"]


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_server_that_refuses(fetch: Any, server: Any, status: int, tmp_path: Path) -> None:
    server.status = status
    with pytest.raises(UserError, match=f"answers {status}.*--url.*{tmp_path / 'data' / 'X-C.tar'} by hand"):
        fetch()


def test_no_network(fetch: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        started = time.monotonic()
        with pytest.raises(UserError, match=r"could not be fetched: .*refused.* by hand"):
            fetch(url=f"http://127.0.0.1:{taken.getsockname()[1]}/X-C.tar")
    assert time.monotonic() - started < 5


def test_a_server_that_says_nothing(fetch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_PATIENCE", 0.1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(UserError, match="timed out"):
            fetch(url=f"http://127.0.0.1:{silent.getsockname()[1]}/X-C.tar")


def test_a_server_that_sends_a_byte_at_a_time_is_given_up(
    fetch: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_PAUSE", 0.01)
    monkeypatch.setattr(download, "_WINDOW", 0.1)
    server.break_after = [1] * len(server.content)
    with pytest.raises(UserError, match=r"it sent \d+ bytes in 0 seconds\. Run it again to resume"):
        fetch()
    assert len(server.requests) < 50
    assert (tmp_path / "data" / "X-C.tar.part").read_bytes() == server.content[: len(server.requests)]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/X-C.tar", "X-C.tar"])
def test_only_web_addresses(fetch: Any, url: str) -> None:
    with pytest.raises(UserError, match="not a web address"):
        fetch(url=url)


@pytest.mark.parametrize("url", ["http://", "http://127.0.0.1:port/x", "http://127.0.0.1/ä x"])
def test_addresses_that_are_none(fetch: Any, url: str) -> None:
    with pytest.raises(UserError, match="could not be fetched"):
        fetch(url=url)


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "evil",
    [
        member("../outside.npy"),
        member("X-C/../../outside.npy"),
        member("/tmp/stressbench-outside.npy"),
        member("X-C/link.npy", tarfile.SYMTYPE, "/etc/passwd"),
        member("X-C/link.npy", tarfile.SYMTYPE, "fog.npy"),
        member("X-C/link.npy", tarfile.LNKTYPE, "X-C/fog.npy"),
        member("X-C/device", tarfile.CHRTYPE),
        member("X-C/pipe", tarfile.FIFOTYPE),
    ],
)
def test_evil_tars(fetch: Any, publish: Any, tmp_path: Path, evil: tarfile.TarInfo) -> None:
    publish(tar(CONTENTS, [evil]))
    with pytest.raises(UserError, match="not safe to unpack"):
        fetch()
    assert left(tmp_path / "data") == ["X-C.tar"]
    assert left(tmp_path) == ["data"]
    assert not Path("/tmp/stressbench-outside.npy").exists()


@pytest.mark.parametrize("content", [b"no tar", tar(CONTENTS)[:20_000], tar({"X-C/fog.npy": b""})])
def test_tars_that_are_not_the_set(fetch: Any, publish: Any, tmp_path: Path, content: bytes) -> None:
    publish(content)
    with pytest.raises(UserError, match=r"not a whole tar|holds no X-C/labels\.npy"):
        fetch()
    assert left(tmp_path / "data") == ["X-C.tar"]


def test_a_folder_that_is_not_whole(fetch: Any, tmp_path: Path) -> None:
    (tmp_path / "data" / "X-C").mkdir(parents=True)
    (tmp_path / "data" / "X-C" / "fog.npy").touch()
    with pytest.raises(UserError, match=r"has no labels\.npy: move it away"):
        fetch()


def test_too_little_room(fetch: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(UserError, match=r"no space left in .*--data-dir"):
        fetch()


def test_the_disk_fills_up(fetch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "copyfileobj", full)
        with pytest.raises(UserError, match="no space left"):
            fetch()
    assert left(tmp_path / "data") == ["X-C.tar"]
    fetch()


def test_a_folder_that_cannot_be_made(fetch: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        fetch(data_dir=tmp_path / "file")
