"""Products of one Zarr array: AlphaEarth's mosaic, or one of your own.

A store of embeddings is told by the attributes ``geoemb:...`` of its group
(https://github.com/geo-embeddings/embeddings-zarr-convention), or by ``rs_embed_meta`` where we made it.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.errors import NoImageryError, ProviderError
from rs_embed.core.geometry import Region
from rs_embed.core.product import Product
from rs_embed.providers.products.alphaearth import dequantize, nothing_there
from rs_embed.providers.products.base import ProductProvider
from rs_embed.providers.products.files import Store
from rs_embed.providers.products.single import Described, beyond, reaches, years_said
from rs_embed.providers.products.tiles import Tile, north_up
from rs_embed.providers.products.zarr_nodes import Hierarchy, Node
from rs_embed.providers.products.zarr_tiles import Axes, Cut, Decode, ZarrTile, axes_of, grid_of, said, years_of
from rs_embed.providers.products.zarrs import ZarrArray, require_zarr
from rs_embed.providers.resample import Grid

__all__ = ["OneArray", "Opened", "describe_zarr", "open_array", "values_of"]

_NAMES = ("embeddings", "embedding", "emb")
"""Of several arrays, the one so named is meant."""
_SIGNED_SQUARE = "signed_square"
"""Quantisation of AlphaEarth's mosaic."""


@dataclass(frozen=True)
class Opened:
    """An array of embeddings, its place and its years."""

    grid: Grid
    """As it is stored."""
    code: Cut
    years: tuple[int, ...]
    """Of each step; empty without time."""
    decode: Decode
    scales: Cut | None = None

    def cut(self, array: Cut, year: int | None) -> Cut:
        """Return the pixels of a year."""
        step = 0 if array.axes.time is None or year is None else self.years.index(year)
        return Cut(array.array, array.axes, step)


class OneArray:
    """An archive of one array, opened when it is first asked."""

    def __init__(self, name: str, source: str, opened: Callable[[], Opened]) -> None:
        self.name, self.source, self._make = name, source, opened
        self._lock = threading.Lock()
        self._opened: Opened | None = None

    def opened(self) -> Opened:
        """Return the array."""
        with self._lock:
            if self._opened is None:
                self._opened = self._make()
            return self._opened

    def years(self, collection: str, region: Region) -> list[int]:
        """Return the years of which a chunk exists where the region lies."""
        return [year for year in sorted(self.opened().years) if self._has(region, year)]

    def _has(self, region: Region, year: int | None) -> bool:
        this = self.opened()
        array = this.cut(this.scales or this.code, year)
        north, flipped = north_up(this.grid)
        for rows, cols in reaches(north, region):
            stored = slice(north.height - rows.stop, north.height - rows.start) if flipped else rows
            if array.array.has(array.reach(stored, cols)):
                return True
        return False

    def tiles(self, collection: str, region: Region, year: int | None) -> list[Tile]:
        """Return the array at a year, if it has anything where the region lies."""
        this = self.opened()
        north = north_up(this.grid)[0]
        if region.footprint is not None and not reaches(north, region):
            raise NoImageryError(f"{nothing_there(self.name, region, None, [])}; {beyond(north)}")
        if this.years and (year not in this.years or not self._has(region, year)):
            raise NoImageryError(nothing_there(self.name, region, year, self.years(collection, region)))
        scales = None if this.scales is None else this.cut(this.scales, year)
        id = self.name if year is None else f"{self.name}/{year}"
        return [ZarrTile(id, this.grid, this.cut(this.code, year), this.decode, scales, this.code.array.checked)]


