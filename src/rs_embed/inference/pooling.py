"""From the cells of many windows to one grid, or to one vector without ever holding the grid."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.cells import GEM_FLOOR, GEM_POWER, POOLED_BY
from rs_embed.core.encoding import Encoder
from rs_embed.inference.plan import Plan, WindowPlan

__all__ = ["Accumulator", "GridAccumulator", "Moments", "make_accumulator"]

Cells = NDArray[np.float32]
Doubles = NDArray[np.float64]

_AT_ONCE = 8
"""Dimensions that are widened to float64 at a time: a window of a pixel model is large."""


class Accumulator(Protocol):
    """Takes the features of windows, in any order, and gives the region's output."""

    def add(
        self, window: WindowPlan, inside: Cells, cells: Cells | None, weight: Cells | None, vector: Cells | None
    ) -> None:
        """Add one window: coverage, weight ``(h, w)``, cells ``(D, h, w)`` and the net's vector ``(D,)``."""
        ...

    def result(self) -> NDArray[np.float32] | None:
        """Return the output, or ``None`` where nothing had any weight."""
        ...


def _owned(window: WindowPlan, inside: Cells, cells: Cells, weight: Cells | None) -> tuple[Cells, NDArray[np.float64]]:
    """Return the window's own cells ``(D, h, w)`` and the weight of each: coverage times what was seen."""
    rows, cols = window.owned.within(window.cells)
    if cells.shape[1:] != inside.shape:
        raise ValueError(f"the encoder returned a grid of {cells.shape[1:]} cells, its spec says {inside.shape}")
    seen = inside[rows, cols].astype(np.float64)
    if weight is not None:
        seen = seen * weight[rows, cols]
    return cells[:, rows, cols], seen


class Moments:
    """Weighted moments of a region's cells: means and squares merged pairwise, in float64.

    Merging follows Chan, Golub and LeVeque (1979): the result does not depend on the size of the blocks.
    """

    def __init__(self, statistics: tuple[str, ...]) -> None:
        self.statistics, self.wanted = statistics, set(statistics)
        self.total = 0.0
        self.mean: NDArray[np.float64] | None = None
        self.square = self.low = self.high = self.gem = np.zeros(0)

    def add(
        self, window: WindowPlan, inside: Cells, cells: Cells | None, weight: Cells | None, vector: Cells | None
    ) -> None:
        """Merge one window."""
        assert cells is not None
        own, seen = _owned(window, inside, cells, weight)
        keep = seen > 0
        if not keep.any():
            return
        every = bool(keep.all())
        flat = own.reshape(len(own), -1) if every else own[:, keep]  # (D, n)
        w = seen[keep]
        part = float(w.sum())
        found = [self._part(flat[i : i + _AT_ONCE], w, part) for i in range(0, len(flat), _AT_ONCE)]
        self._merge(part, *(np.concatenate(each) for each in zip(*found, strict=True)))

    def _part(self, cells: Cells, w: Doubles, part: float) -> tuple[Doubles, ...]:
        """Return mean, squares, powers, least and greatest of some dimensions ``(d, n)``; zeros where not wanted."""
        values, none = cells.astype(np.float64), np.zeros(len(cells))
        mean = values @ w / part
        low = values.min(1) if "min" in self.wanted else none
        high = values.max(1) if "max" in self.wanted else none
        gem = np.maximum(values, GEM_FLOOR) ** GEM_POWER @ w if "gem" in self.wanted else none
        spread = none
        if self.wanted & {"std", "sample_std"}:
            values -= mean[:, None]
            spread = np.square(values, out=values) @ w
        return mean, spread, gem, low, high

    def _merge(self, part: float, mean: Doubles, spread: Doubles, gem: Doubles, low: Doubles, high: Doubles) -> None:
        """Take the moments of more cells in."""
        if self.mean is None:
            self.mean, self.square, self.gem = np.zeros_like(mean), np.zeros_like(mean), np.zeros_like(mean)
            self.low, self.high = np.full_like(mean, np.inf), np.full_like(mean, -np.inf)
        delta = mean - self.mean
        merged = self.total + part
        self.square = self.square + spread + np.square(delta) * (self.total * part / merged)
        self.gem = self.gem + gem
        self.mean = self.mean + delta * (part / merged)
        self.total = merged
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)

    def result(self) -> NDArray[np.float32] | None:
        """Return the statistics one after the other, ``(len(statistics) * D,)``."""
        if self.mean is None:
            return None
        freedom = self.total - 1
        found = {
            "mean": self.mean,
            "std": np.sqrt(self.square / self.total),
            "sample_std": np.sqrt(self.square / freedom) if freedom > 0 else np.zeros_like(self.square),
            "min": self.low,
            "max": self.high,
            "gem": (self.gem / self.total) ** (1 / GEM_POWER),
        }
        return np.concatenate([found[name] for name in self.statistics]).astype(np.float32)


