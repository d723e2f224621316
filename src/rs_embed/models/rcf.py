"""Random convolutional features, MOSAIKS (Rolf et al. 2021): filters that are patches of images, not weights.

The filters are drawn from a fixed reference, the painted landscape, and whitened with the covariance of all patches
drawn from it. So vectors of any two places compare, which those of filters fitted to a region do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from rs_embed.core.encoding import Batch, Encoder, Features
from rs_embed.core.errors import ModelError
from rs_embed.core.model_spec import Build, Certificate, InputSpec, ModelSpec, Option, Source, Variant, Window
from rs_embed.core.sensors import SENSORS
from rs_embed.models._filters import draw_patches, rectified, responses, whitened_filters
from rs_embed.preprocess.steps import Affine, Clip

__all__ = ["MODELS", "REFERENCE", "RandomFeatures", "reference_filters"]

Singles = NDArray[np.float32]

_BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
_FEATURES, _KERNEL = 512, 3

REFERENCE: tuple[tuple[float, float, date], ...] = (
    *((119.97, 27.16, date(2022, 3, 20)), (-75.54, 45.41, date(2022, 6, 3)), (24.05, 39.12, date(2022, 7, 8))),
    *((61.59, 45.32, date(2022, 5, 14)), (-76.06, 61.93, date(2022, 8, 12)), (126.14, 61.64, date(2022, 6, 21))),
    *((123.41, -29.02, date(2022, 1, 9)), (161.84, -40.86, date(2022, 10, 21)), (-174.59, -17.76, date(2022, 4, 14))),
    *((155.52, 48.82, date(2022, 9, 16)), (11.42, 48.24, date(2022, 11, 28)), (145.87, -36.37, date(2022, 12, 13))),
)
"""Longitude, latitude (degrees) and day of the pictures of the painted landscape that filters are drawn from."""
_SIDE, _SPACING = 64, 0.0001
"""Pixels along a picture's side, and degrees between them (8 to 11 m)."""
_PATCHES = 20_000
"""How many patches the whitening is fitted to."""

_CITATION = """@article{rolf2021generalizable,
  title   = {A generalizable and accessible approach to machine learning with global satellite imagery},
  author  = {Rolf, Esther and Proctor, Jonathan and Carleton, Tamma and Bolliger, Ian and Shankar, Vaishaal and
             Ishihara, Miyabi and Recht, Benjamin and Hsiang, Solomon},
  journal = {Nature Communications},
  volume  = {12},
  pages   = {4392},
  year    = {2021},
  doi     = {10.1038/s41467-021-24638-z}
}"""


def _painted_bands(sensor: str, bands: tuple[str, ...]) -> tuple[str, ...]:
    """Return the painted Sentinel-2 band nearest in wavelength to each band."""
    painted = [b for b in SENSORS["sentinel-2-l2a"].bands if not math.isnan(b.wavelength)]
    found = []
    for name in bands:
        wavelength = SENSORS[sensor].band(name).wavelength
        if math.isnan(wavelength):
            raise ModelError(
                f"rcf has no reference patches for band {name!r} of {sensor}: the painted landscape gives it optical "
                "ones only; use filters='gaussian'"
            )
        found.append(min(painted, key=lambda b: abs(b.wavelength - wavelength)).name)
    return tuple(found)


@lru_cache(maxsize=2)
def _reference_images() -> tuple[dict[str, Singles], ...]:
    """Return the reference pictures, ``{band: (H, W)}`` reflectance limited to 0 to 1, like the model's input."""
    from rs_embed.providers.landscape import surface
    from rs_embed.providers.spectra import BANDS

    steps = np.arange(_SIDE) * _SPACING
    pictures = []
    for lon, lat, day in REFERENCE:
        pixels = surface(lon + steps, (lat - steps)[:, None], day, BANDS) / np.float32(10000)
        pictures.append(dict(zip(BANDS, np.clip(pixels, np.float32(0), np.float32(1)), strict=True)))
    return tuple(pictures)


@lru_cache(maxsize=8)
def reference_filters(sensor: str, bands: tuple[str, ...], kernel: int, count: int, seed: int) -> Singles:
    """Return whitened patches of the painted landscape.

    Parameters
    ----------
    sensor, bands
        Id of the sensor and names of its bands; bands that are not Sentinel-2's get the painted ones of nearest
        wavelength.
    kernel
        Side of a filter, pixels.
    count
        Number of filters, kept at random of all that the whitening was fitted to, as in the paper's code.
    seed
        Of that choice.

    Returns
    -------
    ndarray
        ``(count, bands, kernel, kernel)`` float32, read-only.
    """
    painted = _painted_bands(sensor, bands)
    images = [np.stack([picture[band] for band in painted]) for picture in _reference_images()]
    whitened = whitened_filters(draw_patches(images, kernel, _PATCHES, seed=0))
    kept = np.random.default_rng(seed).permutation(len(whitened))[:count]
    filters = np.ascontiguousarray(whitened[kept])
    filters.setflags(write=False)
    return filters


