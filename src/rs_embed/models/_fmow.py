"""fMoW, the data set of SatMAE and its kin: its statistics, and how its images become a net's input.

Christie et al. 2018, arXiv 1711.07846 (RGB photographs of commercial satellites), and fMoW-Sentinel (Cong, Khanna et
al. 2022, arXiv 2207.08051). Constants are those of ``sustainlab-group/SatMAE@e31c11f`` (``util/datasets.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.model_spec import Source, Step
from rs_embed.preprocess.steps import Affine, Normalize, Stretch8bit

Sources = tuple[Source, ...]

__all__ = [
    "GREY",
    "GSD_RANGE",
    "RGB_MEAN",
    "RGB_STD",
    "RGB_TO_NET",
    "S2_BANDS",
    "S2_MEAN",
    "S2_STD",
    "STRETCH",
    "WHITE",
    "SentinelNormalize",
    "rgb_sources",
]

GSD_RANGE = (0.3, 5.0)
"""Metres: the sensors' 0.3 to 1, and several times that where a chip of many hundred pixels is resized to the net's."""

RGB_MEAN = (0.4182007312774658, 0.4214799106121063, 0.3991275727748871)
RGB_STD = (0.28774282336235046, 0.27541765570640564, 0.2764017581939697)
"""Of R, G, B in [0, 1] (``CustomDatasetFromImages``)."""

WHITE = 3000.0
"""Reflectance * 10 000 that becomes grey level 255."""

STRETCH = Stretch8bit(0.0, WHITE)
"""From Sentinel-2 to 8-bit photographs as fMoW's. ``DN / 10 000 * 255`` would be far too dark: land reflects 5 to 15 %
in the visible, grey levels 13 to 38, and fMoW's mean is 106. Reflectance 0 to 0.3 onto 0 to 255, the usual true-colour
rule, brings land to 43 to 128; it is fixed, so that vectors of different places compare."""

GREY = Stretch8bit(0.0, 255.0)
"""From grey levels that were averaged to larger pixels back to whole ones."""


def rgb_sources(from_reflectance: tuple[Step, ...], from_grey: tuple[Step, ...], mean: Sequence[float]) -> Sources:
    """Return what photographs' nets take: Sentinel-2 stretched to 8 bits, and NAIP; `mean` is of R, G, B in [0, 1]."""
    return (
        Source("sentinel-2-l2a", from_reflectance, trained_on=False),
        Source("sentinel-2-l1c", from_reflectance, trained_on=False),
        Source("naip", from_grey, trained_on=False, bands=("R", "G", "B"), fill=tuple(value * 255 for value in mean)),
    )


RGB_TO_NET = (Affine(1 / 255), Normalize(RGB_MEAN, RGB_STD))
"""From grey levels: ToTensor and Normalize, which the authors put before the resize."""

S2_BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
"""fMoW-Sentinel's bands without B1, B9 and B10, which the authors drop."""

S2_MEAN = (
    *(1184.3824625, 1120.77120066, 1136.26026392, 1263.73947144, 1645.40315151),
    *(1846.87040806, 1762.59530783, 1972.62420416, 1732.16362238, 1247.91870117),
)
S2_STD = (
    *(650.2842772, 712.12507725, 965.23119807, 948.9819932, 1108.06650639),
    *(1258.36394548, 1233.1492281, 1364.38688993, 1310.36996126, 1087.6020813),
)
"""Of `S2_BANDS`, reflectance * 10 000 of L1C without the offset of baseline 04.00 (``SentinelNormalize``)."""


@dataclass(frozen=True)
class SentinelNormalize:
    """Grey levels 0 to 255 of the range of two standard deviations about the mean, cut to whole numbers.

    ``(x - (mean - 2 std)) / (4 std) * 255`` in float64, clipped, then truncated as a cast to uint8 does.
    """

    mean: tuple[float, ...] = S2_MEAN
    """One number a band, in the sensor's units."""
    std: tuple[float, ...] = S2_STD

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map ``(T, C, H, W)`` to the same shape."""
        mean, std = (np.asarray(values)[:, None, None] for values in (self.mean, self.std))
        low, high = mean - 2 * std, mean + 2 * std
        levels = (pixels - low) / (high - low) * 255.0
        out: NDArray[np.float32] = np.trunc(np.clip(levels, 0, 255)).astype(np.float32)
        return out

    def pick(self, indices: Sequence[int]) -> SentinelNormalize:
        """Return the step for some of the bands."""
        mean, std = (tuple(values[i] for i in indices) for values in (self.mean, self.std))
        return SentinelNormalize(mean, std)

    def describe(self) -> dict[str, Any]:
        """Return the step as JSON types."""
        return {
            "step": "sentinel_normalize",
            "mean": list(self.mean),
            "std": list(self.std),
            "deviations": 2,
            "to": [0, 255],
            "clip": True,
            "rounding": "down",
        }
