"""Scale-MAE: a masked autoencoder of fMoW's photographs that is told the size of a pixel (Reed et al. 2023).

arXiv 2212.14532. Its position code multiplies a patch's row and column by ``input_res``, the size of a pixel relative
to a reference of 1 m. By default that is the window's own effective ground sample distance in metres, each sample's its
own, as the paper defines it. It is a choice: in training the authors never read a sensor's resolution, but simulated
2.2 to 5 by their crops; their evaluation scripts say 1.0 whatever the sensor; and others' benchmarks gained by the
true 10 m of Sentinel-2 on some tasks and lost by it on others. The option ``input_res`` overrides it for all windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.encoding import Batch, Encoder, Features
from rs_embed.core.model_spec import (
    Build,
    Certificate,
    Checkpoint,
    InputSpec,
    ModelSpec,
    Option,
    Variant,
    Window,
)
from rs_embed.models._fmow import GREY, GSD_RANGE, STRETCH, WHITE, rgb_sources
from rs_embed.preprocess.steps import Affine, Normalize, Resize

__all__ = ["MEAN", "MODELS", "SIDE", "STD", "TO_NET", "ScaleMae"]

SIDE = 224

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of R, G, B in [0, 1]: ImageNet's, which by their configuration's own note served the authors better than fMoW's."""

TO_NET = (Affine(1 / 255), Normalize(MEAN, STD))
"""From grey levels: ToTensor and Normalize, after the resize of the 8-bit image."""

_FROM_GREY = (Resize(SIDE, "bilinear", "pillow_uint8"), *TO_NET)
_STEPS = (STRETCH, *_FROM_GREY)


class ScaleMae:
    """From one RGB frame to the class token and the patch tokens."""

    def __init__(self, net: Any, input_res: float | None) -> None:
        self.net = net
        self.input_res = input_res

    def __call__(self, batch: Batch) -> Features:
        """Encode ``(N, 1, 3, 224, 224)``, each window with the position code of its own pixels."""
        import torch

        from rs_embed.nets.scalemae import ground_code
        from rs_embed.nets.vit import as_grid

        (given,) = batch.inputs.values()
        sizes = given.gsd if self.input_res is None else np.full(len(given.gsd), self.input_res)
        input_res = torch.tensor(sizes, dtype=torch.float32, device=given.pixels.device)
        rows, columns = self.net.grid
        code = ground_code(rows, columns, self.net.embed_dim, input_res)
        tokens = self.net(given.pixels[:, 0], code)
        return Features(grid=as_grid(self.net.patch_features(tokens), rows, columns), pooled=tokens[:, 0])

    def head(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the vectors as they are."""
        return vectors


def _build(build: Build) -> Encoder:
    from rs_embed.nets.vit import ViT

    return ScaleMae(ViT(**build.variant.config), build.options["input_res"])


def _convert(state: Mapping[str, Any]) -> dict[str, Any]:
    from rs_embed.nets.scalemae import clean_state

    return clean_state(state)


def _certificate() -> Certificate:
    from rs_embed.models.certificates.scalemae import CERTIFICATE

    return CERTIFICATE


def _adapt(variant: Variant, options: Mapping[str, Any]) -> Variant:
    """With a fixed ``input_res`` the net is told nothing about the window."""
    return variant if options.get("input_res") is None else replace(variant, conditions=())


_CITATION = """@inproceedings{reed2023scalemae,
  title     = {{Scale-MAE}: A Scale-Aware Masked Autoencoder for Multiscale Geospatial Representation Learning},
  author    = {Reed, Colorado J. and Gupta, Ritwik and Li, Shufan and Brockman, Sarah and Funk, Christopher and
               Clipp, Brian and Keutzer, Kurt and Candido, Salvatore and Uyttendaele, Matt and Darrell, Trevor},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision (ICCV)},
  pages     = {4088--4099},
  year      = {2023}
}"""

MODELS = (
    ModelSpec(
        name="scalemae",
        title="Scale-MAE: masked autoencoder of fMoW photographs, told the size of a pixel on the ground",
        aliases=("scalemae_rgb",),
        inputs={
            "rgb": InputSpec(
                sources=rgb_sources(_STEPS, (GREY, *_FROM_GREY), MEAN),
                bands=("B4", "B3", "B2"),
                gsd=10.0,
                gsd_range=GSD_RANGE,
                fill=tuple(mean * WHITE for mean in MEAN),  # becomes the mean, up to half a grey level
                any_bands=True,
            )
        },
        variants={
            "vit_large": Variant(
                window=Window(size=SIDE, patch=16, min=SIDE, max=SIDE, multiple=16, square=True),
                dims={"pooled": 1024, "grid": 1024},
                config={
                    "img_size": SIDE,
                    "patch_size": 16,
                    "embed_dim": 1024,
                    "depth": 24,
                    "num_heads": 16,
                    "stored_positions": False,
                },
                checkpoint=Checkpoint(
                    file="vit_large_patch16_224_fmow_rgb_scalemae-98ed9821.pth",
                    repository="isaaccorley/vit_large_patch16_224_fmow_rgb_scalemae",
                    revision="9dc7f569424baeb780698352cf6e87638c882123",
                    convert=_convert,
                ),
                parameters=303_099_904,
            )
        },
        encoder=_build,
        options={
            "input_res": Option(
                None,
                "size of a pixel in the position code, relative to 1 m; by default the window's own in metres",
                type="float",
                low=0.01,
                high=1000.0,
                optional=True,
            )
        },
        conditions=("gsd",),
        adapt=_adapt,
        pooled="window",
        pooled_says="the class token after the last norm, the authors' feature for k-NN",
        citation=_CITATION,
        licence={
            "code": "CC-BY-NC-4.0",
            "weights": "CC-BY-NC-4.0 presumed (the repository's; none is stated where they lie)",
        },
        source="https://github.com/bair-climate-initiative/scale-mae",
        certificate=_certificate,
        notes=(
            "Trained on 8-bit RGB photographs of 0.3 m to some metres, not on Sentinel-2: reflectance 0 to 0.3 is "
            "stretched to 0 to 255. The position code follows the window's effective ground sample distance; training "
            "simulated 2.2 to 5, and the authors' evaluation scripts use input_res=1.0. The weights are the authors' "
            "(release base-800, scalemae-vitlarge-800.pth, which checkpoint= takes too) in torchgeo's pinned copy."
        ),
    ),
)
