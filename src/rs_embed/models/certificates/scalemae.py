"""Scale-MAE's certificate: ``MaskedAutoencoderViT(**config).forward_encoder(image, 0.0, input_res)``, its transform."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.model_spec import Certificate, GoldenCase
from rs_embed.models.certificates.loading import arguments, loaded, shapes_of
from rs_embed.models.certificates.satmae import token_outputs
from rs_embed.models.scalemae import SIDE, TO_NET
from rs_embed.preprocess.steps import resize_crop_uint8

if TYPE_CHECKING:
    from rs_embed.nets.vit import ViT

__all__ = ["CERTIFICATE", "WITHOUT_EFFECT"]

WITHOUT_EFFECT = (
    *("class", "decoder_*", "norm_pix_loss", "use_mask_token", "project_pos_emb", "loss_masking", "self_attention"),
    *("absolute_scale", "target_size", "fixed_output_size", "fcn_*", "independent_fcn_head", "use_l1_loss"),
    *("l1_loss_weight", "band_config", "progressive"),
)
"""The authors' arguments (patterns) that are the decoder's or the loss's: ``forward_encoder`` reads none of them."""


def _built(config: Mapping[str, Any]) -> ViT:
    from rs_embed.nets.vit import ViT

    if not config.get("stored_positions", False):
        config = {**config, "stored_positions": False}
    return ViT(**arguments(ViT, config, without_effect=WITHOUT_EFFECT))


def _run(case: GoldenCase) -> dict[str, NDArray[Any]]:
    import torch

    from rs_embed.nets.scalemae import clean_state, ground_code

    net: Any = loaded(_built(case.config), case, clean_state)
    image = torch.from_numpy(case.inputs["image"]).to(net.cls_token.dtype)
    rows, columns = net.grid_of(tuple(image.shape[2:]))
    sizes = torch.from_numpy(np.atleast_1d(case.inputs["input_res"]))
    with torch.inference_mode():
        before = net.encode(image, ground_code(rows, columns, net.embed_dim, sizes))
        found = token_outputs(before, net.norm(before))
    return {name: found[name].numpy() for name in case.outputs}


def _normalize(
    inputs: Mapping[str, NDArray[Any]], parameters: Mapping[str, Mapping[str, Any]]
) -> dict[str, NDArray[Any]]:
    return {name: _transform(image, int(parameters.get(name, {}).get("size", SIDE))) for name, image in inputs.items()}


def _transform(image: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """The evaluation transform at ``eval_scale`` `size`: ``(H, W, 3)`` uint8 to ``(3, size, size)``."""
    cut = resize_crop_uint8(image, size, method="bilinear")
    frames = np.moveaxis(cut, -1, 0)[None].astype(np.float32)  # (H, W, C) -> (1, C, H, W)
    for step in TO_NET:
        frames = step(frames)
    one: NDArray[np.float32] = frames[0]
    return one


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    import torch

    with torch.device("meta"):
        return shapes_of(_built(config))


CERTIFICATE = Certificate(run=_run, normalize=_normalize, shapes=_shapes)
