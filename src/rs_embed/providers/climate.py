"""The painted landscape's relief and weather: elevation, slope, monthly temperature and precipitation.

Numbers of a plausible size that go with the landscape: its lakes are flat, and it is colder uphill and in winter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date

import numpy as np
from numpy.typing import NDArray

from rs_embed.providers.landscape import SHORE, height, turned
from rs_embed.providers.noise import EARTH, Lattice, sphere

__all__ = ["RELIEF", "WEATHER", "relief", "weather"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

RELIEF = ("elevation", "slope")
WEATHER = ("temperature_2m", "total_precipitation")

_METRES = np.float32(400)
"""Of a unit of the noise."""
_STEP = 30.0
"""Metres over which a slope is taken: a pixel of a global elevation model."""
_LAPSE = 0.0065
"""Kelvins a metre (ICAO standard atmosphere)."""
_WIDE = 51200.0


def _elevation(points: Floats) -> Singles:
    return (np.maximum(height(points), SHORE) - SHORE) * _METRES


def relief(lon: Floats, lat: Floats, bands: Sequence[str] = RELIEF) -> Singles:
    """Return ``(bands, N)``: metres above the lakes, and degrees of slope, at points given in degrees."""
    up, east, north = (turned(vectors) for vectors in sphere(lon, lat))
    here = _elevation(up * EARTH)
    found = {"elevation": here}
    if "slope" in bands:
        rise = [(_elevation(up * EARTH + way * _STEP) - here) / np.float32(_STEP) for way in (east, north)]
        tangent = np.sqrt(rise[0] * rise[0] + rise[1] * rise[1])
        # atan x = x / (1 + 0.28125 x²) to 0.005: the library's own may round an element by its place in the array
        angle = tangent / (np.float32(1) + np.float32(0.28125) * tangent * tangent)
        found["slope"] = angle * np.float32(180 / math.pi)
    return np.stack([found[band] for band in bands])


def weather(lon: Floats, lat: Floats, day: date, bands: Sequence[str] = WEATHER) -> Singles:
    """Return ``(bands, N)``: kelvins, and metres of rain, of the month of ``day`` at points given in degrees."""
    points = turned(sphere(lon, lat)[0]) * EARTH
    lattice, month = Lattice(points, _WIDE), 12 * day.year + day.month
    found = {}
    if "temperature_2m" in bands:
        summer = math.cos(2 * math.pi * (day.month - 7) / 12)  # 1 in July, -1 in January
        warmth = 300.0 - 0.0085 * lat * lat + 0.22 * summer * lat - _LAPSE * _elevation(points)
        found["temperature_2m"] = (warmth + 1.5 * lattice.noise(1000 + month)).astype(np.float32)
    if "total_precipitation" in bands:
        found["total_precipitation"] = np.float32(0.07) * (1 + np.float32(0.8) * lattice.noise(2000 + month))
    return np.stack([found[band] for band in bands])
