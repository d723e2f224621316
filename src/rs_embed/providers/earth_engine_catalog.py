"""The collections of Earth Engine as data: which one a sensor is read from, band names, units, properties.

From the pages of the Earth Engine data catalogue (https://developers.google.com/earth-engine/datasets).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rs_embed.core.errors import ProviderError
from rs_embed.core.sensors import SENSORS, find_sensor
from rs_embed.providers.harmonise import LANDSAT_OFFSET, LANDSAT_SCALE

__all__ = ["DATASETS", "Dataset", "choose_dataset"]


@dataclass(frozen=True)
class Dataset:
    """What a sensor is read from."""

    ids: tuple[str, ...]
    """Image collections (or one image) whose images are the scenes."""
    bands: Mapping[str, str]
    """``{canonical name: Earth Engine's}``."""
    scale: float = 1.0
    offset: float = 0.0
    """value = number × scale + offset."""
    float_scale: float | None = None
    """In place of the scale where the pixels are floating point numbers."""
    cloud: str | None = None
    """Property with the percentage of clouds."""
    orbit: str | None = None
    """Property with ``ASCENDING`` or ``DESCENDING``."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Properties that a scene must have."""
    product: tuple[str, ...] = ()
    """Properties that tell a scene from the same one processed again."""
    worldwide: bool = False
    """Whether each image covers the Earth, so that there is no footprint."""
    is_image: bool = False
    """Whether it is one image, no collection."""
    static: bool = False
    """Whether dates mean nothing."""
    note: str = ""
    """How its pixels differ from what the sensor's name promises."""


def _same(sensor: str) -> dict[str, str]:
    return {band.name: band.name for band in SENSORS[sensor].bands}


def _sentinel2(sensor: str, asset: str) -> Dataset:
    return Dataset(
        (asset,),
        _same(sensor),
        cloud="CLOUDY_PIXEL_PERCENTAGE",
        orbit="SENSING_ORBIT_DIRECTION",
        product=("PRODUCT_ID", "DATASTRIP_ID"),
    )


def _landsat(*assets: str) -> Dataset:
    return Dataset(assets, _same("landsat-c2-l2"), scale=LANDSAT_SCALE, offset=LANDSAT_OFFSET, cloud="CLOUD_COVER")


def _hls(sensor: str, asset: str) -> Dataset:
    """HLS, whose bands are not padded with a zero as NASA's are, as reflectance from 0 to 1 or as NASA's numbers."""
    bands = {name: name.replace("B0", "B") for name in _same(sensor)}
    return Dataset((asset,), bands, float_scale=10000.0, cloud="CLOUD_COVERAGE")


_ONLY_GRD = (
    "Earth Engine's Sentinel-1 is sigma nought on the ellipsoid (S1_GRD_FLOAT), whereas sentinel-1-rtc is "
    "terrain-flattened gamma nought: slopes differ"
)
_EIGHT_DAYS = "MODIS 09A1 keeps the best observation of every 8 days, whereas MOD09GA is daily"


DATASETS: Mapping[str, Mapping[str, Dataset]] = {
    "sentinel-2-l2a": {name: _sentinel2("sentinel-2-l2a", name) for name in ("COPERNICUS/S2_SR_HARMONIZED",)},
    "sentinel-2-l1c": {name: _sentinel2("sentinel-2-l1c", name) for name in ("COPERNICUS/S2_HARMONIZED",)},
    "sentinel-1": {
        name: Dataset(
            ("COPERNICUS/S1_GRD_FLOAT",),
            _same("sentinel-1"),
            orbit="orbitProperties_pass",
            where={"instrumentMode": "IW"},
            note=note,
        )
        for name, note in (("COPERNICUS/S1_GRD_FLOAT", ""), ("sentinel-1-rtc", _ONLY_GRD), ("s1_rtc", _ONLY_GRD))
    },
    "landsat-c2-l2": {
        "landsat-c2-l2": _landsat("LANDSAT/LC08/C02/T1_L2", "LANDSAT/LC09/C02/T1_L2"),
        "LANDSAT/LC08/C02/T1_L2": _landsat("LANDSAT/LC08/C02/T1_L2"),
        "LANDSAT/LC09/C02/T1_L2": _landsat("LANDSAT/LC09/C02/T1_L2"),
    },
    "hls-s30": {name: _hls("hls-s30", name) for name in ("NASA/HLS/HLSS30/v002",)},
    "hls-l30": {name: _hls("hls-l30", name) for name in ("NASA/HLS/HLSL30/v002",)},
    "modis-09ga": {
        name: Dataset((name,), _same("modis-09ga"), worldwide=True, note=note)
        for name, note in (
            ("MODIS/061/MOD09GA", ""),
            ("MODIS/061/MYD09GA", ""),
            ("MODIS/061/MOD09A1", _EIGHT_DAYS),
            ("MODIS/061/MYD09A1", _EIGHT_DAYS),
        )
    },
    "naip": {"USDA/NAIP/DOQQ": Dataset(("USDA/NAIP/DOQQ",), _same("naip"))},
    "era5": {
        "ECMWF/ERA5_LAND/MONTHLY_AGGR": Dataset(
            ("ECMWF/ERA5_LAND/MONTHLY_AGGR",),
            {"temperature_2m": "temperature_2m", "total_precipitation": "total_precipitation_sum"},
            worldwide=True,
        ),
        "ECMWF/ERA5/MONTHLY": Dataset(
            ("ECMWF/ERA5/MONTHLY",),
            {"temperature_2m": "mean_2m_air_temperature", "total_precipitation": "total_precipitation"},
            worldwide=True,
        ),
    },
    "dem": {
        "COPERNICUS/DEM/GLO30": Dataset(("COPERNICUS/DEM/GLO30",), {"elevation": "DEM"}, static=True),
        "USGS/SRTMGL1_003": Dataset(
            ("USGS/SRTMGL1_003",), {"elevation": "elevation"}, worldwide=True, is_image=True, static=True
        ),
    },
}
"""By sensor, then by what the user calls the collection; the first where no name of Earth Engine's is asked for."""


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_")


def choose_dataset(sensor: str, asked: str | None) -> Dataset:
    """Return what a sensor is read from.

    Parameters
    ----------
    sensor
        Id of the sensor.
    asked
        What the user calls its collection; a name that is not one of Earth Engine's means the first.

    Raises
    ------
    ProviderError
        If Earth Engine has no imagery of the sensor.
    """
    known = DATASETS.get(sensor)
    if known is None:
        raise ProviderError(
            f"Earth Engine has no imagery of {sensor!r} that is known here; it has {', '.join(DATASETS)}"
        )
    by_name = {_plain(name): dataset for name, dataset in known.items()}
    first = next(iter(known.values()))
    if asked is None or _plain(asked) in by_name:
        return first if asked is None else by_name[_plain(asked)]
    assert find_sensor(asked).id == sensor
    return by_name.get("sentinel_1_rtc", first) if "rtc" in asked.lower() else first
