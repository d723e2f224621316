"""Clay's certificate: the authors' ``Encoder(**config)`` on a datacube, and ``Normalize`` of ``metadata.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.model_spec import Certificate, GoldenCase
from rs_embed.models.certificates.loading import arguments, loaded, shapes_of
from rs_embed.models.clay import COLLECTIONS

if TYPE_CHECKING:
    from rs_embed.nets.clay import ClayEncoder

__all__ = ["CERTIFICATE"]

_PREFIX = "model.encoder."
_CUBE = ("pixels", "time", "latlon", "gsd", "waves")


def _built(config: Mapping[str, Any]) -> ClayEncoder:
    from rs_embed.nets.clay import ClayEncoder

    return ClayEncoder(**arguments(ClayEncoder, config, without_effect=("mask_ratio", "shuffle")))


def _run(case: GoldenCase) -> dict[str, NDArray[Any]]:
    """Encode what the authors' encoder would: it hides the first patches, at random ones where it shuffles."""
    import torch

    from rs_embed.nets.clay import clean_state

    hidden = float(case.config.get("mask_ratio", 0))
    if case.config.get("shuffle") and (hidden or not set(case.outputs) <= {"cls", "mean"}):
        raise ValueError("shuffle=True puts the tokens in a random order: nothing fixed to compare with")
    net: Any = loaded(_built(case.config), case, clean_state)
    dtype = next(net.parameters()).dtype
    cube = {name: torch.from_numpy(np.asarray(case.inputs[name])) for name in _CUBE}
    cube = {name: value.reshape(-1) if name == "gsd" else value for name, value in cube.items()}
    cube["pixels"] = cube["pixels"].to(dtype)
    with torch.inference_mode():
        patches = net.embed(**cube).flatten(1, 2)  # (N, h, w, D) -> (N, L, D)
        tokens = net.encode(patches[:, int(hidden * patches.shape[1]) :])
        found = {"tokens": tokens, "cls": tokens[:, 0], "mean": tokens[:, net.prefix_tokens :].mean(dim=1)}
        found["patch_embedding"] = net.patch_embedding(cube["pixels"], cube["waves"]).flatten(2).mT
    return {name: found[name].numpy() for name in case.outputs}


def _normalize(inputs: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Raw values ``(C, H, W)`` by the statistics of the collection that the input is named after."""
    return {name: COLLECTIONS[name].normalize(values[None].astype(np.float32))[0] for name, values in inputs.items()}


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    import torch

    with torch.device("meta"):
        return shapes_of(_built(config), _PREFIX)


CERTIFICATE = Certificate(run=_run, normalize=_normalize, shapes=_shapes)
