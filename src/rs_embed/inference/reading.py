"""How many bytes a request will read, from its scenes and lattice alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from odc.geo.geobox import GeoBox

from rs_embed.core.geometry import footprint_of
from rs_embed.core.imagery import ImageRequest, Scene
from rs_embed.core.sensors import SENSORS, Sensor
from rs_embed.providers.base import Provider
from rs_embed.providers.composite import Chosen
from rs_embed.providers.headers import HEAD
from rs_embed.providers.raster import Layout
from rs_embed.providers.stac_items import item_bands

__all__ = ["ASSUMED", "Reading", "weigh"]

BLOCK = 512
"""Side of the blocks of a cloud-optimised GeoTIFF whose own is unknown, pixels."""
SHARE = 0.5
"""Compressed bytes of one of uncompressed imagery: full tiles of Earth Search's ``sentinel-2-c1-l2a`` take 0.97 to
1.15 bytes for each pixel of uint16 (``file:size``, ``proj:shape``)."""
DEGREE_M = 111_320.0
"""Metres of a degree of latitude."""
CLASSES_SHARE = 0.08
"""The same of classes: ``scl`` of ``sentinel-2-c1-l2a``."""

ASSUMED = {
    "stored": "bytes to read: as the backend counts them; of files, the stored blocks that the windows touch",
    "mosaic": "bytes to read: of all passes, while a mosaic stops where every pixel is clear",
    "told": "bytes to read: the sizes of the files that their items tell, by the share of the pixels read in whole "
    f"blocks of {BLOCK} x {BLOCK}",
    "laid": "bytes to read: whole blocks of the files, as the header of one file of each band tells them; pixels in "
    "the cache take none",
    "assumed": f"bytes to read: whole blocks of {BLOCK} x {BLOCK} pixels at the bands' own resolution, stored at "
    f"{SHARE:g} of their uncompressed size (classes {CLASSES_SHARE:g}); pixels in the cache take none",
    "delivered": "bytes to read: the pixels as they are delivered, float32; the backend does not tell its scenes",
}
"""How bytes were found, in words."""


@runtime_checkable
class Storing(Protocol):
    """A provider that knows how many bytes it reads."""

    def stored_bytes(self, scene: Scene, bands: Sequence[str], geobox: GeoBox) -> int:
        """Return what ``read`` of the same arguments would read."""
        ...


@runtime_checkable
class Laying(Protocol):
    """A provider that can find out how the files of a band keep their pixels."""

    def layout(self, scene: Scene, band: str) -> Layout | None:
        """Return it, None where it cannot be found out."""
        ...


@dataclass(frozen=True)
class Reading:
    """What is to be read."""

    nbytes: int = 0
    how: frozenset[str] = frozenset()
    """Keys of `ASSUMED`."""

    def __add__(self, other: Reading) -> Reading:
        return Reading(self.nbytes + other.nbytes, self.how | other.how)


def weigh(provider: Provider, request: ImageRequest, chosen: Chosen | None, parts: Sequence[GeoBox]) -> Reading:
    """Return what loading the parts of a request will read.

    Parameters
    ----------
    provider
        Asked for the bytes of a scene where it knows them (``stored_bytes``).
    request
        Bands and mask.
    chosen
        Its scenes, from `select_scenes`; ``None``: unknown.
    parts
        Lattices that are loaded one by one.
    """
    sensor = SENSORS.get(request.sensor)
    if chosen is None or sensor is None:
        frames = max(1, len(request.intervals))
        values = sum(frames * len(request.bands) * math.prod(part.shape) for part in parts)
        return Reading(4 * values, frozenset({"delivered"}))
    total = Reading(how=frozenset({"mosaic"} if request.composite == "mosaic" else ()))
    for part in parts:
        for scene, bands in _reads(request, sensor, chosen, part):
            if isinstance(provider, Storing):
                total += Reading(provider.stored_bytes(scene, bands, part), frozenset({"stored"}))
            else:
                for band in bands:
                    total += _of_band(provider, sensor, band, scene, part)
    return total


def _reads(
    request: ImageRequest, sensor: Sensor, chosen: Chosen, part: GeoBox
) -> Iterator[tuple[Scene, tuple[str, ...]]]:
    """Yield what `compose` reads: of a pass no scene after one that covers the part."""
    bands = tuple(band for band in request.bands if band not in chosen.missing_bands)
    groups = [group for frame in chosen.frames for group in frame.groups]
    outline = footprint_of(part) if any(len(group) > 1 for group in groups) and part.crs is not None else None
    for group in groups:
        for scene in group:
            if not set(bands) <= scene.bands:
                continue
            masked = request.mask is not None and sensor.mask_band in scene.bands
            yield scene, (*bands, *([sensor.mask_band] if masked and sensor.mask_band else []))
            if outline is not None and scene.footprint is not None and scene.footprint.contains(outline):
                break


def _of_band(provider: Provider, sensor: Sensor, name: str, scene: Scene, part: GeoBox) -> Reading:
    """Estimate what a part of one band takes: whole blocks around a window at any position."""
    band = sensor.band(name)
    size, shape = _told(sensor, name, scene)
    if (size is None or shape is None) and isinstance(provider, Laying):
        layout = provider.layout(scene, name)
        if layout is not None:
            return Reading(_of_layout(layout, part), frozenset({"laid"}))
    sides = [
        n * abs(step) / band.gsd + BLOCK for n, step in zip(part.shape, (part.affine.e, part.affine.a), strict=True)
    ]
    if shape is not None:
        sides = [min(side, whole) for side, whole in zip(sides, shape, strict=True)]
    if size is not None and shape is not None:
        return Reading(round(size * math.prod(sides) / math.prod(shape)), frozenset({"told"}))
    if band.classes:
        return Reading(round(math.prod(sides) * CLASSES_SHARE), frozenset({"assumed"}))
    width = 4 if sensor.kind == "radar" else 2
    return Reading(round(math.prod(sides) * width * SHARE), frozenset({"assumed"}))


def _of_layout(layout: Layout, part: GeoBox) -> int:
    """Estimate what a part takes of a file whose layout is known, its header included."""
    a, crs = layout.grid.affine, layout.grid.crs
    metres = DEGREE_M if crs is not None and crs.geographic else 1.0
    pixels = 1.0
    for n, step, pixel, block, whole in zip(
        part.shape,
        (part.affine.e, part.affine.a),
        (math.hypot(a.b, a.e), math.hypot(a.a, a.d)),
        layout.block,
        (layout.grid.height, layout.grid.width),
        strict=True,
    ):
        pixels *= min(n * abs(step) / (pixel * metres) + block, whole)
    return round(pixels * layout.pixel_bytes) + HEAD


def _told(sensor: Sensor, band: str, scene: Scene) -> tuple[int | None, tuple[int, int] | None]:
    """Return size and shape of a band's file, where the scene's STAC item tells them."""
    item = scene.item
    if not isinstance(item, Mapping) or not isinstance(item.get("assets"), Mapping):
        return None, None
    found = item_bands(item, sensor).get(band)
    asset: Mapping[str, Any] = item["assets"][found[0].key] if found else {}
    size, shape = asset.get("file:size"), asset.get("proj:shape") or item.get("properties", {}).get("proj:shape")
    usable = isinstance(shape, list | tuple) and len(shape) == 2 and all(isinstance(n, int) and n > 0 for n in shape)
    return (size if isinstance(size, int) else None), ((shape[0], shape[1]) if usable else None)
