"""Servers on loopback: a real STAC API, a front whose faults the tests set, and an endpoint of tokens."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

RUSTAC = shutil.which("rustac") or str(Path(sys.executable).parent / "rustac")
PAGE = b"<!DOCTYPE html><html><body>Please sign in to the hotel's network.</body></html>"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def stac_api(items: Iterable[Mapping[str, Any]], folder: Path, *, public: str | None = None) -> Iterator[str]:
    """A real STAC API (rustac) over items; gives its URL. ``public``: the address that its own links name."""
    file = folder / f"items-{free_port()}.ndjson"
    file.write_text("".join(json.dumps(item) + "\n" for item in items))
    address = f"127.0.0.1:{free_port()}"
    command = [RUSTAC, "serve", str(file), "--create-collections", "--bind", address, "--addr", public or address]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(f"http://{address}/", process)
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(10)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        assert process.poll() is None, "rustac did not start"
        with contextlib.suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(url):
            return
        time.sleep(0.05)
    raise AssertionError("rustac does not answer")


@dataclass
class Front:
    """A server that hands requests on to another (or answers itself), counts them, and fails when it is told to.

    ``with Front() as front, stac_api(items, folder, public=front.address) as api: front.behind = api``
    """

    behind: str | None = None
    status: int | None = None
    """What it answers instead; ``times`` times."""
    body: bytes = b'{"detail": "trouble"}'
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 10**9
    seconds: float = 0.0
    """Before each answer."""
    answers: dict[str, Any] = field(default_factory=dict)
    """JSON by path: static catalogues, tokens."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path, in order."""
    sent: list[Mapping[str, str]] = field(default_factory=list)
    """Headers that came with them."""

    def __enter__(self) -> Front:
        self.lock, self.released = threading.Lock(), threading.Event()
        self.server = _Server(("127.0.0.1", 0), _handler(self))
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def fail(self, status: int | None, *, times: int = 10**9, body: bytes = b"{}", **headers: str) -> None:
        """From now on answer with a status; None: mend."""
        with self.lock:
            self.status, self.times, self.body = status, times, body
            self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def count(self, path: str) -> int:
        return sum(asked == path for _, asked in self.requests)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of an answer."""
        with self.lock:
            self.requests.append((method, path.partition("?")[0]))
            failing = self.status is not None and self.times > 0
            self.times -= failing
            if failing:
                return self.status or 500, self.body, self.headers
        told = self.answers.get(path.partition("?")[0])
        if told is not None:
            return 200, json.dumps(told() if callable(told) else told).encode(), {}
        if self.behind is None:
            return 404, b"{}", {}
        kind = {"Content-Type": "application/json"} if body else {}
        asked = urllib.request.Request(self.behind + path, data=body or None, headers=kind, method=method)
        try:
            with urllib.request.urlopen(asked) as answer:
                return answer.status, answer.read(), {}
        except urllib.error.HTTPError as error:
            return error.code, error.read(), {}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _handler(front: Front) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with front.lock:
                front.sent.append(dict(self.headers))
            if front.seconds:
                front.released.wait(front.seconds)
            status, answer, headers = front.answer(self.command, self.path, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    return Handler


def token(signature: str, *, seconds: float = 3600) -> dict[str, str]:
    """What Planetary Computer's endpoint answers."""
    expiry = datetime.now(UTC) + timedelta(seconds=seconds)
    return {"msft:expiry": expiry.strftime("%Y-%m-%dT%H:%M:%SZ"), "token": f"se={expiry:%Y%m%d}&sig={signature}"}
