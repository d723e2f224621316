"""Raster files of products: all bands of a window as they are stored, here or behind a URL."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from rs_embed.core.errors import ProviderError
from rs_embed.providers.overviews import block_ranges
from rs_embed.providers.raster import SOURCE_ENV, Openable, grid_of, open_source
from rs_embed.providers.resample import Grid

__all__ = ["Raster", "Source", "broken", "describe_raster", "read_stored"]


class Source(Openable, Protocol):
    """A file that lies elsewhere: its bytes by their places."""

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Fetch ranges (start, stop) that will be read."""
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
        with warnings.catch_warnings(), rasterio.Env(**SOURCE_ENV):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(file) if isinstance(file, Path) else open_source(file) as dataset:
                yield dataset
    except (RasterioError, SystemError) as error:
        raise OSError(re.sub(r"\S*[/\\](?=[^/\\\s]+)", "", str(error))) from error


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
            grid_of(dataset),
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
            file.expect(sorted({block for i in dataset.indexes for block in block_ranges(dataset, i, rows, cols)}))
        return np.asarray(dataset.read(window=Window.from_slices(rows, cols)))


def broken(name: str, error: Exception) -> ProviderError:
    """Return the error for a file that cannot be read."""
    return ProviderError(
        f"{name}: it cannot be read ({error}); the file is half-copied, damaged or no raster: copy it again"
    )
