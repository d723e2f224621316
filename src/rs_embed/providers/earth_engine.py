"""Google Earth Engine: scenes are chosen here as everywhere, and composited on its servers by the same policy.

A search is one ``value:compute`` for the cell of a degree and an interval; a part of a frame is one
``image:computePixels`` on our own lattice, or several where it is more than one request can be.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rs_embed.core.errors import MissingExtraError, ProviderError
from rs_embed.core.imagery import ImageRequest, ImageStack, Interval, Scene
from rs_embed.core.sensors import SENSORS, Sensor
from rs_embed.providers.base import SceneProvider
from rs_embed.providers.earth_engine_catalog import DATASETS, Dataset, choose_dataset
from rs_embed.providers.earth_engine_graph import (
    COUNTS,
    BandGrid,
    Recipe,
    frame_image,
    single_image,
    used_scenes,
    used_words,
)
from rs_embed.providers.earth_engine_login import INSTALL, Login, find_login, missing_login
from rs_embed.providers.earth_engine_rest import AT_ONCE, ONE, URL, EarthEngineSession, expired
from rs_embed.providers.earth_engine_scenes import (
    LISTED,
    grids_graph,
    listing_graph,
    read_grids,
    read_listing,
    scene_of,
)
from rs_embed.providers.earth_engine_tiles import gather
from rs_embed.providers.memo import Memo
from rs_embed.providers.places import Box, search_boxes
from rs_embed.providers.selection import Chosen, Group, select_scenes
from rs_embed.providers.sessions import ServiceError

__all__ = ["EarthEngineProvider"]

_LIFETIME = 3600.0
"""Seconds for which a search is remembered: the catalogue grows."""
_KEPT = 512
_EARTH: Box = (-180.0, -90.0, 180.0, 90.0)
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_SETUP = threading.Lock()

Told = tuple[Mapping[str, Any], ...]
Grids = Mapping[str, Mapping[str, BandGrid]]


@dataclass(frozen=True)
class _Graph:
    """What the server is told of a frame, for all its parts."""

    scenes: tuple[Scene, ...]
    """In the order of their bits; empty: no imagery."""
    expression: Mapping[str, Any]


@dataclass(frozen=True)
class _Frame:
    """One frame of a part."""

    pixels: NDArray[np.float32]
    valid: NDArray[np.bool_]
    used: Sequence[Scene] = ()
    clear: int = 0
    total: int = 0


class EarthEngineProvider(SceneProvider):
    """Google Earth Engine.

    Parameters
    ----------
    project
        Google Cloud project that requests are counted on; None: that of EARTHENGINE_PROJECT, GOOGLE_CLOUD_PROJECT or
        of the login.
    credentials
        Of google-auth; then a project has to be named.
    key
        A service account: the path of its JSON file, or the JSON. None and no ``credentials``: this machine's login.
    url
        Address of the API.
    attempts
        How often a request is sent that fails for a while.
    call
        The user's call with ``backend="auto"``, for the message of a missing login.

    Raises
    ------
    ProviderError
        If there is no login or no project; the message says how to get them.
    MissingExtraError
        If earthengine-api is not installed.
    """

    name = "gee"
    source = "Google Earth Engine"
    waits = True

    def __init__(
        self,
        project: str | None = None,
        *,
        credentials: Any = None,
        key: str | Path | Mapping[str, Any] | None = None,
        url: str = URL,
        attempts: int = 5,
        call: str | None = None,
    ) -> None:
        given = credentials is not None and project is not None
        login = Login("credentials", None, str(project)) if given else find_login(project, key=key)
        if login is None:
            raise missing_login(call)
        if importlib.util.find_spec("ee") is None:
            raise MissingExtraError(
                f"backend='gee' needs earthengine-api, which is not installed: {INSTALL}, or use backend='auto'"
            )
        self._login, self._given, self._url, self._attempts = login, credentials, url, attempts
        self._searches: Memo[Told] = Memo(_KEPT)
        self._grids: Memo[Grids] = Memo(_KEPT)
        self._connection: Memo[tuple[Any, EarthEngineSession]] = Memo(1)

    def offers(self, sensor: str) -> bool:
        """Whether Earth Engine has imagery of that sensor."""
        return sensor in DATASETS

    def search(self, request: ImageRequest, interval: Interval) -> list[Scene]:
        """Return the scenes in ``interval`` near the footprint, as Earth Engine lists them."""
        dataset = choose_dataset(request.sensor, request.collection)
        boxes = (_EARTH,) if dataset.worldwide or request.footprint is None else search_boxes(request.footprint)
        always = dataset.static or interval[0] < _FIRST or interval[1] > _LAST
        span = (_FIRST, _LAST) if always else interval
        scenes: dict[str, Scene] = {}
        for asset in dataset.ids:
            for box in boxes:
                fetch = partial(self._list, dataset, asset, box, span)
                told = self._searches.get((asset, box, span), fetch, lifetime=lambda _: _LIFETIME)
                scenes |= {scene.id: scene for scene in (scene_of(each, dataset, asset) for each in told)}
        return list(scenes.values())

    def read(self, scene: Scene, bands: Sequence[str], geobox: GeoBox) -> NDArray[np.float32]:
        """Return bands of one scene on a lattice; `load` has composites made on the server instead."""
        sensor = _sensor_of(scene)
        grids = self._grids_of((scene,), tuple(bands))
        recipe = Recipe(scene.item.dataset, sensor, tuple(bands), None, "none", geobox, grids)
        ee, _ = self._ready()
        expression = ee.serializer.encode(single_image(ee, recipe, scene))
        found = self._pixels(expression, geobox, 5 * len(bands), scene.id)
        read = [np.where(found[f"{band}_known"] != 0, found[band], np.nan) for band in bands]
        return np.stack(read).astype(np.float32)

    def load(self, request: ImageRequest, parts: Sequence[GeoBox]) -> Iterator[ImageStack]:
        """Choose the scenes once, then have part by part composited on the server."""
        if not parts:
            return
        chosen = select_scenes(self, request)
        sensor, dataset = SENSORS[request.sensor], choose_dataset(request.sensor, request.collection)
        bands = tuple(band for band in request.bands if band not in chosen.missing_bands)
        frames = [_complete(frame.groups, bands) for frame in chosen.frames]
        scenes = {scene.id: scene for groups in frames for group in groups for scene in group}
        masked = (sensor.mask_band,) if request.mask is not None and sensor.mask_band else ()
        grids = self._grids_of(tuple(scenes.values()), (*bands, *masked))
        lattice = request.geobox if request.geobox is not None else parts[0]
        recipe = Recipe(dataset, sensor, bands, request.mask, request.composite, lattice, grids)
        graphs = [self._graph(recipe, groups) for groups in frames]
        notes = (*chosen.notes, *((dataset.note,) if dataset.note else ()))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for part in parts:
                made = list(pool.map(partial(self._frame, recipe, part), graphs))
                yield _stack(request, chosen, part, made, notes)

    def _graph(self, recipe: Recipe, groups: Sequence[Group]) -> _Graph:
        """What the server is told of a frame."""
        scenes = tuple(scene for group in groups for scene in group)
        if not scenes:
            return _Graph(scenes, {})
        ee, _ = self._ready()
        return _Graph(scenes, ee.serializer.encode(frame_image(ee, recipe, groups, scenes)))

    def _frame(self, recipe: Recipe, part: GeoBox, graph: _Graph) -> _Frame:
        """A part of a frame, composited on the server."""
        scenes, words = graph.scenes, used_words(len(graph.scenes))
        if not scenes:
            shape = tuple(int(side) for side in part.shape)
            return _Frame(np.zeros((len(recipe.bands), *shape), np.float32), np.zeros(shape, bool))
        what = f"{len(scenes)} scene{'s' * (len(scenes) > 1)} of {recipe.dataset.ids[0]}"
        found = self._pixels(graph.expression, part, 4 * len(recipe.bands) + 5 + 4 * words, what)
        pixels = np.stack([found[band] for band in recipe.bands]).astype(np.float32)
        valid = (found[COUNTS[0]] != 0) & np.isfinite(pixels).all(axis=0)
        bits = [int(np.bitwise_or.reduce(found[f"used_{n}"].astype(np.int32), axis=None)) for n in range(words)]
        clear, total = (int(found[name].sum(dtype=np.int64)) for name in COUNTS[1:])
        return _Frame(np.where(valid, pixels, np.float32(0)), valid, used_scenes(bits, scenes), clear, total)

    def _pixels(self, expression: Mapping[str, Any], geobox: GeoBox, pixel_bytes: int, what: str) -> NDArray[Any]:
        session = self._ready()[1]
        return gather(lambda part: session.pixels(expression, part, what), geobox, pixel_bytes)

    def _list(self, dataset: Dataset, asset: str, box: Box, interval: Interval) -> Told:
        """What Earth Engine tells of the scenes of an interval; of very many, half by half."""
        ee, session = self._ready()
        graph = listing_graph(ee, dataset, asset, box, interval)
        features = session.value(ee.serializer.encode(graph), f"scenes of {asset}")["features"]
        middle = interval[0] + (interval[1] - interval[0]) / 2
        if len(features) > LISTED and interval[0] < middle < interval[1] and not dataset.static:
            halves = (interval[0], middle), (middle, interval[1])
            return tuple(each for half in halves for each in self._list(dataset, asset, box, half))
        return read_listing(features, dataset, asset)

    def _grids_of(self, scenes: tuple[Scene, ...], bands: tuple[str, ...]) -> Grids:
        """Where the pixels of the scenes lie, asked for once."""

        def ask() -> Grids:
            ee, session = self._ready()
            wanted = tuple(dict.fromkeys("elevation" if band == "slope" else band for band in bands))
            known = [scene for scene in scenes if set(wanted) & scene.bands]
            answer = session.value(ee.serializer.encode(grids_graph(ee, known, wanted)), "where pixels lie")
            return read_grids(answer, known, wanted)

        return self._grids.get((tuple(scene.item.id for scene in scenes), bands), ask) if scenes else {}

    def _ready(self) -> tuple[Any, EarthEngineSession]:
        """The module, able to build graphs, and the session, once for all threads."""
        return self._connection.get(None, self._connect)

    def _connect(self) -> tuple[Any, EarthEngineSession]:
        import ee

        credentials = _credentials(self._login) if self._given is None else self._given
        session = EarthEngineSession(credentials, self._login.project, url=self._url, attempts=self._attempts)
        session.value(ONE, "login")  # what is wrong with login or project shows here
        with _SETUP:
            if not ee.data.is_initialized():  # a session of the user's own is left as it is
                _initialize(credentials, self._url, self._login.project)
        return ee, session


def _initialize(credentials: Any, url: str, project: str) -> None:
    """Have the library fetch what it needs to build graphs."""
    import ee
    from google.auth.exceptions import GoogleAuthError
    from googleapiclient.errors import Error

    try:
        ee.Initialize(credentials, url=url, project=project)
    except GoogleAuthError as error:
        raise expired(str(error)) from error
    except (ee.EEException, Error, OSError, ValueError) as error:
        raise ServiceError(
            f"earthengine-api could not be set up for the project {project!r} ({error}); try again, update it "
            "(pip install -U earthengine-api), or use backend='auto'"
        ) from error


def _sensor_of(scene: Scene) -> Sensor:
    """The sensor whose dataset a scene is from."""
    return next(SENSORS[id] for id, known in DATASETS.items() if any(d == scene.item.dataset for d in known.values()))


def _credentials(login: Login) -> Any:
    """Google's credentials from what was found."""
    import google.auth
    from ee import oauth
    from google.auth.exceptions import GoogleAuthError
    from google.oauth2.credentials import Credentials
    from google.oauth2.service_account import Credentials as AccountCredentials

    key, scopes = dict(login.key or {}), oauth.SCOPES
    kind = key.get("type", "authorized_user") if key else "default"
    try:
        if kind == "service_account":
            return AccountCredentials.from_service_account_info(key, scopes=scopes)  # type: ignore[no-untyped-call]
        if kind != "authorized_user":  # of the machine, or lent by another cloud: the library's own search finds them
            return google.auth.default(scopes=scopes)[0]
        return Credentials(  # type: ignore[no-untyped-call]
            None,
            refresh_token=key["refresh_token"],
            token_uri=oauth.TOKEN_URI,
            client_id=key.get("client_id", oauth.CLIENT_ID),
            client_secret=key.get("client_secret", oauth.CLIENT_SECRET),
            scopes=key.get("scopes", scopes),
        )
    except (GoogleAuthError, ValueError, KeyError) as error:
        raise ProviderError(
            f"backend='gee': the login that was found ({login.told_by}) cannot be used ({error}); download the key of "
            "the service account again, or run `earthengine authenticate`"
        ) from error


