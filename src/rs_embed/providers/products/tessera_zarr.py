"""TESSERA's Zarr stores: a group for each UTM zone, with all years of it.

``utm{NN}`` holds ``embeddings``, int8 (time, band, y, x), ``scales``, float32 (time, y, x), and the years in ``time``;
its CRS is always that of the northern half of the zone, so that northings of the southern hemisphere are negative.
A pixel's value is code * scale; a scale that was not written is infinite, one of water or without data is NaN. Stores
of the second model list shorter prefixes of the same vectors in ``geoemb:depths``
(https://github.com/ucam-eo/geotessera, docs/specs).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS

from rs_embed.core.errors import NoImageryError, ProviderError
from rs_embed.core.geometry import Region
from rs_embed.core.product import Product
from rs_embed.providers.ahead import READS, together
from rs_embed.providers.products.alphaearth import nothing_there
from rs_embed.providers.products.base import Archive, ProductProvider, mover
from rs_embed.providers.products.files import Store
from rs_embed.providers.products.tessera import DIMENSIONS, Tessera, dequantize, produced
from rs_embed.providers.products.tiles import Tile, overlap
from rs_embed.providers.products.zarr_nodes import Hierarchy, Node, is_zarr, looks_like_zarr
from rs_embed.providers.products.zarr_tiles import Cut, ZarrTile, axes_of, grid_of, years_of
from rs_embed.providers.products.zarrs import ZarrArray, require_zarr
from rs_embed.providers.resample import Grid

__all__ = ["TesseraVersions", "TesseraZarr", "open_tessera"]

_ONLY_ZARR = ("v1.1", "v1.1-dclimate")
"""Versions of which no npy tiles are published."""
_VERSIONS = ("v1", "v1.1", "v1.1-cam", "v1.1-dclimate", "v2-2B-L~beta1", "v2-2B-L~beta2")
"""Names of folders that say what is in them."""
_SOUTH = 10_000_000
"""Metres by which northings of the southern CRS of a zone exceed those of the northern one."""


def decode(code: NDArray[Any], scales: NDArray[Any] | None) -> NDArray[np.float32]:
    """Return ``code * scale`` ``(128, h, w)``: NaN in water, and where nothing was produced."""
    assert scales is not None
    values = dequantize(np.moveaxis(code, 0, -1), scales)
    values[~produced(scales)] = np.nan
    return np.ascontiguousarray(np.moveaxis(values, -1, 0))


@dataclass(frozen=True)
class _Zone:
    """One zone's arrays."""

    number: int
    years: tuple[int, ...]
    code: ZarrArray
    scales: ZarrArray
    grid: Grid
    """In the CRS of the northern hemisphere."""

    def placed(self, south: bool) -> Grid:
        """Return the grid in the CRS of a hemisphere: the same pixels, their northings counted from another origin."""
        a, epsg = self.grid.affine, 32600 + self.number
        if not south:
            return self.grid
        return Grid(
            self.grid.height,
            self.grid.width,
            Affine(a.a, a.b, a.c, a.d, a.e, a.f + _SOUTH),
            CRS(f"EPSG:{epsg + 100}"),
        )


def _zones(region: Region) -> list[int]:
    """Return the zones whose tiles a region touches, by the rule of six degrees; that of its centre first."""
    lon = (region.lonlat or (math.nan, 0.0))[0]
    found = set()
    for part in getattr(region.footprint, "geoms", [region.footprint]):
        left, _, right, _ = part.bounds
        found |= set(range(math.floor((left + 180) / 6), math.floor((right + 180) / 6) + 1))
    numbers = sorted({min(59, max(0, n)) + 1 for n in found})
    return sorted(numbers, key=lambda n: min(abs(n * 6 - 183 - lon) % 360, -abs(n * 6 - 183 - lon) % 360))


def _southern(region: Region) -> bool:
    """Whether the region's lattice, or else its centre, belongs to the southern hemisphere."""
    epsg = None if region.crs is None else region.crs.epsg
    if epsg is not None and 32601 <= epsg <= 32760 and epsg // 100 in (326, 327):
        return epsg // 100 == 327
    return (region.lonlat or (0.0, 0.0))[1] < 0


