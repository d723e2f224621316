"""From loaded pixels to samples and batches: cut windows, fill, resize, the model's own steps, stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.encoding import Batch, InputBatch
from rs_embed.core.errors import ModelError, NoImageryError
from rs_embed.core.geometry import Rect
from rs_embed.core.imagery import ImageStack
from rs_embed.inference.plan import Block, Plan, WindowPlan
from rs_embed.inference.setup import InputSetup
from rs_embed.preprocess.fill import fill_invalid
from rs_embed.preprocess.steps import Resize
from rs_embed.providers.composite import median

__all__ = ["Sample", "SampleInput", "WindowStats", "choose_frames", "collate", "in_time", "make_samples", "one_frame"]


@dataclass(frozen=True)
class SampleInput:
    """One input of one window, ready for the net."""

    pixels: NDArray[np.float32]
    valid: NDArray[np.bool_]
    times: NDArray[np.datetime64]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class WindowStats:
    """What was usable of one window, inside the region's rectangle."""

    valid: int
    total: int
    frames_found: int
    frames: int


@dataclass(frozen=True)
class Sample:
    """One window of one region."""

    window: WindowPlan
    inputs: Mapping[str, SampleInput]
    gsd: float
    lonlat: tuple[float, float]
    coverage: NDArray[np.float32]
    """``(h, w)``: area fraction inside the region of each of the window's cells."""
    stats: WindowStats
    pixel_lonlat: NDArray[np.float64] | None = None
    """``(H, W, 2)``, for models that are told where each pixel lies."""

    @property
    def signature(self) -> tuple[Any, ...]:
        """What samples of one batch must share."""
        inputs = tuple(
            (name, i.pixels.shape, i.missing, bool(np.isnat(i.times).any())) for name, i in self.inputs.items()
        )
        return inputs, np.isnan(self.lonlat[0])


