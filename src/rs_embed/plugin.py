"""What the author of a model or of a provider imports; models need numpy only, and nothing here needs torch.

A model is a `ModelSpec`: data, and a function that builds an `Encoder`. A provider has `Provider.load`, or derives from
`SceneProvider` and has ``search`` and ``read``. A package offers them under the entry-point groups ``rs_embed.models``
(each entry point names a `ModelSpec` or a sequence of them) and ``rs_embed.providers`` (each names a class or function
that makes a provider); `register` and `register_provider` do the same for one process. `rs_embed.testing` checks both.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rs_embed.core.encoding import Array, Batch, Encoder, Features, InputBatch
from rs_embed.core.errors import CheckpointError, MissingExtraError, ModelError, NoImageryError, ProviderError
from rs_embed.core.model_spec import (
    Build,
    Certificate,
    Checkpoint,
    Frames,
    GoldenCase,
    InputSpec,
    ModelSpec,
    Option,
    Source,
    Step,
    Variant,
    Window,
)
from rs_embed.core.registry import broken_plugins, register
from rs_embed.core.sensors import SENSORS, Band, Sensor
from rs_embed.preprocess.steps import Affine, Clip, Normalize, Resize, Stretch8bit

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from rs_embed.core.imagery import ImageRequest, ImageStack, Interval, Scene
    from rs_embed.models._own import raster_product
    from rs_embed.models._own_chips import chip_product
    from rs_embed.providers.backends import register_provider
    from rs_embed.providers.base import Provider, SceneProvider
    from rs_embed.providers.resample import Grid, resample

__all__ = [
    "SENSORS",
    "Affine",
    "Array",
    "Band",
    "Batch",
    "Build",
    "Certificate",
    "Checkpoint",
    "CheckpointError",
    "Clip",
    "Encoder",
    "Features",
    "Frames",
    "GeoBox",
    "GoldenCase",
    "Grid",
    "ImageRequest",
    "ImageStack",
    "InputBatch",
    "InputSpec",
    "Interval",
    "MissingExtraError",
    "ModelError",
    "ModelSpec",
    "NoImageryError",
    "Normalize",
    "Option",
    "Provider",
    "ProviderError",
    "Resize",
    "Scene",
    "SceneProvider",
    "Sensor",
    "Source",
    "Step",
    "Stretch8bit",
    "Variant",
    "Window",
    "broken_plugins",
    "chip_product",
    "raster_product",
    "register",
    "register_provider",
    "resample",
]

_LATE = {
    "GeoBox": "odc.geo.geobox",
    "Grid": "rs_embed.providers.resample",
    "ImageRequest": "rs_embed.core.imagery",
    "ImageStack": "rs_embed.core.imagery",
    "Interval": "rs_embed.core.imagery",
    "Provider": "rs_embed.providers.base",
    "Scene": "rs_embed.core.imagery",
    "SceneProvider": "rs_embed.providers.base",
    "chip_product": "rs_embed.models._own_chips",
    "raster_product": "rs_embed.models._own",
    "register_provider": "rs_embed.providers.backends",
    "resample": "rs_embed.providers.resample",
}
"""Names that need the geography: `list_models` imports the modules of models, and stays light."""


def __getattr__(name: str) -> Any:
    if name in _LATE:
        value = getattr(importlib.import_module(_LATE[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'rs_embed.plugin' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
