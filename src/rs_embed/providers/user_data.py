"""The user's own pixels: what they are, where and when, as far as it is known."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS, norm_crs
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError

from rs_embed.core.errors import ModelError, ProviderError, SpecError
from rs_embed.core.sensors import Band, Sensor, canonical_bands, find_sensor
from rs_embed.core.specs import SpatialSpec, TemporalSpec, norm_spatial
from rs_embed.providers.harmonise import units_of
from rs_embed.providers.xarrays import unpack_dataarray

__all__ = ["UserData"]


@dataclass(frozen=True, eq=False)
class UserData:
    """Pixels in memory, validated when they are made.

    Raises
    ------
    SpecError
        If a field cannot be meant; the message names field, value and remedy.
    """

    data: Any
    """``(C, H, W)``, or ``(T, C, H, W)``: real numbers; masked, NaN and infinite ones count as no data."""
    collection: str
    """What the pixels are: a collection as STAC or Earth Engine names it, or ``s2``, ``s1``, ``landsat``; any other
    name for reflectances of a sensor that we do not know, with ``bands`` and ``wavelengths``."""
    spatial: SpatialSpec | None = None
    """The region meant; ``None``: all of the array. Without a georeference it tells the place alone."""
    bands: Sequence[str] | None = None
    """Names of the C channels; ``None``: the sensor's default bands, if there are as many."""
    temporal: TemporalSpec | Sequence[TemporalSpec] | None = None
    """One span, which T frames share in equal parts, or one for each frame."""
    scale_m: float | None = None
    """Side of a pixel in metres, where there is no georeference."""
    crs: Any = None
    """Coordinate reference system; together with ``transform``."""
    transform: Any = None
    """Affine, or its six numbers a…f: from column and row to x and y of pixel corners."""
    nodata: float | None = field(default=None, kw_only=True)
    """Number without meaning."""
    units: str | None = field(default=None, kw_only=True)
    """``None``: as the sensor's harmonised pixels (``reflectance * 10000``, ``dB``); else ``reflectance`` (0–1),
    ``linear`` (radar) or ``dn`` (Landsat)."""
    wavelengths: Sequence[float] | None = field(default=None, kw_only=True)
    """Centres of the C channels in µm, where they are not the sensor's."""
    sensor: Sensor = field(init=False, repr=False)
    """The sensor of the collection, with the user's wavelengths where there are some."""

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Bring the fields into their canonical form, or raise `SpecError`."""
        put = object.__setattr__
        put(self, "data", _array(self.data))
        if not isinstance(self.collection, str) or not self.collection.strip():
            raise SpecError(f"UserData.collection={self.collection!r} must name what the pixels are, such as 's2'")
        sensor = _sensor(self.collection, self.bands, self.wavelengths, int(self.data.shape[-3]))
        put(self, "sensor", sensor)
        put(self, "bands", _bands(self.bands, sensor, int(self.data.shape[-3])))
        if self.spatial is not None:
            put(self, "spatial", norm_spatial(self.spatial))
        put(self, "temporal", _temporal(self.temporal, self._frames))
        put(self, "scale_m", _positive("scale_m", self.scale_m))
        if (self.crs is None) != (self.transform is None):
            lacking = "transform" if self.transform is None else "crs"
            raise SpecError(f"UserData needs crs and transform together; {lacking} is missing")
        if self.transform is not None:
            put(self, "transform", _affine(self.transform))
            put(self, "crs", _crs(self.crs))
        put(self, "nodata", _finite("nodata", self.nodata, or_nan=True))
        _check_units(self.units, sensor)
        put(self, "wavelengths", _wavelengths(self.wavelengths, len(self.bands or ())))
        _warn_scale(self.data, self.units, sensor)

    @property
    def _frames(self) -> int:
        return int(self.data.shape[0]) if self.data.ndim == 4 else 1

    @cached_property
    def canonical_bands(self) -> tuple[str, ...]:
        """The sensor's names of the channels, in their order."""
        return canonical_bands(self.sensor, self.bands or ())

    @cached_property
    def geobox(self) -> GeoBox:
        """Lattice of the array; without a georeference: no CRS, row 0 on top, ``scale_m`` or the sensor's gsd."""
        height, width = self.data.shape[-2:]
        side = self.scale_m or self.sensor.gsd
        affine = self.transform if self.transform is not None else Affine(side, 0, 0, 0, -side, 0)
        return GeoBox((height, width), affine, self.crs)

    @property
    def times(self) -> NDArray[np.datetime64]:
        """``(T,)`` datetime64[s]: the middle of each frame's span, NaT where there is none."""
        if self.temporal is None:
            return np.full(self._frames, np.datetime64("NaT", "s"))
        if isinstance(self.temporal, TemporalSpec):
            start, end = self.temporal.interval
            parts = [start + (end - start) * (i + 0.5) / self._frames for i in range(self._frames)]
        else:
            parts = [t.interval[0] + (t.interval[1] - t.interval[0]) / 2 for t in self.temporal]
        return np.array([p.replace(tzinfo=None, microsecond=0) for p in parts], "datetime64[s]")

    @classmethod
    def from_raster(
        cls,
        path: str | Path,
        *,
        collection: str,
        bands: Sequence[str] | None = None,
        temporal: Any = None,
        units: str | None = None,
    ) -> UserData:
        """Read a raster file with its georeference and nodata.

        Parameters
        ----------
        path
            Any file that GDAL reads.
        collection, temporal, units
            As for the class.
        bands
            Names of the file's bands; ``None``: its descriptions where they are names of the sensor's bands, else the
            sensor's default bands if there are as many.

        Raises
        ------
        ProviderError
            If the file cannot be read.
        SpecError
            If the bands cannot be told.
        """
        from rs_embed.providers.raster import read_whole

        if not Path(path).is_file():
            raise ProviderError(f"{path} does not exist; give the path of a raster file")
        about, data = read_whole(str(path))
        names = find_sensor(collection).names()
        told = [d for d in about.descriptions if d]
        if bands is None and len(told) == about.count and all(d.lower() in names for d in told):
            bands = told
        grid = about.grid
        placed = grid.crs is not None
        square = placed and grid.crs is not None and grid.crs.projected and abs(grid.affine.a) == abs(grid.affine.e)
        return cls(
            data,
            collection,
            None,
            bands,
            temporal,
            abs(grid.affine.a) if square and abs(grid.affine.a) >= 1 else None,
            grid.crs,
            grid.affine if placed else None,
            nodata=about.nodata,
            units=units,
        )

    @classmethod
    def from_xarray(
        cls,
        da: Any,
        *,
        collection: str,
        bands: Sequence[str] | None = None,
        temporal: Any = None,
        units: str | None = None,
    ) -> UserData:
        """Take an ``xarray.DataArray`` with its bands, dates and georeference (CF ``spatial_ref``, or x and y).

        Parameters
        ----------
        da
            Dimensions y and x (or latitude and longitude), and where it has them band and time, in any order.
        collection, bands, temporal, units
            As for the class; ``None``: what the coordinates say.

        Raises
        ------
        SpecError
            If dimensions or coordinates cannot be understood.
        """
        found = unpack_dataarray(da)
        return cls(
            found.data,
            collection,
            None,
            bands if bands is not None else found.bands,
            temporal if temporal is not None else found.temporal,
            None,
            found.crs,
            found.transform,
            nodata=found.nodata,
            units=units,
        )


