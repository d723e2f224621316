"""Requests to Earth Engine's REST API: one session for all threads, few at a time, and failures in words.

The API: https://developers.google.com/earth-engine/reference/rest (``value:compute``, ``image:computePixels``).
"""

from __future__ import annotations

import io
import re
import struct
import threading
import tokenize
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import requests
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from urllib3.exceptions import ProtocolError

from rs_embed.core.errors import ProviderError
from rs_embed.providers.sessions import ServiceError, open_session, trouble

if TYPE_CHECKING:
    from google.auth.exceptions import GoogleAuthError

__all__ = [
    "MOST_BYTES",
    "MOST_PIXELS",
    "ONE",
    "URL",
    "EarthEngineSession",
    "TooMuchError",
    "expired",
    "pixel_grid",
    "unexpected",
]

URL = "https://earthengine.googleapis.com"
MOST_BYTES = 48 * 2**20
"""Uncompressed bytes of one request (reference of ``computePixels``)."""
MOST_PIXELS = 32768
"""Pixels along a side of one request (the same)."""
AT_ONCE = 8
"""Requests in flight of a session; projects have 20 to 40 (Earth Engine quotas)."""
_TIMEOUT = (5.0, 330.0)
"""Seconds; the server ends a computation itself after five minutes."""
ONE = {"result": "0", "values": {"0": {"constantValue": 1}}}
"""The least expression."""
_HERE = "use backend='auto'"

Expression = Mapping[str, Any]


class TooMuchError(ProviderError):
    """More than one request can be: it may work in parts."""


class EarthEngineSession:
    """A connection that threads share.

    Parameters
    ----------
    credentials
        Of google-auth.
    project
        Google Cloud project that requests are counted on.
    url
        Address of the API.
    attempts
        How often a request is sent that is refused for a while (429) or fails on the server (5xx), with growing pauses.
    """

    def __init__(self, credentials: Any, project: str, *, url: str = URL, attempts: int = 6) -> None:
        from google.auth.transport.requests import AuthorizedSession, Request

        if getattr(credentials, "quota_project_id", None):
            credentials = credentials.with_quota_project(project)
        patient = open_session(attempts=attempts)
        self._http = AuthorizedSession(credentials, auth_request=Request(patient))  # type: ignore[no-untyped-call]
        for scheme in ("http://", "https://"):
            self._http.mount(scheme, patient.get_adapter(scheme))
        self._root = f"{url.rstrip('/')}/v1/projects/{project}"
        self._project = project
        self._slots = threading.BoundedSemaphore(AT_ONCE)

    def value(self, expression: Expression, what: str) -> Any:
        """Return what an expression comes to.

        Parameters
        ----------
        expression
            As ``ee.serializer.encode`` makes it.
        what
            What is asked for, for messages.

        Raises
        ------
        ProviderError
            If it fails; the message says what to do.
        """
        answer = self._post("value:compute", {"expression": expression}, what)
        try:
            return answer.json()["result"]
        except (ValueError, KeyError, TypeError) as error:
            raise trouble(f"Earth Engine ({what})", None, ValueError(str(error)), remedy=_HERE) from error

    def pixels(self, expression: Expression, geobox: GeoBox, bands: Sequence[str], what: str) -> NDArray[Any]:
        """Return the bands of an image as a structured array ``(H, W)``.

        Raises
        ------
        TooMuchError
            If it is more than one request can be.
        ProviderError
            If it fails otherwise, or the answer is not of that lattice or lacks one of ``bands``; the message says
            what to do.
        """
        body = {"expression": expression, "fileFormat": "NPY", "grid": pixel_grid(geobox)}
        answer = self._post("image:computePixels", body, what)
        try:
            found = _read_npy(answer.content)
        except ValueError as error:
            if answer.content.lstrip()[:1] in (b"<", b"{"):
                raise trouble(f"Earth Engine ({what})", None, error, remedy=_HERE) from error
            raise unexpected(what, str(error)) from error
        wanted = tuple(int(side) for side in geobox.shape)
        if found.shape != wanted:
            raise unexpected(what, f"pixels of the shape {found.shape}, not {wanted}")
        lacking = [band for band in bands if band not in (found.dtype.names or ())]
        if lacking:
            raise unexpected(what, f"pixels without the band {lacking[0]!r}")
        if wrong := [band for band in bands if found.dtype[band].kind not in "biuf"]:
            raise unexpected(what, f"the band {wrong[0]!r} as {found.dtype[wrong[0]]}, which is no number")
        return found

    def _post(self, method: str, body: Mapping[str, Any], what: str) -> requests.Response:
        from google.auth.exceptions import GoogleAuthError, TransportError

        try:
            answer = self._send(method, body)
        except (requests.exceptions.RequestException, TransportError) as error:
            raise trouble(f"Earth Engine ({what})", None, error, remedy=_HERE) from error
        except GoogleAuthError as error:
            raise _unanswered(error) from error
        except TypeError as error:  # what google-auth makes of a page in place of a token
            raise trouble("Google's login server", None, ValueError(str(error)), remedy=_HERE) from error
        if answer.status_code != 200:
            raise _refusal(answer, what, self._project)
        return answer

    def _send(self, method: str, body: Mapping[str, Any]) -> requests.Response:
        """Send a request, and again where the connection ends within the answer."""
        for last in (False, True):
            try:
                with self._slots:
                    return self._http.post(
                        f"{self._root}/{method}",
                        json=body,
                        headers={"x-goog-user-project": self._project},
                        timeout=_TIMEOUT,
                    )
            except requests.exceptions.RequestException as error:
                if last or not _broke_off(error):
                    raise
        raise AssertionError("the last attempt returns or raises")


