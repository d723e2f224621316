"""The sensors: bands with wavelengths, units, nodata and the names that others give them.

Wavelengths and bandwidths (full width at half maximum) are those of Sentinel-2A and Landsat 8 in µm, as the
``eo:bands`` of Earth Search (``sentinel-2-l2a``) and USGS publish them; of MODIS the centres and widths of its
specification (MOD09 User's Guide, table 1). NAIP's cameras differ from year to year: its centres are those that
the authors of models use (Clay's ``configs/metadata.yaml``), without widths.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from rs_embed.core.errors import ModelError, SpecError

__all__ = ["SENSORS", "Band", "Sensor", "canonical_bands", "find_sensor"]


@dataclass(frozen=True)
class Band:
    """A band of a sensor."""

    name: str
    aliases: tuple[str, ...] = ()
    wavelength: float = math.nan
    """Centre, µm; NaN for radar and classes."""
    bandwidth: float = math.nan
    """Full width at half maximum, µm."""
    gsd: float = 10.0
    """Native ground sample distance, metres."""
    classes: bool = False
    """Whether the values are class numbers: nearest neighbour, never averaged."""


@dataclass(frozen=True)
class Sensor:
    """A source of pixels with one meaning."""

    id: str
    title: str
    bands: tuple[Band, ...]
    gsd: float
    """Lattice spacing, metres."""
    collections: tuple[str, ...]
    """What users and services call it."""
    units: str
    """Of harmonised pixels: ``reflectance * 10000``, ``grey level``, ``dB``, or each band's own."""
    kind: Literal["optical", "radar", "other"] = "optical"
    mask: str | None = None
    """Pixel mask that is applied by default: ``scl``, ``qa_pixel``, ``fmask`` or none."""
    mask_band: str | None = None
    default_bands: tuple[str, ...] = ()
    """Order that an array of as many channels is taken to have."""
    dated: bool = True
    """Whether its pixels are of a date; relief is of none."""
    offset: float = 0.0
    """Where pixel edges lie, in pixels from multiples of the gsd (Landsat: 0.5)."""
    attribution: str = ""
    """With ``{year}``."""
    licence: str = ""

    def band(self, name: str) -> Band:
        """Return the band of that canonical name."""
        return next(b for b in self.bands if b.name == name)

    def names(self) -> dict[str, str]:
        """Return ``{lower-case name or alias: canonical name}``."""
        table = {alias.lower(): band.name for band in self.bands for alias in band.aliases}
        return table | {band.name.lower(): band.name for band in self.bands}


_COPERNICUS = "Contains modified Copernicus Sentinel data {year}"
_OPEN = "Copernicus Sentinel data: free, full and open (Regulation (EU) No 1159/2013)"

_S2 = (
    Band("B1", ("B01", "coastal"), 0.4427, 0.021, 60),
    Band("B2", ("B02", "blue"), 0.4924, 0.066, 10),
    Band("B3", ("B03", "green"), 0.5598, 0.036, 10),
    Band("B4", ("B04", "red"), 0.6646, 0.031, 10),
    Band("B5", ("B05", "rededge1", "red_edge_1"), 0.7041, 0.015, 20),
    Band("B6", ("B06", "rededge2", "red_edge_2"), 0.7405, 0.015, 20),
    Band("B7", ("B07", "rededge3", "red_edge_3"), 0.7828, 0.020, 20),
    Band("B8", ("B08", "nir", "nir_broad"), 0.8328, 0.106, 10),
    Band("B8A", ("nir08", "nir_narrow", "rededge4", "red_edge_4"), 0.8647, 0.021, 20),
    Band("B9", ("B09", "nir09", "watervapor", "water_vapor"), 0.9451, 0.020, 60),
    Band("B11", ("swir16", "swir1", "swir_1"), 1.6137, 0.091, 20),
    Band("B12", ("swir22", "swir2", "swir_2"), 2.2024, 0.175, 20),
)
_B10 = Band("B10", ("cirrus",), 1.3735, 0.031, 60)
_SCL = Band("SCL", ("scene_classification",), gsd=20, classes=True)
_L2A = tuple(b.name for b in _S2)

_LANDSAT = (
    Band("SR_B1", ("B1", "coastal"), 0.443, 0.016, 30),
    Band("SR_B2", ("B2", "blue"), 0.482, 0.060, 30),
    Band("SR_B3", ("B3", "green"), 0.5615, 0.057, 30),
    Band("SR_B4", ("B4", "red"), 0.6545, 0.037, 30),
    Band("SR_B5", ("B5", "nir", "nir08", "nir_narrow"), 0.865, 0.028, 30),
    Band("SR_B6", ("B6", "swir16", "swir1", "swir_1"), 1.6085, 0.085, 30),
    Band("SR_B7", ("B7", "swir22", "swir2", "swir_2"), 2.2005, 0.187, 30),
    Band("QA_PIXEL", ("qa_pixel",), gsd=30, classes=True),
)