def _crop(window: Rect, block: Rect, scale: int) -> tuple[slice, slice]:
    rows, cols = window.within(block)
    return slice(rows.start // scale, rows.stop // scale), slice(cols.start // scale, cols.stop // scale)


def _complete(
    pixels: NDArray[np.float32], item: InputSetup, missing: tuple[str, ...]
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Put bands that were not asked for back in their places, and refuse what the net cannot do without."""
    lacking = tuple(b for b in item.bands if b in item.absent or b in missing)
    if lacking and item.spec.missing_band == "error":
        raise ModelError(
            f"the imagery has no band {', '.join(lacking)} of {item.sensor.id}, which the model needs; "
            "choose another sensor or backend"
        )
    if item.absent:
        full = np.zeros((pixels.shape[0], len(item.bands), *pixels.shape[2:]), np.float32)
        full[:, [i for i, b in enumerate(item.bands) if b not in item.absent]] = pixels
        pixels = full
    return pixels, lacking


def _resized(
    pixels: NDArray[np.float32], valid: NDArray[np.bool_], side: tuple[int, int], item: InputSetup
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Resample to the net's size, unless a step of the model does it; the mask follows by the larger share."""
    if valid.shape[1:] == side:
        return pixels, valid
    if not any(isinstance(step, Resize) for step in item.source.steps):
        pixels = Resize(side[0])(pixels)
    share = Resize(side[0])(valid[:, None].astype(np.float32))[:, 0]
    return pixels, share >= 0.5


def in_time(stack: ImageStack) -> ImageStack:
    """Put frames into the order of their dates, as nets that are told a frame's position have seen them."""
    if np.isnat(stack.times).any() or (np.diff(stack.times) >= np.timedelta64(0)).all():
        return stack
    order = np.argsort(stack.times, kind="stable")
    scenes = tuple(stack.scenes[i] for i in order) if len(stack.scenes) == len(order) else stack.scenes
    return replace(stack, pixels=stack.pixels[order], valid=stack.valid[order], times=stack.times[order], scenes=scenes)


def one_frame(stack: ImageStack, item: InputSetup) -> ImageStack:
    """Reduce an array's several frames to the one that a net of one frame takes: their median, radar in power."""
    if item.frames.max > 1 or len(stack.pixels) <= 1:
        return stack
    radar = item.sensor.kind == "radar"
    pixels = 10 ** (stack.pixels / 10) if radar else stack.pixels
    pixels = np.where(stack.valid[:, None], pixels, np.float32(np.nan))
    merged = median([np.ascontiguousarray(frame) for frame in pixels])
    valid = np.logical_and.reduce(np.isfinite(merged), axis=0)
    merged = np.where(valid, merged, np.float32(1))
    merged = 10 * np.log10(np.maximum(merged, 1e-30)) if radar else merged
    middle = stack.times[len(stack.times) // 2 : len(stack.times) // 2 + 1]
    return replace(
        stack,
        pixels=merged[None].astype(np.float32),
        valid=valid[None],
        times=middle,
        scenes=(tuple(scene for frame in stack.scenes for scene in frame),),
    )


def choose_frames(seen: NDArray[np.bool_], item: InputSetup) -> NDArray[np.intp] | None:
    """Return which frames the net gets where some have no usable pixel; ``None``: all, as they are."""
    frames = item.frames
    if seen.all() or not seen.any() or frames.max == 1 or frames.missing == "mask":
        return None
    kept = np.flatnonzero(seen)
    if frames.missing == "error" or (frames.missing == "drop" and len(kept) < frames.min):
        raise NoImageryError(
            f"{len(seen) - len(kept)} of {len(seen)} frames of {item.wanted.collection} have no usable pixel, and the "
            f"model needs {len(seen) if frames.missing == 'error' else frames.min}; choose another or a longer time"
        )
    if frames.missing == "drop":
        return kept
    nearest: NDArray[np.intp] = np.abs(kept[None] - np.arange(len(seen))[:, None]).argmin(1)
    return kept[nearest]  # repeat


def _prepare(plan: Plan, item: InputSetup, stack: ImageStack, crop: tuple[slice, slice]) -> SampleInput:
    pixels = stack.pixels[:, :, crop[0], crop[1]]
    valid = stack.valid[:, crop[0], crop[1]]
    times = stack.times
    chosen = choose_frames(np.asarray(valid.any((1, 2))), item)
    if chosen is not None:
        pixels, valid, times = pixels[chosen], valid[chosen], times[chosen]
    pixels, missing = _complete(pixels, item, stack.missing_bands)
    lacking = tuple(item.bands.index(b) for b in missing)
    pixels = fill_invalid(pixels, valid, lacking, item.fill)
    if plan.mode != "pixel":
        pixels, valid = _resized(pixels, valid, plan.side, item)
    for step in item.source.steps:
        pixels = step(pixels)
    return SampleInput(pixels, valid, times, missing)


def _stats(plan: Plan, window: WindowPlan, stacks: Mapping[str, ImageStack], block: Block) -> WindowStats:
    """Count usable pixels of the window inside the region's rectangle, over all inputs and frames."""
    inside = plan.lattice.cover(plan.region.shape.bounds)
    valid = total = found = frames = 0
    for name, stack in stacks.items():
        scale = plan.step * round(plan.setup.inputs[name].gsd / plan.lattice.gsd)
        top, left = max(inside.row, window.rect.row), max(inside.col, window.rect.col)
        bottom = min(inside.row + inside.height, window.rect.row + window.rect.height)
        right = min(inside.col + inside.width, window.rect.col + window.rect.width)
        if bottom <= top or right <= left:
            continue
        cut = Rect(top, left, bottom - top, right - left)
        rows, cols = _crop(cut, block.rect, scale)
        part = stack.valid[:, rows.start : max(rows.stop, rows.start + 1), cols.start : max(cols.stop, cols.start + 1)]
        valid += int(part.sum())
        total += part.size
        found += int(part.any((1, 2)).sum())
        frames += len(part)
    return WindowStats(valid, total, found, frames)


_NOWHERE = (float("nan"), float("nan"))


def _place(plan: Plan, window: WindowPlan) -> tuple[float, float]:
    """Return the window's centre in degrees, or the one that the user named for pixels without a georeference."""
    if "place" not in plan.setup.conditions:
        return plan.region.lonlat or _NOWHERE
    return plan.lattice.centre_lonlat(window.rect) or plan.region.lonlat or _NOWHERE


def _pixel_places(plan: Plan, window: WindowPlan) -> NDArray[np.float64] | None:
    """Return the centres of the window's pixels, for a model that is told them."""
    if "pixel_place" not in plan.conditions:
        return None
    found = plan.lattice.pixel_lonlat(window.rect, plan.step)
    height, width = window.rect.height // plan.step, window.rect.width // plan.step
    return np.full((height, width, 2), plan.region.lonlat or _NOWHERE) if found is None else found


def make_samples(plan: Plan, block: Block, stacks: Mapping[str, ImageStack]) -> list[Sample]:
    """Return one sample for each window of a block.

    Raises
    ------
    ModelError
        If a band is missing that the net cannot do without.
    """
    stacks = {name: one_frame(in_time(stack), plan.setup.inputs[name]) for name, stack in stacks.items()}
    samples = []
    for window in block.windows:
        inputs = {}
        for name, stack in stacks.items():
            item = plan.setup.inputs[name]
            scale = plan.step * round(item.gsd / plan.lattice.gsd)
            inputs[name] = _prepare(plan, item, stack, _crop(window.rect, block.rect, scale))
        stats = _stats(plan, window, stacks, block)
        place = (_place(plan, window), plan.coverage(window.cells), stats, _pixel_places(plan, window))
        samples.append(Sample(window, inputs, plan.effective_gsd, *place))
    return samples


def collate(plan: Plan, samples: Sequence[Sample]) -> Batch:
    """Stack samples of one signature."""
    inputs = {}
    for name, item in plan.setup.inputs.items():
        parts = [s.inputs[name] for s in samples]
        single = len(parts) == 1
        known = [item.sensor.band(b) for b in item.bands]
        inputs[name] = InputBatch(
            pixels=parts[0].pixels[None] if single else np.stack([p.pixels for p in parts]),
            valid=parts[0].valid[None] if single else np.stack([p.valid for p in parts]),
            times=np.stack([p.times for p in parts]),
            bands=item.bands,
            missing_bands=parts[0].missing,
            wavelengths=np.array(item.wavelengths),
            bandwidths=np.array([b.bandwidth for b in known]),
            gsd=np.array([s.gsd * item.gsd / plan.lattice.gsd for s in samples]),
        )
    coverage = np.stack([s.coverage for s in samples])
    placed = [s.pixel_lonlat for s in samples if s.pixel_lonlat is not None]
    return Batch(inputs, coverage, np.array([s.lonlat for s in samples]), np.stack(placed) if placed else None)
