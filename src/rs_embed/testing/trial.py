"""A model on trial: what it makes of places and of imagery that was changed on its way."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rs_embed.core.embedding import Embedding
from rs_embed.core.geometry import Region, locate
from rs_embed.core.imagery import ImageRequest, ImageStack
from rs_embed.core.model_spec import ModelSpec
from rs_embed.core.sensors import SENSORS
from rs_embed.core.specs import BBox, OutputSpec, SpatialSpec, TemporalSpec
from rs_embed.inference.calls import embed_regions
from rs_embed.inference.session import Session, open_session
from rs_embed.inference.setup import Setup
from rs_embed.providers.base import Provider

__all__ = ["Altered", "Trial", "bounds_of", "mirrored", "random_state", "within"]

Change = Callable[[ImageRequest, ImageStack], ImageStack]


@dataclass
class Altered:
    """Another provider, whose stacks are changed on their way."""

    inner: Provider
    change: Change
    name: str = "altered"
    source: str = "altered"

    def offers(self, sensor: str) -> bool:
        """Whether the other one may have imagery of that sensor."""
        return self.inner.offers(sensor)

    def load(self, request: ImageRequest, parts: Sequence[GeoBox]) -> Iterator[ImageStack]:
        """Yield the other one's stacks, changed."""
        return (self.change(request, stack) for stack in self.inner.load(request, parts))


def within(geobox: GeoBox, bounds: tuple[float, float, float, float]) -> NDArray[np.bool_]:
    """Return ``(H, W)``: the pixels whose centres lie inside (left, bottom, right, top), or the nearest one to it."""
    a, (height, width) = geobox.affine, geobox.shape
    left, bottom, right, top = bounds
    x, y = a.c + a.a * (np.arange(width) + 0.5), a.f + a.e * (np.arange(height) + 0.5)
    across, down = (max(size, abs(own)) / 2 for size, own in ((right - left, a.a), (top - bottom, a.e)))
    columns = np.abs(x - (left + right) / 2) <= across * (1 - 1e-9)
    rows = np.abs(y - (bottom + top) / 2) <= down * (1 - 1e-9)
    inside: NDArray[np.bool_] = rows[:, None] & columns[None]
    return inside


def mirrored(request: ImageRequest, stack: ImageStack, where: NDArray[np.bool_]) -> ImageStack:
    """Return the stack with bright pixels dark and dark ones bright where it is asked, in plausible values."""
    sensor = SENSORS.get(request.sensor)  # None: a product, whose numbers lie around 0
    total = 0.0 if sensor is None else -30.0 if sensor.kind == "radar" else 3000.0
    return replace(stack, pixels=np.where(where, np.float32(total) - stack.pixels, stack.pixels))


def bounds_of(embedding: Embedding, row: int, col: int) -> tuple[float, float, float, float]:
    """Return (left, bottom, right, top) of a cell of a grid."""
    a, _, c, _, e, f = embedding.meta["geobox"]["transform"]
    return c + a * col, f + e * (row + 1), c + a * (col + 1), f + e * row


def random_state() -> list[Any]:
    """Return the state of everybody's random numbers: Python's, numpy's, and torch's where it is loaded."""
    name, keys, *rest = np.random.get_state(legacy=True)
    found: list[Any] = [random.getstate(), name, np.asarray(keys).tolist(), rest]
    torch = sys.modules.get("torch")
    return [*found, torch.random.get_rng_state().tolist() if torch is not None else None]


@dataclass(frozen=True)
class Trial:
    """A model with the place and time at which it is tried."""

    spec: ModelSpec
    provider: Provider
    options: Mapping[str, Any]
    spatial: SpatialSpec
    temporal: TemporalSpec
    known: dict[Any, Embedding] = field(default_factory=dict, repr=False)
    before: list[Any] = field(default_factory=random_state, repr=False)

    def session(self, output: OutputSpec, *, batch_size: int | None = None, spec: ModelSpec | None = None) -> Session:
        """Return the session of a call."""
        model = spec or self.spec
        return open_session(
            model, self.provider, output=output, options=self.options, batch_size=batch_size, device="cpu"
        )

    def batch(
        self, places: Sequence[SpatialSpec], output: OutputSpec, *, change: Change | None = None
    ) -> list[Embedding]:
        """Embed places in one batch."""
        provider: Provider = self.provider if change is None else Altered(self.provider, change)
        session = self.session(output, batch_size=len(places))
        return embed_regions(session, provider, places, self.temporal, "raise", False, single=len(places) == 1)

    def embed(self, output: OutputSpec, place: SpatialSpec | None = None, *, change: Change | None = None) -> Embedding:
        """Embed one place; what repeats unchanged is remembered."""
        place = place or self.spatial
        if change is not None:
            return self.batch([place], output, change=change)[0]
        key = (place, output)
        if key not in self.known:
            self.known[key] = self.batch([place], output)[0]
        return self.known[key]

    @cached_property
    def setup(self) -> Setup:
        """The checked description of what runs."""
        return self.session(OutputSpec.pooled()).setup

    @cached_property
    def region(self) -> Region:
        """The place on its plane."""
        return locate(self.spatial)

    @cached_property
    def pixel(self) -> float:
        """Metres of a pixel of the finest input."""
        return min((item.gsd for item in self.setup.inputs.values()), default=10.0)

    def box(self, row: float, col: float, height: float, width: float) -> BBox:
        """Return a box in whole pixels, counted from the region's north-western pixel."""
        assert self.region.crs is not None
        left, _, _, top = self.region.shape.bounds
        size, offset = self.pixel, next((i.sensor.offset for i in self.setup.inputs.values()), 0.0) * self.pixel
        x = (np.ceil((left - offset) / size - 1e-6) + col) * size + offset
        y = (np.floor((top - offset) / size + 1e-6) - row) * size + offset
        return BBox(x, y - height * size, x + width * size, y, crs=f"EPSG:{self.region.crs.epsg}")

    @cached_property
    def sides(self) -> tuple[int, int]:
        """Whole pixels of the region, down and across."""
        left, bottom, right, top = self.region.shape.bounds
        return int((top - bottom) // self.pixel), int((right - left) // self.pixel)
