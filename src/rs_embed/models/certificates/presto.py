"""Presto's certificate: the authors' ``Presto.construct(**config).encoder`` and ``construct_single_presto_input``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.model_spec import Certificate, GoldenCase
from rs_embed.models.certificates.loading import loaded, shapes_of
from rs_embed.models.presto import STEPS

if TYPE_CHECKING:
    from torch import Tensor

    from rs_embed.nets.presto import PrestoEncoder

__all__ = ["CERTIFICATE"]

_PREFIX = "encoder."

_ARGUMENTS = {
    **{name: name for name in ("channel_embed_ratio", "month_embed_ratio", "mlp_ratio", "max_sequence_length")},
    **{name: name for name in ("embedding_size", "depth", "num_heads")},
    **{f"encoder_{name}": name for name in ("embedding_size", "depth", "num_heads")},
}
"""The authors' arguments (``Presto.construct``'s, and those of its ``Encoder``) and ours."""

_FORWARD = {"x", "dynamic_world", "latlons", "mask", "month", "eval_task"}

_S2_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
_GIVEN = {
    "s1": ("s1", ("VV", "VH")),
    "s2": ("s2", _S2_BANDS),
    "era5": ("era5", ("temperature_2m", "total_precipitation")),
    "srtm": ("dem", ("elevation", "slope")),
}
"""The authors' argument: our input, and the bands of the golden arrays."""


def _built(config: Mapping[str, Any]) -> PrestoEncoder:
    from rs_embed.nets.presto import PrestoEncoder

    ours = {name: value for name, value in config.items() if not name.startswith("decoder_")}
    if strange := sorted(set(ours) - set(_ARGUMENTS)):
        raise ValueError(f"arguments that the encoder does not have: {strange}")
    return PrestoEncoder(**{_ARGUMENTS[name]: value for name, value in ours.items()})


def _run(case: GoldenCase) -> dict[str, NDArray[Any]]:
    import torch

    from rs_embed.nets.presto import encoder_state

    if strange := sorted(set(case.inputs) - _FORWARD):
        raise ValueError(f"arguments that the encoder's forward does not have: {strange}")
    net: Any = loaded(_built(case.config), case, encoder_state)
    given: dict[str, Any] = {name: torch.from_numpy(np.asarray(value)) for name, value in case.inputs.items()}
    given.pop("eval_task", None)  # says which of the outputs the authors' forward returns
    if "dynamic_world" in given:
        given["dynamic_world"] = given["dynamic_world"].long()  # the authors' preprocessing makes it float
    dtype = next(net.parameters()).dtype
    arguments = {"x": given.pop("x").to(dtype), "latlons": given.pop("latlons"), **given}
    found = {}
    with torch.inference_mode():
        if "pooled" in case.outputs:
            found["pooled"] = net(**arguments)
        if set(case.outputs) != {"pooled"}:
            found["tokens"], found["kept_indices"] = net.tokens(**arguments)
            found["removed_indices"] = _removed(found["kept_indices"], steps=arguments["x"].shape[1])
    return {name: found[name].numpy() for name in case.outputs}


def _removed(kept: Tensor, *, steps: int) -> Tensor:
    """The indices that are not kept ``(B, R)``: a token a step of nine groups and of DynamicWorld, but one of SRTM."""
    import torch

    from rs_embed.nets.presto import GROUPS

    everything = torch.ones(len(kept), steps * len(GROUPS) + 1, dtype=torch.bool)
    everything.scatter_(1, kept, value=False)
    return torch.nonzero(everything)[:, 1].reshape(len(kept), -1)


def _normalize(inputs: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """``construct_single_presto_input``: of everything given, and of Sentinel-2 alone."""
    found = _single(inputs)
    if "s2" in inputs:
        found |= {f"s2_only/{name}": array for name, array in _single({"s2": inputs["s2"]}).items()}
    return found


def _single(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    import torch

    from rs_embed.nets.presto import BANDS, NO_CLASS, ndvi

    steps = len(next(iter(inputs.values())))
    x, mask = np.zeros((steps, len(BANDS)), np.float32), np.ones((steps, len(BANDS)), np.float32)
    for argument, (name, bands) in _GIVEN.items():
        step, names = STEPS[name]
        raw = np.zeros((steps, len(names)), np.float32)  # what is not given is 0, shifted and divided like the rest
        channels = [BANDS.index(band) for band in names]
        if argument in inputs:
            raw[:] = inputs[argument][:, [bands.index(band) for band in names]]
            mask[:, channels] = 0
        x[:, channels] = step(raw[:, :, None, None])[:, :, 0, 0]
    nir, red, index = (BANDS.index(band) for band in ("B8", "B4", "NDVI"))
    x[:, index] = ndvi(torch.from_numpy(x[:, nir]), torch.from_numpy(x[:, red])).numpy()
    mask[:, index] = np.maximum(mask[:, nir], mask[:, red])
    given = inputs.get("dynamic_world", np.full(steps, NO_CLASS))
    return {"x": x, "mask": mask, "dynamic_world": np.asarray(given, np.float32)}


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    import torch

    with torch.device("meta"):
        return shapes_of(_built(config), _PREFIX)


CERTIFICATE = Certificate(run=_run, normalize=_normalize, shapes=_shapes)
