"""A file server with range requests on loopback, whose faults, delays and counters the tests set."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = b"<!DOCTYPE html><html><body>Please sign in to the hotel's network.</body></html>"


@dataclass
class Fault:
    """What goes wrong with requests of a path, the first ``times`` of them that match."""

    kind: str
    """``status``; ``cut``: the connection closes in the body; ``short``: a body shorter than asked, said honestly;
    ``shifted``: the right length from another place, said honestly; ``lying``: the same under the header of what was
    asked; ``whole``: 200 with the whole file; ``unsized``: 206 without Content-Range; ``slow``: the body by drops;
    ``html``: 200 with a page; ``swapped``: another total length, as of a replaced file; ``hang``: no answer."""
    status: int = 503
    times: int = 10**9
    path: str = ""
    """A regular expression; empty: every path."""
    headers: dict[str, str] = field(default_factory=dict)
    from_byte: int = 0
    """Only requests that start at this byte or behind it: the tiles, not the header."""
    seconds: float = 0.0
    """Between the drops of ``slow``, or of ``hang``."""


@dataclass(frozen=True)
class Request:
    """What was asked and answered."""

    path: str
    start: int | None
    end: int | None
    """Excluded."""
    status: int
    sent: int
    at: float


class RangeServer:
    """Serve a folder: ``with RangeServer(folder) as server: server.url("a.tif")``.

    Parameters
    ----------
    folder
        What is served.
    latency
        Seconds before each answer.
    signature
        Where given, requests without ``?sig=signature`` get 403, as those with an expired token.
    resolve
        From a path to a file, where that is not the folder's own.
    """

    def __init__(
        self,
        folder: Path,
        *,
        latency: float = 0.0,
        signature: str | None = None,
        resolve: Callable[[str], Path] | None = None,
    ) -> None:
        self.folder, self.latency, self.signature = folder, latency, signature
        self.resolve = resolve or (lambda path: folder / path)
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.flying = self.most_flying = 0
        self.lock = threading.Lock()
        self.released = threading.Event()
        self.server = _Server(("127.0.0.1", 0), _handler(self))
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> RangeServer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.close_connections()
        self.server.server_close()
        self.thread.join()

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def url(self, name: str, **query: str) -> str:
        tail = "&".join(f"{key}={value}" for key, value in query.items())
        return f"{self.root}/{name}" + (f"?{tail}" if tail else "")

    def break_(self, kind: str, **more: Any) -> Fault:
        """Add a fault; the one added first counts first."""
        fault = Fault(kind, **more)
        with self.lock:
            self.faults.append(fault)
        return fault

    def mend(self) -> None:
        with self.lock:
            self.faults.clear()

    def reset(self) -> None:
        with self.lock:
            self.requests.clear()
            self.most_flying = self.flying

    @property
    def sent(self) -> int:
        """Bytes of all bodies."""
        return sum(request.sent for request in self.requests)

    def fault_of(self, path: str, start: int) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.path, path) and start >= fault.from_byte:
                    fault.times -= 1
                    return fault
        return None

    @contextlib.contextmanager
    def aloft(self) -> Any:
        with self.lock:
            self.flying += 1
            self.most_flying = max(self.most_flying, self.flying)
        try:
            yield
        finally:
            with self.lock:
                self.flying -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, *args: Any) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(*args)

    def get_request(self) -> Any:
        connection, address = super().get_request()
        self.connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that went away is no fault of the server
            super().handle_error(request, client_address)


def _handler(served: RangeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 1 << 16

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            with served.aloft():
                self.answer()
                self.wfile.flush()

        def count(self, status: int, start: int | None, end: int | None, sent: int) -> None:
            """Before the body leaves: who has it may read the counters."""
            path = unquote(urlsplit(self.path).path).lstrip("/")
            with served.lock:
                served.requests.append(Request(path, start, end, status, sent, time.time()))

        def answer(self) -> None:
            if served.latency:
                time.sleep(served.latency)
            parts = urlsplit(self.path)
            path = unquote(parts.path).lstrip("/")
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            first = int(asked[1]) if asked else 0
            fault = served.fault_of(path, first)
            if fault is not None and fault.kind == "hang":
                self.count(0, first, None, 0)
                served.released.wait(fault.seconds)
                self.close_connection = True
                return
            if fault is not None and fault.kind == "status":
                return self.plain(fault.status, b"trouble", fault.headers)
            if fault is not None and fault.kind == "html":
                return self.plain(200, PAGE, {"Content-Type": "text/html"})
            if served.signature is not None and parse_qs(parts.query).get("sig") != [served.signature]:
                return self.plain(403, b"<Error><Code>AuthenticationFailed</Code></Error>", {})
            file = served.resolve(path)
            if not file.is_file():
                return self.plain(404, b"no such key", {})
            return self.part(file, asked, fault)

        def plain(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.count(status, None, None, len(body) if self.command != "HEAD" else 0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def part(self, file: Path, asked: re.Match[str] | None, fault: Fault | None) -> None:
            kind = fault.kind if fault is not None else ""
            size = file.stat().st_size
            if asked is None or kind == "whole":
                return self.plain(200, file.read_bytes(), {"Accept-Ranges": "bytes"})
            start = int(asked[1])
            end = min(int(asked[2]) + 1 if asked[2] else size, size)
            if start >= size:
                return self.plain(416, b"", {"Content-Range": f"bytes */{size}"})
            moved = (start + end) // 2 - start if kind in ("shifted", "lying") else 0
            with file.open("rb") as stream:
                stream.seek((start + moved) % size)
                body = stream.read(end - start)
            body += b"\x00" * (end - start - len(body))
            if kind == "short":
                body = body[: len(body) // 2]
            shown = start + moved if kind == "shifted" else start
            self.send_response(206)
            if kind != "unsized":
                total = size + 1000 if kind == "swapped" else size
                self.send_header("Content-Range", f"bytes {shown}-{shown + len(body) - 1}/{total}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if kind == "cut":
                self.close_connection = True
                body = body[: len(body) // 2]
            self.count(206, start, end, len(body))
            if kind == "slow" and fault is not None:
                self.drip(body, fault.seconds)
            elif self.command != "HEAD":
                self.wfile.write(body)

        def drip(self, body: bytes, seconds: float) -> None:
            for at in range(0, len(body), max(1, len(body) // 8)):
                self.wfile.write(body[at : at + max(1, len(body) // 8)])
                self.wfile.flush()
                if served.released.wait(seconds):
                    return

    return Handler


if __name__ == "__main__":  # for benchmarks: a process of its own shares no interpreter lock with its client
    place = Path(sys.argv[1])

    def file_of(path: str) -> Path:
        """A file of the folder, also by an address that says more than its name."""
        return place / path if (place / path).is_file() else place / Path(path).name

    with RangeServer(place, latency=float(sys.argv[2]), resolve=file_of) as running:
        print(running.root, flush=True)
        for line in sys.stdin:
            print(len(running.requests), running.sent, flush=True)
            if line.strip() == "reset":
                running.reset()
