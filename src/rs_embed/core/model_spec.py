"""A model is data plus a function from `Batch` to `Features`: these are the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.encoding import Encoder
from rs_embed.core.product import Product
from rs_embed.core.sensors import Sensor

__all__ = [
    "Build",
    "Certificate",
    "Checkpoint",
    "Condition",
    "Frames",
    "GoldenCase",
    "InputSpec",
    "ModelSpec",
    "Option",
    "Source",
    "Step",
    "Variant",
    "Window",
]


Condition = Literal["gsd", "place", "pixel_place", "time", "wavelengths"]
"""What a net may be told besides pixels: metres of a pixel, where the window or each pixel lies, when, which light."""


class Step(Protocol):
    """One step of a model's own preprocessing, on frames of one window.

    A step with a number for each band also has ``pick(indices) -> Step``: the same step for these bands only.
    """

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map ``(T, C, H, W)`` to ``(T, C, H', W')``."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the step as JSON types, for ``meta['normalization']``."""
        ...


@dataclass(frozen=True)
class Window:
    """What the net gets at once, in pixels of its input."""

    size: int | None
    """The only side that the net takes; ``None``: any side that fits the other fields."""
    patch: int = 1
    """Side of a cell of the grid, pixels."""
    min: int = 1
    """Smallest side."""
    max: int | None = None
    """Largest side of a net that takes any size."""
    multiple: int = 1
    """Sides are multiples of this (at least of `patch`)."""
    context: int = 1
    """Side to which a smaller region grows over the imagery around it, of a net that takes any size. Unlike `min` it is
    a wish: an array of the user's that is smaller is taken as it is."""
    square: bool = False
    """Whether both sides must be equal."""
    halo: int = 0
    """Pixels on each side that a cell sees beyond its own, for pixel models."""


@dataclass(frozen=True)
class Frames:
    """How a model turns a span of time into frames."""

    kind: Literal["composite", "acquisitions", "static"] = "composite"
    """A composite for each interval, a frame for each acquisition, or data without a date."""
    step: Literal["month", "whole"] | int = "whole"
    """Length of an interval: calendar months, the whole span, or a number of equal parts."""
    min: int = 1
    """Fewest frames that the net takes."""
    max: int = 1
    """Most frames that the net takes."""
    missing: Literal["mask", "drop", "repeat", "error"] = "error"
    """What a frame without imagery becomes."""


@dataclass(frozen=True)
class Source:
    """A sensor that an input takes, with the steps from its harmonised pixels to the net."""

    sensor: str
    """Id in `rs_embed.core.sensors`."""
    steps: tuple[Step, ...] = ()
    trained_on: bool = True
    """Whether the authors trained on this sensor; if not, ``meta`` says so."""
    bands: tuple[str, ...] = ()
    """This sensor's own names of the input's bands, in the net's order; empty: the input's names."""
    fill: Literal["zero"] | tuple[float, ...] | None = None
    """Instead of the input's `fill`, in this sensor's units."""
    wavelengths: tuple[float, ...] = ()
    """Centres of the bands as the net was told them in training, µm; empty: the sensor's."""
    gsd_range: tuple[float, float] | None = None
    """Instead of the input's, metres: for sensors without one of their own among an input's sources."""


@dataclass(frozen=True)
class InputSpec:
    """One input of a model."""

    sources: tuple[Source, ...]
    """By preference."""
    bands: tuple[str, ...]
    """Canonical names in the net's order."""
    gsd: float = 10.0
    """Ground sample distance at which the input is asked for, metres."""
    gsd_range: tuple[float, float] = (10.0, 10.0)
    """Ground sample distances of the training data, metres."""
    frames: Frames = Frames()
    fill: Literal["zero"] | tuple[float, ...] = "zero"
    """What invalid pixels become, in sensor units, one number a band (the statistics' mean as a rule)."""
    missing_band: Literal["error", "mask"] = "error"
    """What the net does with a band that the imagery lacks."""
    cloudy_pct: float = 30.0
    """Default of the scene filter, percent."""
    any_bands: bool = False
    """Whether ``sensor=`` may name other bands and sensors than the spec's."""
    subset: bool = False
    """Whether the net takes any of the bands, in any order; steps and fill follow them."""
    foreign: Callable[[Sensor, tuple[str, ...]], Source] | None = None
    """How bands of a sensor without a source are taken, as by their wavelengths; raises `ModelError` if they cannot."""


@dataclass(frozen=True)
class Checkpoint:
    """A weights file: where it lies and how to know that it is the right one."""

    file: str
    repository: str | None = None
    """Hugging Face repository."""
    revision: str | None = None
    """Pinned commit; ``None``: the first download's hash is written down and required from then on."""
    url: str | None = None
    """Plain URL, where there is no repository."""
    sha256: str | None = None
    size: int | None = None
    """Bytes."""
    convert: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    """From the file's state dict to the net's names."""
    may_miss: tuple[str, ...] = ()
    """Patterns of names that may be absent (rebuilt by the net itself)."""

    @property
    def pinned(self) -> bool:
        """Whether revision or hash say which file it is."""
        return self.revision is not None or self.sha256 is not None


