"""Prithvi-EO: Harmonized Landsat Sentinel-2 of one or several dates (Jakubik et al. 2023, Szwarcman et al. 2024).

Six bands at 30 m through a masked autoencoder's transformer; the variants with ``_tl`` are told the date of each frame
and the place. Statistics, sizes and codes are those of ``terratorch==1.2.13`` (``prithvi_vit.py``, ``prithvi_mae.py``),
the rule for pixels without data is that of the model repositories' ``inference.py``.

Two of the authors' sources order the place as (latitude, longitude), the code's docstring and the data sets of their
fine-tuning, and one as (longitude, latitude), ``inference.py``. The first is taken here. Days of the year count from 1,
as in ``inference.py``; some of the data sets count from 0, which hardly moves a sine of so slow a day.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.encoding import Batch, Encoder, Features
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
from rs_embed.preprocess.steps import Normalize

if TYPE_CHECKING:
    from torch import Tensor

    from rs_embed.nets.prithvi import PrithviEncoder

__all__ = ["MODELS", "NODATA", "STATISTICS", "PrithviFrames", "no_data", "steps"]

Numbers = tuple[float, ...]

STATISTICS: Mapping[str, tuple[Numbers, Numbers]] = {
    "v1": ((775.0, 1081.0, 1229.0, 2497.0, 2204.0, 1611.0), (1282.0, 1270.0, 1399.0, 1368.0, 1292.0, 1155.0)),
    "v2": ((1087.0, 1342.0, 1433.0, 2734.0, 1958.0, 1363.0), (2248.0, 2179.0, 2178.0, 1850.0, 1242.0, 1049.0)),
}
"""Mean and standard deviation of blue, green, red, narrow near infrared and both short-wave infrared bands,
reflectance * 10 000, of either version's training."""

NODATA = -9999
"""What HLS files hold where there is nothing to see."""

_WITHOUT_DATA = 1e-4


def steps(version: str) -> tuple[Normalize, ...]:
    """Return the authors' normalisation: ``(x - mean) / std``, no clipping."""
    return (Normalize(*STATISTICS[version]),)


def no_data(version: str) -> Numbers:
    """Return what a pixel without data becomes, in sensor units.

    The authors write 0.0001 after the normalisation. The steps make that of this value, but for 3e-8 that float32
    cannot hold beside a mean of 1000: filling comes before the steps, so that a window can be resampled without
    spreading the marker.
    """
    return tuple(mean + _WITHOUT_DATA * std for mean, std in zip(*STATISTICS[version], strict=True))


