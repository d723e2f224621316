"""Painted scenes as Earth Engine stores them, and a provider of ours over the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from earth_engine_stub import PROJECTIONS, EarthEngineStub, Raster, Stored
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely.geometry import Polygon

from rs_embed import PointBuffer
from rs_embed.core.geometry import Region, locate
from rs_embed.core.imagery import ImageRequest, Interval, Scene
from rs_embed.core.sensors import SENSORS
from rs_embed.providers.base import SceneProvider
from rs_embed.providers.relief import slope, with_margin
from rs_embed.providers.resample import Grid, resample

JUNE: Interval = (datetime(2022, 6, 1, tzinfo=UTC), datetime(2022, 7, 1, tzinfo=UTC))
LON, LAT = 11.5, 48.1
UTM = "EPSG:32632"


@dataclass(frozen=True)
class Look:
    """How the provider of ours reads a collection."""

    sensor: str
    names: dict[str, str]
    scale: float = 1.0
    offset: float = 0.0
    cloud: str | None = None
    orbit: str | None = None


S2 = tuple(b.name for b in SENSORS["sentinel-2-l2a"].bands)
LOOKS = {
    "COPERNICUS/S2_SR_HARMONIZED": Look(
        "sentinel-2-l2a", {b: b for b in S2}, cloud="CLOUDY_PIXEL_PERCENTAGE", orbit="SENSING_ORBIT_DIRECTION"
    ),
    "COPERNICUS/S2_HARMONIZED": Look(
        "sentinel-2-l1c",
        {b.name: b.name for b in SENSORS["sentinel-2-l1c"].bands},
        cloud="CLOUDY_PIXEL_PERCENTAGE",
        orbit="SENSING_ORBIT_DIRECTION",
    ),
    "COPERNICUS/S1_GRD_FLOAT": Look(
        "sentinel-1", {b: b for b in ("VV", "VH", "HH", "HV")}, orbit="orbitProperties_pass"
    ),
    "LANDSAT/LC08/C02/T1_L2": Look(
        "landsat-c2-l2", {b.name: b.name for b in SENSORS["landsat-c2-l2"].bands}, 0.275, -2000.0, "CLOUD_COVER"
    ),
    "NASA/HLS/HLSS30/v002": Look(
        "hls-s30",
        {**{f"B{i:02d}": f"B{i}" for i in range(1, 13)}, "B8A": "B8A", "Fmask": "Fmask"},
        10000.0,
        cloud="CLOUD_COVERAGE",
    ),
    "NASA/HLS/HLSL30/v002": Look(
        "hls-l30",
        {b.name: b.name.replace("B0", "B") for b in SENSORS["hls-l30"].bands},
        10000.0,
        cloud="CLOUD_COVERAGE",
    ),
    "MODIS/061/MOD09GA": Look("modis-09ga", {f"sur_refl_b{i:02d}": f"sur_refl_b{i:02d}" for i in range(1, 8)}),
    "USDA/NAIP/DOQQ": Look("naip", {b: b for b in "RGBN"}),
    "COPERNICUS/DEM/GLO30": Look("dem", {"elevation": "DEM"}),
    "ECMWF/ERA5_LAND/MONTHLY_AGGR": Look(
        "era5", {"temperature_2m": "temperature_2m", "total_precipitation": "total_precipitation_sum"}
    ),
}


COMPOSITES = ("median", "mean", "mosaic", "none")
# Same pixels as our own compositing. The tolerance: float32 arithmetic, and with other projections our own
# interpolation of coordinates (docs/decisions/0003-own-resampling.md) times the contrast of neighbours.
SAME: dict[str, tuple[str, tuple[str, ...], float, dict[str, Any]]] = {
    "sentinel-2": ("sentinel-2-l2a", ("B4", "B8", "B2"), 0.0, {}),
    "sentinel-2 20 m": ("sentinel-2-l2a", ("B8", "B11", "B5"), 0.0, {"gsd": 20.0}),
    "sentinel-2 40 m": ("sentinel-2-l2a", ("B4", "B11"), 0.0, {"gsd": 40.0}),
    "sentinel-2 70 m": ("sentinel-2-l2a", ("B4", "B8"), 0.0, {"gsd": 70.0, "mask": None}),
    "sentinel-2 unmasked": ("sentinel-2-l2a", ("B4",), 0.0, {"mask": None}),
    "sentinel-2 one orbit": ("sentinel-2-l2a", ("B4",), 0.0, {"orbit": "descending"}),
    "sentinel-2 l1c": ("sentinel-2-l1c", ("B4", "B8"), 0.0, {}),
    "sentinel-1": ("sentinel-1", ("VV", "VH"), 4e-6, {}),
    "landsat": ("landsat-c2-l2", ("SR_B4", "SR_B5"), 1e-3, {}),
    "hls s30": ("hls-s30", ("B04", "B8A"), 0.0, {}),
    "hls l30": ("hls-l30", ("B04", "B05"), 0.0, {}),
    "modis": ("modis-09ga", ("sur_refl_b01", "sur_refl_b02"), 20.0, {"radius": 6000}),
    "naip": ("naip", ("R", "G", "B"), 0.0, {"radius": 30}),
    "elevation": ("dem", ("elevation",), 0.05, {"intervals": ()}),
    "slope": ("dem", ("elevation", "slope"), 0.05, {"intervals": ()}),
    "weather": ("era5", ("temperature_2m", "total_precipitation"), 1.0, {"radius": 40000}),
}


def region(radius: float = 300, lon: float = LON, lat: float = LAT) -> Region:
    return locate(PointBuffer(lon, lat, radius))


def request(
    sensor: str,
    bands: Sequence[str],
    *,
    radius: float = 300,
    gsd: float | None = None,
    lon: float = LON,
    **changes: object,
) -> ImageRequest:
    """A request for the square around the place."""
    place, known = region(radius, lon), SENSORS[sensor]
    lattice = place.lattice(gsd or known.gsd, known.offset)
    geobox = lattice.geobox(lattice.cover(place.shape.bounds))
    made = ImageRequest(sensor, tuple(bands), place.footprint, geobox, (JUNE,), mask=known.mask)
    return replace(made, **changes)  # type: ignore[arg-type]


def snapped(geobox: GeoBox, step: float, margin: float, shift: float = 0.0) -> tuple[float, float, float]:
    """West, north and side of a square of whole steps around a lattice."""
    a, (height, width) = geobox.affine, geobox.shape
    west = np.floor((a.c - margin - shift) / step) * step + shift
    north = np.ceil((a.f + margin - shift) / step) * step + shift
    side = np.ceil((max(height, width) * abs(a.a) + 2 * margin) / step + 2) * step
    return float(west), float(north), float(side)


@dataclass
class Painter:
    """Draws bands of one extent."""

    west: float
    north: float
    width: float
    height: float
    crs: str
    rng: np.random.Generator

    def raster(
        self, size: float, draw: Callable[[tuple[int, int]], np.ndarray], known: np.ndarray | None = None
    ) -> Raster:
        shape = round(self.height / size), round(self.width / size)
        values = np.asarray(draw(shape), float)
        mask = np.ones(shape, bool)
        if known is not None:  # blocks of the coarsest pixels
            grow = shape[0] // known.shape[0]
            mask = np.kron(known, np.ones((grow, grow), bool))
        is_float = bool((values != np.round(values)).any())
        return Raster(values, Affine(size, 0, self.west, 0, -size, self.north), self.crs, mask, is_float)

    def footprint(self) -> Polygon:
        east, south = self.west + self.width, self.north - self.height
        corners = [(self.west, south), (east, south), (east, self.north), (self.west, self.north)]
        convert = Transformer.from_crs(PROJECTIONS.get(self.crs, self.crs), "EPSG:4326", always_xy=True)
        found = [convert.transform(*corner) for corner in corners]
        lons = [lon for lon, _ in found]
        turned = 360 if max(lons) - min(lons) > 180 else 0  # across the antimeridian: on from 180
        return Polygon([(lon + turned * (lon < 0), lat) for lon, lat in found])


def millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def optical(
    collection: str, *, dates: int = 4, crs: str = UTM, holes: bool = True, seed: int = 1, lon: float = LON
) -> list[Stored]:
    """Two overlapping tiles of each pass, with clouds and holes; the second is 20 seconds later."""
    look, rng = LOOKS[collection], np.random.default_rng(seed)
    sensor = SENSORS[look.sensor]
    geobox = lattice_in(crs, sensor.gsd, sensor.offset, lon)
    coarsest = max(b.gsd for b in sensor.bands)
    step = 2 * coarsest  # so that edges of tiles never go through the middle of a pixel of 40 m
    west, north, side = snapped(geobox, step, 4 * coarsest, sensor.offset * sensor.gsd)
    half = np.ceil(side * 0.6 / step) * step
    out = []
    for number in range(dates):
        moment = JUNE[0] + timedelta(days=5 * number + 1, hours=10)
        for tile, left in enumerate((west, west + side - half)):
            paint = Painter(left, north, half, side, crs, rng)
            shape = round(side / coarsest), round(half / coarsest)
            known = rng.random(shape) > (0.08 if holes else 0)
            bands = {
                look.names[b.name]: paint.raster(b.gsd, drawing(sensor.id, b.name, rng), None if b.classes else known)
                for b in sensor.bands
                if b.name in look.names
            }
            properties = {
                "system:time_start": millis(moment + timedelta(seconds=20 * tile)),
                **({look.cloud: float(10 + 20 * ((number * 3) % 4) + tile)} if look.cloud else {}),
                **({look.orbit: ("ASCENDING", "DESCENDING")[number % 2]} if look.orbit else {}),
                **({"instrumentMode": "IW"} if look.sensor == "sentinel-1" else {}),
            }
            name = f"{collection}/{moment:%Y%m%d}_T{tile}"
            out.append(Stored(name, bands, properties, paint.footprint()))
    return out


def lattice_in(crs: str, gsd: float, offset: float, lon: float = LON) -> GeoBox:
    """The place's lattice, or one around it in another CRS."""
    place = region(lon=lon)
    lattice = place.lattice(gsd, offset)
    geobox = lattice.geobox(lattice.cover(place.shape.bounds))
    if geobox.crs == CRS(crs):
        return geobox
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, LAT)
    count = 900 // int(gsd) + 4
    west, north = (np.floor(v / 60) * 60 for v in (x - count * gsd / 2, y + count * gsd / 2))
    return GeoBox((count, count), Affine(gsd, 0, west, 0, -gsd, north), crs)


