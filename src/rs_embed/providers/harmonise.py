"""From stored numbers to values with one meaning, by what a catalogue says: pure functions.

Harmonised are: reflectance * 10000 without an offset (optical), linear power (radar), class numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.errors import ProviderError
from rs_embed.core.sensors import Sensor

__all__ = ["Decoding", "decoding_of_item", "decoding_of_units", "sentinel2_offset", "units_of"]

LANDSAT_SCALE, LANDSAT_OFFSET = 0.275, -2000.0
"""Collection 2 level 2: reflectance = DN * 0.0000275 - 0.2 (USGS LSDS-1619, table 6-1), times 10000."""

FILL: Mapping[str, float] = {"hls-s30": -9999.0, "hls-l30": -9999.0, "modis-09ga": -28672.0}
"""Fill values: HLS User Guide 2.0, section 6; MOD09 User's Guide 6.1, table of science data sets."""

WORLDCEREAL = 10.0**-8.3
"""Sentinel-1 as WorldCereal stores it: dB = 20 log10(DN) - 83, so that power = DN² * 10^-8.3."""


def units_of(sensor: Sensor) -> tuple[str, ...]:
    """Return the units that a sidecar or user data of a sensor may declare, the harmonised ones first."""
    if sensor.kind == "radar":
        return ("dB", "linear", "worldcereal")
    if sensor.units != "reflectance * 10000":
        return (sensor.units,)
    return (sensor.units, "reflectance", *(("dn",) if sensor.id.startswith("landsat") else ()))


Law = Literal["linear", "decibel", "square"]


@dataclass(frozen=True)
class Decoding:
    """From a stored number to a value: nodata, then a law, scale and offset, then a floor."""

    nodata: float | None = None
    """Besides the one that the file declares; tested on the stored number."""
    scale: float = 1.0
    offset: float = 0.0
    floor: float | None = None
    """Lowest value."""
    law: Law = "linear"
    """``linear``: v; ``decibel``: 10^(v/10); ``square``: v²; scale and offset come after it."""

    def __call__(self, raw: NDArray[Any], declared: float | None = None) -> NDArray[np.float32]:
        """Return float32 values, NaN where there is no data or the number is not finite."""
        with np.errstate(over="ignore"):  # nodata may be the lowest float64; what overflows is not finite
            values = raw.astype(np.float32)
        empty = ~np.isfinite(values)
        for marker in (self.nodata, declared):
            if marker is not None:
                empty |= raw == marker
        if self.law == "decibel":
            values = np.power(10.0, np.where(empty, 0, raw).astype(np.float64) / 10).astype(np.float32)
        elif self.law == "square":
            values = values * values
        if self.scale != 1:
            values = values * np.float32(self.scale)
        if self.offset:
            values = values + np.float32(self.offset)
        if self.floor is not None:
            values = np.maximum(values, np.float32(self.floor))
        values[empty] = np.nan
        return values


def sentinel2_offset(properties: Mapping[str, Any], raster_band: Mapping[str, Any]) -> float:
    """Return what to add to a Sentinel-2 DN so that it is reflectance * 10000.

    * ``earthsearch:boa_offset_applied`` true: nothing, whatever ``raster:bands`` says
      (``s2_stac_catalog``, Earth Search ``sentinel-2-l2a``); in the items of its version 0, which describe the same
      files, it is called ``sentinel:boa_offset_applied`` (``sentinel-s2-l2a-cogs``).
    * else the offset of ``raster:bands``, in units of its scale: -0.1 / 0.0001 = -1000
      (``s2_stac_antimeridian``, Earth Search ``sentinel-2-c1-l2a`` and ``sentinel-2-l1c``).
    * else a processing baseline of 04.00 or later means -1000, an earlier one nothing (Planetary Computer).
    """
    if any(properties.get(f"{who}:boa_offset_applied") is True for who in ("earthsearch", "sentinel")):
        return 0.0
    offset = raster_band.get("offset")
    if offset is not None:
        return round(float(offset) / float(raster_band.get("scale") or 1e-4), 6)
    told = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version")
    return baseline_offset(next(filter(None, (properties.get(name) for name in told)), None))


def baseline_offset(baseline: Any) -> float:
    """Return -1000 from processing baseline 04.00 on (25 January 2022), else 0."""
    major = str(baseline or "").strip().lstrip("N").partition(".")[0]
    return -1000.0 if major.isdigit() and int(major) >= 4 else 0.0


def decoding_of_item(
    sensor: Sensor, band: str, collection: str, properties: Mapping[str, Any], raster_band: Mapping[str, Any]
) -> Decoding:
    """Return how a band of a STAC item is read.

    Raises
    ------
    ProviderError
        If a radar item does not say what its numbers are.
    """
    nodata = raster_band.get("nodata")
    marker = float(nodata) if isinstance(nodata, int | float) else None
    if sensor.band(band).classes:
        return Decoding(marker)
    if sensor.kind == "radar":
        units = str(raster_band.get("unit") or ("linear" if "rtc" in collection.lower() else "")) or None
        return decoding_of_units(sensor, band, units, nodata=marker, label=collection)
    if sensor.id.startswith("sentinel-2"):
        # zero is nodata in every product, also where nothing declares it (s2_stac_antimeridian)
        return Decoding(0.0, offset=sentinel2_offset(properties, raster_band), floor=0.0)
    if sensor.id.startswith("landsat"):
        return Decoding(0.0, LANDSAT_SCALE, LANDSAT_OFFSET)
    if sensor.units == "reflectance * 10000":
        # Planetary Computer's hls2-* items say nothing, its modis-09A1-061 items a scale of 0.0001 but no nodata
        scale = round(float(raster_band.get("scale") or 1e-4) * 10000, 9)
        return Decoding(FILL.get(sensor.id, marker), scale, round(float(raster_band.get("offset") or 0.0) * 10000, 6))
    return Decoding(marker)


def decoding_of_units(
    sensor: Sensor,
    band: str,
    units: str | None,
    *,
    nodata: float | None = None,
    offset: float = 0.0,
    label: str = "",
) -> Decoding:
    """Return how numbers in declared units are read; ``offset`` is added to a Sentinel-2 DN.

    Raises
    ------
    ProviderError
        If the units are none that the sensor can have, or radar data do not declare any.
    """
    if sensor.band(band).classes:
        return Decoding(nodata)
    known = {name.lower(): name for name in units_of(sensor)}
    told = None if units is None else known.get(units.strip().lower())
    where = f"{label}: " if label else ""
    if (units is None and sensor.kind == "radar") or (units is not None and told is None):
        said = "does not say its units" if units is None else f"has units {units!r}"
        raise ProviderError(
            f"{where}{band} of {sensor.id} {said}; declare one of {', '.join(map(repr, known.values()))} "
            'in a sidecar file, as {"units": ...}'
        )
    if sensor.kind == "radar":
        law: Law = {"dB": "decibel", "linear": "linear", "worldcereal": "square"}[told or ""]  # type: ignore[assignment]
        return Decoding(nodata, WORLDCEREAL if law == "square" else 1.0, law=law)
    if told == "reflectance":
        return Decoding(nodata, 10000.0)
    if told == "dn" and sensor.id.startswith("landsat"):
        return Decoding(0.0 if nodata is None else nodata, LANDSAT_SCALE, LANDSAT_OFFSET)
    marker = 0.0 if nodata is None and sensor.id.startswith("sentinel-2") else nodata
    return Decoding(marker, offset=offset, floor=0.0 if offset else None)
