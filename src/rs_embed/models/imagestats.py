"""Image statistics: mean, standard deviation, maximum and minimum of each band (Corley et al. 2023)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.encoding import Batch, Encoder, Features
from rs_embed.core.model_spec import Build, Certificate, InputSpec, ModelSpec, Source, Variant, Window

__all__ = ["MODELS", "Identity", "image_statistics"]

_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")

_CITATION = """@article{corley2023revisiting,
  title   = {Revisiting pre-trained remote sensing model benchmarks: resizing and normalization matters},
  author  = {Corley, Isaac and Robinson, Caleb and Dodhia, Rahul and Lavista Ferres, Juan M. and Najafirad, Peyman},
  journal = {arXiv preprint arXiv:2305.13456},
  year    = {2023}
}"""


class Identity:
    """Every pixel is a cell, its bands are the features."""

    net: Any = None

    def __call__(self, batch: Batch) -> Features:
        """Return the frame of the only input, ``(N, C, H, W)``."""
        (images,) = batch.inputs.values()
        return Features(grid=images.pixels[:, 0])

    def head(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the vectors as they are."""
        return vectors


def image_statistics(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return what the authors' ``ImageStatisticsModel`` gives for one image.

    Parameters
    ----------
    image
        ``(C, H, W)``; NaN is left out.

    Returns
    -------
    ndarray
        ``(4 C,)`` float32: mean, sample standard deviation, maximum and minimum of all bands. The deviation of a single
        value is 0 (the authors' is NaN); a band without a value is NaN.
    """
    values = image.reshape(len(image), -1).astype(np.float64)
    seen = ~np.isnan(values)
    count = seen.sum(axis=1)
    known = np.where(seen, values, 0.0)
    mean = known.sum(axis=1) / np.maximum(count, 1)
    spread = np.where(seen, np.square(known - mean[:, None]), 0.0).sum(axis=1)
    deviation = np.sqrt(spread / np.maximum(count - 1, 1))
    high = np.where(seen, values, -np.inf).max(axis=1)
    low = np.where(seen, values, np.inf).min(axis=1)
    found = np.stack([mean, deviation, high, low])
    found[:, count == 0] = np.nan
    return found.ravel().astype(np.float32)


def _encoder(build: Build) -> Encoder:
    return Identity()


def _certificate() -> Certificate:
    from rs_embed.models.certificates.imagestats import CERTIFICATE

    return CERTIFICATE


MODELS = (
    ModelSpec(
        name="imagestats",
        title="Image statistics: mean, standard deviation, maximum and minimum of each band",
        inputs={
            "s2": InputSpec(
                sources=(Source("sentinel-2-l2a"),),
                bands=_BANDS,
                gsd_range=(0.1, 1000.0),
                any_bands=True,
            )
        },
        variants={
            "default": Variant(
                window=Window(size=None),
                dims={"pooled": 4 * len(_BANDS), "grid": len(_BANDS)},
                parameters=0,
            )
        },
        encoder=_encoder,
        pooled="cells",
        pooled_says=(
            "the authors' vector: the mean of every band, then the standard deviation (n - 1) of every band, then the "
            "maxima, then the minima, over the region's pixels, in the sensor's own units"
        ),
        citation=_CITATION,
        licence={"code": "Apache-2.0", "weights": "none"},
        source="https://github.com/isaaccorley/resize-is-all-you-need (src/models.py: ImageStatisticsModel)",
        locality="pixel",
        statistics=("mean", "sample_std", "max", "min"),
        certificate=_certificate,
        notes=(
            "A baseline without weights. sensor= takes any sensor and bands: the vector has four numbers a band. The "
            "bands differ in scale; standardise the vectors before distances are taken."
        ),
    ),
)
