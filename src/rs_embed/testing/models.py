"""The contract of a model: what every entry of the catalogue keeps to, and what a plug-in has to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.describe import describe
from rs_embed.core.embedding import Embedding
from rs_embed.core.errors import ModelError, NoImageryError
from rs_embed.core.imagery import ImageRequest, ImageStack
from rs_embed.core.model_spec import ModelSpec
from rs_embed.core.options import accepted_options, check_options
from rs_embed.core.registry import get_spec
from rs_embed.core.specs import OutputSpec, PointBuffer, SpatialSpec, TemporalSpec, norm_spatial
from rs_embed.inference.products import open_backend
from rs_embed.inference.random_weights import with_random_weights
from rs_embed.inference.session import open_session
from rs_embed.providers.base import Provider
from rs_embed.testing.report import Report, Skip, close, expect, run_checks
from rs_embed.testing.trial import Trial, bounds_of, mirrored, random_state, within

__all__ = ["MODEL_CHECKS", "check_model"]

RELATIVE = 1e-5
"""How much a vector may differ by the company in which it was computed, of its length."""
META = (
    *("model", "type", "backend", "source", "sensor", "temporal", "image_size", "pooling", "grid_hw", "cls_removed"),
    *("input_prep", "schema", "id", "space", "request", "crs", "geobox", "effective_gsd", "region_exact", "scenes"),
    *("clear_fraction", "valid_fraction", "frames", "input_check", "export", "checkpoint", "normalization", "license"),
    *("citation", "attribution", "device", "dtype", "versions", "created", "warnings"),
)
"""Keys of the metadata on which users rely."""

_POOLED, _CELLS, _GRID = OutputSpec.pooled(), OutputSpec.pooled("cells"), OutputSpec.grid()
_PLACE, _TIME = PointBuffer(11.5, 48.1, 165), TemporalSpec.range("2022-06-01", "2022-08-01")


def _description(trial: Trial) -> None:
    """The static facts are whole and plain JSON."""
    spec, facts = trial.spec, describe(trial.spec)
    expect(json.loads(json.dumps(facts, allow_nan=False)) == facts, "the description is not plain JSON")
    expect(spec.citation.lstrip().startswith("@"), f"citation must be BibTeX, got {spec.citation[:40]!r}")
    for part in ("code", "weights"):
        expect(isinstance(spec.licence.get(part), str), f"licence says nothing of the {part}")
    expect(spec.pooled_says.strip() and spec.source.strip(), "pooled_says and source must not be empty")
    for name, variant in spec.variants.items():
        expect({"pooled", "grid"} >= set(variant.dims) >= {"pooled"}, f"variant {name}: dims are {dict(variant.dims)}")


def _options(trial: Trial) -> None:
    """Defaults are accepted values, others are refused, and an unknown option is told which there are."""
    spec, accepted = trial.spec, accepted_options(trial.spec)
    values = check_options(spec, {name: option.default for name, option in accepted.items()})
    expect(values == check_options(spec, {}), "the defaults of the options change when they are given")
    try:
        check_options(spec, {"no_such_option": 1})
    except ModelError as error:
        unsaid = [name for name in accepted if name not in str(error)]
        expect(not unsaid, f"the error of an unknown option does not name {unsaid}")
    else:
        raise AssertionError("an unknown option is accepted")
    for name, option in accepted.items():
        expect(option.description.strip(), f"option {name} has no description")


def _vector(trial: Trial) -> None:
    """The vector has the described length, is float32 and finite, and is no constant."""
    found = trial.embed(_POOLED)
    wanted = (trial.setup.variant.dims["pooled"],)
    expect(found.shape == wanted, f"the vector has the shape {found.shape}, described is {wanted}")
    expect(found.values().dtype == np.asarray(found.data).dtype == np.float32, f"it is {np.asarray(found.data).dtype}")
    bad = int((~np.isfinite(found.values())).sum())
    expect(bad == 0, f"{bad} of {found.dim} numbers of the vector are not finite, on imagery without a gap")
    expect(found.dim == 1 or found.values().std() > 0, f"all numbers of the vector are {found.values()[0]}")


def _grid(trial: Trial) -> None:
    """The grid has the described dimensions, is finite, north up and covers the region, no more."""
    found = _gridded(trial)
    grid, wanted = found.data, trial.setup.variant.dims["grid"]
    expect(not isinstance(grid, np.ndarray) and grid.dims == ("d", "y", "x"), "the grid is no DataArray (d, y, x)")
    expect(found.shape[0] == wanted, f"the grid has {found.shape[0]} dimensions, described are {wanted}")
    bad = int((~np.isfinite(found.values()).all(0)).sum())
    expect(bad == 0, f"{bad} of {found.shape[1] * found.shape[2]} cells are not finite, on imagery without a gap")
    left, bottom, right, top = trial.region.shape.bounds
    (x0, _, _, y1), (_, y0, x1, _) = bounds_of(found, 0, 0), bounds_of(found, found.shape[1] - 1, found.shape[2] - 1)
    edge = 1e-3
    covers = x0 <= left + edge and y0 <= bottom + edge and x1 >= right - edge and y1 >= top - edge
    expect(covers, f"the grid spans {(x0, y0, x1, y1)}, the region {(left, bottom, right, top)}")
    first = bounds_of(found, 0, 0)
    expect(first[2] > left and first[1] < top, "a row or column of cells lies outside the region")


def _gridded(trial: Trial) -> Embedding:
    if "grid" not in trial.setup.variant.dims:
        raise Skip("the model has no grid")
    return trial.embed(_GRID)


def _order(trial: Trial) -> None:
    """A change of the ground shows in the cell that stands for it."""
    clean = _gridded(trial)
    _, height, width = clean.shape
    if not trial.spec.inputs or height * width == 1:
        raise Skip("there is no imagery" if not trial.spec.inputs else "the region has one cell")
    before = clean.values()
    reach = trial.setup.variant.window.halo
    for row, col in {(0, width - 1), (height // 2, 0), (height - 1, width // 2)}:
        bounds = bounds_of(clean, row, col)

        def change(request: ImageRequest, stack: ImageStack, where: Any = bounds) -> ImageStack:
            return mirrored(request, stack, within(stack.geobox, where))

        moved = np.linalg.norm(trial.embed(_GRID, change=change).values() - before, axis=0)
        expect(moved.max() > 0, f"a change of the ground in row {row}, column {col} changes no cell")
        seen = tuple(int(i) for i in np.unravel_index(np.argmax(moved), moved.shape))
        if trial.spec.locality == "pixel":
            rows, cols = np.nonzero(moved)
            far = int(max(np.abs(rows - row).max(), np.abs(cols - col).max()))
            expect(far <= reach, f"a change of one pixel reaches {far} cells, its window's halo is {reach}")
            expect(reach or seen == (row, col), f"a change in row {row}, column {col} shows in {seen}")
            continue
        slack = 0 if bounds[2] - bounds[0] >= 2 * trial.pixel else 1
        away = max(abs(seen[0] - row), abs(seen[1] - col))
        expect(away <= slack, f"a change of the ground in row {row}, column {col} shows most in row, column {seen}")


def _mean_of_cells(trial: Trial) -> None:
    """``pooling="cells"`` weighs cells by the region's share; the frozen feature is that mean where it says so."""
    grid = _gridded(trial)
    box = grid.values().reshape(grid.dim, -1).astype(np.float64)
    session = trial.session(_GRID)
    coverage = session.plan(norm_spatial(trial.spatial), trial.temporal)
    weights = coverage.coverage(coverage.cell_rect).ravel().astype(np.float64)
    mean = np.average(box, axis=1, weights=weights)
    expect(close(trial.embed(_CELLS).values(), mean, RELATIVE), "pooling='cells' is not the mean of the grid's cells")
    if trial.spec.pooled == "cells" and trial.spec.statistics == ("mean",):
        wanted = session.runtime().encoder.head(mean.astype(np.float32))
        said = "pooled='cells', and the vector is not the head of the mean of the grid's cells"
        expect(close(trial.embed(_POOLED).values(), wanted, RELATIVE), said)


