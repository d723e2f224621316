"""What a user asks for: places, times, sensors and outputs, validated when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rs_embed.core.checks import check_choice, check_number
from rs_embed.core.errors import SpecError
from rs_embed.core.regions import BBox, PointBuffer, Polygon, SpatialSpec, norm_spatial
from rs_embed.core.times import TemporalSpec

__all__ = [
    "BBox",
    "FetchSpec",
    "InputPrepSpec",
    "OutputSpec",
    "PointBuffer",
    "Polygon",
    "SensorSpec",
    "SpatialSpec",
    "TemporalSpec",
    "norm_input_prep",
    "norm_spatial",
]

COMPOSITES = ("median", "mean", "mosaic")
POOLINGS = ("mean", "cells", "max", "std", "stats", "gem")
ORBITS = ("ascending", "descending")


def _bands(owner: str, bands: Any) -> tuple[str, ...]:
    if isinstance(bands, str) or not hasattr(bands, "__iter__"):
        raise SpecError(f"{owner}.bands={bands!r} must be a sequence of band names such as ('B4', 'B3', 'B2')")
    names = tuple(bands)
    if not names or any(not isinstance(b, str) or not b.strip() for b in names):
        raise SpecError(f"{owner}.bands={bands!r} must name at least one band, and no empty one")
    if len(set(names)) < len(names):
        raise SpecError(f"{owner}.bands={names} names a band twice")
    return names


def _check_fetch(owner: str, spec: Any) -> None:
    """Check the fields that `SensorSpec` and `FetchSpec` share, where they are set."""
    for name, low, high in (("scale_m", 0.0, math.inf), ("cloudy_pct", -1e-9, 100.0)):
        value = getattr(spec, name)
        if value is None:
            continue
        number = check_number(owner, name, value)
        if not low < number <= high:
            limits = "above 0 metres" if name == "scale_m" else "from 0 to 100 percent"
            raise SpecError(f"{owner}.{name}={value!r} must be {limits}")
    if spec.fill_value is not None:
        check_number(owner, "fill_value", spec.fill_value)
    if spec.composite is not None:
        check_choice(owner, "composite", spec.composite, COMPOSITES)


@dataclass(frozen=True)
class SensorSpec:
    """What to feed an on-the-fly model."""

    collection: str
    """A collection id, e.g. ``COPERNICUS/S2_SR_HARMONIZED`` or ``sentinel-2-l2a``."""
    bands: tuple[str, ...]
    """Band names in the order in which the model is to get them."""
    scale_m: float = 10
    """Ground sample distance, metres."""
    cloudy_pct: float | None = 30
    """Scenes with more cloud cover than this percentage are left out; ``None`` or 100 keeps all."""
    fill_value: float = 0.0
    """What invalid pixels are written as by the ``inspect_*`` functions; never fed to a model."""
    composite: str = "median"
    """``median``, ``mean`` or ``mosaic`` (first clear pixel by date)."""
    modality: str | None = None
    """Which input of a model with several this replaces."""
    orbit: str | None = None
    """``ascending`` or ``descending``: radar scenes of one direction only."""
    use_float_linear: bool = True
    """Radar is composited in linear power (always true: dB are averaged wrongly)."""
    s1_require_iw: bool = True
    """Only interferometric-wide scenes of Sentinel-1."""
    s1_relax_iw_on_empty: bool = True
    """Take other modes where no interferometric-wide scene exists."""
    check_input: bool = False
    """Add a quality report of the input to ``meta``."""
    check_raise: bool = True
    """With ``check_input``: raise where the report finds an issue."""
    check_save_dir: str | None = None
    """With ``check_input``: folder for quicklooks."""

    def __post_init__(self) -> None:
        if not isinstance(self.collection, str) or not self.collection.strip():
            raise SpecError(f"SensorSpec.collection={self.collection!r} must name a collection")
        object.__setattr__(self, "bands", _bands("SensorSpec", self.bands))
        self.validate()

    def validate(self) -> None:
        """Raise `SpecError` unless every field can be meant."""
        _check_fetch("SensorSpec", self)
        if self.orbit is not None:
            check_choice("SensorSpec", "orbit", self.orbit, ORBITS)
        if self.use_float_linear is not True:
            raise SpecError("SensorSpec.use_float_linear=False would average decibels; radar is composited in power")


@dataclass(frozen=True)
class FetchSpec:
    """A light override of a model's own sensor; what is ``None`` stays as the model has it."""

    scale_m: float | None = None
    """Ground sample distance, metres."""
    cloudy_pct: float | None = None
    """Highest cloud cover of a scene, percent."""
    fill_value: float | None = None
    """What invalid pixels are written as by the ``inspect_*`` functions."""
    composite: str | None = None
    """``median``, ``mean`` or ``mosaic``."""

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raise `SpecError` unless every field can be meant."""
        _check_fetch("FetchSpec", self)

    def over(self, sensor: SensorSpec) -> SensorSpec:
        """Return ``sensor`` with the fields that are set here."""
        changes = {k: v for k, v in vars(self).items() if v is not None}
        return replace(sensor, **changes)


@dataclass(frozen=True)
class OutputSpec:
    """A pooled vector of the region, or a georeferenced grid: use the factories."""

    mode: Literal["pooled", "grid"]
    pooling: str = "mean"
    grid_orientation: Literal["north_up", "native"] = "north_up"

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raise `SpecError` unless every field can be meant."""
        check_choice("OutputSpec", "mode", self.mode, ("pooled", "grid"))
        check_choice("OutputSpec", "pooling", self.pooling, POOLINGS)
        check_choice("OutputSpec", "grid_orientation", self.grid_orientation, ("north_up", "native"))

    @classmethod
    def pooled(cls, pooling: str = "mean", **unknown: Any) -> OutputSpec:
        """One vector: ``mean`` is the model's own frozen feature; ``cells max std stats gem`` pool its cells."""
        cls._refuse("pooled", unknown)
        return cls(mode="pooled", pooling=pooling)

    @classmethod
    def grid(cls, grid_orientation: Literal["north_up", "native"] = "north_up", **unknown: Any) -> OutputSpec:
        """A (D, H, W) grid with coordinates."""
        cls._refuse("grid", unknown)
        return cls(mode="grid", grid_orientation=grid_orientation)

    @staticmethod
    def _refuse(name: str, unknown: dict[str, Any]) -> None:
        if "scale_m" in unknown:
            raise SpecError("OutputSpec takes no scale_m; the input's resolution is FetchSpec(scale_m=...)")
        if unknown:
            raise SpecError(f"OutputSpec.{name}() takes no {', '.join(unknown)}")


