"""Resampling onto a lattice, such that a crop of the lattice gets the crop of the result to the bit.

Why not GDAL's warper: its coordinates start from the corner of what is asked for, so that they, and now and then
the last bit of a pixel, change with the crop. Here every pixel of a lattice has a number that no crop changes
(its distance from the origin of the CRS, in pixels), and coordinates, weights and sums follow from that number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Transformer

__all__ = ["Grid", "ReadWindow", "alignment", "resample"]

Float = NDArray[np.floating[Any]]
Block = NDArray[np.float32]

ReadWindow = Callable[[slice, slice], Block]
"""Rows and columns inside a grid → ``(C, rows, columns)`` float32, NaN where there is no data."""

_UNIT = 2.0**20
"""Lattice origins are rounded to this fraction of a pixel, so that floating noise of a crop cannot show."""
_CONTROL = 16
"""Pixels between exact transformations; linear in between (error ≈ d²/8R: 5e-5 px at 10 m)."""
_ALIGNED_SIZE = 1e-9
_ALIGNED_PX = 1e-4
_SAMPLES = 32
"""Most samples along a side of a coarse pixel."""
_BUDGET = 8_000_000
"""Source values held at once."""
_CHUNK = 250_000
"""Pixels interpolated at once: what the processor's cache holds."""


@dataclass(frozen=True)
class Grid:
    """Where the pixels of an array lie."""

    height: int
    width: int
    affine: Affine
    crs: CRS | None

    @property
    def geobox(self) -> GeoBox:
        """The same as a geobox."""
        return GeoBox((self.height, self.width), self.affine, self.crs)


@dataclass(frozen=True)
class _Axes:
    """A lattice by the numbers of its pixels: ``position * size`` is a coordinate."""

    row: float
    col: float
    size_y: float
    size_x: float

    @classmethod
    def of(cls, geobox: GeoBox) -> _Axes:
        a = geobox.affine
        if a.b or a.d:
            raise ValueError("a lattice must run along the axes of its CRS; this one is rotated")
        return cls(round(a.f / a.e * _UNIT) / _UNIT, round(a.c / a.a * _UNIT) / _UNIT, a.e, a.a)


def alignment(grid: Grid, geobox: GeoBox) -> tuple[int, int, int] | None:
    """Return ``(k, row, column)`` where pixels of the lattice are exactly k × k of the grid's; else None.

    Row and column are those of the grid's pixel at the lattice's corner; they may lie outside. Pixels of the same size
    that lie askew are shifted by at most half a pixel rather than blurred: interpolating half-way between pixels moved
    the median of a real scene's red band by a quarter, the shift by nothing.
    """
    src, dst = grid.affine, geobox.affine
    if grid.crs != geobox.crs or src.b or src.d or dst.b or dst.d:
        return None
    ratio = dst.a / src.a
    k = round(ratio)
    if k < 1 or abs(ratio / k - 1) > _ALIGNED_SIZE or abs(dst.e / src.e / k - 1) > _ALIGNED_SIZE:
        return None
    col, row = (dst.c - src.c) / src.a, (dst.f - src.f) / src.e
    if k == 1:
        return 1, math.floor(row + 0.5 - _ALIGNED_PX), math.floor(col + 0.5 - _ALIGNED_PX)
    if max(abs(col - round(col)), abs(row - round(row))) > _ALIGNED_PX:
        return None
    return k, round(row), round(col)


def resample(read: ReadWindow, channels: int, grid: Grid, geobox: GeoBox, *, classes: bool = False) -> Block:
    """Return ``(C, H, W)`` on exactly ``geobox``, NaN where the source has no data.

    Pixels that lie exactly on the grid's are taken as they are. Otherwise continuous values are bilinear (the mean of
    the samples of an m × m raster within the pixel where it is at least twice as coarse), classes nearest. A source
    pixel without data takes no part, and what has its centre in one has no data.

    Parameters
    ----------
    read
        Reads a window of the source.
    channels
        Number of channels that ``read`` returns.
    grid
        Where the source's pixels lie.
    geobox
        The lattice wanted, along the axes of its CRS.
    classes
        Whether values are class numbers.
    """
    out = np.full((channels, *geobox.shape), np.nan, np.float32)
    found = alignment(grid, geobox)
    if found is not None and (found[0] == 1 or not classes):
        _copy(read, grid, out, found)
    else:
        _interpolate(read, grid, geobox, out, classes=classes)
    return out