def _unanswered(error: GoogleAuthError) -> ProviderError:
    """Return the error of a token that did not come: a login that is good no more, or a server that does not work."""
    said = str(error)
    if said.lstrip().startswith("<"):
        return trouble("Google's login server", None, ValueError(said), remedy=_HERE)
    if getattr(error, "retryable", False):
        return ServiceError(f"Google's login server does not work now ({_short(said)}); try again later, or {_HERE}")
    return expired(said)


def _broke_off(error: requests.exceptions.RequestException) -> bool:
    """Whether an answer had begun to come."""
    kinds = (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError)
    return isinstance(error, kinds) or (bool(error.args) and isinstance(error.args[0], ProtocolError))


def _read_npy(content: bytes) -> NDArray[Any]:
    """The array of an NPY file; its size is checked before anything is made of it."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except (ValueError, SyntaxError, TypeError, EOFError, struct.error, tokenize.TokenError) as error:
        raise ValueError(f"something that is no NPY array ({_start_of(content)})") from error
    wanted, got = int(np.prod(shape, dtype=object)) * dtype.itemsize, len(content) - stream.tell()
    if dtype.hasobject or wanted != got:
        raise ValueError(f"{got} bytes of pixels, not {wanted}: the answer is cut off or damaged")
    return np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")


def _start_of(content: bytes) -> str:
    """How an answer begins, in characters that can be printed."""
    return repr(content[:40].decode("ascii", "replace"))


def unexpected(what: str, detail: str) -> ServiceError:
    """Return the error of an answer that says something else than was asked for."""
    return ServiceError(f"Earth Engine ({what}) answered with {_short(detail)}; try again later, or {_HERE}")


def pixel_grid(geobox: GeoBox) -> dict[str, Any]:
    """Return a geobox as the API wants it."""
    a, crs = geobox.affine, geobox.crs
    if crs is None:
        raise ProviderError("Earth Engine needs a place: give a region with coordinates (a CRS)")
    names = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
    return {
        "dimensions": {"width": int(geobox.shape[1]), "height": int(geobox.shape[0])},
        "affineTransform": dict(zip(names, (float(v) for v in a[:6]), strict=True)),
        **({"crsCode": f"EPSG:{crs.epsg}"} if crs.epsg is not None else {"crsWkt": crs.to_wkt()}),
    }


def expired(said: str) -> ProviderError:
    """Return the error of a login that is good no more."""
    return ProviderError(
        f"the login to Earth Engine has expired or was revoked ({_short(said)}); run "
        f"`earthengine authenticate --force`, or renew the key of the service account, or {_HERE}"
    )


_TOO_MUCH = (
    r"total request size|pixel grid dimensions|50331648|memory limit|memory capacity|computation timed out|"
    r"time out|deadline|too many (bytes|pixels)|(region|grid|image|response) .{0,40}too large"
)

_MEANINGS = (
    (
        r"requires a quota project|no (client )?project",
        'the login names no project that Google accepts ({project!r}): name yours, backend="gee:my-project"',
    ),
    (
        r"has not been used in project|SERVICE_DISABLED|API .{0,40}disabled",
        "the Earth Engine API is not enabled in the project {project!r}: enable it at "
        "https://console.cloud.google.com/apis/library/earthengine.googleapis.com?project={project}",
    ),
    (
        r"not registered|not signed up|verify.{0,40}eligibility",
        "the project {project!r} is not registered for Earth Engine: do so at "
        "https://code.earthengine.google.com/register",
    ),
    (
        r"permission to use project|USER_PROJECT_DENIED|project .{0,60}(not found|does not exist|deleted)",
        'the project {project!r} does not exist, or this login may not use it: name another, backend="gee:my-project", '
        "or ask its owner for the roles Service Usage Consumer and Earth Engine Resource Viewer",
    ),
    (
        r"(asset|collection|image) .{0,200}(not found|does not exist)",
        "there is no such collection, or this login may not read it: check SensorSpec.collection",
    ),
    (
        r"band pattern|no band named|did not match any bands",
        "there is no such band: check SensorSpec.bands",
    ),
    (
        r"payload size|expression .{0,60}too (large|complex|deep)",
        "too many scenes in one frame: ask for a shorter time, or a lower cloudy_pct",
    ),
    (
        r"quota|rate limit|too many requests|concurrent",
        "the quota of the project {project!r} is used up: ask for fewer regions at a time, wait, or raise it at "
        "https://console.cloud.google.com/iam-admin/quotas?project={project}",
    ),
)  # fmt: skip
"""What a refusal means, and what to do: by the server's words."""