def open_array(tree: Hierarchy, node: Node, *, decode: Decode | None = None, years: Sequence[int] = ()) -> Opened:
    """Open an array of embeddings.

    Parameters
    ----------
    tree, node
        Where it lies.
    decode
        From its numbers to values; by default what its metadata say.
    years
        Those that are known from elsewhere, of one without time.

    Raises
    ------
    ProviderError
        If its dimensions, place or years cannot be told.
    """
    axes = axes_of(node, spatial=said(tree, node, "spatial:dimensions"))
    if axes.band is None:
        raise ProviderError(f"array {node.path!r} has no dimension of the embedding beside {', '.join(node.dims)}")
    array, parent = ZarrArray(tree.store, node), node.path.rpartition("/")[0]
    scales = _scales(tree, node, parent) if decode is None else None
    found = tuple(years)
    if axes.time is not None:
        line = tree.maybe(f"{parent}/{node.dims[axes.time]}".lstrip("/"))
        if line is None or not line.is_array:
            raise ProviderError(f"array {node.path!r} has time, but no array {node.dims[axes.time]!r} says the years")
        found = tuple(years_of(ZarrArray(tree.store, line)))
        if len(set(found)) < len(found) or len(found) != node.shape[axes.time]:
            raise ProviderError(f"array {node.path!r} has several embeddings of a year ({found}); keep one of each")
    return Opened(grid_of(tree, node, axes), Cut(array, axes), found, decode or values_of(tree, node, array), scales)


def _scales(tree: Hierarchy, node: Node, parent: str) -> Cut | None:
    """Return the scales of an array whose pixels have one each."""
    scale = (said(tree, node, "geoemb:quantization") or {}).get("scale") or {}
    if scale.get("type") != "array":
        return None
    found = tree.node(f"{parent}/{scale.get('array_name')}".lstrip("/"))
    axes = axes_of(found)
    if axes.band is not None:
        raise ProviderError(f"{found.path!r} has a scale for each number of {node.path!r}, not one a pixel: not read")
    return Cut(ZarrArray(tree.store, found), axes)


def values_of(tree: Hierarchy, node: Node, array: ZarrArray) -> Decode:
    """Return the decoding that an array's metadata say.

    ``geoemb:quantization`` counts before ``scale_factor`` and ``add_offset`` (CF). A pixel has no data where any of its
    numbers is a nodata value or not finite, where its own scale is nodata or not finite, or where all of its numbers
    are the fill value, as in chunks that were never written.
    """
    told = said(tree, node, "geoemb:quantization") or {}
    scale = told.get("scale") or {}
    square = told.get("method") == _SIGNED_SQUARE
    kind = scale.get("type")
    if told and not square and kind not in ("scalar", "array"):
        raise ProviderError(
            f"{array.name} is quantised by {told.get('method')!r}, which cannot be undone without its authors' code"
        )
    factor = float(scale.get("scale", 1.0)) if kind == "scalar" else float(node.attrs.get("scale_factor", 1.0))
    offset = float(scale.get("offset", 0.0)) if kind == "scalar" else float(node.attrs.get("add_offset", 0.0))
    nodata = [*_nodata(node.attrs, array), *([float(told["nodata"])] if "nodata" in told else [])]
    lost_scale = _number(scale["nodata"]) if "nodata" in scale else math.nan
    fill, whole = array.fill, array.dtype.kind in "iu"

    def decode(code: NDArray[Any], scales: NDArray[Any] | None) -> NDArray[np.float32]:
        lost = np.isin(code, nodata).any(0) if nodata else np.zeros(code.shape[1:], bool)
        if fill is not None and (whole or fill == fill):
            lost |= (code == fill).all(0)
        if square:
            values = dequantize(code)
        elif factor == 1 and offset == 0:
            values = code.astype(np.float32)
        else:
            values = (code.astype(np.float64) * factor + offset).astype(np.float32)
        if scales is not None:
            lost |= ~np.isfinite(scales) | (scales == lost_scale)
            with np.errstate(invalid="ignore"):
                values = values * scales.astype(np.float32)
        values[:, lost | ~np.isfinite(values).all(0)] = np.nan
        return values

    return decode


def _nodata(attrs: Mapping[str, Any], array: ZarrArray) -> list[float]:
    """Return the numbers that mean nothing by an array's attributes."""
    found = [attrs[key] for key in ("_FillValue", "missing_value", "nodata") if attrs.get(key) is not None]
    numbers = [_number(value, array.dtype) for value in found]
    return [number for number in numbers if number == number]


