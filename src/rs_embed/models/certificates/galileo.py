"""Galileo's certificate: the authors' ``Encoder(**config)``, ``GalileoWrapper`` and ``Normalizer``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.model_spec import Certificate, GoldenCase
from rs_embed.models.certificates.loading import accepted, loaded, shapes_of
from rs_embed.models.galileo import S1_STATISTICS, S2_BANDS, S2_STATISTICS, Statistics, normalizer

if TYPE_CHECKING:
    from torch import Tensor

    from rs_embed.nets.galileo import GalileoEncoder, Tokens

__all__ = ["CERTIFICATE"]

SRTM_STATISTICS: Statistics = ((673.0152819503361, 5.930092668915115), (983.0697298296237, 8.167406789813247))
"""Elevation (m) and slope (degrees)."""

TIME_STATISTICS: Statistics = (
    (
        *(271.5674963541667, 0.08554303677156568, 657.3181260091111),
        *(692.1291795806885, 562.781331880633, 1.5647115934036673),
    ),
    (
        *(79.80828940314429, 0.11669547098151486, 704.0008695557707),
        *(925.0116126406431, 453.2434022278578, 7.513020170832818),
    ),
)
"""ERA5 (2), TerraClimate (3) and VIIRS (1)."""

_DW, _WC = 9, 5  # classes of DynamicWorld, layers of WorldCereal


def _built(config: Mapping[str, Any]) -> GalileoEncoder:
    from rs_embed.nets.galileo import GalileoEncoder

    return GalileoEncoder(**accepted(GalileoEncoder, config))


def _run(case: GoldenCase) -> dict[str, NDArray[Any]]:
    import torch

    from rs_embed.nets.galileo import average_tokens, clean_state, patch_tokens

    net = loaded(_built(case.config), case, clean_state)
    with torch.inference_mode():
        tokens = _encode(net, case.inputs)
        found = {
            "pooled": average_tokens(tokens),
            "wrapper_pooled": average_tokens(tokens),
            "grid": patch_tokens(tokens, shared=True),
            "wrapper_grid": patch_tokens(tokens),
        }
        for kind in ("s_t", "sp", "t", "st"):
            if (name := f"{kind}_tokens") in case.outputs:
                found[name] = _groups(getattr(tokens, kind), getattr(tokens, f"{kind}_m"), case.outputs[name])
    return {name: found[name].numpy() for name in case.outputs}


def _encode(net: Any, inputs: Mapping[str, NDArray[Any]]) -> Tokens:
    """Run on the encoder's own arguments, or on the wrapper's (``s1``, ``s2``, ``months``)."""
    import torch

    from rs_embed.nets.galileo import EncoderInput, sensor_input

    dtype = next(net.parameters()).dtype
    tensors = {name: torch.from_numpy(value) for name, value in inputs.items() if value.ndim}
    tensors = {name: value.to(dtype) if value.is_floating_point() else value for name, value in tensors.items()}
    given = EncoderInput(**tensors) if "s_t_x" in tensors else sensor_input(**tensors)
    sizes: dict[str, Any] = {"patch_size": int(inputs["patch_size"])}
    if "input_resolution_m" in inputs:
        sizes["input_resolution_m"] = float(inputs["input_resolution_m"])
    out: Tokens = net(*given, **sizes)
    return out


def _groups(tokens: Tensor, hidden: Tensor, wanted: tuple[int, ...]) -> Tensor:
    """All groups, or those that are visible somewhere: as many as the golden file has."""
    from rs_embed.nets.galileo import visible_groups

    return tokens if tokens.shape[-2] == wanted[-2] else visible_groups(tokens, hidden)


def _normalize(inputs: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Channels of each kind in the encoder's order; inputs that are not given are left out with their outputs."""
    parts: dict[str, list[NDArray[Any]]] = {
        "space_time_x": _pick(inputs, s1=_by(S1_STATISTICS), s2=_by(S2_STATISTICS), ndvi=_same),
        "space_x": _pick(inputs, srtm=_by(SRTM_STATISTICS), dw=_same, wc=_percent),
        "static_x": _static(inputs),
    }
    found = {name: np.concatenate(each, axis=-1) for name, each in parts.items() if each}
    if weather := _pick(inputs, era5=_same, tc=_same, viirs=_same):
        found["time_x"] = _by(TIME_STATISTICS)(np.concatenate(weather, axis=-1))
    if "s2" in inputs:
        found["ndvi_from_s2"] = _ndvi(inputs["s2"])
    return found


def _pick(inputs: Mapping[str, NDArray[Any]], **rules: Any) -> list[NDArray[Any]]:
    return [rule(inputs[name]) for name, rule in rules.items() if name in inputs]


def _by(statistics: Statistics) -> Any:
    """The authors' Normalizer on the last axis."""
    step = normalizer(statistics)
    scale, offset = np.asarray(step.scale, np.float32), np.asarray(step.offset, np.float32)
    return lambda x: x * scale + offset


def _same(x: NDArray[Any]) -> NDArray[Any]:
    return x


def _percent(x: NDArray[Any]) -> NDArray[Any]:
    return x / 100


def _static(inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """LandScan, the place as a unit vector, and the static land covers (0 where not given)."""
    if not {"landscan", "latlon"} <= set(inputs):
        return []
    # the authors' Normalizer writes mean - 2 std and 4 std of LandScan into integers
    people = (inputs["landscan"] + 2120) / 4618
    lat, lon = np.moveaxis(np.radians(inputs["latlon"]), -1, 0)
    place = np.stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)), axis=-1)
    covers = [np.zeros((*lat.shape, size)) for size in (_DW, _WC)]
    return [people, place, inputs.get("dw_static", covers[0]), inputs.get("wc_static", covers[1]) / 100]


def _ndvi(s2: NDArray[Any]) -> NDArray[Any]:
    """``(B8 - B4) / (B8 + B4)``, one channel; 0 where the denominator is not positive (``Dataset.calculate_ndi``)."""
    nir, red = (s2[..., [S2_BANDS.index(band)]] for band in ("B8", "B4"))
    total = nir + red
    return np.where(total > 0, (nir - red) / np.where(total > 0, total, 1), 0)


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    import torch

    with torch.device("meta"):
        return shapes_of(_built(config))


CERTIFICATE = Certificate(run=_run, normalize=_normalize, shapes=_shapes)
