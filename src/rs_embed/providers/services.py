"""The open STAC services as data: endpoints, collections by sensor, what they cannot be used for, and why.

From the services' own collections and items as recorded in July 2025: Earth Search v1
(https://earth-search.aws.element84.com/v1) and Planetary Computer (https://planetarycomputer.microsoft.com/api/stac/v1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rs_embed.core.errors import ProviderError
from rs_embed.core.sensors import find_sensor

__all__ = [
    "PAID_BUCKETS",
    "SERVICES",
    "Collection",
    "Service",
    "Signing",
    "choose_collections",
    "known_collection",
    "refusal",
    "service_at",
]


@dataclass(frozen=True)
class Collection:
    """A collection of a service."""

    id: str
    note: str = ""
    """How its pixels differ from what the sensor's name promises; told with every embedding made from it."""
    alike: frozenset[str] = frozenset()
    """Names of which the note is not true, as `_plain` writes them."""


@dataclass(frozen=True)
class Signing:
    """Files that are read with a token from an endpoint."""

    endpoint: str
    """``{endpoint}/{account}/{container}`` answers ``{"token": …, "msft:expiry": …}``."""
    blobs: str
    """Pattern of the URLs that need one, with the groups ``account`` and ``container``."""


@dataclass(frozen=True)
class Service:
    """A STAC API."""

    name: str
    """What metadata call it: of ours, what ``backend`` does; else the host."""
    title: str
    url: str
    offers: Mapping[str, tuple[Collection, ...]] | None = None
    """Collections by sensor, the one to take first; None: whatever the service lists."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """``{collection of the service: why it cannot be used, and what to do}``."""
    signing: Signing | None = None


PAID_BUCKETS = frozenset(
    {"usgs-landsat", "sentinel-s1-l1c", "sentinel-s2-l1c", "sentinel-s2-l2a", "naip-analytic", "naip-source"}
)
"""Buckets whose readers pay (requester pays), as the Registry of Open Data on AWS says of each."""

_PAYS = "its files lie in a bucket whose reader pays (s3://{}) and cannot be read without an AWS account"

_GROUND_RANGE = (
    "holds uncalibrated numbers in ground range, placed only by control points: turning them into backscatter takes "
    "the annotation files and terrain correction; take the collection 'sentinel-1-rtc' (backend='planetary-computer')"
)

_RTC = (
    "sentinel-1-rtc is terrain-flattened backscatter (gamma nought), whereas COPERNICUS/S1_GRD is sigma nought on the "
    "ellipsoid: slopes differ"
)
_EIGHT_DAYS = Collection(
    "modis-09A1-061",
    "modis-09A1-061 keeps the best observation of every 8 days, whereas MOD09GA is daily",
    frozenset({"modis/061/mod09a1", "modis/061/myd09a1"}),
)
_SURFACE = Collection(
    "cop-dem-glo-30",
    "cop-dem-glo-30 is the surface of 2011 to 2015 above EGM2008, whereas SRTM is of February 2000 and above EGM96",
    frozenset({"dem", "copernicus/dem/glo30", "cop-dem-glo-30"}),
)

EARTH_SEARCH = Service(
    "earth-search",
    "Earth Search by Element 84",
    "https://earth-search.aws.element84.com/v1",
    {
        "sentinel-2-l2a": (
            Collection("sentinel-2-l2a"),
            Collection("sentinel-2-c1-l2a"),
            Collection("sentinel-2-pre-c1-l2a"),
        ),
        "dem": (_SURFACE,),
    },
    {
        "sentinel-1-grd": f"{_GROUND_RANGE}; besides, {_PAYS.format('sentinel-s1-l1c')}",
        "sentinel-2-l1c": (
            f"is JPEG 2000, and {_PAYS.format('sentinel-s2-l1c')}; take 'sentinel-2-l2a' where the model accepts it, "
            "backend='gee', or files of your own"
        ),
        "landsat-c2-l2": f"cannot be read: {_PAYS.format('usgs-landsat')}; take backend='planetary-computer'",
        "naip": f"cannot be read: {_PAYS.format('naip-analytic')}; take backend='planetary-computer'",
    },
)

PLANETARY_COMPUTER = Service(
    "planetary-computer",
    "Microsoft Planetary Computer",
    "https://planetarycomputer.microsoft.com/api/stac/v1",
    {
        "sentinel-2-l2a": (Collection("sentinel-2-l2a"),),
        "sentinel-1": (Collection("sentinel-1-rtc", _RTC),),
        "landsat-c2-l2": (Collection("landsat-c2-l2"),),
        "hls-s30": (Collection("hls2-s30"),),
        "hls-l30": (Collection("hls2-l30"),),
        "modis-09ga": (_EIGHT_DAYS,),
        "naip": (Collection("naip"),),
        "dem": (_SURFACE,),
    },
    {"sentinel-1-grd": _GROUND_RANGE},
    Signing(
        "https://planetarycomputer.microsoft.com/api/sas/v1/token",
        r"https://(?P<account>[a-z0-9]+)\.blob\.core\.windows\.net/(?P<container>[^/]+)/",
    ),
)

SERVICES: Mapping[str, Service] = {s.name: s for s in (EARTH_SEARCH, PLANETARY_COMPUTER)}
"""By the backend's name, in the order in which ``auto`` asks them."""


