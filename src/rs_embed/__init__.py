"""rs-embed: one call turns a place and a time into an embedding of any remote-sensing foundation model.

>>> from rs_embed import PointBuffer, TemporalSpec, get_embedding
>>> get_embedding("rcf", spatial=PointBuffer(11.5, 48.1, 500), temporal=TemporalSpec.year(2022), backend="synthetic")
<Embedding rcf 512>
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "rs_embed.core.specs": (
        "BBox",
        "FetchSpec",
        "InputPrepSpec",
        "OutputSpec",
        "PointBuffer",
        "Polygon",
        "SensorSpec",
        "TemporalSpec",
    ),
    "rs_embed.core.errors": (
        "BatchError",
        "CheckpointError",
        "MissingExtraError",
        "ModelError",
        "NoImageryError",
        "ProviderError",
        "RSEmbedError",
        "SpecError",
        "StoreError",
    ),
    "rs_embed.core.chips": ("ChipSet",),
    "rs_embed.core.embedding": ("Embedding", "fit_basis"),
    "rs_embed.core.region_table": ("Regions",),
    "rs_embed.core.registry": ("register",),
    "rs_embed.providers.arrays": ("UserData",),
    "rs_embed.model": ("Model",),
    "rs_embed.store.datasets": ("to_geodataframe", "to_xarray"),
    "rs_embed.store.files": ("load", "save"),
    "rs_embed.store.tables": ("read_regions",),
    "rs_embed.chips": ("read_chips",),
    "rs_embed.estimation": ("estimate",),
    "rs_embed.inspection": ("compare_backends", "inspect_gee_patch", "inspect_model_input", "inspect_provider_patch"),
    "rs_embed.api": (
        "describe_model",
        "disable_pretty_warnings",
        "enable_pretty_warnings",
        "get_embedding",
        "get_embedding_from_data",
        "get_embeddings_batch",
        "get_embeddings_batch_from_data",
        "iter_embeddings",
        "list_models",
        "list_models_for_data",
        "reset_runtime",
    ),
}
_WHERE = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [*sorted(_WHERE), "__version__"]

_REFUSED = {
    "BatchExporter": "export_batch(...)",
    "ModelConfig": "keyword arguments of the model, or ExportModelRequest",
    "EmbedderBase": "ModelSpec and register(...)",
    "writers": "rs_embed.store",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
        globals()[name] = value
        return value
    if name in _REFUSED:
        raise AttributeError(f"rs_embed has no {name}; use {_REFUSED[name]}")
    raise AttributeError(f"module 'rs_embed' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
