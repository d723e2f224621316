"""DOFA's certificate: the authors' ``OFAViT`` and ``DOFAViT``, and ``Normalize`` of their data sets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.model_spec import Certificate, GoldenCase
from rs_embed.models.certificates.loading import arguments, loaded, shapes_of
from rs_embed.models.dofa import NORMALIZE

if TYPE_CHECKING:
    from torch import Tensor

    from rs_embed.nets.dofa import DofaV1, DofaV2

__all__ = ["CERTIFICATE"]

_CLASSES = {"OFAViT": 1, "DOFAViT": 2}

_IDLE = ("class", "num_classes", "drop_rate", "wv_planes")
"""Arguments that change nothing in either version: the head is not ours, and the code's size is fixed upstream."""

_IDLE_V2 = ("img_size", "drop_path_rate", "global_pool", "mlp_ratio", "norm_eps", "out_indices")
"""Arguments of version 2 that do not reach the transformer, or choose among its outputs."""

_TORCH_EPS = 1e-5
"""Of ``nn.LayerNorm``, the norm of the authors' constructor where none is given."""


def _version(config: Mapping[str, Any]) -> int:
    """From the class's name, else from the argument that version 2 alone has."""
    name = config.get("class")
    if name is None:
        return 2 if "out_indices" in config else 1
    if name not in _CLASSES:
        raise ValueError(f"class {name!r} is none of {', '.join(_CLASSES)}")
    return _CLASSES[name]


def _built(config: Mapping[str, Any]) -> DofaV1 | DofaV2:
    from rs_embed.nets.dofa import DofaV1, DofaV2
    from rs_embed.nets.layers import pair

    if _version(config) == 2:
        return DofaV2(**arguments(DofaV2, config, without_effect=(*_IDLE, *_IDLE_V2)))
    given = {"norm_eps": _TORCH_EPS, **config}
    if not isinstance(size := given.get("img_size", 224), int):
        given["img_size"], width = pair(tuple(size))
        if given["img_size"] != width:
            raise ValueError(f"img_size={size!r} must be a square")
    return DofaV1(**arguments(DofaV1, given, without_effect=_IDLE))


def _run(case: GoldenCase) -> dict[str, NDArray[Any]]:
    import torch

    from rs_embed.nets.dofa import v1_state, v2_state

    version = _version(case.config)
    convert = v2_state if version == 2 else partial(v1_state, global_pool=bool(case.config.get("global_pool", True)))
    net: Any = loaded(_built(case.config), case, convert)
    with torch.inference_mode():
        image = torch.from_numpy(case.inputs["image"]).to(next(net.parameters()).dtype)
        waves = torch.from_numpy(np.asarray(case.inputs["wave_list"], np.float32))
        found = _v1(net, image, waves) if version == 1 else _v2(net, image, waves, case.outputs)
        if "patch_embedding" in case.outputs:
            found["patch_embedding"] = net.patch_embed(image, waves).flatten(2).mT  # (N, D, h, w) -> (N, h*w, D)
    return {name: found[name].numpy() for name in case.outputs}


def _v1(net: DofaV1, image: Tensor, waves: Tensor) -> dict[str, Tensor]:
    pooled, tokens = net(image, waves)
    return {"pooled": pooled, "tokens": tokens}


def _v2(net: DofaV2, image: Tensor, waves: Tensor, wanted: Mapping[str, Any]) -> dict[str, Tensor]:
    """``map_<block>`` are the authors' outputs, ``tokens`` what they compute and discard."""
    tokens = net(image, waves)
    blocks = [int(name.removeprefix("map_")) for name in wanted if name.startswith("map_")]
    maps = net.maps(image, waves, blocks)
    found = {f"map_{block}": each for block, each in zip(blocks, maps, strict=True)}
    return found | {"tokens": tokens, "mean": tokens[:, net.prefix_tokens :].mean(dim=1)}


def _normalize(inputs: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """8-bit values ``(C, H, W)`` by the statistics of the kind that the input is named after."""
    return {name: NORMALIZE[name](values[None].astype(np.float32))[0] for name, values in inputs.items()}


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Without ``fc_norm``, which no published file holds."""
    import torch

    with torch.device("meta"):
        found = shapes_of(_built(config))
    return {name: shape for name, shape in found.items() if not name.startswith("fc_norm.")}


CERTIFICATE = Certificate(run=_run, normalize=_normalize, shapes=_shapes)
