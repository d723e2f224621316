"""Imagery on this machine: a static STAC catalogue, STAC items beside their files, or a folder of rasters."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import pystac
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rs_embed.core.errors import ProviderError
from rs_embed.core.geometry import footprint_of
from rs_embed.core.imagery import ImageRequest, Interval, Scene
from rs_embed.core.sensors import SENSORS, Sensor
from rs_embed.providers.acquisitions import is_wanted, newest
from rs_embed.providers.base import SceneProvider
from rs_embed.providers.folders import SIDECAR, BandSource, FolderScene, folder_scenes, read_json
from rs_embed.providers.harmonise import decoding_of_item
from rs_embed.providers.raster import SUFFIXES, describe, read_bands, stored_bytes
from rs_embed.providers.stac_items import item_bands, item_collection, item_footprint, item_scene, item_sensor

__all__ = ["LocalProvider", "open_local"]

Item = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class _Entry:
    """A scene and where its bands lie."""

    sensor: Sensor
    scene: Scene
    bands: Mapping[str, BandSource]
    item: Item | None = None
    """What is told of it in STAC: its id and properties."""


class LocalProvider(SceneProvider):
    """Scenes whose files lie on this machine; make one with `open_local`.

    Parameters
    ----------
    source
        Name for metadata: a file's or folder's name, never a path.
    entries
        The scenes.
    """

    name = "local"

    def __init__(self, source: str, entries: Sequence[_Entry]) -> None:
        self.source = source
        self._entries = tuple(entries)
        self._footprints: dict[int, Any] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    @property
    def collections(self) -> tuple[str, ...]:
        """Ids of the sensors that there are scenes of."""
        return tuple(sorted({entry.sensor.id for entry in self._entries}))

    def offers(self, sensor: str) -> bool:
        """Whether there is a scene of that sensor."""
        return sensor in self.collections

    def refusal(self, sensor: str) -> str:
        """Return what there is instead of a sensor that there is not."""
        return f"{self.source} holds {', '.join(self.collections)}"

    def search(self, request: ImageRequest, interval: Interval) -> list[Scene]:
        """Return the scenes of the sensor in ``interval``; a sensor that has none at all is an error.

        Raises
        ------
        ProviderError
            If there is no scene of that sensor at any time; the message says of which there are.
        """
        if not self.offers(request.sensor):
            raise ProviderError(
                f"{self.source} holds no scene of {request.sensor}; it holds {', '.join(self.collections)}"
            )
        start, end = interval
        return [
            self._scene(number, entry)
            for number, entry in enumerate(self._entries)
            if entry.sensor.id == request.sensor
            and start <= entry.scene.time < end
            and (entry.item is None or is_wanted(entry.item, request.sensor, request.collection, own=True))
        ]

    def _scene(self, number: int, entry: _Entry) -> Scene:
        """The scene with its outline, which is only found when the scene's time fits."""
        with self._lock:
            if number not in self._footprints:
                self._footprints[number] = _footprint(entry)
            outline = self._footprints[number]
        old = entry.scene
        return Scene(old.id, old.time, old.bands, old.cloud_cover, outline, old.orbit, entry, old.mode)

    def read(self, scene: Scene, bands: Sequence[str], geobox: GeoBox) -> NDArray[np.float32]:
        """Return ``(C, H, W)`` on exactly that lattice: see `SceneProvider.read`."""
        entry: _Entry = scene.item
        out = np.full((len(bands), *geobox.shape), np.nan, np.float32)
        for i, band in enumerate(bands):
            found = entry.bands.get(band)
            if found is None:
                continue
            classes = entry.sensor.band(band).classes
            decoding = found.decoding()
            out[i] = read_bands(found.path, [found.index], geobox, decoding=decoding, classes=classes, names=[band])[0]
        return out

    def stored_bytes(self, scene: Scene, bands: Sequence[str], geobox: GeoBox) -> int:
        """Return the bytes of the files' blocks that `read` would read; no pixel is read."""
        sources = [source for band in bands if (source := scene.item.bands.get(band)) is not None]
        return sum(stored_bytes(source.path, source.index, geobox) for source in sources)


def _footprint(entry: _Entry) -> Any:
    """What the item says, cut to the file's own extent: a file may be a crop of what its item describes."""
    told = entry.scene.footprint
    first = next(iter(entry.bands.values()))
    try:
        about = describe(first.path)
    except ProviderError:
        return told  # reading it will say what is wrong
    if about.grid.crs is None:
        return told
    extent = footprint_of(about.grid.geobox)
    both = extent if told is None else told.intersection(extent)
    return extent if both.is_empty else both


