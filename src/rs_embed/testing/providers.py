"""The contract of a provider: what every source of pixels keeps to, and what a plug-in's has to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from rs_embed.core.errors import NoImageryError, ProviderError, SpecError
from rs_embed.core.geometry import Rect, locate
from rs_embed.core.imagery import ImageRequest, ImageStack, Interval
from rs_embed.core.sensors import SENSORS, Sensor, canonical_bands, find_sensor
from rs_embed.core.specs import SpatialSpec, TemporalSpec, norm_spatial
from rs_embed.providers.backends import open_provider
from rs_embed.providers.base import Provider
from rs_embed.testing.report import Report, Skip, expect, run_checks

__all__ = ["PROVIDER_CHECKS", "ProviderTrial", "check_provider", "crop", "same_pixels"]

_THREADS = 8


@dataclass(frozen=True)
class ProviderTrial:
    """A provider with a request for which it has imagery."""

    provider: Provider
    request: ImageRequest
    """For one interval, or none where its imagery has no date."""
    dated: bool = True
    """Whether the provider heeds intervals: what a user's array shows is of the user's own date."""
    elsewhere: ImageRequest | None = None
    """The same for a place where it has nothing."""

    def load(self, part: GeoBox | None = None, **changes: Any) -> ImageStack:
        """Return the only stack of the request, or of the same with changes."""
        request = replace(self.request, **changes)
        parts = [part or self.lattice]
        found = list(self.provider.load(request, parts))
        expect(len(found) == 1, f"load yields {len(found)} stacks for one part")
        return found[0]

    @property
    def lattice(self) -> GeoBox:
        """The lattice of the request."""
        assert self.request.geobox is not None
        return self.request.geobox

    @cached_property
    def whole(self) -> ImageStack:
        """What the request gives, loaded once."""
        return self.load()

    @property
    def sensor(self) -> Sensor:
        """The sensor of the request."""
        return SENSORS[self.request.sensor]

    @property
    def parts(self) -> list[Rect]:
        """Parts of the lattice: a pixel, a corner, an inner rectangle, a half."""
        height, width = (int(side) for side in self.lattice.shape)
        inner = Rect(height // 3, width // 4, max(1, height // 4), max(1, width // 3))
        corner = Rect(height - max(1, height // 8), width - max(1, width // 5), max(1, height // 8), max(1, width // 5))
        return [Rect(0, 0, 1, 1), inner, corner, Rect(0, 0, height, max(1, width // 2))]

    def empty(self) -> Interval:
        """Return a second of the interval after the last scene that was used: nothing was acquired in it."""
        if not self.dated or not self.request.intervals:
            raise Skip("the imagery has no date")
        times = [datetime.fromisoformat(str(s["datetime"])) for frame in self.whole.scenes for s in frame]
        if not times:
            raise Skip("the stack names no scene")
        last = max(times).replace(microsecond=0) + timedelta(seconds=1)
        return last, last + timedelta(seconds=1)


def crop(geobox: GeoBox, rect: Rect) -> GeoBox:
    """Return the part of a geobox."""
    a = geobox.affine
    shifted = Affine(a.a, 0, a.c + a.a * rect.col, 0, a.e, a.f + a.e * rect.row)
    return GeoBox((rect.height, rect.width), shifted, geobox.crs)


def same_pixels(one: ImageStack, other: ImageStack) -> bool:
    """Whether two stacks have the same valid pixels with the same values, to the bit; others are undefined."""
    if one.pixels.shape != other.pixels.shape or not np.array_equal(one.valid, other.valid):
        return False
    present = np.broadcast_to(one.valid[:, None], one.pixels.shape)
    return np.array_equal(one.pixels[present], other.pixels[present])


def _cut(stack: ImageStack, rect: Rect, geobox: GeoBox) -> ImageStack:
    rows, cols = slice(rect.row, rect.row + rect.height), slice(rect.col, rect.col + rect.width)
    return replace(stack, pixels=stack.pixels[:, :, rows, cols], valid=stack.valid[:, rows, cols], geobox=geobox)


def _offers(trial: ProviderTrial) -> None:
    """It says who it is and what it has."""
    provider, sensor = trial.provider, trial.request.sensor
    expect(isinstance(provider, Provider), "it lacks one of name, source, offers and load")
    for name in ("name", "source"):
        said = getattr(provider, name)
        expect(isinstance(said, str) and said and "/" not in said, f"{name} is {said!r}; it must be text, and no path")
    expect(provider.offers(sensor) is True, f"offers({sensor!r}) is not True")
    expect(provider.offers("no-such-sensor") is False, "it offers a sensor that does not exist")


def _stack(trial: ProviderTrial) -> None:
    """A stack lies on the asked lattice, in the promised shapes, with dates and scenes of the interval."""
    found, request = trial.whole, trial.request
    shape = (max(1, len(request.intervals)), len(request.bands), *trial.lattice.shape)
    expect(found.geobox == trial.lattice, f"asked for {trial.lattice}, got {found.geobox}")
    expect(found.pixels.shape == shape or not trial.dated, f"pixels have the shape {found.pixels.shape}, not {shape}")
    expect(not found.missing_bands, f"bands that it was asked for are missing: {found.missing_bands}")
    expect(found.valid.any(), "no pixel is valid; choose a place and a time where it has imagery")
    seen = found.pixels[np.broadcast_to(found.valid[:, None], found.pixels.shape)]
    expect(np.isfinite(seen).all(), "valid pixels are not finite")
    clear, total = found.observations
    expect(0 <= clear <= total, f"{clear} of {total} observations are clear")
    expect(len(found.scenes) == len(found.times), f"{len(found.scenes)} lists of scenes for {len(found.times)} frames")
    for interval, time, scenes in zip(
        request.intervals if trial.dated else (), found.times, found.scenes, strict=False
    ):
        start, end = (np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "s") for moment in interval)
        expect(start <= time < end, f"the frame of {start} to {end} is dated {time}")
        for scene in scenes:
            expect("/" not in str(scene["id"]), f"the id of scene {scene['id']!r} is a path")
            moment = datetime.fromisoformat(str(scene["datetime"]))
            expect(interval[0] <= moment < interval[1], f"scene {scene['id']} of {moment} is not of its interval")


def _units(trial: ProviderTrial) -> None:
    """Values are in the sensor's units, and what is missing is no zero."""
    found = trial.whole
    pixels = np.moveaxis(found.pixels, 1, 0)[:, found.valid]  # (C, n)
    zeros = int((~pixels.any(axis=0)).sum())
    expect(zeros == 0, f"{zeros} valid pixels are zero in all bands: missing ones must be valid=False")
    middle = float(np.median(pixels))
    if trial.sensor.kind == "radar":
        said = f"the median is {middle:.3g}: {trial.sensor.units} is wanted, linear power in SceneProvider.read"
        expect(-60 < middle < 20 and (pixels < 0).any(), said)
    elif "10000" in trial.sensor.units:
        expect(2 < middle < 20_000, f"the median is {middle:.3g}, and {trial.sensor.units} is wanted")


