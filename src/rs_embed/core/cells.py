"""The cells of a grid: how they are pooled, and the principal components that they share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.errors import SpecError

__all__ = ["GEM_FLOOR", "GEM_POWER", "POOLED_BY", "Basis", "pool_cells", "principal_axes", "quick_axes"]

GEM_POWER = 3.0
"""Exponent of generalised-mean pooling (Radenović et al. 2018, arXiv 1711.02512, eq. 8)."""
GEM_FLOOR = 1e-6
"""Smaller values are raised to this before the power, as in the authors' code."""

POOLED_BY = {
    "cells": ("mean",),
    "max": ("max",),
    "std": ("std",),
    "stats": ("mean", "std", "min", "max"),
    "gem": ("gem",),
}
"""Statistics of the cells behind each way of pooling, one after the other."""

_AT_ONCE = 8
"""Dimensions that are widened to float64 at a time."""

Singles = NDArray[np.float32]
Doubles = NDArray[np.float64]


def _statistic(name: str, cells: Doubles, w: Doubles, mean: Doubles) -> Doubles:
    """Return one statistic of cells ``(d, n)`` with weights ``(n,)`` that sum to 1."""
    if name == "mean":
        return mean
    if name == "std":
        return np.asarray(np.sqrt(np.square(cells - mean[:, None]) @ w))
    if name == "gem":
        return np.asarray((np.maximum(cells, GEM_FLOOR) ** GEM_POWER @ w) ** (1 / GEM_POWER))
    return np.asarray(cells.min(1) if name == "min" else cells.max(1))


def pool_cells(grid: Singles, weight: Singles | None, pooling: str) -> Singles:
    """Pool a grid to a vector; cells that hold a NaN, and those of no weight, stay out.

    Parameters
    ----------
    grid
        ``(D, H, W)``.
    weight
        ``(H, W)``: area of each cell inside the region; ``None``: all alike.
    pooling
        A key of `POOLED_BY`.

    Returns
    -------
    ndarray
        ``(D,)``, or ``(4 * D,)`` for ``stats``: mean, std, min and max.

    Raises
    ------
    SpecError
        If no cell is left.
    """
    seen = np.isfinite(grid).all(0)
    w: Doubles = np.asarray(seen if weight is None else np.where(seen, weight, 0.0), np.float64)
    keep: NDArray[np.bool_] = np.asarray(w > 0)
    if not keep.any():
        raise SpecError(f"none of the {keep.size} cells of the grid holds numbers inside the region")
    cells, share = grid[:, keep], np.asarray(w[keep] / w[keep].sum())
    found: dict[str, list[Doubles]] = {name: [] for name in POOLED_BY[pooling]}
    for i in range(0, len(cells), _AT_ONCE):
        part = np.asarray(cells[i : i + _AT_ONCE], np.float64)
        mean: Doubles = np.asarray(part @ share, np.float64)
        for name, parts in found.items():
            parts.append(_statistic(name, part, share, mean))
    return np.concatenate([np.concatenate(parts) for parts in found.values()]).astype(np.float32)


class Basis(NamedTuple):
    """Principal axes: what `Embedding.pca` projects on."""

    mean: Singles
    """``(D,)``, taken off before."""
    components: Singles
    """``(n, D)``, of length 1, by falling variance."""

    def project(self, cells: Singles) -> Singles:
        """Return ``(k, n)`` of cells ``(k, D)``."""
        if cells.shape[1] != len(self.mean):
            raise SpecError(f"the basis is of {len(self.mean)} dimensions, the embedding of {cells.shape[1]}")
        return np.asarray((cells - self.mean) @ self.components.T, np.float32)


def principal_axes(parts: Iterable[Singles], n: int) -> Basis:
    """Return the first ``n`` principal axes of all cells together.

    Parts are taken one by one: their means and scatter matrices are merged in float64 (Chan, Golub and LeVeque 1979),
    so that only one has to be in memory.

    Parameters
    ----------
    parts
        Cells ``(k, D)``, without NaN.
    n
        Number of axes, at most D.
    """
    count, mean, scatter = 0, np.zeros(0), np.zeros((0, 0))
    for part in parts:
        if not len(part):
            continue
        if count and part.shape[1] != len(mean):
            raise SpecError(f"one basis needs embeddings of one length, got {len(mean)} and {part.shape[1]}")
        centre = part.mean(0, dtype=np.float64)
        centred = part - centre
        if not count:
            count, mean, scatter = len(part), centre, centred.T @ centred
            continue
        shift, total = centre - mean, count + len(part)
        scatter += centred.T @ centred + np.outer(shift, shift) * (count * len(part) / total)
        mean, count = mean + shift * (len(part) / total), total
    if not count:
        raise SpecError("there is no cell that holds numbers; principal components need some")
    if not 1 <= n <= len(mean):
        raise SpecError(f"n={n} components cannot be taken from {len(mean)} dimensions")
    values, vectors = np.linalg.eigh(scatter)
    return _basis(mean, vectors[:, np.argsort(values)[::-1][:n]].T)


def quick_axes(cells: Singles, n: int) -> Basis:
    """Return at most ``n`` principal axes of few cells ``(k, D)`` of many dimensions: k decides the time, not D."""
    mean = cells.mean(0, dtype=np.float64)
    _, _, axes = np.linalg.svd(cells - mean, full_matrices=False)
    return _basis(mean, axes[:n])


def _basis(mean: Doubles, axes: Doubles) -> Basis:
    """Return a basis whose axes have a stable sign: their largest entry is positive."""
    flip = np.where(np.abs(axes).max(1) > axes.max(1) + 1e-12, -1.0, 1.0)
    return Basis(mean.astype(np.float32), (axes * flip[:, None]).astype(np.float32))
