"""Galileo: many sensors over space and time in one encoder (Tseng et al. 2025, arXiv 2502.09356).

Sentinel-2, Sentinel-1 or both, a frame a month. A token stands for a patch, a frame and a group of bands; the frozen
feature is the mean of all that are visible. Constants are those of ``nasaharvest/galileo@0f0b5b95``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.encoding import Batch, Encoder, Features, InputBatch
from rs_embed.core.errors import ModelError
from rs_embed.core.model_spec import (
    Build,
    Certificate,
    Checkpoint,
    Frames,
    InputSpec,
    ModelSpec,
    Option,
    Source,
    Variant,
    Window,
)
from rs_embed.preprocess.steps import Affine

if TYPE_CHECKING:
    from torch import Tensor

    from rs_embed.nets.galileo import EncoderInput

__all__ = ["MODELS", "S1_STATISTICS", "S2_STATISTICS", "GalileoSensors", "normalizer"]

S2_BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
S1_BANDS = ("VV", "VH")

Statistics = tuple[tuple[float, ...], tuple[float, ...]]

S1_STATISTICS: Statistics = (
    (-11.728724389184965, -18.85558188024017),
    (4.887145774840316, 5.730270320384293),
)
"""Mean and standard deviation of VV and VH, dB (``config/normalization.json``)."""

S2_STATISTICS: Statistics = (
    (
        *(1395.3408730676722, 1338.4026921784578, 1343.09883810357, 1543.8607982512297, 2186.2022069512263),
        *(2525.0932853316694, 2410.3377187373408, 2750.2854646886753, 2234.911100061487, 1474.5311266077113),
    ),
    (
        *(917.7041440370853, 913.2988423581528, 1092.678723527555, 1047.2206083460424, 1048.0101611156767),
        *(1143.6903026819996, 1098.979177731649, 1204.472755085893, 1145.9774063078878, 980.2429840007796),
    ),
)
"""Mean and standard deviation of `S2_BANDS`, reflectance * 10 000 of L1C (``config/normalization.json``)."""

_GROUPS: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "s1": {"VV": (0, 0), "VH": (1, 0)},
    "s2": {
        **{"B2": (2, 1), "B3": (3, 1), "B4": (4, 1), "B5": (5, 2), "B6": (6, 2), "B7": (7, 2)},
        **{"B8": (8, 3), "B8A": (9, 4), "B11": (10, 5), "B12": (11, 5)},
    },
}
"""Channel of ``s_t_x`` and group of ``s_t_m`` of each band; channel 12, group 6 (NDVI) stays hidden."""

_CHANNELS, _HIDDEN_GROUPS = 13, 7
_JULY = 6  # the authors' wrapper takes it where no month is given; January is 0


def normalizer(statistics: Statistics) -> Affine:
    """Return the authors' ``Normalizer(std=True, multiplier 2)``: ``(x - (mean - 2 std)) / (4 std)``, no clipping."""
    pairs = list(zip(*statistics, strict=True))
    scale = tuple(1 / (4 * std) for _, std in pairs)
    return Affine(scale, tuple(-(mean - 2 * std) / (4 * std) for mean, std in pairs))


