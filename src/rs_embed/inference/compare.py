"""The same imagery from two backends, band by band: how far it differs, and what the difference looks like."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rs_embed.core.errors import ProviderError, SpecError
from rs_embed.core.imagery import ImageRequest, ImageStack, geobox_dict
from rs_embed.core.sensors import SENSORS, Sensor
from rs_embed.inference.provenance import plain
from rs_embed.providers.base import Provider

__all__ = ["BandDifference", "Comparison", "compare_providers"]

TOLERANCES = {"reflectance * 10000": 1.0, "dB": 0.01}
"""Differences that mean nothing, by the sensor's units: rounding. Of other units `TOLERANCE`."""
TOLERANCE = 1e-3
VALID_TOLERANCE = 0.01
"""Share of the pixels that may be valid in one of the two only."""

_FEW = 16
"""Pixels below which a difference has no pattern."""
_PURE = 0.02
"""How far pixels may stray from an offset or a factor, as a share of it, for it to be named."""
_BASELINE = (980.0, 1020.0)
"""An offset that is the one of Sentinel-2 products from processing baseline 04.00 on: 1000."""
_REACH = 2.0
_STEP = 0.5
"""Shifts that are tried, pixels."""
_SAME_SCENE = timedelta(minutes=10)
"""Services tell the same acquisition by the start of a datatake, of a granule or its middle."""

Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class BandDifference:
    """One band of two backends, over the pixels that are valid in both; B - A throughout."""

    band: str
    ok: bool
    valid_in_both: float
    """Share of all pixels."""
    mean_a: float | None
    mean_b: float | None
    mean_difference: float | None
    median_absolute: float | None
    p99_absolute: float | None
    correlation: float | None
    """None where one of the two is constant."""
    hint: str | None
    """What B looks like: A with an offset, a factor, or lacking the band."""


