"""The colours of the painted landscape: what its materials reflect, and how crops and forests change over the year."""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BACKSCATTER",
    "BANDS",
    "CLOUD",
    "CROPS",
    "MATERIALS",
    "REFLECTANCE",
    "crop_materials",
    "crop_year",
    "forest_season",
    "season",
]

Singles = NDArray[np.float32]

BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
"""Sentinel-2 bands of the tables here."""

# Plausible surface reflectance x 1000, band by band as above: typical of Sentinel-2 L2A, from no particular library.
_SPECTRA: dict[str, tuple[int, ...]] = {
    "deep water": (24, 31, 27, 11, 9, 7, 7, 6, 5, 5, 3, 2),
    "shallow water": (44, 66, 82, 40, 32, 18, 17, 15, 13, 10, 7, 5),
    "river water": (40, 56, 66, 40, 34, 24, 23, 21, 19, 15, 9, 6),
    "sand": (130, 160, 215, 262, 286, 304, 320, 338, 348, 350, 420, 370),
    "light soil": (80, 102, 142, 190, 212, 230, 248, 264, 278, 284, 345, 300),
    "dark soil": (48, 58, 80, 106, 124, 138, 152, 166, 176, 184, 240, 200),
    "crop": (20, 27, 64, 27, 88, 300, 400, 430, 450, 450, 190, 80),
    "grass": (28, 36, 78, 46, 105, 265, 335, 355, 375, 375, 205, 105),
    "straw": (72, 92, 142, 186, 216, 246, 268, 288, 305, 310, 360, 265),
    "flower": (40, 46, 140, 126, 190, 360, 440, 460, 480, 480, 220, 110),
    "conifer": (14, 19, 34, 20, 44, 122, 158, 172, 182, 182, 80, 36),
    "leaf": (17, 22, 50, 24, 72, 240, 322, 345, 362, 362, 155, 64),
    "autumn": (28, 33, 62, 82, 120, 200, 240, 262, 282, 290, 195, 108),
    "twig": (34, 41, 58, 66, 88, 132, 152, 166, 180, 190, 206, 146),
    "roof": (68, 82, 108, 172, 198, 220, 232, 242, 254, 258, 300, 272),
    "concrete": (140, 166, 188, 204, 214, 220, 226, 232, 236, 238, 256, 240),
    "asphalt": (74, 84, 95, 105, 110, 115, 120, 125, 129, 130, 148, 136),
}
MATERIALS = tuple(_SPECTRA)
"""Names of the materials, in the order of `REFLECTANCE`."""
REFLECTANCE: Singles = np.array(list(_SPECTRA.values()), np.float32) / np.float32(1000)
"""``(materials, bands)``."""
CLOUD: Singles = np.array([600, 590, 580, 585, 590, 595, 600, 600, 600, 480, 420, 330], np.float32) / np.float32(1000)
"""``(bands,)`` of a thick cloud."""

# Mean backscatter in dB (VV, VH) at C band of the same materials.
_ECHO = (
    *((-22, -30), (-21, -29), (-20, -28), (-14.5, -23), (-12.5, -22), (-12, -21), (-9.5, -15.5), (-11, -18.5)),
    *((-12, -20), (-9.5, -15), (-8.5, -13.5), (-8, -13), (-8.3, -13.5), (-9, -14.5), (-2, -9.5), (-3, -11), (-13, -22)),
)
BACKSCATTER: Singles = np.array([[10 ** (db / 10) for db in pair] for pair in _ECHO], np.float32)
"""``(materials, 2)`` linear power of VV and VH."""

