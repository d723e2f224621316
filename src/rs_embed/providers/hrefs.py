"""From what STAC items call a file to a URL that anybody can read, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from rs_embed.providers.services import PAID_BUCKETS

__all__ = ["open_url"]

Item = Mapping[str, Any]


def open_url(asset: Mapping[str, Any], item: Item, base: str) -> tuple[str | None, str]:
    """Return the URL of an asset, and otherwise why it has none.

    Objects in S3 that are open to all are reached by HTTPS (Earth Search's ``cop-dem-glo-30``); those whose reader pays
    are not (its ``landsat-c2-l2``).

    Parameters
    ----------
    base
        URL of the item, which relative names are meant from.
    """
    why = "it has no file"
    for href in _hrefs(asset):
        url = urljoin(base, href)
        parts = urlsplit(url)
        if parts.scheme in ("http", "https"):
            return url, ""
        if parts.scheme == "":
            why = f"the address {href!r} of its file says not of which server, nor does the item"
            continue
        if parts.scheme == "gs":
            return f"https://storage.googleapis.com/{parts.netloc}{parts.path}", ""
        if parts.scheme == "s3" and not _amazon(item):
            why = f"its files lie in s3://{parts.netloc}, which is not Amazon's: they need an account there"
            continue
        if parts.scheme == "s3" and not _paid(parts.netloc, item):
            region = item.get("properties", {}).get("storage:region")
            host = f"s3.{region}.amazonaws.com" if region else "s3.amazonaws.com"
            return f"https://{parts.netloc}.{host}{parts.path}", ""
        place = f"{parts.scheme}://{parts.netloc}"
        why = (
            f"its files lie in {place}, whose reader pays: they cannot be read without an account there"
            if parts.scheme == "s3"
            else f"its files lie at {place}, where nothing can be read from here"
        )
    return None, why


def _hrefs(asset: Mapping[str, Any]) -> Iterator[str]:
    """The asset's own address and its alternates (STAC's alternate-assets extension), those of the web first."""
    told = [asset, *(other for other in (asset.get("alternate") or {}).values() if isinstance(other, Mapping))]
    hrefs = [str(each["href"]).strip() for each in told if each.get("href")]
    yield from sorted(hrefs, key=lambda href: urlsplit(href).scheme not in ("http", "https", ""))


def _amazon(item: Item) -> bool:
    """Whether buckets are Amazon's: others speak S3 as well, and say so in the storage extension."""
    properties = item.get("properties", {})
    schemes = properties.get("storage:schemes") or {}
    kinds = [str(each.get("type", "aws")) for each in schemes.values()]
    return str(properties.get("storage:platform") or "aws").lower() in ("aws", "amazon") and (
        not kinds or any(kind.startswith("aws") for kind in kinds)
    )


def _paid(bucket: str, item: Item) -> bool:
    """Whether the reader pays, by the storage extension (versions 1 and 2) or the bucket's name."""
    properties = item.get("properties", {})
    schemes = properties.get("storage:schemes") or {}
    told = [properties.get("storage:requester_pays"), *(s.get("requester_pays") for s in schemes.values())]
    return bucket in PAID_BUCKETS or any(each is True for each in told)