@dataclass(frozen=True)
class Comparison:
    """Two backends' answers to one request."""

    ok: bool
    verdict: str
    """One line."""
    backend_a: str
    backend_b: str
    sensor: str
    tolerance: float
    """In the sensor's units, for 99 % of the pixels."""
    valid_tolerance: float
    bands: tuple[BandDifference, ...]
    valid_a: float
    """Share of the pixels that are valid in A."""
    valid_b: float
    valid_differs: float
    """Share of the pixels that are valid in one of the two only."""
    scenes_a: tuple[Mapping[str, Any], ...]
    scenes_b: tuple[Mapping[str, Any], ...]
    only_a: tuple[str, ...]
    """Moments of acquisition that only A has."""
    only_b: tuple[str, ...]
    notes_a: tuple[str, ...]
    """What A said of how its pixels came about, such as which services were asked before."""
    notes_b: tuple[str, ...]
    shift_px: tuple[float, float] | None
    """Rows and columns that A has to be moved down and to the right to look like B; None: no shift explains it."""
    geobox: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON types."""
        found: dict[str, Any] = plain(asdict(self))
        return found


def compare_providers(
    a: Provider,
    b: Provider,
    request: ImageRequest,
    geobox: GeoBox,
    *,
    names: tuple[str, str],
    tolerance: float | None = None,
    valid_tolerance: float = VALID_TOLERANCE,
) -> Comparison:
    """Load a request of one frame from both and compare.

    Raises
    ------
    SpecError
        If a tolerance is negative.
    ProviderError
        If one of the two has no imagery or cannot be read; the message names which.
    """
    sensor = SENSORS[request.sensor]
    limit = TOLERANCES.get(sensor.units, TOLERANCE) if tolerance is None else float(tolerance)
    if not (limit >= 0 and valid_tolerance >= 0):
        raise SpecError(f"tolerance={tolerance!r} and valid_tolerance={valid_tolerance!r} must not be negative")
    one, two = (_load(each, name, request, geobox) for each, name in zip((a, b), names, strict=True))
    name_a, name_b = (_who(name, stack) for name, stack in zip(names, (one, two), strict=True))
    both, differs = one.valid[0] & two.valid[0], float((one.valid[0] ^ two.valid[0]).mean())
    bands = tuple(_band(i, name, one, two, both, limit, sensor) for i, name in enumerate(request.bands))
    scenes_a, scenes_b = (tuple(dict(scene) for scene in stack.scenes[0]) for stack in (one, two))
    only_a, only_b = _apart(scenes_a, scenes_b), _apart(scenes_b, scenes_a)
    shift = None if all(band.ok for band in bands) else _shift(one, two, bands)
    ok = all(band.ok for band in bands) and bool(both.any()) and differs <= valid_tolerance
    reasons = [
        *_date_reasons(only_a, only_b),
        *_band_reasons(bands, shift, abs(geobox.affine.a), limit),
        *([f"{differs:.1%} of the pixels are valid in one of the two only"] if differs > valid_tolerance else []),
    ]
    worst = max((band.p99_absolute or 0.0 for band in bands), default=0.0)
    same = f"the same: 99 % of the pixels of every band differ by at most {worst:.3g} (tolerance {limit:g})"
    return Comparison(
        ok,
        same if ok else f"different: {'; '.join(reasons)}",
        name_a,
        name_b,
        request.sensor,
        limit,
        float(valid_tolerance),
        bands,
        float(one.valid[0].mean()),
        float(two.valid[0].mean()),
        differs,
        scenes_a,
        scenes_b,
        only_a,
        only_b,
        one.notes,
        two.notes,
        shift,
        geobox_dict(geobox) or {},
    )


def _load(provider: Provider, name: str, request: ImageRequest, geobox: GeoBox) -> ImageStack:
    try:
        return next(iter(provider.load(request, [geobox])))
    except ProviderError as error:
        raise type(error)(f"backend {name!r}: {error}") from error


def _who(name: str, stack: ImageStack) -> str:
    return name if stack.origin is None else f"{name} ({stack.origin[0]})"


def _band(
    index: int, name: str, one: ImageStack, two: ImageStack, both: Mask, limit: float, sensor: Sensor
) -> BandDifference:
    """Compare one band."""
    share = float(both.mean())
    lacking = [side for side, stack in (("A", one), ("B", two)) if name in stack.missing_bands]
    if lacking or not both.any():
        hint = f"{' and '.join(lacking)} lacks the band" if lacking else "no pixel is valid in both"
        return BandDifference(name, False, share, *(None,) * 6, hint)
    a, b = (stack.pixels[0, index][both].astype(np.float64) for stack in (one, two))
    apart = np.abs(b - a)
    p99 = float(np.quantile(apart, 0.99))
    varied = len(a) > 1 and a.std() > 0 and b.std() > 0
    return BandDifference(
        name,
        p99 <= limit,
        share,
        float(a.mean()),
        float(b.mean()),
        float((b - a).mean()),
        float(np.median(apart)),
        p99,
        float(np.corrcoef(a, b)[0, 1]) if varied else None,
        None if p99 <= limit else _pattern(a, b, limit, sensor),
    )


def _pattern(a: NDArray[np.float64], b: NDArray[np.float64], limit: float, sensor: Sensor) -> str | None:
    """Say what B looks like: A with a constant added, or times a factor; None where neither is."""
    if sensor.kind == "optical":  # what an offset has brought below zero was cut off there
        lit = (a > 0) & (b > 0)
        a, b = a[lit], b[lit]
    if len(a) < _FEW:
        return None
    offset = float(np.median(b - a))
    if abs(offset) > limit and np.median(np.abs(b - a - offset)) <= max(limit, _PURE * abs(offset)):
        low, high = _BASELINE
        known = sensor.id.startswith("sentinel-2") and low <= abs(offset) <= high
        sign = "-" if offset < 0 else "+"
        return f"B looks like A {sign} {abs(offset):.4g}" + (": the baseline-04.00 offset" if known else "")
    middle = float(np.median(a))
    factor = float(np.median(b)) / middle if middle else 1.0
    if abs(factor - 1) > _PURE and np.median(np.abs(b - factor * a)) <= _PURE * abs(np.median(b)):
        return f"B looks like A x {factor:.4g}"
    return None


def _shift(one: ImageStack, two: ImageStack, bands: Sequence[BandDifference]) -> tuple[float, float] | None:
    """Return the shift in half pixels that halves the difference of the worst band at least, or None."""
    known = [(band.p99_absolute, i) for i, band in enumerate(bands) if band.p99_absolute is not None]
    margin = int(_REACH) + 1
    if not known or min(one.valid[0].shape) <= 2 * margin + 1:
        return None
    index = max(known)[1]
    a, b = (np.where(s.valid[0], s.pixels[0, index], np.nan).astype(np.float64) for s in (one, two))
    steps = np.arange(-_REACH, _REACH + _STEP / 2, _STEP)
    inner = b[margin:-margin, margin:-margin]
    found = {}
    for dy, dx in itertools.product(steps.tolist(), steps.tolist()):
        apart = np.abs(_moved(a, dy, dx, margin) - inner)
        apart = apart[np.isfinite(apart)]
        found[dy, dx] = float(np.median(apart)) if len(apart) >= _FEW else np.inf
    best = min(found, key=lambda at: (found[at], abs(at[0]) + abs(at[1])))
    return best if best != (0.0, 0.0) and found[best] < found[0.0, 0.0] / 2 else None


def _moved(a: NDArray[np.float64], dy: float, dx: float, margin: int) -> NDArray[np.float64]:
    """Return the inner part of ``a`` moved down and to the right, bilinear."""

    def part(array: NDArray[np.float64], by: float, axis: int) -> NDArray[np.float64]:
        length = array.shape[axis] - 2 * margin
        whole = int(np.floor(-by))
        share = -by - whole
        first = array.take(range(margin + whole, margin + whole + length), axis)
        if not share:
            return first
        second = array.take(range(margin + whole + 1, margin + whole + 1 + length), axis)
        return first * (1 - share) + second * share

    return part(part(a, dy, 0), dx, 1)


def _apart(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the moments of ``ours`` that none of ``theirs`` is near."""
    moments = [datetime.fromisoformat(str(scene["datetime"])) for scene in theirs]
    alone = []
    for scene in ours:
        own = datetime.fromisoformat(str(scene["datetime"]))
        if not any(abs(own - each) <= _SAME_SCENE for each in moments):
            alone.append(str(scene["datetime"]))
    return tuple(alone)


def _date_reasons(only_a: Sequence[str], only_b: Sequence[str]) -> list[str]:
    days = {side: sorted({moment[:10] for moment in only}) for side, only in (("A", only_a), ("B", only_b))}
    said = [
        f"only {side} has {', '.join(each[:5])}{' …' if len(each) > 5 else ''}" for side, each in days.items() if each
    ]
    return [f"the scenes are others ({' and '.join(said)})"] if said else []


def _band_reasons(
    bands: Sequence[BandDifference], shift: tuple[float, float] | None, size: float, limit: float
) -> list[str]:
    """Say what the bands differ by; what is the same for several is said once."""
    said: dict[str, list[str]] = {}
    for band in bands:
        if band.ok:
            continue
        far = None if band.p99_absolute is None else f"1 % of the pixels differ by more than {band.p99_absolute:.3g}"
        said.setdefault(band.hint or f"{far} (tolerance {limit:g})", []).append(band.band)
    reasons = [f"{', '.join(names)}: {what}" for what, names in said.items()]
    if shift is not None:
        down, right = shift
        reasons.insert(
            0,
            f"B looks like A moved by {down:+g} rows and {right:+g} columns ({down * size:+g} m, {right * size:+g} m)",
        )
    return reasons