def _copy(read: ReadWindow, grid: Grid, out: Block, found: tuple[int, int, int]) -> None:
    """Fill ``out`` from an aligned source, as means of k × k pixels."""
    k, row, col = found
    channels, height, width = out.shape
    step = max(1, _BUDGET // max(1, width * k * k * channels))
    for top in range(0, height, step):
        rows = min(step, height - top)
        block = _padded(read, grid, (row + top * k, col), (rows * k, width * k), channels)
        if block is not None:
            out[:, top : top + rows] = block if k == 1 else _box_mean(block, k)


def _padded(
    read: ReadWindow, grid: Grid, corner: tuple[int, int], shape: tuple[int, int], channels: int
) -> Block | None:
    """Read a window that may reach beyond the source: NaN there, None where nothing is inside."""
    top, left = max(corner[0], 0), max(corner[1], 0)
    bottom, right = min(corner[0] + shape[0], grid.height), min(corner[1] + shape[1], grid.width)
    if top >= bottom or left >= right:
        return None
    inside = read(slice(top, bottom), slice(left, right))
    if inside.shape[1:] == shape:
        return inside
    block = np.full((channels, *shape), np.nan, np.float32)
    block[:, top - corner[0] : bottom - corner[0], left - corner[1] : right - corner[1]] = inside
    return block


def _box_mean(block: Block, k: int) -> Block:
    """Means of k × k pixels, NaN where fewer than half of them have data; summed in a fixed order."""
    known = ~np.isnan(block)
    total = _sum_every(_sum_every(np.where(known, block, 0).astype(np.float64), k, 1), k, 2)
    count = _sum_every(_sum_every(known.astype(np.int32), k, 1), k, 2)
    return np.where(2 * count >= k * k, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _sum_every(values: NDArray[Any], k: int, axis: int) -> NDArray[Any]:
    """Sums of k neighbours along an axis, added one after the other."""
    first = (slice(None),) * axis
    total = values[(*first, slice(0, None, k))].copy()
    for i in range(1, k):
        total += values[(*first, slice(i, None, k))]
    return total


def _interpolate(read: ReadWindow, grid: Grid, geobox: GeoBox, out: Block, *, classes: bool) -> None:
    """Fill ``out`` by nearest or bilinear samples, a band of rows at a time."""
    ratio = _coarseness(grid, geobox)
    samples = 1 if classes or ratio < 2 else min(math.ceil(ratio - 1e-6), _SAMPLES)
    axes = _Axes.of(geobox)
    channels, height, width = out.shape
    step = max(1, int(min(_BUDGET / (width * max(ratio, 1.0) ** 2 * channels), _CHUNK / width)))
    for top in range(0, height, step):
        rows = min(step, height - top)
        _fill_rows(read, grid, (axes, geobox.crs), out[:, top : top + rows], top, samples, classes)


def _coarseness(grid: Grid, geobox: GeoBox) -> float:
    """Pixels of the source per pixel of the lattice, at the source's centre (so that no crop changes it)."""
    cols = np.array([0.0, 1.0, 0.0]) + grid.width // 2
    rows = np.array([0.0, 0.0, 1.0]) + grid.height // 2
    a = grid.affine
    x, y = a.a * cols + a.b * rows + a.c, a.d * cols + a.e * rows + a.f
    if grid.crs != geobox.crs:
        x, y = _transformer(_text(grid.crs), _text(geobox.crs)).transform(x, y)
    side = max(math.hypot(x[1] - x[0], y[1] - y[0]), math.hypot(x[2] - x[0], y[2] - y[0]))
    size = max(abs(geobox.affine.a), abs(geobox.affine.e))
    return size / side if math.isfinite(side) and side > 0 else 1.0


def _fill_rows(
    read: ReadWindow,
    grid: Grid,
    lattice: tuple[_Axes, CRS | None],
    out: Block,
    top: int,
    samples: int,
    classes: bool,
) -> None:
    """Fill some rows of the lattice."""
    axes, crs = lattice
    _, rows, cols = out.shape
    places = [(s + 0.5) / samples for s in range(samples)]
    y = axes.row + top + np.arange(rows)
    x = axes.col + np.arange(cols)
    ends = {places[0], places[-1]}
    corners = {(i, j): _source(grid, axes, crs, y + i, x + j) for i in ends for j in ends}
    reach_y, reach_x = zip(*corners.values(), strict=True)
    window = _window(reach_y, grid.height), _window(reach_x, grid.width)
    if window[0].start >= window[0].stop or window[1].start >= window[1].stop:
        return
    block = read(*window)
    if classes:
        out[...] = _nearest(block, grid, window, *corners[0.5, 0.5])
        return
    total, weight = np.zeros(out.shape, np.float32), np.zeros(out.shape, np.float32)
    inside = np.zeros(out.shape, np.int32)
    known = ~np.isnan(block)
    filled = np.where(known, block, np.float32(0))
    everywhere = bool(known.all())
    for i in places:
        for j in places:
            at = corners.get((i, j)) or _source(grid, axes, crs, y + i, x + j)
            inside += ~np.isnan(_nearest(block, grid, window, *at))
            _add_bilinear(filled, None if everywhere else known, grid, window, at, total, weight)
    usable = (2 * inside >= samples * samples) & (weight > 0)
    out[...] = np.where(usable, total / np.where(weight > 0, weight, 1), np.float32(np.nan))


def _window(coordinates: Sequence[Float], size: int) -> slice:
    """Pixels that the coordinates touch, with a margin for the neighbours."""
    ends = [v for c in coordinates if (v := c[np.isfinite(c)]).size]
    if not ends:
        return slice(0, 0)
    low, high = min(float(v.min()) for v in ends), max(float(v.max()) for v in ends)
    return slice(max(0, math.floor(low) - 3), max(0, min(size, math.floor(high) + 4)))


def _source(grid: Grid, axes: _Axes, crs: CRS | None, y: Float, x: Float) -> tuple[Float, Float]:
    """Row and column in the source of lattice positions: (H,) and (W,) where separable, else (H, W) twice."""
    a = grid.affine
    if grid.crs == crs and not a.b and not a.d:
        return (y * axes.size_y - a.f) / a.e, (x * axes.size_x - a.c) / a.a
    ky, ty = _control(y)
    kx, tx = _control(x)
    rows, cols = _control_points(grid, axes, crs, np.arange(ky[0], ky[-1] + 2), np.arange(kx[0], kx[-1] + 2))
    iy, ix = (ky - ky[0]).astype(np.intp), (kx - kx[0]).astype(np.intp)
    return _bilinear_points(rows, iy, ix, ty, tx), _bilinear_points(cols, iy, ix, ty, tx)


def _control(positions: Float) -> tuple[Float, Float]:
    """Number of the control point before each position, and the fraction of the way to the next."""
    at = positions / _CONTROL  # exact: a power of two
    before = np.floor(at)
    return before, at - before


def _bilinear_points(points: Float, iy: NDArray[np.intp], ix: NDArray[np.intp], ty: Float, tx: Float) -> Float:
    lines = points[iy] * (1 - ty)[:, None] + points[iy + 1] * ty[:, None]
    return lines[:, ix] * (1 - tx) + lines[:, ix + 1] * tx


def _control_points(grid: Grid, axes: _Axes, crs: CRS | None, ky: Float, kx: Float) -> tuple[Float, Float]:
    """Exact rows and columns in the source of the control points."""
    x, y = np.meshgrid(kx * _CONTROL * axes.size_x, ky * _CONTROL * axes.size_y)
    if grid.crs != crs:
        x, y = _transformer(_text(crs), _text(grid.crs)).transform(x, y)
    if grid.crs is not None and grid.crs.geographic:
        middle = grid.affine.a * grid.width / 2 + grid.affine.b * grid.height / 2 + grid.affine.c
        x = x - 360 * np.round((x - middle) / 360)  # the source may lie across the antimeridian
    x, y = np.where(np.isfinite(x), x, np.nan), np.where(np.isfinite(y), y, np.nan)
    inverse = ~grid.affine
    return inverse.d * x + inverse.e * y + inverse.f, inverse.a * x + inverse.b * y + inverse.c


def _text(crs: CRS | None) -> str:
    if crs is None:
        raise ValueError("an array without a georeference has no place on a lattice that has a CRS")
    return f"EPSG:{crs.epsg}" if crs.epsg is not None else str(crs.to_wkt())


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)


def _take(block: NDArray[Any], rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[Any]:
    """``block[:, rows, cols]`` for separable or full index arrays."""
    if rows.ndim == 1:
        return block.take(rows, axis=1).take(cols, axis=2)
    flat: NDArray[Any] = block.reshape(block.shape[0], -1).take(rows * block.shape[2] + cols, axis=1, mode="clip")
    return flat


def _indices(at: Float, size: int, window: slice) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Indices into a window, and which of them lie in the source at all."""
    known = (at >= 0) & (at < size)
    safe = np.where(known, at, window.start) - window.start
    return np.clip(safe, 0, window.stop - window.start - 1).astype(np.intp), known


def _both(rows: NDArray[Any], cols: NDArray[Any]) -> NDArray[Any]:
    """The product of a pair that is separable or full."""
    product: NDArray[Any] = rows[:, None] * cols if rows.ndim == 1 else rows * cols
    return product


def _nearest(block: Block, grid: Grid, window: tuple[slice, slice], rows: Float, cols: Float) -> Block:
    """The pixels that hold the points, NaN outside of the source (its border belongs to it)."""
    iy, known_y = _indices(np.where(rows == grid.height, grid.height - 1, np.floor(rows)), grid.height, window[0])
    ix, known_x = _indices(np.where(cols == grid.width, grid.width - 1, np.floor(cols)), grid.width, window[1])
    return np.where(_both(known_y, known_x), _take(block, iy, ix), np.float32(np.nan)).astype(np.float32)


def _add_bilinear(
    filled: Block,
    known: NDArray[np.bool_] | None,
    grid: Grid,
    window: tuple[slice, slice],
    at: tuple[Float, Float],
    total: Block,
    weight: Block,
) -> None:
    """Add the four weighted neighbours of each point; those without data weigh nothing."""
    (y0, wy), (x0, wx) = (_fraction(v - 0.5) for v in at)
    across = [(_indices(x0 + d, grid.width, window[1]), wx if d else 1 - wx) for d in (0, 1)]
    for dy in (0, 1):
        iy, in_y = _indices(y0 + dy, grid.height, window[0])
        part_y = np.where(in_y, wy if dy else 1 - wy, np.float32(0))
        for (ix, in_x), part in across:
            share = _both(part_y, np.where(in_x, part, np.float32(0)))
            # where all is known, a factor of one changes no bit
            shares = share if known is None else share * _take(known, iy, ix)
            total += shares * _take(filled, iy, ix)
            weight += shares


def _fraction(position: Float) -> tuple[Float, Block]:
    """Floor and fraction of a position; a point outside of the projection counts as far outside."""
    safe = np.where(np.isfinite(position), position, -10.0)
    whole = np.floor(safe)
    return whole, (safe - whole).astype(np.float32)
