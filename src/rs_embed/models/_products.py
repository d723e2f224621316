"""What the models of raster products share: the identity encoder and the heads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.encoding import Batch, Encoder, Features
from rs_embed.core.model_spec import Build, Frames, InputSpec, Source, Window
from rs_embed.core.product import Product

__all__ = ["ANY_SIDE", "UNKNOWN_LICENCE", "Identity", "OnSphere", "identity", "input_of"]

ANY_SIDE = Window(size=None)
UNKNOWN_LICENCE = "unknown: as its owner says"
"""Of embeddings whose file names none."""


class Identity:
    """Every pixel is a cell, its bands are the embedding; on a grid of degrees it weighs as much as its area.

    The area goes with the cosine of the latitude.
    """

    net: Any = None

    def __call__(self, batch: Batch) -> Features:
        """Return the frame of the only input, ``(N, D, H, W)``."""
        (stored,) = batch.inputs.values()
        weight = None
        if batch.pixel_lonlat is not None:
            weight = np.maximum(np.cos(np.deg2rad(batch.pixel_lonlat[..., 1])), 1e-6).astype(np.float32)
        return Features(grid=stored.pixels[:, 0], weight=weight)

    def head(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the vectors as they are."""
        return vectors


class OnSphere(Identity):
    """The same for vectors of length one: their mean is brought back to it."""

    def head(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Divide the vectors ``(..., D)`` by their length, in float64."""
        length = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
        return (vectors / np.where(length > 0, length, np.nan)).astype(np.float32)


def identity(build: Build) -> Encoder:
    """Build the identity."""
    return Identity()


def input_of(product: Product) -> dict[str, InputSpec]:
    """Return the only input of a product's model: the product itself."""
    names = product.sensor.default_bands
    return {
        "product": InputSpec(
            sources=(Source(product.sensor.id),),
            bands=names,
            gsd=product.sensor.gsd,
            gsd_range=(1e-6, 1e9),
            frames=Frames() if product.annual else Frames(kind="static"),
            cloudy_pct=100.0,
        )
    }
