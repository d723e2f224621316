"""Quality reports of imagery and of a model's input, without running a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rs_embed.core.errors import ModelError, SpecError
from rs_embed.core.geometry import locate
from rs_embed.core.imagery import ImageRequest, ImageStack, geobox_dict
from rs_embed.core.sensors import SENSORS, canonical_bands, find_sensor
from rs_embed.core.specs import SensorSpec, TemporalSpec, norm_spatial
from rs_embed.inference.plan import Block
from rs_embed.inference.provenance import plain
from rs_embed.inference.quality import quality_report, save_quicklook
from rs_embed.inference.quicklook import check_picture, colour_bands, contact_sheet, draw, save_picture
from rs_embed.inference.session import Session
from rs_embed.providers.base import Provider

__all__ = ["inspect_input", "inspect_patch", "patch_request"]

MAX_SIDE = 4096
PER_ROW = 6
"""Frames side by side in a picture."""


def _array(stack: ImageStack, frame: int, fill_value: float) -> NDArray[np.float32]:
    return np.where(stack.valid[frame], stack.pixels[frame], np.float32(fill_value))


def _check_range(value_range: tuple[float, float] | None) -> None:
    if value_range is not None and (len(value_range) != 2 or not value_range[0] < value_range[1]):
        raise SpecError(f"value_range={value_range!r} must be two numbers, the lower one first")


def patch_request(spatial: Any, temporal: TemporalSpec, sensor: SensorSpec) -> tuple[ImageRequest, GeoBox]:
    """Return the request of one composite of a region's bounding rectangle, and its lattice.

    Raises
    ------
    SpecError
        If ``sensor`` is no `SensorSpec`, or the rectangle has more than `MAX_SIDE` pixels a side.
    """
    if not isinstance(sensor, SensorSpec):
        raise SpecError(f"sensor={sensor!r} must be a SensorSpec")
    known = find_sensor(sensor.collection)
    region = locate(norm_spatial(spatial))
    lattice = region.lattice(float(sensor.scale_m), known.offset)
    rect = lattice.cover(region.shape.bounds)
    if max(rect.height, rect.width) > MAX_SIDE:
        raise SpecError(f"the patch is {rect.height} x {rect.width} pixels; inspect at most {MAX_SIDE} a side")
    geobox = lattice.geobox(rect)
    request = ImageRequest(
        known.id,
        canonical_bands(known, sensor.bands),
        region.footprint,
        geobox,
        (temporal.interval,) if known.dated else (),
        sensor.composite,
        known.mask,
        100.0 if sensor.cloudy_pct is None else float(sensor.cloudy_pct),
        sensor.orbit,
        sensor.collection,
        "IW" if known.kind == "radar" and sensor.s1_require_iw else None,
        sensor.s1_relax_iw_on_empty,
    )
    return request, geobox


def _answer(provider: Provider, stack: ImageStack) -> tuple[str, tuple[str, ...]]:
    """Which backend really answered, and what it said of how the pixels came about."""
    return (provider.name if stack.origin is None else stack.origin[0]), stack.notes


def _told(answers: Sequence[tuple[str, tuple[str, ...]]]) -> dict[str, Any]:
    """The same of several inputs, for a report."""
    notes = dict.fromkeys(note for _, said in answers for note in said)
    return {"backend": ", ".join(dict.fromkeys(name for name, _ in answers)), "notes": list(notes)}


def inspect_patch(
    provider: Provider,
    spatial: Any,
    temporal: TemporalSpec,
    sensor: SensorSpec,
    *,
    name: str,
    value_range: tuple[float, float] | None,
    return_array: bool,
    picture: Path | None = None,
) -> dict[str, Any]:
    """Return the report of one composite of a region's bounding rectangle."""
    if picture is not None:
        check_picture(picture)
    _check_range(value_range)
    request, geobox = patch_request(spatial, temporal, sensor)
    stack = next(iter(provider.load(request, [geobox])))
    report = quality_report(
        stack.pixels[0], stack.valid[0], name=name, fill_value=sensor.fill_value, value_range=value_range
    )
    found = {
        "ok": report["ok"],
        "report": report,
        "sensor": plain(asdict(sensor)),
        "temporal": _span(temporal),
        **_told([_answer(provider, stack)]),
        "geobox": geobox_dict(geobox),
        "scenes": plain(stack.scenes),
        "missing_bands": list(stack.missing_bands),
        "artifacts": {},
    }
    if sensor.check_save_dir is not None:
        file = save_quicklook(stack.pixels[0], stack.valid[0], sensor.check_save_dir, name)
        found["artifacts"] = {"quicklook": file}
    if picture is not None:
        shown = colour_bands(SENSORS[request.sensor], request.bands)
        save_picture(contact_sheet([draw(stack.pixels[:, shown], stack.valid)]), picture)
        found["artifacts"] = {**found["artifacts"], "picture": picture.name}
    if return_array:
        found["array_chw"] = _array(stack, 0, sensor.fill_value)
    return found


