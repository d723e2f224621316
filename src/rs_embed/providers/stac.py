"""STAC services over the network: an API or a static catalogue by its URL."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import urljoin

import numpy as np
import pystac
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pystac_client import ItemSearch
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO

from rs_embed.core.errors import ProviderError, SpecError
from rs_embed.core.imagery import ImageRequest, Interval, Scene
from rs_embed.core.sensors import find_sensor
from rs_embed.providers.acquisitions import is_wanted, newest
from rs_embed.providers.base import SceneProvider
from rs_embed.providers.memo import Memo
from rs_embed.providers.places import Box, exact_boxes, search_boxes
from rs_embed.providers.raster import Layout
from rs_embed.providers.selection import ALWAYS
from rs_embed.providers.services import (
    Collection,
    Service,
    choose_collections,
    known_collection,
    refusal,
    service_at,
    without_secrets,
)
from rs_embed.providers.sessions import TIMEOUT, ServiceError, open_session, trouble
from rs_embed.providers.stac_items import item_collection, item_footprint, item_time, item_version
from rs_embed.providers.stac_pages import listed
from rs_embed.providers.stac_scenes import read_scene, scene_layout, scene_of
from rs_embed.providers.tokens import Signer

__all__ = ["STACProvider", "open_stac"]

Item = Mapping[str, Any]
T = TypeVar("T")

PAGE = 200
"""Items of one answer."""
MOST = 10_000
"""Items of one search: more is an error, since some would be missing silently."""
HINTS = 200
"""Items that are looked at for the dates nearest to an empty window."""
_DOWN_S = 30.0
"""Seconds for which a service that does not work is not asked again."""
_SETTLED = timedelta(days=30)
"""Age from which on no scenes are added; what is younger is searched again after an hour."""
_YOUNG_S = 3600.0


@dataclass(frozen=True)
class _Entry:
    """What the first page of a service says."""

    search: str | None
    """Address of the search; None: a static catalogue."""
    method: str = "POST"
    collections: str = ""
    items: tuple[Item, ...] = ()
    """Of a static catalogue, with absolute addresses."""


class STACProvider(SceneProvider):
    """Scenes of a STAC service; make one with `open_stac`.

    Parameters
    ----------
    service
        Endpoint, and what is known of it.
    """

    waits = True

    def __init__(self, service: Service) -> None:
        self.service, self.name, self.source = service, service.name, service.title
        self._searches: Memo[tuple[Scene, ...]] = Memo(256)
        self._entry: Memo[_Entry] = Memo(1)
        self._listed: Memo[Mapping[str, tuple[Collection, ...]]] = Memo(1)
        self._signer = Signer(service.name, service.signing) if service.signing is not None else None
        self._layouts: Memo[Layout | None] = Memo(256)
        self._headless = 0.0
        self._down: tuple[float, str] | None = None
        self._io = StacApiIO(timeout=TIMEOUT, max_retries=None)
        self._io.session = open_session()

    def __reduce__(self) -> tuple[type[STACProvider], tuple[Service]]:
        return type(self), (self.service,)

    def offers(self, sensor: str) -> bool:
        """Whether it has a collection of that sensor: from a table, or from the service's own list."""
        return sensor in self._offers()

    def refusal(self, sensor: str) -> str:
        """Return why imagery of a sensor that it does not offer cannot be used, or else what it has."""
        has = ", ".join(self._offers()) or "no imagery that is known here"
        return refusal(self.service, sensor) or f"{self.name} has {has}"

    def notes(self, request: ImageRequest) -> tuple[str, ...]:
        """Return what is read instead of the collection that was asked for, and how it differs."""
        return choose_collections(self.service, self._offers(), request.sensor, request.collection)[1]

    def scene_key(self, scene: Scene) -> str | None:
        """Return the version of the scene's item: see `rs_embed.providers.stac_items.item_version`."""
        return item_version(scene.item)

    def search(self, request: ImageRequest, interval: Interval) -> list[Scene]:
        """Return the scenes of the sensor in ``interval`` around the footprint, from one search for each 1° cell.

        Raises
        ------
        ProviderError
            If the service cannot be reached or refuses, or has nothing of the sensor that can be read; the message
            names service and collection and says what to do.
        """
        chosen, _ = choose_collections(self.service, self._offers(), request.sensor, request.collection)
        if request.footprint is None:
            raise ProviderError(f"{self.name} is searched by place, and the region has none")
        collections = tuple(each.id for each in chosen)
        hint = interval not in (request.intervals or (ALWAYS,))
        boxes = exact_boxes(request.footprint) if hint else search_boxes(request.footprint)
        found: dict[str, Scene] = {}
        for box in boxes:
            key = (collections, request.collection, request.sensor, box, interval)

            def fetch(box: Box = box) -> tuple[Scene, ...]:
                items = self._items(collections, box, interval, HINTS if hint else MOST)
                what = f"what it lists of {', '.join(collections)}"
                return self._ask(what, lambda: self._scenes(items, request.sensor, request.collection, collections))

            scenes = self._searches.get(key, fetch, lifetime=lambda _: _lifetime(interval))
            found |= {scene.id: scene for scene in scenes}
        start, end = interval
        return [scene for scene in found.values() if start <= scene.time < end]

    def read(self, scene: Scene, bands: Sequence[str], geobox: GeoBox) -> NDArray[np.float32]:
        """Return ``(C, H, W)`` on exactly that lattice: see `SceneProvider.read`."""
        label = f"{self.name}: scene {scene.id} of {item_collection(scene.item)}"
        return read_scene(scene, bands, geobox, signer=self._signer, label=label)

    def layout(self, scene: Scene, band: str) -> Layout | None:
        """Return how files of a band of the scene's collection keep their pixels, from the header of one of them.

        None where that cannot be found out; then nothing more is asked for a while.
        """
        if time.monotonic() < self._headless:
            return None
        key = item_collection(scene.item), band
        found = self._layouts.get(key, lambda: scene_layout(scene, band, signer=self._signer), lifetime=_keep_layout)
        if found is None and band in scene.bands:
            self._headless = time.monotonic() + _DOWN_S
        return found

    def left_out(self, request: ImageRequest) -> list[str]:
        """Return what to say of the items over the footprint that do not count: for who finds no scene."""
        chosen, _ = choose_collections(self.service, self._offers(), request.sensor, request.collection)
        collections = tuple(each.id for each in chosen)
        unwanted = {
            str(item.get("id"))
            for start, end in request.intervals or (ALWAYS,)
            for box in exact_boxes(request.footprint)
            for item in self._items(collections, box, (start, end), HINTS)
            if not is_wanted(item, request.sensor, request.collection)
            and start <= item_time(item) < end
            and ((outline := item_footprint(item)) is None or outline.intersects(request.footprint))
        }
        if not unwanted:
            return []
        name = request.collection or request.sensor
        return [f"{len(unwanted)} in {', '.join(collections)} of tier 2, or of a satellite that {name!r} does not name"]

    def _scenes(
        self, items: Iterable[Item], sensor: str, asked: str | None, collections: Sequence[str]
    ) -> tuple[Scene, ...]:
        """Scenes of the items that count and have files that can be read."""
        kept = newest((item for item in items if is_wanted(item, sensor, asked)), collections)
        scenes, why = [], ""
        for item in kept:
            scene, reason = scene_of(item, sensor)
            why = why or reason
            if scene is not None:
                scenes.append(scene)
        if kept and not scenes:
            raise ProviderError(
                f"{self.name}: the scenes of {', '.join(collections)} cannot be read: of {kept[0].get('id')} {why}; "
                "choose another backend or collection"
            )
        return tuple(scenes)

    def _offers(self) -> Mapping[str, tuple[Collection, ...]]:
        if self.service.offers is not None:
            return self.service.offers
        return self._listed.get("", lambda: _by_sensor(self._collection_ids()))

    def _collection_ids(self) -> list[str]:
        entry = self._first_page()
        if entry.search is None:
            return sorted({str(item.get("collection")) for item in entry.items})

        def ids() -> list[str]:
            return [str(each["id"]) for each in listed(self._io.request, entry.collections, "collections")]

        return self._ask("its list of collections", ids)

    def _items(self, collections: Sequence[str], box: Box, interval: Interval, most: int) -> list[Item]:
        """Items of a box and an interval; an interval's end is part of STAC's."""
        entry = self._first_page()
        if entry.search is None:
            return [item for item in entry.items if item.get("collection") in collections]

        def searched() -> list[Item]:
            search = ItemSearch(
                str(entry.search),
                method=entry.method,
                stac_io=self._io,
                collections=list(collections),
                bbox=list(box),
                datetime=_span(interval),
                limit=min(PAGE, most),
            )
            told = search.get_parameters()
            found = listed(self._io.request, str(entry.search), "features", method=entry.method, parameters=told)
            checked = (_checked(item, collections) for item in islice(found, most))
            names = {each.lower() for each in collections}
            return [item for item in checked if str(item["collection"]).lower() in names]

        found = self._ask(f"the search in {', '.join(collections)}", searched)
        if most == MOST and len(found) >= MOST:
            raise ProviderError(
                f"{self.name} has {MOST} items or more of {', '.join(collections)} in {_span(interval)}, more than are "
                "looked at for one region: choose a shorter time"
            )
        return found

    def _first_page(self) -> _Entry:
        if self.service.offers is not None:
            return _Entry(f"{self.service.url}/search")
        return self._entry.get("", lambda: self._ask("its first page", self._read_first_page))

    def _read_first_page(self) -> _Entry:
        url = self.service.url
        page = self._io.read_json(url)
        if page.get("type") not in ("Catalog", "Collection") or "links" not in page:
            raise KeyError(f"a {page.get('type')!r} in place of a catalogue")
        links = [link for link in page["links"] if isinstance(link, Mapping)]
        searches = [link for link in links if link.get("rel") == "search"]
        if not searches:
            items = tuple(islice(_walk(url, self._io), MOST + 1))
            if len(items) > MOST:
                raise ProviderError(
                    f"{self.name}: the static catalogue has more than {MOST} items, too many to look at one by one: "
                    "give the address of a part of it, or a STAC API's"
                )
            return _Entry(None, items=items)
        post = [link for link in searches if str(link.get("method", "")).upper() == "POST"]
        base = f"{url.partition('?')[0].rstrip('/')}/"
        data = next((link["href"] for link in links if link.get("rel") == "data"), "collections")
        search = urljoin(base, str((post or searches)[0]["href"]))
        return _Entry(search, "POST" if post else "GET", urljoin(base, str(data)))

    def _ask(self, what: str, call: Callable[[], T]) -> T:
        """Call the service; what goes wrong becomes our own error, and one that does not work rests for a while."""
        if self._down is not None and time.monotonic() < self._down[0]:
            since = f"since {self._down[1]} (found out less than {_DOWN_S:.0f} s ago)"
            raise ServiceError(f"{self.name}: {what} was not tried, {since}")
        subject, address = f"{self.name}: {what}", without_secrets(self.service.url)
        try:
            found = call()
        except RecursionError:
            failure: ProviderError = ServiceError(
                f"{subject} does not end: its links go round in a circle; check the address {address}"
            )
        except (APIError, pystac.STACError, AttributeError, LookupError, TypeError, ValueError) as error:
            failure = _translated(subject, error, address)
        else:
            self._down = None
            return found
        if isinstance(failure, ServiceError):
            self._down = time.monotonic() + _DOWN_S, str(failure)
        raise failure


