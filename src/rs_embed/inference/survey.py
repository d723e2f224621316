"""Planning one region and searching its scenes, as a call would, without a pixel."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rs_embed.core.errors import ModelError, RSEmbedError
from rs_embed.core.imagery import ImageRequest, Interval, Scene
from rs_embed.inference.engine import FEATURE_BYTES, Job
from rs_embed.inference.forwards import BlockLoad
from rs_embed.inference.meta import base_meta
from rs_embed.inference.plan import Plan
from rs_embed.inference.prepare import choose_frames
from rs_embed.inference.provenance import plain
from rs_embed.inference.reading import Reading, weigh
from rs_embed.providers.base import Provider
from rs_embed.providers.composite import Chosen, select_scenes

__all__ = ["Surveyed", "said", "searchable", "survey"]


_LATER = 650
"""Bytes of metadata that are known after a run only."""


@dataclass
class Surveyed:
    """What became of one region."""

    job: Job
    plan: Plan | None = None
    loads: tuple[BlockLoad, ...] = ()
    frames: dict[str, int] = field(default_factory=dict)
    """Frames that the net gets of each input."""
    found: list[tuple[str, Interval, tuple[Scene, ...]]] = field(default_factory=list)
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reading: Reading = field(default_factory=Reading)
    shape: tuple[int, ...] = ()
    meta_bytes: int = 0
    error: RSEmbedError | None = None


def survey(provider: Provider, job: Job, batch: int) -> Surveyed:
    """Plan and search one region, in a thread of the pool."""
    region = Surveyed(job)
    try:
        plan = region.plan = job.make_plan()
    except RSEmbedError as error:
        region.error = error
        return region
    region.shape = _shape(plan)
    try:
        _search(plan, provider, region)
    except RSEmbedError as error:
        region.error = error
        region.loads = (BlockLoad(plan.blocks[0].nbytes, ()),)  # it is loaded in vain
        return region
    known = [scene for _, _, scenes in region.found for scene in scenes]
    told = json.dumps(plain([base_meta(plan, provider, None, "cpu"), [said(scene) for scene in known]]))
    region.meta_bytes = len(told) + _LATER
    region.loads = tuple(
        BlockLoad(
            block.nbytes,
            tuple((_signature(plan, region, w.rect), _batch(plan, w.cells, batch)) for w in block.windows),
        )
        for block in plan.blocks
    )
    return region


def searchable(provider: Provider) -> bool:
    """Whether a provider tells its scenes before it loads them, as those over a catalogue do."""
    return callable(getattr(provider, "search", None)) and hasattr(provider, "most_passes")


def _shape(plan: Plan) -> tuple[int, ...]:
    """Return the shape of a region's embedding."""
    dims, output = plan.setup.variant.dims, plan.output
    if output.mode == "grid":
        return dims["grid"], plan.cell_rect.height, plan.cell_rect.width
    return (dims["pooled"] if output.pooling == "mean" else dims["grid"] * {"stats": 4}.get(output.pooling, 1),)


def _search(plan: Plan, provider: Provider, region: Surveyed) -> None:
    """Find the scenes of each input, and what the model would say of bands and frames that they lack."""
    for name, request in plan.requests.items():
        item = plan.setup.inputs[name]
        chosen: Chosen | None = None
        if searchable(provider):
            chosen = select_scenes(provider, request)  # type: ignore[arg-type]
            region.found += _found(name, request, chosen)
        missing = () if chosen is None else chosen.missing_bands
        lacking = tuple(b for b in item.bands if b in item.absent or b in missing)
        if missing:
            region.missing[name] = missing
        if lacking and item.spec.missing_band == "error":
            raise ModelError(f"no scene has band {', '.join(lacking)} of {item.sensor.id}, which the model needs")
        frames = max(1, len(request.intervals)) if chosen is None else len(chosen.frames)
        if chosen is not None and item.frames.max > 1:
            kept = choose_frames(np.array([bool(frame.groups) for frame in chosen.frames]), item)
            frames = frames if kept is None else len(kept)
        region.frames[name] = frames if item.frames.max > 1 else 1
        region.reading += weigh(provider, request, chosen, [plan.parts(item, block) for block in plan.blocks])


def _found(name: str, request: ImageRequest, chosen: Chosen) -> list[tuple[str, Interval, tuple[Scene, ...]]]:
    """Return the scenes of each interval; frames of single acquisitions share one."""
    if not request.intervals:
        return []
    each = [tuple(scene for group in frame.groups for scene in group) for frame in chosen.frames]
    if request.composite == "none":
        each = [tuple(scene for scenes in each for scene in scenes)]
    return [(name, interval, scenes) for interval, scenes in zip(request.intervals, each, strict=True)]


def _signature(plan: Plan, region: Surveyed, rect: Any) -> tuple[Any, ...]:
    """Return what windows of one batch share, as `Sample.signature` tells it of pixels."""
    sides = {}
    for name, item in plan.setup.inputs.items():
        scale = plan.step * round(item.gsd / plan.lattice.gsd)
        sides[name] = (rect.height // scale, rect.width // scale) if plan.mode == "pixel" else plan.side
    inputs = tuple(
        (name, region.frames[name], sides[name], region.missing.get(name, ()), not plan.requests[name].intervals)
        for name in plan.setup.inputs
    )
    return inputs, plan.region.lonlat is None


def _batch(plan: Plan, cells: Any, wanted: int) -> int:
    """Return the windows of one forward pass, as the engine limits them."""
    features = 4 * max(plan.setup.variant.dims.values()) * cells.height * cells.width
    return max(1, min(wanted, int(FEATURE_BYTES // features)))


def said(scene: Scene) -> dict[str, Any]:
    """Return a scene as ``meta["scenes"]`` tells it."""
    return {"id": scene.id, "datetime": scene.time.isoformat(), "cloud_cover": scene.cloud_cover}
