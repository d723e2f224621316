"""AlphaEarth's embeddings as one mosaic in Zarr, beside the archive of files.

``embeddings`` holds int8 (time, band, y, x) in shards of 4096 x 4096 pixels with inner chunks of 256 x 256, all bands
of a year in each; -128 is nodata and the fill value. The files were brought to one grid of degrees, north up, of about
ten metres at the equator: a pixel is that of a file, moved, and narrower than ten metres elsewhere. ``time`` holds the
years, and the group says ``geoemb:quantization`` with the method ``signed_square``
(https://source.coop/tge-labs/aef-mosaic, written by https://github.com/geospatial-jeff/aef-mosaic).
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.errors import ProviderError
from rs_embed.core.geometry import Region
from rs_embed.core.product import Product
from rs_embed.providers.products.alphaearth import AlphaEarth, decode
from rs_embed.providers.products.base import Archive, ProductProvider
from rs_embed.providers.products.files import Store
from rs_embed.providers.products.single_zarr import OneArray, Opened, open_array
from rs_embed.providers.products.tiles import Tile
from rs_embed.providers.products.zarr_nodes import Hierarchy, is_zarr, looks_like_zarr
from rs_embed.providers.products.zarrs import require_zarr

__all__ = ["open_alphaearth"]

_BANDS = 64
_ARRAY = "embeddings"
_MOSAIC = "aef-mosaic"
"""Part of the address of the published mosaic."""


def _decode(code: NDArray[Any], scales: NDArray[Any] | None) -> NDArray[np.float32]:
    return decode(code)


def _mosaic(store: Store) -> OneArray:
    """Return the archive of a mosaic."""
    require_zarr(store.name)
    tree = Hierarchy(store)

    def opened() -> Opened:
        node = tree.node(_ARRAY)
        found = open_array(tree, node, decode=_decode)
        axes, array = found.code.axes, found.code.array
        bands = array.shape[axes.band] if axes.band is not None else 0
        method = (tree.node().attrs.get("geoemb:quantization") or {}).get("method", "signed_square")
        if array.dtype != np.int8 or bands != _BANDS or axes.time is None or method != "signed_square":
            raise ProviderError(
                f"{array.name} holds {array.dtype} {array.shape} quantised by {method}, AlphaEarth's mosaic int8 "
                f"(time, {_BANDS}, y, x) by signed_square: it is of another product or version"
            )
        return found

    return OneArray("gse", store.name, opened)


class AlphaEarthStore:
    """Files with an index, or a mosaic: what lies at an address is found out when it is first asked."""

    def __init__(self, store: Store, *, published: bool) -> None:
        self.store, self.source, self._published = store, store.name, published
        self._lock = threading.Lock()
        self._road: Archive | None = None

    def road(self) -> Archive:
        """Return the archive."""
        with self._lock:
            if self._road is None:
                self._road = _mosaic(self.store) if self._is_mosaic() else AlphaEarth(self.store)
            return self._road

    def _is_mosaic(self) -> bool:
        address = self.store.address
        told = self.store.remote and (_MOSAIC in address or looks_like_zarr(address))
        return not self._published and (told or is_zarr(self.store))

    def years(self, collection: str, region: Region) -> list[int]:
        """Return the years at a place."""
        return self.road().years(collection, region)

    def tiles(self, collection: str, region: Region, year: int | None) -> list[Tile]:
        """Return the tiles that the region touches."""
        return self.road().tiles(collection, region, year)


def open_alphaearth(product: Product, address: str) -> ProductProvider:
    """Return the provider of AlphaEarth's embeddings in a store or a copy of it, of files or of a mosaic."""
    archive = AlphaEarthStore(Store(address), published=address == product.store)
    return ProductProvider(product, archive, "source.coop" if "source.coop" in address else "store")