class GalileoSensors:
    """From frames of Sentinel-2, Sentinel-1 or both to one feature a patch."""

    def __init__(self, net: Any, patch_size: int) -> None:
        self.net = net
        self.patch_size = patch_size

    def __call__(self, batch: Batch) -> Features:
        """Encode; a patch of a frame is hidden only where none of its pixels is valid."""
        import torch

        given = self._arguments(batch.inputs)
        gsd = next(iter(batch.inputs.values())).gsd
        sizes = np.unique(gsd)
        if len(sizes) == 1:
            return Features(*self._encode(given, float(sizes[0])))
        grid = weight = None  # the place code depends on the size of a pixel, which a forward pass has one of
        for size in sizes:
            rows = torch.from_numpy(np.flatnonzero(gsd == size)).to(given.s_t_x.device)
            part, count = self._encode(type(given)(*(x[rows] for x in given)), float(size))
            if grid is None or weight is None:
                grid, weight = part.new_empty(len(gsd), *part.shape[1:]), count.new_empty(len(gsd), *count.shape[1:])
            grid[rows], weight[rows] = part, count
        return Features(grid=grid, weight=weight)

    def head(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the vectors as they are."""
        return vectors

    def _encode(self, given: EncoderInput, gsd: float) -> tuple[Tensor, Tensor]:
        """Mean ``(N, D, h, w)`` and number ``(N, h, w)`` of each patch's visible tokens."""
        from rs_embed.nets.galileo import patch_tokens

        tokens = self.net(*given, patch_size=self.patch_size, input_resolution_m=gsd)
        count = (~tokens.s_t_m).sum(dim=(3, 4))  # (N, h, w, T, 7) -> (N, h, w)
        cells = patch_tokens(tokens).masked_fill(count[..., None] == 0, 0)  # 0 / 0 where nothing is visible
        return cells.permute(0, 3, 1, 2), count.to(cells.dtype)  # (N, h, w, D) -> (N, D, h, w)

    def _arguments(self, inputs: Mapping[str, InputBatch]) -> EncoderInput:
        """The encoder's arguments: everything but the given sensors is hidden, NDVI too."""
        import torch

        from rs_embed.nets.galileo import EncoderInput

        first = next(iter(inputs.values())).pixels
        N, T, _, H, W = first.shape
        s_t_x, s_t_m = first.new_zeros(N, H, W, T, _CHANNELS), first.new_ones(N, H, W, T, _HIDDEN_GROUPS)
        for name, each in inputs.items():
            self._place(name, each, s_t_x, s_t_m)
        values = (first.new_zeros(N, H, W, 16), first.new_zeros(N, T, 6), first.new_zeros(N, 18))
        masks = (first.new_ones(N, H, W, 3), first.new_ones(N, T, 3), first.new_ones(N, 4))
        months = torch.from_numpy(_months([each.times for each in inputs.values()])).to(first.device)
        return EncoderInput(s_t_x, *values, s_t_m, *masks, months)

    def _place(self, name: str, given: InputBatch, s_t_x: Tensor, s_t_m: Tensor) -> None:
        """Write one sensor's pixels into its channels, and show its groups where they have any."""
        pixels = given.pixels.permute(0, 3, 4, 1, 2)  # (N, T, C, H, W) -> (N, H, W, T, C)
        if pixels.shape[:4] != s_t_x.shape[:4]:
            raise ModelError(f"galileo needs inputs of one shape, {name} has {tuple(given.pixels.shape)}")
        table = _GROUPS[name]
        s_t_x[..., [table[band][0] for band in given.bands]] = pixels
        unseen = {table[band][1] for band in given.missing_bands}
        shown = sorted({table[band][1] for band in given.bands} - unseen)
        s_t_m[..., shown] = (~_any_in_patch(given.valid, self.patch_size)).to(s_t_m.dtype)[..., None]


def _any_in_patch(valid: Tensor, patch: int) -> Tensor:
    """Whether any pixel of each pixel's patch is valid: ``(N, T, H, W)`` -> ``(N, H, W, T)``."""
    N, T, H, W = valid.shape
    seen = valid.reshape(N, T, H // patch, patch, W // patch, patch).any(dim=5).any(dim=3)  # (N, T, h, w)
    return seen.repeat_interleave(patch, dim=2).repeat_interleave(patch, dim=3).permute(0, 2, 3, 1)


def _months(times: list[NDArray[np.datetime64]]) -> NDArray[np.int64]:
    """Months ``(N, T)`` from 0 of the first input that has a date; July where none has."""
    months = np.full(times[0].shape, _JULY, np.int64)
    for each in reversed(times):
        known = ~np.isnat(each)
        months[known] = each[known].astype("datetime64[M]").astype(np.int64) % 12
    return months


def _build(build: Build) -> Encoder:
    from rs_embed.nets.galileo import GalileoEncoder

    return GalileoSensors(GalileoEncoder(**build.variant.config), build.variant.window.patch)


def _convert(state: Mapping[str, Any]) -> dict[str, Any]:
    from rs_embed.nets.galileo import clean_state

    return clean_state(state)


def _certificate() -> Certificate:
    from rs_embed.models.certificates.galileo import CERTIFICATE

    return CERTIFICATE


_PATCH = 8
_TOKENS = 16  # a side of the largest window
"""The authors trained on 4 to 12 patches a side, of up to 8 pixels. 16 is a third beyond, so that a region of 1.28 km
is one window at patch 8: the place code is a slow sine and cosine of metres, which goes on smoothly there. No more than
that, for attention costs the fourth power of the side."""


def _window(patch: int) -> Window:
    return Window(size=None, patch=patch, min=patch, max=_TOKENS * patch, multiple=patch, square=True)


def _adapt(variant: Variant, options: Mapping[str, Any]) -> Variant:
    mode, parts = options.get("temporal_mode", "auto"), options.get("n_frames")
    step: Literal["whole"] | int | None
    if mode == "single" and parts not in (None, 1):
        raise ModelError(
            f"temporal_mode='single' is one frame, so that n_frames={parts!r} cannot be meant; leave one out"
        )
    step = "whole" if mode == "single" else parts
    frames = variant.frames if step is None else dataclasses.replace(_MONTHS, step=step)
    return dataclasses.replace(variant, window=_window(options.get("patch_size", _PATCH)), frames=frames)


_MONTHS = Frames(kind="composite", step="month", min=1, max=24, missing="mask")


def _variant(
    name: str,
    *,
    width: int,
    depth: int,
    heads: int,
    parameters: int,
    size: int | None = None,
    sha256: str | None = None,
) -> Variant:
    """A published size."""
    return Variant(
        window=_window(_PATCH),
        dims={"pooled": width, "grid": width},
        config={"embedding_size": width, "depth": depth, "num_heads": heads, "mlp_ratio": 4, "max_patch_size": 8},
        checkpoint=Checkpoint(
            file=f"models/{name}/encoder.pt",
            repository="nasaharvest/galileo",
            sha256=sha256,
            size=size,
            convert=_convert,
        ),
        parameters=parameters,
    )


_S2_STEPS = (normalizer(S2_STATISTICS),)

_CITATION = """@misc{tseng2025galileo,
  title         = {Galileo: Learning Global & Local Features of Many Remote Sensing Modalities},
  author        = {Tseng, Gabriel and Fuller, Anthony and Reil, Marlena and Herzog, Henry and Beukema, Patrick and
                   Bastani, Favyen and Green, James R. and Shelhamer, Evan and Kerner, Hannah and Rolnick, David},
  year          = {2025},
  eprint        = {2502.09356},
  archivePrefix = {arXiv},
  primaryClass  = {cs.CV}
}"""

MODELS = (
    ModelSpec(
        name="galileo",
        title="Galileo: Sentinel-2 and Sentinel-1 through the months",
        inputs={
            "s2": InputSpec(
                sources=(
                    Source("sentinel-2-l1c", _S2_STEPS),
                    Source("sentinel-2-l2a", _S2_STEPS, trained_on=False),
                ),
                bands=S2_BANDS,
                frames=_MONTHS,
                fill=S2_STATISTICS[0],
                missing_band="mask",
            ),
            "s1": InputSpec(
                sources=(Source("sentinel-1", (normalizer(S1_STATISTICS),)),),
                bands=S1_BANDS,
                frames=_MONTHS,
                fill=S1_STATISTICS[0],
                missing_band="mask",
            ),
        },
        modalities={"s2": ("s2",), "s1": ("s1",), "s2+s1": ("s2", "s1")},
        variants={
            "nano": _variant(
                "nano",
                width=128,
                depth=4,
                heads=8,
                parameters=1_037_856,
                size=4_189_406,
                sha256="eab6acacf527886a508a555bc24efe4b4a2cf91b162e84cd1c4a1807e942180c",
            ),
            "tiny": _variant("tiny", width=192, depth=12, heads=3, parameters=5_705_520),
            "base": _variant("base", width=768, depth=12, heads=12, parameters=86_523_072),
        },
        options={
            "patch_size": Option(_PATCH, "side of a patch, pixels", type="int", low=1, high=8),
            "temporal_mode": Option(
                "auto",
                "auto and multi: a frame for each calendar month; single: one composite of the whole span",
                choices=("auto", "multi", "single"),
            ),
            "n_frames": Option(
                None, "as many equal parts of the span instead of months", type="int", low=1, high=24, optional=True
            ),
        },
        adapt=_adapt,
        encoder=_build,
        pooled="cells",
        pooled_says="average_tokens: mean of all visible tokens (patches, frames, groups of bands) after the last norm",
        citation=_CITATION,
        licence={"code": "MIT", "weights": "nano: MIT (in the repository); tiny, base: not stated separately"},
        source="https://github.com/nasaharvest/galileo",
        certificate=_certificate,
        notes=(
            "Trained on monthly Sentinel-2 L1C and Sentinel-1 composites. NDVI is hidden, as in the authors' frozen "
            "evaluation. A patch of a frame is hidden where it has no valid pixel, a group of bands where one is "
            "missing. Imagery without a date counts as July, as in the authors' wrapper. A cell is the mean of its "
            "visible tokens."
        ),
    ),
)