@dataclass(frozen=True)
class Variant:
    """One published size of a model."""

    window: Window
    dims: Mapping[str, int]
    """``{"pooled": D, "grid": D}``."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The net's constructor arguments."""
    checkpoint: Checkpoint | None = None
    parameters: int | None = None
    """Number of weights of the encoder."""
    frames: Frames | None = None
    """Instead of the input's own."""
    modalities: tuple[str, ...] = ()
    """Modalities that it takes, the default first; empty: all of the model's."""
    conditions: tuple[Condition, ...] | None = None
    """What its net is told besides pixels; ``None``: the model's own."""


@dataclass(frozen=True)
class Option:
    """A model's own keyword argument."""

    default: Any
    description: str
    type: Literal["str", "int", "float", "bool"] = "str"
    choices: tuple[Any, ...] | None = None
    low: float | None = None
    high: float | None = None
    optional: bool = False
    """Whether ``None`` is a value."""


@dataclass(frozen=True)
class Build:
    """What a model's builder gets."""

    variant: Variant
    options: Mapping[str, Any]
    bands: Mapping[str, tuple[str, ...]]
    """Bands of each input that is used."""
    sensors: Mapping[str, str]
    """Sensor of each input that is used."""


@dataclass(frozen=True)
class GoldenCase:
    """A case of a golden file with its arrays rebuilt: see ``rs-embed verify``."""

    config: Mapping[str, Any]
    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, tuple[int, ...]]
    """Wanted outputs and their shapes."""
    state: Mapping[str, NDArray[Any]] | str | None
    """Weights under their published names, a checkpoint's path, or ``None`` for pure arithmetic."""


@dataclass(frozen=True)
class Certificate:
    """How the authors' constructor and forward arguments map to ours."""

    run: Callable[[GoldenCase], dict[str, NDArray[Any]]]
    """Build the net of ``config``, load ``state`` strictly, run, and return every wanted output."""
    normalize: Callable[[Mapping[str, NDArray[Any]], Mapping[str, Any]], dict[str, NDArray[Any]]] | None = None
    """From the inputs and parameters of ``normalization`` to its outputs."""
    shapes: Callable[[Mapping[str, Any]], dict[str, tuple[int, ...]]] | None = None
    """``{published name: shape}`` of the net of a published ``config``, built on the meta device; with or without the
    prefix that the names have in the file."""
    cases: str = "*"
    """Pattern of the cases that are ours to run, where a golden file is also of what the catalogue has not."""


def _identity(variant: Variant, options: Mapping[str, Any]) -> Variant:
    return variant


@dataclass(frozen=True)
class ModelSpec:
    """A model of the catalogue."""

    name: str
    title: str
    inputs: Mapping[str, InputSpec]
    variants: Mapping[str, Variant]
    """The first one is the default."""
    encoder: Callable[[Build], Encoder]
    """Builds the encoder without weights; imports its net inside."""
    pooled: Literal["cells", "window"]
    """Whether the frozen feature of a region is a mean of cells, or the net's vector of a window."""
    pooled_says: str
    """What the frozen feature is, in words, by the authors' definition."""
    citation: str
    """BibTeX."""
    licence: Mapping[str, str]
    """``{"code", "weights"}``."""
    source: str
    """Repository or paper."""
    aliases: tuple[str, ...] = ()
    modalities: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """``{name: inputs}``; the first is the default; empty: all inputs."""
    options: Mapping[str, Option] = field(default_factory=dict)
    locality: Literal["pixel", "window", "place"] = "window"
    statistics: tuple[str, ...] = ("mean",)
    """Moments of the region's cells that make the frozen feature, in order."""
    conditions: tuple[Condition, ...] = ()
    """What the net is told besides pixels; ``meta["conditioning"]`` records it."""
    requires: tuple[Condition, ...] = ()
    """Those of `conditions` without which it cannot run."""
    adapt: Callable[[Variant, Mapping[str, Any]], Variant] = field(default=_identity)
    """A variant as the options change it."""
    certificate: Callable[[], Certificate] | None = None
    product: Product | None = None
    """Precomputed embeddings that it reads; ``None``: it is computed from imagery."""
    notes: str = ""

    def __post_init__(self) -> None:
        for name, members in self.modalities.items():
            unknown = set(members) - set(self.inputs)
            if unknown:
                raise ValueError(f"model {self.name}: modality {name} names unknown inputs {sorted(unknown)}")
        if not self.variants:
            raise ValueError(f"model {self.name} has no variant")
        for name, variant in self.variants.items():
            if strange := set(variant.modalities) - set(self.modalities):
                raise ValueError(f"model {self.name}: variant {name} names unknown modalities {sorted(strange)}")
        if unmet := set(self.requires) - set(self.conditions):
            raise ValueError(f"model {self.name} requires {sorted(unmet)}, which are none of its conditions")

    @property
    def default_variant(self) -> str:
        """Name of the first variant."""
        return next(iter(self.variants))