class RandomFeatures:
    """Rectified responses to fixed filters, at every pixel."""

    net: Any = None

    def __init__(self, filters: Singles, bias: float) -> None:
        self.filters = filters
        self.bias = bias

    def __call__(self, batch: Batch) -> Features:
        """Return ``(N, 2 n, H - 2 halo, W - 2 halo)``: relu(y - bias) of all filters, then relu(-y - bias)."""
        (images,) = batch.inputs.values()
        N, _, _, H, W = images.pixels.shape
        kernel = self.filters.shape[2]
        high, wide = H - 2 * (kernel // 2), W - 2 * (kernel // 2)
        used = (Ellipsis, slice(0, high + kernel - 1), slice(0, wide + kernel - 1))  # even kernels look left and up
        grid = np.empty((N, 2 * len(self.filters), high, wide), np.float32)
        weight = np.ones((N, high, wide), np.float32)
        for sample in range(N):
            pixels, valid = images.pixels[sample, 0][used], images.valid[sample, 0][used]
            responses(pixels, self.filters, self.bias, out=grid[sample])
            if not valid.all():
                self._mend(pixels, valid, grid[sample], weight[sample])
        return Features(grid=grid, weight=weight)

    def head(self, vectors: Singles) -> Singles:
        """Return the vectors as they are."""
        return vectors

    def _mend(self, pixels: Singles, valid: NDArray[np.bool_], grid: Singles, weight: Singles) -> None:
        """Recompute cells that see invalid pixels, with the mean of the valid ones instead; weigh what was seen."""
        n, C, kernel, _ = self.filters.shape
        seen = sliding_window_view(valid, (kernel, kernel))  # (h, w, k, k)
        weight[:] = seen.mean(axis=(2, 3), dtype=np.float32)
        rows, columns = np.nonzero(weight < 1)
        windows = sliding_window_view(pixels, (kernel, kernel), axis=(1, 2))  # (C, h, w, k, k)
        at_once = max(1, (8 << 20) // (C * kernel * kernel))
        for start in range(0, len(rows), at_once):
            r, c = rows[start : start + at_once], columns[start : start + at_once]
            mask = seen[r, c][:, None]  # (P, 1, k, k)
            patches = np.where(mask, windows[:, r, c].swapaxes(0, 1), np.float32(0))  # (P, C, k, k)
            count = np.maximum(mask.sum(axis=(2, 3), keepdims=True), 1).astype(np.float32)
            patches = np.where(mask, patches, patches.sum(axis=(2, 3), keepdims=True) / count)
            flat = patches.reshape(len(r), -1).astype(np.float64)
            responded = (self.filters.reshape(n, -1).astype(np.float64) @ flat.T).astype(np.float32)
            found = np.empty((2 * n, len(r)), np.float32)
            rectified(responded, self.bias, found[:n], found[n:])
            grid[:, r, c] = found


def _encoder(build: Build) -> Encoder:
    options = build.options
    ((name, bands),) = build.bands.items()
    count, kernel, seed = int(options["features"]) // 2, int(options["kernel"]), int(options["seed"])
    if options["filters"] == "gaussian":
        drawn = np.random.default_rng(seed).standard_normal((count, len(bands), kernel, kernel))
        filters = drawn.astype(np.float32)
    else:
        filters = reference_filters(build.sensors[name], tuple(bands), kernel, count, seed)
    return RandomFeatures(filters, float(options["bias"]))


def _adapt(variant: Variant, options: Mapping[str, Any]) -> Variant:
    """Return the variant with the halo and the dimensions of the options."""
    features, kernel = int(options.get("features", _FEATURES)), int(options.get("kernel", _KERNEL))
    if features % 2:
        raise ModelError(f"rcf: option features={features} must be even: each filter gives two features")
    window = replace(variant.window, halo=kernel // 2)
    return replace(variant, window=window, dims={"pooled": features, "grid": features})


def _certificate() -> Certificate:
    from rs_embed.models.certificates.rcf import CERTIFICATE

    return CERTIFICATE


_STEPS = (Affine(1e-4), Clip(0.0, 1.0))

MODELS = (
    ModelSpec(
        name="rcf",
        title="Random convolutional features (MOSAIKS)",
        aliases=("mosaiks",),
        inputs={
            "s2": InputSpec(
                sources=(Source("sentinel-2-l2a", _STEPS), Source("sentinel-2-l1c", _STEPS)),
                bands=_BANDS,
                gsd_range=(0.1, 100.0),
                any_bands=True,
            )
        },
        variants={
            "default": Variant(
                window=Window(size=None, patch=1, multiple=1, halo=_KERNEL // 2),
                dims={"pooled": _FEATURES, "grid": _FEATURES},
                parameters=0,
            )
        },
        encoder=_encoder,
        pooled="cells",
        pooled_says=(
            "the paper's feature: the mean over the region of relu(response - bias) of every filter, then of "
            "relu(-response - bias) of every filter"
        ),
        citation=_CITATION,
        licence={"code": "own implementation (the paper's code has no licence file)", "weights": "none"},
        source="https://doi.org/10.1038/s41467-021-24638-z",
        options={
            "features": Option(_FEATURES, "length of the vector: two for each filter", "int", low=2, high=8192),
            "kernel": Option(_KERNEL, "side of a filter, pixels", "int", low=2, high=9),
            "bias": Option(0.0, "what a response must exceed to count (the paper's configuration: 0)", "float"),
            "filters": Option(
                "patches",
                "'patches': whitened patches of the painted landscape; 'gaussian': independent normal numbers",
                choices=("patches", "gaussian"),
            ),
            "seed": Option(0, "of the choice of filters", "int", low=0),
        },
        locality="pixel",
        adapt=_adapt,
        certificate=_certificate,
        notes=(
            "Reflectance is limited to 0 to 1 and otherwise left as it is. Vectors compare only where features, "
            "kernel, bias, filters, seed and bands are the same. A pixel without data counts as the mean of the valid "
            "ones under the same filter. The paper has 3 x 3 filters, 8192 features and RGB of about 4 m; 512 features "
            "are those of the baseline in Corley et al. (2023)."
        ),
    ),
)
