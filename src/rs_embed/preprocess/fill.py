"""What a net gets where there is nothing to see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["fill_invalid"]


def fill_invalid(
    pixels: NDArray[np.float32],
    valid: NDArray[np.bool_],
    missing: Sequence[int] = (),
    fill: Literal["zero"] | Sequence[float] = "zero",
) -> NDArray[np.float32]:
    """Replace invalid pixels and missing bands, before a model's own steps.

    Parameters
    ----------
    pixels : ndarray
        ``(T, C, H, W)`` float32 in the sensor's units; undefined where not valid. Never modified.
    valid : ndarray
        ``(T, H, W)`` bool.
    missing : sequence of int
        Positions among the C bands of those that the imagery lacks.
    fill : "zero" or sequence of float
        One value a band, in the sensor's units.

    Returns
    -------
    ndarray
        ``(T, C, H, W)`` float32; `pixels` itself where there is nothing to replace.

    Raises
    ------
    ValueError
        If `fill` has another length than there are bands.
    """
    whole = bool(valid.all())
    if whole and not missing:
        return pixels
    values = np.zeros(pixels.shape[1], np.float32) if fill == "zero" else np.asarray(fill, np.float32)
    if values.shape != (pixels.shape[1],):
        raise ValueError(f"fill needs one value for each of {pixels.shape[1]} bands, got {fill!r}")
    per_band = values[:, None, None]  # (C,) -> (C, 1, 1)
    filled = pixels.copy() if whole else np.where(valid[:, None], pixels, per_band)
    filled[:, list(missing)] = per_band[list(missing)]
    return filled
