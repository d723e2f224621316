"""What a STAC item says: its sensor, bands, time, clouds and outline, whoever wrote it (pure functions on its JSON).

Read as they are: Earth Search v0 and v1, Planetary Computer, USGS (STAC 0.7, where ``eo:bands`` are numbers into a
list of the properties) and STAC 1.1 (``bands``, ``raster:scale``).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import shapely
from shapely.geometry import shape

from rs_embed.core.errors import ProviderError, SpecError
from rs_embed.core.geometry import wrap_lonlat
from rs_embed.core.imagery import Scene
from rs_embed.core.sensors import Sensor, find_sensor

__all__ = [
    "ItemBand",
    "item_bands",
    "item_collection",
    "item_footprint",
    "item_scene",
    "item_sensor",
    "item_time",
    "item_version",
]

Item = Mapping[str, Any]


@dataclass(frozen=True)
class ItemBand:
    """An asset that holds a band."""

    key: str
    href: str
    raster_band: Mapping[str, Any]
    """``nodata``, ``scale``, ``offset`` and ``unit`` as the item tells them."""
    index: int = 1
    """Band of the file, from 1."""


def item_collection(item: Item) -> str:
    """Return the collection's id, empty where the item has none."""
    return str(item.get("collection") or item.get("properties", {}).get("collection") or "")


def item_sensor(item: Item) -> Sensor | None:
    """Return the sensor of the item's collection, or None where it is none of ours."""
    try:
        return find_sensor(item_collection(item))
    except SpecError:
        return None


def _told(asset: Mapping[str, Any], item: Item) -> list[Mapping[str, Any]]:
    """What the item says of each band of an asset."""
    listed = asset.get("bands") or asset.get("eo:bands") or []
    table = item.get("properties", {}).get("eo:bands") or []
    told = [table[b] if isinstance(b, int) and b < len(table) else b for b in listed]
    return [b for b in told if isinstance(b, Mapping)]


def _names(key: str, told: list[Mapping[str, Any]], sensor: Sensor) -> Iterator[str]:
    """Names that may say which band an asset of one band holds, the most trustworthy first."""
    stem = key.rsplit(".", 1)[0] if key.lower().endswith((".tif", ".tiff", ".jp2")) else key
    common = [str(b[k]) for b in told for k in ("common_name", "eo:common_name") if b.get(k)]
    own = [str(b["name"]) for b in told if b.get("name")]
    # B1 is coastal on Landsat 8 and blue on Landsat 7: there the common name knows better
    yield from [*common, stem, *own] if sensor.id.startswith("landsat") else [stem, *own, *common]
    yield re.sub(r"_\d+m$", "", stem)  # B02_10m, as the files of Sentinel-2 products are called


def item_bands(item: Item, sensor: Sensor) -> dict[str, tuple[ItemBand, ...]]:
    """Return the assets that may hold each band of the sensor, the best first (``red`` before ``red_20m``)."""
    table = sensor.names()
    ranked: dict[str, list[tuple[int, int, ItemBand]]] = {}
    for order, (key, asset) in enumerate(item.get("assets", {}).items()):
        if not isinstance(asset, Mapping):
            continue
        if key.lower() == "qa" and sensor.id.startswith("landsat"):
            continue  # Planetary Computer's surface temperature uncertainty, not QA_PIXEL
        if {"thumbnail", "overview", "visual"} & set(asset.get("roles") or ()) or not asset.get("href"):
            continue
        told = _told(asset, item)
        if len(told) > 1:
            if sensor.units == "grey level":  # a photograph; of other sensors a picture made from the bands
                for name, one in _photograph(key, asset, told, table):
                    ranked.setdefault(name, []).append((0, order, one))
            continue
        for rank, name in enumerate(_names(key, told, sensor)):
            band = table.get(name.lower())
            if band is not None:
                ranked.setdefault(band, []).append((rank, order, ItemBand(key, asset["href"], _raster_band(asset))))
                break
    return {band: tuple(b for _, _, b in sorted(found, key=lambda f: f[:2])) for band, found in ranked.items()}


def _photograph(
    key: str, asset: Mapping[str, Any], told: list[Mapping[str, Any]], table: Mapping[str, str]
) -> Iterator[tuple[str, ItemBand]]:
    """The bands of an asset that holds several, such as NAIP's ``image``."""
    for place, each in enumerate(told):
        band = table.get(str(each.get("name") or each.get("eo:common_name")).lower())
        if band is not None:
            yield band, ItemBand(key, asset["href"], _raster_band(asset, place), place + 1)


