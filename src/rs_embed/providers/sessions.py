"""HTTP sessions to services: few, short attempts, the environment's proxy and certificates, and errors in words."""

from __future__ import annotations

import os
import re
import time
from typing import Any, Self

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from rs_embed.core.errors import ProviderError

__all__ = ["LONGEST_WAIT", "TIMEOUT", "ServiceError", "open_session", "trouble"]

TIMEOUT = (5.0, 20.0)
"""Seconds to connect, and between bytes of an answer."""
LONGEST_WAIT = 10.0
"""Seconds that a ``Retry-After`` may make us wait."""
SLOWEST = 10_000.0
"""Bytes a second below which an answer that takes longer than the second of `TIMEOUT` is given up."""
_WORTH_RETRYING = (429, 500, 502, 503, 504)
_KEEPING = {301: 308, 302: 307}
"""Redirections, and those that say the same but keep method and body (RFC 9110, 15.4)."""


class ServiceError(ProviderError):
    """A service does not work at all, whatever is asked of it."""


class _Patience(Retry):
    """Waits as long as the server asks, within reason; what did not answer in time is not asked again."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: Any = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: Any = None,
    ) -> Self:
        """Return the attempts that are left."""
        if isinstance(error, urllib3.exceptions.ReadTimeoutError):
            raise error
        return super().increment(method, url, response, error, _pool, _stacktrace)

    def get_retry_after(self, response: Any) -> float | None:
        """Return the seconds that the answer asks for; None where it does not say them."""
        try:
            told = super().get_retry_after(response)
        except InvalidHeader:
            told = None
        return None if told is None else min(float(told), LONGEST_WAIT)


class _Adapter(HTTPAdapter):
    """Trusts the authorities of SSL_CERT_FILE, which requests itself does not, and goes on searching where it is sent.

    A search by POST that is sent elsewhere with 301 or 302 would arrive there as a GET without what is searched, and
    its answer would look like one.
    """

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send a request."""
        trusted = os.environ.get("SSL_CERT_FILE") if verify is True else None
        response = super().send(request, stream, timeout, trusted or verify, cert, proxies)
        if request.method == "POST":
            response.status_code = _KEEPING.get(response.status_code, response.status_code)
        return _whole(response) if not stream else response


def _whole(response: requests.Response) -> requests.Response:
    """Read an answer's body, unless it comes in drops: `TIMEOUT` is between bytes."""
    begun, parts, have = time.monotonic(), list[bytes](), 0
    try:
        while part := response.raw.read1(2**16, decode_content=True):
            parts.append(part)
            have, passed = have + len(part), time.monotonic() - begun
            if passed > TIMEOUT[1] and have < passed * SLOWEST:
                raise requests.exceptions.ReadTimeout(f"timed out: only {have / passed / 1000:.3g} kB/s arrive")
    except urllib3.exceptions.HTTPError as error:
        raise requests.exceptions.ConnectionError(error, request=response.request) from error
    finally:
        response.raw.release_conn() if response.raw.closed else response.close()
    response._content = b"".join(parts)
    return response


def open_session(*, attempts: int = 3) -> requests.Session:
    """Return a session that honours HTTPS_PROXY, SSL_CERT_FILE and Retry-After.

    Parameters
    ----------
    attempts
        How often a request is sent that is refused for a while (429) or fails on the server (5xx); one that does not
        reach the server, or is cut off, is sent twice.
    """
    retry = _Patience(
        total=attempts - 1,
        connect=1,
        read=1,
        status=attempts - 1,
        status_forcelist=_WORTH_RETRYING,
        allowed_methods=None,  # a search by POST changes nothing
        backoff_factor=0.3,
        backoff_jitter=0.3,
        raise_on_status=False,
    )
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter(max_retries=retry, pool_maxsize=16))
    return session


def trouble(what: str, status: int | None, cause: BaseException | None, *, remedy: str) -> ProviderError:
    """Return the error for a request that failed: what, why and what to do.

    Parameters
    ----------
    what
        Service and request, as the subject of a sentence.
    status
        HTTP status of the answer; None: there was none, or it is not what it should be.
    cause
        What was raised.
    remedy
        What else would give the same.
    """
    if status is not None:
        return _refusal(what, status, remedy)
    if isinstance(cause, ValueError) and not isinstance(cause, requests.exceptions.RequestException):
        return ServiceError(
            f"{what} did not answer with JSON but with something else, such as the login page of a network; "
            f"open the address in a browser, or {remedy}"
        )
    said = _without_queries(str(cause))
    network = f"check the network (behind a proxy, set HTTPS_PROXY), or {remedy}"
    if isinstance(cause, requests.exceptions.ProxyError):
        return ServiceError(f"{what} cannot be reached through the proxy ({said}); correct HTTPS_PROXY, or {remedy}")
    if "NameResolution" in said or "getaddrinfo" in said or "Name or service not known" in said:
        return ServiceError(f"{what} cannot be reached: its name is not known here (DNS); {network}")
    if isinstance(cause, requests.exceptions.SSLError) or "CA certificate bundle" in said:
        return ServiceError(
            f"{what} has a certificate that is not trusted here; name the authority's file in SSL_CERT_FILE, "
            f"or {remedy} ({said})"
        )
    if isinstance(cause, requests.exceptions.Timeout) or "timed out" in said:
        return ServiceError(f"{what} did not answer in time; try again later, or {remedy}")
    return ServiceError(f"{what} cannot be reached ({said}); {network}")


def _refusal(what: str, status: int, remedy: str) -> ProviderError:
    if status in (401, 403):
        return ProviderError(f"{what} was refused ({status}): it needs an account or is not open; {remedy}")
    if status == 404:
        return ProviderError(f"{what} was not found (404): the address or the collection does not exist; {remedy}")
    if status == 429:
        return ServiceError(f"{what} was refused for now (429, too many requests); try again later, or {remedy}")
    if status >= 500:
        return ServiceError(f"{what} failed on the server ({status}); try again later, or {remedy}")
    return ProviderError(f"{what} was refused ({status}); {remedy}")


def _without_queries(said: str) -> str:
    """A message without signatures and the innards of libraries, on one line."""
    cut = re.sub(r"\?\S+", "", said)
    inner = re.search(r"Caused by \w+\((?:.*?: )?(.*)\)\)?$", cut)
    return " ".join((inner[1] if inner else cut).strip("\"')(").split())[:200]
