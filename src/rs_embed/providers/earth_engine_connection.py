"""A login to Earth Engine at work: the library and the session, made once for all threads, and what was asked of it."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rs_embed.core.errors import MissingExtraError, ProviderError
from rs_embed.core.imagery import Interval, Scene
from rs_embed.providers.earth_engine_catalog import Dataset
from rs_embed.providers.earth_engine_graph import BandGrid
from rs_embed.providers.earth_engine_login import INSTALL, Login
from rs_embed.providers.earth_engine_rest import ONE, EarthEngineSession, expired, unexpected
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
from rs_embed.providers.sessions import ServiceError

__all__ = ["EarthEngineConnection", "is_installed"]

T = TypeVar("T")

_LIFETIME = 3600.0
"""Seconds for which a search is remembered: the catalogue grows."""
_KEPT = 512
_EARTH: Box = (-180.0, -90.0, 180.0, 90.0)
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_SETUP = threading.Lock()
_SETUP_RETRIES, _USUAL_RETRIES = 2, 5
"""Attempts of earthengine-api while it is set up, and its own default: that many, with its waits, take 45 s."""

Told = tuple[Mapping[str, Any], ...]
Grids = Mapping[str, Mapping[str, BandGrid]]


def is_installed() -> bool:
    """Whether earthengine-api is there; nothing of it is imported."""
    return importlib.util.find_spec("ee") is not None


class EarthEngineConnection:
    """What talks to Earth Engine for one login and project; threads share it.

    Parameters
    ----------
    login
        What `rs_embed.providers.earth_engine_login.find_login` found.
    credentials
        Of google-auth, in place of those of the login.
    url
        Address of the API.
    attempts
        How often a request is sent that fails for a while.

    Raises
    ------
    MissingExtraError
        If earthengine-api is not installed.
    """

    def __init__(self, login: Login, *, credentials: Any = None, url: str, attempts: int) -> None:
        if not is_installed():
            raise MissingExtraError(
                f"backend='gee' needs earthengine-api, which is not installed: {INSTALL}, or use backend='auto'"
            )
        self.url = url
        self._login, self._given, self._attempts = login, credentials, attempts
        self._searches: Memo[Told] = Memo(_KEPT)
        self._grids: Memo[Grids] = Memo(_KEPT)
        self._connected: Memo[tuple[Any, EarthEngineSession]] = Memo(1)

    def encode(self, graph: Callable[[Any], Any]) -> Mapping[str, Any]:
        """Return the expression that ``graph``, which gets the module ``ee``, builds."""
        ee, _ = self._ready()
        found: Mapping[str, Any] = ee.serializer.encode(graph(ee))
        return found

    def scenes(self, dataset: Dataset, footprint: Any, interval: Interval) -> list[Scene]:
        """Return the scenes of a dataset in ``interval`` near a footprint in degrees; None: anywhere."""
        boxes = (_EARTH,) if dataset.worldwide or footprint is None else search_boxes(footprint)
        always = dataset.static or interval[0] < _FIRST or interval[1] > _LAST
        span = (_FIRST, _LAST) if always else interval
        scenes: dict[str, Scene] = {}
        for asset in dataset.ids:
            for box in boxes:
                fetch = partial(self._list, dataset, asset, box, span)
                told = self._searches.get((asset, box, span), fetch, lifetime=lambda _: _LIFETIME)
                found = _understood(f"scenes of {asset}", partial(_scenes_of, told, dataset, asset))
                scenes |= {scene.id: scene for scene in found}
        return list(scenes.values())

    def grids(self, scenes: tuple[Scene, ...], bands: tuple[str, ...]) -> Grids:
        """Return where the pixels of the scenes lie, by scene id and band; asked for once."""

        def ask() -> Grids:
            wanted = tuple(dict.fromkeys("elevation" if band == "slope" else band for band in bands))
            known = [scene for scene in scenes if set(wanted) & scene.bands]
            what = "where pixels lie"
            answer = self._value(lambda ee: grids_graph(ee, known, wanted), what)
            return _understood(what, lambda: read_grids(answer, known, wanted))

        return self._grids.get((tuple(scene.item.id for scene in scenes), bands), ask) if scenes else {}

    def pixels(
        self, expression: Mapping[str, Any], geobox: GeoBox, bands: Sequence[str], pixel_bytes: int, what: str
    ) -> NDArray[Any]:
        """Return bands of an image on a lattice as a structured array ``(H, W)``, fetched in parts where it is much.

        Parameters
        ----------
        expression
            From `encode`.
        geobox
            The lattice.
        bands
            Those that the answer must have.
        pixel_bytes
            Bytes of a pixel of all bands of the image.
        what
            What is asked for, for messages.
        """
        session = self._ready()[1]
        return gather(lambda part: session.pixels(expression, part, bands, what), geobox, pixel_bytes)

    def _value(self, graph: Callable[[Any], Any], what: str) -> Any:
        return self._ready()[1].value(self.encode(graph), what)

    def _list(self, dataset: Dataset, asset: str, box: Box, interval: Interval) -> Told:
        """What Earth Engine tells of the scenes of an interval; of very many, half by half."""
        what = f"scenes of {asset}"
        answer = self._value(lambda ee: listing_graph(ee, dataset, asset, box, interval), what)
        features = _understood(what, lambda: list(answer["features"]))
        middle = interval[0] + (interval[1] - interval[0]) / 2
        if len(features) > LISTED and interval[0] < middle < interval[1] and not dataset.static:
            halves = (interval[0], middle), (middle, interval[1])
            return tuple(each for half in halves for each in self._list(dataset, asset, box, half))
        return _understood(what, lambda: read_listing(features, dataset, asset))

    def _ready(self) -> tuple[Any, EarthEngineSession]:
        """The module, able to build graphs, and the session; a forked process makes its own of both."""
        return self._connected.get(os.getpid(), self._connect)

    def _connect(self) -> tuple[Any, EarthEngineSession]:
        import ee

        credentials = _credentials(self._login) if self._given is None else self._given
        session = EarthEngineSession(credentials, self._login.project, url=self.url, attempts=self._attempts)
        session.value(ONE, "login")  # what is wrong with login or project shows here
        with _SETUP:
            if not ee.data.is_initialized():  # a session of the user's own is left as it is
                _initialize(credentials, self.url, self._login.project)
        return ee, session


def _renew() -> None:
    """A lock that another thread held at a fork would never be released."""
    global _SETUP
    _SETUP = threading.Lock()


os.register_at_fork(after_in_child=_renew)


def _scenes_of(told: Told, dataset: Dataset, asset: str) -> list[Scene]:
    return [scene_of(each, dataset, asset) for each in told]


def _understood(what: str, read: Callable[[], T]) -> T:
    """What an answer says; one that lacks what it must have is an error of the service."""
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise unexpected(what, f"{type(error).__name__}: {error}") from error


def _initialize(credentials: Any, url: str, project: str) -> None:
    """Have the library fetch what it needs to build graphs."""
    import ee
    from google.auth.exceptions import GoogleAuthError
    from googleapiclient.errors import Error

    ee.data.setMaxRetries(_SETUP_RETRIES)
    try:
        ee.Initialize(credentials, url=url, project=project)
        ee.data.setMaxRetries(_USUAL_RETRIES)
    except GoogleAuthError as error:
        ee.Reset()
        raise expired(str(error)) from error
    except (ee.EEException, Error, OSError, ValueError) as error:
        ee.Reset()  # half of it would count as done
        raise ServiceError(
            f"earthengine-api could not be set up for the project {project!r} ({error}); try again, update it "
            "(pip install -U earthengine-api), or use backend='auto'"
        ) from error


def _credentials(login: Login) -> Any:
    """Google's credentials from what was found."""
    import google.auth
    from ee import oauth
    from google.auth.exceptions import GoogleAuthError
    from google.oauth2.service_account import Credentials as AccountCredentials

    key, scopes = login.key, oauth.SCOPES
    kind = None if key is None else key.get("type", "authorized_user")
    try:
        if key is not None and kind == "service_account":
            return AccountCredentials.from_service_account_info(key, scopes=scopes)  # type: ignore[no-untyped-call]
        if key is not None and kind == "authorized_user":
            return _of_user(key)
        if not login.is_default:
            raise ValueError(f"credentials of the type {kind!r} are taken from GOOGLE_APPLICATION_CREDENTIALS only")
        return google.auth.default(scopes=scopes)[0]
    except (GoogleAuthError, ValueError, KeyError) as error:
        raise ProviderError(
            f"backend='gee': the login that was found ({login.told_by}) cannot be used ({error}); download the key of "
            "the service account again, or run `earthengine authenticate`"
        ) from error


def _of_user(key: Mapping[str, Any]) -> Any:
    """Credentials of a person; those of another program (gcloud) keep the scopes that they were granted."""
    from ee import oauth
    from google.oauth2.credentials import Credentials

    client = key.get("client_id", oauth.CLIENT_ID)
    return Credentials(  # type: ignore[no-untyped-call]
        None,
        refresh_token=key["refresh_token"],
        token_uri=oauth.TOKEN_URI,
        client_id=client,
        client_secret=key.get("client_secret", oauth.CLIENT_SECRET),
        scopes=key.get("scopes") or (oauth.SCOPES if client == oauth.CLIENT_ID else None),
    )