def _parts(trial: ProviderTrial) -> None:
    """A part equals the crop of the whole to the bit, whatever the composite."""
    lattice, rects = trial.lattice, trial.parts
    for composite in ("median", "mean", "mosaic", "none"):
        request = replace(trial.request, composite=composite)
        whole = trial.load(composite=composite)
        parts = list(trial.provider.load(request, [crop(lattice, rect) for rect in rects]))
        expect(len(parts) == len(rects), f"load yields {len(parts)} stacks for {len(rects)} parts")
        for rect, part in zip(rects, parts, strict=True):
            cut = _cut(whole, rect, crop(lattice, rect))
            expect(part.geobox == cut.geobox, f"a part of the lattice is answered on another: {part.geobox}")
            expect(same_pixels(part, cut), f"{rect} is not the crop of the whole ({composite})")
            same = np.array_equal(part.times, whole.times) and part.missing_bands == whole.missing_bands
            expect(same, f"dates or missing bands of a part are not those of the whole ({composite})")


def _again(trial: ProviderTrial) -> None:
    """Loading again gives the same, with the same scenes."""
    one, other = trial.whole, trial.load()
    expect(same_pixels(one, other), "loading again gives other pixels")
    expect(one.scenes == other.scenes and one.observations == other.observations, "loading again gives other scenes")


def _threads(trial: ProviderTrial) -> None:
    """Loads at the same time do not disturb each other: the engine runs sixteen."""
    geoboxes = [crop(trial.lattice, rect) for rect in trial.parts] * 4
    serial = [trial.load(part) for part in geoboxes[: len(trial.parts)]] * 4
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(trial.load, geoboxes))
    wrong = sum(not same_pixels(a, b) for a, b in zip(serial, found, strict=True))
    expect(wrong == 0, f"{wrong} of {len(found)} parts that were loaded at the same time have other pixels")


def _bands(trial: ProviderTrial) -> None:
    """Bands come in the order in which they are asked for."""
    bands = trial.request.bands
    if len(bands) == 1:
        raise Skip("one band was asked for")
    turned = trial.load(bands=bands[::-1])
    expect(same_pixels(replace(turned, pixels=turned.pixels[:, ::-1]), trial.whole), "bands come in another order")


def _missing_band(trial: ProviderTrial) -> None:
    """A band that no scene has is told, and alone it is an error that names it."""
    others = [band.name for band in trial.sensor.bands if not band.classes and band.name not in trial.request.bands]
    for absent in others:
        try:
            found = trial.load(bands=(trial.request.bands[0], absent))
        except ProviderError as error:
            raise AssertionError(f"a band that is missing beside another is an error: {error}") from error
        if not found.missing_bands:
            there = found.pixels[:, 1][found.valid]
            expect(there.any() or not there.size, f"band {absent} is said to be there, and is zero everywhere")
            continue
        expect(found.missing_bands == (absent,), f"missing is {absent}, told is {found.missing_bands}")
        expect(same_pixels(_first(found), trial.load(bands=trial.request.bands[:1])), "a missing band changes another")
        _raises(lambda band=absent: trial.load(bands=(band,)), ProviderError, absent)  # type: ignore[misc]
        return
    raise Skip("it has every band of the sensor")


