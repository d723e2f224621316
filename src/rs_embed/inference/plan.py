"""Every decision about geometry and time: from a region to lattice, windows, cells, intervals and requests."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rs_embed.core.errors import ModelError
from rs_embed.core.geometry import Lattice, Rect, Region
from rs_embed.core.imagery import ImageRequest, Interval
from rs_embed.core.model_spec import Condition, Window
from rs_embed.core.specs import InputPrepSpec, OutputSpec, TemporalSpec
from rs_embed.inference.frames import split_time
from rs_embed.inference.setup import InputSetup, Setup

__all__ = ["Block", "Plan", "WindowPlan", "make_plan"]

BLOCK_BYTES = 16 * 2**20
"""Pixels that are loaded at once."""
GRID_BYTES = 2**30
"""A pixel model's grid is kept below this by coarser cells."""
PIXEL_BLOCK = 256
"""Side of a block of a pixel model, pixels."""


@dataclass(frozen=True)
class WindowPlan:
    """One window of the net: what it reads, and which of its cells are kept."""

    rect: Rect
    """Pixels read, on the lattice of `Plan`, with the halo of pixel models."""
    cells: Rect
    """All cells of the window's features, on the lattice of cells."""
    owned: Rect
    """Those that this window contributes: seams lie in the middle of overlaps."""


@dataclass(frozen=True)
class Block:
    """Windows that are loaded together."""

    rect: Rect
    windows: tuple[WindowPlan, ...]
    nbytes: int


