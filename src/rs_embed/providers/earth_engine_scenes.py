"""What Earth Engine is asked about its scenes, and scenes from its answers.

The module ``ee`` is handed in: it has its home in `rs_embed.providers.earth_engine_connection`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from shapely.geometry import Polygon, shape

from rs_embed.core.imagery import Interval, Scene
from rs_embed.providers.acquisitions import newest
from rs_embed.providers.earth_engine_catalog import Dataset
from rs_embed.providers.earth_engine_graph import Asset, BandGrid
from rs_embed.providers.places import Box

__all__ = ["LISTED", "grids_graph", "listing_graph", "read_grids", "read_listing", "scene_of"]

LISTED = 1000
"""Scenes that are listed at once."""
_MARGIN = 0.01
"""Degrees by which footprints are widened: their edges are geodesics between few corners."""
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)

Told = Mapping[str, Any]


def listing_graph(ee: Any, dataset: Dataset, asset: str, box: Box, interval: Interval) -> Any:
    """Return the graph of a list of scenes: one feature each, one more than `LISTED` where there are more."""
    wanted = [name for name in (dataset.cloud, dataset.orbit, *dataset.where, *dataset.product) if name]

    def describe(image: Any) -> Any:
        told = ee.Feature(None if dataset.worldwide else image.geometry())
        if wanted:
            told = told.copyProperties(image, wanted)
        told = told.set("index", image.get("system:index")).set("time", image.get("system:time_start"))
        return told.set("bands", image.bandNames())

    listed = ee.ImageCollection([ee.Image(asset)]) if dataset.is_image else ee.ImageCollection(asset)
    if not dataset.static:
        start, end = ((moment - _FIRST).total_seconds() * 1000 for moment in interval)
        listed = listed.filterDate(math.floor(start), math.ceil(end))
    if not dataset.worldwide:
        listed = listed.filterBounds(ee.Geometry.Rectangle(list(box), None, False))
    return listed.limit(LISTED + 1).map(describe)


def read_listing(features: Iterable[Told], dataset: Dataset, asset: str) -> tuple[Told, ...]:
    """Return what was told of each scene that is of the dataset, of what was processed again the newest only."""
    told = [{**feature["properties"], "geometry": feature.get("geometry")} for feature in features]
    kept = [each for each in told if all(each.get(name) == value for name, value in dataset.where.items())]
    return tuple(item["told"] for item in newest([_as_item(each) for each in kept], (asset,)))


def _as_item(told: Told) -> dict[str, Any]:
    """A scene as a STAC item says it, as far as `newest` looks."""
    properties = {"s2:product_uri": told.get("PRODUCT_ID"), "s2:datastrip_id": told.get("DATASTRIP_ID")}
    return {"id": str(told.get("index")), "properties": properties, "told": told}


def scene_of(told: Told, dataset: Dataset, asset: str) -> Scene:
    """Return the scene that was told of."""
    existing = set(told["bands"])
    bands = {ours for ours, theirs in dataset.bands.items() if theirs in existing}
    bands |= {"slope"} if "elevation" in bands else set()
    cloud = told.get(dataset.cloud) if dataset.cloud else None
    orbit = told.get(dataset.orbit) if dataset.orbit else None
    index = asset.rpartition("/")[2] if dataset.is_image else str(told["index"])
    return Scene(
        index,
        _FIRST if told.get("time") is None else datetime.fromtimestamp(told["time"] / 1000, UTC),
        frozenset(bands),
        cloud_cover=None if cloud is None else float(cloud),
        footprint=_footprint(told.get("geometry")),
        orbit=None if orbit is None else str(orbit).lower(),
        item=Asset(asset if dataset.is_image else f"{asset}/{index}", dataset),
    )


def _footprint(geometry: Told | None) -> Any:
    """The ground that a scene may show in degrees; None where it may be anywhere."""
    if not geometry or not geometry.get("coordinates"):
        return None
    told = Polygon(geometry["coordinates"]) if geometry["type"] == "LinearRing" else shape(geometry)
    west, south, east, north = told.bounds
    known = all(map(math.isfinite, told.bounds)) and -180 <= west <= east <= 180 and -90 <= south <= north <= 90
    return told.buffer(_MARGIN) if known and east - west < 180 else None


def grids_graph(ee: Any, scenes: Sequence[Scene], bands: Sequence[str]) -> Any:
    """Return the graph of a list with what there is to know of the scenes' bands, where each has at least one."""
    return ee.List([ee.Image(s.item.id).select(_names(s, bands)) for s in scenes])


def read_grids(answer: Sequence[Told], scenes: Sequence[Scene], bands: Sequence[str]) -> dict[str, dict[str, BandGrid]]:
    """Return where the pixels of the scenes' bands lie, by scene id and our name of the band."""
    found: dict[str, dict[str, BandGrid]] = {}
    for scene, told in zip(scenes, answer, strict=True):
        grids = {band["id"]: _grid(band) for band in told["bands"]}
        ours = [band for band in bands if band in scene.bands and band in scene.item.dataset.bands]
        found[scene.id] = {band: grids[scene.item.dataset.bands[band]] for band in ours}
    return found


def _names(scene: Scene, bands: Sequence[str]) -> list[str]:
    known = scene.item.dataset.bands
    return [known[band] for band in bands if band in scene.bands and band in known]


def _grid(band: Told) -> BandGrid:
    kind = band.get("data_type", {}).get("precision")
    size, (right, down) = band.get("dimensions"), band.get("origin") or (0, 0)
    a, b, c, d, e, f = map(float, band["crs_transform"])
    return BandGrid(
        str(band.get("crs")),
        (a, b, c + a * right + b * down, d, e, f + d * right + e * down),  # of the first pixel that there is
        kind in ("float", "double"),
        None if size is None else (int(size[1]), int(size[0])),
    )
