"""Quality reports of imagery and of a model's input, without running a model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.errors import SpecError
from rs_embed.core.geometry import locate
from rs_embed.core.imagery import ImageRequest, ImageStack, geobox_dict
from rs_embed.core.sensors import canonical_bands, find_sensor
from rs_embed.core.specs import SensorSpec, TemporalSpec, norm_spatial
from rs_embed.inference.meta import plain
from rs_embed.inference.plan import Block
from rs_embed.inference.session import Session
from rs_embed.providers.base import Provider

__all__ = ["inspect_input", "inspect_patch", "quality_report"]

BINS = 32
MAX_SIDE = 4096


def quality_report(
    pixels: NDArray[np.float32],
    valid: NDArray[np.bool_],
    *,
    name: str,
    fill_value: float,
    value_range: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Return shape, shares, statistics by band and what is wrong with ``(C, H, W)``.

    Invalid pixels count as ``fill_value`` in ``fill_frac`` and stay out of the statistics.
    """
    usable = valid & np.isfinite(pixels).all(0)
    share = float(usable.mean())
    report: dict[str, Any] = {
        "name": name,
        "shape": list(pixels.shape),
        "dtype": str(pixels.dtype),
        "finite_frac": float(np.isfinite(pixels[:, valid]).mean()) if valid.any() else 0.0,
        "valid_frac": share,
        "fill_value": fill_value,
        "fill_frac": 1 - share,
        "quantiles": [0.01, 0.5, 0.99],
        "hist_bins": BINS,
    }
    issues = []
    if report["finite_frac"] < 0.999:
        issues.append(f"only {report['finite_frac']:.2%} of the values are finite")
    if report["fill_frac"] > 0.98:
        issues.append(f"{report['fill_frac']:.1%} of the pixels are invalid")
    if usable.any():
        values = pixels[:, usable].astype(np.float64)  # (C, n)
        low, high = value_range if value_range is not None else (float(values.min()), float(values.max()))
        quantiles = np.quantile(values, report["quantiles"], axis=1)
        report |= {
            "band_min": values.min(1).tolist(),
            "band_max": values.max(1).tolist(),
            "band_mean": values.mean(1).tolist(),
            "band_std": values.std(1).tolist(),
            "band_quantiles": quantiles.T.tolist(),
            "band_p01": quantiles[0].tolist(),
            "band_p50": quantiles[1].tolist(),
            "band_p99": quantiles[2].tolist(),
            "hist_range": [low, high],
            "band_hist": [np.histogram(band, BINS, (low, max(high, low + 1e-9)))[0].tolist() for band in values],
        }
        report["hist"] = np.sum(report["band_hist"], axis=0).tolist()
        constant = [i for i, std in enumerate(report["band_std"]) if std < 1e-6]
        if constant:
            issues.append(f"bands {constant} are constant")
        if value_range is not None:
            outside = float(((values < low) | (values > high)).mean())
            report["outside_range_frac"] = outside
            if outside > 0.001:
                issues.append(f"{outside:.2%} of the values lie outside {value_range}")
    report |= {"issues": issues, "ok": not issues}
    found: dict[str, Any] = plain(report)
    return found


def _array(stack: ImageStack, frame: int, fill_value: float) -> NDArray[np.float32]:
    return np.where(stack.valid[frame], stack.pixels[frame], np.float32(fill_value))


def _check_range(value_range: tuple[float, float] | None) -> None:
    if value_range is not None and (len(value_range) != 2 or not value_range[0] < value_range[1]):
        raise SpecError(f"value_range={value_range!r} must be two numbers, the lower one first")


def inspect_patch(
    provider: Provider,
    spatial: Any,
    temporal: TemporalSpec,
    sensor: SensorSpec,
    *,
    name: str,
    value_range: tuple[float, float] | None,
    return_array: bool,
) -> dict[str, Any]:
    """Return the report of one composite of a region's bounding rectangle."""
    if not isinstance(sensor, SensorSpec):
        raise SpecError(f"sensor={sensor!r} must be a SensorSpec")
    _check_range(value_range)
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
        (temporal.interval,),
        sensor.composite,
        known.mask,
        100.0 if sensor.cloudy_pct is None else float(sensor.cloudy_pct),
        sensor.orbit,
    )
    stack = next(iter(provider.load(request, [geobox])))
    report = quality_report(
        stack.pixels[0], stack.valid[0], name=name, fill_value=sensor.fill_value, value_range=value_range
    )
    found = {
        "ok": report["ok"],
        "report": report,
        "sensor": plain(asdict(sensor)),
        "temporal": _span(temporal),
        "backend": provider.name,
        "geobox": geobox_dict(geobox),
        "scenes": plain(stack.scenes),
        "missing_bands": list(stack.missing_bands),
        "artifacts": {},
    }
    if return_array:
        found["array_chw"] = _array(stack, 0, sensor.fill_value)
    return found


def _span(temporal: TemporalSpec) -> dict[str, Any]:
    start, end = temporal.interval
    return {"mode": temporal.mode, "start": start.date().isoformat(), "end": end.date().isoformat()}


def inspect_input(
    session: Session,
    provider: Provider,
    spatial: Any,
    temporal: TemporalSpec,
    *,
    value_range: tuple[float, float] | None,
    return_arrays: bool,
) -> dict[str, Any]:
    """Return one report for each frame of each input of a model, of all that its windows read."""
    _check_range(value_range)
    plan = session.plan(norm_spatial(spatial), temporal)
    whole = plan.footprint
    if max(whole.height, whole.width) // plan.step > MAX_SIDE:
        raise SpecError(f"the input is {whole.height} x {whole.width} pixels; inspect at most {MAX_SIDE} a side")
    frames: list[dict[str, Any]] = []
    scenes = {}
    for (name, item), intervals in zip(plan.setup.inputs.items(), plan.intervals, strict=True):
        part = plan.parts(item, Block(whole, (), 0))
        stack = next(iter(provider.load(plan.requests[name], [part])))
        scenes[name] = plain(stack.scenes)
        for index in range(len(stack.pixels)):
            start, end = intervals[min(index, len(intervals) - 1)] if intervals else (None, None)
            empty = not bool(stack.valid[index].any())
            frame: dict[str, Any] = {
                "input": name,
                "index": index,
                "start": None if start is None else start.date().isoformat(),
                "end": None if end is None else end.date().isoformat(),
                "empty": empty,
            }
            if not empty:
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
    return {
        "ok": bool(reports) and all(reports),
        "model": plan.setup.spec.name,
        "backend": provider.name,
        "n_frames": len(frames),
        "n_empty": sum(f["empty"] for f in frames),
        "frames": frames,
        "fetch_meta": {"geobox": geobox_dict(plan.lattice.geobox(whole, plan.step)), "scenes": scenes},
        "sensor": plain(asdict(first.wanted)),
        "temporal": _span(temporal),
        "artifacts": {},
    }
