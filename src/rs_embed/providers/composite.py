"""How the pixels of the chosen scenes become frames.

The order of things: scenes of one pass of the satellite are fused (adjacent tiles, the first that has data wins), the
fused pass is masked, the clear passes of an interval are reduced pixel by pixel, and decibels come last.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rs_embed.core.imagery import ImageRequest, ImageStack, Scene
from rs_embed.core.sensors import SENSORS, Sensor
from rs_embed.providers.ahead import PASSES, ahead
from rs_embed.providers.masks import MASKS
from rs_embed.providers.selection import ALWAYS, Chosen, Frame, Group, SceneSource, select_scenes
from rs_embed.providers.shelf import Shelf, Shelved

__all__ = ["ALWAYS", "Chosen", "Frame", "SceneSource", "compose", "median", "select_scenes"]

_MEMORY = 128 * 2**20
"""Bytes of the pixels held at once by `compose`; as many are read ahead."""
_DISK = 2 * 2**30
"""Bytes of the pixels that wait on disk, where reading the same tiles again would cost more than that."""
_FEW = 2**18
"""Values of all passes up to which bands are reduced at once: a copy of them then hardly counts."""
_NETWORK = 24
"""Passes up to which a network of comparisons sorts faster than numpy."""

Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Reader:
    """What is the same for all passes of a request."""

    provider: SceneSource
    request: ImageRequest
    sensor: Sensor
    bands: tuple[str, ...]


@dataclass(frozen=True)
class _Look:
    """The clear pixels of one pass, or of several that fill each other's gaps."""

    pixels: Pixels | Shelved
    """``(C, h, w)``, NaN where not clear."""
    used: Group
    """Scenes that the pixels come from."""
    clear: int
    total: int


@dataclass(frozen=True)
class _Strip:
    """Rows of a frame: what is held at once."""

    frame: int
    top: int
    geobox: GeoBox
    calls: tuple[Callable[[], _Look], ...]
    chunk: int
    """Rows that are reduced at once."""
    row_bytes: int
    """Of one call."""
    shelf: Shelf | None
    """Where the passes wait that memory should not hold."""


