"""Which pixels show the ground: the quality bands of the sensors as boolean masks, pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["MASKS", "clear_fmask", "clear_qa_pixel", "clear_scl"]

SCL_CLEAR = (4, 5, 6, 7)
"""Vegetation, not vegetated, water, unclassified; why not snow: docs/decisions/0002-clear-sky-classes.md."""

QA_PIXEL_UNUSABLE = 0b0001_1111
"""Fill, dilated cloud, cirrus, cloud, cloud shadow: bits 0–4 of the Landsat Collection 2 QA_PIXEL band
(USGS LSDS-1619, table 6-2)."""


def clear_scl(classes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where Sentinel-2's scene classification shows the ground.

    Parameters
    ----------
    classes
        SCL class numbers of any shape; NaN where there are none.
    """
    clear: NDArray[np.bool_] = np.isin(classes, SCL_CLEAR)
    return clear


def clear_qa_pixel(bits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where Landsat's QA_PIXEL shows the ground.

    Parameters
    ----------
    bits
        QA_PIXEL values of any shape (16 bits are exact in float32); NaN where there are none.
    """
    known = np.isfinite(bits)
    flags = np.where(known, bits, 1).astype(np.uint16)
    clear: NDArray[np.bool_] = known & ((flags & QA_PIXEL_UNUSABLE) == 0)
    return clear


FMASK_UNUSABLE = 0b0001_1111
"""Cirrus (reserved), cloud, adjacent to cloud or shadow, cloud shadow, snow or ice: bits 0–4 of HLS v2.0's Fmask
(HLS User Guide 2.0, table 9)."""
FMASK_FILL = 255


def clear_fmask(bits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where HLS's Fmask shows the ground.

    Parameters
    ----------
    bits
        Fmask values of any shape; NaN where there are none.
    """
    known = np.isfinite(bits) & (bits != FMASK_FILL)
    flags = np.where(known, bits, 1).astype(np.uint8)
    clear: NDArray[np.bool_] = known & ((flags & FMASK_UNUSABLE) == 0)
    return clear


MASKS: Mapping[str, Callable[[NDArray[np.float32]], NDArray[np.bool_]]] = {
    "scl": clear_scl,
    "qa_pixel": clear_qa_pixel,
    "fmask": clear_fmask,
}
"""By the name that `ImageRequest.mask` has."""
