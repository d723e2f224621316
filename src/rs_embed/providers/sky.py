"""What hides the painted landscape from a satellite: clouds, their shadows, and the edges of a swath."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rs_embed.providers.landscape import turned
from rs_embed.providers.noise import EARTH, Lattice, fraction, mix, smooth, sphere

__all__ = ["CIRRUS", "CLOUD_HIGH", "CLOUD_MEDIUM", "SHADOW", "Sky", "centre", "cloudiness", "outside_swath", "sky"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

SHADOW, CLOUD_MEDIUM, CLOUD_HIGH, CIRRUS = 3, 8, 9, 10
"""Classes of Sentinel-2's scene classification (SCL)."""

_WEATHER = 700_000.0
"""Extent of fair and of overcast weather, metres."""
_PUFFS = {12800: 1.0, 6400: 0.6, 3200: 0.4, 1600: 0.28, 800: 0.15, 400: 0.09}
_REACH = 1300.0
"""How far from its cloud a shadow falls, metres: clouds at about 1.5 km, the sun at about 50 degrees."""
_STEPS = 64


@dataclass(frozen=True, eq=False)
class Sky:
    """What is between N points and the satellite."""

    cloud: Singles
    """Opacity of the cloud, 0 (none) to 1."""
    shadow: NDArray[np.bool_]
    scl: NDArray[np.uint8]
    """`SHADOW`, `CLOUD_MEDIUM`, `CLOUD_HIGH`, `CIRRUS`, or 0 where the view is free."""


def _puffs(points: Floats, day: date) -> Singles:
    total = np.zeros(points.shape[1], np.float32)
    for number, (wavelength, weight) in enumerate(_PUFFS.items()):
        total += Lattice(points, wavelength).noise(day.toordinal() * 16 + number) * np.float32(weight)
    return total


@lru_cache(maxsize=1)
def _thresholds() -> Singles:
    """Return what a share of 0, 1/64, ... 1 of the sky exceeds, and the sentinel of a free sky."""
    keys = np.arange(1 << 15, dtype=np.int32)
    points = np.stack([fraction(mix(61 + axis, keys)).astype(np.float64) for axis in range(3)]) * 6e6
    ordered = np.sort(_puffs(points, date(2000, 1, 1)))[::-1]
    places = np.arange(_STEPS + 1) * (len(keys) - 1) // _STEPS
    return np.concatenate([ordered[places], [np.float32(-9)]]).astype(np.float32)


def cloudiness(points: Floats, day: date) -> Singles:
    """Return the share of sky that is covered around points ``(3, N)`` on a day: often 0, sometimes 1."""
    weather = Lattice(points, _WEATHER).noise(day.toordinal() * 16 + 7)
    return smooth(weather + np.float32(0.12), -0.2, 0.6)


def _thickness(points: Floats, day: date) -> Singles:
    """Return by how much the puffs exceed what the weather lets show; not positive where the sky is free."""
    share = cloudiness(points, day)
    if not share.any():
        return np.full(share.shape, np.float32(-1))
    table = _thresholds()
    at = share * np.float32(_STEPS)
    step = at.astype(np.intp)
    low, high = table.take(step), table.take(step + 1)
    excess = _puffs(points, day) - (low + (high - low) * (at - step.astype(np.float32)))
    return np.where(share > 0, excess, np.float32(-1))


def sky(points: Floats, lon: Floats, lat: Floats, day: date) -> Sky:
    """Return the sky over points on a day.

    Parameters
    ----------
    points
        ``(3, N)`` metres from the Earth's centre, in the frame of the noise.
    lon, lat
        ``(N,)`` degrees of the same points.
    """
    thick = _thickness(points, day)
    cloud = np.where(thick > 0, np.float32(0.4) + np.float32(0.58) * smooth(thick, 0.0, 0.3), np.float32(0))
    number = day.toordinal() * 16
    veil = Lattice(points, 9000.0).noise(number + 8) + Lattice(points, 2200.0).noise(number + 9) * np.float32(0.4)
    thin = (veil > np.float32(0.62)) & (thick <= 0) & (cloudiness(points, day) > np.float32(0.05))
    grade = np.where(cloud > np.float32(0.7), np.uint8(CLOUD_HIGH), np.uint8(CLOUD_MEDIUM))
    scl = np.where(cloud > 0, grade, np.uint8(0))
    cloud = np.where(thin, np.float32(0.12) + np.float32(0.25) * smooth(veil, 0.62, 1.0), cloud)
    _, east, north = sphere(lon, lat)
    # The morning sun stands in the south-east of the north and in the north-east of the south.
    lean = np.clip(lat * 0.1, -1.0, 1.0)
    sunward = points + turned(east * 0.6 - north * (0.8 * lean)) * _REACH
    shadow = (_thickness(sunward, day) > 0) & (cloud == 0)
    scl = np.where(thin, np.uint8(CIRRUS), np.where(shadow, np.uint8(SHADOW), scl))
    return Sky(cloud, shadow, scl)


def outside_swath(points: Floats, day: date) -> NDArray[np.bool_]:
    """Return which points lie outside what was recorded on a day: stripes, in a third of the days."""
    key = np.full(1, day.toordinal(), np.int32)
    if mix(71, key)[0] % 3:
        return np.zeros(points.shape[1], bool)
    lean = [float(fraction(mix(72 + axis, key))[0]) - 0.5 for axis in range(3)]
    pace = 1 / (40_000.0 * (lean[0] ** 2 + lean[1] ** 2 + lean[2] ** 2) ** 0.5)
    along = (lean[0] * points[0] + lean[1] * points[1] + lean[2] * points[2]) * pace
    outside: NDArray[np.bool_] = along - np.floor(along) < 0.12
    return outside


def centre(lon: float, lat: float) -> Floats:
    """Return the point ``(3, 1)`` at degrees, in metres from the Earth's centre, in the frame of the noise."""
    up, _, _ = sphere(np.array([lon]), np.array([lat]))
    return turned(up) * EARTH
