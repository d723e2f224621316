"""RemoteCLIP: a vision-language model of aerial and satellite photographs (Liu et al. 2024, arXiv 2306.11029).

The net saw 8-bit RGB photographs, as image viewers show them. Sentinel-2 reflectance has to be made into one first.
``DN / 10 000 * 255`` is not that: land reflects 2 to 30 % in the visible, so that nearly all grey levels would lie
between 5 and 75 and every scene would be a photograph of the night. `STRETCH` maps reflectance 0 to 0.3 onto 0 to 255,
the rule by which Sentinel-2 true-colour images are usually made: fixed, so that vectors of different places compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.encoding import Batch, Encoder, Features
from rs_embed.core.model_spec import Build, Certificate, Checkpoint, InputSpec, ModelSpec, Source, Variant, Window
from rs_embed.preprocess.steps import Affine, Normalize, Resize, Stretch8bit

__all__ = ["MEAN", "MODELS", "STD", "STRETCH", "TO_NET", "RemoteClip"]

SIDE = 224
WHITE = 3000.0
"""Reflectance * 10 000 that becomes grey level 255."""

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of R, G, B in [0, 1]: OpenAI's CLIP, kept by the authors (open_clip 3.3.0, ``OPENAI_DATASET_MEAN``, ``_STD``)."""

STRETCH = Stretch8bit(0.0, WHITE)
TO_NET = (Affine(1 / 255), Normalize(MEAN, STD))
"""From grey levels to the net: torchvision's ToTensor and Normalize."""

_STEPS = (STRETCH, Resize(SIDE, "bicubic", "pillow_uint8"), *TO_NET)


class RemoteClip:
    """From one RGB frame to the image embedding and the patch features."""

    def __init__(self, net: Any) -> None:
        self.net = net

    def __call__(self, batch: Batch) -> Features:
        """Encode ``(N, 1, 3, 224, 224)``."""
        pooled, tokens = self.net(batch.inputs["rgb"].pixels[:, 0])
        return Features(grid=tokens, pooled=pooled)

    def head(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the vectors as they are: not of unit length."""
        return vectors


def _build(build: Build) -> Encoder:
    from rs_embed.nets.clip import build_visual

    return RemoteClip(build_visual(**build.variant.config))


def _convert(state: Mapping[str, Any]) -> dict[str, Any]:
    from rs_embed.nets.clip import visual_state

    return visual_state(state)


def _certificate() -> Certificate:
    from rs_embed.models.certificates.remoteclip import CERTIFICATE

    return CERTIFICATE


def _variant(
    name: str,
    vision: Mapping[str, Any],
    *,
    dims: tuple[int, int],
    parameters: int,
    size: int | None = None,
    sha256: str | None = None,
) -> Variant:
    """A published size; `vision` is open_clip's ``vision_cfg``, `dims` are the embedding's and the patches'."""
    patch = int(vision.get("patch_size", 32))  # a ResNet strides by 32 altogether
    return Variant(
        window=Window(size=SIDE, patch=patch, min=SIDE, max=SIDE, multiple=patch, square=True),
        dims={"pooled": dims[0], "grid": dims[1]},
        config={"embed_dim": dims[0], "vision_cfg": {"image_size": SIDE, **vision}},
        checkpoint=Checkpoint(
            file=f"RemoteCLIP-{name}.pt",
            repository="chendelong/RemoteCLIP",
            revision="bf1d8a3ccf2ddbf7c875705e46373bfe542bce38",
            sha256=sha256,
            size=size,
            convert=_convert,
        ),
        parameters=parameters,
    )


_CITATION = """@article{liu2024remoteclip,
  title   = {{RemoteCLIP}: A Vision Language Foundation Model for Remote Sensing},
  author  = {Liu, Fan and Chen, Delong and Guan, Zhangqingyun and Zhou, Xiaocong and Zhu, Jiale and Ye, Qiaolin and
             Fu, Liyong and Zhou, Jun},
  journal = {IEEE Transactions on Geoscience and Remote Sensing},
  volume  = {62},
  pages   = {1--16},
  year    = {2024},
  doi     = {10.1109/TGRS.2024.3390838}
}"""

MODELS = (
    ModelSpec(
        name="remoteclip",
        title="RemoteCLIP: image tower of a vision-language model of remote sensing photographs",
        aliases=("remoteclip_s2rgb",),
        inputs={
            "rgb": InputSpec(
                sources=(
                    Source("sentinel-2-l2a", _STEPS, trained_on=False),
                    Source("sentinel-2-l1c", _STEPS, trained_on=False),
                ),
                bands=("B4", "B3", "B2"),
                gsd=10.0,
                gsd_range=(0.1, 30.0),
                fill=tuple(mean * WHITE for mean in MEAN),  # becomes CLIP's mean grey, up to half a grey level
                any_bands=True,
            )
        },
        variants={
            "ViT-B-32": _variant(
                "ViT-B-32",
                {"layers": 12, "width": 768, "patch_size": 32},
                dims=(512, 768),
                parameters=87_849_216,
                size=605_208_421,
                sha256="60014e395d930a3f2963d1d89c8522bf4ad56775571e4356e866864789af85c4",
            ),
            "RN50": _variant("RN50", {"layers": (3, 4, 6, 3), "width": 64}, dims=(1024, 2048), parameters=38_316_896),
            "ViT-L-14": _variant(
                "ViT-L-14",
                {"layers": 24, "width": 1024, "patch_size": 14},
                dims=(768, 1024),
                parameters=303_966_208,
            ),
        },
        encoder=_build,
        pooled="window",
        pooled_says=(
            "encode_image: the class token after the last norm, projected (RN50: the attention pool), not of unit "
            "length; divide by its length before comparing with text"
        ),
        citation=_CITATION,
        licence={
            "code": "Apache-2.0",
            "weights": "Apache-2.0 (by third parties' notes of the model card; not verified)",
        },
        source="https://github.com/ChenDelong1999/RemoteCLIP",
        certificate=_certificate,
        notes=(
            "Trained on 8-bit RGB photographs of 0.1 to 30 m, not on Sentinel-2 of either level: reflectance 0 to 0.3 "
            "is stretched to 0 to 255. The grid holds the patch tokens after the last norm, not projected (RN50: the "
            "last feature map). Activation GELU, as the authors' README builds the net; the weights began as OpenAI's, "
            "which had QuickGELU, and which of the two the fine-tuning used is not stated."
        ),
    ),
)
