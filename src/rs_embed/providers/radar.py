"""The painted landscape as a radar sees it: linear power with speckle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rs_embed.providers.landscape import Ground, materials
from rs_embed.providers.noise import fraction, mix
from rs_embed.providers.spectra import BACKSCATTER, MATERIALS

__all__ = ["LOOKS", "POLARISATIONS", "backscatter"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

POLARISATIONS = ("VV", "VH")
LOOKS = 4
"""Independent looks of the speckle; that of Sentinel-1 GRD (interferometric wide) is 4.4 (Copernicus, SAR handbook)."""
_GRAIN = 5.0
"""Metres: half a pixel, so that neighbouring pixels have speckle of their own."""


@lru_cache(maxsize=1)
def _speckle_table() -> Singles:
    """Return the quantiles at (i + 1/2) / 4096 of a gamma distribution of mean 1 and shape `LOOKS`."""
    x = np.linspace(0.0, 20.0, 40001)
    survival = np.exp(-x) * sum(x**k / math.factorial(k) for k in range(LOOKS))
    wanted = (np.arange(4096) + 0.5) / 4096
    values: Singles = (np.interp(wanted, 1 - survival, x) / LOOKS).astype(np.float32)
    return values


def backscatter(place: Ground, points: Floats, day: date, *, ascending: bool, bands: Sequence[str]) -> Singles:
    """Return ``(bands, N)`` linear power of the ground at ``points`` (3, N), metres from the Earth's centre.

    Speckle is a function of the ground's 5 m cube and the day; rows of crops look different from either orbit.
    """
    columns = [POLARISATIONS.index(band) for band in bands]
    out = np.zeros((len(bands), points.shape[1]), np.float32)
    for material, share in materials(place, day).items():
        row = BACKSCATTER[MATERIALS.index(material)]
        for number, column in enumerate(columns):
            out[number] += share * row[column]
    look = fraction(mix(81 + ascending, place.parcel)) - np.float32(0.5)
    out *= 1 + np.float32(0.4) * look * (1 - place.water - place.forest - place.town)
    cube = np.floor(points * (1 / _GRAIN)).astype(np.int32)
    table = _speckle_table()
    for number, column in enumerate(columns):
        word = mix(83 + column + 4 * day.toordinal(), *cube)
        out[number] *= table.take((word >> np.uint32(20)).astype(np.intp))
    return out
