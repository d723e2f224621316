"""What is written down with an embedding, so that what a run did is readable from it alone."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.embedding import Embedding
from rs_embed.core.footprints import region_dict
from rs_embed.core.georeference import grid_array
from rs_embed.core.imagery import ImageStack, geobox_dict
from rs_embed.core.notices import warn_user
from rs_embed.core.specs import OutputSpec, SensorSpec
from rs_embed.inference.plan import Plan
from rs_embed.inference.prepare import WindowStats
from rs_embed.inference.provenance import LIBRARY, SCHEMA, describe_time, plain, versions_used
from rs_embed.inference.runtime import Runtime
from rs_embed.providers.base import Provider

__all__ = ["RegionRecord", "assemble", "base_meta", "failed"]


@dataclass
class RegionRecord:
    """What was found while a region's windows were read."""

    scenes: dict[str, dict[str, dict[str, Any]]]
    frames: int
    valid: int = 0
    total: int = 0
    clear: int = 0
    observed: int = 0
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)
    found: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    times: dict[str, list[str | None]] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    origins: dict[str, tuple[str, str]] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def start(cls, plan: Plan) -> RegionRecord:
        """Return an empty record."""
        return cls({name: {} for name in plan.setup.inputs}, sum(max(1, len(i)) for i in plan.intervals))

    def add_stack(self, name: str, stack: ImageStack) -> None:
        """Note scenes and observations of one loaded block."""
        seen = np.asarray(stack.valid.any((1, 2)))
        with self.lock:
            for frame in stack.scenes:
                for scene in frame:
                    self.scenes[name][str(scene["id"])] = dict(scene)
            self.clear += stack.observations[0]
            self.observed += stack.observations[1]
            if stack.missing_bands:
                self.missing[name] = stack.missing_bands
            self.found[name] = self.found[name] | seen if name in self.found else seen
            self.times[name] = [None if np.isnat(t) else str(t) for t in stack.times]
            self.notes |= dict.fromkeys(stack.notes)
            if stack.origin is not None:
                self.origins[name] = _joined(self.origins.get(name, stack.origin), stack.origin)

    def add_checks(self, reports: list[dict[str, Any]]) -> None:
        """Keep the quality reports of one block."""
        with self.lock:
            self.checks += reports

    def add_stats(self, stats: WindowStats) -> None:
        """Count the usable pixels of one window."""
        self.valid += stats.valid
        self.total += stats.total

    @property
    def valid_fraction(self) -> float:
        """Share of the region's pixels and frames that were usable."""
        return self.valid / self.total if self.total else 0.0

    @property
    def clear_fraction(self) -> float:
        """Share of all pixel observations that were clear."""
        return self.clear / self.observed if self.observed else self.valid_fraction

    def nothing(self, plan: Plan, provider: Provider) -> str:
        """Return the message for a region without one usable pixel."""
        spans = sorted({f"{s.date()}/{e.date()}" for intervals in plan.intervals for s, e in intervals})
        names = ", ".join(item.wanted.collection for item in plan.setup.inputs.values())
        if plan.setup.spec.product is not None:
            return (
                f"no pixel of {names} in the region at {plan.region.lonlat} has data: it is sea, or was not produced "
                f"{'' if not spans else 'of ' + spans[0][:4] + ' '}there; choose another place or year"
            )
        count = sum(len(s) for s in self.scenes.values())
        when = f"{spans[0].split('/')[0]}/{spans[-1].split('/')[1]}" if spans else "without a date"
        return (
            f"no usable pixel of {names} in the region at {plan.region.lonlat or 'an unknown place'}, {when}: "
            f"{count} scenes from {provider.name!r} contributed, clear fraction {self.clear_fraction:.3f}; "
            "choose a longer or another time, or allow cloudier scenes (FetchSpec(cloudy_pct=...))"
        )


def _joined(had: tuple[str, str], new: tuple[str, str]) -> tuple[str, str]:
    """Name both paths where a region's blocks came by two."""
    backend, source = (", ".join(dict.fromkeys((*a.split(", "), b))) for a, b in zip(had, new, strict=True))
    return backend, source


def _input_meta(plan: Plan) -> dict[str, Any]:
    """Sensors, normalisation and training facts by input."""
    found: dict[str, Any] = {}
    for name, item in plan.setup.inputs.items():
        found[name] = {
            "sensor": item.sensor.id,
            "bands": list(item.bands),
            "units": item.sensor.units,
            "trained_on": item.source.trained_on,
            "fill": list(item.fill),
            "steps": plain([step.describe() for step in item.source.steps]),
        }
    return found


def _space(plan: Plan, checkpoint: Mapping[str, Any] | None) -> str:
    """Name of the vector space: vectors compare only where it is equal."""
    spec, setup = plan.setup.spec, plan.setup
    pooling = "grid" if plan.output.mode == "grid" else plan.output.pooling
    if spec.product is not None:
        return f"{spec.product.space or f'{spec.name}/{setup.variant_name}'}/{pooling}"
    weights = (checkpoint or {}).get("sha256") or (checkpoint or {}).get("revision") or "no-weights"
    options = hashlib.sha256(json.dumps(plain(setup.options), sort_keys=True).encode()).hexdigest()[:8]
    inputs = "+".join(f"{i.sensor.id}[{','.join(i.bands)}]" for i in setup.inputs.values())
    return f"{spec.name}/{setup.variant_name}/{str(weights)[:12]}/{inputs}/{options}/{pooling}"


