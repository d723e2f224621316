"""A Zarr array as a tile of a product: where its pixels lie, and windows of one of its years.

The place is told by ``proj:code``, ``proj:wkt2`` or ``proj:projjson`` and ``spatial:transform`` of the array or of a
group above it (https://github.com/zarr-conventions/spatial, https://github.com/zarr-experimental/geo-proj), or by a
variable that ``grid_mapping`` names (CF, with GDAL's ``GeoTransform``), or by coordinates of the cells' centres.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from pyproj.exceptions import CRSError

from rs_embed.core.errors import ProviderError
from rs_embed.providers.products.tiles import north_up
from rs_embed.providers.products.zarr_nodes import Hierarchy, Node
from rs_embed.providers.products.zarrs import ZarrArray
from rs_embed.providers.resample import Grid

__all__ = ["Axes", "Cut", "Decode", "ZarrTile", "axes_of", "grid_of", "said", "years_of"]

Block = NDArray[np.float32]

_X = ("x", "lon", "longitude", "easting")
_Y = ("y", "lat", "latitude", "northing")
_TIME = ("time", "t", "year", "years", "date")
_DEGREES = ("lon", "longitude")
_SINCE = re.compile(r"\s*(\w+?)s?\s+since\s+(\d{4}-\d{1,2}-\d{1,2})", re.IGNORECASE)
_UNITS = {"day": "D", "hour": "h", "minute": "m", "second": "s", "month": "M", "year": "Y"}
_FIRST, _LAST = 1900, 2200
"""Whole numbers between are years."""


@dataclass(frozen=True)
class Axes:
    """Which dimension of an array is which."""

    y: int
    x: int
    band: int | None
    time: int | None


def axes_of(node: Node, *, spatial: Sequence[str] | None = None) -> Axes:
    """Return which dimension is which, by their names; one that is left over holds the embedding.

    Raises
    ------
    ProviderError
        If the names do not tell.
    """
    names = [name.lower() for name in node.dims]
    wanted = [each.lower() for each in spatial] if spatial and len(spatial) == 2 else None
    y = _first(names, _Y if wanted is None else (wanted[0],))
    x = _first(names, _X if wanted is None else (wanted[1],))
    time = _first(names, _TIME)
    rest = [i for i in range(len(names)) if i not in (y, x, time)]
    if y is None or x is None or len(rest) > 1:
        told = ", ".join(node.dims) or f"none, of {len(node.shape)}"
        raise ProviderError(
            f"array {node.path!r} has the dimensions {told}: an embedding needs y and x, one of its own, and may have "
            "time; name them so (dimension_names, or _ARRAY_DIMENSIONS in Zarr 2)"
        )
    return Axes(y, x, rest[0] if rest else None, time)


def _first(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    return next((i for i, name in enumerate(names) if name in wanted), None)


def _above(tree: Hierarchy, node: Node) -> list[Mapping[str, Any]]:
    """Return the attributes of a node and of the groups above it, the nearest first."""
    parts = node.path.split("/")
    groups = [tree.maybe("/".join(parts[:n])) for n in range(len(parts) - 1, -1, -1)]
    return [node.attrs, *(group.attrs for group in groups if group is not None)]


def said(tree: Hierarchy, node: Node, key: str) -> Any:
    """Return an attribute of a node or of the nearest group above it that has it."""
    return next((attrs[key] for attrs in _above(tree, node) if key in attrs), None)


def _mapping(tree: Hierarchy, node: Node) -> Mapping[str, Any]:
    """Return the attributes of the variable that places an array by the CF conventions."""
    parent = node.path.rpartition("/")[0]
    named = str(node.attrs.get("grid_mapping", "")).split(":")[0].strip()
    for name in (named, "spatial_ref", "crs"):
        found = tree.maybe(f"{parent}/{name}".lstrip("/")) if name else None
        if found is not None and found.is_array:
            return found.attrs
    return {}


def _crs(tree: Hierarchy, node: Node, axes: Axes) -> CRS | None:
    mapping = _mapping(tree, node)
    told = [said(tree, node, f"proj:{key}") for key in ("code", "wkt2", "projjson")]
    told += [mapping.get(key) for key in ("crs_wkt", "spatial_ref")]
    code = next((each for each in told if each), None)
    if code is None:
        return CRS("EPSG:4326") if node.dims[axes.x].lower() in _DEGREES else None
    try:
        return CRS(code)
    except CRSError as error:
        raise ProviderError(f"array {node.path!r} says the CRS {str(code)[:60]!r}, which is none ({error})") from error


def _affine(tree: Hierarchy, node: Node, axes: Axes) -> Affine | None:
    """Return from columns and rows, counted from the corner of the array, to coordinates."""
    told = said(tree, node, "spatial:transform")
    if told is not None:
        if len(told) < 6:
            raise ProviderError(f"array {node.path!r}: spatial:transform={told!r} has not six numbers")
        a, b, c, d, e, f = (float(n) for n in told[:6])
        half = 0.5 if said(tree, node, "spatial:registration") == "node" else 0.0
        return Affine(a, b, c - half * (a + b), d, e, f - half * (d + e))
    gdal = str(_mapping(tree, node).get("GeoTransform", "")).split()
    if len(gdal) == 6:
        return Affine.from_gdal(*(float(n) for n in gdal))
    parent = node.path.rpartition("/")[0]
    lines = [tree.maybe(f"{parent}/{node.dims[axis]}".lstrip("/")) for axis in (axes.x, axes.y)]
    if any(line is None or not line.is_array for line in lines):
        return None
    (left, width), (top, height) = (_steps(ZarrArray(tree.store, line)) for line in lines if line is not None)
    return Affine(width, 0, left - width / 2, 0, height, top - height / 2)


def _steps(line: ZarrArray) -> tuple[float, float]:
    """Return the first coordinate and the distance of two; centres of cells must be as far from each other."""
    values = line.whole().astype(np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ProviderError(f"{line.name}: its {values.size} coordinates tell no pixel size; add spatial:transform")
    step = (values[-1] - values[0]) / (len(values) - 1)
    if not np.isfinite(values).all() or step == 0 or np.abs(np.diff(values) - step).max() > 1e-3 * abs(step):
        raise ProviderError(f"{line.name}: its coordinates are not evenly spaced, so that its pixels make no grid")
    return float(values[0]), float(step)


def grid_of(tree: Hierarchy, node: Node, axes: Axes) -> Grid:
    """Return where an array's pixels lie, as they are stored.

    Raises
    ------
    ProviderError
        If its metadata do not tell.
    """
    crs, affine = _crs(tree, node, axes), _affine(tree, node, axes)
    if crs is None or affine is None:
        lacking = "CRS (proj:code, or a grid_mapping with crs_wkt)" if crs is None else "transform or coordinates"
        raise ProviderError(
            f"{tree.store.name}/{node.path} has no georeference: no {lacking}. Write it with proj:code and "
            "spatial:transform, or by xarray with rioxarray's rio.write_crs and rio.write_transform"
        )
    height, width = node.shape[axes.y], node.shape[axes.x]
    shape = said(tree, node, "spatial:shape")
    if shape is not None and [int(n) for n in shape] != [height, width]:
        raise ProviderError(
            f"{tree.store.name}/{node.path} has {height} x {width} pixels, its spatial:shape says {shape}: metadata "
            "and array are of different versions; copy the store again"
        )
    return Grid(height, width, affine, crs)


def years_of(line: ZarrArray) -> list[int]:
    """Return the year of each step of a time coordinate: years, dates, or numbers since a date (CF).

    Raises
    ------
    ProviderError
        If they are neither.
    """
    values = line.whole()
    units = str(line.node.attrs.get("units", ""))
    since = _SINCE.match(units)
    if values.dtype.kind == "M":
        return [int(year) for year in values.astype("datetime64[Y]").astype(np.int64) + 1970]
    if since and since[1].lower() in _UNITS:
        year, month, day = (int(part) for part in since[2].split("-"))
        unit = _UNITS[since[1].lower()]
        begin = np.datetime64(f"{year:04d}-{month:02d}-{day:02d}").astype(f"datetime64[{unit}]")
        dates = begin + np.floor(values).astype(np.int64).astype(f"timedelta64[{unit}]")
        return [int(each) for each in dates.astype("datetime64[Y]").astype(np.int64) + 1970]
    if values.dtype.kind not in "iuf" and all(str(value)[:4].isdigit() for value in values):
        return [int(str(value)[:4]) for value in values]
    if values.dtype.kind in "iuf" and ((values >= _FIRST) & (values <= _LAST)).all():
        return [int(year) for year in values]
    raise ProviderError(f"{line.name}: {values.ravel()[:3].tolist()} with units {units!r} tell no years")


@dataclass(frozen=True)
class Cut:
    """The pixels of an array at one step in time."""

    array: ZarrArray
    axes: Axes
    step: int = 0

    def window(self, rows: slice, cols: slice) -> NDArray[Any]:
        """Return a window ``(C, h, w)``, or ``(h, w)`` of an array without bands, as it is stored."""
        window = self.reach(rows, cols)
        found = self.array.read(window)
        order = [self.axes.band, self.axes.y, self.axes.x]
        kept = [axis for axis in order if axis is not None]
        return found.transpose(*(axis for axis in range(found.ndim) if axis not in kept), *kept).reshape(
            [found.shape[axis] for axis in kept]
        )

    def reach(self, rows: slice, cols: slice) -> tuple[slice, ...]:
        """Return the slices of a window."""
        found = [slice(0, n) for n in self.array.shape]
        found[self.axes.y], found[self.axes.x] = rows, cols
        if self.axes.time is not None:
            found[self.axes.time] = slice(self.step, self.step + 1)
        return tuple(found)


Decode = Callable[[NDArray[Any], NDArray[Any] | None], Block]
"""From stored numbers ``(C, h, w)`` and scales ``(h, w)``, if there are, to values, NaN where there is no data."""


@dataclass(frozen=True, eq=False)
class ZarrTile:
    """An array of embeddings at one step in time, and its scales where it has them."""

    id: str
    stored: Grid
    code: Cut
    decode: Decode
    scales: Cut | None = None
    checked: str | None = None

    @property
    def grid(self) -> Grid:
        """Where its pixels lie, north up."""
        return north_up(self.stored)[0]

    def unit(self) -> tuple[int, int]:
        """Height and width of what is read and kept as one."""
        return self.code.array.chunks[self.code.axes.y], self.code.array.chunks[self.code.axes.x]

    def read(self, rows: slice, cols: slice, whole: tuple[slice, slice]) -> Block:
        """Return a window ``(C, h, w)``, NaN where there is no data."""
        flipped = self.stored.affine.e > 0
        height = self.stored.height
        stored = slice(height - rows.stop, height - rows.start) if flipped else rows
        scales = None if self.scales is None else self.scales.window(stored, cols)
        found = self.decode(self.code.window(stored, cols), scales)
        return np.ascontiguousarray(found[:, ::-1] if flipped else found)
