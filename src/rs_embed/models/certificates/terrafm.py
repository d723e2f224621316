"""TerraFM's certificate: the authors' ``TerraFM(norm_layer=partial(nn.LayerNorm, eps=1e-6), **config)``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.model_spec import Certificate, GoldenCase
from rs_embed.models.certificates.loading import arguments, loaded, shapes_of

if TYPE_CHECKING:
    from torch import Tensor

    from rs_embed.nets.terrafm import TerraFMEncoder

__all__ = ["CERTIFICATE"]

_WITHOUT_EFFECT = ("attn_drop_rate", "class", "drop_path_rate", "drop_rate", "norm_eps", "num_classes")
"""Arguments that do not change the encoder (``norm_eps`` is our ``eps``)."""


def _built(config: Mapping[str, Any]) -> TerraFMEncoder:
    from rs_embed.nets.terrafm import TerraFMEncoder

    given = {name: value for name, value in config.items() if value is not None and value is not False}
    if "norm_eps" in given:
        given["eps"] = given["norm_eps"]
    return TerraFMEncoder(**arguments(TerraFMEncoder, given, without_effect=_WITHOUT_EFFECT))


def _run(case: GoldenCase) -> dict[str, NDArray[Any]]:
    import torch

    net = _built(case.config)
    loaded(net, case, dict)
    x = torch.from_numpy(case.inputs["image"]).to(next(net.parameters()).dtype)
    stem = _stem(x, bool(case.inputs.get("is_l2a", np.array(False))))
    with torch.inference_mode():
        tokens = net(x, stem)
        levels = _levels(net, x, stem)
        found = {"pooled": tokens[:, 0], "grid": _grid(net, x, tokens), "grid_first_block": _grid(net, x, levels[0])}
        for name in case.outputs:
            if block := re.fullmatch(r"grid_block(\d+)", name):
                found[name] = _grid(net, x, levels[int(block[1])])
    return {name: found[name].numpy() for name in case.outputs}


def _stem(x: Tensor, is_l2a: bool) -> str:
    """The stem that the authors' ``patch_embed`` takes."""
    if x.shape[1] == 2:
        return "s1"
    return "s2_l2a" if is_l2a else "s2_l1c"


def _levels(net: TerraFMEncoder, x: Tensor, stem: str) -> list[Tensor]:
    """The tokens after each block, all of them after the last norm, as the authors' ``extract_feature`` gives them."""
    tokens, levels = net.tokens(x, stem), []
    for block in net.blocks:
        tokens = block(tokens)
        levels.append(net.norm(tokens))
    return levels


def _grid(net: TerraFMEncoder, x: Tensor, tokens: Tensor) -> Tensor:
    return tokens[:, 1:].mT.reshape(len(x), -1, *net.grid(x))  # (N, h*w, D) -> (N, D, h, w)


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    import torch

    with torch.device("meta"):
        return shapes_of(_built(config))


CERTIFICATE = Certificate(run=_run, shapes=_shapes)