class TesseraZarr:
    """The archive of one version in a Zarr store."""

    def __init__(self, store: Store, version: str) -> None:
        require_zarr(f"{store.name} of TESSERA {version}")
        self.store, self.source, self.version = store, store.name, version
        self.tree = Hierarchy(store)
        self._lock = threading.Lock()
        self._known: dict[int, _Zone | None] = {}

    def check(self) -> None:
        """Refuse a store of something else, or of another version.

        Raises
        ------
        ProviderError
            That says which variant it holds, as far as it tells.
        """
        attrs = self.tree.node().attrs
        size, layout = attrs.get("geoemb:dimensions", DIMENSIONS), attrs.get("geoemb:spatial_layout", "utm_zones")
        if self.tree.node().is_array or size != DIMENSIONS or layout == "global":
            raise ProviderError(
                f"{self.source} holds vectors of {size} numbers laid out as {layout!r}, TESSERA's have {DIMENSIONS} "
                "and lie by UTM zone: it is another product"
            )
        model = str(attrs.get("geoemb:model", "")).rstrip("/").rpartition("/")[2].lstrip("v")
        named = Path(self.store.name.rstrip("/")).name
        family = self.version.partition("-")[0].lstrip("v")
        others = [named] if named in _VERSIONS and named != self.version else []
        if not others and model[:1].isdigit() and not _same_family(model, family):
            others = [v for v in _VERSIONS if _same_family(model, v.partition("-")[0].lstrip("v"))] or [f"v{model}"]
        if others:
            raise ProviderError(
                f"{self.source} holds TESSERA {' or '.join(others)}, asked for is {self.version}: vectors of two "
                f"versions do not compare; say variant={others[0]!r}, or name a store of {self.version}"
            )

    def _zone(self, number: int) -> _Zone | None:
        """Open a zone; ``None`` where the store has none of it."""
        with self._lock:
            if number not in self._known:
                if not self._known:
                    self.check()
                group = self.tree.maybe(f"utm{number:02d}")
                self._known[number] = None if group is None else self._opened(number, group)
            return self._known[number]

    def _opened(self, number: int, group: Node) -> _Zone:
        depths = self.tree.node().attrs.get("geoemb:depths", [])
        names = [str(each["array"]) for each in depths if each.get("dimensions") == DIMENSIONS] or ["embeddings"]
        nodes = [self.tree.node(f"{group.path}/{name}") for name in (names[0], "scales")]
        code, scales = (ZarrArray(self.store, node) for node in nodes)
        years = tuple(years_of(ZarrArray(self.store, self.tree.node(f"{group.path}/time"))))
        of_code, of_scales = axes_of(nodes[0]), axes_of(nodes[1])
        sizes = [
            [node.shape[axis] for axis in (of.time, of.y, of.x) if axis is not None]
            for node, of in ((nodes[0], of_code), (nodes[1], of_scales))
        ]
        bands = 0 if of_code.band is None else code.shape[of_code.band]
        if code.dtype != np.int8 or bands != DIMENSIONS or sizes[0] != sizes[1] or sizes[0][0] != len(years):
            raise ProviderError(
                f"{code.name} holds {code.dtype} {code.shape} beside scales {scales.shape} and {len(years)} years, "
                f"stores of TESSERA int8 (time, {DIMENSIONS}, y, x): it is of another product or version"
            )
        grid = grid_of(self.tree, nodes[0], of_code)
        if grid.crs is None or grid.crs.epsg != 32600 + number:
            raise ProviderError(f"{code.name} is said to lie in {grid.crs}, zone {number} is EPSG:{32600 + number}")
        return _Zone(number, years, code, scales, grid)

    def years(self, collection: str, region: Region) -> list[int]:
        """Return the years of which a chunk exists where the region lies, as the indexes of the shards say."""
        asked = [(zone, year) for zone in self._touching(region) for year in zone.years]
        there = together(READS, [partial(self._has, zone, region, year) for zone, year in asked])
        return sorted({year for (_, year), has in zip(asked, there, strict=True) if has})

    def _touching(self, region: Region) -> Iterator[_Zone]:
        for number in _zones(region):
            zone = self._zone(number)
            if zone is not None:
                yield zone

    def _has(self, zone: _Zone, region: Region, year: int) -> bool:
        """Whether anything of a year was written where a region lies in a zone."""
        move = mover(f"EPSG:{32600 + zone.number}")
        cut = Cut(zone.scales, axes_of(zone.scales.node), zone.years.index(year))
        for part in getattr(region.footprint, "geoms", [region.footprint]):
            left, bottom, right, top = part.bounds
            reach = overlap(zone.grid, move.transform_bounds(left, bottom, right, top, densify_pts=21))
            if reach is not None and zone.scales.has(cut.reach(*reach)):
                return True
        return False

    def tiles(self, collection: str, region: Region, year: int | None) -> list[Tile]:
        """Return the zones that the region touches, in the CRS of the hemisphere of its centre."""
        if year is None:
            raise ProviderError("TESSERA has an embedding a year; say TemporalSpec.year(...)")
        south = _southern(region)
        zones = [zone for zone in self._touching(region) if year in zone.years and self._has(zone, region, year)]
        if not zones:
            name = f"tessera {self.version}"
            raise NoImageryError(nothing_there(name, region, year, self.years(collection, region)))
        return [self._tile(zone, year, south) for zone in zones]

    def _tile(self, zone: _Zone, year: int, south: bool) -> ZarrTile:
        step = zone.years.index(year)
        code, scales = (Cut(array, axes_of(array.node), step) for array in (zone.code, zone.scales))
        id = f"zarr/{self.version}/{year}/utm{zone.number:02d}"
        return ZarrTile(id, zone.placed(south), code, decode, scales, zone.code.checked)


