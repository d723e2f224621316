"""What the plan asks of a provider, and what the provider answers: a request and stacks of pixels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

__all__ = ["ImageRequest", "ImageStack", "Interval", "Scene", "geobox_dict"]

Interval = tuple[datetime, datetime]
"""Start (included) and end (excluded), aware datetimes in UTC."""


def geobox_dict(geobox: GeoBox | None) -> dict[str, Any] | None:
    """Return ``{crs, transform[6], shape[2]}`` of a geobox, ready for JSON."""
    if geobox is None:
        return None
    crs = geobox.crs
    code = None if crs is None else (f"EPSG:{crs.epsg}" if crs.epsg is not None else crs.to_wkt())
    return {"crs": code, "transform": [float(v) for v in geobox.affine[:6]], "shape": [int(v) for v in geobox.shape]}


@dataclass(frozen=True)
class Scene:
    """One acquisition as a provider found it."""

    id: str
    time: datetime
    """Moment of acquisition, UTC."""
    bands: frozenset[str]
    """Canonical names of the bands that this scene has."""
    cloud_cover: float | None = None
    """Percent of the scene, where the catalogue tells."""
    footprint: Any = field(default=None, compare=False, repr=False)
    """shapely geometry in degrees; ``None``: unknown, may lie anywhere."""
    orbit: str | None = None
    """``ascending`` or ``descending``."""
    item: Any = field(default=None, compare=False, repr=False)
    """The provider's own handle on the scene."""
    mode: str | None = None
    """Of a radar, such as ``IW`` (interferometric wide swath)."""


@dataclass(frozen=True)
class ImageRequest:
    """Pixels of one input: one frame for each interval (or, with composite ``none``, for each acquisition)."""

    sensor: str
    """Id in `rs_embed.core.sensors`."""
    bands: tuple[str, ...]
    """Canonical band names, in the order wanted."""
    footprint: Any
    """shapely geometry in degrees that the imagery has to cover; ``None`` where there is no place."""
    geobox: GeoBox | None
    """The lattice; parts are crops of it. ``None``: the product's own grid."""
    intervals: tuple[Interval, ...]
    """One per frame, in order; empty for data without a date."""
    composite: str = "median"
    """``median``, ``mean``, ``mosaic``, or ``none``: a frame for each acquisition."""
    mask: str | None = None
    """Pixel mask: ``scl``, or ``None``."""
    cloudy_pct: float = 100.0
    """Scenes with more cloud cover than this percentage are left out."""
    orbit: str | None = None
    """``ascending`` or ``descending``."""
    collection: str | None = None
    """What the user calls the sensor's imagery; a provider that has several such collections takes this one."""
    mode: str | None = None
    """Mode of a radar; scenes of another one are left out."""
    other_modes: bool = False
    """Whether an interval without a scene of that mode takes those of others."""

    def canonical(self) -> dict[str, Any]:
        """Return the request as plain JSON types."""
        return {
            "sensor": self.sensor,
            "bands": list(self.bands),
            "footprint": None if self.footprint is None else self.footprint.wkt,
            "geobox": geobox_dict(self.geobox),
            "intervals": [[start.isoformat(), end.isoformat()] for start, end in self.intervals],
            "composite": self.composite,
            "mask": self.mask,
            "cloudy_pct": self.cloudy_pct,
            "orbit": self.orbit,
            **({} if self.collection is None else {"collection": self.collection}),
            **({} if self.mode is None else {"mode": self.mode, "other_modes": self.other_modes}),
        }

    def key(self) -> str:
        """Return the SHA-256 of the canonical JSON, the same in every process."""
        return hashlib.sha256(json.dumps(self.canonical(), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class ImageStack:
    """Pixels on an asked lattice, always four-dimensional.

    Attributes
    ----------
    pixels
        ``(T, C, H, W)`` float32, harmonised units of the sensor; undefined where not valid.
    valid
        ``(T, H, W)`` bool, True = usable.
    times
        ``(T,)`` datetime64[s]: acquisition, or the middle of the interval; NaT where there is no date.
    geobox
        Lattice of the pixels; its ``crs`` is None where the user gave none.
    missing_bands
        Bands that no scene had; their pixels are undefined.
    scenes
        For each frame, the scenes that it was made from: ``{"id", "datetime", "cloud_cover"}``.
    observations
        ``(clear, total)`` pixel observations over all scenes read, for the clear fraction.
    origin
        ``(backend, source)`` where the provider that was asked is not the one that answered.
    notes
        What a careful reader should know of how the pixels came about; ``meta["warnings"]`` lists them.
    """

    pixels: NDArray[np.float32]
    valid: NDArray[np.bool_]
    times: NDArray[np.datetime64]
    geobox: GeoBox
    missing_bands: tuple[str, ...] = ()
    scenes: tuple[tuple[Mapping[str, Any], ...], ...] = ()
    observations: tuple[int, int] = (0, 0)
    origin: tuple[str, str] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        frames, _, height, width = self._shape4()
        if self.valid.shape != (frames, height, width) or self.valid.dtype != bool:
            raise ValueError(f"valid must be bool of shape {(frames, height, width)}, got {self.valid.shape}")
        if (height, width) != tuple(self.geobox.shape):
            raise ValueError(f"pixels of {height} x {width} do not fill the geobox of shape {tuple(self.geobox.shape)}")
        if self.times.shape != (frames,):
            raise ValueError(f"times must have one entry for each of {frames} frames, got shape {self.times.shape}")

    def _shape4(self) -> tuple[int, int, int, int]:
        if self.pixels.ndim != 4 or self.pixels.dtype != np.float32:
            raise ValueError(f"pixels must be (T, C, H, W) float32, got {self.pixels.shape} {self.pixels.dtype}")
        frames, channels, height, width = self.pixels.shape
        return frames, channels, height, width
