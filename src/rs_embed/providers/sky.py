"""What hides the painted landscape from a satellite: clouds, their shadows, and the edges of a swath."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rs_embed.providers.landscape import turned
from rs_embed.providers.noise import EARTH, FEW, Lattice, fraction, mix, smooth, sphere

__all__ = [
    "CIRRUS",
    "CLOUD_HIGH",
    "CLOUD_MEDIUM",
    "SHADOW",
    "Above",
    "Sky",
    "centre",
    "cloudiness",
    "look_up",
    "outside_swath",
    "sky",
]

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


class Above:
    """The lattices of noise over points, which the skies of all days share."""

    def __init__(self, points: Floats) -> None:
        self.points = points
        self._lattices: dict[float, Lattice] = {}

    def noise(self, wavelength: float, seed: int) -> Singles:
        """Return noise in [-1, 1] at the points."""
        if wavelength not in self._lattices:
            lattice = Lattice(self.points, wavelength)
            if self.points.shape[1] > FEW:
                return lattice.noise(seed)
            self._lattices[wavelength] = lattice
        return self._lattices[wavelength].noise(seed)


def _puffs(above: Above, day: date) -> Singles:
    total = np.zeros(above.points.shape[1], np.float32)
    for number, (wavelength, weight) in enumerate(_PUFFS.items()):
        total += above.noise(wavelength, day.toordinal() * 16 + number) * np.float32(weight)
    return total


@lru_cache(maxsize=1)
def _thresholds() -> Singles:
    """Return what a share of 0, 1/64, ... 1 of the sky exceeds, and the sentinel of a free sky."""
    keys = np.arange(1 << 15, dtype=np.int32)
    points = np.stack([fraction(mix(61 + axis, keys)).astype(np.float64) for axis in range(3)]) * 6e6
    ordered = np.sort(_puffs(Above(points), date(2000, 1, 1)))[::-1]
    places = np.arange(_STEPS + 1) * (len(keys) - 1) // _STEPS
    return np.concatenate([ordered[places], [np.float32(-9)]]).astype(np.float32)


def cloudiness(points: Floats, day: date) -> Singles:
    """Return the share of sky that is covered around points ``(3, N)`` on a day: often 0, sometimes 1."""
    return _cloudiness(Above(points), day)


def _cloudiness(above: Above, day: date) -> Singles:
    weather = above.noise(_WEATHER, day.toordinal() * 16 + 7)
    return smooth(weather + np.float32(0.12), -0.2, 0.6)


def _thickness(above: Above, share: Singles, day: date) -> Singles:
    """Return by how much the puffs exceed what the weather lets show; not positive where the sky is free."""
    if not share.any():
        return np.full(share.shape, np.float32(-1))
    table = _thresholds()
    at = share * np.float32(_STEPS)
    step = at.astype(np.intp)
    low, high = table.take(step), table.take(step + 1)
    excess = _puffs(above, day) - (low + (high - low) * (at - step.astype(np.float32)))
    return np.where(share > 0, excess, np.float32(-1))


def _veil(above: Above, count: int, day: date) -> Singles:
    """Return the thickness of high clouds at the first ``count`` points."""
    number = day.toordinal() * 16
    veil = above.noise(9000.0, number + 8) + above.noise(2200.0, number + 9) * np.float32(0.4)
    return veil[:count]


def look_up(points: Floats, lon: Floats, lat: Floats) -> Above:
    """Return what `sky` needs of points, whatever the day: they themselves, then the points sunward of them.

    Parameters
    ----------
    points
        ``(3, N)`` metres from the Earth's centre, in the frame of the noise.
    lon, lat
        ``(N,)`` degrees of the same points.
    """
    _, east, north = sphere(lon, lat)
    # The morning sun stands in the south-east of the north and in the north-east of the south.
    lean = np.clip(lat * 0.1, -1.0, 1.0)
    sunward = points + turned(east * 0.6 - north * (0.8 * lean)) * _REACH
    return Above(np.concatenate([points, sunward], axis=1))


def sky(above: Above, day: date) -> Sky:
    """Return the sky over N points on a day."""
    count = above.points.shape[1] // 2
    share = _cloudiness(above, day)
    thick, sunward = np.split(_thickness(above, share, day), [count])
    cloud = np.where(thick > 0, np.float32(0.4) + np.float32(0.58) * smooth(thick, 0.0, 0.3), np.float32(0))
    grade = np.where(cloud > np.float32(0.7), np.uint8(CLOUD_HIGH), np.uint8(CLOUD_MEDIUM))
    scl = np.where(cloud > 0, grade, np.uint8(0))
    thin = (share[:count] > np.float32(0.05)) & (thick <= 0)
    if thin.any():
        veil = _veil(above, count, day)
        thin &= veil > np.float32(0.62)
        cloud = np.where(thin, np.float32(0.12) + np.float32(0.25) * smooth(veil, 0.62, 1.0), cloud)
    shadow = (sunward > 0) & (cloud == 0)
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
