"""Where a service is searched for a region: boxes in degrees that many regions share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

__all__ = ["Box", "exact_boxes", "search_boxes"]

Box = tuple[float, float, float, float]
"""West, south, east, north."""

MARGIN = 0.1
"""Degrees by which the box of a cell is larger than the cell, so that a region that sticks out needs no other."""


def search_boxes(footprint: Any) -> tuple[Box, ...]:
    """Return the boxes to search for a region: one for each side of the antimeridian.

    A region within about 1° gets the box of the whole-degree cell of its centre, so that all regions of a town ask for
    the same; a larger one its own bounds, widened to whole degrees.
    """
    return tuple(dict.fromkeys(_cell(*bounds) for bounds in _bounds(footprint)))


def exact_boxes(footprint: Any) -> tuple[Box, ...]:
    """Return the region's own bounds, one box for each side of the antimeridian."""
    return tuple(_clamped(*_rounded(bounds, 100)) for bounds in _bounds(footprint))


def _rounded(bounds: Box, steps: int) -> Box:
    """Bounds widened to whole parts of a degree."""
    west, south, east, north = (b * steps for b in bounds)
    return math.floor(west) / steps, math.floor(south) / steps, math.ceil(east) / steps, math.ceil(north) / steps


def _bounds(footprint: Any) -> Iterator[Box]:
    """Bounds of the parts west and east of the antimeridian, which a footprint is cut at."""
    parts = [part.bounds for part in getattr(footprint, "geoms", [footprint])]
    touching = [any(abs(b[i]) == 180 for b in parts) for i in (0, 2)]
    if not all(touching) or len(parts) == 1:
        yield _joined(parts)
        return
    for side in ([b for b in parts if b[0] + b[2] < 0], [b for b in parts if b[0] + b[2] >= 0]):
        if side:
            yield _joined(side)


def _joined(parts: list[Box]) -> Box:
    west, south, east, north = zip(*parts, strict=True)
    return min(west), min(south), max(east), max(north)


def _cell(west: float, south: float, east: float, north: float) -> Box:
    x, y = math.floor((west + east) / 2), math.floor((south + north) / 2)
    x, y = min(x, 179), min(y, 89)
    box = (x - MARGIN, y - MARGIN, x + 1 + MARGIN, y + 1 + MARGIN)
    if not (box[0] <= west and box[1] <= south and east <= box[2] and north <= box[3]):
        box = _rounded((west, south, east, north), 1)
    return _clamped(*box)


def _clamped(west: float, south: float, east: float, north: float) -> Box:
    return (
        round(max(west, -180.0), 6),
        round(max(south, -90.0), 6),
        round(min(east, 180.0), 6),
        round(min(north, 90.0), 6),
    )
