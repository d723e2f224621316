"""Prithvi's certificate: the authors' ``PrithviViT(**config)``, or the encoder of their ``PrithviMAE``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.model_spec import Certificate, GoldenCase
from rs_embed.models.certificates.loading import arguments, loaded, shapes_of
from rs_embed.models.prithvi import NODATA, no_data, steps

if TYPE_CHECKING:
    from torch import Tensor

    from rs_embed.nets.prithvi import PrithviEncoder

__all__ = ["CERTIFICATE"]

_TABLE = 1e-6  # own position table against the published one, absolute

_WITHOUT_EFFECT = (
    *("class", "decoder_*", "drop_path", "encoder_only", "mask_ratio", "norm_eps", "norm_pix_loss", "num_classes"),
    *("bands", "mean", "std"),
)
"""Arguments that do not change the encoder (``norm_eps`` is our ``eps``)."""


def _built(config: Mapping[str, Any]) -> PrithviEncoder:
    from rs_embed.nets.prithvi import PrithviEncoder

    given = {name: value for name, value in config.items() if value is not None and value is not False}
    if "norm_eps" in given:
        given["eps"] = given["norm_eps"]
    return PrithviEncoder(**arguments(PrithviEncoder, given, without_effect=_WITHOUT_EFFECT))


def _run(case: GoldenCase) -> dict[str, NDArray[Any]]:
    import torch

    from rs_embed.nets.prithvi import encoder_state

    net = _built(case.config)
    _check_table(net, case)
    loaded(net, case, encoder_state)
    inputs = {name: torch.from_numpy(value) for name, value in case.inputs.items()}
    pixels = inputs.pop("pixel_values").to(next(net.parameters()).dtype)
    x = pixels[:, :, None] if pixels.ndim == 4 else pixels  # (N, C, H, W): one frame
    with torch.inference_mode():
        levels = _levels(net, x, inputs)
        tokens = levels[-1]
        found = {"tokens": tokens, "cls": tokens[:, 0], "mean": tokens[:, 1:].mean(dim=1)}
        for name in case.outputs:
            if block := re.fullmatch(r"block(\d+)", name):
                found[name] = levels[int(block[1])]
    return {name: found[name].numpy() for name in case.outputs}


def _levels(net: PrithviEncoder, x: Tensor, coordinates: Mapping[str, Tensor]) -> list[Tensor]:
    """The authors' ``forward_features``: the outputs of all blocks, the last one after the norm."""
    tokens = net.tokens(x, coordinates.get("temporal_coords"), coordinates.get("location_coords"))
    levels = []
    for block in net.blocks:
        tokens = block(tokens)
        levels.append(tokens)
    return [*levels[:-1], net(x, **coordinates)]


def _check_table(net: PrithviEncoder, case: GoldenCase) -> None:
    """Require that the position table of the case is the one that the net computes."""
    from rs_embed.nets.prithvi import position_table

    if not isinstance(case.state, Mapping):
        return
    table = next((value for name, value in case.state.items() if name.endswith("pos_embed")), None)
    if table is None:
        return
    own = position_table((net.num_frames // net.patch[0], *net.native), net.native, net.embed_dim).numpy()
    wanted = np.concatenate((np.zeros_like(own[:1]), own))[None]  # nothing is added to the class token
    if table.shape != wanted.shape or np.abs(table - wanted).max() > _TABLE:
        raise ValueError(f"the position table {table.shape} is another than the net's own {wanted.shape}")


def _normalize(inputs: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    return {name: _normalized(pixels, name) for name, pixels in inputs.items()}


def _normalized(pixels: NDArray[Any], version: str) -> NDArray[np.float32]:
    """Digital numbers ``(C, H, W)`` as a version's net takes them."""
    filled = np.where(pixels == NODATA, np.array(no_data(version))[:, None, None], pixels)
    frames: NDArray[np.float32] = filled[None].astype(np.float32)  # (1, C, H, W)
    for step in steps(version):
        frames = step(frames)
    one: NDArray[np.float32] = frames[0]
    return one


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    import torch

    with torch.device("meta"):
        return shapes_of(_built(config))


CERTIFICATE = Certificate(run=_run, normalize=_normalize, shapes=_shapes)