@dataclass(frozen=True)
class InputPrepSpec:
    """How a region becomes windows of a model: use the factories `resize`, `tile`, `auto`."""

    mode: Literal["resize", "tile", "auto"] = "tile"
    """``resize`` one window; ``tile`` windows at the native resolution; ``auto`` whichever fits."""
    tile_size: int | None = None
    """Side of a tile in pixels; ``None``: the model's own window."""
    tile_stride: int | None = None
    """Step between tiles in pixels; ``None``: ``tile_size`` (no overlap)."""
    max_tiles: int = 64
    """``auto`` resizes instead above this number of tiles."""
    max_tiles_hard: int = 1024
    """More tiles than this are an error."""
    pad_edges: bool = field(default=True, repr=False)
    """Kept for code written elsewhere; tiles always grow over real imagery."""
    tile_snap_frac: float = field(default=0.0, repr=False)
    """Kept for code written elsewhere; must stay 0, since tiles are never squeezed."""

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raise `SpecError` unless every field can be meant."""
        check_choice("InputPrepSpec", "mode", self.mode, ("resize", "tile", "auto"))
        for name in ("tile_size", "tile_stride", "max_tiles", "max_tiles_hard"):
            value = getattr(self, name)
            if value is None and name.startswith("tile"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SpecError(f"InputPrepSpec.{name}={value!r} must be a whole number above 0")
        if self.tile_stride is not None and self.tile_size is not None and self.tile_stride > self.tile_size:
            raise SpecError(f"InputPrepSpec.tile_stride={self.tile_stride} leaves gaps: above {self.tile_size=}")
        if self.tile_snap_frac != 0 or self.pad_edges is not True:
            raise SpecError("InputPrepSpec: tiles are never squeezed or padded; leave tile_snap_frac and pad_edges out")

    @classmethod
    def resize(cls) -> InputPrepSpec:
        """One window a region."""
        return cls(mode="resize")

    @classmethod
    def tile(cls, tile_size: int | None = None, tile_stride: int | None = None, **limits: Any) -> InputPrepSpec:
        """Windows of the model's size at the native resolution."""
        return cls(mode="tile", tile_size=tile_size, tile_stride=tile_stride, **limits)

    @classmethod
    def auto(cls, max_tiles: int = 64, **more: Any) -> InputPrepSpec:
        """One window while the region fits, else tiles up to ``max_tiles``, else one resized window."""
        return cls(mode="auto", max_tiles=max_tiles, **more)


def norm_input_prep(value: Any) -> InputPrepSpec:
    """Return a mode's name, a spec or ``None`` (``resize``) as a spec."""
    if value is None:
        return InputPrepSpec.resize()
    if isinstance(value, InputPrepSpec):
        return value
    if isinstance(value, str):
        return InputPrepSpec(mode=value.strip().lower())  # type: ignore[arg-type]
    raise SpecError(f"input_prep={value!r} is not known; give 'resize', 'tile', 'auto' or InputPrepSpec(...)")
