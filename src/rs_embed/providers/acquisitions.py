"""Which STAC items are of one acquisition, and which of those to keep: pure functions on their JSON.

A product is processed again from time to time, and the old and the new one, or those of two collections, stand side by
side. The parts of a Sentinel-2 tile at the seam of two datastrips also share acquisition and tile, but complete each
other: they differ in the datastrip's own start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["acquisition", "is_wanted", "newest"]

Item = Mapping[str, Any]

_SENTINEL2 = re.compile(
    r"(S2[A-D])_MSI(L1C|L2A)_(\d{8}T\d{6})_(?:N(\d\d)\.?(\d\d)_)?R\d{3}_T?(\d\d[A-Z]{3})_(\d{8}T\d{6})"
)
_DATASTRIP = re.compile(r"_S(\d{8}T\d{6})")
_PROCESSED = (
    # Landsat Collection 2: sensor and correction, path and row, day, processing day, collection, tier
    re.compile(r"(L[A-Z]0\d_L2S[PR]_\d{6}_\d{8})_(?:(\d{8})_)?02_(?:T\d|RT)"),
    # MODIS: product and day, tile, version, production time
    re.compile(r"(M[OYC]D\w+\.A\d{7}\.h\d\dv\d\d\.\d{3})\.(\d{13})"),
)

_SATELLITES: dict[str, tuple[str, ...]] = {
    "landsat-lc08-c02-t1-l2": ("LC08", "LC8"),
    "landsat-lc09-c02-t1-l2": ("LC09", "LC9"),
}
_SATELLITES |= {f"modis-061-{name}": (name[:3].upper(),) for name in ("mod09ga", "myd09ga", "mod09a1", "myd09a1")}
_SATELLITE = re.compile(r"L[CEOT]0?\d|M[OY]D")
_OF_SENSOR = {"landsat-c2-l2": ("LC08", "LC09", "LC8", "LC9"), "modis-09ga": ("MOD", "MYD")}


def acquisition(item: Item) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Return what two items of one acquisition share, and a rank that is higher for the later processing.

    Sentinel-2: satellite, level, start of the datatake, tile and start of the datastrip; ranked by baseline and time of
    processing (``s2:product_uri`` of Earth Search and Planetary Computer, ``sentinel:product_id`` of Earth Search v0,
    ``s2:datastrip_id``). Landsat and MODIS: what the id says before the time of processing. Others: None.
    """
    properties = item.get("properties", {})
    said = (properties.get("s2:product_uri"), properties.get("sentinel:product_id"), item.get("id"))
    for name in filter(None, said):
        found = _SENTINEL2.search(str(name))
        if found:
            strip = _DATASTRIP.search(str(properties.get("s2:datastrip_id") or ""))
            told = properties.get("s2:processing_baseline") or properties.get("sentinel:processing_baseline")
            baseline = str(told or (f"{found[4]}.{found[5]}" if found[4] else ""))
            key = (found[1], found[2], found[3], found[6], strip[1] if strip else "")
            return key, (baseline, found[7])
    for pattern in _PROCESSED:
        found = pattern.fullmatch(str(item.get("id")))
        if found:
            return (found[1],), (found[2] or "",)
    return None


def newest(items: Iterable[Item], collections: Iterable[str]) -> list[Item]:
    """Return the items without those that were processed again: the newest of each acquisition, once.

    Parameters
    ----------
    collections
        Ids by preference, which decides between equally new ones.
    """
    order = {name: -place for place, name in enumerate(collections)}
    best: dict[tuple[str, ...], tuple[tuple[Any, ...], Item]] = {}
    for item in items:
        told = acquisition(item)
        own = (str(item.get("collection")), str(item.get("id")))
        key, (first, *later) = told if told is not None else (own, ("",))
        rank = (first, order.get(own[0], -len(order)), *later, own[1])
        if key not in best or rank > best[key][0]:
            best[key] = rank, item
    return [item for _, item in best.values()]


def is_wanted(item: Item, sensor: str, asked: str | None, *, own: bool = False) -> bool:
    """Return whether an item of a shared collection is of the sensor, and of the satellite that the name asks for.

    ``landsat-c2-l2`` holds Landsat 4 to 7 besides 8 and 9, and tier 2, which is not placed as well: only tier 1 of 8
    and 9 counts, as in ``LANDSAT/LC08/C02/T1_L2``. MODIS collections hold Terra and Aqua.

    Parameters
    ----------
    item
        Its id begins with the satellite.
    sensor
        Id of the sensor.
    asked
        What the user calls the collection.
    own
        Whether the files are the user's, who chose them: tier 2 counts, and what does not name a satellite.
    """
    if sensor not in _OF_SENSOR:
        return True
    name = (asked or "").strip().lower().replace("_", "-").replace("/", "-")
    told = str(item.get("id")).upper()
    if not told.startswith(_SATELLITES.get(name, _OF_SENSOR[sensor])):
        return own and _SATELLITE.match(told) is None
    return own or str(item.get("properties", {}).get("landsat:collection_category", "T1")).upper() == "T1"
