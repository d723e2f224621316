"""Bands that a model was not trained on, taken by their wavelengths with the statistics of the nearest trained band."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.errors import ModelError
from rs_embed.core.sensors import Sensor

__all__ = ["Borrowed", "nearest"]

SUNLIGHT = (0.35, 2.6)
"""µm: what lies outside is no reflectance (thermal bands), and no statistics of reflectances fit it."""


@dataclass(frozen=True)
class Borrowed:
    """A step that changes nothing and says whose statistics the steps after it use."""

    bands: tuple[str, ...]
    of: tuple[str, ...]
    """For each band the trained one that is nearest in wavelength."""
    sensor: str
    """Of the trained bands."""

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `pixels` themselves."""
        return pixels

    def pick(self, indices: Sequence[int]) -> Borrowed:
        """Return the step for some of the bands."""
        return replace(self, bands=tuple(self.bands[i] for i in indices), of=tuple(self.of[i] for i in indices))

    def describe(self) -> dict[str, Any]:
        """Return the step as JSON types."""
        return {
            "step": "statistics_of_nearest_wavelength",
            "sensor": self.sensor,
            "of": dict(zip(self.bands, self.of, strict=True)),
        }


def nearest(
    sensor: Sensor, bands: Sequence[str], trained: Mapping[str, float], *, model: str, units: str
) -> tuple[str, ...]:
    """Return for each band the trained band that is nearest in wavelength.

    Parameters
    ----------
    sensor : Sensor
        What the bands are of.
    bands : sequence of str
        Canonical names.
    trained : mapping
        ``{band: µm}`` of the bands with statistics.
    model : str
        Name of the model, for messages.
    units : str
        Of the statistics.

    Raises
    ------
    ModelError
        If the sensor is in other units, or a band has no wavelength or one outside `SUNLIGHT`; it names the band.
    """
    if sensor.units != units:
        raise ModelError(f"{model} takes other sensors by wavelength in {units}, and {sensor.id} is in {sensor.units}")
    found = []
    for name in bands:
        wavelength = sensor.band(name).wavelength
        if math.isnan(wavelength):
            raise ModelError(
                f"{model} takes bands by their wavelengths, and that of band {name!r} of {sensor.id} is not known; "
                "leave it out, or say UserData(wavelengths=[...]) in µm"
            )
        if not SUNLIGHT[0] <= wavelength <= SUNLIGHT[1]:
            raise ModelError(
                f"{model} takes reflectances from {SUNLIGHT[0]} to {SUNLIGHT[1]} µm, and band {name!r} of {sensor.id} "
                f"lies at {wavelength:g} µm; leave it out"
            )
        found.append(min(trained, key=lambda each: abs(trained[each] - wavelength)))
    return tuple(found)
