"""TerraFM: Sentinel-2 of either level or Sentinel-1 through one transformer (Danish et al. 2025, arXiv 2506.06281).

The authors publish weights and the net, but neither the order of the bands nor how pixels are normalised. What stands
here is a guess in both, and says so wherever it is used:

* Bands: those of the training data, Major-TOM's Core-S2L2A and Core-S2L1C, in ascending order without B10 (twelve are
  what the stems take), and VV before VH.
* Sentinel-2: reflectance, cut to [0, 1], the usual form of training sets that keep reflectance * 10 000.
* Sentinel-1: backscatter in linear power, cut to [0, 1]. The training data are Major-TOM's Core-S1RTC, which holds
  linear gamma nought; like reflectance, most of it lies between 0 and 0.5, so that all stems get numbers of one size.

Fixed bounds and no statistic of the image itself: vectors of different places compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.encoding import Batch, Encoder, Features
from rs_embed.core.model_spec import (
    Build,
    Certificate,
    Checkpoint,
    InputSpec,
    ModelSpec,
    Source,
    Step,
    Variant,
    Window,
)
from rs_embed.preprocess.steps import Affine, Clip

if TYPE_CHECKING:
    from rs_embed.nets.terrafm import TerraFMEncoder

__all__ = ["MODELS", "FromDecibels", "TerraFMImage", "Unverified"]

_S2_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
_S1_BANDS = ("VV", "VH")

UNVERIFIED = "normalisation unverified: the authors publish none"


@dataclass(frozen=True)
class FromDecibels:
    """``10 ** (x / 10)``: backscatter in linear power."""

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map ``(T, C, H, W)`` to the same shape."""
        out: NDArray[np.float32] = np.multiply(pixels, np.float32(np.log(10) / 10), dtype=np.float32)
        return np.exp(out, out=out)

    def describe(self) -> dict[str, Any]:
        """Return the step as JSON types."""
        return {"step": "from_decibels"}


@dataclass(frozen=True)
class Unverified:
    """A step that no source of the authors' confirms: ``meta['normalization']`` says so."""

    step: Step

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map ``(T, C, H, W)`` as the step does."""
        return self.step(pixels)

    def describe(self) -> dict[str, Any]:
        """Return the step as JSON types."""
        return {**self.step.describe(), "note": UNVERIFIED}


class TerraFMImage:
    """From one frame of one product to the class token and the patch features."""

    net: TerraFMEncoder

    def __init__(self, net: TerraFMEncoder) -> None:
        self.net = net

    def __call__(self, batch: Batch) -> Features:
        """Encode through the stem that has the input's name."""
        ((stem, given),) = batch.inputs.items()
        x = given.pixels[:, 0]  # (N, 1, C, H, W) -> (N, C, H, W)
        tokens = self.net(x, stem)
        grid = tokens[:, 1:].mT.reshape(len(x), -1, *self.net.grid(x))  # (N, h*w, D) -> (N, D, h, w)
        return Features(grid=grid, pooled=tokens[:, 0])

    def head(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the vectors as they are."""
        return vectors


def _build(build: Build) -> Encoder:
    from rs_embed.nets.terrafm import TerraFMEncoder

    return TerraFMImage(TerraFMEncoder(**build.variant.config))


def _certificate() -> Certificate:
    from rs_embed.models.certificates.terrafm import CERTIFICATE

    return CERTIFICATE


_PATCH, _SIDE = 16, 224
_CONTEXT = 96
"""A class token of two or three patches says little: a smaller region is seen with what is around it, up to the side
of DINO's local views (the authors' are not stated)."""

_UNIT = (0.0, 1.0)
_OPTICAL = (Unverified(Affine(1 / 10_000)), Unverified(Clip(*_UNIT)))
_RADAR = (Unverified(FromDecibels()), Unverified(Clip(*_UNIT)))
_DARK = -30.0
"""Decibels of a pixel without data: power 0.001, next to the 0 that Sentinel-2 gets and Major-TOM's files hold."""


def _input(sources: tuple[Source, ...], bands: tuple[str, ...], fill: float = 0.0) -> InputSpec:
    return InputSpec(sources=sources, bands=bands, fill=(fill,) * len(bands))


_CITATION = """@misc{danish2025terrafm,
  title         = {TerraFM: A Scalable Foundation Model for Unified Multisensor Earth Observation},
  author        = {Danish, Muhammad Sohail and Munir, Muhammad Akhtar and Shah, Syed Roshaan Ali and Khan, Muhammad
                   Haris and Anwer, Rao Muhammad and Laaksonen, Jorma and Khan, Fahad Shahbaz and Khan, Salman},
  year          = {2025},
  eprint        = {2506.06281},
  archivePrefix = {arXiv},
  primaryClass  = {cs.CV}
}"""

_CONFIG: Mapping[str, Any] = {
    **{"img_size": (_SIDE,), "patch_size": _PATCH, "embed_dim": 768, "depth": 12, "num_heads": 12},
    **{"mlp_ratio": 4, "qkv_bias": True},
}

MODELS = (
    ModelSpec(
        name="terrafm",
        title="TerraFM: Sentinel-2 L2A, Sentinel-2 L1C or Sentinel-1, one image",
        aliases=("terrafm_b",),
        inputs={
            "s2_l2a": _input((Source("sentinel-2-l2a", _OPTICAL),), _S2_BANDS),
            "s2_l1c": _input(
                (Source("sentinel-2-l1c", _OPTICAL), Source("sentinel-2-l2a", _OPTICAL, trained_on=False)), _S2_BANDS
            ),
            "s1": _input((Source("sentinel-1", _RADAR),), _S1_BANDS, _DARK),
        },
        modalities={"s2_l2a": ("s2_l2a",), "s2_l1c": ("s2_l1c",), "s1": ("s1",)},
        variants={
            "base": Variant(
                window=Window(size=None, patch=_PATCH, min=_PATCH, max=_SIDE, multiple=_PATCH, context=_CONTEXT),
                dims={"pooled": 768, "grid": 768},
                config=_CONFIG,
                checkpoint=Checkpoint(file="TerraFM-B.pth", repository="MBZUAI/TerraFM"),
                parameters=112_951_296,
            )
        },
        encoder=_build,
        pooled="window",
        pooled_says="the class token after the last norm, what the authors' forward returns",
        citation=_CITATION,
        licence={
            "code": "none stated (mbzuai-oryx/TerraFM has no licence file); ours is written anew",
            "weights": "Apache-2.0 (model card of MBZUAI/TerraFM)",
        },
        source="https://github.com/mbzuai-oryx/TerraFM",
        certificate=_certificate,
        notes=(
            "Normalisation unverified: the authors publish neither statistics nor the order of the bands. Taken here: "
            "reflectance cut to [0, 1] in the bands' ascending order without B10; backscatter in linear power cut to "
            "[0, 1], VV and VH. The authors trained on Major-TOM's radiometrically terrain-corrected Sentinel-1; of a "
            "backend's GRD scenes slopes are brighter and darker. Sentinel-2 L2A goes through the stem that was "
            "trained for it: the authors' own forward never does so and takes the L1C stem for both levels, which is "
            "here modality='s2_l1c' (where a backend has no L1C, with L2A). Trained on 224 pixels of 10 m; any other "
            "multiple of 16 pixels up to that has its position table resized as the authors do. Only the base size is "
            "published."
        ),
    ),
)
