"""A painted landscape as satellites see it, its relief and weather: anywhere on Earth, without a network, to the bit.

A pixel is the landscape at its centre (coarser pixels are samples too, not means), so its value depends on its ground
coordinates and the date alone: on no lattice, region, tile or process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from rs_embed.core.errors import ProviderError
from rs_embed.core.imagery import ImageRequest, Interval, Scene
from rs_embed.providers.base import SceneProvider
from rs_embed.providers.climate import RELIEF, WEATHER, relief, weather
from rs_embed.providers.landscape import Ground, ground_at, numbers, reflect, turned
from rs_embed.providers.noise import EARTH, FEW, sphere
from rs_embed.providers.radar import POLARISATIONS, backscatter
from rs_embed.providers.sky import Above, Sky, centre, cloudiness, look_up, outside_swath, sky
from rs_embed.providers.spectra import BANDS, CLOUD

__all__ = ["SyntheticProvider"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Window = tuple[int, int, int, int]

_OPTICAL, _RADAR, _WEATHER, _RELIEF = "sentinel-2-l2a", "sentinel-1", "era5", "dem"
_SENSORS = (_OPTICAL, _RADAR, _WEATHER, _RELIEF)
_EVERY = {_OPTICAL: (5, 4), _RADAR: (6, 1)}
"""Days between scenes and the remainder of their ordinal."""
_SURVEYED = datetime(2021, 4, 22, tzinfo=UTC)
"""When the relief is said to have been published: it has no other date."""
_WATER, _VEGETATION, _BARE = 6, 4, 5
_GREENNESS = ("B4", "B8")
_AT_ONCE = 1 << 14


@dataclass(frozen=True, eq=False)
class _Block:
    """Some pixels of a lattice, whatever the scene."""

    lon: Floats
    lat: Floats
    off: NDArray[np.bool_]
    """Pixels that lie nowhere on Earth."""

    @cached_property
    def points(self) -> Floats:
        """``(3, N)`` metres from the Earth's centre, in the frame of the noise."""
        return turned(sphere(self.lon, self.lat)[0]) * EARTH

    @cached_property
    def above(self) -> Above:
        """What lies between the points and the sky."""
        return look_up(self.points, self.lon, self.lat)

    @cached_property
    def ground(self) -> Ground:
        """What stands there."""
        return ground_at(self.points, self.lat)


class SyntheticProvider(SceneProvider):
    """A painted landscape with seasons, clouds, shadows, gaps in the swath and radar speckle."""

    name = "synthetic"
    source = "painted landscape"

    def offers(self, sensor: str) -> bool:
        """Whether the landscape is painted as that sensor sees it."""
        return sensor in _SENSORS

    def search(self, request: ImageRequest, interval: Interval) -> list[Scene]:
        """Return scenes: every fifth (Sentinel-2) or sixth day (Sentinel-1), every month (weather), one of relief."""
        if request.sensor not in _SENSORS:
            known = ", ".join(_SENSORS)
            raise ProviderError(f"the synthetic landscape has no {request.sensor!r}; it has {known}")
        start, end = (moment.astimezone(UTC) for moment in interval)
        scenes = _scenes(request, start.date(), end.date())
        return [scene for scene in scenes if start <= scene.time < end]

    def read(self, scene: Scene, bands: Sequence[str], geobox: GeoBox) -> NDArray[np.float32]:
        """Return the landscape at the pixel centres, NaN outside the swath and the Earth.

        Sentinel-2 is in whole numbers (reflectance * 10000) and SCL classes, Sentinel-1 in linear power; elevation in
        metres, slope in degrees, temperature in kelvins, a month's precipitation in metres.
        """
        if geobox.crs is None:
            raise ProviderError("the synthetic landscape needs a place: give a region with coordinates (a CRS)")
        absent = [band for band in bands if band not in scene.bands]
        if absent:
            raise ProviderError(f"scene {scene.id} has no band {absent[0]!r}; it has {', '.join(sorted(scene.bands))}")
        paint = next(paint for band, paint in _PAINTS.items() if band in scene.bands)
        height, width = (int(side) for side in geobox.shape)
        out = np.empty((len(bands), height, width), np.float32)
        for window in _windows(height, width):
            top, bottom, left, right = window
            block = _block(geobox, window)
            values = paint(block, scene, bands)
            values[:, block.off] = np.nan
            out[:, top:bottom, left:right] = values.reshape(len(bands), bottom - top, right - left)
        return out

    def stored_bytes(self, scene: Scene, bands: Sequence[str], geobox: GeoBox) -> int:
        """Return the bytes of the pixels that `read` would paint."""
        return 4 * len(bands) * int(geobox.shape[0]) * int(geobox.shape[1])


