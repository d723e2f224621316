"""Bytes of files behind URLs: range requests that are checked, tried again where that helps, and explained.

What comes back is what was asked for: a status of 206 whose ``Content-Range`` and length are those of the request. All
else is an error, because a tile from another place of the file may be decoded into pixels without complaint.
"""

from __future__ import annotations

import os
import random
import re
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from urllib.parse import urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

__all__ = ["PATIENCE", "Bytes", "Fault", "Patience", "fetch", "without_query"]

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_CHUNK = 2**18


@dataclass(frozen=True)
class Patience:
    """How long a read is tried."""

    seconds: float = 20.0
    """After so long no further attempt begins; nor is there a wait that would end later."""
    first_wait: float = 0.25
    """Before the second attempt; doubled each time, and shortened by up to a half at random."""
    attempts: int = 6
    connect: float = 5.0
    """Seconds for a connection."""
    silence: float = 10.0
    """Seconds without a byte."""
    slowest: float = 50_000.0
    """Bytes a second below which a body that has taken longer than ``silence`` is given up."""


PATIENCE = Patience()
_chance = random.Random()  # its own: a seed that the user sets is neither used up nor makes clients march in step


@dataclass(frozen=True)
class Bytes:
    """A part of a file."""

    start: int
    content: bytes
    size: int
    """Of the whole file."""
    tag: str
    """The server's name of this version of the file; empty where it has none."""


class Fault(OSError):  # noqa: N818 -- it is told as a ProviderError
    """Why bytes could not be had: ``reason`` and ``remedy`` for a message, and whether trying again may help."""

    def __init__(self, reason: str, remedy: str, *, again: bool = False, wait: float | None = None) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason, self.remedy, self.again, self.wait = reason, remedy, again, wait
        self.refused = False


def without_query(url: str) -> str:
    """Return the URL without what may be a signature or a login."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def fetch(
    url: str,
    start: int,
    stop: int,
    *,
    patience: Patience = PATIENCE,
    refresh: Callable[[], str] | None = None,
) -> Bytes:
    """Return the bytes ``start`` to ``stop`` (excluded; less where the file ends before) of the file behind a URL.

    Parameters
    ----------
    url
        ``http`` or ``https``.
    start, stop
        Offsets.
    patience
        How long it is tried.
    refresh
        Returns the URL signed anew, for when it is refused once.

    Raises
    ------
    Fault
        If the bytes cannot be had: after several attempts where the server is overloaded or the connection fails, at
        once where another attempt would find the same.
    """
    begun = time.monotonic()
    attempt = 0
    while True:
        attempt += 1
        try:
            return _attempt(url, start, stop, patience)
        except Fault as fault:
            if fault.refused and refresh is not None:
                url, refresh = refresh(), None
                continue
            wait = _wait(fault, attempt, patience)
            late = time.monotonic() - begun + wait > patience.seconds
            if not fault.again or attempt >= patience.attempts or late:
                tried = f" ({attempt} attempts)" if attempt > 1 else ""
                told = f" and asks to wait {fault.wait:.0f} s" if fault.again and fault.wait else ""
                raise Fault(f"{fault.reason}{told}{tried}", fault.remedy) from fault
        time.sleep(wait)


def _wait(fault: Fault, attempt: int, patience: Patience) -> float:
    """Seconds before the next attempt: what the server asks for, or ever longer ones."""
    own = patience.first_wait * 2.0 ** (attempt - 1) * (1 - 0.5 * _chance.random())
    return own if fault.wait is None else max(fault.wait, own)


def _attempt(url: str, start: int, stop: int, patience: Patience) -> Bytes:
    """Ask once, and check the answer."""
    headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
    response = None
    try:
        response = _client(urlsplit(url).hostname or "", urlsplit(url).scheme).request(
            "GET",
            url,
            headers=headers,
            preload_content=False,
            decode_content=False,
            timeout=urllib3.Timeout(connect=patience.connect, read=patience.silence),
            retries=urllib3.Retry(None, connect=0, read=0, redirect=4, status=0, other=0, raise_on_status=False),
        )
        found = _range_of(response, start, stop)
        content = _body(response, patience)
        if len(content) != found[1] - found[0]:
            raise _cut(f"{len(content)} of {found[1] - found[0]} bytes came")
        response.release_conn()
        whole, response = response, None
        return Bytes(start, content, found[2], whole.headers.get("ETag", ""))
    except (HTTPError, OSError, ValueError) as error:
        raise error if isinstance(error, Fault) else _translated(error) from error
    finally:
        if response is not None:
            response.close()  # what is left of the body must not be taken for the next answer


def _body(response: urllib3.BaseHTTPResponse, patience: Patience) -> bytes:
    """The whole body, unless it comes too slowly."""
    begun, parts, have = time.monotonic(), list[bytes](), 0
    while chunk := response.read1(_CHUNK):
        parts.append(chunk)
        have += len(chunk)
        passed = time.monotonic() - begun
        if passed > patience.silence and have < passed * patience.slowest:
            raise Fault(f"only {have / passed / 1000:.3g} kB/s arrive", "try again on a faster connection", again=True)
    return b"".join(parts)


def _range_of(response: urllib3.BaseHTTPResponse, start: int, stop: int) -> tuple[int, int, int]:
    """Start and stop of the body and the file's size, as the headers tell, if they are what was asked."""
    status = response.status
    if status != 206:
        raise _refusal(response)
    said = response.headers.get("Content-Range", "")
    found = _RANGE.fullmatch(said.strip())
    encoding = response.headers.get("Content-Encoding", "identity")
    if found is None or encoding != "identity":
        raise _wrong(f"it answers a range request with Content-Range {said!r}, Content-Encoding {encoding!r}")
    first, end, size = int(found[1]), int(found[2]) + 1, int(found[3])
    if first != start or end != min(stop, size):
        raise _wrong(f"asked for bytes {start}-{min(stop, size) - 1} it answers with {first}-{end - 1}")
    return first, end, size