def drawing(sensor: str, band: str, rng: np.random.Generator) -> Callable[[tuple[int, int]], np.ndarray]:
    """What a band's numbers look like."""
    if band == "SCL":
        return lambda shape: rng.choice([3, 4, 5, 6, 7, 8, 9, 11], shape, p=[0.1, 0.3, 0.2, 0.1, 0.05, 0.1, 0.1, 0.05])
    if band == "QA_PIXEL":
        return lambda shape: rng.choice([21824, 21952, 22280, 23888, 55052], shape)
    if band == "Fmask":
        return lambda shape: rng.choice([64, 96, 66, 68, 16, 255], shape)
    if sensor == "sentinel-1":
        return lambda shape: np.where(rng.random(shape) < 0.03, 0, rng.exponential(0.08, shape)).astype(np.float32)
    if sensor.startswith("hls"):
        return lambda shape: rng.uniform(0.01, 0.6, shape).astype(np.float32)
    return lambda shape: (
        rng.integers(*((7500, 30000) if sensor.startswith("landsat") else (100, 250)), shape)
        * (1 if sensor == "naip" or sensor.startswith("landsat") else 16)
    )


def modis(seed: int = 3) -> list[Stored]:
    size, crs, rng = 463.3127165275, "SR-ORG:6974", np.random.default_rng(seed)
    x, y = Transformer.from_crs("EPSG:4326", PROJECTIONS[crs], always_xy=True).transform(LON, LAT)
    out = []
    for day in range(3):
        paint = Painter(round(x / size - 40) * size, round(y / size + 40) * size, 80 * size, 80 * size, crs, rng)
        bands = {f"sur_refl_b{i:02d}": paint.raster(size, lambda s: rng.integers(50, 5000, s)) for i in range(1, 8)}
        moment = JUNE[0] + timedelta(days=day)
        out.append(
            Stored(
                f"MODIS/061/MOD09GA/{moment:%Y_%m_%d}", bands, {"system:time_start": millis(moment)}, paint.footprint()
            )
        )
    return out