def _number(value: Any, dtype: np.dtype[Any] | None = None) -> float:
    """Return a number as metadata write it: also as ``NaN``, ``+inf``, or as xarray's base64 of its bytes."""
    try:
        return float(value)
    except (TypeError, ValueError):
        pass
    try:
        content = base64.standard_b64decode(str(value))
        kind = "<f8" if dtype is None or len(content) == 8 else dtype.newbyteorder("<")
        return float(np.frombuffer(content, kind)[0])
    except (binascii.Error, ValueError, IndexError) as error:
        raise ProviderError(f"{value!r} among a Zarr array's metadata is no number") from error


def _array_of(tree: Hierarchy, path: str, address: str) -> Node:
    """Return the array that is meant: the one of the address, or the only one that can hold embeddings."""
    node = tree.node(path)
    if node.is_array:
        return node
    if said(tree, node, "geoemb:spatial_layout") == "utm_zones" and not path:
        raise ProviderError(
            f"{tree.store.name} has a group for each UTM zone: name one, such as {address.rstrip('/')}/utm32; stores "
            "of TESSERA are read whole by get_embedding('tessera', backend=...)"
        )
    found = [each for each in tree.arrays(path) if len(each.shape) in (3, 4) and _fits(tree, each)]
    depths = node.attrs.get("geoemb:depths") or []
    deepest = [max(depths, key=lambda depth: int(depth["dimensions"]))["array"]] if depths else []
    usual = [each for name in (*deepest, *_NAMES) for each in found if each.path.rpartition("/")[2] == name]
    if usual or len(found) == 1:
        return (usual or found)[0]
    if not found:
        raise ProviderError(
            f"{tree.store.name}/{path} has no array with the dimensions y, x and one of an embedding, or does not list "
            f"what it holds: name the array, such as {address.rstrip('/')}/embeddings, or run zarr.consolidate_metadata"
        )
    raise ProviderError(
        f"{tree.store.name} has several arrays that may hold embeddings: name one, such as "
        + ", ".join(f"{address.rstrip('/')}/{each.path.rpartition('/')[2]}" for each in found)
    )


def _fits(tree: Hierarchy, node: Node) -> bool:
    try:
        axes = axes_of(node, spatial=said(tree, node, "spatial:dimensions"))
    except ProviderError:
        return False
    return axes.band is not None


def _split(address: str) -> tuple[str, str]:
    """Return the address of a store and the path inside it."""
    found = re.match(r".*?\.zarr(?=/|$)", address, re.IGNORECASE | re.DOTALL)
    if found is None:
        raise ProviderError(f"{address!r} is no address of a Zarr store: it has no part that ends with .zarr")
    return found[0], address[found.end() :].strip("/")


def describe_zarr(address: str) -> Described:
    """Return what a Zarr store says of its embeddings: ``x.zarr``, or a group or array inside it.

    Raises
    ------
    ProviderError
        If it holds none, or several and none is named; or does not say where they lie.
    MissingExtraError
        If zarr is not installed.
    """
    require_zarr(address.rstrip("/").rpartition("/")[2])
    root, path = _split(address)
    tree = Hierarchy(Store(root))
    node = _array_of(tree, path, address)
    tags = _tags(tree, node)
    meta = json.loads(tags["rs_embed_meta"]) if "rs_embed_meta" in tags else {}
    opened = open_array(tree, node, years=years_said(meta, tags))
    axes: Axes = opened.code.axes
    assert axes.band is not None

    def provider(product: Product, address: str) -> ProductProvider:
        return ProductProvider(product, OneArray(product.sensor.id, tree.store.name, lambda: opened), "store")

    grid = north_up(opened.grid)[0]
    return Described(node.shape[axes.band], (), grid, tuple(sorted(opened.years)), tags, provider)


def _tags(tree: Hierarchy, node: Node) -> dict[str, Any]:
    """Return the attributes of the array and of the groups above it; the nearest count."""
    parts = node.path.split("/")
    above = [tree.maybe("/".join(parts[:n])) for n in range(len(parts))]
    found: dict[str, Any] = {}
    for each in (*above, node):
        found |= {} if each is None else each.attrs
    return found
