"""Embedding arrays in memory: each brings its own provider and its own region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rs_embed.core.embedding import Embedding
from rs_embed.core.errors import ModelError, RSEmbedError
from rs_embed.core.model_spec import InputSpec, ModelSpec
from rs_embed.core.registry import get_spec
from rs_embed.core.specs import SensorSpec
from rs_embed.inference.engine import Job
from rs_embed.inference.plan import Plan
from rs_embed.inference.session import Progress, Session, data_provider, open_session
from rs_embed.inference.setup import modalities_of
from rs_embed.providers.arrays import ArrayProvider, UserData

__all__ = ["compatible", "embed_data"]


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
    return SensorSpec(data.collection, bands, scale_m=item.gsd, cloudy_pct=None)


def _session(model: str, data: UserData, provider: ArrayProvider, arguments: Mapping[str, Any]) -> Session:
    """Open a session for one array; its collection says which modality is meant, its bands must be enough."""
    spec = get_spec(model)
    if spec.modalities and arguments.get("modality") is None:
        chosen = _modality(spec, data, (arguments.get("options") or {}).get("variant"))
        arguments = {**arguments, "modality": chosen}
    used = spec.modalities.get(str(arguments.get("modality")), tuple(spec.inputs)[:1])
    if len(used) == 1:
        arguments = {**arguments, "sensor": _own_bands(spec.inputs[used[0]], data)}
    session = open_session(model, provider, own={data.sensor.id: data.sensor}, **arguments)
    has = set(data.canonical_bands)
    for item in session.setup.inputs.values():
        lacking = [b for b in item.bands if b not in has]
        if lacking and (item.spec.missing_band == "error" or len(lacking) == len(item.bands)):
            raise ModelError(
                f"{spec.name} needs the bands {', '.join(item.bands)} of {item.sensor.id}; "
                f"the data have no {', '.join(lacking)}"
            )
    return session


def embed_data(
    model: str,
    datas: Sequence[UserData],
    arguments: Mapping[str, Any],
    *,
    on_error: str,
    progress: Progress,
    single: bool = False,
) -> list[Embedding]:
    """Return the embeddings of the arrays, in order; arrays of one signature share forward passes."""
    get_spec(model)
    jobs: list[Job] = []
    sessions: list[Session] = []
    first: RSEmbedError | None = None
    for index, data in enumerate(datas):
        provider = data_provider(data)
        try:
            own = _session(model, data, provider, arguments)
        except RSEmbedError as error:
            first = first or error
            jobs.append(Job(index, partial(_raise, error), provider))
            continue
        sessions.append(own)
        jobs.append(Job(index, partial(own.plan_data, data), provider))
    if not sessions and first is not None:
        raise first
    return sessions[0].collect(jobs, on_error=on_error, progress=progress, single=single)


def _raise(error: RSEmbedError) -> Plan:
    raise error


def compatible(model: str, data: UserData) -> list[str]:
    """Return the bands that a model would use of the data, or raise what says why it cannot."""
    provider = data_provider(data)
    session = _session(model, data, provider, {})
    session.plan_data(data)
    return [b for item in session.setup.inputs.values() for b in item.bands if b in data.canonical_bands]
