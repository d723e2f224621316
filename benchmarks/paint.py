"""A provider that costs next to nothing, so that what is measured is ours: painted waves, with a latency if wanted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from rs_embed import BBox
from rs_embed.core.imagery import ImageRequest, ImageStack

__all__ = ["SPAN", "Painter", "regions", "square"]

SPAN = ("2022-06-01", "2022-07-01")
"""One frame for models of months."""


class Painter:
    """Answers every request with a function of the coordinates, after `latency` seconds for each load.

    With `keep`, what was asked before is answered at once: then nothing of the painting is in what is measured.
    """

    name = "painter"
    source = "painter"

    def __init__(self, latency: float = 0.0, *, keep: bool = False) -> None:
        self.latency = latency
        self.kept: dict[GeoBox, ImageStack] | None = {} if keep else None

    def offers(self, sensor: str) -> bool:
        return True

    def load(self, request: ImageRequest, parts: Sequence[GeoBox]) -> Iterator[ImageStack]:
        for part in parts:
            if self.latency:
                time.sleep(self.latency)
            if self.kept is None:
                yield _painted(request, part)
                continue
            if part not in self.kept:
                self.kept[part] = _painted(request, part)
            yield self.kept[part]


def _painted(request: ImageRequest, part: GeoBox) -> ImageStack:
    a, (height, width) = part.affine, part.shape
    x = (a.c + a.a * (np.arange(width) + 0.5)) / 300
    y = (a.f + a.e * (np.arange(height) + 0.5)) / 300
    frames = max(1, len(request.intervals))
    pixels = np.empty((frames, len(request.bands), height, width), np.float32)
    for frame, band in product(range(frames), range(len(request.bands))):
        down = (1000 * np.cos(y / (1 + band))).astype(np.float32)
        np.multiply.outer(down, np.sin(x / (2 + band)).astype(np.float32), out=pixels[frame, band])
        pixels[frame, band] += np.float32(2000 + frame)
    starts: list[Any] = [start.replace(tzinfo=None) for start, _ in request.intervals]
    times = np.array(starts or ["NaT"], "datetime64[s]")
    valid = np.ones((frames, height, width), bool)
    return ImageStack(pixels, valid, times, part, (), ((),) * frames, (valid.size, valid.size))


def square(side_px: int, gsd: float = 10.0, place: int = 0) -> BBox:
    """Return a square of exactly so many pixels, on the lattice, at one of several places apart."""
    column, row = round(500_000 / gsd) - side_px // 2, round(5_000_000 / gsd) + 1200 * place
    left, bottom = column * gsd, row * gsd
    return BBox(left, bottom, left + side_px * gsd, bottom + side_px * gsd, crs="EPSG:32632")


def regions(count: int, side_px: int, gsd: float = 10.0) -> list[BBox]:
    """Return squares of exactly so many pixels along the central meridian of a zone: nothing has to be resampled."""
    return [square(side_px, gsd, i) for i in range(count)]
