"""The certificate of rcf: the paper's ``normalize_patches`` and ``BasicCoatesNgNet``, and torchgeo's ``RCF``."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from rs_embed.core.model_spec import Certificate, GoldenCase
from rs_embed.models._filters import pooled_features, torchgeo_features, whitened_filters

__all__ = ["CERTIFICATE"]


def _run(case: GoldenCase) -> dict[str, NDArray[Any]]:
    config, image = case.config, case.inputs["image"]
    filters = whitened_filters(case.inputs["patches"], zca_bias=float(config.get("zca_bias", 1e-3)))
    bias, pool = float(config["bias"]), int(config["pool_size"])
    found: dict[str, NDArray[Any]] = {"filters": filters}
    if "features" in case.outputs:
        stride, together = int(config.get("pool_stride", pool)), int(config.get("filter_batch_size", 1024))
        found["features"] = pooled_features(image, filters, bias, pool, stride, together)
    if "features_torchgeo" in case.outputs:
        found["features_torchgeo"] = torchgeo_features(image, filters, -bias)
    return {name: found[name] for name in case.outputs}


CERTIFICATE = Certificate(run=_run)
