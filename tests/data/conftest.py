"""An upstream on 127.0.0.1 that can misbehave, and a cache of its own for each test."""

import http.server
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass
class Upstream:
    """What the server holds and how it fails; tests change it while it runs."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    """By path, "mirror/file"; anything else is 404."""
    cuts: list[int] = field(default_factory=list)
    """Each cuts one request after so many bytes of its body."""
    ranges: bool = True
    """Whether Range is honoured."""
    pause: float = 0.0
    """Seconds between pieces of 1,000 bytes."""
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range header of each request so far."""


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    state = Upstream()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, asked = self.path.lstrip("/"), self.headers.get("Range")
            state.requests.append((path, asked))
            if path not in state.files:
                self.send_error(404)
                return
            body = state.files[path]
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and state.ranges else 0
            if asked and state.ranges and start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if asked and state.ranges else 200)
            if asked and state.ranges:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            for header in state.headers.items():
                self.send_header(*header)
            self.end_headers()
            body = body[start:]
            if state.cuts:
                body = body[: state.cuts.pop(0)]
            piece = 1000 if state.pause else max(1, len(body))
            try:
                for at in range(0, len(body), piece):
                    self.wfile.write(body[at : at + piece])
                    time.sleep(state.pause)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client gave up, as some tests want
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty user cache, and no data folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("CLAIMWISE_CACHE", str(folder))
    monkeypatch.delenv("CLAIMWISE_DATA", raising=False)
    return folder
