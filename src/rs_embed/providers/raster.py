"""Raster files: what they say of themselves, and their bands on a lattice."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from rs_embed.core.errors import ProviderError
from rs_embed.providers.harmonise import Decoding
from rs_embed.providers.overviews import block_ranges, candidate, largest_block, shows_means
from rs_embed.providers.resample import Grid, resample

__all__ = [
    "SOURCE_ENV",
    "SUFFIXES",
    "ByteSource",
    "Layout",
    "Openable",
    "RasterFile",
    "describe",
    "grid_of",
    "layout_of",
    "open_source",
    "read_bands",
    "read_source",
    "read_whole",
    "stored_bytes",
]

SUFFIXES = (".tif", ".tiff", ".jp2", ".nc", ".vrt")
"""File names that are taken for rasters (lower case)."""

_ENV = {"GDAL_NUM_THREADS": "1"}
"""In threads of its own, GDAL loses the errors of damaged JPEG 2000 tiles and answers with what was in memory."""
SOURCE_ENV = {**_ENV, "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
"""For files that lie elsewhere: their folders cannot be listed."""
_UNPLACED = "{} has no georeference (or is damaged: fetch it again); give the file a coordinate reference system first"


@dataclass(frozen=True)
class RasterFile:
    """What a raster file says of itself."""

    name: str
    """File name without its folder."""
    grid: Grid
    """Where its pixels lie; without a CRS where it has no georeference."""
    count: int
    descriptions: tuple[str | None, ...]
    nodata: float | None
    subdatasets: tuple[str, ...]
    """Names to open instead, of a container such as NetCDF."""
    tags: Mapping[str, str]


def name_of(path: str) -> str:
    """Return the file name, with the variable's where the path names a part of a container."""
    found = re.fullmatch(r"(?i)(?:netcdf|hdf5):\"?(.+?)\"?:([^:]+)", path)
    return f"{Path(found[1]).name}:{found[2]}" if found else Path(path).name


def _unreadable(path: str, band: str, error: Exception) -> ProviderError:
    name = name_of(path)
    said = re.sub(r"\S*[/\\](?=[^/\\\s]+)", "", str(error))  # GDAL's words without folders
    return ProviderError(
        f"{name}: band {band} cannot be read ({said}); the file is damaged or incomplete: fetch it again, or remove it"
    )


def grid_of(dataset: rasterio.DatasetReader) -> Grid:
    """Return where an open file's pixels lie; without a CRS where it has no georeference."""
    crs = dataset.crs
    if crs is None:
        return Grid(dataset.height, dataset.width, dataset.transform, None)
    code = crs.to_epsg()
    return Grid(dataset.height, dataset.width, dataset.transform, CRS(code if code is not None else crs.to_wkt()))


