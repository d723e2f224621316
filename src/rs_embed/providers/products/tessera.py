"""TESSERA's tiles: int8 embeddings and their scales as npy files, placed by a landmask.

``npy/{version}/{year}/grid_{lon:.2f}_{lat:.2f}/`` holds ``grid_{lon:.2f}_{lat:.2f}.npy``, int8 (H, W, 128), and
``…_scales.npy``, float32 (H, W), or (H, W, 128) of older tiles; ``landmasks/{version}/grid_{lon:.2f}_{lat:.2f}.tiff``
has CRS and transform, and 0 for water. Tiles are a tenth of a degree wide, their centres at x.x5. A registry lists
files with their sha256: ``registry_{year}.txt`` in the store or beside the years, or ``manifest.parquet`` beside the
years (https://github.com/ucam-eo/geotessera).
"""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from rs_embed.core.errors import NoImageryError, ProviderError
from rs_embed.core.geometry import Region
from rs_embed.providers.products.alphaearth import nothing_there, read_columns
from rs_embed.providers.products.files import Absent, LocalFile, Store, StoredFile
from rs_embed.providers.products.memory import MEMORY
from rs_embed.providers.products.tiles import Tile, open_raster
from rs_embed.providers.resample import Grid

__all__ = ["DIMENSIONS", "NpyTile", "Tessera", "dequantize", "produced"]

YEARS = range(2017, 2026)
"""Years that may exist: coverage differs by place and version."""
DIMENSIONS = 128
_WHOLE = 8 * 2**20
"""Files up to this size are fetched whole, so that their checksum can be compared."""
_WINDOW = 2**26
"""Bytes of a region's window of a tile that are fetched at once."""
_BAND = 32
"""Rows of a tile that are fetched as one once several regions have asked for it."""
_VISITS = 4
"""Regions that read a tile by their own windows; after them rows are read whole and kept."""


