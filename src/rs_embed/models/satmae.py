"""SatMAE: masked autoencoders of fMoW's photographs and of ten bands of Sentinel-2 (Cong, Khanna et al. 2022).

arXiv 2207.08051. The authors publish no frozen feature: they fine-tune on the mean of the patch tokens. So it is the
mean of the patch tokens after the net's own last norm, over cells, which a region can be cut from; in the grouped net a
cell is the mean of its groups of bands.

Their evaluation resizes the shorter side to 8/7 of the net's size and cuts the centre. A region is not cut here: its
window is resized to the net's size itself, with the same filter at the same place among the steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.encoding import Batch, Encoder, Features
from rs_embed.core.model_spec import Build, Certificate, Checkpoint, InputSpec, ModelSpec, Source, Variant, Window
from rs_embed.models._fmow import (
    GREY,
    GSD_RANGE,
    RGB_MEAN,
    RGB_TO_NET,
    S2_BANDS,
    S2_MEAN,
    STRETCH,
    WHITE,
    SentinelNormalize,
    rgb_sources,
)
from rs_embed.preprocess.steps import Affine, Resize

__all__ = ["MODELS", "RGB_SIDE", "S2_SIDE", "S2_TO_NET", "SatMae"]

RGB_SIDE, S2_SIDE = 224, 96

S2_TO_NET = (SentinelNormalize(), Affine(1 / 255))
"""From reflectance * 10 000: SentinelNormalize and ToTensor, which the authors put before the resize."""

_RESIZED = Resize(RGB_SIDE, "bicubic", "float32")
_RGB = (STRETCH, *RGB_TO_NET, _RESIZED)
_S2 = (*S2_TO_NET, Resize(S2_SIDE, "bicubic", "float32"))


class SatMae:
    """From one frame to one feature a patch."""

    def __init__(self, net: Any) -> None:
        self.net = net

    def __call__(self, batch: Batch) -> Features:
        """Encode ``(N, 1, 3, 224, 224)`` or ``(N, 1, 10, 96, 96)``."""
        from rs_embed.nets.vit import as_grid

        (given,) = batch.inputs.values()
        patches = self.net.patch_features(self.net(given.pixels[:, 0]))
        return Features(grid=as_grid(patches, *self.net.grid))

    def head(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the vectors as they are."""
        return vectors


def _build(build: Build) -> Encoder:
    from rs_embed.nets.satmae import GroupedViT
    from rs_embed.nets.vit import ViT

    config = build.variant.config
    return SatMae(GroupedViT(**config) if "channel_groups" in config else ViT(**config))


def _convert(state: Mapping[str, Any]) -> dict[str, Any]:
    from rs_embed.nets.vit import encoder_state

    return encoder_state(state)


def _certificate() -> Certificate:
    from rs_embed.models.certificates.satmae import CERTIFICATE

    return CERTIFICATE


_LARGE = {"embed_dim": 1024, "depth": 24, "num_heads": 16}
_BASE = {"embed_dim": 768, "depth": 12, "num_heads": 12}
_GROUPED = {
    "in_chans": len(S2_BANDS),
    "channel_groups": ((0, 1, 2, 6), (3, 4, 5, 7), (8, 9)),
    "channel_embed": 256,
}


def _variant(modality: str, side: int, patch: int, config: Mapping[str, Any], *, url: str, parameters: int) -> Variant:
    """A published net; `url` ends in the file's name."""
    return Variant(
        window=Window(size=side, patch=patch, min=side, max=side, multiple=patch, square=True),
        dims={"pooled": config["embed_dim"], "grid": config["embed_dim"]},
        config={"img_size": side, "patch_size": patch, **config},
        checkpoint=Checkpoint(file=url.rpartition("/")[2], url=url, convert=_convert),
        parameters=parameters,
        modalities=(modality,),
    )


_ZENODO = "https://zenodo.org/record"

_CITATION = """@inproceedings{cong2022satmae,
  title     = {{SatMAE}: Pre-training Transformers for Temporal and Multi-Spectral Satellite Imagery},
  author    = {Cong, Yezhen and Khanna, Samar and Meng, Chenlin and Liu, Patrick and Rozi, Erik and He, Yutong and
               Burke, Marshall and Lobell, David B. and Ermon, Stefano},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {35},
  year      = {2022}
}"""

MODELS = (
    ModelSpec(
        name="satmae",
        title="SatMAE: masked autoencoders of fMoW photographs, and of ten bands of Sentinel-2",
        aliases=("satmae_rgb",),
        inputs={
            "rgb": InputSpec(
                sources=rgb_sources(_RGB, (GREY, *RGB_TO_NET, _RESIZED), RGB_MEAN),
                bands=("B4", "B3", "B2"),
                gsd=10.0,
                gsd_range=GSD_RANGE,
                fill=tuple(mean * WHITE for mean in RGB_MEAN),  # becomes the mean, up to half a grey level
                any_bands=True,
            ),
            "s2": InputSpec(
                sources=(
                    Source("sentinel-2-l1c", _S2),
                    Source("sentinel-2-l2a", _S2, trained_on=False),
                ),
                bands=S2_BANDS,
                gsd=10.0,
                gsd_range=(2.5, 10.0),  # small chips were enlarged to the net's size
                fill=S2_MEAN,
            ),
        },
        modalities={"rgb": ("rgb",), "s2": ("s2",)},
        variants={
            "rgb_vit_large": _variant(
                *("rgb", RGB_SIDE, 16, _LARGE),
                url=f"{_ZENODO}/7369797/files/fmow_pretrain.pth",
                parameters=303_301_632,
            ),
            "ms_vit_large": _variant(
                *("s2", S2_SIDE, 8, {**_GROUPED, **_LARGE}),
                url=f"{_ZENODO}/7338613/files/pretrain-vit-large-e199.pth",
                parameters=303_083_008,
            ),
            "ms_vit_base": _variant(
                *("s2", S2_SIDE, 8, {**_GROUPED, **_BASE}),
                url=f"{_ZENODO}/7338613/files/pretrain-vit-base-e199.pth",
                parameters=85_625_600,
            ),
        },
        encoder=_build,
        pooled="cells",
        pooled_says=(
            "mean of the patch tokens after the last norm, of all groups of bands; the authors publish no frozen "
            "feature and fine-tune on the mean of the patch tokens, before a new norm"
        ),
        citation=_CITATION,
        licence={
            "code": "CC-BY-NC-4.0",
            "weights": "CC-BY-NC-4.0 presumed (the repository's; none is stated where they lie)",
        },
        source="https://github.com/sustainlab-group/SatMAE",
        certificate=_certificate,
        notes=(
            "rgb_* saw 8-bit RGB photographs of 0.3 m to some metres, not Sentinel-2: reflectance 0 to 0.3 is "
            "stretched to 0 to 255. ms_* saw Sentinel-2 L1C; L2A is taken where nothing else is offered, and meta says "
            "so. The temporal net (pretrain_fmow_temporal.pth, finetune_fmow_temporal.pth) and the fine-tuned ones "
            "(fmow_finetune.pth, and those of fMoW-Sentinel) are other nets and are not in the catalogue."
        ),
    ),
)