def describe(path: str) -> RasterFile:
    """Open a raster and return what it says of itself.

    Raises
    ------
    ProviderError
        If it cannot be opened.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # containers have no georeference of their own
            with rasterio.open(path) as dataset:
                return RasterFile(
                    name_of(path),
                    grid_of(dataset),
                    dataset.count,
                    tuple(dataset.descriptions),
                    dataset.nodata if dataset.count else None,
                    tuple(dataset.subdatasets),
                    dict(dataset.tags()),
                )
    except (RasterioError, OSError) as error:
        raise _unreadable(path, "1", error) from error


def read_bands(
    path: str,
    indexes: Sequence[int],
    geobox: GeoBox,
    *,
    decoding: Decoding | None = None,
    classes: bool = False,
    names: Sequence[str] = (),
) -> NDArray[np.float32]:
    """Return ``(C, H, W)``: bands of a file on exactly ``geobox``, NaN where the file has no data.

    The file is opened for each call, so that threads share nothing. Pixels become values before they are resampled
    (a mean of decibels is no decibel of the mean).

    Parameters
    ----------
    path
        File, or GDAL's name of a part of it.
    indexes
        Bands of the file, counted from 1.
    geobox
        The lattice; a crop of it gives the crop of the result to the bit.
    decoding
        From numbers to values; the file's own nodata counts besides.
    classes
        Whether values are class numbers: nearest neighbour.
    names
        Names of the bands for messages.

    Raises
    ------
    ProviderError
        If the file is damaged or has no georeference; it names file and band, not the folder.
    """
    label = ", ".join(names) or ", ".join(map(str, indexes))
    try:
        with rasterio.Env(**_ENV):
            return _on_lattice(partial(_open, path), indexes, geobox, decoding or Decoding(), classes)
    except NotGeoreferencedWarning as error:  # rasterio's own where warnings are errors
        raise ProviderError(_UNPLACED.format(name_of(path))) from error
    except (RasterioError, OSError) as error:
        raise _unreadable(path, label, error) from error


def _open(path: str, level: int | None) -> rasterio.DatasetReader:
    return rasterio.open(path) if level is None else rasterio.open(path, overview_level=level)


Opening = Callable[[int | None], rasterio.DatasetReader]
"""Opens a file, or one of its overviews by level."""


def _on_lattice(
    opening: Opening,
    indexes: Sequence[int],
    geobox: GeoBox,
    decode: Decoding,
    classes: bool,
    source: ByteSource | None = None,
) -> NDArray[np.float32]:
    """Bands of a file on a lattice; a source hears of each window before it is read.

    Raises
    ------
    NotGeoreferencedWarning
        If the file has no georeference.
    """
    with opening(None) as dataset:
        if dataset.crs is None:
            raise NotGeoreferencedWarning("no georeference")
        level = None
        if not classes and decode.law == "linear":
            level = candidate(dataset, indexes[0], grid_of(dataset), geobox)
        if level is None or not _means(dataset, opening, indexes[0], level, source):
            return _read_window(dataset, dataset, None, indexes, geobox, decode, classes, source)
        with opening(level) as overview:
            return _read_window(overview, dataset, level, indexes, geobox, decode, classes, source)


def _read_window(
    pixels: rasterio.DatasetReader,
    dataset: rasterio.DatasetReader,
    level: int | None,
    indexes: Sequence[int],
    geobox: GeoBox,
    decode: Decoding,
    classes: bool,
    source: ByteSource | None,
) -> NDArray[np.float32]:
    """Resample an open level of a file."""
    nodata = [dataset.nodatavals[i - 1] for i in indexes]

    def read(rows: slice, cols: slice) -> NDArray[np.float32]:
        if source is not None:
            blocks = {b for i in indexes for b in block_ranges(dataset, i, rows, cols, level)}
            source.expect(sorted(blocks))
        raw = pixels.read(list(indexes), window=Window.from_slices(rows, cols))
        return np.stack([decode(band, marker) for band, marker in zip(raw, nodata, strict=True)])

    return resample(read, len(indexes), grid_of(pixels), geobox, classes=classes)


def _means(
    dataset: rasterio.DatasetReader, opening: Opening, index: int, level: int, source: ByteSource | None
) -> bool:
    """Whether an overview holds means: seen once from a block of the file that does not depend on what is asked."""
    known = {} if source is None else source.means
    if level not in known:
        factor = dataset.overviews(index)[level]
        place = largest_block(dataset, index, factor)
        if place is None:
            return known.setdefault(level, False)
        rows, cols = (slice(s.start // factor, s.stop // factor) for s in place)
        if source is not None:
            blocks = {*block_ranges(dataset, index, *place), *block_ranges(dataset, index, rows, cols, level)}
            source.expect(sorted(blocks))
        fine = dataset.read(index, window=Window.from_slices(*place))
        with opening(level) as overview:
            means = overview.read(index, window=Window.from_slices(rows, cols))
        known[level] = shows_means(fine, means, dataset.nodatavals[index - 1], factor)
    return known[level]


class Openable(Protocol):
    """A file that lies elsewhere."""

    name: str
    """With the suffix that tells its format."""

    def open(self) -> Any:
        """Return a new file object at its beginning; reading it must not raise: GDAL could not pass it on."""
        ...


class ByteSource(Openable, Protocol):
    """A file that lies elsewhere: its bytes by their places."""

    means: dict[int, bool]
    """Which overviews were seen to hold means."""

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Fetch ranges (start, stop) that will be read, and forget those of before."""
        ...


_numbers = count()


def open_source(source: Openable, level: int | None = None) -> rasterio.DatasetReader:
    """Open a file that lies elsewhere, or one of its overviews."""
    path = f"{next(_numbers)}/{source.name}"  # GDAL knows one file by one name
    more = {} if level is None else {"overview_level": level}
    return rasterio.open(path, opener=lambda *_, **__: source.open(), **more)