_FMASK = Band("Fmask", ("fmask",), gsd=30, classes=True)


def _at_30m(band: Band, name: str) -> Band:
    """A band as HLS has it, under its name there."""
    return replace(band, name=name, aliases=(band.name, *band.aliases), gsd=30)


_HLS_S30 = tuple(_at_30m(b, f"B{b.name[1:]:>02}") for b in (*_S2[:10], _B10, *_S2[10:]))
_HLS_L30 = tuple(_at_30m(b, f"B0{i}") for i, b in enumerate(_LANDSAT[:7], start=1))

_MODIS = tuple(
    Band(f"sur_refl_b{i:02d}", (f"b{i:02d}", alias), wavelength, width, 500)
    for i, (alias, wavelength, width) in enumerate(
        (
            ("red", 0.645, 0.050),
            ("nir", 0.8585, 0.035),
            ("blue", 0.469, 0.020),
            ("green", 0.555, 0.020),
            ("swir12", 1.240, 0.020),
            ("swir16", 1.640, 0.024),
            ("swir22", 2.130, 0.050),
        ),
        start=1,
    )
)

SENSORS: Mapping[str, Sensor] = {
    s.id: s
    for s in (
        Sensor(
            "sentinel-2-l2a",
            "Sentinel-2 surface reflectance (L2A)",
            (*_S2, _SCL),
            10.0,
            (
                "COPERNICUS/S2_SR_HARMONIZED",
                "COPERNICUS/S2_SR",
                "sentinel-2-c1-l2a",
                "sentinel-2-pre-c1-l2a",
                "sentinel-s2-l2a",
                "sentinel-s2-l2a-cogs",
                "s2",
                "s2_sr",
                "s2_l2a",
                "s2l2a",
                "sentinel2",
                "sentinel-2",
            ),
            "reflectance * 10000",
            mask="scl",
            mask_band="SCL",
            default_bands=_L2A,
            attribution=_COPERNICUS,
            licence=_OPEN,
        ),
        Sensor(
            "sentinel-2-l1c",
            "Sentinel-2 top-of-atmosphere reflectance (L1C)",
            (*_S2[:10], _B10, *_S2[10:]),
            10.0,
            ("COPERNICUS/S2_HARMONIZED", "COPERNICUS/S2", "sentinel-s2-l1c", "s2_l1c", "s2l1c", "s2_toa"),
            "reflectance * 10000",
            default_bands=(*_L2A[:10], "B10", *_L2A[10:]),
            attribution=_COPERNICUS,
            licence=_OPEN,
        ),
        Sensor(
            "sentinel-1",
            "Sentinel-1 backscatter (GRD or RTC, interferometric wide)",
            (Band("VV", ("vv",)), Band("VH", ("vh",)), Band("HH", ("hh",)), Band("HV", ("hv",))),
            10.0,
            (
                "COPERNICUS/S1_GRD",
                "COPERNICUS/S1_GRD_FLOAT",
                "sentinel-1-grd",
                "sentinel-1-rtc",
                "s1",
                "s1_grd",
                "s1_rtc",
                "sentinel1",
            ),
            "dB",
            kind="radar",
            default_bands=("VV", "VH"),
            attribution=_COPERNICUS,
            licence=_OPEN,
        ),
        Sensor(
            "landsat-c2-l2",
            "Landsat 8/9 Collection 2 surface reflectance",
            _LANDSAT,
            30.0,
            (
                "LANDSAT/LC08/C02/T1_L2",
                "LANDSAT/LC09/C02/T1_L2",
                "landsat-c2l2-sr",
                "landsat-8-c2-l2",
                "landsat",
                "landsat8",
            ),
            "reflectance * 10000",
            mask="qa_pixel",
            mask_band="QA_PIXEL",
            default_bands=tuple(f"SR_B{i}" for i in range(1, 8)),
            offset=0.5,
            attribution="Landsat data courtesy of the U.S. Geological Survey, {year}",
            licence="public domain (USGS)",
        ),
        Sensor(
            "hls-s30",
            "Harmonized Landsat Sentinel-2: Sentinel-2 at 30 m (HLSS30 v2.0)",
            (*_HLS_S30, _FMASK),
            30.0,
            ("NASA/HLS/HLSS30/v002", "HLSS30.v2.0", "HLSS30_2.0", "hls2-s30", "hlss30", "hls"),
            "reflectance * 10000",
            mask="fmask",
            mask_band="Fmask",
            default_bands=tuple(b.name for b in _HLS_S30),
            attribution="HLS data courtesy of NASA LP DAAC, {year}",
            licence="no restrictions (NASA LP DAAC)",
        ),
        Sensor(
            "hls-l30",
            "Harmonized Landsat Sentinel-2: Landsat 8/9 at 30 m (HLSL30 v2.0)",
            (*_HLS_L30, _FMASK),
            30.0,
            ("NASA/HLS/HLSL30/v002", "HLSL30.v2.0", "HLSL30_2.0", "hls2-l30", "hlsl30"),
            "reflectance * 10000",
            mask="fmask",
            mask_band="Fmask",
            default_bands=tuple(b.name for b in _HLS_L30),
            attribution="HLS data courtesy of NASA LP DAAC, {year}",
            licence="no restrictions (NASA LP DAAC)",
        ),
        Sensor(
            "modis-09ga",
            "MODIS daily surface reflectance (MOD09GA)",
            _MODIS,
            500.0,
            (
                "MODIS/061/MOD09GA",
                "MODIS/061/MYD09GA",
                "MODIS/061/MOD09A1",
                "MODIS/061/MYD09A1",
                "modis-09A1-061",
                "modis-09ga-061",
                "mod09ga",
                "modis",
            ),
            "reflectance * 10000",
            default_bands=tuple(b.name for b in _MODIS),
            attribution="MODIS data courtesy of NASA LP DAAC, {year}",
            licence="no restrictions (NASA LP DAAC)",
        ),
        Sensor(
            "naip",
            "NAIP aerial photographs",
            (
                Band("R", ("red",), 0.65, gsd=1),
                Band("G", ("green",), 0.56, gsd=1),
                Band("B", ("blue",), 0.48, gsd=1),
                Band("N", ("nir",), 0.842, gsd=1),
            ),
            1.0,
            ("USDA/NAIP/DOQQ",),
            "grey level",
            default_bands=("R", "G", "B", "N"),
            attribution="NAIP imagery by the U.S. Department of Agriculture, {year}",
            licence="public domain (USDA)",
        ),
        Sensor(
            "era5",
            "ERA5-Land monthly weather",
            (
                Band("temperature_2m", ("t2m", "temperature-mean"), gsd=11132),
                Band("total_precipitation", ("tp", "total_precipitation_sum", "precipitation"), gsd=11132),
            ),
            11132.0,
            ("ECMWF/ERA5_LAND/MONTHLY_AGGR", "ECMWF/ERA5/MONTHLY", "era5-land", "era5_land"),
            "K; m",
            kind="other",
            default_bands=("temperature_2m", "total_precipitation"),
            attribution="Contains modified Copernicus Climate Change Service information {year}",
            licence="Copernicus Products licence",
        ),
        Sensor(
            "dem",
            "Elevation above sea level and slope",
            (Band("elevation", ("dem", "data"), gsd=30), Band("slope", gsd=30)),
            30.0,
            ("COPERNICUS/DEM/GLO30", "USGS/SRTMGL1_003", "cop-dem-glo-30", "cop_dem_glo_30", "srtm"),
            "m; degrees",
            kind="other",
            default_bands=("elevation", "slope"),
            dated=False,
            attribution="Copernicus DEM © DLR e.V. and Airbus Defence and Space GmbH, provided under COPERNICUS",
            licence="Copernicus DEM licence: free for all uses",
        ),
    )
}

