"""Resumable downloads over HTTP: an incomplete file is kept as `.part` beside the target."""

from __future__ import annotations

import errno
import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path

from stressbench._util.terminal import Screen
from stressbench.errors import UserError

_PATIENCE = 15.0  # seconds without an answer or a byte until the server counts as out of reach
_WINDOW, _LEAST = 60.0, 1 << 16  # a server that sends fewer bytes in so many seconds counts as out of reach, too
_BLOCK = 1 << 20
_PAUSE = 1.0  # seconds before a broken connection is taken up again


def download(url: str, target: Path, screen: Screen) -> None:
    """Download `url` to `target`, resuming from `target` + ".part" if that exists.

    A broken connection is retried as long as each attempt receives data, and all together some KB a minute. Received
    data is kept, also after Ctrl-C; the caller checks whether it is the right file.

    Raises `UserError` if the server cannot be reached or refuses, and for a full disk.
    """
    if not url.startswith(("https://", "http://")):
        raise UserError(f"'{url}' is not a web address: --url takes one that starts with https:// or http://")
    part = target.with_name(target.name + ".part")
    pace = _Pace()
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _attempt(url, part, screen, pace)
            break
        except urllib.error.HTTPError as error:
            raise _failed(url, target, f"the server answers {error.code} {error.reason}") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise disk_full(part.parent) from error
            if isinstance(error, _TooSlow) or not part.exists() or part.stat().st_size <= before:
                why = error.reason if isinstance(error, urllib.error.URLError) else error
                raise _failed(url, target, str(why) or type(error).__name__) from error
            time.sleep(_PAUSE)
    part.rename(target)


def disk_full(folder: Path) -> UserError:
    """The error for a disk without room."""
    return UserError(f"no space left in {folder}: free some, or choose another place with --data-dir, and run it again")


def _failed(url: str, target: Path, why: str) -> UserError:
    return UserError(
        f"{url} could not be fetched: {why}. Run it again to resume where it stopped, name a mirror with --url, or put "
        f"the file at {target} by hand and run it again"
    )


class _TooSlow(OSError):
    """The server sends next to nothing."""


class _Pace:
    """Raises `_TooSlow` where fewer than `_LEAST` bytes come in `_WINDOW` seconds."""

    def __init__(self) -> None:
        self._since, self._received = time.monotonic(), 0

    def add(self, received: int) -> None:
        self._received += received
        if (seconds := time.monotonic() - self._since) > _WINDOW:
            if self._received < _LEAST:
                raise _TooSlow(f"it sent {self._received} bytes in {seconds:.0f} seconds")
            self._since, self._received = time.monotonic(), 0


def _attempt(url: str, part: Path, screen: Screen, pace: _Pace) -> None:
    """One connection; returns when `part` is as long as the server says, and raises OSError when it broke off."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_PATIENCE)
    except urllib.error.HTTPError as error:
        with error:
            whole = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
            if error.code != 416 or not have:
                raise
            if whole and int(whole[1]) == have:
                return
        # The server has less than is here, so this is not the beginning of its file.
        part.unlink()
        return _attempt(url, part, screen, pace)
    with response:
        resumed = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if not resumed or int(resumed[1]) != have:
            have = 0  # it sends the file from its beginning
        length = int(response.headers.get("Content-Length") or 0)
        if length > shutil.disk_usage(part.parent).free:
            raise OSError(errno.ENOSPC, "no space left")
        _receive(response, part, have, length, screen, pace)


def _receive(
    response: http.client.HTTPResponse, part: Path, have: int, length: int, screen: Screen, pace: _Pace
) -> None:
    title = f"{part.name.removesuffix('.part')}{f' from {have >> 20:,} MB on' if have else ''}"
    received = 0
    with (
        part.open("r+b" if have else "wb") as file,
        screen.progress(title, length >> 20, "MB") as advance,
    ):
        file.seek(have)
        while block := response.read1(_BLOCK):  # what is there, however little
            file.write(block)
            pace.add(len(block))
            before, received = received, received + len(block)
            if more := (received >> 20) - (before >> 20):
                advance(more, "fetching")
    if received < length:
        raise ConnectionResetError(f"the connection broke {length - received} bytes before the end")