def compose(provider: SceneSource, request: ImageRequest, chosen: Chosen, part: GeoBox) -> ImageStack:
    """Read the chosen scenes on ``part`` and reduce them to frames.

    Works in bands of rows, so that memory stays bounded whatever the part's size; every step is pixel by pixel, so
    that neither the bands nor the part change a bit. Where a provider waits for a network, passes are read ahead.

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
    height, width = part.shape
    pixels = np.zeros((len(chosen.frames), len(request.bands), height, width), np.float32)
    valid = np.zeros((len(chosen.frames), height, width), bool)
    present = [i for i, band in enumerate(request.bands) if band not in chosen.missing_bands]
    reader = _Reader(provider, request, SENSORS[request.sensor], tuple(request.bands[i] for i in present))
    clear = total = 0
    used: list[dict[str, Scene]] = [{} for _ in chosen.frames]
    strips = [strip for t, frame in enumerate(chosen.frames) for strip in _strips(reader, t, frame, part)]
    with closing(_looks(provider, strips)) as found:
        for strip in strips:
            looks = [next(found) for _ in strip.calls]
            for look in looks:
                clear, total = clear + look.clear, total + look.total
                used[strip.frame] |= {scene.id: scene for scene in look.used}
            for top in range(0, strip.geobox.shape[0], strip.chunk):
                rows = slice(top, min(top + strip.chunk, strip.geobox.shape[0]))
                values = _reduce(request.composite, looks, rows)
                if reader.sensor.kind == "radar":
                    values = _decibel(values)
                known = np.isfinite(values).all(axis=0)
                place = slice(strip.top + rows.start, strip.top + rows.stop)
                pixels[strip.frame, present, place] = np.where(known, values, 0)
                valid[strip.frame, place] = known
            if strip.shelf is not None:
                strip.shelf.close()
            del looks
    scenes = tuple(
        tuple(_say(s, request, reader.sensor) for s in sorted(each.values(), key=lambda s: (s.time, s.id)))
        for each in used
    )
    times = np.array([frame.time for frame in chosen.frames], "datetime64[s]")
    return ImageStack(pixels, valid, times, part, chosen.missing_bands, scenes, (clear, total), notes=chosen.notes)


def _looks(provider: SceneSource, strips: Sequence[_Strip]) -> Generator[_Look]:
    """What the strips' calls return, in order: read ahead where reading is waiting, else one by one."""
    if not provider.waits:
        for strip in strips:
            for call in strip.calls:
                yield call()
        return
    largest = max((strip.row_bytes * strip.geobox.shape[0] for strip in strips), default=1)
    calls = (call for strip in strips for call in strip.calls)
    yield from ahead(PASSES, calls, most=max(2, min(2 * PASSES.count, _MEMORY // largest)))


def _strips(reader: _Reader, number: int, frame: Frame, part: GeoBox) -> Iterator[_Strip]:
    """Cut a frame into strips whose passes fit into memory, or onto the disk where tiles would be fetched twice."""
    height, width = part.shape
    one_by_one = reader.request.composite == "mosaic"
    passes = 1 if one_by_one else len(frame.groups)
    of_pass = 4 * (len(reader.bands) + 1) * width
    rows, waits = _rows(passes * of_pass), reader.provider.waits
    if waits:
        rows = max(rows, min(_rows(of_pass), _DISK // max(1, passes * of_pass)))
    chunk = _rows(4 * 4 * max(1, passes) * width) if waits else rows  # of one band: its copies and their sorting
    for top in range(0, height if frame.groups else 0, rows):
        strip = _strip(part, top, min(rows, height - top))
        crowded = waits and passes > 1 and passes * of_pass * strip.shape[0] > _MEMORY
        shelf = Shelf() if crowded else None
        looks = (
            [partial(_mosaic, reader, frame.groups, strip)]
            if one_by_one
            else [partial(_read_pass, reader, group, strip, shelf) for group in frame.groups]
        )
        yield _Strip(number, top, strip, tuple(looks), chunk, 2 * of_pass, shelf)


def _rows(row_bytes: int) -> int:
    """Rows whose pixels (and a copy of them) stay below the memory bound."""
    return max(1, _MEMORY // max(1, 2 * row_bytes))


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


def _fuse(reader: _Reader, group: Group, strip: GeoBox) -> tuple[Pixels, NDArray[np.int16], Mask]:
    """The tiles of a pass as one: pixels, which scene each is from (-1: none), and where they are clear."""
    bands, mask_band = reader.bands, reader.sensor.mask_band
    pixels = np.full((len(bands), *strip.shape), np.nan, np.float32)
    owner = np.full(strip.shape, -1, np.int16)
    clear = np.ones(strip.shape, bool)
    for number, scene in enumerate(group):
        if not set(bands) <= scene.bands:
            continue  # an observation is all bands of one moment
        mask = reader.request.mask if mask_band in scene.bands else None
        read = reader.provider.read(scene, [*bands, mask_band] if mask and mask_band else [*bands], strip)
        take = (owner < 0) & np.isfinite(read[: len(bands)]).all(axis=0)
        if not take.any():
            continue
        if take.all():
            pixels = read[: len(bands)].astype(np.float32, copy=False)
        else:
            np.copyto(pixels, read[: len(bands)], where=take)
        np.copyto(owner, number, where=take)
        if mask:
            np.copyto(clear, MASKS[mask](read[-1]), where=take)
        if (owner >= 0).all():
            break
    return pixels, owner, clear


def _read_pass(reader: _Reader, group: Group, strip: GeoBox, shelf: Shelf | None) -> _Look:
    """Fuse the tiles of a pass, then mask it."""
    pixels, owner, clear = _fuse(reader, group, strip)
    have = owner >= 0
    usable = have & clear
    pixels = pixels - np.where(usable, np.float32(0), np.float32(np.nan))  # no bit of a usable pixel changes
    kept = pixels if shelf is None else shelf.put(pixels)
    return _Look(kept, _owners(group, owner[usable]), int(usable.sum()), int(have.sum()))


def _owners(group: Group, numbers: NDArray[np.int16]) -> Group:
    return tuple(group[int(number)] for number in np.unique(numbers))


def _mosaic(reader: _Reader, groups: Sequence[Group], strip: GeoBox) -> _Look:
    """Fill the pixels pass after pass, and read no more once all are filled.

    A pixel counts as observed until it is filled, so that the counts do not depend on the strip.
    """
    out = np.full((len(reader.bands), *strip.shape), np.nan, np.float32)
    left = np.ones(strip.shape, bool)
    used: list[Scene] = []
    clear_total = total = 0
    for group in groups:
        pixels, owner, clear = _fuse(reader, group, strip)
        have = (owner >= 0) & left
        take = have & clear
        np.copyto(out, pixels, where=take)
        left &= ~take
        used += _owners(group, owner[take])
        clear_total, total = clear_total + int(take.sum()), total + int(have.sum())
        if not left.any():
            break
    return _Look(out, tuple(used), clear_total, total)


def _reduce(composite: str, looks: list[_Look], rows: slice) -> Pixels:
    """Reduce rows of all passes to one frame ``(C, h, w)``, NaN where there is none."""
    if len(looks) == 1:
        return looks[0].pixels[:, rows]
    function = {"median": median, "mean": _mean}[composite]
    channels, _, width = looks[0].pixels.shape
    if len(looks) * channels * (rows.stop - rows.start) * width <= _FEW:
        stack = [look.pixels[:, rows] for look in looks]
        return function(stack, _count([values[0] for values in stack]))
    out, count = list[Pixels](), None
    for channel in range(channels):
        values = [look.pixels[channel, rows] for look in looks]
        count = _count(values) if count is None else count
        out.append(function(values, count))
    return np.stack(out)


def _count(values: Sequence[Pixels]) -> NDArray[np.int32]:
    """How many of the arrays have data at each pixel; a pass has all bands of a pixel or none."""
    return sum((~np.isnan(one) for one in values), np.zeros(values[0].shape, np.int32))


def median(values: Sequence[Pixels], count: NDArray[np.int32] | None = None) -> Pixels:
    """Return the median of each pixel, the mean of the middle two where their number is even.

    Parameters
    ----------
    values
        Arrays of one shape, NaN where there is no data.
    count
        How many are not NaN, where that is known; broadcast to their shape.
    """
    stack = _sorted(np.stack(values))
    n: NDArray[np.int32] = (~np.isnan(stack)).sum(axis=0, dtype=np.int32) if count is None else count
    places = np.broadcast_to(n, stack.shape[1:])[None]
    low: Pixels = np.take_along_axis(stack, np.maximum(places - 1, 0) // 2, axis=0)[0]
    high: Pixels = np.take_along_axis(stack, places // 2, axis=0)[0]
    middle: Pixels = (low + high) * np.float32(0.5)
    return middle


def _sorted(stack: Pixels) -> Pixels:
    """Sort along the first axis in place, NaN last: few arrays by comparing whole ones, ten times as fast as numpy."""
    if len(stack) > _NETWORK:
        stack.sort(axis=0)
        return stack
    spare = np.empty_like(stack[0])
    for low, high in _comparators(len(stack)):
        np.fmin(stack[low], stack[high], out=spare)
        np.maximum(stack[low], stack[high], out=stack[high])  # NaN where either is
        stack[low] = spare
    return stack


@lru_cache(maxsize=_NETWORK)
def _comparators(count: int) -> tuple[tuple[int, int], ...]:
    """Pairs to put in order, one after the other, so that ``count`` values are sorted: Batcher's odd-even merges.

    K. E. Batcher, Sorting networks and their applications, AFIPS 1968; any ``count`` as in Knuth, TAOCP 3, 5.2.2, M.
    """
    pairs, half = [], 1
    while half < count:
        step = half
        while step:
            starts = range(step % half, count - step, 2 * step)
            merged = ((start + i, start + i + step) for start in starts for i in range(min(step, count - start - step)))
            pairs += [(a, b) for a, b in merged if a // (2 * half) == b // (2 * half)]
            step //= 2
        half *= 2
    return tuple(pairs)


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
