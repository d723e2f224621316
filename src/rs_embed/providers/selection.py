"""Which scenes a request is made from: filtered, joined to passes, and the clearest of them where there are many.

A pass, not a solar day, is what is fused: two looks of one day (two satellites near a pole, or two orbits) are two
observations of which a day would drop one, while a day's tiles of one pass are minutes apart in any case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import takewhile
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rs_embed.core.errors import NoImageryError, ProviderError
from rs_embed.core.imagery import ImageRequest, Interval, Scene

__all__ = ["ALWAYS", "MOST_PASSES", "Chosen", "Frame", "Group", "SceneSource", "cloudiness", "select_scenes"]

ALWAYS: Interval = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
MOST_PASSES = 60
"""Passes that a median or mean is made from: docs/decisions/0008-reading-over-http.md."""
_PASS = timedelta(minutes=30)
"""Tiles of one pass are seconds to minutes apart, passes over one place at least an orbit (100 minutes)."""
_NEAR = timedelta(days=90)

Group = tuple[Scene, ...]


class SceneSource(Protocol):
    """What is needed of a provider: `rs_embed.providers.base.SceneProvider`."""

    waits: bool
    most_passes: int | None

    def search(self, request: ImageRequest, interval: Interval) -> list[Scene]:
        """As `rs_embed.providers.base.SceneProvider.search`."""
        ...

    def read(self, scene: Scene, bands: Sequence[str], geobox: GeoBox) -> NDArray[np.float32]:
        """As `rs_embed.providers.base.SceneProvider.read`."""
        ...


@dataclass(frozen=True)
class Frame:
    """One frame to be: its date and the passes that it is made from."""

    time: np.datetime64
    """Seconds, UTC; NaT where there is no date."""
    groups: tuple[Group, ...]
    """Passes in order of time, of a mosaic the least cloudy first; empty: no imagery."""


@dataclass(frozen=True)
class Chosen:
    """The scenes of a request."""

    frames: tuple[Frame, ...]
    missing_bands: tuple[str, ...]
    """Bands that none of the scenes has."""
    notes: tuple[str, ...] = ()
    """What was left out that the filters of the request let pass."""


def select_scenes(provider: SceneSource, request: ImageRequest) -> Chosen:
    """Choose the scenes of a request, once for all its parts.

    Scenes count whose time lies in ``[start, end)``, whose footprint touches the request's (unknown: it may), whose
    cloud cover is at most ``cloudy_pct`` (unknown: passes), whose orbit is the one asked for (unknown: does not
    pass) and whose mode is (unknown: passes; others may where an interval has none of it, and a note says so). They
    are ordered by time and id, for a mosaic by clouds. Of more passes than a provider's ``most_passes`` a median or
    mean takes the clearest, and a note says so.

    Raises
    ------
    NoImageryError
        If no interval has a scene; it names window, collection, what the filters dropped and the nearest dates.
    ProviderError
        If none of the scenes has any of the bands; the message lists the bands that exist.
    """
    frames: list[Frame] = []
    notes: list[str] = []
    for interval in request.intervals or (ALWAYS,):
        found, note = _of_mode([s for s in _search(provider, request, interval) if not _dropped(s, request)], request)
        notes += [note] if note else []
        groups = tuple(_passes(found))
        if request.composite == "none":
            frames += [Frame(_moment(group[0].time), (group,)) for group in groups]
        else:
            groups, note = _ordered(groups, request, provider.most_passes)
            notes += [note] if note else []
            frames.append(Frame(_middle(interval) if request.intervals else np.datetime64("NaT", "s"), groups))
    scenes = [scene for frame in frames for group in frame.groups for scene in group]
    if not scenes:
        raise NoImageryError(_nothing(provider, request))
    existing = frozenset[str]().union(*(scene.bands for scene in scenes))
    missing = tuple(band for band in request.bands if band not in existing)
    if len(missing) == len(request.bands):
        raise ProviderError(
            f"none of {len(scenes)} {request.sensor} scenes has band {', '.join(request.bands)}; "
            f"bands that exist: {', '.join(sorted(existing)) or 'none'}"
        )
    return Chosen(tuple(frames), missing, tuple(notes))


def _search(provider: SceneSource, request: ImageRequest, interval: Interval) -> list[Scene]:
    """Scenes of the interval over the footprint, whatever their clouds and orbit, in order."""
    start, end = interval
    found = [
        scene
        for scene in provider.search(request, interval)
        if start <= scene.time < end
        and (request.footprint is None or scene.footprint is None or scene.footprint.intersects(request.footprint))
    ]
    return sorted(found, key=lambda scene: (scene.time, scene.id))


def _dropped(scene: Scene, request: ImageRequest) -> str | None:
    """The filter that drops a scene, or None."""
    if scene.cloud_cover is not None and scene.cloud_cover > request.cloudy_pct:
        return "cloud"
    return "orbit" if request.orbit is not None and scene.orbit != request.orbit else None


def _of_mode(scenes: list[Scene], request: ImageRequest) -> tuple[list[Scene], str]:
    """The scenes of the mode that is asked for; where there is none those of others, if they may, and that they are."""
    own = [s for s in scenes if request.mode is None or s.mode in (request.mode, None)]
    if own or not request.other_modes or not scenes:
        return own, ""
    modes = ", ".join(sorted({str(scene.mode) for scene in scenes}))
    return scenes, f"no {request.sensor} scene of mode {request.mode}: those of mode {modes} were taken"


def _passes(scenes: list[Scene]) -> Iterator[Group]:
    """Join the scenes of one pass of the satellite: minutes apart, and no two orbit directions that are known."""
    joined: list[list[Scene]] = []
    for scene in scenes:
        near = takewhile(partial(_one_pass, scene), reversed(joined))
        group = next((other for other in near if _one_orbit(scene, other)), None)
        if group is None:
            joined.append([scene])
        else:
            group.append(scene)
    yield from (tuple(group) for group in joined)


def _one_pass(scene: Scene, group: list[Scene]) -> bool:
    return scene.time - group[0].time <= _PASS


def _one_orbit(scene: Scene, group: list[Scene]) -> bool:
    return scene.orbit is None or {other.orbit for other in group} <= {scene.orbit, None}


def cloudiness(group: Group) -> float:
    """Return the mean cloud cover of a pass, percent; what says nothing comes after all that do."""
    known = [scene.cloud_cover for scene in group if scene.cloud_cover is not None]
    return sum(known) / len(known) if known else 101.0


def _ordered(groups: tuple[Group, ...], request: ImageRequest, most: int | None) -> tuple[tuple[Group, ...], str]:
    """The passes of a frame as they are looked at, and what to say of those left out."""
    if request.composite == "mosaic":
        return tuple(sorted(groups, key=cloudiness)), ""
    if most is None or len(groups) <= most:
        return groups, ""
    if all(cloudiness(group) > 100 for group in groups):
        kept = np.linspace(0, len(groups) - 1, most).round().astype(int)
        how = f"{most} passes evenly spread over the {len(groups)}"
    else:
        kept = np.sort(np.argsort([cloudiness(group) for group in groups], kind="stable")[:most])
        how = f"the {most} clearest of {len(groups)} passes"
    first, last = _day(groups[0][0].time), _day(groups[-1][0].time)
    return tuple(groups[i] for i in kept), f"{request.composite} of {how} from {first} to {last}"


def _moment(time: datetime) -> np.datetime64:
    return np.datetime64(time.astimezone(UTC).replace(tzinfo=None, microsecond=0), "s")


def _middle(interval: Interval) -> np.datetime64:
    return _moment(interval[0] + (interval[1] - interval[0]) / 2)


def _left_out(count: int) -> str:
    return f"{count} {'was' if count == 1 else 'were'} left out"


def _nothing(provider: SceneSource, request: ImageRequest) -> str:
    """Say what was looked for, what the filters dropped, and which dates are nearest."""
    intervals = request.intervals or (ALWAYS,)
    start, end = min(i[0] for i in intervals), max(i[1] for i in intervals)
    dates = f" from {_day(start)} to {_day(end)}" if request.intervals else ""
    said = [f"no {request.sensor} scene{dates} over the region"]
    dropped = [(s, _dropped(s, request)) for i in intervals for s in _search(provider, request, i)]
    cloudy = [s.cloud_cover for s, why in dropped if why == "cloud" and s.cloud_cover is not None]
    if cloudy:
        least = f"the least cloudy has {min(cloudy):.3g} %"
        said.append(f"{_left_out(len(cloudy))} by cloudy_pct={request.cloudy_pct:g} ({least})")
    turned = sum(why == "orbit" for _, why in dropped)
    if turned:
        unknown = sum(why == "orbit" and s.orbit is None for s, why in dropped)
        none = f" ({unknown} of them tell no orbit)" if unknown else ""
        said.append(f"{_left_out(turned)} by orbit={request.orbit!r}{none}")
    strange = sum(why is None for _, why in dropped)
    if strange:
        said.append(f"{_left_out(strange)} by mode, not being {request.mode}")
    tell = getattr(provider, "left_out", None)  # by the provider itself, such as other satellites of a collection
    said += tell(request) if tell is not None else []
    near = _nearest(provider, request, start, end)
    said.append(f"nearest dates: {', '.join(near)}" if near else "and none at any other date")
    return "; ".join(said)


def _nearest(provider: SceneSource, request: ImageRequest, start: datetime, end: datetime) -> list[str]:
    """Up to five dates nearest to the window that have a scene over the region, with its cloud cover."""
    early = max(start - _NEAR, ALWAYS[0]) if start - ALWAYS[0] > _NEAR else ALWAYS[0]
    late = end + _NEAR if ALWAYS[1] - end > _NEAR else ALWAYS[1]
    found = _search(provider, request, (early, late)) or _search(provider, request, ALWAYS)
    distance = {s.id: max(start - s.time, s.time - end, timedelta(0)) for s in found}
    days: dict[str, str] = {}
    for scene in sorted(found, key=lambda s: (distance[s.id], s.cloud_cover or 0.0, s.id)):
        cloud = "" if scene.cloud_cover is None else f" ({scene.cloud_cover:.3g} % cloud)"
        days.setdefault(_day(scene.time), cloud)
    return [day + cloud for day, cloud in list(days.items())[:5]]


def _day(time: datetime) -> str:
    return time.date().isoformat()