def _quarters(trial: Trial) -> list[SpatialSpec]:
    """Four places of one shape within the region, so that they share a batch."""
    height, width = (max(1, side // 2) for side in trial.sides)
    rows, cols = (max(0, side - half) for side, half in zip(trial.sides, (height, width), strict=True))
    return [trial.box(row, col, height, width) for row in {0, rows} for col in {0, cols}]


def _batch(trial: Trial) -> None:
    """A place alone gives what it gives in a batch."""
    places = _quarters(trial)
    for output in _outputs(trial):
        together = trial.batch(places, output)
        for number, (place, found) in enumerate(zip(places, together, strict=True)):
            alone = trial.embed(output, place)
            said = f"place {number} of {len(places)} alone is not what it is in a batch ({output.mode})"
            expect(close(found.values(), alone.values(), RELATIVE), said)


def _batch_order(trial: Trial) -> None:
    """The order of a batch does not matter."""
    places = _quarters(trial)
    if len(places) == 1:
        raise Skip("the region has one pixel")
    for output in _outputs(trial):
        forth, back = trial.batch(places, output), trial.batch(places[::-1], output)[::-1]
        same = all(close(a.values(), b.values(), RELATIVE) for a, b in zip(forth, back, strict=True))
        expect(same, f"a batch in reverse order gives other numbers ({output.mode})")


def _outputs(trial: Trial) -> list[OutputSpec]:
    return [_POOLED, _GRID] if "grid" in trial.setup.variant.dims else [_POOLED]


def _seams(trial: Trial) -> None:
    """A pixel model gives the same cell in a block of its own, and when the region moves by whole pixels."""
    if trial.spec.locality != "pixel":
        raise Skip("the numbers of a model that is not of locality 'pixel' depend on its window")
    for long, part in ((trial.box(0, 0, 3, 270), (0, 250, 3, 15)), (trial.box(0, 0, 270, 3), (250, 0, 15, 3))):
        whole = trial.embed(_GRID, long)
        found = trial.embed(_GRID, trial.box(*part))
        row, col = _offset(found, whole)
        cut = whole.values()[:, row : row + found.shape[1], col : col + found.shape[2]]
        said = "the cells across a seam of two blocks are not those of a region of their own there"
        expect(close(found.values(), cut, RELATIVE), said)


def _offset(inner: Embedding, outer: Embedding) -> tuple[int, int]:
    """Return the row and column of a grid's first cell in another grid."""
    (left, _, right, top), (left0, _, _, top0) = bounds_of(inner, 0, 0), bounds_of(outer, 0, 0)
    return round((top0 - top) / (right - left)), round((left - left0) / (right - left))


Where = Callable[[Any], NDArray[np.bool_]]


def _gone(where: Where) -> Any:
    """Return a change that leaves no usable pixel there: NaN in memory, and not valid."""

    def change(request: ImageRequest, stack: ImageStack) -> ImageStack:
        bad = np.broadcast_to(where(stack.geobox), stack.valid.shape)
        pixels = np.where(bad[:, None], np.float32(np.nan), stack.pixels)
        return replace(stack, pixels=pixels, valid=stack.valid & ~bad)

    return change


def _missing(trial: Trial) -> None:
    """A pixel without data stays where it is: other cells are finite, and none is zero in its place."""
    if not trial.spec.inputs:
        raise Skip("the model takes no imagery")
    middle = trial.box(trial.sides[0] // 2, trial.sides[1] // 2, 1, 1)
    one = _gone(lambda geobox: within(geobox, (middle.minlon, middle.minlat, middle.maxlon, middle.maxlat)))
    clean, vector = trial.embed(_POOLED).values(), trial.embed(_POOLED, change=one).values()
    expect(np.isfinite(vector).all(), "one pixel without data makes the vector NaN")
    like = float(clean @ vector) / max(float(np.linalg.norm(clean) * np.linalg.norm(vector)), 1e-12)
    expect(like > 0.9, f"one pixel without data turns the vector (cosine {like:.3f})")
    left, bottom, right, top = trial.region.shape.bounds
    west = _gone(lambda geobox: within(geobox, (left - 1e5, bottom - 1e5, (left + right) / 2, top + 1e5)))
    half = trial.embed(_POOLED, change=west).values()
    expect(np.isfinite(half).all() and half.any(), "half a region without data makes a vector of NaN or zeros")
    if "grid" in trial.setup.variant.dims:
        _missing_cells(trial, one, west, bounds=(middle.minlon, middle.minlat, middle.maxlon, middle.maxlat))


def _missing_cells(trial: Trial, one: Any, west: Any, *, bounds: tuple[float, float, float, float]) -> None:
    clean = trial.embed(_GRID)
    before, spoilt = clean.values(), trial.embed(_GRID, change=one).values()
    gone = ~np.isfinite(spoilt).all(0)
    if trial.spec.locality == "pixel":
        expect(gone.sum() == 1, f"one pixel without data leaves {int(gone.sum())} cells without numbers, not its own")
        rows, cols = np.nonzero((spoilt != before).any(0))
        far = max(np.ptp(rows), np.ptp(cols)) // 2
        reach = trial.setup.variant.window.halo
        expect(far <= reach, f"one pixel without data changes cells {far} away, the window's halo is {reach}")
    else:
        expect(not gone.any(), f"one pixel without data leaves {int(gone.sum())} cells without numbers")
    zeros = ~before.any(0)
    made = ~trial.embed(_GRID, change=west).values().any(0) & ~zeros
    expect(not made.any(), f"{int(made.sum())} cells without data are zeros")


def _no_imagery(trial: Trial) -> None:
    """A region without a usable pixel is an error, not numbers."""
    if not trial.spec.inputs:
        raise Skip("the model takes no imagery")
    nothing = _gone(lambda geobox: np.ones(geobox.shape, bool))
    for output in _outputs(trial):
        try:
            trial.embed(output, change=nothing)
        except NoImageryError:
            continue
        raise AssertionError(f"a region without a usable pixel gives an embedding ({output.mode})")


def _metadata(trial: Trial) -> None:
    """The metadata are whole and plain JSON, and name the model."""
    for output in _outputs(trial):
        meta = trial.embed(output).meta
        absent = [key for key in META if key not in meta]
        expect(not absent, f"meta lacks {absent}")
        expect(json.loads(json.dumps(meta, allow_nan=False)) == meta, "meta does not survive JSON: tuples or numbers?")
        expect(meta["model"] == trial.spec.name and trial.spec.citation in meta["citation"], "meta names another model")


def _repeats(trial: Trial) -> None:
    """The same call gives the same numbers, from an encoder that was built again."""
    first, place = trial.embed(_POOLED).values(), [trial.spatial]
    expect(close(trial.batch(place, _POOLED)[0].values(), first, 1e-6), "the same call gives other numbers")
    again = replace(trial, spec=replace(trial.spec), known={})
    expect(close(again.embed(_POOLED).values(), first, 1e-6), "an encoder that is built again gives other numbers")


def _random_numbers(trial: Trial) -> None:
    """Nobody's random numbers were drawn or seeded."""
    trial.embed(_POOLED)
    names = ("Python's", "numpy's", "numpy's", "numpy's", "torch's")
    moved = {
        name for name, a, b in zip(names, trial.before, random_state(), strict=True) if None not in (a, b) and a != b
    }
    expect(
        not moved, f"it draws or seeds {' and '.join(sorted(moved))} global random numbers; use a generator of its own"
    )


MODEL_CHECKS: Mapping[str, Callable[[Trial], None]] = {
    "description": _description,
    "options": _options,
    "vector": _vector,
    "grid": _grid,
    "order of cells": _order,
    "mean of cells": _mean_of_cells,
    "alone and in a batch": _batch,
    "order of a batch": _batch_order,
    "seams": _seams,
    "missing pixels": _missing,
    "no imagery": _no_imagery,
    "metadata": _metadata,
    "repeats": _repeats,
    "random numbers": _random_numbers,
}
"""Every check by name, in the order in which they run."""


def check_model(
    model: str | ModelSpec,
    *,
    options: Mapping[str, Any] | None = None,
    checkpoint: str | Path | None = None,
    backend: str | Path | Provider = "synthetic",
    spatial: SpatialSpec = _PLACE,
    temporal: TemporalSpec = _TIME,
    raises: bool = True,
) -> Report:
    """Run the contract that every model of the catalogue passes.

    Parameters
    ----------
    model
        A `ModelSpec`, or the name of one.
    options
        The model's options, such as its smallest ``variant``.
    checkpoint
        A weights file. Without one, a model with weights gets the seeded random ones of its constructor: the contract
        is about what an encoder does with pixels, and `rs-embed verify` about its numbers.
    backend
        Where the imagery comes from: it must be without a gap at that place and time. The painted landscape has
        Sentinel-2 and Sentinel-1. Of a precomputed product the URL or folder of a store.
    spatial, temporal
        Where and when; some 300 m, so that there are several cells.
    raises
        Whether a failed check is an error, or only stands in the report.

    Returns
    -------
    Report
        Every check: passed, failed with what is wrong, or skipped with why.

    Raises
    ------
    ContractError
        If a check failed; an `AssertionError` that lists all of them.
    RSEmbedError
        If the call itself is wrong: an unknown model or option, or a backend without the model's sensor.
    """
    spec = model if isinstance(model, ModelSpec) else get_spec(model)
    given = dict(options or {}) | ({} if checkpoint is None else {"checkpoint": str(checkpoint)})
    if given.get("checkpoint") is None and any(variant.checkpoint for variant in spec.variants.values()):
        spec = with_random_weights(spec)
    provider = open_backend(spec, backend)
    open_session(spec, provider, options=given)
    trial = Trial(spec, provider, given, norm_spatial(spatial), temporal)
    return run_checks(f"model {spec.name}", MODEL_CHECKS, trial, raises=raises)