def _wrong(reason: str) -> Fault:
    return Fault(
        reason, "the server, or a proxy on the way, does not keep to HTTP ranges: use another service or local files"
    )


def _cut(reason: str) -> Fault:
    return Fault(f"the connection was cut ({reason})", "check the network, or try again later", again=True)


def _refusal(response: urllib3.BaseHTTPResponse) -> Fault:
    """What a status other than 206 means."""
    status = response.status
    kind = response.headers.get("Content-Type", "")
    if status in (200, 203) and "html" in kind:
        return Fault(
            "a web page came in place of the file",
            "a login page or a proxy answers here: sign in to the network, or set HTTPS_PROXY",
        )
    if status == 200:
        return _wrong("it sends the whole file for a range of it")
    if status in (401, 403):
        fault = Fault(
            f"access is refused (HTTP {status})",
            "the URL's signature has expired or the file needs an account: search anew, or use another service",
        )
        fault.refused = True
        return fault
    if status in (404, 410):
        return Fault(
            f"the file does not exist (HTTP {status})",
            "the catalogue lists what the archive has moved or removed: leave the scene out, or use another service",
        )
    if status == 416:
        return Fault("the file is shorter than its own header says (HTTP 416)", "it is damaged: leave the scene out")
    if status in _AGAIN:
        trouble = "the service asks for fewer requests" if status == 429 else "the service is in trouble"
        wait = _retry_after(response.headers.get("Retry-After"))
        return Fault(f"{trouble} (HTTP {status})", "try again later, or use another service", again=True, wait=wait)
    return Fault(f"it answers with HTTP {status}", "use another service, or report this to it")


def _retry_after(said: str | None) -> float | None:
    """Seconds to wait of a ``Retry-After`` header: a number or a date (RFC 9110, 10.2.3)."""
    if said is None:
        return None
    if said.strip().isdigit():
        return float(said)
    try:
        when = parsedate_to_datetime(said)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _translated(error: Exception) -> Fault:
    """What an error of the transport means."""
    cause = getattr(error, "reason", None) or error
    if isinstance(cause, ProxyError):
        return Fault("the proxy cannot be reached", "correct HTTPS_PROXY, or use local files")
    if isinstance(cause, NameResolutionError):  # a kind of NewConnectionError
        return Fault(
            "the server's name is not known here (DNS)", "check the network and HTTPS_PROXY, or use local files"
        )
    if isinstance(cause, NewConnectionError):  # a kind of ConnectTimeoutError
        return Fault("the server cannot be reached", "check the network and HTTPS_PROXY, or use local files")
    if isinstance(cause, SSLError | ssl.SSLError):
        return Fault(f"the secure connection fails ({cause})", "check the clock, SSL_CERT_FILE and the proxy")
    if isinstance(cause, ConnectTimeoutError | ReadTimeoutError | TimeoutError):
        return Fault("the server does not answer in time", "try again later, or use another service", again=True)
    if isinstance(cause, ProtocolError | ConnectionError):
        return _cut(type(cause).__name__)
    return Fault(f"it cannot be asked ({type(cause).__name__}: {cause})", "check the URL and the network")


_clients = threading.Lock()


_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def _client(host: str, scheme: str) -> urllib3.PoolManager:
    """Connections that are kept open, through the proxy that the environment names for the host."""
    named = tuple(os.environ.get(name.upper()) or os.environ.get(name) for name in _PROXIES)
    with _clients:
        return _pool(_proxy(host, scheme, named))


@lru_cache(maxsize=256)
def _proxy(host: str, scheme: str, named: tuple[str | None, ...]) -> str | None:
    """The proxy for a host; ``named`` is what the environment said when it was asked, which takes long to read."""
    return None if not host or urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(scheme)


def _forget() -> None:
    """A forked process must not speak over the connections of its parent."""
    global _clients
    _clients = threading.Lock()
    _pool.cache_clear()


@lru_cache(maxsize=8)
def _pool(proxy: str | None) -> urllib3.PoolManager:
    return (
        urllib3.ProxyManager(proxy, num_pools=16, maxsize=64)
        if proxy
        else urllib3.PoolManager(num_pools=16, maxsize=64)
    )


os.register_at_fork(after_in_child=_forget)