def weather(seed: int = 4) -> list[Stored]:
    rng = np.random.default_rng(seed)
    paint = Painter(9.05, 50.05, 5.0, 4.0, "EPSG:4326", rng)
    bands = {
        "temperature_2m": paint.raster(0.1, lambda s: rng.uniform(280, 300, s)),
        "total_precipitation_sum": paint.raster(0.1, lambda s: rng.uniform(0.01, 0.2, s)),
    }
    name = "ECMWF/ERA5_LAND/MONTHLY_AGGR/202206"
    return [Stored(name, bands, {"system:time_start": millis(JUNE[0])}, paint.footprint())]


def hills(west: float, north: float, size: float, shape: tuple[int, int]) -> np.ndarray:
    """Heights that go on from tile to tile."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]] + 0.5
    return 500 + 40 * np.sin((west + x * size) * 2000) + 30 * np.cos((north - y * size) * 1700)


def relief(tiles: int = 1, seed: int = 5) -> list[Stored]:
    """Tiles of a degree, here of a few minutes of arc, that meet east of the place's middle."""
    rng, size, out = np.random.default_rng(seed), 1 / 3600, []
    for tile in range(tiles):
        width = (360 if tiles == 1 else 184) / 3600
        west = 11.45 + tile * 184 / 3600
        paint = Painter(west, 48.12, width, 0.04, "EPSG:4326", rng)
        bands = {"DEM": paint.raster(size, partial(hills, west, 48.12, size))}
        moment = millis(datetime(2010, 12, 1, tzinfo=UTC))
        out.append(Stored(f"COPERNICUS/DEM/GLO30/T{tile}", bands, {"system:time_start": moment}, paint.footprint()))
    return out