def _scenes(request: ImageRequest, first: date, last: date) -> Iterator[Scene]:
    """Yield the scenes of a sensor whose days lie between two."""
    if request.sensor == _RELIEF:
        yield Scene("SYN-DEM", _SURVEYED, frozenset(RELIEF))
    elif request.sensor == _WEATHER:
        for month in range(12 * first.year + first.month - 1, 12 * last.year + last.month):
            yield _weather_scene(date(month // 12, month % 12 + 1, 15))
    else:
        make = _optical_scene if request.sensor == _OPTICAL else _radar_scene
        yield from (make(day, request.footprint) for day in _days(request.sensor, first, last))


def _days(sensor: str, first: date, last: date) -> Iterator[date]:
    every, remainder = _EVERY[sensor]
    ordinal = first.toordinal() + (remainder - first.toordinal()) % every
    while ordinal <= last.toordinal():
        yield date.fromordinal(ordinal)
        ordinal += every


def _at(day: date, hour: int, minute: int) -> datetime:
    return datetime.combine(day, time(hour, minute), UTC)


def _optical_scene(day: date, footprint: Any) -> Scene:
    """Return the scene of a day; its cloud cover is that of the middle of the footprint's one-degree cell."""
    cover = None
    if footprint is not None and not footprint.is_empty:
        middle = footprint.centroid
        cover = _cover(float(np.floor(middle.x)), float(np.clip(np.floor(middle.y), -90, 89)), day)
    bands = frozenset((*BANDS, "SCL"))
    return Scene(f"SYN-S2-{day:%Y%m%d}", _at(day, 10, 30), bands, cloud_cover=cover, item=day)


@lru_cache(maxsize=1 << 14)
def _cover(west: float, south: float, day: date) -> float:
    """Return the cloud cover in the middle of a one-degree cell, percent."""
    return round(100.0 * float(cloudiness(centre(west + 0.5, south + 0.5), day)[0]), 1)


def _radar_scene(day: date, footprint: Any) -> Scene:
    """Return the scene of a day: ascending in the evening, descending in the morning, in turn."""
    ascending = bool(day.toordinal() // 6 % 2)
    orbit, hour = ("ascending", 17) if ascending else ("descending", 5)
    return Scene(f"SYN-S1-{day:%Y%m%d}", _at(day, hour, 45), frozenset(POLARISATIONS), orbit=orbit, item=day)


def _weather_scene(day: date) -> Scene:
    return Scene(f"SYN-ERA5-{day:%Y%m}", _at(day, 0, 0), frozenset(WEATHER), item=day)


def _windows(height: int, width: int) -> Iterator[Window]:
    """Yield windows of at most 16 384 pixels: what is computed beside a pixel has no part in its value."""
    wide = min(width, 256) or 1
    high = max(1, _AT_ONCE // wide)
    for top in range(0, height, high):
        for left in range(0, width, wide):
            yield top, min(top + high, height), left, min(left + wide, width)


_LOCAL = threading.local()


def _to_degrees(crs: str) -> Transformer:
    """Return this thread's transformer from a CRS to longitude and latitude: PROJ objects are no threads' to share."""
    known: dict[str, Transformer] = _LOCAL.__dict__.setdefault("known", {})
    if crs not in known:
        known[crs] = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return known[crs]


@lru_cache(maxsize=64)
def _block(geobox: GeoBox, window: Window) -> _Block:
    """Return pixels of a lattice; the scenes of a composite share them (about 1.5 MB each)."""
    crs = geobox.crs
    assert crs is not None
    top, bottom, left, right = window
    columns = np.arange(left, right) + 0.5
    rows = (np.arange(top, bottom) + 0.5)[:, None]
    a, b, c, d, e, f = (float(v) for v in geobox.affine[:6])
    # To the millimetre (10 nano-degrees), so that a crop's own origin does not show in the last bits.
    digits = 1e8 if crs.geographic else 1e3
    x = np.rint((a * columns + b * rows + c).ravel() * digits) / digits
    y = np.rint((d * columns + e * rows + f).ravel() * digits) / digits
    lon, lat = (x, y) if crs.epsg == 4326 else _to_degrees(str(crs)).transform(x, y)
    off = ~(np.isfinite(lon) & np.isfinite(lat)) | (np.abs(lat) > 90)
    return _Block(np.where(off, 0.0, lon), np.where(off, 0.0, lat), off)


def _paint_optical(block: _Block, scene: Scene, bands: Sequence[str]) -> Singles:
    day: date = scene.item
    above = sky(block.above, day)
    wanted = [band for band in BANDS if band in bands or ("SCL" in bands and band in _GREENNESS)]
    below = dict(zip(wanted, reflect(block.ground, day, wanted), strict=True))
    missing = outside_swath(block.points, day)
    out = np.empty((len(bands), block.lon.size), np.float32)
    colours = [number for number, band in enumerate(bands) if band != "SCL"]
    at_once = [colours] if block.lon.size <= FEW else [[number] for number in colours]
    for chosen in at_once if colours else ():
        ground = np.stack([below[bands[number]] for number in chosen])
        white = CLOUD[[BANDS.index(bands[number]) for number in chosen]][:, None]
        out[chosen] = np.where(missing, np.float32(np.nan), _through(above, ground, white))
    if "SCL" in bands:
        classes = _scene_classes(block.ground, above, *(below[each] for each in _GREENNESS))
        out[bands.index("SCL")] = np.where(missing, np.uint8(0), classes)
    return out


def _through(above: Sky, reflectance: Singles, white: Singles) -> Singles:
    """Return whole numbers of the ground through shadows and clouds."""
    lit = np.where(above.shadow, reflectance * np.float32(0.4), reflectance)
    bright = white * (np.float32(0.5) + above.cloud * np.float32(0.8))
    return numbers(lit + above.cloud * (bright - lit))


def _scene_classes(place: Ground, above: Sky, red: Singles, near: Singles) -> NDArray[np.uint8]:
    green = near - red > np.float32(0.35) * (near + red)
    land = np.where(green, np.uint8(_VEGETATION), np.uint8(_BARE))
    clear = np.where(place.water >= 0.5, np.uint8(_WATER), land)
    return np.where(above.scl > 0, above.scl, clear)


def _paint_radar(block: _Block, scene: Scene, bands: Sequence[str]) -> Singles:
    ascending = scene.orbit == "ascending"
    return backscatter(block.ground, block.points, scene.item, ascending=ascending, bands=bands)


def _paint_relief(block: _Block, scene: Scene, bands: Sequence[str]) -> Singles:
    return relief(block.lon, block.lat, bands)


def _paint_weather(block: _Block, scene: Scene, bands: Sequence[str]) -> Singles:
    return weather(block.lon, block.lat, scene.item, bands)


_PAINTS = {"SCL": _paint_optical, "VV": _paint_radar, "elevation": _paint_relief, "temperature_2m": _paint_weather}
"""By a band that only this sensor's scenes have."""