def _prep_meta(plan: Plan) -> dict[str, Any]:
    first = plan.blocks[0].windows[0].rect
    return {
        "prep_version": 1,
        "requested_mode": plan.prep.mode,
        "resolved_mode": plan.mode,
        "tile_size": plan.side[0] if plan.mode == "tile" else None,
        "tile_count": plan.windows if plan.mode == "tile" else 1,
        "window_px": [first.height // plan.step, first.width // plan.step],
        "read_step": plan.step,
        "max_tiles": plan.prep.max_tiles,
        "max_tiles_hard": plan.prep.max_tiles_hard,
        "roi_cropped": True,
        "stitch_policy": "midpoint_cut",
    }


def _sensor(wanted: SensorSpec) -> dict[str, Any]:
    """The sensor as JSON types; of a folder its name only."""
    folder = None if wanted.check_save_dir is None else Path(wanted.check_save_dir).name
    return vars(wanted) | {"bands": list(wanted.bands), "check_save_dir": folder}


def _product(plan: Plan) -> dict[str, Any] | None:
    """Which version of a product is read, and whether its pixels are as they are stored."""
    product, setup = plan.setup.spec.product, plan.setup
    if product is None:
        return None
    (item,) = setup.inputs.values()
    asked = setup.scale_m
    grid = "own" if asked is None else f"resampled to {asked:g} m"
    return {"id": product.sensor.id, "collection": item.wanted.collection, "version": setup.variant_name, "grid": grid}


def _attribution(plan: Plan, provider: Provider) -> list[str]:
    """Whom to name: the provider where it has its own word, else the owners of the sensors."""
    own = getattr(provider, "attribution", None)
    if own is not None:
        return [str(own)]
    years = {plan.temporal.interval[0].year, plan.temporal.interval[1].year} if plan.temporal else set()
    if plan.temporal and plan.temporal.interval[1] == plan.temporal.interval[1].replace(month=1, day=1):
        years.discard(plan.temporal.interval[1].year)
    year = "-".join(str(y) for y in sorted(years)) or "of unknown date"
    return sorted({i.sensor.attribution.format(year=year) for i in plan.setup.inputs.values() if i.sensor.attribution})


def base_meta(plan: Plan, provider: Provider, checkpoint: Mapping[str, Any] | None, device: str) -> dict[str, Any]:
    """Return what is known before a pixel is read."""
    setup, spec = plan.setup, plan.setup.spec
    first = next(iter(setup.inputs.values()))
    inputs = _input_meta(plan)
    exact = plan.output.mode == "grid" or spec.pooled == "cells" or plan.output.pooling != "mean"
    geobox = plan.grid_geobox if plan.output.mode == "grid" else plan.lattice.geobox(plan.footprint, plan.step)
    described = geobox_dict(geobox) or {}
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "model": spec.name,
        "model_source": spec.source,
        "variant": setup.variant_name,
        "type": "on_the_fly" if spec.product is None else "precomputed",
        "backend": provider.name,
        "source": provider.source,
        "sensor": _sensor(first.wanted) | ({} if spec.product is None else {"scale_m": plan.effective_gsd}),
        "product": _product(plan),
        "inputs": inputs,
        "modality": setup.modality,
        "temporal": describe_time(plan.temporal),
        "image_size": plan.side[0],
        "pooling": plan.output.pooling if plan.output.mode == "pooled" else None,
        "output": plan.output.mode,
        "grid_orientation": plan.output.grid_orientation,
        "grid_hw": [plan.cell_rect.height, plan.cell_rect.width],
        "cls_removed": spec.pooled == "window",
        "input_prep": _prep_meta(plan),
        "options": plain(setup.options),
        "space": _space(plan, checkpoint),
        "request": {name: request.key() for name, request in plan.requests.items()},
        "crs": described["crs"],
        "geobox": described,
        "region": region_dict(plan.region.spec),
        "center": None if plan.region.lonlat is None else list(plan.region.lonlat),
        "effective_gsd": plan.effective_gsd,
        "cell_px": plan.cell,
        "region_exact": exact,
        "checkpoint": None if checkpoint is None else dict(checkpoint),
        "normalization": {name: i["steps"] for name, i in inputs.items()},
        "license": dict(spec.licence),
        "citation": [spec.citation, LIBRARY],
        "attribution": _attribution(plan, provider),
        "device": device,
        "dtype": "float32",
        "versions": dict(versions_used()),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "input_check": None,
        "export": None,
    }
    return found