def open_local(path: str | Path) -> LocalProvider:
    """Open a static STAC catalogue, a folder of rasters, or a single raster or STAC item.

    Parameters
    ----------
    path
        ``catalog.json`` or ``collection.json``; a folder that holds one; a folder of rasters with STAC items beside
        them, or with sidecars or telling file names (see `rs_embed.providers.folders`); one raster or item.

    Raises
    ------
    ProviderError
        If it does not exist, holds no imagery, or only imagery of unknown collections.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise ProviderError(f"{place} does not exist; give a STAC catalog.json, or a folder of rasters")
    place = place.resolve()
    start = next((f for n in ("catalog.json", "collection.json") if (f := place / n).is_file()), place)
    content = read_json(start) if start.is_file() and start.suffix.lower() == ".json" else None
    if isinstance(content, dict) and content.get("type") != "Feature":
        entries, why = _from_items(_catalogue(start))
        source = start.parent.name if start.name == "catalog.json" else start.name
    else:
        entries, why = _from_folder(start)
        source = start.name
    if not entries:
        raise ProviderError(_nothing(place, why))
    return LocalProvider(source, _newest(entries))


def _nothing(place: Path, why: list[str]) -> str:
    looked = (
        f"no imagery in {place.name}: looked for STAC (catalog.json, items beside their files) and for rasters "
        f"({', '.join('*' + s for s in SUFFIXES)}) with a date and bands from {SIDECAR}, <stem>.json or the file name"
    )
    return looked + (f"; {'; '.join(why[:5])}" if why else "")


def _catalogue(start: Path) -> Iterable[tuple[Item, Path]]:
    """Every item of a static catalogue, with the folder that its hrefs are relative to."""
    try:
        catalogue = pystac.read_file(str(start))
        if not isinstance(catalogue, pystac.Catalog):
            raise ProviderError(f"{start.name} is a STAC {type(catalogue).__name__}, not a catalogue")
        for item in catalogue.get_items(recursive=True):
            yield (
                item.to_dict(include_self_link=False, transform_hrefs=False),
                Path(item.get_self_href() or start).parent,
            )
    except RecursionError as error:
        raise ProviderError(f"{start.name} is not a readable STAC catalogue: its links go round in a circle") from error
    except (pystac.STACError, pystac.STACTypeError, OSError, ValueError, KeyError) as error:
        raise ProviderError(f"{start.name} is not a readable STAC catalogue: {error}") from error


def _from_folder(place: Path) -> tuple[list[_Entry], list[str]]:
    """Scenes of STAC items in a folder, and of the rasters that no item claims."""
    root = place if place.is_dir() else place.parent
    files = sorted(f for f in root.rglob("*") if f.is_file()) if place.is_dir() else [place]
    found: list[tuple[Item, Path]] = []
    for file in files:
        content = read_json(file) if file.suffix.lower() == ".json" and file.name != SIDECAR else None
        if isinstance(content, dict) and content.get("type") == "Feature" and "assets" in content:
            found.append((content, file.parent))
    entries, why = _from_items(found)
    claimed = {source.path for entry in entries for source in entry.bands.values()}
    rasters = [f for f in files if f.suffix.lower() in SUFFIXES and str(f) not in claimed]
    scenes, other = folder_scenes(rasters, root)
    return entries + [_entry(scene) for scene in scenes], why + other


def _entry(found: FolderScene) -> _Entry:
    scene = Scene(found.id, found.time, frozenset(found.bands), found.cloud_cover, None, found.orbit)
    return _Entry(found.sensor, scene, found.bands)


def _from_items(items: Iterable[tuple[Item, Path]]) -> tuple[list[_Entry], list[str]]:
    """Scenes of the items that have files here, and why the others are none."""
    entries: list[_Entry] = []
    why: dict[str, None] = {}
    for item, folder in items:
        sensor, collection = item_sensor(item), item_collection(item)
        if sensor is None:
            why[f"collection {collection!r} is not known (known: {', '.join(SENSORS)})"] = None
            continue
        bands: dict[str, BandSource] = {}
        for band, candidates in item_bands(item, sensor).items():
            for one in candidates:
                file = _file(one.href, one.key, folder)
                if file is not None:
                    rule = partial(decoding_of_item, sensor, band, collection, item["properties"], one.raster_band)
                    bands[band] = BandSource(str(file), one.index, rule)
                    break
        if bands:
            scene = item_scene(item, frozenset(bands), None, item_footprint(item))
            about = {key: item.get(key) for key in ("id", "collection", "properties")}
            entries.append(_Entry(sensor, scene, bands, about))
        else:
            why[f"none of the files of item {item.get('id')} is here"] = None
    return entries, list(why)


def _newest(entries: list[_Entry]) -> list[_Entry]:
    """The scenes without those whose items say that they were processed again."""
    kept = {id(item) for item in newest((entry.item for entry in entries if entry.item is not None), ())}
    return [entry for entry in entries if entry.item is None or id(entry.item) in kept]


def _file(href: str, key: str, folder: Path) -> Path | None:
    """The file of an asset: where its href says, else beside the item under the href's or the asset's name."""
    parsed = urlparse(href)
    local = parsed.scheme in ("", "file") or len(parsed.scheme) == 1  # C:\…
    path = unquote(parsed.path) if parsed.scheme == "file" else href
    names = [path] if local else []
    names += [Path(urlparse(href).path).name, *(f"{key}{suffix}" for suffix in ("", *SUFFIXES))]
    for name in names:
        file = (folder / name).resolve()
        if file.is_file() and file.suffix.lower() in SUFFIXES:
            return file
    return None
