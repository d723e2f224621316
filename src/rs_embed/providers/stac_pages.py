"""The pages of what a STAC API lists: followed to the last one, and told from answers that are no list."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urljoin

__all__ = ["listed"]

EMPTY = 20
"""Pages in a row that may hold nothing: services that filter late have some."""


def listed(
    send: Callable[..., str], url: str, name: str, *, method: str = "GET", parameters: Mapping[str, Any] | None = None
) -> Iterator[Any]:
    """Yield what an API lists under ``name``, page after page.

    pystac-client takes an answer without the list, such as an error that comes with a status of 200, for the end of
    the list, and so an empty page that others follow; it knows no relative links, and follows a circle for ever.

    Parameters
    ----------
    send
        Sends a request, as ``StacApiIO.request`` does.
    url
        Address of the first page.
    name
        Member of the answers that holds the list: ``features`` or ``collections``.
    method, parameters
        Of the first request; the links of the answers say what follows.

    Raises
    ------
    ValueError
        If an answer has no such list, or the pages do not end.
    """
    body: dict[str, Any] = dict(parameters or {})
    headers: dict[str, str] | None = None
    asked: set[str] = set()
    empty = 0
    while True:
        request = json.dumps([url, method, body, headers], sort_keys=True, default=str)
        if request in asked:
            raise ValueError("its pages go round in a circle")
        asked.add(request)
        page = json.loads(send(url, method=method, headers=headers, parameters=body))
        found = _list_of(page, name)
        yield from found
        empty = 0 if found else empty + 1
        if empty > EMPTY:
            raise ValueError(f"{empty} pages in a row are empty")
        link = next((each for each in page.get("links") or () if each.get("rel") == "next"), None)
        if link is None:
            return
        url, method = urljoin(url, str(link["href"])), str(link.get("method") or "GET").upper()
        own = dict(link.get("body") or {})
        # the address of a page that is asked for by GET says everything
        body = {} if method == "GET" else body | own if link.get("merge") else own
        headers = link.get("headers")


def _list_of(page: Any, name: str) -> list[Any]:
    """The list of a page, or an error with what the service says instead."""
    found = page.get(name) if isinstance(page, Mapping) else None
    if not isinstance(found, list):
        raise ValueError(f"it answers without {name}: {json.dumps(page)[:200]}")
    return found