def _first(stack: ImageStack) -> ImageStack:
    return replace(stack, pixels=stack.pixels[:, :1], missing_bands=())


def _raises(call: Callable[[], object], kind: type[Exception], *words: str) -> None:
    """Raise `AssertionError` unless the call raises that kind, with these words."""
    try:
        call()
    except kind as error:
        unsaid = [word for word in words if word not in str(error)]
        expect(not unsaid, f"the {kind.__name__} {str(error)!r} does not say {', '.join(unsaid)}")
        return
    raise AssertionError(f"there is an answer where a {kind.__name__} was due")


def _no_scene(trial: ProviderTrial) -> None:
    """A window without a scene is an error that names sensor and date."""
    empty = trial.empty()
    day = f"{empty[0]:%Y-%m-%d}"
    _raises(lambda: trial.load(intervals=(empty,)), NoImageryError, trial.request.sensor, day, "nearest dates")


def _empty_frame(trial: ProviderTrial) -> None:
    """An interval without a scene beside one with some is a frame without a valid pixel."""
    found = trial.load(intervals=(trial.request.intervals[0], trial.empty()))
    expect(len(found.times) == 2, f"two intervals give {len(found.times)} frames")
    expect(not found.valid[1].any() and not found.scenes[1], "an interval without a scene has valid pixels or scenes")
    expect(same_pixels(_frame(found, 0), trial.whole), "another interval changes the first one's frame")


def _frame(stack: ImageStack, index: int) -> ImageStack:
    cut = slice(index, index + 1)
    return replace(stack, pixels=stack.pixels[cut], valid=stack.valid[cut], times=stack.times[cut])


def _elsewhere(trial: ProviderTrial) -> None:
    """Where it has nothing, there is an error or no valid pixel."""
    if trial.elsewhere is None:
        raise Skip("no place without imagery was named (elsewhere=...)")
    request = trial.elsewhere
    assert request.geobox is not None
    try:
        (found,) = trial.provider.load(request, [request.geobox])
    except NoImageryError:
        return
    expect(not found.valid.any(), "it has valid pixels where it should have nothing")


def _other_sensor(trial: ProviderTrial) -> None:
    """A sensor that it does not offer is refused."""
    others = [sensor for sensor in SENSORS.values() if not trial.provider.offers(sensor.id)]
    if not others:
        raise Skip("it offers every sensor")
    bands = (others[0].bands[0].name,)
    _raises(lambda: trial.load(sensor=others[0].id, bands=bands, mask=None), ProviderError, others[0].id)


PROVIDER_CHECKS: Mapping[str, Callable[[ProviderTrial], None]] = {
    "offers": _offers,
    "stack": _stack,
    "units": _units,
    "parts": _parts,
    "again": _again,
    "threads": _threads,
    "order of bands": _bands,
    "missing band": _missing_band,
    "no scene": _no_scene,
    "empty frame": _empty_frame,
    "elsewhere": _elsewhere,
    "other sensor": _other_sensor,
}
"""Every check by name, in the order in which they run."""


def check_provider(
    provider: str | Path | Provider,
    *,
    spatial: SpatialSpec,
    temporal: TemporalSpec | None,
    sensor: str = "sentinel-2-l2a",
    bands: Sequence[str] | None = None,
    scale_m: float | None = None,
    elsewhere: SpatialSpec | None = None,
    raises: bool = True,
) -> Report:
    """Run the contract that every provider of the library passes.

    Parameters
    ----------
    provider
        A `Provider`, or what ``backend=`` takes.
    spatial, temporal
        Where and when it has imagery; ``temporal=None``: its imagery has no date.
    sensor, bands
        What to ask for; ``bands=None``: the first three of the sensor's default ones.
    scale_m
        Pixel size; ``None``: the sensor's own.
    elsewhere
        A place where it has no imagery, if there is one.
    raises
        Whether a failed check is an error, or only stands in the report.

    Returns
    -------
    Report
        Every check: passed, failed with what is wrong, or skipped with why.

    Raises
    ------
    ContractError
        If a check failed; an `AssertionError` that lists all of them.
    RSEmbedError
        If the call itself is wrong: an unknown sensor, band or backend.
    """
    known = find_sensor(sensor)
    if temporal is not None and not isinstance(temporal, TemporalSpec):
        raise SpecError(f"temporal={temporal!r} must be a TemporalSpec, or None for imagery without a date")
    intervals = () if temporal is None else (temporal.interval,)
    names = canonical_bands(known, bands or known.default_bands[:3])

    def request(place: SpatialSpec) -> ImageRequest:
        region = locate(norm_spatial(place))
        lattice = region.lattice(float(scale_m or known.gsd), known.offset)
        geobox = lattice.geobox(lattice.cover(region.shape.bounds))
        return ImageRequest(known.id, names, region.footprint, geobox, intervals, mask=known.mask)

    made = open_provider(provider)
    other = None if elsewhere is None else request(elsewhere)
    trial = ProviderTrial(made, request(spatial), temporal is not None, other)
    return run_checks(f"provider {made.name}", PROVIDER_CHECKS, trial, raises=raises)