def _raster_band(asset: Mapping[str, Any], place: int = 0) -> Mapping[str, Any]:
    """Nodata, scale, offset and unit of a band of the asset, in STAC 1.0 or 1.1."""
    listed = asset.get("raster:bands") or asset.get("bands") or [{}]
    own = listed[place] if place < len(listed) else {}
    first = own if isinstance(own, Mapping) else {}
    said = {name: first.get(name, first.get(f"raster:{name}")) for name in ("nodata", "scale", "offset", "unit")}
    for name in said:
        if said[name] is None:
            said[name] = asset.get(f"raster:{name}", asset.get(name))
    return {name: value for name, value in said.items() if value is not None}


def item_time(item: Item) -> datetime:
    """Return the moment of acquisition in UTC.

    Raises
    ------
    ProviderError
        If the item tells none.
    """
    properties = item.get("properties", {})
    text = properties.get("datetime") or properties.get("start_datetime")
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise ProviderError(f"STAC item {item.get('id')} has datetime {text!r}, which is no date") from error
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def item_footprint(item: Item) -> Any:
    """Return the outline in degrees, cut at the antimeridian: the geometry, else the bbox, else None."""
    geometry = item.get("geometry")
    if not geometry:
        return _boxed(item)
    try:
        outline = shape(geometry)
        if outline.is_empty:
            return _boxed(item)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError):
        return _boxed(item)  # such as Planetary Computer's Sentinel-1 near 180°: rings without their polygon
    if not outline.is_valid:
        outline = shapely.make_valid(outline)
    parts = [_unwrapped(part) for part in getattr(outline, "geoms", [outline]) if part.geom_type == "Polygon"]
    return wrap_lonlat(shapely.union_all(parts)) if parts else _boxed(item)


def _boxed(item: Item) -> Any:
    bounds = item.get("bbox")
    if not bounds or len(bounds) not in (4, 6):
        return None
    west, south, east, north = (float(bounds[i]) for i in (0, 1, len(bounds) // 2, len(bounds) // 2 + 1))
    return wrap_lonlat(shapely.box(west, south, east + (360 if east < west else 0), north))


def _unwrapped(polygon: Any) -> Any:
    """A polygon whose ring jumps over 180° as one that runs on beyond it."""
    points = list(polygon.exterior.coords)
    moved = [points[0][:2]]
    for before, point in itertools.pairwise(points):
        jump = point[0] - before[0]
        along_edge = abs(before[0]) == 180 and abs(point[0]) == 180  # a box around the whole Earth
        turn = 0.0 if along_edge or abs(jump) <= 180 else -360.0 if jump > 0 else 360.0
        moved.append((moved[-1][0] + jump + turn, point[1]))
    if moved[-1][0] != moved[0][0]:  # the ring goes round a pole
        south, north = min(p[1] for p in points), max(p[1] for p in points)
        return shapely.box(-180, south, 180, 90) if north > 0 else shapely.box(-180, -90, 180, north)
    repaired = shapely.Polygon(moved)
    return repaired if repaired.is_valid else shapely.make_valid(repaired)


_VERSION = (
    "updated", "version", "processing:version", "processing:datetime", "s2:processing_baseline", "s2:generation_time",
    "s2:product_uri", "earthsearch:boa_offset_applied", "sentinel:boa_offset_applied", "sentinel:processing_baseline",
    "landsat:scene_id", "landsat:product_generated",
)  # fmt: skip
_FILE = (
    "file:checksum", "file:size", "raster:bands", "raster:scale", "raster:offset", "raster:unit", "unit", "bands",
    "nodata",
)  # fmt: skip


def item_version(item: Item) -> str:
    """Return what changes when the item's pixels do: a digest of its id, version, files and how they are read.

    Links to other items, titles, and the signature in the URL of a file take no part.
    """
    properties = item.get("properties", {})
    files = {
        key: [urlsplit(str(asset.get("href")))._replace(query="", fragment="").geturl(), *map(asset.get, _FILE)]
        for key, asset in item.get("assets", {}).items()
    }
    said = [item_collection(item), item.get("id"), {name: properties.get(name) for name in _VERSION}, files]
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def item_scene(item: Item, bands: frozenset[str], handle: Any, footprint: Any) -> Scene:
    """Return the item as a scene of the bands that can be read."""
    properties = item.get("properties", {})
    cloud = properties.get("eo:cloud_cover")
    orbit = str(properties.get("sat:orbit_state") or properties.get("s2:orbit_direction") or "").lower()
    return Scene(
        str(item.get("id")),
        item_time(item),
        bands,
        float(cloud) if isinstance(cloud, int | float) and cloud >= 0 else None,
        footprint,
        orbit if orbit in ("ascending", "descending") else None,
        handle,
        str(properties["sar:instrument_mode"]).upper() if properties.get("sar:instrument_mode") else None,
    )
