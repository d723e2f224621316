"""Resampling in float32 as torchvision does it to tensors: filters that widen when they shrink, nothing clamped.

The weights of PyTorch's ``interpolate(antialias=True, align_corners=False)`` (PyTorch 2.13, on the CPU:
``aten/src/ATen/native/cpu/UpSampleKernel.cpp``), in its float32 order of operations: Pillow's, which reckons them in
float64, differ by up to 1e-5 in values of about 1. Columns are resampled before rows.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Method", "resample", "resize_crop"]

Method = Literal["bicubic", "bilinear"]

_REACH = {"bicubic": 2.0, "bilinear": 1.0}  # of a filter on each side, in pixels of the coarser image
_A = np.float32(-0.5)  # of the cubic, as in Pillow


def _cubic(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keys' cubic convolution at distances ``x >= 0``."""
    near = ((_A + 2) * x - (_A + 3)) * x * x + 1
    far = ((_A * x - 5 * _A) * x + 8 * _A) * x - 4 * _A
    return np.where(x < 1, near, np.where(x < 2, far, np.float32(0)))


@lru_cache(maxsize=32)
def _weights(size: int, target: int, method: Method) -> NDArray[np.float32]:
    """What each of ``target`` pixels takes of each of ``size``: ``(target, size)``, rows sum to 1."""
    half, one = np.float32(0.5), np.float32(1)
    scale = np.float32(size) / np.float32(target)
    widening = max(scale, one)
    support = np.float32(_REACH[method]) * widening
    centre = scale * (np.arange(target, dtype=np.float32) + half)
    first = np.maximum((centre - support + half).astype(np.int64), 0)
    last = np.minimum((centre + support + half).astype(np.int64), size)
    pixels = np.arange(size)
    x = np.abs((pixels.astype(np.float32) - centre[:, None] + half) * (one / widening))
    found = _cubic(x) if method == "bicubic" else np.maximum(one - x, np.float32(0))
    found = np.where((pixels >= first[:, None]) & (pixels < last[:, None]), found, np.float32(0))
    weights: NDArray[np.float32] = found / found.sum(axis=1, keepdims=True, dtype=np.float32)
    weights.flags.writeable = False
    return weights


def resample(pixels: NDArray[np.float32], rows: int, columns: int, method: Method) -> NDArray[np.float32]:
    """Resample ``(..., H, W)`` to ``(..., rows, columns)``.

    Parameters
    ----------
    pixels : ndarray
        Finite float32 values.
    rows, columns : int
        Wanted size.
    method : {"bicubic", "bilinear"}
        Filter: the cubic with a = -0.5, or the triangle.

    Returns
    -------
    ndarray
        float32; `pixels` itself where the size is already right.
    """
    height, width = pixels.shape[-2:]
    if width != columns:
        pixels = pixels @ _weights(width, columns, method).T
    if height != rows:
        pixels = _weights(height, rows, method) @ pixels
    return pixels


def resize_crop(pixels: NDArray[np.float32], short: int, size: int, method: Method = "bicubic") -> NDArray[np.float32]:
    """Resample the shorter side to `short`, then cut the central square: an evaluation transform on tensors.

    torchvision's ``Resize(short)`` and ``CenterCrop(size)``: the longer side becomes ``short`` times the ratio of the
    sides, truncated, and the cut begins at Python's ``round((side - size) / 2)``, halves to even.

    Parameters
    ----------
    pixels : ndarray
        ``(..., H, W)`` float32.
    short, size : int
        Shorter side before the cut, and side of the cut, at most as long.
    method : {"bicubic", "bilinear"}
        Filter.

    Returns
    -------
    ndarray
        ``(..., size, size)`` float32.

    Raises
    ------
    ValueError
        If the cut is larger than what it is taken from.
    """
    if size > short:
        raise ValueError(f"a square of {size} pixels cannot be cut from a side of {short}")
    height, width = pixels.shape[-2:]
    least = min(height, width)
    rows, columns = (short if side == least else int(short * side / least) for side in (height, width))
    resampled = resample(pixels, rows, columns, method)
    top, left = round((rows - size) / 2), round((columns - size) / 2)
    return resampled[..., top : top + size, left : left + size]
