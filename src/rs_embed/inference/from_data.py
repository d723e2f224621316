"""Embedding arrays in memory: each brings its own provider and its own region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rs_embed.core.embedding import Embedding
from rs_embed.core.errors import ModelError, RSEmbedError
from rs_embed.core.registry import get_spec
from rs_embed.core.specs import SensorSpec
from rs_embed.inference.engine import Job
from rs_embed.inference.plan import Plan
from rs_embed.inference.session import Progress, Session, data_provider, open_session
from rs_embed.providers.arrays import ArrayProvider, UserData

__all__ = ["compatible", "embed_data"]


def _session(model: str, data: UserData, provider: ArrayProvider, arguments: Mapping[str, Any]) -> Session:
    """Open a session for one array; its collection says which modality is meant, its bands must be enough."""
    spec = get_spec(model)
    if spec.modalities and arguments.get("modality") is None:
        for name, inputs in spec.modalities.items():
            if all(data.sensor.id in {s.sensor for s in spec.inputs[i].sources} for i in inputs):
                arguments = {**arguments, "modality": name}
                break
    first = next(iter(spec.inputs.values()), None)
    if first is not None and first.any_bands and data.sensor.id not in {s.sensor for s in first.sources}:
        own = SensorSpec(data.collection, data.canonical_bands, scale_m=first.gsd, cloudy_pct=None)
        arguments = {**arguments, "sensor": own}
    session = open_session(model, provider, **arguments)
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
