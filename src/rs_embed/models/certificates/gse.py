"""The certificate of gse: dequantisation, and the mean brought back to length one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.model_spec import Certificate, GoldenCase
from rs_embed.models._products import OnSphere
from rs_embed.providers.products.alphaearth import NODATA, dequantize

__all__ = ["CERTIFICATE"]


def _run(case: GoldenCase) -> dict[str, NDArray[Any]]:
    code = case.inputs["code"]
    values = dequantize(code)
    found: dict[str, NDArray[Any]] = {"dequantized": np.where(code == NODATA, np.float32(-1), values)}
    if "pooled" in case.outputs:
        seen = (code != NODATA).all(0)
        mean = values[:, seen].astype(np.float64).mean(1)
        found["pooled"] = OnSphere().head(mean)
        found["coherence"] = np.array([np.linalg.norm(mean)], np.float32)
    return {name: found[name] for name in case.outputs}


CERTIFICATE = Certificate(run=_run)
