"""Rasters behind URLs on a lattice: only the bytes that a window needs are fetched, and GDAL decodes them.

Why not GDAL's own reading over HTTP: docs/decisions/0008-reading-over-http.md.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rs_embed.core.errors import ProviderError
from rs_embed.providers.harmonise import Decoding
from rs_embed.providers.ranged import RangedFile
from rs_embed.providers.ranges import PATIENCE, Bytes, Fault, Patience, fetch, without_query
from rs_embed.providers.raster import read_source

__all__ = ["forget_heads", "read_bands"]

_HEAD = 2**14
"""Bytes fetched of a file first: the header of a cloud-optimised GeoTIFF of a whole scene fits."""
_GAP = 2**14
"""Ranges this near are one request: a request costs more than these bytes."""
_PART = 2**23
"""Longest request: what fails is not all to be fetched again."""
_HEADS = 1024
"""Beginnings of files that are kept: parts and strips of a request read the same files again."""
_DAMAGED = "the file is damaged, or none of its kind: leave the scene out, or use another service"


def read_bands(
    url: str,
    indexes: Sequence[int],
    geobox: GeoBox,
    *,
    decoding: Decoding | None = None,
    classes: bool = False,
    names: Sequence[str] = (),
    label: str = "",
    refresh: Callable[[], str] | None = None,
    patience: Patience = PATIENCE,
) -> NDArray[np.float32]:
    """Return ``(C, H, W)``: bands of a file behind a URL on exactly ``geobox``, NaN where the file has no data.

    The numbers are those of `rs_embed.providers.raster.read_bands` on the same file, to the bit.

    Parameters
    ----------
    url
        ``http`` or ``https``; its query may hold a signature, which no message shows.
    indexes
        Bands of the file, counted from 1.
    geobox
        The lattice; a crop of it gives the crop of the result to the bit.
    decoding
        From numbers to values; the file's own nodata counts besides.
    classes
        Whether values are class numbers: nearest neighbour.
    names
        Names of the bands for messages.
    label
        What the file belongs to, for messages: ``scene … of collection … at service …``.
    refresh
        Returns the URL signed anew, for when access is refused.
    patience
        How long it is tried.

    Raises
    ------
    ProviderError
        If the file cannot be reached or read; it names label, band and URL, the reason and the remedy.
    """
    try:
        return _read(url, indexes, geobox, decoding, classes, refresh, patience)
    except Fault as fault:
        raise ProviderError(_told(url, indexes, names, label, fault.reason, fault.remedy)) from fault
    except OSError as error:
        raise ProviderError(_told(url, indexes, names, label, f"it cannot be read ({error})", _DAMAGED)) from error


def _told(url: str, indexes: Sequence[int], names: Sequence[str], label: str, reason: str, remedy: str) -> str:
    bands = ", ".join(names) or ", ".join(map(str, indexes))
    what = f"{label}: " if label else ""
    return f"{what}band {bands} ({without_query(url)}): {reason}; {remedy}"


def _read(
    url: str,
    indexes: Sequence[int],
    geobox: GeoBox,
    decoding: Decoding | None,
    classes: bool,
    refresh: Callable[[], str] | None,
    patience: Patience,
) -> NDArray[np.float32]:
    """Read once, and again where the file was replaced meanwhile."""
    for last in (False, True):
        source = _RemoteFile(url, refresh, patience)
        try:
            found = read_source(source, indexes, geobox, decoding=decoding, classes=classes)
        except OSError as error:
            if source.replaced and not last:
                _HEADS_KEPT.drop(url)
                continue
            raise source.fault or error from error
        if source.fault is None:
            return found
        if not source.replaced or last:
            raise source.fault
        _HEADS_KEPT.drop(url)
    raise AssertionError("unreachable")


class _RemoteFile(RangedFile):
    """Parts of a file, fetched when they are expected or, failing that, read."""

    def __init__(self, url: str, refresh: Callable[[], str] | None, patience: Patience) -> None:
        super().__init__(url)
        self._patience = patience
        self._refresh = None if refresh is None else self._renewed(refresh)
        self._key = url
        self._held: list[Bytes] = []
        self.head, self.means = _HEADS_KEPT.get(url) or self._begin()

    def _renewed(self, refresh: Callable[[], str]) -> Callable[[], str]:
        def renew() -> str:
            self.url = refresh()
            return self.url

        return renew

    def _begin(self) -> _Head:
        """Fetch the beginning, and see at once whether it is a raster at all."""
        head = self.ask(0, _HEAD)
        if head.content.lstrip()[:1] == b"<":
            raise Fault(
                "text came in place of the file", "a login page or an error of the service: open the URL in a browser"
            )
        return _HEADS_KEPT.put(self._key, (head, {}))

    def ask(self, start: int, stop: int) -> Bytes:
        """Fetch a range, signed anew where access is refused."""
        return fetch(self.url, start, stop, patience=self._patience, refresh=self._refresh)

    def held(self) -> Sequence[Bytes]:
        """Return what was expected last."""
        return self._held

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Fetch what will be read, near ranges together, and forget what was expected before."""
        joined: list[tuple[int, int]] = []
        for start, stop in ranges:
            if stop > self.size:
                raise OSError(f"it ends at byte {self.size}, before a tile that its header puts at {start}-{stop}")
            if stop <= len(self.head.content):
                continue
            if joined and start - joined[-1][1] <= _GAP and stop - joined[-1][0] <= _PART:
                joined[-1] = joined[-1][0], max(stop, joined[-1][1])
            else:
                joined.append((start, stop))
        self._held = [self.fetch(start, stop) for start, stop in joined]


_Head = tuple[Bytes, dict[int, bool]]
"""The beginning of a file, and which of its overviews hold means."""


class _Heads:
    """Beginnings of the files read last, by URL."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Head] = OrderedDict()

    def get(self, url: str) -> _Head | None:
        with self._lock:
            if url in self._kept:
                self._kept.move_to_end(url)
            return self._kept.get(url)

    def put(self, url: str, head: _Head) -> _Head:
        with self._lock:
            self._kept[url] = head
            while len(self._kept) > _HEADS:
                self._kept.popitem(last=False)
        return head

    def drop(self, url: str) -> None:
        with self._lock:
            self._kept.pop(url, None)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()


_HEADS_KEPT = _Heads()


def forget_heads() -> None:
    """Forget the beginnings of files: they are fetched again."""
    _HEADS_KEPT.clear()
