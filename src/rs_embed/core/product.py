"""Precomputed embeddings: a sensor whose bands are the dimensions, and where they lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rs_embed.core.sensors import Band, Sensor

__all__ = ["Product", "product_sensor"]


@dataclass(frozen=True)
class Product:
    """What a precomputed model reads instead of imagery."""

    sensor: Sensor
    """Its bands are the dimensions of the embedding."""
    store: str
    """Address of the store that it is published at, without credentials: a URL, or a path."""
    open: Callable[[str], Any]
    """From the address of a store, or of a copy of it, to a provider; imports it inside."""
    annual: bool = True
    """Whether there is one embedding a year; otherwise the product has no time."""
    unit: bool = False
    """Whether vectors have length one, so that means and resampled pixels are brought back to it."""
    space: str | None = None
    """Vector space of the embeddings where they were made by another model; ``None``: the product's own."""


def product_sensor(
    id: str, title: str, names: tuple[str, ...], *, gsd: float, collections: tuple[str, ...], attribution: str = ""
) -> Sensor:
    """Return the sensor of a product: one band a dimension."""
    bands = tuple(Band(name, gsd=gsd) for name in names)
    return Sensor(
        id, title, bands, gsd, collections, "embedding", kind="other", default_bands=names, attribution=attribution
    )