def _conditioning(plan: Plan, record: RegionRecord) -> dict[str, Any]:
    """What the net was told besides pixels; None where it is unknown."""
    told: dict[str, Any] = {}
    inputs = plan.setup.inputs
    for name in plan.conditions:
        if name == "gsd":
            told[name] = {n: plan.effective_gsd * i.gsd / plan.lattice.gsd for n, i in inputs.items()}
        elif name == "wavelengths":
            told[name] = {n: list(i.wavelengths) for n, i in inputs.items()}
        elif name == "time":
            told[name] = record.times
        else:
            told[name] = plan.region.lonlat
    return told


def _warnings(plan: Plan, record: RegionRecord) -> list[str]:
    """Return what a careful reader should know of this embedding."""
    notes = []
    if record.valid_fraction < 0.5:
        notes.append(f"less than half of the pixels were usable (valid fraction {record.valid_fraction:.2f})")
    first = next(iter(plan.setup.inputs.values()))
    low, high = first.source.gsd_range or first.spec.gsd_range
    if not low / 2 <= plan.effective_gsd <= high * 2:
        notes.append(
            f"the effective ground sample distance of {plan.effective_gsd:.3g} m is outside twice the training range "
            f"({low:g} to {high:g} m)"
        )
    whole = plan.setup.spec.pooled == "window" and plan.output.mode == "pooled" and plan.output.pooling == "mean"
    if whole and plan.region.drawn and not plan.region.rectangular:
        notes.append("the polygon was pooled over its window: this model's vector cannot be cropped to a region")
    for item in plan.setup.inputs.values():
        if not item.source.trained_on:
            trained = [s.sensor for s in item.spec.sources if s.trained_on]
            notes.append(f"fed with {item.sensor.id}, trained on {', '.join(trained) or 'other imagery'}")
    if record.missing:
        notes.append(f"bands that the imagery lacks: {json.dumps(plain(record.missing))}")
    return notes + sorted(record.notes)


def _origin(plan: Plan, record: RegionRecord, provider: Provider) -> dict[str, str]:
    """Name the path that the pixels really took; inputs that took several are listed."""
    taken = [record.origins.get(name, (provider.name, provider.source)) for name in plan.setup.inputs]
    backends, sources = (", ".join(dict.fromkeys(each[i] for each in taken)) for i in (0, 1))
    return {"backend": backends, "source": sources} if record.origins else {}


_LOUD = ("less than half", "the effective ground", "the polygon was", "some cells have chips")


def loud(notes: list[str]) -> list[str]:
    """Return those of an embedding's notes that are also warned of."""
    return [note for note in notes if note.startswith(_LOUD)]


def warn_once(results: Mapping[str, list[str]]) -> None:
    """Warn once for each kind of note, naming the regions (the first 20): ``{note: ids}``."""
    for note, ids in results.items():
        more = f" and {len(ids) - 20} more" if len(ids) > 20 else ""
        warn_user(f"{note} [regions: {', '.join(ids[:20])}{more}]")


def assemble(
    plan: Plan,
    data: NDArray[np.float32],
    record: RegionRecord,
    runtime: Runtime,
    provider: Provider,
    id: str | int | None,
    labels: Mapping[str, Any],
) -> Embedding:
    """Return the embedding with its metadata."""
    meta = base_meta(plan, provider, runtime.checkpoint, runtime.device)
    found = sum(int(f.sum()) for f in record.found.values())
    meta |= {
        "id": id,
        "labels": dict(labels),
        "dtype": "float32",
        "precision": runtime.precision,
        "scenes": plain({name: sorted(s.values(), key=lambda x: str(x["id"])) for name, s in record.scenes.items()}),
        "frames": {"requested": record.frames, "found": found, "times": record.times},
        "clear_fraction": round(record.clear_fraction, 6),
        "valid_fraction": round(record.valid_fraction, 6),
        "missing_bands": {name: list(bands) for name, bands in record.missing.items()},
        "conditioning": plain(_conditioning(plan, record)),
        "input_check": sorted(record.checks, key=lambda report: str(report["name"])) or None,
        "warnings": _warnings(plan, record),
        **_origin(plan, record, provider),
    }
    if plan.output.mode == "pooled":
        meta["pooled_shape"] = list(data.shape)
        return Embedding(data, meta)
    meta["grid_shape"] = list(data.shape)
    return Embedding(grid_array(data, plan.grid_geobox, meta), meta)


def failed(
    plan: Plan | None, output: OutputSpec, dims: Mapping[str, int], meta: dict[str, Any], error: Exception
) -> Embedding:
    """Return a NaN embedding of the planned shape that says why it failed."""
    meta = plain(meta | {"error": f"{type(error).__name__}: {error}"})
    if plan is None or output.mode == "pooled":
        size = dims["pooled"] if output.pooling == "mean" else dims["grid"] * {"stats": 4}.get(output.pooling, 1)
        return Embedding(np.full(size, np.nan, np.float32), meta)
    rect = plan.cell_rect
    grid = np.full((dims["grid"], rect.height, rect.width), np.nan, np.float32)
    return Embedding(grid_array(grid, plan.grid_geobox, meta), meta)
