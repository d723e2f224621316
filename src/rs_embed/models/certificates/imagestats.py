"""The certificate of imagestats: the authors' ``ImageStatisticsModel``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.model_spec import Certificate, GoldenCase
from rs_embed.models.imagestats import image_statistics

__all__ = ["CERTIFICATE"]


def _run(case: GoldenCase) -> dict[str, NDArray[Any]]:
    image = case.inputs["image"]
    pooled = np.stack([image_statistics(each) for each in image])
    return {name: {"pooled": pooled}[name] for name in case.outputs}


CERTIFICATE = Certificate(run=_run)
