"""Presto: the months of one pixel, from several sensors (Tseng et al. 2023, arXiv 2304.14065).

Every pixel is a sequence of its own: a token for each month and group of bands, one for elevation and slope, one for
the place. Constants are those of ``nasaharvest/presto@13173d02``.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

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
    Source,
    Variant,
    Window,
)
from rs_embed.preprocess.steps import Normalize

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MODELS", "STEPS", "PixelSeries"]

STEPS: Mapping[str, tuple[Normalize, tuple[str, ...]]] = {
    "s2": (Normalize(0.0, 1e4), ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")),
    "s1": (Normalize(-25.0, 25.0), ("VV", "VH")),
    "era5": (Normalize((272.15, 0.0), (35.0, 0.03)), ("temperature_2m", "total_precipitation")),
    "dem": (Normalize(0.0, (2000.0, 50.0)), ("elevation", "slope")),
}
"""Each input's step and bands: ``(x - mean) / std`` is the authors' ``(x + ADD_BY) / DIVIDE_BY``."""

_SATELLITES = ("s2", "s1")
"""One of them has to be there: weather and relief alone say nothing of what grows on a pixel."""

_WORKING_BYTES = {"cpu": 2**25, "cuda": 2**30}
"""Memory of one forward pass (what the processor's cache nearly holds); sequences beyond it wait for the next."""
_COPIES = 12
"""Copies of the tokens that a block holds at its peak: qkv, the MLP's fourfold width, residuals and norms."""


class PixelSeries:
    """From frames of several sensors to a feature at every pixel."""

    def __init__(self, net: Any) -> None:
        self.net = net

    def __call__(self, batch: Batch) -> Features:
        """Encode every pixel by itself; what is not valid, and what is missing, drops its tokens."""
        import torch

        series = {name: each for name, each in batch.inputs.items() if name != "dem"}
        months = _months(series)
        N, T, _, H, W = next(iter(series.values())).pixels.shape
        x, hidden = self._sequences(batch.inputs, T)
        assert batch.pixel_lonlat is not None, "the model's condition pixel_place"
        latlons = torch.from_numpy(batch.pixel_lonlat[..., ::-1].reshape(-1, 2).copy())  # (N, H, W, 2) -> (N*H*W, 2)
        of_pixel = torch.from_numpy(months).repeat_interleave(H * W, dim=0).to(x.device)  # (N, T) -> (N*H*W, T)
        found = x.new_empty(len(x), self.net.embedding_size)
        count = self._at_once(len(batch.inputs), T, x.device.type)
        for start in range(0, len(x), count):
            some = slice(start, start + count)
            found[some] = self.net(x[some], latlons[some], mask=hidden[some], month=of_pixel[some])
        grid = found.reshape(N, H, W, -1).permute(0, 3, 1, 2)  # (N*H*W, D) -> (N, D, H, W)
        return Features(grid=grid, weight=_seen(series).to(grid.dtype))

    def head(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the vectors as they are."""
        return vectors

    def _at_once(self, inputs: int, steps: int, device: str) -> int:
        """How many pixels go through the net together."""
        longest = 2 + 8 * steps if inputs > 1 else 1 + 6 * steps
        working = _WORKING_BYTES.get(device, 2**27)
        return max(1, working // (longest * int(self.net.embedding_size) * 4 * _COPIES))

    def _sequences(self, inputs: Mapping[str, InputBatch], steps: int) -> tuple[Tensor, Tensor]:
        """The net's ``x`` and ``mask``, ``(N*H*W, T, 17)``."""
        from rs_embed.nets.presto import BANDS, ndvi

        first = next(iter(inputs.values())).pixels
        N, _, _, H, W = first.shape
        x = first.new_zeros(N, H, W, steps, len(BANDS))
        hidden = first.new_ones(x.shape, dtype=bool)
        for given in inputs.values():
            frames = slice(0, given.pixels.shape[1])  # all, or the only one of what does not change
            present = [i for i, band in enumerate(given.bands) if band not in given.missing_bands]
            channels = [BANDS.index(given.bands[i]) for i in present]
            x[..., frames, channels] = given.pixels[:, :, present].permute(0, 3, 4, 1, 2)  # (N, T, C, H, W)
            hidden[..., frames, channels] = ~given.valid.permute(0, 2, 3, 1)[..., None]  # (N, T, H, W)
        nir, red, index = (BANDS.index(band) for band in ("B8", "B4", "NDVI"))
        x[..., index] = ndvi(x[..., nir], x[..., red])
        hidden[..., index] = hidden[..., nir] | hidden[..., red]
        return x.flatten(0, 2), hidden.flatten(0, 2)


def _months(series: Mapping[str, InputBatch]) -> NDArray[np.int64]:
    """Months ``(N, T)`` from 0 of all frames, which the inputs must share."""
    months = {name: each.times.astype("datetime64[M]").astype(np.int64) for name, each in series.items()}
    (name, first), *others = months.items()
    if np.isnat(series[name].times).any():
        raise ModelError("presto is told the month of each frame, and the imagery has no date; give its time")
    for other, found in others:
        if found.shape != first.shape or (found != first).any():
            raise ModelError(
                f"presto takes frames of the same months from all its sensors: {name} has {_said(series[name])}, "
                f"{other} has {_said(series[other])}"
            )
    return first % 12


def _said(given: InputBatch) -> str:
    return ", ".join(str(time) for time in given.times[0].astype("datetime64[M]"))


def _seen(series: Mapping[str, InputBatch]) -> Tensor:
    """Whether a satellite saw the pixel in any frame, ``(N, H, W)``."""
    first, *others = (each.valid.any(dim=1) for name, each in series.items() if name in _SATELLITES)
    for other in others:
        first = first | other
    seen: Tensor = first
    return seen


def _encoder(build: Build) -> Encoder:
    from rs_embed.nets.presto import PrestoEncoder

    return PixelSeries(PrestoEncoder(**build.variant.config))


def _convert(state: Mapping[str, Any]) -> dict[str, Any]:
    from rs_embed.nets.presto import encoder_state

    return encoder_state(state)


def _certificate() -> Certificate:
    from rs_embed.models.certificates.presto import CERTIFICATE

    return CERTIFICATE


def _input(name: str, *sources: Source, frames: Frames) -> InputSpec:
    step, bands = STEPS[name]
    return InputSpec(
        sources=tuple(Source(s.sensor, (step,), trained_on=s.trained_on) for s in sources),
        bands=bands,
        frames=frames,
        missing_band="mask",
    )


def _modalities() -> dict[str, tuple[str, ...]]:
    """Every combination of inputs that has a satellite in it; fewest inputs first, so that ``s2`` is the default."""
    chosen = [some for size in range(1, len(STEPS) + 1) for some in combinations(STEPS, size)]
    return {"+".join(some): some for some in chosen if set(some) & set(_SATELLITES)}


_MONTHS = Frames(kind="composite", step="month", min=1, max=24, missing="mask")
_COMMIT = "13173d028f035abcbcc3b13829314323a5c15d02"

_CITATION = """@misc{tseng2023lightweight,
  title         = {Lightweight, Pre-trained Transformers for Remote Sensing Timeseries},
  author        = {Tseng, Gabriel and Cartuyvels, Ruben and Zvonkov, Ivan and Purohit, Mirali and Rolnick, David and
                   Kerner, Hannah},
  year          = {2023},
  eprint        = {2304.14065},
  archivePrefix = {arXiv},
  primaryClass  = {cs.CV}
}"""

MODELS = (
    ModelSpec(
        name="presto",
        title="Presto: the months of every pixel, from several sensors",
        inputs={
            "s2": _input("s2", Source("sentinel-2-l1c"), Source("sentinel-2-l2a", trained_on=False), frames=_MONTHS),
            "s1": _input("s1", Source("sentinel-1"), frames=_MONTHS),
            "era5": _input("era5", Source("era5"), frames=_MONTHS),
            "dem": _input("dem", Source("dem"), frames=Frames(kind="static")),
        },
        modalities=_modalities(),
        variants={
            "default": Variant(
                window=Window(size=None),
                dims={"pooled": 128, "grid": 128},
                config={
                    "embedding_size": 128,
                    "channel_embed_ratio": 0.25,
                    "month_embed_ratio": 0.25,
                    "depth": 2,
                    "num_heads": 8,
                    "mlp_ratio": 4,
                    "max_sequence_length": 24,
                },
                checkpoint=Checkpoint(
                    file="default_model.pt",
                    url=f"https://raw.githubusercontent.com/nasaharvest/presto/{_COMMIT}/data/default_model.pt",
                    sha256="559c9d76f525bdf2dd3774da8b1e7f1510769b73baacac12e9e4d8d5c67fbe65",
                    size=3_321_716,
                    convert=_convert,
                ),
                parameters=404_160,
            )
        },
        encoder=_encoder,
        pooled="cells",
        pooled_says=(
            "mean over the region's pixels (own definition: the authors embed single pixels) of the authors' feature "
            "of a pixel: the last norm of the mean of its visible tokens, the place's included"
        ),
        citation=_CITATION,
        licence={"code": "MIT", "weights": "MIT (in the repository)"},
        source="https://github.com/nasaharvest/presto",
        locality="pixel",
        conditions=("pixel_place", "time"),
        requires=("pixel_place", "time"),
        certificate=_certificate,
        notes=(
            "Trained on monthly Sentinel-2, Sentinel-1 (dB), ERA5 and SRTM of crops and of a global sample; the "
            "authors' lineage exports Sentinel-2 L1C, which their repository does not say itself. NDVI is derived from "
            "B8 and B4. A month's group of bands is dropped where any of its bands is missing, all of a sensor's where "
            "the pixel is not valid, and a pixel counts where a satellite has seen it at least once. All sensors bring "
            "the same months, at most 24. The authors' forward counts imagery without a date as beginning in January; "
            "here that is an error, as is an unknown place. DynamicWorld's classes, which the net can take, are left "
            "out."
        ),
    ),
)