def _span(temporal: TemporalSpec | None) -> dict[str, Any] | None:
    if temporal is None:
        return None
    start, end = temporal.interval
    return {"mode": temporal.mode, "start": start.date().isoformat(), "end": end.date().isoformat()}


def _frame(name: str, index: int, span: tuple[datetime, datetime] | None, stack: ImageStack) -> dict[str, Any]:
    """Return which frame of which input it is, and whether it holds a usable pixel."""
    start, end = (None, None) if span is None else (each.date().isoformat() for each in span)
    return {"input": name, "index": index, "start": start, "end": end, "empty": not bool(stack.valid[index].any())}


def inspect_input(
    session: Session,
    provider: Provider,
    spatial: Any,
    temporal: TemporalSpec | None,
    *,
    value_range: tuple[float, float] | None,
    return_arrays: bool,
    picture: Path | None = None,
) -> dict[str, Any]:
    """Return one report for each frame of each input of a model, of all that its windows read."""
    if picture is not None:
        check_picture(picture)
    _check_range(value_range)
    if not session.setup.inputs:
        raise ModelError(f"{session.setup.spec.name} takes no imagery: there is no input to inspect")
    plan = session.plan(norm_spatial(spatial), temporal)
    whole = plan.footprint
    if max(whole.height, whole.width) // plan.step > MAX_SIDE:
        raise SpecError(f"the input is {whole.height} x {whole.width} pixels; inspect at most {MAX_SIDE} a side")
    frames: list[dict[str, Any]] = []
    scenes, rows, answers = {}, [], []
    for (name, item), intervals in zip(plan.setup.inputs.items(), plan.intervals, strict=True):
        part = plan.parts(item, Block(whole, (), 0))
        stack = next(iter(provider.load(plan.requests[name], [part])))
        answers.append(_answer(provider, stack))
        scenes[name] = plain(stack.scenes)
        if picture is not None:
            shown = colour_bands(item.sensor, plan.requests[name].bands)
            drawn = draw(stack.pixels[:, shown], stack.valid)
            rows += [drawn[i : i + PER_ROW] for i in range(0, len(drawn), PER_ROW)]
        for index in range(len(stack.pixels)):
            span = intervals[min(index, len(intervals) - 1)] if intervals else None
            frame = _frame(name, index, span, stack)
            if not frame["empty"]:
                frame["report"] = quality_report(
                    stack.pixels[index],
                    stack.valid[index],
                    name=f"{name}[{index}]",
                    fill_value=item.wanted.fill_value,
                    value_range=value_range,
                )
            if return_arrays:
                frame["array_chw"] = _array(stack, index, item.wanted.fill_value)
            frames.append(frame)
    reports = [f["report"]["ok"] for f in frames if "report" in f]
    first = next(iter(plan.setup.inputs.values()))
    if picture is not None:
        save_picture(contact_sheet(rows), picture)
    return {
        "ok": bool(reports) and all(reports),
        "model": plan.setup.spec.name,
        **_told(answers),
        "n_frames": len(frames),
        "n_empty": sum(f["empty"] for f in frames),
        "frames": frames,
        "fetch_meta": {"geobox": geobox_dict(plan.lattice.geobox(whole, plan.step)), "scenes": scenes},
        "sensor": plain(asdict(first.wanted)),
        "temporal": _span(plan.temporal),
        "artifacts": {} if picture is None else {"picture": picture.name},
    }
