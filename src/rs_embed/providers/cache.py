"""Pixels that were read once are kept on this machine, by scene, band and lattice.

What is kept are the rectangles that requests asked for, cut at every 256th line of their lattice's own numbering.
A first request reads not one pixel more than without a cache; another one reads whichever of its pixels are not there,
whatever model, bands, period or window asks, and the whole of a block that somebody has asked for a part of before
(docs/decisions/0007-cache-of-pixels.md). As a crop of the lattice gives the crop of the result to the bit
(`rs_embed.providers.base.SceneProvider.read`), so do pieces put together.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rs_embed.core.errors import ProviderError
from rs_embed.core.folders import cache_dir
from rs_embed.core.geometry import Rect
from rs_embed.core.imagery import ImageRequest, Interval, Scene, geobox_dict
from rs_embed.providers.base import SceneProvider
from rs_embed.providers.cache_files import LIMIT, PixelFiles, pixel_files
from rs_embed.providers.raster import Layout

__all__ = ["PIXELS", "CachedProvider", "cached", "pixel_folder"]

PIXELS = 1
"""Version of our pixels: add one whenever a change of harmonising, resampling or reading changes any of them."""
RECENT = timedelta(days=30)
"""Scenes younger than this are not kept: their products may still be replaced."""

_BLOCK = 256
"""Pixels of a side of what is stored in one file at most."""
_SQUARE = 2048
"""Pixels of a side of what lies in one folder."""
_TILE = 512**2
"""Pixels that a source reads at once in any case: a read is split only to save more than these."""
_UNIT = 2.0**20
"""Origins of lattices are rounded to this fraction of a pixel, as `rs_embed.providers.resample` does."""

Pixels = NDArray[np.float32]
Known = NDArray[np.bool_]


def pixel_folder() -> Path:
    """Return the folder of cached pixels."""
    return cache_dir() / "pixels"


def cached(provider: SceneProvider, *, folder: Path | None = None, limit: int = LIMIT) -> SceneProvider:
    """Return the provider with a cache of pixels in front of it.

    Only scenes are kept that have a key (`SceneProvider.scene_key`) and are older than 30 days. With or without the
    cache, pixels are equal to the bit.

    Parameters
    ----------
    provider
        Reads what is not there yet.
    folder
        Where pixels lie: ``pixels`` in the cache folder where absent.
    limit
        Bytes on the disk; the least recently used pixels go first.
    """
    return CachedProvider(provider, pixel_files(folder or pixel_folder(), limit))


@dataclass(frozen=True)
class _Lattice:
    """A window of a lattice whose pixels have numbers that no crop changes."""

    name: str
    """The lattice, whichever window of it."""
    window: Rect
    geobox: GeoBox

    @classmethod
    def of(cls, geobox: GeoBox) -> _Lattice | None:
        """Return the window that a geobox is, None where it is rotated or has no place."""
        a = geobox.affine
        told = geobox_dict(geobox)
        if a.b or a.d or geobox.crs is None or told is None:
            return None
        row, col = round(a.f / a.e * _UNIT) / _UNIT, round(a.c / a.a * _UNIT) / _UNIT
        top, left = math.floor(row), math.floor(col)
        name = json.dumps([told["crs"], a.e, a.a, row - top, col - left])
        return cls(name, Rect(top, left, *geobox.shape), geobox)

    def crop(self, rect: Rect) -> GeoBox:
        """Return the geobox of a part of the window."""
        if rect == self.window:
            return self.geobox
        a, row, col = self.geobox.affine, rect.row - self.window.row, rect.col - self.window.col
        corner = Affine(a.a, 0, a.c + a.a * col, 0, a.e, a.f + a.e * row)
        return GeoBox((rect.height, rect.width), corner, self.geobox.crs)


def _common(one: Rect, other: Rect) -> Rect | None:
    row, col = max(one.row, other.row), max(one.col, other.col)
    height = min(one.row + one.height, other.row + other.height) - row
    width = min(one.col + one.width, other.col + other.width) - col
    return Rect(row, col, height, width) if height > 0 and width > 0 else None


def _area(rect: Rect | None) -> int:
    return 0 if rect is None else rect.height * rect.width


def _cut(window: Rect, size: int) -> Iterator[Rect]:
    """The parts of a window between every ``size``-th line of the lattice."""
    for row in range(window.row // size * size, window.row + window.height, size):
        for col in range(window.col // size * size, window.col + window.width, size):
            part = _common(window, Rect(row, col, size, size))
            if part is not None:
                yield part


def _gaps(known: Known, window: Rect) -> tuple[Rect, ...]:
    """Rectangles that hold every unknown pixel: few, and little besides."""
    missing = ~known
    rows = np.flatnonzero(missing.any(axis=1))
    if not rows.size:
        return ()
    changes = np.flatnonzero((missing[1:] != missing[:-1]).any(axis=1)) + 1
    edges = [int(rows[0]), *(int(c) for c in changes if rows[0] < c <= rows[-1]), int(rows[-1]) + 1]
    found: list[Rect] = []
    for top, bottom in itertools.pairwise(edges):
        ends = np.flatnonzero(np.diff(missing[top].astype(np.int8), prepend=0, append=0))
        for left, right in ends.reshape(-1, 2).tolist():
            _join(found, Rect(window.row + top, window.col + left, bottom - top, right - left))
    return tuple(found)


def _join(found: list[Rect], rect: Rect) -> None:
    """Add a rectangle, as a part of one that is there where that reads hardly more."""
    waste = [_area(one.union(rect)) - _area(one) - _area(rect) for one in found]
    best = min(range(len(found)), key=waste.__getitem__, default=None)
    if best is not None and waste[best] < _TILE:
        found[best] = found[best].union(rect)
    else:
        found.append(rect)


def _covered(part: Rect, others: Sequence[Rect]) -> bool:
    """Whether rectangles hold every pixel of another."""
    known = np.zeros((part.height, part.width), bool)
    for other in others:
        common = _common(part, other)
        if common is not None:
            known[common.within(part)] = True
    return bool(known.all())


@dataclass(frozen=True)
class _Cell:
    """A block, or what a window takes of it."""

    key: str
    rect: Rect
    others: tuple[Rect, ...]
    """The rectangles of the block that are there."""


@dataclass(frozen=True)
class _Frame:
    """Pixels of one band: those of a window, and whole blocks at its border."""

    rect: Rect
    values: Pixels
    known: Known
    """True also where nothing is asked for."""
    lacking: tuple[_Cell, ...]
    """Those that were not there as a whole."""


class CachedProvider(SceneProvider):
    """A provider whose pixels are looked up before they are read; make one with `cached`.

    Parameters
    ----------
    provider
        Reads what is not there yet.
    files
        Where pixels lie.
    version
        Of our pixels.
    """

    def __init__(self, provider: SceneProvider, files: PixelFiles, *, version: int = PIXELS) -> None:
        self.provider, self.files, self.version = provider, files, version
        self.name, self.source = provider.name, provider.source
        self.waits, self.most_passes = provider.waits, provider.most_passes

    def __getattr__(self, name: str) -> Any:
        """Return what else the provider can do."""
        if name == "provider" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.provider, name)

    def offers(self, sensor: str) -> bool:
        """Whether the provider may have imagery of that sensor."""
        return self.provider.offers(sensor)

    def search(self, request: ImageRequest, interval: Interval) -> list[Scene]:
        """Return the provider's scenes."""
        return self.provider.search(request, interval)

    def scene_key(self, scene: Scene) -> str | None:
        """Return the provider's key of a scene."""
        return self.provider.scene_key(scene)

    def notes(self, request: ImageRequest) -> tuple[str, ...]:
        """Return the provider's notes."""
        return self.provider.notes(request)

    def layout(self, scene: Scene, band: str) -> Layout | None:
        """Return what the provider knows of how files keep their pixels."""
        tell = getattr(self.provider, "layout", None)
        found: Layout | None = None if tell is None else tell(scene, band)
        return found

    def read(self, scene: Scene, bands: Sequence[str], geobox: GeoBox) -> Pixels:
        """Return ``(C, H, W)`` on exactly that lattice: what is there, and what is read now."""
        lattice = _Lattice.of(geobox)
        key = None if lattice is None or scene.time > datetime.now(UTC) - RECENT else self.scene_key(scene)
        if lattice is None or key is None:
            return self.provider.read(scene, bands, geobox)
        out = np.full((len(bands), *geobox.shape), np.nan, np.float32)
        names = [json.dumps([self.version, self.name, self.source, key, band, lattice.name]) for band in bands]
        frames = [self._look(name, lattice.window, out[i]) for i, name in enumerate(names)]
        try:
            self._complete(frames, scene, bands, lattice)
        except ProviderError:
            if all(frame.rect == lattice.window for frame in frames):
                raise
            return self.provider.read(scene, bands, geobox)  # what cannot be read may lie outside of the window
        for i, frame in enumerate(frames):
            if frame.rect != lattice.window:
                out[i] = frame.values[lattice.window.within(frame.rect)]
        return out

    def _complete(self, frames: Sequence[_Frame], scene: Scene, bands: Sequence[str], lattice: _Lattice) -> None:
        """Read what was not there, of all bands that lack the same at once, and store it."""
        wanted: dict[tuple[Rect, ...], list[int]] = {}
        for i, frame in enumerate(frames):
            if frame.lacking:
                wanted.setdefault(_gaps(frame.known, frame.rect), []).append(i)
        for gaps, channels in wanted.items():
            for gap in gaps:
                read = self.provider.read(scene, [bands[i] for i in channels], lattice.crop(gap))
                for i, values in zip(channels, read, strict=True):
                    frames[i].values[gap.within(frames[i].rect)] = values
            for i in channels:
                self._keep(frames[i])

    def _cells(self, name: str, window: Rect) -> Iterator[_Cell]:
        """The cells of a window: parts of blocks, but blocks whose other parts are there as a whole."""
        for square in _cut(window, _SQUARE):
            number = [square.row // _SQUARE, square.col // _SQUARE]
            key = hashlib.sha256(f"{name}{number}".encode()).hexdigest()[:40]
            there: dict[tuple[int, int], list[Rect]] = {}
            for rect in self.files.rects(key):
                there.setdefault((rect.row // _BLOCK, rect.col // _BLOCK), []).append(rect)
            for part in _cut(square, _BLOCK):
                row, col = part.row // _BLOCK, part.col // _BLOCK
                others = tuple(there.get((row, col), ()))
                grown = bool(others) and not _covered(part, others)
                yield _Cell(key, Rect(row * _BLOCK, col * _BLOCK, _BLOCK, _BLOCK) if grown else part, others)

    def _look(self, name: str, window: Rect, out: Pixels) -> _Frame:
        """Find what is there, in ``out`` where nothing besides the window is asked for."""
        cells = list(self._cells(name, window))
        rect = reduce(Rect.union, (cell.rect for cell in cells), window)
        values = out if rect == window else np.full((rect.height, rect.width), np.nan, np.float32)
        known = np.ones(values.shape, bool)
        for cell in cells:
            known[cell.rect.within(rect)] = False
            for other in sorted(cell.others, key=lambda one, cell=cell: -_area(_common(one, cell.rect))):  # type: ignore[misc]
                part = _common(other, cell.rect)
                if part is None or known[part.within(rect)].all():
                    continue
                loaded = self.files.load(cell.key, other)
                if loaded is not None:
                    values[part.within(rect)] = loaded[part.within(other)]
                    known[part.within(rect)] = True
        return _Frame(rect, values, known, tuple(cell for cell in cells if not known[cell.rect.within(rect)].all()))

    def _keep(self, frame: _Frame) -> None:
        """Store the cells that lacked pixels, in place of the rectangles that they hold."""
        for cell in frame.lacking:
            self.files.save(cell.key, cell.rect, frame.values[cell.rect.within(frame.rect)])
            for other in cell.others:
                if other != cell.rect and _common(other, cell.rect) == other:
                    self.files.drop(cell.key, other)