def photographs(seed: int = 6) -> list[Stored]:
    """Pixels of a metre that lie askew by 0.3."""
    rng = np.random.default_rng(seed)
    west, north, side = snapped(lattice_in(UTM, 1.0, 0.0), 1.0, 8.0, 0.3)
    out = []
    for year in (1, 8):
        paint = Painter(west, north, side, side, UTM, rng)
        bands = {b: paint.raster(1.0, drawing("naip", b, rng)) for b in "RGBN"}
        moment = JUNE[0] + timedelta(days=year)
        properties = {"system:time_start": millis(moment)}
        out.append(Stored(f"USDA/NAIP/DOQQ/m_{year}", bands, properties, paint.footprint()))
    return out


def every_collection(rest: Path) -> EarthEngineStub:
    """A server with scenes of every collection; ``rest`` has the documents of the API."""
    made = EarthEngineStub.of(rest)
    for number, collection in enumerate(list(LOOKS)[:6]):
        made.images += optical(collection, seed=number)
    made.images += [*modis(), *weather(), *relief(), *photographs()]
    made.collections = {"LANDSAT/LC09/C02/T1_L2"}
    return made


class PaintedProvider(SceneProvider):
    """The same scenes, read and composited here."""

    name = "painted"
    source = "painted scenes"

    def __init__(self, images: Sequence[Stored]) -> None:
        self.images = list(images)

    def offers(self, sensor: str) -> bool:
        return True

    def search(self, request: ImageRequest, interval: Interval) -> list[Scene]:
        return [scene for image in self.images if (scene := self._scene(image, request.sensor)) is not None]

    def _scene(self, image: Stored, sensor: str) -> Scene | None:
        look = LOOKS[image.id.rpartition("/")[0]]
        if look.sensor != sensor:
            return None
        bands = {ours for ours, theirs in look.names.items() if theirs in image.bands}
        bands |= {"slope"} if sensor == "dem" else set()
        orbit = image.properties.get(look.orbit or "")
        return Scene(
            image.id.rpartition("/")[2],
            datetime.fromtimestamp(image.properties["system:time_start"] / 1000, UTC),
            frozenset(bands),
            image.properties.get(look.cloud or ""),
            image.footprint,
            orbit.lower() if orbit else None,
            image,
        )

    def read(self, scene: Scene, bands: Sequence[str], geobox: GeoBox) -> np.ndarray:
        return np.stack([self._band(scene.item, band, geobox) for band in bands])

    def _band(self, image: Stored, band: str, geobox: GeoBox) -> np.ndarray:
        look = LOOKS[image.id.rpartition("/")[0]]
        if band == "slope":
            return slope(self._band(image, "elevation", with_margin(geobox)), abs(geobox.affine.a))
        raster, known = image.bands[look.names[band]], SENSORS[look.sensor].band(band)
        values = raster.values.astype(np.float32)
        if not known.classes:
            values = values * np.float32(look.scale) + np.float32(look.offset)
        values = np.where(raster.known, values, np.float32(np.nan)).astype(np.float32)
        grid = Grid(*values.shape, raster.affine, CRS(PROJECTIONS.get(raster.crs, raster.crs)))
        return resample(lambda rows, cols: values[None, rows, cols], 1, grid, geobox, classes=known.classes)[0]
