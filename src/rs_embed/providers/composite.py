"""Which scenes a request is made from, and how their pixels become frames.

The order of things: scenes of one pass of the satellite are fused (adjacent tiles, the first that has data wins), the
fused pass is masked, the clear passes of an interval are reduced pixel by pixel, and decibels come last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rs_embed.core.errors import NoImageryError, ProviderError
from rs_embed.core.imagery import ImageRequest, ImageStack, Interval, Scene
from rs_embed.core.sensors import SENSORS, Sensor
from rs_embed.providers.masks import MASKS

__all__ = ["Chosen", "Frame", "compose", "median", "select_scenes"]

ALWAYS: Interval = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
_PASS = timedelta(minutes=30)
"""Tiles of one pass are seconds to minutes apart, passes over one place at least an orbit (100 minutes)."""
_NEAR = timedelta(days=90)
_MEMORY = 128 * 2**20
"""Bytes of the pixels held at once by `compose`."""
_FEW = 2**18
"""Values of all passes up to which bands are reduced at once: a copy of them then hardly counts."""

Group = tuple[Scene, ...]
Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]


class SceneSource(Protocol):
    """What is needed of a provider: `rs_embed.providers.base.SceneProvider`."""

    def search(self, request: ImageRequest, interval: Interval) -> list[Scene]: ...

    def read(self, scene: Scene, bands: Sequence[str], geobox: GeoBox) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Frame:
    """One frame to be: its date and the passes that it is made from."""

    time: np.datetime64
    """Seconds, UTC; NaT where there is no date."""
    groups: tuple[Group, ...]
    """Passes in order of time; empty: no imagery."""


@dataclass(frozen=True)
class Chosen:
    """The scenes of a request."""

    frames: tuple[Frame, ...]
    missing_bands: tuple[str, ...]
    """Bands that none of the scenes has."""


def select_scenes(provider: SceneSource, request: ImageRequest) -> Chosen:
    """Choose the scenes of a request, once for all its parts.

    Scenes count whose time lies in ``[start, end)``, whose footprint touches the request's (unknown: it may), whose
    cloud cover is at most ``cloudy_pct`` (unknown: passes) and whose orbit is the one asked for (unknown: does not
    pass). They are ordered by time and id.

    Raises
    ------
    NoImageryError
        If no interval has a scene; it names window, collection, what the filters dropped and the nearest dates.
    ProviderError
        If none of the scenes has any of the bands; the message lists the bands that exist.
    """
    frames: list[Frame] = []
    for interval in request.intervals or (ALWAYS,):
        found = [s for s in _search(provider, request, interval) if not _dropped(s, request)]
        groups = tuple(_passes(found))
        if request.composite == "none":
            frames += [Frame(_moment(group[0].time), (group,)) for group in groups]
        else:
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
    return Chosen(tuple(frames), missing)


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


def _passes(scenes: list[Scene]) -> Iterator[Group]:
    """Join the scenes of one pass of the satellite: same orbit direction, minutes apart."""
    open_groups: dict[str | None, list[Scene]] = {}
    closed: list[list[Scene]] = []
    for scene in scenes:
        group = open_groups.get(scene.orbit)
        if group is None or scene.time - group[0].time > _PASS:
            group = open_groups[scene.orbit] = []
            closed.append(group)
        group.append(scene)
    yield from (tuple(group) for group in closed)


def _moment(time: datetime) -> np.datetime64:
    return np.datetime64(time.astimezone(UTC).replace(tzinfo=None, microsecond=0), "s")


def _middle(interval: Interval) -> np.datetime64:
    return _moment(interval[0] + (interval[1] - interval[0]) / 2)


def _nothing(provider: SceneSource, request: ImageRequest) -> str:
    """Say what was looked for, what the filters dropped, and which dates are nearest."""
    intervals = request.intervals or (ALWAYS,)
    start, end = min(i[0] for i in intervals), max(i[1] for i in intervals)
    dates = f" from {_day(start)} to {_day(end)}" if request.intervals else ""
    said = [f"no {request.sensor} scene{dates} over the region"]
    dropped = [(s, _dropped(s, request)) for i in intervals for s in _search(provider, request, i)]
    cloudy = [s.cloud_cover for s, why in dropped if why == "cloud" and s.cloud_cover is not None]
    if cloudy:
        said.append(
            f"{len(cloudy)} {'was' if len(cloudy) == 1 else 'were'} left out by cloudy_pct={request.cloudy_pct:g} "
            f"(the least cloudy has {min(cloudy):.3g} %)"
        )
    turned = sum(why == "orbit" for _, why in dropped)
    if turned:
        said.append(f"{turned} by orbit={request.orbit!r}")
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


def compose(provider: SceneSource, request: ImageRequest, chosen: Chosen, part: GeoBox) -> ImageStack:
    """Read the chosen scenes on ``part`` and reduce them to frames.

    Works in bands of rows, so that memory stays bounded whatever the part's size; every step is pixel by pixel, so
    that neither the bands nor the part change a bit.

    Parameters
    ----------
    provider
        Reads the scenes.
    request
        Bands, mask and composite.
    chosen
        From `select_scenes`.
    part
        The lattice: a crop of the request's.
    """
    sensor = SENSORS[request.sensor]
    height, width = part.shape
    pixels = np.zeros((len(chosen.frames), len(request.bands), height, width), np.float32)
    valid = np.zeros((len(chosen.frames), height, width), bool)
    present = [i for i, band in enumerate(request.bands) if band not in chosen.missing_bands]
    bands = tuple(request.bands[i] for i in present)
    clear_total = np.zeros(2, np.int64)
    scenes: list[tuple[dict[str, Any], ...]] = []
    for t, frame in enumerate(chosen.frames):
        used: dict[str, Scene] = {}
        rows = _rows(len(frame.groups) * (len(bands) + 1) * width)
        for top in range(0, height if frame.groups else 0, rows):
            strip = _strip(part, top, min(rows, height - top))
            passes = [_read_pass(provider, request, sensor, bands, group, strip) for group in frame.groups]
            for group in passes:
                clear_total += group.clear, group.total
            values = _reduce(request.composite, passes, used)
            if sensor.kind == "radar":
                values = _decibel(values)
            known = np.isfinite(values).all(axis=0)
            pixels[t, present, top : top + rows] = np.where(known, values, 0)
            valid[t, top : top + rows] = known
        scenes.append(tuple(_say(s, request, sensor) for s in sorted(used.values(), key=lambda s: (s.time, s.id))))
    times = np.array([frame.time for frame in chosen.frames], "datetime64[s]")
    observed = (int(clear_total[0]), int(clear_total[1]))
    return ImageStack(pixels, valid, times, part, chosen.missing_bands, tuple(scenes), observed)


def _rows(row_values: int) -> int:
    """Rows of a strip whose pixels (and a copy of them) stay below the memory bound."""
    return max(1, _MEMORY // max(1, 2 * 4 * row_values))


def _strip(part: GeoBox, top: int, rows: int) -> GeoBox:
    """Rows of a geobox (slicing it warns with affine 3)."""
    a = part.affine
    shift = Affine(a.a, a.b, a.c + a.b * top, a.d, a.e, a.f + a.e * top)
    return GeoBox((rows, part.shape[1]), shift, part.crs)


def _say(scene: Scene, request: ImageRequest, sensor: Sensor) -> dict[str, Any]:
    said: dict[str, Any] = {
        "id": scene.id,
        "datetime": scene.time.isoformat(),
        "cloud_cover": scene.cloud_cover,
    }
    if request.mask is not None:
        said["masked"] = sensor.mask_band in scene.bands
    return said


@dataclass(frozen=True)
class _Pass:
    """The fused pixels of one pass."""

    pixels: Pixels
    """``(C, h, w)``, NaN where not clear."""
    usable: Mask
    owner: NDArray[np.int16]
    """Which scene each pixel is from; -1: none."""
    scenes: Group
    clear: int
    total: int


def _read_pass(
    provider: SceneSource,
    request: ImageRequest,
    sensor: Sensor,
    bands: tuple[str, ...],
    group: Group,
    strip: GeoBox,
) -> _Pass:
    """Fuse the tiles of a pass, then mask it."""
    shape = (len(bands), *strip.shape)
    pixels = np.full(shape, np.nan, np.float32)
    owner = np.full(strip.shape, -1, np.int16)
    clear = np.ones(strip.shape, bool)
    for number, scene in enumerate(group):
        if not set(bands) <= scene.bands:
            continue  # an observation is all bands of one moment
        masked = request.mask is not None and sensor.mask_band in scene.bands
        names = [*bands, sensor.mask_band] if masked and sensor.mask_band else [*bands]
        read = provider.read(scene, names, strip)
        take = (owner < 0) & np.isfinite(read[: len(bands)]).all(axis=0)
        if not take.any():
            continue
        pixels[:, take] = read[: len(bands), take]
        owner[take] = number
        if masked and request.mask is not None:
            clear[take] = MASKS[request.mask](read[-1, take])
        if (owner >= 0).all():
            break
    have = owner >= 0
    usable = have & clear
    pixels[:, ~usable] = np.nan
    return _Pass(pixels, usable, owner, group, int(usable.sum()), int(have.sum()))


def _note(used: dict[str, Scene], group: _Pass, where: Mask) -> None:
    """Write down the scenes that the pixels come from."""
    for number in np.unique(group.owner[where]):
        scene = group.scenes[int(number)]
        used[scene.id] = scene


def _reduce(composite: str, passes: list[_Pass], used: dict[str, Scene]) -> Pixels:
    """Reduce the clear pixels of all passes to one frame ``(C, h, w)``, NaN where there is none."""
    if composite == "mosaic" or len(passes) == 1:
        out = np.full(passes[0].pixels.shape, np.nan, np.float32)
        left = np.ones(out.shape[1:], bool)
        for group in passes:
            take = left & group.usable
            out[:, take] = group.pixels[:, take]
            left &= ~take
            _note(used, group, take)
        return out
    for group in passes:
        _note(used, group, group.usable)
    count: NDArray[np.int32] = np.stack([group.usable for group in passes]).sum(axis=0, dtype=np.int32)
    function = {"median": median, "mean": _mean}[composite]
    if len(passes) * passes[0].pixels.size <= _FEW:
        return function([group.pixels for group in passes], count)
    channels = range(passes[0].pixels.shape[0])
    return np.stack([function([group.pixels[c] for group in passes], count) for c in channels])


def median(values: Sequence[Pixels], count: NDArray[np.int32] | None = None) -> Pixels:
    """Return the median of each pixel, the mean of the middle two where their number is even.

    Parameters
    ----------
    values
        Arrays of one shape, NaN where there is no data.
    count
        How many are not NaN, where that is known; broadcast to their shape.
    """
    stack = np.sort(np.stack(values), axis=0)  # NaN come last
    n: NDArray[np.int32] = (~np.isnan(stack)).sum(axis=0, dtype=np.int32) if count is None else count
    places = np.broadcast_to(n, stack.shape[1:])[None]
    low: Pixels = np.take_along_axis(stack, np.maximum(places - 1, 0) // 2, axis=0)[0]
    high: Pixels = np.take_along_axis(stack, places // 2, axis=0)[0]
    middle: Pixels = (low + high) * np.float32(0.5)
    return middle


def _mean(values: Sequence[Pixels], count: NDArray[np.int32]) -> Pixels:
    """Return the mean of each pixel, summed in order of time."""
    total = np.zeros(values[0].shape)
    for one in values:
        total += np.where(np.isnan(one), 0, one)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _decibel(power: Pixels) -> Pixels:
    """Return 10 log10 of linear power, NaN where there is none."""
    positive = power > 0
    level = 10 * np.log10(np.where(positive, power, 1).astype(np.float64))
    return np.where(positive, level, np.nan).astype(np.float32)