def open_stac(url: str | Service) -> STACProvider:
    """Open a STAC API or a static catalogue by its URL; the network is first used when something is asked of it.

    Parameters
    ----------
    url
        Address of the first page (``https://…/v1``, ``https://…/catalog.json``), or a service of `services`.
    """
    return STACProvider(service_at(url) if isinstance(url, str) else url)


def _translated(subject: str, error: BaseException, address: str) -> ProviderError:
    """What went wrong in words: pystac wraps what happened when it read a page of a static catalogue."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, APIError | json.JSONDecodeError):
        cause = cause.__cause__
    if cause is None:
        return ServiceError(f"{subject} is not as STAC has it ({error}); check the address {address}")
    status = getattr(cause, "status_code", None)
    where = "" if cause is error else f" ({error})"
    raised = (cause.__context__ if isinstance(cause, APIError) else None) or cause
    return trouble(f"{subject}{where}", status, raised, remedy="choose another backend")


def _by_sensor(ids: Iterable[str]) -> dict[str, tuple[Collection, ...]]:
    """The collections that are known here, by sensor; terrain-corrected radar hides what is in ground range."""
    found: dict[str, list[Collection]] = {}
    for name in ids:
        try:
            found.setdefault(find_sensor(name).id, []).append(replace(known_collection(name), id=name))
        except SpecError:
            continue
    corrected = [each for each in found.get("sentinel-1", []) if "rtc" in each.id.lower()]
    if corrected:
        found["sentinel-1"] = corrected
    return {sensor: tuple(listed) for sensor, listed in found.items()}


def _checked(item: Any, collections: Sequence[str]) -> Item:
    """The item, if it is one at all; one without a collection is of the only one that was searched."""
    if not all(isinstance(item[name], Mapping) for name in ("properties", "assets")):
        raise TypeError(f"item {item.get('id')!r} without properties or assets")
    only = collections[0] if len(collections) == 1 else ""
    return item if item.get("collection") else {**item, "collection": item_collection(item) or only}


class _Reader(pystac.stac_io.DefaultStacIO):
    """Reads the pages of a static catalogue with the session of a service."""

    def __init__(self, io: StacApiIO) -> None:
        super().__init__()
        self._io = io

    def read_text_from_href(self, href: str) -> str:
        """Return the text behind a URL."""
        return str(self._io.request(href))


def _walk(url: str, io: StacApiIO) -> Iterator[Item]:
    """Every item of a static catalogue, with absolute addresses."""
    catalogue = pystac.read_file(url, stac_io=_Reader(io))
    if not isinstance(catalogue, pystac.Catalog):
        raise TypeError(f"a {type(catalogue).__name__} in place of a catalogue")
    for item in catalogue.get_items(recursive=True):
        item.make_asset_hrefs_absolute()
        yield item.to_dict(include_self_link=False, transform_hrefs=False)


def _keep_layout(found: Layout | None) -> float:
    return _DOWN_S if found is None else float("inf")


def _lifetime(interval: Interval) -> float:
    """Seconds for which a search may be remembered."""
    return float("inf") if interval[1] < datetime.now(UTC) - _SETTLED else _YOUNG_S


def _span(interval: Interval) -> str | None:
    """The interval as STAC writes it, open where it has no end."""
    ends = ("..", "..")
    start, end = (
        open_ if moment == ALWAYS[i] else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for i, (moment, open_) in enumerate(zip(interval, ends, strict=True))
    )
    return None if (start, end) == ends else f"{start}/{end}"