def _same_family(model: str, family: str) -> bool:
    """Whether the number of a model, such as ``1.0`` or ``2.0-2B-L``, is that of a version, such as ``1`` or ``2``."""
    number = model.partition("-")[0]
    return number == family or (number.endswith(".0") and number[:-2] == family)


class TesseraVersions:
    """All versions at one address, each by the road that there is: npy tiles, else a Zarr store."""

    def __init__(self, store: Store, *, published: bool) -> None:
        self.store, self.source = store, store.name
        self._published = published
        self._lock = threading.Lock()
        self._roads: dict[str, Archive] = {}

    def road(self, collection: str) -> Archive:
        """Return where a version is read."""
        version = collection.partition("/")[2] or "v1"
        with self._lock:
            if version not in self._roads:
                self._roads[version] = self._chosen(version)
            return self._roads[version]

    def _chosen(self, version: str) -> Archive:
        address = self.store.address
        if not self._published and address.rpartition("/")[2] == "zarr":
            return TesseraZarr(Store(f"{address}/{version}"), version)
        if not self._published and self._is_one():
            return TesseraZarr(self.store, version)
        if version in _ONLY_ZARR or self._lies_as_zarr(version):
            inner = f"{address}/zarr/{version}"
            if not self.store.remote and not Path(inner).is_dir():
                raise ProviderError(
                    f"{self.source} has no folder zarr/{version}, and there are no npy tiles of {version}: copy it "
                    "from the published store, or leave backend='auto'"
                )
            return TesseraZarr(Store(inner), version)
        return Tessera(self.store)

    def _is_one(self) -> bool:
        """Whether the address is that of a Zarr store: of one elsewhere it may say so itself."""
        return (self.store.remote and looks_like_zarr(self.store.address)) or is_zarr(self.store)

    def _lies_as_zarr(self, version: str) -> bool:
        """Whether a copy on this machine has a version as Zarr and not as tiles."""
        if self.store.remote:
            return False
        root = Path(self.store.address)
        return (root / "zarr" / version).is_dir() and not (root / "npy" / version).is_dir()

    def years(self, collection: str, region: Region) -> list[int]:
        """Return the years at a place."""
        return self.road(collection).years(collection, region)

    def tiles(self, collection: str, region: Region, year: int | None) -> list[Tile]:
        """Return the tiles that the region touches."""
        return self.road(collection).tiles(collection, region, year)


def open_tessera(product: Product, address: str) -> ProductProvider:
    """Return the provider of TESSERA's embeddings in a store or a copy of it, of tiles or of Zarr."""
    archive = TesseraVersions(Store(address), published=address == product.store)
    return ProductProvider(product, archive, "source.coop" if "source.coop" in address else "store")
