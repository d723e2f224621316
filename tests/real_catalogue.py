"""The real catalogue of Sentinel-2 behind servers, and what is asked of it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from affine import Affine
from odc.geo.geobox import GeoBox
from range_server import RangeServer

from rs_embed.core.geometry import footprint_of
from rs_embed.core.imagery import ImageRequest, ImageStack

CATALOGUE = "s2_stac_catalog"
AUGUST = (datetime(2023, 8, 1, tzinfo=UTC), datetime(2023, 9, 1, tzinfo=UTC))
SQUARE = GeoBox((65, 64), Affine(120, 0, 542220, 0, -120, 5200020), "EPSG:32633")


def ask(box: GeoBox = SQUARE, bands: tuple[str, ...] = ("B4", "B8"), **more: Any) -> ImageRequest:
    request = ImageRequest("sentinel-2-l2a", bands, footprint_of(box), box, (AUGUST,), mask="scl")
    return replace(request, **more)


def load(provider: Any, request: ImageRequest) -> ImageStack:
    assert request.geobox is not None
    (stack,) = provider.load(request, [request.geobox])
    return stack


def real_items(folder: Path, files: RangeServer) -> list[dict[str, Any]]:
    """The items of the real catalogue, with the files that a server has."""
    found = []
    for path in sorted((folder / CATALOGUE).glob("*/*/*.json")):
        item = json.loads(path.read_text())
        item["assets"] = {key: asset for key, asset in item["assets"].items() if asset["href"].endswith(".tif")}
        item["assets"] = {key: asset for key, asset in item["assets"].items() if "://" not in asset["href"]}
        for asset in item["assets"].values():
            place = (path.parent / asset["href"]).resolve().relative_to(folder / CATALOGUE)
            asset["href"] = files.url(place.as_posix())
        found.append(item)
    return found
