"""The seam between the plan and the pixels: one method, and what follows from a catalogue of scenes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rs_embed.core.imagery import ImageRequest, ImageStack, Interval, Scene
from rs_embed.providers.composite import compose, select_scenes
from rs_embed.providers.selection import MOST_PASSES

__all__ = ["Provider", "SceneProvider"]


@runtime_checkable
class Provider(Protocol):
    """A source of pixels."""

    name: str
    """What ``meta['backend']`` says."""
    source: str
    """What ``meta['source']`` says: a service or a file's name, never a path."""

    def offers(self, sensor: str) -> bool:
        """Whether it may have imagery of that sensor."""
        ...

    def load(self, request: ImageRequest, parts: Sequence[GeoBox]) -> Iterator[ImageStack]:
        """Yield one stack for each part, on the part's own lattice, in order.

        Scenes are chosen once for the request, so that a part equals the crop of the whole to the bit.

        Raises
        ------
        NoImageryError
            If no scene exists in any interval; the message names the window, the collection and the nearest dates.
        ProviderError
            If imagery cannot be read.
        """
        ...


class SceneProvider(ABC):
    """A provider over a catalogue: it needs only `search` and `read`."""

    name: str
    source: str
    waits: bool = False
    """Whether reading is waiting for a network: then many scenes are read at the same time."""
    most_passes: int | None = MOST_PASSES
    """Passes that a median or mean is made from at most, the clearest ones; None: all."""

    @abstractmethod
    def offers(self, sensor: str) -> bool:
        """Whether it may have imagery of that sensor."""

    @abstractmethod
    def search(self, request: ImageRequest, interval: Interval) -> list[Scene]:
        """Return the scenes of the sensor in ``interval`` that may touch the footprint; filters are applied later."""

    @abstractmethod
    def read(self, scene: Scene, bands: Sequence[str], geobox: GeoBox) -> NDArray[np.float32]:
        """Return ``(C, H, W)`` on exactly that lattice, NaN where the scene has no data.

        Optical pixels are harmonised (reflectance * 10000), radar is linear power, classes are numbers. A crop of
        the lattice gives the crop of the result to the bit.
        """

    def scene_key(self, scene: Scene) -> str | None:
        """Return what tells the scene's pixels from all others, also after a reprocessing; None: they are not cached.

        A STAC provider returns `rs_embed.providers.stac_items.item_version` of the scene's item.
        """
        return None

    def notes(self, request: ImageRequest) -> tuple[str, ...]:
        """Return what a careful reader should know of how the request is answered, such as another collection."""
        return ()

    def load(self, request: ImageRequest, parts: Sequence[GeoBox]) -> Iterator[ImageStack]:
        """Choose the scenes once, then compose part by part."""
        chosen, notes = select_scenes(self, request), self.notes(request)
        for part in parts:
            stack = compose(self, request, chosen, part)
            yield replace(stack, notes=(*stack.notes, *notes)) if notes else stack