def service_at(url: str) -> Service:
    """Return the service at an address: one of ours with what we know of it, else one that is asked what it has.

    Raises
    ------
    ProviderError
        If the address names no host.
    """
    address = url.strip().rstrip("/")
    for known in SERVICES.values():
        if address.lower() == known.url:
            return known
    host = without_secrets(address).partition("://")[2].partition("/")[0]
    if not host:
        raise ProviderError(f"the address {url!r} names no host; give a STAC API's, such as {EARTH_SEARCH.url}")
    return Service(host, host, address)


def without_secrets(url: str) -> str:
    """An address without user, password and query."""
    scheme, _, rest = url.partition("?")[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def choose_collections(
    service: Service, offers: Mapping[str, tuple[Collection, ...]], sensor: str, asked: str | None
) -> tuple[tuple[Collection, ...], tuple[str, ...]]:
    """Return the collections of a service that a request is searched in, and what to say about the choice.

    Parameters
    ----------
    offers
        What the service has, by sensor.
    sensor
        Id of the sensor.
    asked
        What the user calls the collection: a service's own id, which is taken where the service has it, or any other
        name of the sensor.

    Raises
    ------
    ProviderError
        If the service has nothing of the sensor that can be read; it says why and what to do.
    """
    name = _plain(asked or sensor)
    found = offers.get(sensor, ())
    for refused, why in service.refused.items():
        if name == _plain(refused):
            raise ProviderError(f"{service.name}: the collection {refused!r} {why}")
    if not found and refusal(service, sensor):
        raise ProviderError(refusal(service, sensor))
    if not found:
        has = ", ".join(offers) or "no imagery that is known here"
        raise ProviderError(f"{service.name} has no imagery of {sensor}; it has {has}")
    exact = tuple(each for each in found if _plain(each.id) == name)
    if exact:
        return exact, _notes(exact, name)
    chosen = found if service.offers is None else found[:1]
    elsewhere = {_plain(c.id) for s in SERVICES.values() for c in (s.offers or {}).get(sensor, ())}
    said = f"{service.name} has no {asked}: read from {', '.join(c.id for c in chosen)}"
    return chosen, (*((said,) if name in elsewhere else ()), *_notes(chosen, name))


def refusal(service: Service, sensor: str) -> str:
    """Return why a service's imagery of a sensor cannot be used, and what to do; empty where it is not known."""
    for collection, why in service.refused.items():
        if find_sensor(collection).id == sensor:
            return f"{service.name}: the collection {collection!r} {why}"
    return ""


def _notes(collections: tuple[Collection, ...], name: str) -> tuple[str, ...]:
    return tuple(each.note for each in collections if each.note and name not in each.alike)


def known_collection(name: str) -> Collection:
    """Return a collection with what is known of it, whichever service has it."""
    named = (c for s in SERVICES.values() for listed in (s.offers or {}).values() for c in listed)
    return next((each for each in named if _plain(each.id) == _plain(name)), Collection(name))
