"""What the tests of models from elsewhere share."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest


class Hub:
    """A hub on this machine, as far as huggingface_hub needs one to download a file."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, str, str], bytes] = {}  # by repository, revision and name
        self.commits: dict[tuple[str, str], str] = {}  # of revisions
        self.requests: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                path = unquote(urlsplit(self.path).path)
                hub.requests.append(f"{self.command} {path}")
                owner_and_name, _, place = path[1:].partition("/resolve/")
                revision, _, filename = place.partition("/")
                commit = hub.commits.get((owner_and_name, revision))
                body = hub.files.get((owner_and_name, commit or "", filename))
                self.send_response(200 if body is not None else 404)
                if body is None:
                    known = {repository for repository, _ in hub.commits}
                    missing = "Repo" if owner_and_name not in known else "Revision" if commit is None else None
                    self.send_header("X-Error-Code", f"{missing}NotFound" if missing else "EntryNotFound")
                if commit:
                    self.send_header("X-Repo-Commit", commit)
                self.send_header("ETag", f'"{hashlib.sha1(body or b"").hexdigest()}"')
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                if self.command == "GET" and body:
                    self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def push(self, repository: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Make these a repository's files at the head of a branch; returns the commit."""
        content = repr(sorted(files.items())).encode()
        commit = hashlib.sha1(repository.encode() + content).hexdigest()
        self.commits |= {(repository, branch): commit, (repository, commit): commit}
        self.files |= {(repository, commit, name): body for name, body in files.items()}
        return commit

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub that huggingface_hub asks, in this process and in those that it starts, and an empty cache."""
    from huggingface_hub import constants

    server = Hub()
    cache = str(tmp_path / "hub-cache")
    # It reads the variables when it is imported.
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
    for name, value in (("ENDPOINT", server.url), ("HUGGINGFACE_CO_URL_TEMPLATE", template), ("HF_HUB_CACHE", cache),
                        ("HF_HUB_OFFLINE", False)):  # fmt: skip
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HUB_CACHE", cache)
    yield server
    server.close()