_BY_COLLECTION = {name.lower().replace("-", "_"): s for s in SENSORS.values() for name in (s.id, *s.collections)}


def find_sensor(collection: str) -> Sensor:
    """Return the sensor that ``collection`` names.

    Raises
    ------
    SpecError
        If none does; the message lists close matches.
    """
    found = _BY_COLLECTION.get(collection.strip().lower().replace("-", "_"))
    if found is None:
        known = [name for s in SENSORS.values() for name in (s.id, *s.collections)]
        close = difflib.get_close_matches(collection, known, n=3, cutoff=0.4) or [s.id for s in SENSORS.values()]
        raise SpecError(f"collection {collection!r} is not known; did you mean {' or '.join(map(repr, close))}?")
    return found


def canonical_bands(sensor: Sensor, bands: Iterable[str]) -> tuple[str, ...]:
    """Return the canonical names of ``bands`` (names or aliases, any case) of ``sensor``.

    Raises
    ------
    ModelError
        If a name is unknown or stands twice; the message lists the sensor's bands.
    """
    table = sensor.names()
    wanted = [b.strip() for b in bands]
    unknown = [b for b in wanted if b.lower() not in table]
    if unknown:
        known = ", ".join(b.name for b in sensor.bands)
        raise ModelError(f"band {unknown[0]!r} is not one of {sensor.id}; its bands are {known}")
    names = tuple(table[b.lower()] for b in wanted)
    if len(set(names)) < len(names):
        raise ModelError(f"bands {wanted} name the same band of {sensor.id} twice")
    return names