def dequantize(code: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``code * scale`` ``(..., D)``: NaN in all bands where a scale is not finite.

    Parameters
    ----------
    code
        ``(H, W, D)`` int8.
    scales
        ``(H, W)``, or ``(H, W, D)`` of older tiles; NaN is water, infinity was not produced.
    """
    factor = scales[..., None] if scales.ndim == code.ndim - 1 else scales
    known = np.asarray(np.isfinite(factor).all(-1))
    values = code.astype(np.float32) * np.where(known[..., None], factor, np.float32(np.nan)).astype(np.float32)
    return np.asarray(values, np.float32)


def produced(scales: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return whether pixels were produced: scales are above 0 and below 1 (1e6 stood for nodata in older tiles)."""
    good = (scales > 0) & (scales < 1)
    return good if scales.ndim == 2 else np.asarray(good.all(-1))


@dataclass(frozen=True)
class _Header:
    """Where the numbers of an npy file begin, and of what kind they are."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row(self) -> int:
        """Bytes of a row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


@lru_cache(maxsize=1024)
def _header(key: str, file: StoredFile) -> _Header:
    """Read an npy file's header and require that the file is as long as it says."""
    (begin,) = file.ranges([(0, min(file.size, 256))])
    stream = io.BytesIO(begin)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except ValueError as error:
        raise ProviderError(
            f"{file.name} is no npy file ({error}): half-copied or damaged; copy the tile again"
        ) from error
    found = _Header(stream.tell(), shape, dtype)
    wanted = found.offset + math.prod(shape) * dtype.itemsize
    if fortran or len(shape) not in (2, 3):
        raise ProviderError(f"{file.name} is no tile of TESSERA: an array of shape {shape} in Fortran order {fortran}")
    if file.size != wanted:
        raise ProviderError(
            f"{file.name} has {file.size} bytes, its header says {wanted}: the tile is half-copied, so its checksum "
            "cannot be the registry's; copy it again"
        )
    return found


def _read_window(file: StoredFile, rows: slice, cols: slice) -> NDArray[Any]:
    """Read a window ``(h, w, …)`` of an npy file: whole rows where it is wide, else a range a row."""
    header = _header(file.key, file)
    pixel = header.row // header.shape[1]
    wide = (cols.stop - cols.start) * 3 >= header.shape[1] * 2
    shape = (rows.stop - rows.start, header.shape[1] if wide else cols.stop - cols.start, *header.shape[2:])
    start = header.offset + rows.start * header.row
    if wide:
        ranges = [(start, header.offset + rows.stop * header.row)]
    else:
        ranges = [
            (start + i * header.row + cols.start * pixel, start + i * header.row + cols.stop * pixel)
            for i in range(shape[0])
        ]
    content = b"".join(file.ranges(ranges))
    if len(content) != math.prod(shape) * header.dtype.itemsize:
        raise ProviderError(f"{file.name} ends before its last row: the tile is half-copied; copy it again")
    found = np.frombuffer(content, header.dtype).reshape(shape)
    return found[:, cols] if wide else found


@dataclass(eq=False)
class NpyTile:
    """One tile: embeddings and scales in two files, on the grid of its landmask."""

    id: str
    code: StoredFile
    scales: StoredFile
    mask: Tile
    checked: str | None
    _visits: set[Any] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def grid(self) -> Grid:
        """The landmask's."""
        return self.mask.grid

    def unit(self) -> tuple[int, int]:
        """Height and width of what is read as one when many regions ask."""
        return _BAND, self.grid.width

    def check(self) -> None:
        """Refuse files that do not belong together."""
        shape = self.grid.height, self.grid.width
        code, scales = _header(self.code.key, self.code), _header(self.scales.key, self.scales)
        if code.dtype != np.int8 or code.shape[2:] != (DIMENSIONS,):
            raise ProviderError(
                f"{self.code.name} holds {code.dtype} {code.shape}, tiles of TESSERA int8 (H, W, {DIMENSIONS}): it is "
                "of another product or version"
            )
        if code.shape[:2] != shape or scales.shape[:2] != shape:
            raise ProviderError(
                f"{self.id}: embeddings {code.shape[:2]}, scales {scales.shape[:2]} and landmask {shape} are not of "
                "one size: they are of different versions; copy all three of one"
            )

    def read(self, rows: slice, cols: slice, whole: tuple[slice, slice]) -> NDArray[np.float32]:
        """Return a window ``(128, h, w)``, NaN in water and where nothing was produced."""
        code, scales = (self._numbers(file, rows, cols, whole) for file in (self.code, self.scales))
        values = dequantize(code, scales)
        land = self.mask.read(rows, cols, whole)[0] > 0
        values[~(produced(scales) & land)] = np.nan
        return np.ascontiguousarray(np.moveaxis(values, -1, 0))

    def _numbers(self, file: StoredFile, rows: slice, cols: slice, whole: tuple[slice, slice]) -> NDArray[Any]:
        """Return a window as it is stored, out of the region's window or of bands of rows."""
        key = whole[0].start, whole[0].stop, whole[1].start, whole[1].stop
        with self._lock:
            self._visits.add(key)
            many = len(self._visits) > _VISITS
        if many:
            return np.concatenate([band for band in self._bands(file, rows)])[:, cols]
        pixel = _header(file.key, file).row // self.grid.width
        size = (key[1] - key[0]) * (key[3] - key[2]) * pixel
        if size > _WINDOW:
            return _read_window(file, rows, cols)
        window = MEMORY.get((file.key, *key), lambda: _read_window(file, *whole))
        return window[rows.start - key[0] : rows.stop - key[0], cols.start - key[2] : cols.stop - key[2]]

    def _bands(self, file: StoredFile, rows: slice) -> Iterator[NDArray[Any]]:
        for number in range(rows.start // _BAND, -(-rows.stop // _BAND)):
            band = slice(number * _BAND, min(self.grid.height, (number + 1) * _BAND))
            load = partial(_read_window, file, band, slice(0, self.grid.width))
            block = MEMORY.get((file.key, number), load)
            yield block[max(0, rows.start - band.start) : rows.stop - band.start]


def _cells(region: Region) -> list[tuple[float, float]]:
    """Return the centres of the tiles that a region touches, that of its own centre first."""
    centre = region.lonlat or (math.nan, math.nan)
    found = []
    for part in getattr(region.footprint, "geoms", [region.footprint]):
        left, bottom, right, top = part.bounds
        for i in range(math.floor(left * 10), math.floor(right * 10) + 1):
            for j in range(math.floor(bottom * 10), math.floor(top * 10) + 1):
                if part.intersects(shapely.box(i / 10, j / 10, (i + 1) / 10, (j + 1) / 10)):
                    found.append(((2 * i + 1) / 20, (2 * j + 1) / 20))
    near = sorted(set(found), key=lambda c: (max(abs(c[0] - centre[0]), abs(c[1] - centre[1])), c))
    return near


def tile_name(lon: float, lat: float) -> str:
    """Return the name of the tile with that centre, such as ``grid_-0.05_50.75``."""
    return f"grid_{lon:.2f}_{lat:.2f}"


class Tessera:
    """The archive of tiles of all versions."""

    def __init__(self, store: Store) -> None:
        self.store, self.source = store, store.name
        self._lock = threading.Lock()
        self._registries: dict[tuple[str, int], Mapping[str, str] | None] = {}
        self._tiles: dict[tuple[str, int, str], NpyTile | None] = {}

    def _version(self, collection: str) -> str:
        return collection.partition("/")[2] or "v1"

    def registry(self, version: str, year: int) -> Mapping[str, str] | None:
        """Return ``{file below the year's folder: sha256}`` of a year, or ``None`` where the store has no registry."""
        with self._lock:
            if (version, year) not in self._registries:
                self._registries[version, year] = self._read_registry(version, year)
            return self._registries[version, year]

    def _read_registry(self, version: str, year: int) -> Mapping[str, str] | None:
        for name in (f"npy/{version}/registry_{year}.txt", f"registry_{year}.txt"):
            try:
                content = self.store.whole(name, keep=True)
            except Absent:
                continue
            text = content.read_text() if isinstance(content, Path) else content.decode()
            lines = (line.split() for line in text.splitlines() if line.strip() and not line.startswith("#"))
            return {words[0].partition("/")[2]: words[1] for words in lines if words[0].startswith(f"{year}/")}
        try:
            content = self.store.whole(f"npy/{version}/manifest.parquet", keep=True)
        except Absent:
            return None
        found = read_columns(content, ("lat", "lon", "year", "hash"))
        if len(found) < 4:
            raise ProviderError(f"the manifest of {version} has not the columns lat, lon, year and hash; copy it again")
        rows = zip(found["lon"], found["lat"], found["year"], found["hash"], strict=True)
        names = ((tile_name(lon, lat), str(digest)) for lon, lat, y, digest in rows if y == year)
        return {f"{name}/{name}.npy": digest for name, digest in names}

    def years(self, collection: str, region: Region) -> list[int]:
        """Return the years that have a tile in the region: asked of the registries, else of the files."""
        version, names = self._version(collection), [tile_name(*cell) for cell in _cells(region)]
        return [year for year in YEARS if any(self._exists(version, year, name) for name in names)]

    def _exists(self, version: str, year: int, name: str) -> bool:
        registry = self.registry(version, year)
        if registry is not None:
            return f"{name}/{name}.npy" in registry
        try:
            self.store.file(f"npy/{version}/{year}/{name}/{name}_scales.npy")
        except Absent:
            return False
        return True

    def tiles(self, collection: str, region: Region, year: int | None) -> list[Tile]:
        """Return the tiles that the region touches."""
        version = self._version(collection)
        if year is None:
            raise ProviderError("TESSERA has an embedding a year; say TemporalSpec.year(...)")
        cells = [self._tile(version, year, tile_name(*cell)) for cell in _cells(region)]
        found: list[Tile] = [tile for tile in cells if tile is not None]
        if not found:
            said = nothing_there(f"tessera {version}", region, year, self.years(collection, region))
            others = [v for v in ("v1", "v1.1-cam") if v != version and self.years(f"tessera/{v}", region)]
            raise NoImageryError(said + (f" (variant={others[0]!r} has it)" if others else ""))
        return found

    def _tile(self, version: str, year: int, name: str) -> NpyTile | None:
        key = version, year, name
        if key not in self._tiles:
            made = self._open(version, year, name) if self._exists(version, year, name) else None
            with self._lock:
                while len(self._tiles) >= 1024:
                    self._tiles.pop(next(iter(self._tiles)))
                self._tiles[key] = made
        return self._tiles[key]

    def _open(self, version: str, year: int, name: str) -> NpyTile:
        registry = self.registry(version, year) or {}
        folder = f"npy/{version}/{year}/{name}"
        files, checked = [], set()
        for end in (".npy", "_scales.npy"):
            path = f"{folder}/{name}{end}"
            file = self.store.file(path)
            _header(file.key, file)
            digest = registry.get(f"{name}/{name}{end}")
            whole = digest is not None and (isinstance(file, LocalFile) or file.size <= _WHOLE)
            if whole:
                kept = self.store.whole(path, keep=True, sha256=digest)
                file = file if isinstance(kept, bytes) else LocalFile(kept)
            files.append(file)
            checked.add("sha256" if whole else "size")
        mask = self.store.file(f"landmasks/{_plain(version)}/{name}.tiff")
        land = open_raster(mask.name, mask, lambda code: code.astype(np.float32), bands=1)
        tile = NpyTile(f"{version}/{year}/{name}", files[0], files[1], land, "size" if "size" in checked else "sha256")
        tile.check()
        return tile


def _plain(version: str) -> str:
    """Return the version that names the landmasks: ``v1.1-cam`` → ``v1.1``."""
    return version.partition("-")[0]