def _array(data: Any) -> NDArray[Any]:
    """The array as it is, its mask as NaN."""
    if isinstance(data, np.ma.MaskedArray):
        kind = np.result_type(data.dtype, np.float32)
        data = np.where(np.ma.getmaskarray(data), kind.type(np.nan), data.data)
    array: NDArray[Any] = np.asarray(data)
    if array.dtype.kind not in "iuf":
        raise SpecError(f"UserData.data has dtype {array.dtype}; give real numbers")
    if array.ndim not in (3, 4):
        raise SpecError(f"UserData.data has shape {array.shape}; give (C, H, W) or (T, C, H, W)")
    if not array.size:
        raise SpecError(f"UserData.data has shape {array.shape} and so no pixel")
    return array


def _sensor(collection: str, bands: Any, wavelengths: Any, channels: int) -> Sensor:
    """Return the sensor of a collection, or one made of the user's bands and wavelengths."""
    try:
        sensor = find_sensor(collection)
    except SpecError as error:
        if wavelengths is None or bands is None:
            raise SpecError(f"{error} Pixels of another sensor need bands=[...] and wavelengths=[...] in µm") from error
        name = collection.strip().lower()
        made = tuple(Band(str(b).strip()) for b in bands)
        sensor = Sensor(name, collection, made, 10.0, (collection,), "reflectance * 10000")
    if wavelengths is None:
        return sensor
    names = canonical_bands(sensor, _bands(bands, sensor, channels))
    centres = dict(zip(names, _wavelengths(wavelengths, channels) or (), strict=True))
    known = tuple(replace(b, wavelength=centres[b.name]) if b.name in centres else b for b in sensor.bands)
    return replace(sensor, bands=known)