class PrithviFrames:
    """From frames of six bands to one feature a patch: the mean over the frames."""

    net: PrithviEncoder

    def __init__(self, net: PrithviEncoder) -> None:
        self.net = net

    def __call__(self, batch: Batch) -> Features:
        """Encode; a net that takes coordinates is told those that are known."""
        (given,) = batch.inputs.values()
        x = given.pixels.transpose(1, 2)  # (N, T, C, H, W) -> (N, C, T, H, W)
        when = _dates(given.times, x) if self.net.temporal_embed_enc is not None else None
        where = _places(batch.lonlat, x) if self.net.location_embed_enc is not None else None
        patches = self.net(x, when, where)[:, 1:]  # without the class token
        t, h, w = self.net.shape(x)
        cells = patches.reshape(len(x), t, h, w, -1).mean(dim=1)  # (N, t*h*w, D) -> (N, h, w, D)
        return Features(grid=cells.permute(0, 3, 1, 2))

    def head(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the vectors as they are."""
        return vectors


def _dates(times: NDArray[np.datetime64], like: Tensor) -> Tensor | None:
    """Year and day of the year from 1, ``(N, T, 2)`` float32; ``None`` where a frame of the samples has no date.

    The code is of all frames or of none, as the authors' code takes it.
    """
    import torch

    if np.isnat(times).any():
        return None
    years, days = times.astype("datetime64[Y]"), times.astype("datetime64[D]")
    day = (days - years.astype("datetime64[D]")).astype(np.int64) + 1
    pairs = np.stack((years.astype(np.int64) + 1970, day), axis=-1).astype(np.float32)
    return torch.from_numpy(pairs).to(like.device)


def _places(lonlat: NDArray[np.float64], like: Tensor) -> Tensor | None:
    """Degrees of latitude and longitude, ``(N, 2)`` float32; ``None`` where a sample has no place."""
    import torch

    if np.isnan(lonlat).any():
        return None
    return torch.from_numpy(lonlat[:, ::-1].astype(np.float32)).to(like.device)


def _build(build: Build) -> Encoder:
    from rs_embed.nets.prithvi import PrithviEncoder

    return PrithviFrames(PrithviEncoder(**build.variant.config))


def _convert(state: Mapping[str, Any]) -> dict[str, Any]:
    from rs_embed.nets.prithvi import encoder_state

    return encoder_state(state)


def _certificate() -> Certificate:
    from rs_embed.models.certificates.prithvi import CERTIFICATE

    return CERTIFICATE


_SIDE = 224
_MOST = 12
"""Frames at most. The position code goes on beyond the frames of the training as a sine does, and attention costs the
square of their number: a month each for a year is enough."""
_USUAL = 4
"""Frames of a sample of the second version's training data, also where a variant's own number is 1."""


def _frames(step: int | None = None, most: int = _MOST) -> Frames:
    return Frames(kind="composite", step="whole" if step is None else step, min=1, max=most, missing="drop")


def _adapt(variant: Variant, options: Mapping[str, Any]) -> Variant:
    mode, parts = options.get("temporal_mode", "auto"), options.get("n_frames")
    if mode == "single":
        if parts not in (None, 1):
            raise ModelError(
                f"temporal_mode='single' is one frame, so that n_frames={parts!r} cannot be meant; leave one out"
            )
        return dataclasses.replace(variant, frames=_frames(most=1))
    if mode == "multi" and parts is None:
        trained = int(variant.config["num_frames"])
        parts = trained if trained > 1 else _USUAL
    return dataclasses.replace(variant, frames=_frames(parts))


def _variant(
    repository: str,
    *,
    width: int,
    depth: int,
    heads: int,
    parameters: int,
    frames: int = 4,
    patch: int = 16,
) -> Variant:
    """A published size; its file has the repository's name."""
    told = repository.endswith("TL")
    version = "v1" if "-1.0-" in repository else "v2"
    config: dict[str, Any] = {
        **{"img_size": _SIDE, "patch_size": (1, patch, patch), "num_frames": frames, "in_chans": 6},
        **{"embed_dim": width, "depth": depth, "num_heads": heads},
    }
    if told:
        config |= {"coords_encoding": ("time", "location"), "coords_scale_learn": True}
    name = repository.replace("Prithvi-EO-1.0", "Prithvi_EO_V1").replace("Prithvi-EO-2.0", "Prithvi_EO_V2")
    return Variant(
        window=Window(size=None, patch=patch, min=patch, max=_SIDE, multiple=patch, context=_SIDE),
        dims={"pooled": width, "grid": width},
        config=config,
        checkpoint=Checkpoint(
            file=f"{name.replace('-', '_')}.pt", repository=f"ibm-nasa-geospatial/{repository}", convert=_convert
        ),
        parameters=parameters,
        frames=_frames(),
        modalities=("hls" if version == "v2" else "hls_v1",),
        conditions=("place", "time") if told else (),
    )


def _input(version: str) -> InputSpec:
    """The six bands, normalised as a version was trained."""
    own = steps(version)
    return InputSpec(
        sources=(
            Source("hls-s30", own),
            Source("hls-l30", own, bands=("B02", "B03", "B04", "B05", "B06", "B07")),
            Source("sentinel-2-l2a", own, bands=("B2", "B3", "B4", "B8A", "B11", "B12"), trained_on=False),
            Source(
                "landsat-c2-l2",
                own,
                bands=("SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B6", "SR_B7"),
                trained_on=False,
            ),
        ),
        bands=("B02", "B03", "B04", "B8A", "B11", "B12"),
        gsd=30.0,
        gsd_range=(30.0, 30.0),
        frames=_frames(),
        fill=no_data(version),
    )


_CITATION = """@misc{szwarcman2024prithvi2,
  title         = {Prithvi-EO-2.0: A Versatile Multi-Temporal Foundation Model for Earth Observation Applications},
  author        = {Szwarcman, Daniela and Roy, Sujit and Fraccaro, Paolo and others},
  year          = {2024},
  eprint        = {2412.02732},
  archivePrefix = {arXiv},
  primaryClass  = {cs.CV}
}

@misc{jakubik2023prithvi,
  title         = {Foundation Models for Generalist Geospatial Artificial Intelligence},
  author        = {Jakubik, Johannes and Roy, Sujit and Phillips, C. E. and Fraccaro, Paolo and others},
  year          = {2023},
  eprint        = {2310.18660},
  archivePrefix = {arXiv},
  primaryClass  = {cs.CV}
}"""

MODELS = (
    ModelSpec(
        name="prithvi",
        title="Prithvi-EO 1.0 and 2.0: Harmonized Landsat Sentinel-2 of one or several dates",
        aliases=("prithvi_eo_v2_s2_6b",),
        inputs={"hls": _input("v2"), "hls_v1": _input("v1")},
        modalities={"hls": ("hls",), "hls_v1": ("hls_v1",)},
        variants={
            # the default: told place and date as the largest are, and quick enough for a computer without a GPU
            "v2_100_tl": _variant("Prithvi-EO-2.0-100M-TL", width=768, depth=12, heads=12, parameters=86_237_186),
            "v2_tiny_tl": _variant(
                "Prithvi-EO-2.0-tiny-TL", width=192, depth=12, heads=3, parameters=5_634_050, frames=1
            ),
            "v2_300": _variant("Prithvi-EO-2.0-300M", width=1024, depth=24, heads=16, parameters=303_886_336),
            "v2_300_tl": _variant("Prithvi-EO-2.0-300M-TL", width=1024, depth=24, heads=16, parameters=303_886_338),
            "v2_600": _variant("Prithvi-EO-2.0-600M", width=1280, depth=32, heads=16, parameters=631_188_480, patch=14),
            "v2_600_tl": _variant(
                "Prithvi-EO-2.0-600M-TL", width=1280, depth=32, heads=16, parameters=631_188_482, patch=14
            ),
            "v1_100": _variant("Prithvi-EO-1.0-100M", width=768, depth=12, heads=12, parameters=86_237_184, frames=3),
        },
        options={
            "temporal_mode": Option(
                "auto",
                "auto: one composite of the whole span, and the frames of an array of your own as they are; single: "
                "one frame, always; multi: as many equal parts of the span as the variant was trained with (4, of "
                "version 1 3), or n_frames",
                choices=("auto", "single", "multi"),
            ),
            "n_frames": Option(
                None, "number of equal parts of the span, a frame each", type="int", low=1, high=_MOST, optional=True
            ),
        },
        adapt=_adapt,
        encoder=_build,
        pooled="cells",
        pooled_says=(
            "mean of the patch tokens of all frames after the last norm, without the class token (the authors publish "
            "no recipe for frozen features)"
        ),
        citation=_CITATION,
        licence={
            "code": "Apache-2.0 (terratorch, model repositories), MIT (NASA-IMPACT/Prithvi-EO-2.0)",
            "weights": "Apache-2.0 (model cards of v2_300, v2_300_tl and v2_600; presumed of the others)",
        },
        source="https://github.com/NASA-IMPACT/Prithvi-EO-2.0",
        conditions=("place", "time"),
        certificate=_certificate,
        notes=(
            "Trained on HLS at 30 m in windows of 224 pixels: a smaller region is seen with the imagery around it, and "
            "its own cells are pooled. An array of your own may have any size from one patch (16 pixels; 14 of the "
            "variants of 600M); the position code is stretched over it, bicubic, as the authors do. The modality "
            "hls_v1 is the same imagery with the statistics of version 1. A pixel without data becomes 0.0001 after "
            "the normalisation, as in the authors' inference; a frame without any is left out. Variants with _tl are "
            "told the place as (latitude, longitude) and each frame's year and day of the year from 1; what is unknown "
            "is not told, as happened in their training."
        ),
    ),
)