class WindowMean:
    """The net's own vectors of windows, averaged by the region's area in each."""

    def __init__(self) -> None:
        self.total = 0.0
        self.sum: NDArray[np.float64] | None = None

    def add(
        self, window: WindowPlan, inside: Cells, cells: Cells | None, weight: Cells | None, vector: Cells | None
    ) -> None:
        """Add one window's vector."""
        assert vector is not None
        rows, cols = window.owned.within(window.cells)
        area = float(inside[rows, cols].sum())
        if area <= 0:
            return
        part = area * vector.astype(np.float64)
        self.sum = part if self.sum is None else self.sum + part
        self.total += area

    def result(self) -> NDArray[np.float32] | None:
        """Return the mean vector."""
        return None if self.sum is None else (self.sum / self.total).astype(np.float32)


class Headed:
    """A mean that the encoder's head finishes."""

    def __init__(self, inner: Accumulator, encoder: Encoder) -> None:
        self.inner, self.encoder = inner, encoder
        self.add = inner.add

    def result(self) -> NDArray[np.float32] | None:
        """Return the finished vector."""
        vector = self.inner.result()
        return None if vector is None else self.encoder.head(vector)


class GridAccumulator:
    """The region's grid ``(D, H, W)``: cells outside the region, or without a valid pixel, are NaN."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.grid: NDArray[np.float32] | None = None
        self.any = False

    def add(
        self, window: WindowPlan, inside: Cells, cells: Cells | None, weight: Cells | None, vector: Cells | None
    ) -> None:
        """Put one window's cells where they belong."""
        assert cells is not None
        own, seen = _owned(window, inside, cells, weight)
        rect = self.plan.cell_rect
        if self.grid is None:
            self.grid = np.full((len(cells), rect.height, rect.width), np.nan, np.float32)
        if self.plan.cell > 1:
            own, seen, row, col = self._coarsen(window, own, seen)
        else:
            row, col = window.owned.row - rect.row, window.owned.col - rect.col
        top, left = max(0, -row), max(0, -col)
        bottom = min(seen.shape[0], rect.height - row)
        right = min(seen.shape[1], rect.width - col)
        if bottom <= top or right <= left:
            return
        kept = seen[top:bottom, left:right] > 0
        target = self.grid[:, row + top : row + bottom, col + left : col + right]
        np.copyto(target, own[:, top:bottom, left:right], where=kept)
        self.any = self.any or bool(kept.any())

    def _coarsen(
        self, window: WindowPlan, own: Cells, seen: NDArray[np.float64]
    ) -> tuple[Cells, NDArray[np.float64], int, int]:
        """Average cell by cell, weighted."""
        k = self.plan.cell
        d, height, width = own.shape
        rows, cols = height // k, width // k
        total = seen.reshape(rows, k, cols, k).sum((1, 3))
        mean = np.empty((d, rows, cols), np.float32)
        for i in range(0, d, _AT_ONCE):
            part = np.where(seen > 0, own[i : i + _AT_ONCE], np.float32(0)) * seen
            sums = part.reshape(-1, rows, k, cols, k).sum((2, 4))
            mean[i : i + _AT_ONCE] = np.divide(sums, total, out=np.full_like(sums, np.nan), where=total > 0)
        return mean, total, window.owned.row // k, window.owned.col // k

    def result(self) -> NDArray[np.float32] | None:
        """Return the grid."""
        return self.grid if self.any else None


class HeadedCells(GridAccumulator):
    """A grid of means of a product's cells, each finished by the encoder's head, as the region's mean is."""

    def __init__(self, plan: Plan, encoder: Encoder) -> None:
        super().__init__(plan)
        self.encoder = encoder

    def result(self) -> NDArray[np.float32] | None:
        """Return the grid."""
        found = super().result()
        return None if found is None else np.moveaxis(self.encoder.head(np.moveaxis(found, 0, -1)), -1, 0)


def make_accumulator(plan: Plan, encoder: Encoder) -> Accumulator:
    """Return the accumulator of the plan's output."""
    spec, output = plan.setup.spec, plan.output
    if output.mode == "grid":
        return GridAccumulator(plan) if spec.product is None or plan.cell == 1 else HeadedCells(plan, encoder)
    if output.pooling == "mean":
        if spec.pooled == "window":
            return Headed(WindowMean(), encoder)
        return Headed(Moments(spec.statistics), encoder)
    return Moments(POOLED_BY[output.pooling])