def _bands(bands: Any, sensor: Sensor, channels: int) -> tuple[str, ...]:
    if bands is None:
        if channels != len(sensor.default_bands):
            raise SpecError(
                f"UserData.bands is missing: an array of {channels} channels is not the {len(sensor.default_bands)} "
                f"default bands of {sensor.id} ({', '.join(sensor.default_bands)}); give bands=[...]"
            )
        return sensor.default_bands
    if isinstance(bands, str) or not isinstance(bands, Sequence | np.ndarray):
        raise SpecError(f"UserData.bands={bands!r} must be a list of names such as ['B4', 'B3', 'B2']")
    names = tuple(str(b) for b in bands)
    if not names or any(not b.strip() for b in names):
        raise SpecError(f"UserData.bands={names!r} must name every channel, none of them blank")
    try:
        canonical_bands(sensor, names)
    except ModelError as error:
        raise SpecError(f"UserData.bands={names!r}: {error}") from error
    if len(names) != channels:
        raise SpecError(f"UserData.bands names {len(names)} bands {names!r}, but the data have {channels} channels")
    return names


def _temporal(temporal: Any, frames: int) -> TemporalSpec | tuple[TemporalSpec, ...] | None:
    if temporal is None or isinstance(temporal, TemporalSpec):
        return temporal
    listed = tuple(temporal) if isinstance(temporal, Sequence) and not isinstance(temporal, str) else ()
    if not listed or not all(isinstance(t, TemporalSpec) for t in listed):
        raise SpecError(f"UserData.temporal={temporal!r} must be a TemporalSpec, or one for each frame")
    if len(listed) != frames:
        raise SpecError(f"UserData.temporal has {len(listed)} spans, but the data have {frames} frames")
    return listed


def _finite(name: str, value: Any, *, or_nan: bool = False) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise SpecError(f"UserData.{name}={value!r} must be a number") from error
    if not math.isfinite(number) and not (or_nan and math.isnan(number)):
        raise SpecError(f"UserData.{name}={value!r} must be finite")
    return number


def _positive(name: str, value: Any) -> float | None:
    number = _finite(name, value)
    if number is not None and number <= 0:
        raise SpecError(f"UserData.{name}={value!r} must be above 0 metres")
    return number


def _affine(transform: Any) -> Affine:
    try:
        numbers = tuple(float(v) for v in tuple(transform)[:6])
    except (TypeError, ValueError) as error:
        raise SpecError(f"UserData.transform={transform!r} must be an Affine or its six numbers a…f") from error
    if len(numbers) != 6 or not all(math.isfinite(v) for v in numbers):
        raise SpecError(f"UserData.transform={transform!r} must be an Affine or its six numbers a…f")
    affine = Affine(*numbers)
    if affine.determinant == 0:
        raise SpecError(f"UserData.transform={numbers!r} gives pixels no area; the order is a, b, c, d, e, f")
    return affine


def _crs(crs: Any) -> CRS:
    try:
        found: CRS | None = norm_crs(crs.to_wkt() if hasattr(crs, "to_wkt") and not isinstance(crs, CRS) else crs)
    except (CRSError, ValueError, TypeError) as error:
        raise SpecError(f"UserData.crs={crs!r} is not a coordinate reference system that PROJ knows") from error
    if found is None:
        raise SpecError(f"UserData.crs={crs!r} is not a coordinate reference system that PROJ knows")
    return found


def _check_units(units: Any, sensor: Sensor) -> None:
    accepted = units_of(sensor)
    if units is not None and str(units).lower() not in {u.lower() for u in accepted}:
        raise SpecError(f"UserData.units={units!r} is none of {sensor.id}; accepted: {', '.join(map(repr, accepted))}")


def _wavelengths(values: Any, channels: int) -> tuple[float, ...] | None:
    if values is None:
        return None
    numbers = tuple(float(v) for v in values)
    if len(numbers) != channels or any(not 0.2 <= v <= 100 for v in numbers if not math.isnan(v)):
        raise SpecError(f"UserData.wavelengths={values!r} must be {channels} numbers in µm (red is about 0.665)")
    return numbers


def _warn_scale(data: NDArray[Any], units: str | None, sensor: Sensor) -> None:
    if units is None and sensor.units == "reflectance * 10000" and data.dtype.kind == "f":
        top = float(np.fmax.reduce(data, axis=None))
        if 0 < top <= 1.5:
            warnings.warn(
                f"the largest value is {top:.3g}, but {sensor.id} pixels are taken as {sensor.units}; "
                "if they are reflectances from 0 to 1, say units='reflectance'",
                UserWarning,
                stacklevel=5,
            )
