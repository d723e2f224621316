"""From STAC items whose files lie on the network to scenes, and the pixels of their bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rs_embed.core.errors import ProviderError
from rs_embed.core.imagery import Scene
from rs_embed.core.sensors import SENSORS, Sensor, find_sensor
from rs_embed.providers.ahead import READS, together
from rs_embed.providers.harmonise import Decoding, decoding_of_item
from rs_embed.providers.headers import layout_behind
from rs_embed.providers.hrefs import open_url
from rs_embed.providers.raster import Layout
from rs_embed.providers.relief import slope, with_margin
from rs_embed.providers.remote import read_bands
from rs_embed.providers.stac_items import ItemBand, item_bands, item_collection, item_footprint, item_scene
from rs_embed.providers.tokens import Signer

__all__ = ["read_scene", "scene_layout", "scene_of"]

Item = Mapping[str, Any]


def scene_of(item: Item, sensor: str) -> tuple[Scene | None, str]:
    """Return the item as a scene of the bands whose files can be read; else why it is none.

    The scene's handle is the item without all that is not needed to read it.
    """
    known = SENSORS[sensor]
    base = next((str(link["href"]) for link in item.get("links") or () if link.get("rel") == "self"), "")
    assets: dict[str, dict[str, Any]] = {}
    why = "none of its assets is a band that is known"
    bands: set[str] = set()
    for band, candidates in item_bands(item, known).items():
        for one in candidates:
            asset = item["assets"][one.key]
            url, reason = open_url(asset, item, base)
            if url is not None:
                assets[one.key] = {k: v for k, v in asset.items() if k != "alternate"} | {"href": url}
                bands.add(band)
                break
            why = reason
    if not bands:
        return None, why
    if sensor == "dem" and "elevation" in bands:
        bands.add("slope")
    handle = {key: item.get(key) for key in ("id", "collection", "properties")} | {"assets": assets}
    return item_scene(handle, frozenset(bands), handle, item_footprint(item)), ""


def read_scene(
    scene: Scene, bands: Sequence[str], geobox: GeoBox, *, signer: Signer | None, label: str
) -> NDArray[np.float32]:
    """Return ``(C, H, W)`` of a scene on exactly that lattice: see `rs_embed.providers.base.SceneProvider.read`."""
    item: Item = scene.item
    sensor = find_sensor(item_collection(item))
    table = item_bands(item, sensor)
    out = np.full((len(bands), *geobox.shape), np.nan, np.float32)
    files: dict[tuple[str, Decoding, bool], list[tuple[int, int]]] = {}
    for place, band in enumerate(bands):
        if sensor.id == "dem" and band == "slope":
            heights = read_scene(scene, ("elevation",), with_margin(geobox), signer=signer, label=label)[0]
            out[place] = slope(heights, abs(geobox.affine.a))
        elif band in table:
            one = table[band][0]
            key = one.href, _decoding(sensor, band, item, one), sensor.band(band).classes
            files.setdefault(key, []).append((place, one.index))
    calls = []
    for (href, decoding, classes), members in files.items():
        url, refresh = (href, None) if signer is None else (signer.sign(href), partial(signer.renew, href))
        call = partial(
            read_bands,
            url,
            [index for _, index in members],
            geobox,
            decoding=decoding,
            classes=classes,
            names=[bands[place] for place, _ in members],
            label=label,
            refresh=refresh,
        )
        calls.append(call)
    for members, found in zip(files.values(), together(READS, calls), strict=True):
        out[[place for place, _ in members]] = found
    return out


def scene_layout(scene: Scene, band: str, *, signer: Signer | None) -> Layout | None:
    """Return how the file of a scene's band keeps its pixels, from its header; None where that cannot be found out."""
    found = item_bands(scene.item, find_sensor(item_collection(scene.item))).get(band)
    if not found:
        return None
    href = found[0].href
    try:
        url, refresh = (href, None) if signer is None else (signer.sign(href), partial(signer.renew, href))
    except ProviderError:
        return None
    return layout_behind(url, found[0].index, refresh)


def _decoding(sensor: Sensor, band: str, item: Item, one: ItemBand) -> Decoding:
    return decoding_of_item(sensor, band, item_collection(item), item.get("properties", {}), one.raster_band)