# Shares of soil, crop, grass, straw and flower in the middle of each month, January first, in the north.
_GROUND = ("dark soil", "crop", "grass", "straw", "flower")
_N = (0.0,) * 12
_CALENDARS: dict[str, tuple[tuple[float, ...], ...]] = {
    "winter wheat": (
        (0.65, 0.60, 0.40, 0.12, 0.05, 0.00, 0.00, 0.30, 0.80, 0.90, 0.85, 0.72),
        (0.35, 0.40, 0.60, 0.88, 0.95, 0.45, 0.00, 0.00, 0.00, 0.10, 0.15, 0.28),
        _N,
        (0.00, 0.00, 0.00, 0.00, 0.00, 0.55, 1.00, 0.70, 0.20, 0.00, 0.00, 0.00),
        _N,
    ),
    "rapeseed": (
        (0.50, 0.45, 0.25, 0.00, 0.00, 0.05, 0.25, 0.70, 0.75, 0.60, 0.50, 0.50),
        (0.50, 0.55, 0.75, 0.50, 0.30, 0.75, 0.15, 0.00, 0.25, 0.40, 0.50, 0.50),
        _N,
        (0.00, 0.00, 0.00, 0.00, 0.00, 0.20, 0.60, 0.30, 0.00, 0.00, 0.00, 0.00),
        (0.00, 0.00, 0.00, 0.50, 0.70, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00),
    ),
    "maize": (
        (0.90, 0.92, 0.95, 1.00, 0.88, 0.45, 0.08, 0.05, 0.10, 0.50, 0.85, 0.90),
        (0.00, 0.00, 0.00, 0.00, 0.12, 0.55, 0.92, 0.95, 0.70, 0.10, 0.00, 0.00),
        (0.05, 0.08, 0.05, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00),
        (0.05, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.20, 0.40, 0.15, 0.10),
        _N,
    ),
    "sugar beet": (
        (0.95, 0.95, 1.00, 0.95, 0.65, 0.20, 0.05, 0.05, 0.05, 0.30, 0.80, 0.95),
        (0.00, 0.00, 0.00, 0.05, 0.35, 0.80, 0.95, 0.95, 0.95, 0.65, 0.15, 0.00),
        (0.05, 0.05, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.05, 0.05, 0.05),
        _N,
        _N,
    ),
    "meadow": (
        (0.25, 0.25, 0.15, 0.05, 0.00, 0.05, 0.10, 0.10, 0.05, 0.10, 0.20, 0.25),
        (0.00, 0.00, 0.05, 0.25, 0.40, 0.20, 0.10, 0.05, 0.15, 0.05, 0.00, 0.00),
        (0.60, 0.60, 0.70, 0.70, 0.60, 0.65, 0.60, 0.60, 0.70, 0.75, 0.65, 0.60),
        (0.15, 0.15, 0.10, 0.00, 0.00, 0.10, 0.20, 0.25, 0.10, 0.10, 0.15, 0.15),
        _N,
    ),
    "fallow": (
        (0.90, 0.90, 0.85, 0.75, 0.70, 0.65, 0.60, 0.65, 0.75, 0.85, 0.90, 0.90),
        _N,
        (0.10, 0.10, 0.15, 0.25, 0.25, 0.20, 0.15, 0.10, 0.10, 0.10, 0.10, 0.10),
        (0.00, 0.00, 0.00, 0.00, 0.05, 0.15, 0.25, 0.25, 0.15, 0.05, 0.00, 0.00),
        _N,
    ),
}
CROPS = tuple(_CALENDARS)
"""Names of the crops, in the order of `crop_materials`."""
_SHIFTS = (-9, -3, 3, 9)
"""Days by which parcels of one crop are ahead of or behind each other."""


def season(day: date, southern: bool) -> date:
    """Return the day of the northern year that a place sees: half a year away in the south."""
    if not southern:
        return day
    return day + timedelta(days=182) if day < date(9999, 6, 1) else day - timedelta(days=183)


def crop_year(day: date) -> int:
    """Return the year of the harvest that a northern field is prepared for: it begins on the first of November."""
    return day.year + (day.month >= 11)


def _months(day: date, shift: int = 0) -> tuple[int, float]:
    """Return the last middle of a month and the part of the way to the next one."""
    position = ((day.timetuple().tm_yday + shift) / 365.25 * 12 - 0.5) % 12
    return int(position), position % 1


@lru_cache(maxsize=512)
def crop_materials(day: date) -> Singles:
    """Return ``(crops * 4, materials)`` shares on a northern day: each crop four times, nine days behind to ahead."""
    shares = np.zeros((len(CROPS) * len(_SHIFTS), len(MATERIALS)), np.float32)
    for crop, calendar in enumerate(_CALENDARS.values()):
        for number, shift in enumerate(_SHIFTS):
            month, part = _months(day, shift)
            for material, curve in zip(_GROUND, calendar, strict=True):
                share = curve[month] * (1 - part) + curve[(month + 1) % 12] * part
                shares[crop * len(_SHIFTS) + number, MATERIALS.index(material)] = share
    shares.setflags(write=False)  # every point of a day shares it
    return shares


# Shares of leaf, autumn and twig of a deciduous wood in the middle of each month.
_WOOD = (
    (0.00, 0.00, 0.05, 0.45, 0.95, 1.00, 1.00, 1.00, 0.90, 0.30, 0.00, 0.00),
    (0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.10, 0.65, 0.30, 0.05),
)


def forest_season(day: date) -> tuple[float, float]:
    """Return the shares of green and of autumn leaves of a deciduous wood on a northern day; the rest is twigs."""
    month, part = _months(day)
    leaf, autumn = (curve[month] * (1 - part) + curve[(month + 1) % 12] * part for curve in _WOOD)
    return leaf, autumn
