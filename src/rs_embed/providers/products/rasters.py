"""Raster files of products: all bands of a window as they are stored, here or behind a URL."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from rs_embed.core.errors import ProviderError
from rs_embed.providers.resample import Grid

__all__ = ["Raster", "Source", "describe_raster", "read_stored"]

_ENV = {"GDAL_NUM_THREADS": "1", "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
_numbers = count()


class Source(Protocol):
    """A file that lies elsewhere: its bytes by their places."""

    name: str

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Fetch ranges (start, stop) that will be read."""
        ...

    def open(self) -> Any:
        """Return a new file object at its beginning; reading it must not raise: GDAL could not pass it on."""
        ...


@dataclass(frozen=True)
class Raster:
    """What a raster file says of itself."""

    grid: Grid
    """As it is stored; without a CRS where it has no georeference."""
    count: int
    dtype: str
    block: tuple[int, int]
    """Height and width of what is stored as one, pixels."""
    nodata: float | None
    scales: tuple[float, ...]
    """By band: a value is number * scale + offset."""
    offsets: tuple[float, ...]
    tags: Mapping[str, str]
    names: tuple[str | None, ...]


@contextmanager
def _opened(file: Path | Source) -> Iterator[rasterio.DatasetReader]:
    """Open a file; what GDAL says is an OSError without folders."""
    try:
        with warnings.catch_warnings(), rasterio.Env(**_ENV):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            if isinstance(file, Path):
                with rasterio.open(file) as dataset:
                    yield dataset
            else:  # GDAL knows one file by one name
                path = f"{next(_numbers)}/{file.name}"
                with rasterio.open(path, opener=lambda *_, **__: file.open()) as dataset:
                    yield dataset
    except (RasterioError, SystemError) as error:
        raise OSError(re.sub(r"\S*[/\\](?=[^/\\\s]+)", "", str(error))) from error


def _grid(dataset: rasterio.DatasetReader) -> Grid:
    crs = dataset.crs
    code = None if crs is None else crs.to_epsg()
    known = None if crs is None else CRS(code if code is not None else crs.to_wkt())
    return Grid(dataset.height, dataset.width, dataset.transform, known)


def describe_raster(file: Path | Source) -> Raster:
    """Return what a file says of itself.

    Raises
    ------
    OSError
        If GDAL makes no sense of it.
    """
    with _opened(file) as dataset:
        if not dataset.count:
            raise OSError("it holds no bands")
        return Raster(
            _grid(dataset),
            dataset.count,
            dataset.dtypes[0],
            (dataset.block_shapes[0][0], dataset.block_shapes[0][1]),
            dataset.nodata,
            tuple(dataset.scales),
            tuple(dataset.offsets),
            dict(dataset.tags()),
            tuple(dataset.descriptions),
        )


def read_stored(file: Path | Source, rows: slice, cols: slice) -> NDArray[Any]:
    """Return all bands of a window ``(C, H, W)``, as they are stored.

    Raises
    ------
    OSError
        If GDAL makes no sense of the bytes.
    """
    with _opened(file) as dataset:
        if not isinstance(file, Path):
            file.expect(sorted(set(_blocks(dataset, rows, cols))))
        return np.asarray(dataset.read(window=Window.from_slices(rows, cols)))


def _blocks(dataset: rasterio.DatasetReader, rows: slice, cols: slice) -> Iterator[tuple[int, int]]:
    """Where a TIFF keeps the blocks of all bands that a window touches; nothing of other formats."""
    for index in dataset.indexes:
        height, width = dataset.block_shapes[index - 1]
        down, across = (range(s.start // n, -(-s.stop // n)) for s, n in ((rows, height), (cols, width)))
        for row, col in product(down, across):
            start = dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=index)
            size = dataset.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=index)
            if start is not None and size is not None:
                yield int(start), int(start) + int(size)


def broken(name: str, error: Exception) -> ProviderError:
    """Return the error for a file that cannot be read."""
    return ProviderError(
        f"{name}: it cannot be read ({error}); the file is half-copied, damaged or no raster: copy it again"
    )
