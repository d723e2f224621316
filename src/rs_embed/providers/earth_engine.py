"""Google Earth Engine: scenes are chosen here as everywhere, and composited on its servers by the same policy.

A search is one ``value:compute`` for the cell of a degree and an interval; a part of a frame is one
``image:computePixels`` on our own lattice, or several where it is more than one request can be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rs_embed.core.imagery import ImageRequest, ImageStack, Interval, Scene
from rs_embed.core.sensors import SENSORS, Sensor
from rs_embed.providers.base import SceneProvider
from rs_embed.providers.earth_engine_catalog import DATASETS, choose_dataset
from rs_embed.providers.earth_engine_connection import EarthEngineConnection
from rs_embed.providers.earth_engine_graph import (
    COUNTS,
    Recipe,
    frame_image,
    single_image,
    used_scenes,
    used_words,
)
from rs_embed.providers.earth_engine_login import Login, choose_project, find_login, missing_login
from rs_embed.providers.earth_engine_rest import AT_ONCE, URL
from rs_embed.providers.selection import Chosen, Group, select_scenes

__all__ = ["EarthEngineProvider"]


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
        Of google-auth, in place of a login of this machine.
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
        attempts: int = 6,
        call: str | None = None,
    ) -> None:
        if credentials is not None:
            login: Login | None = Login("the credentials that were given", None, choose_project(project))
        else:
            login = find_login(project, key=key)
        if login is None:
            raise missing_login(call)
        self.connection = EarthEngineConnection(login, credentials=credentials, url=url, attempts=attempts)

    def offers(self, sensor: str) -> bool:
        """Whether Earth Engine has imagery of that sensor."""
        return sensor in DATASETS

    def search(self, request: ImageRequest, interval: Interval) -> list[Scene]:
        """Return the scenes in ``interval`` near the footprint, as Earth Engine lists them."""
        dataset = choose_dataset(request.sensor, request.collection)
        return self.connection.scenes(dataset, request.footprint, interval)

    def read(self, scene: Scene, bands: Sequence[str], geobox: GeoBox) -> NDArray[np.float32]:
        """Return bands of one scene on a lattice; `load` has composites made on the server instead."""
        sensor = _sensor_of(scene)
        grids = self.connection.grids((scene,), tuple(bands))
        recipe = Recipe(scene.item.dataset, sensor, tuple(bands), None, "none", geobox, grids)
        expression = self.connection.encode(lambda ee: single_image(ee, recipe, scene))
        names = [name for band in bands for name in (band, f"{band}_known")]
        found = self.connection.pixels(expression, geobox, names, 5 * len(bands), scene.id)
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
        grids = self.connection.grids(tuple(scenes.values()), (*bands, *masked))
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
        return _Graph(scenes, self.connection.encode(lambda ee: frame_image(ee, recipe, groups, scenes)))

    def _frame(self, recipe: Recipe, part: GeoBox, graph: _Graph) -> _Frame:
        """A part of a frame, composited on the server."""
        scenes, words = graph.scenes, used_words(len(graph.scenes))
        if not scenes:
            shape = tuple(int(side) for side in part.shape)
            return _Frame(np.zeros((len(recipe.bands), *shape), np.float32), np.zeros(shape, bool))
        what = f"{len(scenes)} scene{'s' * (len(scenes) > 1)} of {recipe.dataset.ids[0]}"
        names = (*recipe.bands, *COUNTS, *(f"used_{n}" for n in range(words)))
        pixel_bytes = 4 * len(recipe.bands) + 5 + 4 * words
        found = self.connection.pixels(graph.expression, part, names, pixel_bytes, what)
        pixels = np.stack([found[band] for band in recipe.bands]).astype(np.float32)
        valid = (found[COUNTS[0]] != 0) & np.isfinite(pixels).all(axis=0)
        bits = [int(np.bitwise_or.reduce(found[f"used_{n}"].astype(np.int32), axis=None)) for n in range(words)]
        clear, total = (int(found[name].sum(dtype=np.int64)) for name in COUNTS[1:])
        return _Frame(np.where(valid, pixels, np.float32(0)), valid, used_scenes(bits, scenes), clear, total)


def _sensor_of(scene: Scene) -> Sensor:
    """The sensor whose dataset a scene is from."""
    return next(SENSORS[id] for id, known in DATASETS.items() if any(d == scene.item.dataset for d in known.values()))


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