@dataclass(frozen=True)
class Plan:
    """A region as it will be embedded; two equal plans give the same numbers."""

    setup: Setup
    region: Region
    output: OutputSpec
    prep: InputPrepSpec
    temporal: TemporalSpec | None
    intervals: tuple[tuple[Interval, ...], ...]
    """For each input in the setup's order."""
    lattice: Lattice
    step: int
    """Lattice pixels that are read as one (averaged), 1 as a rule."""
    side: tuple[int, int]
    """Height and width of what the net gets, pixels."""
    blocks: tuple[Block, ...]
    footprint: Rect
    """All windows together, without halo, on the lattice."""
    cell_rect: Rect
    """The grid on the lattice of cells."""
    cell_lattice: Lattice
    mode: str
    """``resize``, ``tile`` or ``pixel``: what was really done."""
    cell: int
    """Pixels along a side of a grid cell for pixel models, else 1."""

    @property
    def windows(self) -> int:
        """Number of windows."""
        return sum(len(block.windows) for block in self.blocks)

    @property
    def effective_gsd(self) -> float:
        """Metres of ground in a pixel of what the net gets."""
        if self.mode == "pixel":
            return self.lattice.metres
        rect = self.blocks[0].windows[0].rect
        return self.lattice.gsd * rect.width / self.side[1]

    @cached_property
    def grid_geobox(self) -> GeoBox:
        """Lattice of the output grid."""
        if self.cell == 1:
            return self.cell_lattice.geobox(self.cell_rect)
        rect = self.cell_rect
        return self.cell_lattice.geobox(
            Rect(rect.row, rect.col, rect.height * self.cell, rect.width * self.cell), self.cell
        )

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What the encoder is told; of a product in degrees also where pixels lie, whose areas differ."""
        told, crs = self.setup.conditions, self.lattice.crs
        by_area = self.setup.spec.product is not None and crs is not None and crs.geographic
        return (*told, "pixel_place") if by_area and "pixel_place" not in told else told

    def coverage(self, cells: Rect) -> NDArray[np.float32]:
        """Return the area fraction inside the region of each cell."""
        return self.region.coverage(self.cell_lattice.geobox(cells))

    def parts(self, item: InputSetup, block: Block) -> GeoBox:
        """Return the lattice of an input for one block."""
        ratio = round(item.gsd / self.lattice.gsd)
        return self.lattice.geobox(block.rect, self.step * ratio)

    @cached_property
    def requests(self) -> Mapping[str, ImageRequest]:
        """One request for each input, the same for all blocks."""
        outer = self.blocks[0].rect
        for block in self.blocks[1:]:
            outer = outer.union(block.rect)
        found = {}
        for (name, item), intervals in zip(self.setup.inputs.items(), self.intervals, strict=True):
            whole = Block(outer, (), 0)
            found[name] = ImageRequest(
                sensor=item.sensor.id,
                bands=tuple(b for b in item.bands if b not in item.absent),
                footprint=self.region.footprint,
                geobox=self.parts(item, whole),
                intervals=intervals,
                composite="none" if item.frames.kind == "acquisitions" else item.wanted.composite,
                mask=item.sensor.mask,
                cloudy_pct=100.0 if item.wanted.cloudy_pct is None else float(item.wanted.cloudy_pct),
                orbit=item.wanted.orbit,
                collection=item.wanted.collection,
                mode="IW" if item.sensor.kind == "radar" and item.wanted.s1_require_iw else None,
                other_modes=item.wanted.s1_relax_iw_on_empty,
            )
        return found


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


@dataclass(frozen=True)
class _Layout:
    """Where windows go, before they are cut into blocks."""

    rects: list[list[Rect]]
    """Windows by row and column, without halo."""
    step: int
    side: tuple[int, int]
    overlap: int
    mode: str


def _one_fixed(rect: Rect, size: int, unit: int) -> _Layout:
    """One square window of any extent, resampled to the net's size."""
    length = max(rect.height, rect.width, -(-size // 8))
    step = max(1, length // (2 * size)) if length > 2 * size else 1
    length = _round_up(length, step * unit)
    return _Layout([[rect.grow(length, length, unit)]], step, (size, size), 0, "resize")


def _tiles(rect: Rect, size: int, overlap: int, hard: int, unit: int) -> _Layout:
    """Whole tiles at the native resolution, centred on the region."""
    stride = size - overlap
    down = max(1, math.ceil((rect.height - overlap) / stride))
    across = max(1, math.ceil((rect.width - overlap) / stride))
    if down * across > hard:
        raise ModelError(
            f"input_prep would create {down * across} tiles (> max_tiles_hard={hard}); raise max_tiles_hard, "
            "use 'resize' or 'auto', or split the region"
        )
    whole = rect.grow(down * stride + overlap, across * stride + overlap, unit)
    rects = [
        [Rect(whole.row + i * stride, whole.col + j * stride, size, size) for j in range(across)] for i in range(down)
    ]
    return _Layout(rects, 1, (size, size), overlap, "tile")


def _tile_size(window: Window, prep: InputPrepSpec, model: str) -> tuple[int, int]:
    """Return size and overlap of a tile in pixels."""
    own = window.size or ((window.max or 0) // window.multiple * window.multiple)
    size = prep.tile_size or own
    if window.size is not None and size != window.size:
        raise ModelError(f"{model} takes windows of {window.size} pixels only; leave tile_size={size} out")
    if size % window.multiple or size < window.min or size > (window.max or size):
        raise ModelError(
            f"{model}: tile_size={size} must be a multiple of {window.multiple} pixels "
            f"from {window.min} to {window.max}"
        )
    overlap = size - (prep.tile_stride or size)
    if overlap < 0 or overlap % (2 * window.patch):
        raise ModelError(
            f"{model}: tile_stride={prep.tile_stride} must leave an overlap that is a multiple of "
            f"{2 * window.patch} pixels (twice its patch), got {overlap}"
        )
    return size, overlap


def _one_window(rect: Rect, window: Window, unit: int) -> _Layout:
    """One window: as it is where the net takes any size, else resampled."""
    if window.size is not None:
        return _one_fixed(rect, window.size, unit)
    multiple = window.multiple
    least = max(window.min, _round_up(window.context, multiple))
    height, width = (max(least, _round_up(n, multiple)) for n in (rect.height, rect.width))
    if window.square:
        height = width = max(height, width)
    if window.max is not None and max(height, width) > window.max:
        return _one_fixed(rect, window.max // multiple * multiple, unit)
    return _Layout([[rect.grow(height, width, unit)]], 1, (height, width), 0, "resize")


def _layout(rect: Rect, window: Window, prep: InputPrepSpec, model: str, unit: int) -> _Layout:
    """Choose windows by the mode (design: Windows)."""
    if prep.mode == "resize":
        return _one_window(rect, window, unit)
    size, overlap = _tile_size(window, prep, model)
    if prep.mode == "tile":
        return _tiles(rect, size, overlap, prep.max_tiles_hard, unit)
    if max(rect.height, rect.width) <= size:
        return _one_window(rect, window, unit)
    stride = size - overlap
    count = math.prod(max(1, math.ceil((n - overlap) / stride)) for n in (rect.height, rect.width))
    if count <= prep.max_tiles:
        return _tiles(rect, size, overlap, prep.max_tiles_hard, unit)
    return _one_window(rect, window, unit)


def _pixel_layout(rect: Rect, cell: int, unit: int) -> _Layout:
    """Blocks of a pixel model, each a whole number of cells."""
    whole = rect.grow(_round_up(rect.height, cell), _round_up(rect.width, cell), unit)
    size = _round_up(PIXEL_BLOCK, cell)
    rects = [
        [
            Rect(row, col, min(size, whole.row + whole.height - row), min(size, whole.col + whole.width - col))
            for col in range(whole.col, whole.col + whole.width, size)
        ]
        for row in range(whole.row, whole.row + whole.height, size)
    ]
    return _Layout(rects, 1, (rect.height, rect.width), 0, "pixel")


def _to_cells(rect: Rect, origin: Rect, cell_px: float) -> Rect:
    """Return a rectangle of pixels as cells, counted from ``origin``."""
    return Rect(
        round((rect.row - origin.row) / cell_px),
        round((rect.col - origin.col) / cell_px),
        round(rect.height / cell_px),
        round(rect.width / cell_px),
    )


def _windows(layout: _Layout, window: Window, origin: Rect, cell_px: float) -> list[list[WindowPlan]]:
    """Give each window its cells: seams lie in the middle of overlaps."""
    half = layout.overlap // 2
    grid: list[list[WindowPlan]] = []
    for i, line in enumerate(layout.rects):
        grid.append([])
        for j, rect in enumerate(line):
            top, left = (half if i else 0), (half if j else 0)
            bottom = half if i < len(layout.rects) - 1 else 0
            right = half if j < len(line) - 1 else 0
            kept = Rect(rect.row + top, rect.col + left, rect.height - top - bottom, rect.width - left - right)
            grid[-1].append(
                WindowPlan(rect.pad(window.halo), _to_cells(rect, origin, cell_px), _to_cells(kept, origin, cell_px))
            )
    return grid


def _blocks(grid: list[list[WindowPlan]], bytes_of: Any) -> Iterator[Block]:
    """Group neighbouring windows into rectangles that are loaded at once."""
    per_window = max(1, bytes_of(grid[0][0].rect))
    budget = max(1, BLOCK_BYTES // per_window)
    across = min(len(grid[0]), budget)
    down = min(len(grid), max(1, budget // across))
    for i in range(0, len(grid), down):
        for j in range(0, len(grid[0]), across):
            members = tuple(w for line in grid[i : i + down] for w in line[j : j + across])
            outer = members[0].rect
            for member in members[1:]:
                outer = outer.union(member.rect)
            yield Block(outer, members, bytes_of(outer))


def _cell_px(setup: Setup, given: int | None, rect: Rect, grid: bool) -> int:
    """Return the pixels of a cell of a pixel model: the user's, or the fewest that keep the grid below 1 GB."""
    if given is not None or not grid:
        return given or 1
    dims = setup.variant.dims["grid"]
    cell = 1
    while math.ceil(rect.height / cell) * math.ceil(rect.width / cell) * dims * 4 > GRID_BYTES:
        cell *= 2
    return cell


def make_plan(
    setup: Setup,
    region: Region,
    *,
    temporal: TemporalSpec | None,
    output: OutputSpec,
    prep: InputPrepSpec,
    lattice: Lattice | None = None,
    frames: int | None = None,
) -> Plan:
    """Decide everything about one region.

    Parameters
    ----------
    lattice
        The pixels of data that have no place; otherwise the lattice follows from the region.
    frames
        How many frames will be loaded, where the intervals do not say.

    Raises
    ------
    ModelError
        If the region, the time or the tiles do not fit the model.
    """
    items = tuple(setup.inputs.values())
    gsd = min(item.gsd for item in items)
    for item in items:
        if abs(item.gsd / gsd - round(item.gsd / gsd)) > 1e-9:
            raise ModelError(f"{setup.spec.name}: gsd {item.gsd} m of {item.name} is no multiple of {gsd} m")
    lattice = lattice or region.lattice(gsd, items[0].sensor.offset)
    unit = math.lcm(*(round(item.gsd / gsd) for item in items))
    own = setup.variant.window
    window = replace(own, multiple=math.lcm(own.multiple, own.patch, unit))
    rect = lattice.cover(region.shape.bounds, unit)
    pixel = setup.spec.locality == "pixel"
    cell = _cell_px(setup, setup.options.get("cell"), rect, output.mode == "grid") if pixel else 1
    layout = (
        _pixel_layout(rect, math.lcm(cell, unit), unit) if pixel else _layout(rect, window, prep, setup.spec.name, unit)
    )
    intervals = tuple(split_time(item.frames, temporal, setup.spec.name) for item in items)
    first, last = layout.rects[0][0], layout.rects[-1][-1]
    footprint = first.union(last)
    cell_px = 1.0 if pixel else first.width / (layout.side[1] / window.patch)
    cells = Lattice(
        lattice.crs,
        lattice.gsd * cell_px,
        lattice.x0 + footprint.col * lattice.gsd,
        lattice.y0 - footprint.row * lattice.gsd,
    )
    frames = frames or max((len(i) for i in intervals), default=1) or 1
    channels = sum(len(item.bands) for item in items)

    def bytes_of(area: Rect) -> int:
        return frames * channels * 4 * (area.height // layout.step) * (area.width // layout.step)

    blocks = tuple(_blocks(_windows(layout, window, footprint, cell_px), bytes_of))
    return Plan(
        setup,
        region,
        output,
        prep,
        temporal,
        intervals,
        lattice,
        layout.step,
        layout.side,
        blocks,
        footprint,
        _crop(cells, region, footprint, cell_px, cell),
        cells,
        layout.mode,
        cell,
    )


def _crop(cells: Lattice, region: Region, footprint: Rect, cell_px: float, cell: int) -> Rect:
    """Return the cells that touch the region (of the coarse grid, for pixel models with larger cells)."""
    if cell > 1:
        return Rect(0, 0, footprint.height // cell, footprint.width // cell)
    found = cells.cover(region.shape.bounds)
    rows, cols = round(footprint.height / cell_px), round(footprint.width / cell_px)
    top, left = max(0, found.row), max(0, found.col)
    bottom, right = min(rows, found.row + found.height), min(cols, found.col + found.width)
    return Rect(top, left, bottom - top, right - left)