def _refusal(answer: requests.Response, what: str, project: str) -> ProviderError:
    """Return the error that an answer with an error's status means."""
    status, label = answer.status_code, f"Earth Engine ({what})"
    try:
        fault = answer.json()["error"]
        said = f"{fault.get('message', '')} {fault.get('status', '')}"
        whole = f"{said} {fault.get('details', '')}"
    except (ValueError, KeyError, TypeError, AttributeError):
        if status in (401, 403, 429) or status >= 500:
            return expired(f"status {status}") if status == 401 else trouble(label, status, None, remedy=_HERE)
        return trouble(label, None, ValueError("no JSON"), remedy=_HERE)
    if status == 401:
        return expired(said)
    if re.search(_TOO_MUCH, whole, re.IGNORECASE):
        return TooMuchError(
            f"{label}: too much for one request ({_short(said)}); ask for a smaller region, a shorter time or fewer "
            f"frames, or {_HERE}"
        )
    for words, meaning in _MEANINGS:
        if re.search(words, whole, re.IGNORECASE | re.DOTALL):
            kind = ServiceError if status == 429 else ProviderError
            return kind(f"{label}: {meaning.format(project=project)}, or {_HERE} ({_short(said)})")
    if status == 429 or status >= 500 or status == 403:
        told = trouble(label, status, None, remedy=_HERE)
        return type(told)(f"{told} ({_short(said)})")
    return ProviderError(f"{label} was refused ({status}): {_short(said)}; change the request, or {_HERE}")


def _short(said: str) -> str:
    """A message of the server on one line."""
    return " ".join(said.split())[:300]
