"""Random convolutional features by their paper (Rolf et al. 2021, doi 10.1038/s41467-021-24638-z), in numpy.

Names: M images, N samples, n filters, C bands, k the filter's side; images are ``(N, C, H, W)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["draw_patches", "pooled_features", "responses", "torchgeo_features", "unit_range", "whitened_filters"]

Singles = NDArray[np.float32]
Doubles = NDArray[np.float64]

_COLUMNS_BYTES = 16 << 20
"""Bytes of the unfolded image that are held at once: about a cache, and a GEMM large enough to run at full speed."""
_FILTERS_AT_ONCE = 256


def unit_range(values: NDArray[Any]) -> NDArray[Any]:
    """Return 8-bit values divided by 255 (float64), others as they are."""
    return values / 255.0 if values.dtype == np.uint8 else values


def draw_patches(images: Sequence[NDArray[Any]], k: int, n: int, seed: int) -> NDArray[Any]:
    """Draw patches uniformly over images and positions, with replacement.

    Parameters
    ----------
    images
        M arrays ``(C, H, W)`` of one number of bands and one dtype, each at least ``k`` wide and high.
    k
        Side of a patch, pixels.
    n
        Number of patches.
    seed
        Of a generator of its own: numpy's global one is left alone.

    Returns
    -------
    ndarray
        ``(n, C, k, k)``.
    """
    generator = np.random.default_rng(seed)
    which = generator.integers(len(images), size=n)
    places = generator.random((2, n))
    out = np.empty((n, images[0].shape[0], k, k), images[0].dtype)
    for number, image in enumerate(images):
        mine = np.flatnonzero(which == number)
        rows, columns = ((places[axis, mine] * (image.shape[axis + 1] - k + 1)).astype(np.intp) for axis in range(2))
        windows = sliding_window_view(image, (k, k), axis=(1, 2))  # (C, H - k + 1, W - k + 1, k, k)
        out[mine] = windows[:, rows, columns].swapaxes(0, 1)
    return out


def whitened_filters(patches: NDArray[Any], zca_bias: float = 1e-3) -> Singles:
    """Make filters of patches: centred, of unit length, and whitened twice, for the filter and for the image.

    Parameters
    ----------
    patches
        ``(n, C, k, k)``; 8-bit ones are divided by 255.
    zca_bias
        Added to the eigenvalues of the patches' second moments (divisor n).

    Returns
    -------
    ndarray
        ``(n, C, k, k)`` float32; computed in float64.
    """
    flat: Doubles = unit_range(patches).reshape(len(patches), -1).astype(np.float64)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.sqrt(np.square(flat).sum(axis=1, keepdims=True))
    flat /= np.where(length < 1e-8, 1.0, length)
    values, vectors = np.linalg.eigh(flat.T @ flat / len(flat))
    twice = (vectors / (values + zca_bias)) @ vectors.T  # Z Z' with Z = V diag(1 / sqrt(e + bias)) V'
    filters: Singles = (flat @ twice).astype(np.float32).reshape(patches.shape)
    return filters


def _unfolded(image: Singles, k: int) -> Iterator[tuple[slice, Doubles]]:
    """Yield blocks of the flattened map as slices, and the values that each pixel sees: (C * k * k, pixels)."""
    C, H, W = image.shape
    high, wide = H - k + 1, W - k + 1
    windows = sliding_window_view(image, (k, k), axis=(1, 2)).transpose(0, 3, 4, 1, 2)  # (C, k, k, high, wide)
    rows = max(1, _COLUMNS_BYTES // (8 * C * k * k * wide))
    for top in range(0, high, rows):
        bottom = min(top + rows, high)
        columns = windows[..., top:bottom, :].astype(np.float64).reshape(C * k * k, -1)
        yield slice(top * wide, bottom * wide), columns


def rectified(responded: Singles, bias: float, positive: Singles, negative: Singles) -> None:
    """Write relu(y - bias) and relu(-y - bias) of responses y."""
    if bias == 0:
        np.maximum(responded, np.float32(0), out=positive)
        np.subtract(positive, responded, out=negative)
        return
    np.subtract(responded, np.float32(bias), out=positive)
    np.maximum(positive, np.float32(0), out=positive)
    np.negative(responded, out=negative)
    negative -= np.float32(bias)
    np.maximum(negative, np.float32(0), out=negative)


def responses(image: Singles, filters: Singles, bias: float = 0.0, out: Singles | None = None) -> Singles:
    """Correlate an image with filters, without padding, and rectify both signs.

    Parameters
    ----------
    image
        ``(C, H, W)`` float32.
    filters
        ``(n, C, k, k)`` float32.
    bias
        What a response must exceed, on either side of zero.
    out
        ``(2 n, H - k + 1, W - k + 1)``, contiguous, to write into.

    Returns
    -------
    ndarray
        ``(2 n, H - k + 1, W - k + 1)``: relu(y - bias) of all filters, then relu(-y - bias) of all.
    """
    n, C, k, _ = filters.shape
    shape = (2 * n, image.shape[1] - k + 1, image.shape[2] - k + 1)
    if image.shape[0] != C or min(shape) < 1:
        raise ValueError(f"filters of {C} x {k} x {k} do not fit an image of shape {image.shape}")
    result = np.empty(shape, np.float32) if out is None else out
    # In float64, for whitened filters cancel: in float32 the last four digits would depend on the shape of the product,
    # and so on how an image is cut into tiles.
    flat, matrix = result.reshape(2 * n, -1), filters.reshape(n, -1).astype(np.float64)
    for place, columns in _unfolded(image, k):
        rectified((matrix @ columns).astype(np.float32), bias, flat[:n, place], flat[n:, place])
    return result


def _pool_edges(side: int, size: int, stride: int) -> list[tuple[int, int]]:
    """Return start and end of the pooling windows of one axis, as torch's ``ceil_mode`` places and clips them."""
    count = -((size - side) // stride) + 1
    count -= (count - 1) * stride >= side
    if count < 1:
        raise ValueError(f"a pooling window of {size} with stride {stride} does not fit a map of {side}")
    return [(i * stride, min(i * stride + size, side)) for i in range(count)]


def pooled_features(
    image: NDArray[Any], filters: Singles, bias: float, pool_size: int, pool_stride: int, filter_batch_size: int
) -> Singles:
    """Return the paper's feature map: responses averaged over pooling windows, filters in batches.

    Parameters
    ----------
    image
        ``(N, C, H, W)``; 8-bit images are divided by 255.
    filters
        ``(n, C, k, k)``.
    bias
        Of `responses`.
    pool_size, pool_stride
        Side and distance of the pooling windows, pixels of the responses; the last ones may be smaller.
    filter_batch_size
        Each batch of filters gives its positive features, then its negative ones.

    Returns
    -------
    ndarray
        ``(N, 2 n, rows, columns)`` float32.
    """
    pictures = unit_range(image).astype(np.float32)
    n, _, k, _ = filters.shape
    rows = _pool_edges(pictures.shape[2] - k + 1, pool_size, pool_stride)
    columns = _pool_edges(pictures.shape[3] - k + 1, pool_size, pool_stride)
    out = np.empty((len(pictures), 2 * n, len(rows), len(columns)), np.float32)
    for number, picture in enumerate(pictures):
        for first in range(0, n, filter_batch_size):
            last = min(first + filter_batch_size, n)
            for low in range(first, last, _FILTERS_AT_ONCE):
                high = min(low + _FILTERS_AT_ONCE, last)
                pooled = _averages(responses(picture, filters[low:high], bias), rows, columns)
                at = first + low  # 2 * first + (low - first)
                out[number, at : at + high - low] = pooled[: high - low]
                at += last - first
                out[number, at : at + high - low] = pooled[high - low :]
    return out


def _averages(maps: Singles, rows: list[tuple[int, int]], columns: list[tuple[int, int]]) -> Doubles:
    """Return the means over windows ``(D, rows, columns)`` of maps ``(D, H, W)``."""
    out = np.empty((len(maps), len(rows), len(columns)))
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            out[:, i, j] = maps[:, top:bottom, left:right].mean(axis=(1, 2), dtype=np.float64)
    return out


def torchgeo_features(image: NDArray[Any], filters: Singles, bias: float) -> Singles:
    """Return what torchgeo's ``RCF`` gives: means of relu(y + bias) and relu(-(y + bias)), all positives first.

    It is here to be compared with: it is the paper's only where the bias is 0 (with the paper's b as ``-bias``).

    Returns
    -------
    ndarray
        ``(N, 2 n)`` float32.
    """
    pictures = unit_range(image).astype(np.float32)
    n, _, k, _ = filters.shape
    matrix = filters.reshape(n, -1)
    out = np.empty((len(pictures), 2 * n), np.float32)
    for number, picture in enumerate(pictures):
        total = np.zeros(2 * n)
        count = 0
        for _, columns in _unfolded(picture, k):
            responded = matrix @ columns + np.float32(bias)
            total[:n] += np.maximum(responded, 0).sum(axis=1, dtype=np.float64)
            total[n:] += np.maximum(-responded, 0).sum(axis=1, dtype=np.float64)
            count += responded.shape[1]
        out[number] = total / count
    return out
