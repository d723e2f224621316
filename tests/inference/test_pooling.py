"""Accumulators against plain numpy: weights, order of blocks, coarser cells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes import fake_model
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from plans import PIXEL, planned, region_px

from rs_embed import OutputSpec
from rs_embed.core.geometry import Rect
from rs_embed.core.model_spec import Window
from rs_embed.inference.plan import WindowPlan
from rs_embed.inference.pooling import GEM_FLOOR, GEM_POWER, GridAccumulator, Moments, WindowMean, make_accumulator

ALL = ("mean", "std", "min", "max", "gem", "sample_std")
Piece = tuple[WindowPlan, Any, Any, Any]


def pieces(rng: np.random.Generator, count: int, dims: int) -> list[Piece]:
    """Windows side by side, with coverages and weights some of which are zero."""
    found = []
    for i in range(count):
        rect = Rect(0, 4 * i, 3, 4)
        inside = rng.choice([0, 0.25, 1], (3, 4)).astype(np.float32)
        weight = rng.choice([0, 1, 3], (3, 4)).astype(np.float32) if i % 2 else None
        cells = rng.normal(5, 3, (dims, 3, 4)).astype(np.float32)
        if weight is not None:
            cells[:, weight == 0] = np.nan  # what nothing was seen of may hold anything
        found.append((WindowPlan(rect, rect, Rect(0, 4 * i + 1, 3, 3)), inside, cells, weight))
    return found


def expected(parts: list[Piece], statistic: str) -> NDArray[np.float64]:
    """The statistic of all owned cells at once."""
    cells = np.concatenate([c[:, :, 1:].reshape(len(c), -1) for _, _, c, _ in parts], 1).astype(np.float64)
    w = np.concatenate([(i if v is None else i * v)[:, 1:].ravel() for _, i, _, v in parts]).astype(np.float64)
    cells, w = cells[:, w > 0], w[w > 0]
    mean = np.average(cells, axis=1, weights=w)
    square = np.square(cells - mean[:, None]) @ w
    return {
        "mean": mean,
        "std": np.sqrt(square / w.sum()),
        "sample_std": np.sqrt(square / (w.sum() - 1)) if w.sum() > 1 else np.zeros(len(cells)),
        "min": cells.min(1),
        "max": cells.max(1),
        "gem": np.average(np.maximum(cells, GEM_FLOOR) ** GEM_POWER, axis=1, weights=w) ** (1 / GEM_POWER),
    }[statistic]


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 5), st.randoms())
def test_moments_are_those_of_all_cells_in_any_order(seed: int, count: int, dims: int, random: Any) -> None:
    parts = pieces(np.random.default_rng(seed), count, dims)
    some = any((i if w is None else i * w)[:, 1:].any() for _, i, _, w in parts)
    shuffled = random.sample(parts, len(parts))
    for order in (parts, shuffled):
        moments = Moments(ALL)
        for window, inside, cells, weight in order:
            moments.add(window, inside, cells, weight, None)
        found = moments.result()
        if not some:
            assert found is None
            continue
        assert found is not None and found.dtype == np.float32
        for statistic, values in zip(ALL, found.reshape(len(ALL), dims), strict=True):
            # what is lost in a deviation of few cells, relative to the values
            assert values == pytest.approx(expected(parts, statistic), rel=2e-6, abs=1e-5), statistic


def test_the_deviation_of_large_numbers_keeps_its_digits() -> None:
    rng = np.random.default_rng(1)
    values = (1e4 + rng.normal(0, 0.5, (1, 40, 40))).astype(np.float32)
    moments = Moments(("std",))
    for row in range(40):
        rect = Rect(row, 0, 1, 40)
        moments.add(WindowPlan(rect, rect, rect), np.ones((1, 40), np.float32), values[:, row : row + 1], None, None)
    assert moments.result() == pytest.approx(values.astype(np.float64).std(), rel=1e-6)


def test_a_grid_of_another_size_than_declared_is_refused() -> None:
    rect = Rect(0, 0, 2, 2)
    with pytest.raises(ValueError, match="encoder returned a grid"):
        Moments(("mean",)).add(
            WindowPlan(rect, rect, rect), np.ones((2, 2), np.float32), np.ones((1, 3, 3), np.float32), None, None
        )


def test_vectors_of_windows_are_averaged_by_area() -> None:
    rect = Rect(0, 0, 2, 2)
    window = WindowPlan(rect, rect, rect)
    mean = WindowMean()
    assert mean.result() is None
    for area, value in ((1.0, 3.0), (0.5, 6.0), (0.0, np.nan)):
        inside = np.full((2, 2), area, np.float32)
        mean.add(window, inside, None, None, np.full(4, value, np.float32))
    assert mean.result() == pytest.approx(np.full(4, 4.0))


def test_only_the_owned_part_of_a_window_counts() -> None:
    window = WindowPlan(Rect(0, 0, 4, 4), Rect(0, 0, 2, 2), Rect(0, 0, 2, 1))
    mean = WindowMean()
    mean.add(window, np.array([[0, 1], [0, 1]], np.float32), None, None, np.ones(1, np.float32))
    assert mean.result() is None


@pytest.mark.parametrize("cell", [1, 2, 3])
def test_a_grid_of_larger_cells_is_the_weighted_mean(cell: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Blocks of 256 pixels would need large arrays to be more than one: the constant is no option of any caller.
    monkeypatch.setattr("rs_embed.inference.plan.PIXEL_BLOCK", 4)
    model = fake_model(replace(PIXEL, halo=0), locality="pixel")
    plan = planned(region_px(9, 11), model, cell=cell)
    rng = np.random.default_rng(cell)
    high, wide = plan.footprint.height, plan.footprint.width
    values = rng.normal(size=(2, high, wide)).astype(np.float32)
    weight = rng.choice([0, 1, 0.5], (high, wide)).astype(np.float32)
    weight[:cell, :cell] = 0
    accumulator = GridAccumulator(plan)
    windows = [w for block in plan.blocks for w in block.windows]
    assert len(windows) > 3
    for window in rng.permutation(np.array(windows, object)):
        rows, cols = window.cells.within(Rect(0, 0, high, wide))
        accumulator.add(window, plan.coverage(window.cells), values[:, rows, cols], weight[rows, cols], None)
    found = accumulator.result()
    shape = plan.grid_geobox.shape
    assert found is not None and found.shape == (2, *shape)
    w = (weight * plan.coverage(Rect(0, 0, high, wide))).astype(np.float64).reshape(shape[0], cell, shape[1], cell)
    blocks = values.astype(np.float64).reshape(2, shape[0], cell, shape[1], cell)
    with np.errstate(invalid="ignore"):
        wanted = (blocks * w).sum((2, 4)) / w.sum((1, 3))
    assert np.isnan(found[:, 0, 0]).all()
    assert np.allclose(found, wanted, rtol=1e-6, atol=1e-6, equal_nan=True)


def test_a_grid_without_a_valid_cell_is_nothing() -> None:
    plan = planned(region_px(64, 64), Window(size=64, patch=8, min=64, max=64, multiple=8, square=True))
    accumulator = GridAccumulator(plan)
    (window,) = plan.blocks[0].windows
    cells, inside = np.zeros((3, 8, 8), np.float32), plan.coverage(window.cells)
    accumulator.add(window, inside, cells, np.zeros((8, 8), np.float32), None)
    assert accumulator.result() is None


class Doubling:
    net = None

    def head(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return 2 * vectors


def add_ones(accumulator: Any, plan: Any) -> None:
    (window,) = plan.blocks[0].windows
    shape = (window.cells.height, window.cells.width)
    inside = plan.coverage(window.cells)
    accumulator.add(window, inside, np.ones((3, *shape), np.float32), None, np.full(3, 5, np.float32))


@pytest.mark.parametrize(
    ("pooled", "pooling", "wanted"),
    [
        ("cells", "mean", [2] * 3),
        ("window", "mean", [10] * 3),
        ("window", "cells", [1] * 3),
        ("cells", "max", [1] * 3),
        ("cells", "std", [0] * 3),
        ("cells", "stats", [1] * 3 + [0] * 3 + [1] * 6),
        ("cells", "gem", [1] * 3),
    ],
)
def test_the_head_finishes_the_frozen_feature_only(pooled: str, pooling: str, wanted: list[float]) -> None:
    model = fake_model(Window(size=64, patch=8, min=64, max=64, multiple=8, square=True), pooled=pooled)
    plan = planned(region_px(64, 64), model, output=OutputSpec.pooled(pooling))
    accumulator = make_accumulator(plan, Doubling())  # type: ignore[arg-type]
    add_ones(accumulator, plan)
    assert accumulator.result() == pytest.approx(np.array(wanted, np.float32), abs=1e-6)
