"""The published stores of products are opened once: calls after the first find index and headers read already."""

from __future__ import annotations

import os
from typing import Any

from rs_embed.core.product import Product
from rs_embed.providers.memo import Memo

__all__ = ["open_product"]

_LIFETIME = 3600.0
"""Seconds after which a store is opened anew: new years appear."""
_OPEN: Memo[Any] = Memo(8)


def open_product(product: Product, address: str) -> Any:
    """Return the provider of a product in a store: the same one for an hour where it is the published one.

    A copy is looked at each time, since its files may change.

    Raises
    ------
    ProviderError
        If there is no such store, or it is none of the product.
    """
    if address != product.store or not address.lower().startswith(("http://", "https://")):
        return product.open(address)
    key = product.open, address, os.environ.get("RS_EMBED_CACHE_DIR")  # an index is kept in that folder
    return _OPEN.get(key, lambda: product.open(address), lifetime=lambda _: _LIFETIME)
