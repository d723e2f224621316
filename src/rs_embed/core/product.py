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
    years: tuple[int, ...] | None = None
    """The years that it has, where that is known without asking; ``None``: they differ by place."""
    unit: bool = False
    """Whether vectors have length one, so that means and resampled pixels are brought back to it."""
    earth_engine: str | None = None
    """Image collection of Google Earth Engine with the same values; ``None``: it has none."""
    chips: bool = False
    """Whether it holds vectors of pieces of imagery in tables, and no pixels: its sensor has no bands, its model no
    inputs, and the ``config`` of its variants a ``collection`` and the ``folders`` of a store where they may lie."""
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
