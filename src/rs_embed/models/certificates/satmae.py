"""SatMAE's certificate: the authors' two ``MaskedAutoencoder…ViT(**config)`` and their evaluation transforms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.model_spec import Certificate, GoldenCase
from rs_embed.models._fmow import RGB_MEAN, RGB_TO_NET, S2_BANDS
from rs_embed.models.certificates.loading import arguments, loaded, shapes_of
from rs_embed.models.satmae import RGB_SIDE, S2_SIDE, S2_TO_NET
from rs_embed.preprocess.antialias import resize_crop

if TYPE_CHECKING:
    from torch import Tensor

    from rs_embed.nets.satmae import GroupedViT
    from rs_embed.nets.vit import ViT

__all__ = ["CERTIFICATE", "WITHOUT_EFFECT", "evaluation_transform", "token_outputs"]

WITHOUT_EFFECT = ("class", "decoder_*", "spatial_mask", "norm_pix_loss")
"""The authors' arguments (patterns) that are not the encoder's, once nothing is masked."""

_ALL_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
_KEPT = tuple(_ALL_BANDS.index(band) for band in S2_BANDS)


def _built(config: Mapping[str, Any]) -> ViT | GroupedViT:
    from rs_embed.nets.satmae import GroupedViT
    from rs_embed.nets.vit import ViT

    named = config.get("class", "")
    grouped = "Group" in named if named else bool({"channel_groups", "channel_embed"} & set(config))
    net = GroupedViT if grouped else ViT
    return net(**arguments(net, config, without_effect=WITHOUT_EFFECT))


def token_outputs(before: Tensor, after: Tensor) -> dict[str, Tensor]:
    """Return every output that a golden file may want of the tokens ``(N, 1 + L, D)`` before and after the norm."""
    return {
        "tokens": after,
        "cls": after[:, 0],
        "mean": after[:, 1:].mean(dim=1),
        "tokens_before_norm": before,
        "mean_before_norm": before[:, 1:].mean(dim=1),
    }


def _run(case: GoldenCase) -> dict[str, NDArray[Any]]:
    import torch

    from rs_embed.nets.vit import encoder_state

    net: Any = loaded(_built(case.config), case, encoder_state)
    with torch.inference_mode():
        before = net.encode(torch.from_numpy(case.inputs["image"]).to(net.cls_token.dtype))
        found = token_outputs(before, net.norm(before))
    return {name: found[name].numpy() for name in case.outputs}


def evaluation_transform(image: NDArray[Any], steps: Any, size: int) -> NDArray[np.float32]:
    """Return the authors' transform of an image ``(H, W, C)``: steps, resize by 8/7, cut; ``(C, size, size)``."""
    frames = np.moveaxis(image, -1, 0)[None].astype(np.float32)  # (H, W, C) -> (1, C, H, W)
    for step in steps:
        frames = step(frames)
    short = int(size / 0.875) if size <= RGB_SIDE else size
    one: NDArray[np.float32] = resize_crop(frames, short, size)[0]
    return one


def _normalize(
    inputs: Mapping[str, NDArray[Any]], parameters: Mapping[str, Mapping[str, Any]]
) -> dict[str, NDArray[Any]]:
    return {name: _one(image, parameters.get(name, {})) for name, image in inputs.items()}


def _one(image: NDArray[Any], parameters: Mapping[str, Any]) -> NDArray[np.float32]:
    """An RGB photograph, or all 13 bands of Sentinel-2, as the net takes it."""
    bands = image.shape[-1]
    if bands == len(_ALL_BANDS):
        return evaluation_transform(image[..., _KEPT], S2_TO_NET, int(parameters.get("size", S2_SIDE)))
    if bands == len(RGB_MEAN):
        return evaluation_transform(image, RGB_TO_NET, int(parameters.get("size", RGB_SIDE)))
    raise ValueError(f"an image has 3 bands (RGB) or 13 (Sentinel-2 L1C), got {bands}")


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    import torch

    with torch.device("meta"):
        return shapes_of(_built(config))


CERTIFICATE = Certificate(run=_run, normalize=_normalize, shapes=_shapes)
