"""The header of a raster behind a URL: how its pixels are kept, for who wants to know what reading it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rs_embed.core.errors import ProviderError
from rs_embed.providers.ranged import RangedFile
from rs_embed.providers.ranges import Bytes, Patience, fetch
from rs_embed.providers.raster import Layout, layout_of

__all__ = ["HEAD", "layout_behind"]

HEAD = 2**14
"""Bytes fetched of a file first, as a reader does."""
_PATIENCE = Patience(seconds=5.0, attempts=2, silence=5.0)
"""An estimate does not wait as long as a reader."""


class _Header(RangedFile):
    """A file of which only what GDAL asks for is fetched."""

    def __init__(self, url: str, refresh: Callable[[], str] | None) -> None:
        super().__init__(url)
        self._refresh = refresh
        self.head = self.ask(0, HEAD)

    def ask(self, start: int, stop: int) -> Bytes:
        """Fetch a range, signed anew where access is refused."""
        return fetch(self.url, start, stop, patience=_PATIENCE, refresh=self._refresh)

    def held(self) -> Iterable[Bytes]:
        """Return nothing: the beginning and its pieces are enough."""
        return ()


def layout_behind(url: str, index: int, refresh: Callable[[], str] | None = None) -> Layout | None:
    """Return how a file keeps a band, None where that cannot be found out.

    Parameters
    ----------
    url
        ``http`` or ``https``.
    index
        Band of the file, counted from 1.
    refresh
        Returns the URL signed anew, for when access is refused.
    """
    try:
        file = _Header(url, refresh)
        found = layout_of(file, index, file.size)
    except (OSError, ProviderError):
        return None
    return None if file.fault is not None or found.grid.crs is None else found
