"""RemoteCLIP's certificate: open_clip's ``CLIP(embed_dim, vision_cfg, text_cfg, quick_gelu)`` and its transform."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.model_spec import Certificate, GoldenCase
from rs_embed.models.certificates.loading import accepted, loaded, shapes_of
from rs_embed.models.remoteclip import SIDE, TO_NET
from rs_embed.preprocess.steps import resize_crop_uint8

if TYPE_CHECKING:
    from rs_embed.nets.clip import ModifiedResNet, VisionTransformer

__all__ = ["CERTIFICATE"]

_PREFIX = "visual."

_NEUTRAL = {"pool_type": "tok", "pos_embed_type": "learnable", "attn_pooler_queries": 256, "attn_pooler_heads": 8}
"""Entries of a complete ``CLIPVisionCfg`` that change nothing at these values, as all do that are None, False or 0."""


def _built(config: Mapping[str, Any]) -> VisionTransformer | ModifiedResNet:
    from rs_embed.nets.clip import build_visual

    vision = {key: value for key, value in config["vision_cfg"].items() if value and _NEUTRAL.get(key) != value}
    return build_visual(**accepted(build_visual, {**config, "vision_cfg": vision}))


def _run(case: GoldenCase) -> dict[str, NDArray[Any]]:
    import torch
    from torch.nn import functional as F

    from rs_embed.nets.clip import VisionTransformer, visual_state

    net = loaded(_built(case.config), case, visual_state)
    with torch.inference_mode():
        image = torch.from_numpy(case.inputs["image"]).to(next(net.parameters()).dtype)
        pooled, tokens = net(image)
        found = {"pooled": pooled, "pooled_unit": F.normalize(pooled, dim=-1)}
        if isinstance(net, VisionTransformer):
            found["patch_tokens"] = tokens.flatten(2).mT  # (N, D, h, w) -> (N, h*w, D)
            if "tokens_before_ln_post" in case.outputs:
                found["tokens_before_ln_post"] = net.encode(image)
        else:
            found["feature_map"] = tokens
    return {name: found[name].numpy() for name in case.outputs}


def _normalize(
    inputs: Mapping[str, NDArray[Any]], parameters: Mapping[str, Mapping[str, Any]]
) -> dict[str, NDArray[Any]]:
    return {name: _transform(image, parameters.get(name, {}).get("size", SIDE)) for name, image in inputs.items()}


def _transform(image: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """The evaluation transform: ``(H, W, 3)`` uint8 to ``(3, size, size)``."""
    cut = resize_crop_uint8(image, size)
    frames = np.moveaxis(cut, -1, 0)[None].astype(np.float32)  # (H, W, C) -> (1, C, H, W)
    for step in TO_NET:
        frames = step(frames)
    one: NDArray[np.float32] = frames[0]
    return one


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    import torch

    with torch.device("meta"):
        return shapes_of(_built(config), _PREFIX)


CERTIFICATE = Certificate(run=_run, normalize=_normalize, shapes=_shapes)
