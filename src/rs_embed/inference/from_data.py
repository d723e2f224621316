"""Embedding arrays in memory: each region brings its own provider, one array or several of one place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from rs_embed.core.embedding import Embedding
from rs_embed.core.errors import ModelError, RSEmbedError, SpecError
from rs_embed.core.geometry import Lattice, Region, locate, locate_geobox
from rs_embed.core.model_spec import InputSpec, ModelSpec, Variant
from rs_embed.core.registry import get_spec
from rs_embed.core.specs import SensorSpec, TemporalSpec, norm_spatial
from rs_embed.inference.engine import Job
from rs_embed.inference.plan import Plan, make_plan
from rs_embed.inference.session import Progress, Session, open_session
from rs_embed.inference.setup import Setup, modalities_of
from rs_embed.providers.arrays import ArrayProvider, ArraysProvider, UserData
from rs_embed.providers.base import Provider

__all__ = ["OwnData", "compatible", "embed_data"]

OwnData = UserData | Sequence[UserData]
"""The pixels of one region: an array, or several of one place, each of another sensor."""

Arrays = tuple[UserData, ...]


def _arrays(data: OwnData) -> Arrays:
    """Return the arrays of one region, the first of which says where it is."""
    if isinstance(data, UserData):
        return (data,)
    listed = tuple(data) if isinstance(data, Sequence) else ()
    if not listed or not all(isinstance(each, UserData) for each in listed):
        raise SpecError(
            f"data={type(data).__name__} must be UserData(array, collection, ...), or a tuple of several of one place"
        )
    return listed


def _provider(arrays: Arrays) -> Provider:
    return ArrayProvider(arrays[0]) if len(arrays) == 1 else ArraysProvider(arrays)


def _modality(spec: ModelSpec, data: UserData, variant: str | None) -> str | None:
    """Return the first modality whose inputs take the data's sensor, or whose only input takes any by wavelength."""
    taken = modalities_of(spec, variant if variant in spec.variants else None)
    for name, inputs in taken.items():
        if all(data.sensor.id in {s.sensor for s in spec.inputs[i].sources} for i in inputs):
            return name
    by_wavelength = (n for n, inputs in taken.items() if all(spec.inputs[i].foreign is not None for i in inputs))
    return next(by_wavelength, None)


def _own_bands(item: InputSpec, data: UserData) -> SensorSpec | None:
    """Return the data's bands as a sensor of the user's, where an input takes others than its spec names."""
    listed = next((s for s in item.sources if s.sensor == data.sensor.id), None)
    bands: tuple[str, ...] = data.canonical_bands
    if listed is not None:
        names = listed.bands or item.bands
        bands = tuple(b for b in names if b in bands)
        if not item.subset or bands in ((), names):
            return None
    elif not item.any_bands and item.foreign is None:
        return None
    return SensorSpec(data.collection, bands, scale_m=_scale(item, data), cloudy_pct=None)


def _scale(item: InputSpec, data: UserData) -> float:
    """Metres at which the data are read: the input's, or their own where they are of no sensor that it names."""
    if item.foreign is None or any(s.sensor == data.sensor.id for s in item.sources):
        return item.gsd
    crs, affine = data.geobox.crs, data.geobox.affine
    metric = crs is not None and crs.projected and abs(affine.a) == abs(affine.e)
    return abs(float(affine.a)) if metric else data.scale_m or item.gsd


