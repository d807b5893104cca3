"""Parquet folders, official archives and a web server, all made in the test's own folder."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from stressbench.contracts import Classification, Dataset, InMemory


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """Random pixels, (n, height, width, 3), uint8."""

    def make(n: int, height: int = 8, width: int = 8, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)

    return make


def encode(pixels: np.ndarray | Image.Image, codec: str = "PNG", **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, codec, **options)
    return buffer.getvalue()


@pytest.fixture(name="encode")
def _encode() -> Callable[..., bytes]:
    return encode


@pytest.fixture
def write() -> Callable[..., Path]:
    """Writes one Parquet file of encoded images and labels, as the hub's files are, and returns its path."""

    def make(
        path: Path,
        encoded: Sequence[bytes | None],
        labels: Sequence[Any],
        names: Sequence[str] | None = None,
        columns: tuple[str, str] = ("img", "label"),
        plain: bool = False,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        images: list[Any] = list(encoded) if plain else [{"bytes": b, "path": None} for b in encoded]
        struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({columns[0]: pa.array(images, pa.binary() if plain else struct), columns[1]: pa.array(labels)})
        if names is not None:
            features = {
                columns[0]: {"_type": "Image"},
                columns[1]: {"_type": "ClassLabel", "names": list(names)},
            }
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(table, path)
        return path

    return make


@pytest.fixture
def memory(noise: Callable[..., np.ndarray]) -> Callable[..., Dataset]:
    """A dataset of random images in memory, three classes."""

    def make(n: int = 7, height: int = 8, width: int = 6, seed: int = 0) -> Dataset:
        pixels = torch.from_numpy(noise(n, height, width, seed)).permute(0, 3, 1, 2).contiguous()
        labels = torch.arange(n) % 3
        return Dataset("memory", "test", Classification(3), InMemory(pixels), InMemory(labels), (height, width))

    return make


class Server:
    """Serves `content` at every path; what it does with ranges and connections can be chosen."""

    def __init__(self) -> None:
        self.content = b""
        self.ranges = True
        self.status = 200
        self.break_after: list[int] = []  # one entry a request: bytes sent before the connection is cut
        self.requests: list[str | None] = []  # the Range header of each
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                server.requests.append(asked)
                start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
                if server.status != 200:
                    self.send_error(server.status)
                    return
                if start >= len(server.content) and asked and server.ranges:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(server.content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body = server.content[start:]
                self.send_response(206 if asked and server.ranges else 200)
                if asked and server.ranges:
                    last = len(server.content) - 1
                    self.send_header("Content-Range", f"bytes {start}-{last}/{len(server.content)}")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: server.break_after.pop(0)] if server.break_after else body)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/file.tar"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("stressbench.datasets.download._PAUSE", 0.0)
    running = Server()
    yield running
    running.close()
