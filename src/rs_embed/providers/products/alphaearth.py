"""AlphaEarth's annual embeddings (Google Satellite Embedding, V1) in their open mirror at Source Cooperative.

Layout: ``{year}/{zone}{N|S}/{id}-{yoff:010d}-{xoff:010d}.tiff`` and an index of all files in the same folder
(``aef_index.parquet``, or the same as ``aef_index.csv``); cloud-optimised GeoTIFFs of 8192 x 8192 pixels of 10 m with
64 bands of int8, mostly bottom-up (https://source.coop/tge-labs/aef).
"""

from __future__ import annotations

import csv
import io
import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.errors import NoImageryError, ProviderError
from rs_embed.core.geometry import Region
from rs_embed.providers.memo import Memo
from rs_embed.providers.products.files import Absent, Store
from rs_embed.providers.products.tiles import Tile, open_raster

__all__ = ["NODATA", "AlphaEarth", "decode", "dequantize"]

NODATA = -128
"""Of all 64 bands of a pixel."""
_COLUMNS = ("path", "year", "wgs84_west", "wgs84_south", "wgs84_east", "wgs84_north")
_INDEXES = ("aef_index.parquet", "aef_index.csv")


def dequantize(code: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """Return the values of int8 codes: ``(v / 127.5)**2 * sign(v)``; nodata has to be masked apart.

    Source: the description of the data set at Source Cooperative.
    """
    value = code.astype(np.float64) / 127.5
    return (np.sign(value) * value * value).astype(np.float32)


_TABLE = dequantize(np.arange(256, dtype=np.uint8).view(np.int8))
"""By the code's byte."""
_TABLE[128] = np.nan


def decode(code: NDArray[Any]) -> NDArray[np.float32]:
    """Return the values ``(64, H, W)``, NaN where any band is nodata."""
    if code.dtype != np.int8:
        raise ProviderError(
            f"tiles of AlphaEarth hold int8, this one {code.dtype}: it is of another product or version"
        )
    values = np.empty(code.shape, np.float32)
    for band, numbers in zip(values, code, strict=True):  # indices of all bands at once would take twice the values
        np.take(_TABLE, numbers.view(np.uint8), out=band, mode="clip")
    values[:, (code == NODATA).any(0)] = np.nan
    return values


@dataclass(frozen=True)
class _Index:
    """Where each file lies, by row."""

    paths: Sequence[str]
    years: NDArray[np.int64]
    bounds: NDArray[np.float64]
    """``(4, n)``: west, south, east, north in degrees; east below west crosses the antimeridian."""
    _cells: Memo[NDArray[np.int64]] = field(default_factory=lambda: Memo(256), repr=False)
    """Rows by box of whole degrees: of hundreds of thousands a town needs a few dozen."""

    def touching(self, region: Region) -> NDArray[np.int64]:
        """Return the rows of the files that may touch a region, by their bounds in degrees, ascending."""
        found = []
        for part in getattr(region.footprint, "geoms", [region.footprint]):
            left, bottom, right, top = part.bounds
            cell = math.floor(left), math.floor(bottom), math.ceil(right), math.ceil(top)
            near = self._cells.get(cell, partial(self._within, None, cell))
            found.append(self._within(near, (left, bottom, right, top)))
        return np.unique(np.concatenate(found))

    def _within(self, of: NDArray[np.int64] | None, box: tuple[float, float, float, float]) -> NDArray[np.int64]:
        """Those of some rows, or of all, whose files may touch a box."""
        west, south, east, north = self.bounds if of is None else self.bounds[:, of]
        left, bottom, right, top = box
        across = np.where(west <= east, (west <= right) & (east >= left), (west <= right) | (east >= left))
        rows = np.flatnonzero(across & (south <= top) & (north >= bottom))
        return rows if of is None else np.asarray(of[rows])


def _index(columns: Mapping[str, Sequence[Any]], name: str) -> _Index:
    lacking = [each for each in _COLUMNS if each not in columns]
    if lacking:
        raise ProviderError(
            f"{name} is no index of AlphaEarth's tiles: it has no column {lacking[0]!r}, but {', '.join(columns)}"
        )
    bounds = np.array([np.asarray(columns[each], np.float64) for each in _COLUMNS[2:]])
    return _Index(list(columns["path"]), np.asarray(columns["year"], np.int64), bounds)


def read_columns(content: Path | bytes, wanted: Iterable[str]) -> dict[str, Sequence[Any]]:
    """Return columns of a Parquet file; those that it lacks are left out."""
    from arro3.io import read_parquet

    table = read_parquet(str(content) if isinstance(content, Path) else io.BytesIO(content)).read_all()
    names = [name for name in wanted if name in table.schema.names]
    found: dict[str, Any] = {}
    for name in names:
        column = table.column(name)
        try:
            found[name] = column.to_numpy()
        except ValueError:
            found[name] = column.to_pylist()
    return found


class AlphaEarth:
    """The archive: its index is read once, and kept on this machine where it lies elsewhere."""

    def __init__(self, store: Store) -> None:
        self.store, self.source = store, store.name
        self._lock = threading.Lock()
        self._known: _Index | None = None

    def index(self) -> _Index:
        """Return the index.

        Raises
        ------
        ProviderError
            If the store has none.
        """
        with self._lock:
            if self._known is None:
                self._known = self._read()
            return self._known

    def _read(self) -> _Index:
        for name in _INDEXES:
            try:
                file = self.store.whole(name, keep=True)
            except Absent:
                continue
            if name.endswith(".csv"):
                text = file.read_text() if isinstance(file, Path) else file.decode()
                rows = list(csv.DictReader(io.StringIO(text)))
                return _index({c: [row[c] for row in rows] for c in _COLUMNS if rows and c in rows[0]}, name)
            try:
                return _index(read_columns(file, _COLUMNS), name)
            except (OSError, ValueError) as error:
                raise ProviderError(f"{name} is damaged ({error}); remove it and fetch it again") from error
        raise ProviderError(
            f"{self.store.name} has no {' or '.join(_INDEXES)}: it is no copy of AlphaEarth's store; "
            'name the folder that holds the years, or leave backend="auto"'
        )

    def years(self, collection: str, region: Region) -> list[int]:
        """Return the years with a tile in the region."""
        index = self.index()
        return sorted({int(y) for y in index.years[index.touching(region)]})

    def tiles(self, collection: str, region: Region, year: int | None) -> list[Tile]:
        """Return the tiles of a year that may touch the region."""
        index = self.index()
        near = index.touching(region)
        rows = near[index.years[near] == year]
        if not len(rows):
            raise NoImageryError(nothing_there("gse", region, year, self.years(collection, region)))
        paths = sorted(str(index.paths[int(row)]) for row in rows)
        return [self._tile(path) for path in paths]

    def _tile(self, path: str) -> Tile:
        """Open a tile: of its address in the index, the last three parts count."""
        inner = "/".join(path.split("/")[-3:])
        return open_raster(inner, self.store.file(inner), decode, bands=64)


def nothing_there(name: str, region: Region, year: int | None, years: Sequence[int]) -> str:
    """Say that a product has nothing of a year at a place, and what it has."""
    lon, lat = region.lonlat or (float("nan"), float("nan"))
    where = f"at {lat:.4f}° N, {lon:.4f}° E"
    if years:
        listed = ", ".join(map(str, years))
        return f"{name} has no embedding of {year} {where}; there are {listed}: say TemporalSpec.year({years[-1]})"
    return f"{name} has no embedding {where} of any year: the place is not covered; choose another product or a model"