def _complete(groups: Sequence[Group], bands: tuple[str, ...]) -> list[Group]:
    """The passes without scenes that lack a band: an observation is all bands of one moment."""
    kept = (tuple(scene for scene in group if set(bands) <= scene.bands) for group in groups)
    return [group for group in kept if group]


def _stack(
    request: ImageRequest, chosen: Chosen, part: GeoBox, frames: Sequence[_Frame], notes: tuple[str, ...]
) -> ImageStack:
    """The frames of a part as one stack, with the bands that do not exist."""
    pixels = np.zeros((len(frames), len(request.bands), *part.shape), np.float32)
    present = [i for i, band in enumerate(request.bands) if band not in chosen.missing_bands]
    for t, frame in enumerate(frames):
        pixels[t, present] = frame.pixels
    scenes = tuple(
        tuple(_said(scene, request) for scene in sorted(frame.used, key=lambda s: (s.time, s.id))) for frame in frames
    )
    return ImageStack(
        pixels,
        np.stack([frame.valid for frame in frames]),
        np.array([frame.time for frame in chosen.frames], "datetime64[s]"),
        part,
        chosen.missing_bands,
        scenes,
        (sum(frame.clear for frame in frames), sum(frame.total for frame in frames)),
        notes=notes,
    )


def _said(scene: Scene, request: ImageRequest) -> dict[str, Any]:
    """What the metadata say of a scene, as of any provider's."""
    said = {"id": scene.id, "datetime": scene.time.isoformat(), "cloud_cover": scene.cloud_cover}
    if request.mask is not None:
        said["masked"] = SENSORS[request.sensor].mask_band in scene.bands
    return said
