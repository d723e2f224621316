"""Products of chips: vectors of pieces of imagery in tables, found by the ground that they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from odc.geo.geobox import GeoBox

from rs_embed.core.errors import ProviderError
from rs_embed.core.imagery import ImageRequest, ImageStack
from rs_embed.core.product import Product
from rs_embed.providers.products.chip_archive import ChipArchive
from rs_embed.providers.products.chip_columns import Named
from rs_embed.providers.products.chip_files import ChipFile
from rs_embed.providers.products.chip_folders import hub_address, open_folder
from rs_embed.providers.ranges import without_query

__all__ = ["ChipProvider", "open_chips", "open_first"]


@dataclass(frozen=True)
class ChipProvider:
    """Reads a product of chips from its store."""

    product: Product
    address: str
    name: str = "store"
    _archives: dict[Any, ChipArchive] = field(default_factory=dict, repr=False, compare=False)

    @property
    def source(self) -> str:
        """Where the product lies."""
        return without_query(self.address) if "://" in self.address else self.address.rstrip("/").rpartition("/")[2]

    def offers(self, sensor: str) -> bool:
        """Whether it is the product's own sensor."""
        return sensor == self.product.sensor.id

    def load(self, request: ImageRequest, parts: Sequence[GeoBox]) -> Iterator[ImageStack]:
        """Refuse: there are no pixels.

        Raises
        ------
        ProviderError
            Always.
        """
        raise ProviderError(f"{self.product.sensor.id} holds chips, no pixels; read_chips(...) gives them")

    def archive(self, folders: Sequence[str] = ("",), dims: int | None = None) -> ChipArchive:
        """Return the tables of a version, listed once."""
        key = tuple(folders), dims
        if key not in self._archives:
            deep = tuple(folders) == ("",)
            self._archives[key] = ChipArchive(open_folder(self.address, folders, deep=deep), dims=dims)
        return self._archives[key]


def open_chips(product: Product, address: str) -> ChipProvider:
    """Return the provider of a product of chips in its store or a copy of it; one behind a URL is listed once."""
    remote = address.lower().startswith(("http://", "https://"))
    return _remembered(product, address, hub_address()) if remote else ChipProvider(product, address)


@lru_cache(maxsize=8)
def _remembered(product: Product, address: str, hub: str) -> ChipProvider:
    return ChipProvider(product, address, "huggingface" if "huggingface.co" in address else "store")


def open_first(address: str) -> ChipFile:
    """Open a file by its path or URL, or the first one of a folder.

    Raises
    ------
    ProviderError
        If it cannot be read, or holds no embeddings.
    """
    return ChipFile(open_folder(address).files[0].open(), Named())