def _one(spec: ModelSpec, data: UserData, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments with what one array says: modality and bands."""
    if spec.modalities and arguments.get("modality") is None:
        chosen = _modality(spec, data, (arguments.get("options") or {}).get("variant"))
        arguments = {**arguments, "modality": chosen}
    used = spec.modalities.get(str(arguments.get("modality")), tuple(spec.inputs)[:1])
    if len(used) == 1:
        arguments = {**arguments, "sensor": _own_bands(spec.inputs[used[0]], data)}
    return arguments


def _several(spec: ModelSpec, arrays: Arrays, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments with the modality whose inputs are the sensors of several arrays."""
    variant = (arguments.get("options") or {}).get("variant")
    taken = modalities_of(spec, variant if variant in spec.variants else None) or {"": tuple(spec.inputs)}
    given = {data.sensor.id for data in arrays}
    for name, inputs in taken.items():
        sensors = [{s.sensor for s in spec.inputs[i].sources} & given for i in inputs]
        if all(len(each) == 1 for each in sensors) and sorted(s for each in sensors for s in each) == sorted(given):
            return arguments if arguments.get("modality") is not None else {**arguments, "modality": name or None}
    raise ModelError(f"{spec.name} takes no {_together(given)}; {_choices(spec, taken)}")


def _together(sensors: set[str]) -> str:
    return " together with ".join(sorted(sensors))


def _choices(spec: ModelSpec, taken: Mapping[str, tuple[str, ...]]) -> str:
    """Say which sensors go together."""
    said = []
    for name, inputs in taken.items():
        sensors = (" or ".join(s.sensor for s in spec.inputs[i].sources) for i in inputs)
        said.append(f"{name} ({', '.join(sensors)})" if name else ", ".join(sensors))
    return f"its {'modalities are' if spec.modalities else 'input is'} {'; '.join(said)}"


def _session(model: str, arrays: Arrays, provider: Provider, arguments: Mapping[str, Any]) -> Session:
    """Open a session for one region; its collections say which modality is meant, its bands must be enough."""
    spec = get_spec(model)
    if spec.product is not None:
        raise ModelError(
            f"{spec.name} is precomputed: it reads its own embeddings and takes no imagery; "
            f"get_embedding({spec.name!r}, spatial=...) gives those of a place"
        )
    arguments = _one(spec, arrays[0], arguments) if len(arrays) == 1 else _several(spec, arrays, arguments)
    session = open_session(model, provider, own={d.sensor.id: d.sensor for d in arrays}, **arguments)
    of_sensor = {data.sensor.id: data for data in arrays}
    used = {item.sensor.id for item in session.setup.inputs.values()}
    if unused := sorted(set(of_sensor) - used):
        raise ModelError(
            f"{spec.name}: modality={session.setup.modality!r} takes {_together(used)}, not {', '.join(unused)}; "
            "leave the array or the modality out"
        )
    for item in session.setup.inputs.values():
        has = of_sensor[item.sensor.id].canonical_bands
        lacking = [b for b in item.bands if b not in has]
        if lacking and (item.spec.missing_band == "error" or len(lacking) == len(item.bands)):
            raise ModelError(
                f"{spec.name} needs the bands {', '.join(item.bands)} of {item.sensor.id}; "
                f"the data have no {', '.join(lacking)}"
            )
    return session


def _region(data: UserData) -> tuple[Region, Lattice | None]:
    """Return the region that an array names, or all of it; and its own lattice where it has no georeference."""
    box = data.geobox
    if box.crs is not None:
        return locate_geobox(box) if data.spatial is None else locate(norm_spatial(data.spatial)), None
    region = locate_geobox(box)
    if data.spatial is not None:
        place = locate(norm_spatial(data.spatial)).lonlat
        region = region if place is None else replace(region, lonlat=place)
    return region, Lattice(None, box.affine.a, box.affine.c, box.affine.f)


def _plan(session: Session, arrays: Arrays) -> Plan:
    """Plan the region of the user's own pixels: the one that the first array names, or all of it."""
    first, setup = arrays[0], session.setup
    region, lattice = _region(first)
    _check_required(setup, region.lonlat, arrays)
    _check_frames(setup, arrays)
    patch = setup.variant.window.patch
    if min(first.geobox.shape) < patch and setup.spec.locality != "pixel":
        raise ModelError(
            f"the array is {first.geobox.shape[0]} x {first.geobox.shape[1]} pixels, below one patch of "
            f"{patch} x {patch} pixels of {setup.spec.name}; give a larger array"
        )
    inputs = {n: replace(i, frames=replace(i.frames, step="whole")) for n, i in setup.inputs.items()}
    if lattice is not None:
        inputs = {n: replace(i, wanted=replace(i.wanted, scale_m=lattice.gsd)) for n, i in inputs.items()}
    setup = replace(setup, inputs=inputs)
    return make_plan(
        replace(setup, variant=_within(setup, first)),
        region,
        temporal=next((d.temporal for d in arrays if isinstance(d.temporal, TemporalSpec)), None),
        output=session.output,
        prep=session.prep,
        lattice=lattice,
        frames=max(len(data.times) for data in arrays),
    )


def _within(setup: Setup, data: UserData) -> Variant:
    """Return the variant, whose windows do not grow for context beyond an array that is smaller."""
    window = setup.variant.window
    left, bottom, right, top = locate_geobox(data.geobox).shape.bounds
    gsd, unit = min(item.gsd for item in setup.inputs.values()), math.lcm(window.multiple, window.patch)
    side = math.floor(min(right - left, top - bottom) / gsd + 1e-6)
    return replace(setup.variant, window=replace(window, context=min(window.context, side // unit * unit)))


def _check_required(setup: Setup, lonlat: tuple[float, float] | None, arrays: Arrays) -> None:
    """Refuse data without the place or the dates that a net cannot do without."""
    spec = setup.spec
    if {"place", "pixel_place"} & set(spec.requires) and lonlat is None:
        raise ModelError(
            f"{spec.name} is told where its pixels lie, and the data do not say; give UserData(crs=..., "
            "transform=...), or the place alone as spatial=PointBuffer(...)"
        )
    dated = {item.sensor.id for item in setup.inputs.values() if item.frames.kind != "static"}
    if "time" in spec.requires and any(np.isnat(d.times).any() for d in arrays if d.sensor.id in dated):
        raise ModelError(
            f"{spec.name} is told when its frames were taken, and the data do not say; give UserData(temporal=...), "
            "one span or one for each frame"
        )


def _check_frames(setup: Setup, arrays: Arrays) -> None:
    """Refuse more frames than a net takes, and series of different lengths."""
    frames = {data.sensor.id: len(data.times) for data in arrays}
    series = {}
    for item in setup.inputs.values():
        count = frames[item.sensor.id]
        if item.frames.max > 1:
            if count > item.frames.max:
                raise ModelError(f"{setup.spec.name} takes at most {item.frames.max} frames, the array has {count}")
            if item.frames.kind == "composite":
                series[item.sensor.id] = count
    if len(set(series.values())) > 1:
        said = ", ".join(f"{count} of {sensor}" for sensor, count in series.items())
        raise ModelError(
            f"{setup.spec.name} takes as many frames of the same times from all its sensors; the data have {said}"
        )


def embed_data(
    model: str,
    datas: Sequence[OwnData],
    arguments: Mapping[str, Any],
    *,
    on_error: str,
    progress: Progress,
    single: bool = False,
) -> list[Embedding]:
    """Return the embeddings of the regions, in order; regions of one signature share forward passes."""
    get_spec(model)
    regions = [_arrays(data) for data in datas]
    providers = [_provider(arrays) for arrays in regions]
    jobs: list[Job] = []
    sessions: list[Session] = []
    first: RSEmbedError | None = None
    for index, (arrays, provider) in enumerate(zip(regions, providers, strict=True)):
        try:
            own = _session(model, arrays, provider, arguments)
        except RSEmbedError as error:
            first = first or error
            jobs.append(Job(index, partial(_raise, error), provider))
            continue
        sessions.append(own)
        jobs.append(Job(index, partial(_plan, own, arrays), provider))
    if not sessions and first is not None:
        raise first
    return sessions[0].collect(jobs, on_error=on_error, progress=progress, single=single)


def _raise(error: RSEmbedError) -> Plan:
    raise error


def compatible(model: str, data: OwnData) -> list[str]:
    """Return the bands that a model would use of the data, or raise what says why it cannot."""
    arrays = _arrays(data)
    session = _session(model, arrays, _provider(arrays), {})
    _plan(session, arrays)
    has = {d.sensor.id: d.canonical_bands for d in arrays}
    return [b for item in session.setup.inputs.values() for b in item.bands if b in has[item.sensor.id]]