def read_source(
    source: ByteSource, indexes: Sequence[int], geobox: GeoBox, *, decoding: Decoding | None, classes: bool
) -> NDArray[np.float32]:
    """Return what `read_bands` would of the same file on this machine, reading only the blocks that it needs.

    Raises
    ------
    OSError
        If GDAL makes no sense of the bytes, or the file has no georeference.
    """

    try:
        with rasterio.Env(**SOURCE_ENV):
            return _on_lattice(partial(open_source, source), indexes, geobox, decoding or Decoding(), classes, source)
    except NotGeoreferencedWarning as error:
        raise OSError("the file has no georeference") from error
    except (RasterioError, SystemError) as error:
        raise OSError(re.sub(r"/vsi\S*/", "", str(error.__cause__ or error))) from error


def read_whole(path: str) -> tuple[RasterFile, NDArray[np.generic]]:
    """Return what a file says of itself and all its pixels ``(C, H, W)``, as they are stored."""
    about = describe(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.Env(**_ENV), rasterio.open(path) as dataset:
                return about, dataset.read()
    except (RasterioError, OSError) as error:
        raise _unreadable(path, "1", error) from error


@dataclass(frozen=True)
class _Stored:
    """Where the blocks of a band lie, and their bytes in the file."""

    grid: Grid
    block: tuple[int, int]
    sizes: NDArray[np.int64]
    """By row and column of blocks."""


@lru_cache(maxsize=1024)
def _stored(path: str, index: int, stamp: int) -> _Stored:
    with rasterio.Env(**_ENV), rasterio.open(path) as dataset:
        return _stored_of(dataset, index, 0 if dataset.driver == "GTiff" else Path(path).stat().st_size)


def _stored_of(dataset: rasterio.DatasetReader, index: int, nbytes: int) -> _Stored:
    """What an open file of so many bytes says of its blocks."""
    height, width = dataset.block_shapes[index - 1]
    shape = -(-dataset.height // height), -(-dataset.width // width)
    if dataset.driver == "GTiff":
        told = [dataset.get_tag_item(f"BLOCK_SIZE_{x}_{y}", "TIFF", bidx=index) for y, x in np.ndindex(shape)]
        sizes = np.array([int(size or 0) for size in told], np.int64).reshape(shape)
    else:
        sizes = np.full(shape, nbytes // (dataset.count * shape[0] * shape[1]), np.int64)
    return _Stored(grid_of(dataset), (height, width), sizes)


@dataclass(frozen=True)
class Layout:
    """How a file keeps a band."""

    grid: Grid
    block: tuple[int, int]
    """Rows and columns of a block."""
    pixel_bytes: float
    """Bytes of a pixel in the file, on average."""


def layout_of(source: Openable, index: int, nbytes: int) -> Layout:
    """Return how a file that lies elsewhere, of so many bytes, keeps a band; no pixel is read.

    Raises
    ------
    OSError
        If GDAL makes no sense of it.
    """
    try:
        with rasterio.Env(**SOURCE_ENV), open_source(source) as dataset:
            found = _stored_of(dataset, index, nbytes)
            together = dataset.count if dataset.driver == "GTiff" and dataset.profile["interleave"] == "pixel" else 1
    except (KeyError, RasterioError, SystemError) as error:
        raise OSError(f"no raster ({error})") from error
    pixels = found.grid.height * found.grid.width * together
    return Layout(found.grid, found.block, float(found.sizes.sum()) / pixels)


def stored_bytes(path: str, index: int, geobox: GeoBox) -> int:
    """Return the bytes that a band's blocks under a lattice take in the file; no pixel is read.

    Of a TIFF exactly, of other formats (and of a band among others in one block) their even share of the file.

    Raises
    ------
    ProviderError
        If the file cannot be opened, or has no georeference.
    """
    try:
        found = _stored(path, index, Path(path).stat().st_mtime_ns if Path(path).exists() else 0)
    except (RasterioError, OSError) as error:
        raise _unreadable(path, str(index), error) from error
    if found.grid.crs is None:
        raise ProviderError(_UNPLACED.format(name_of(path)))
    extent = geobox.extent.to_crs(found.grid.crs) if geobox.crs != found.grid.crs else geobox.extent
    left, bottom, right, top = extent.boundingbox.bbox
    inverse = ~found.grid.affine
    x, y = np.array([left, left, right, right]), np.array([bottom, top, bottom, top])
    at = inverse.d * x + inverse.e * y + inverse.f, inverse.a * x + inverse.b * y + inverse.c
    rows, cols = (
        slice(max(0, int(place.min() // side)), max(0, int(place.max() // side) + 1))
        for place, side in zip(at, found.block, strict=True)
    )
    return int(found.sizes[rows, cols].sum())
