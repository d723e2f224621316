"""Clay v1.5: any bands of many sensors, told pixel size, wavelengths, place and time.

Statistics, wavelengths and pixel sizes are those of ``configs/metadata.yaml`` of ``Clay-foundation/model@a5790ce``, in
the sensors' own numbers: reflectance * 10 000 for Sentinel-2 and MODIS, decibels for Sentinel-1, digital numbers of
Collection 2 for Landsat, grey levels for aerial photographs. Place and time were zeroed together for a fifth of the
training's chips, so that zeros are what the net knows for "unknown".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.encoding import Batch, Encoder, Features
from rs_embed.core.errors import ModelError
from rs_embed.core.model_spec import (
    Build,
    Certificate,
    Checkpoint,
    InputSpec,
    ModelSpec,
    Option,
    Source,
    Variant,
    Window,
)
from rs_embed.core.sensors import SENSORS, Sensor
from rs_embed.models._wavelengths import Borrowed, nearest
from rs_embed.preprocess.steps import Affine, Normalize

__all__ = ["COLLECTIONS", "LANDSAT_DN", "MODELS", "ClaySensors", "Collection", "latlon_code", "time_code"]


@dataclass(frozen=True)
class Collection:
    """An entry of ``metadata.yaml``."""

    gsd: float
    bands: Mapping[str, tuple[float, float, float]]
    """``{band: (mean, standard deviation, µm)}`` in the net's order."""
    trained_on: bool = True

    @property
    def normalize(self) -> Normalize:
        """``(x - mean) / std``, no clipping."""
        return Normalize(*(tuple(band[i] for band in self.bands.values()) for i in (0, 1)))

    @property
    def mean(self) -> tuple[float, ...]:
        """Means of the bands."""
        return tuple(mean for mean, _, _ in self.bands.values())

    @property
    def wavelengths(self) -> tuple[float, ...]:
        """Centres of the bands, µm."""
        return tuple(wave for _, _, wave in self.bands.values())


COLLECTIONS: Mapping[str, Collection] = {
    "sentinel-2-l2a": Collection(
        10.0,
        {
            "blue": (1105.0, 1809.0, 0.493),
            "green": (1355.0, 1757.0, 0.56),
            "red": (1552.0, 1888.0, 0.665),
            "rededge1": (1887.0, 1870.0, 0.704),
            "rededge2": (2422.0, 1732.0, 0.74),
            "rededge3": (2630.0, 1697.0, 0.783),
            "nir": (2743.0, 1742.0, 0.842),
            "nir08": (2785.0, 1648.0, 0.865),
            "swir16": (2388.0, 1470.0, 1.61),
            "swir22": (1835.0, 1379.0, 2.19),
        },
    ),
    "sentinel-1-rtc": Collection(10.0, {"vv": (-12.113, 8.314, 3.5), "vh": (-18.673, 8.017, 4.0)}),
    "landsat-c2l2-sr": Collection(
        30.0,
        {
            "red": (13705.0, 9578.0, 0.65),
            "green": (13310.0, 9408.0, 0.56),
            "blue": (12474.0, 10144.0, 0.48),
            "nir08": (17801.0, 8277.0, 0.86),
            "swir16": (14615.0, 5300.0, 1.6),
            "swir22": (12701.0, 4522.0, 2.2),
        },
    ),
    "landsat-c2l1": Collection(
        30.0,
        {
            "red": (10678.0, 6025.0, 0.65),
            "green": (10563.0, 5411.0, 0.56),
            "blue": (11083.0, 5468.0, 0.48),
            "nir08": (14792.0, 6746.0, 0.86),
            "swir16": (12276.0, 5897.0, 1.6),
            "swir22": (10114.0, 4850.0, 2.2),
        },
    ),
    "naip": Collection(
        1.0,
        {
            "red": (110.16, 47.23, 0.65),
            "green": (115.41, 39.82, 0.56),
            "blue": (98.15, 35.43, 0.48),
            "nir": (139.04, 49.86, 0.842),
        },
    ),
    "linz": Collection(
        0.5, {"red": (89.96, 41.83, 0.635), "green": (99.46, 36.96, 0.555), "blue": (89.51, 31.45, 0.465)}
    ),
    "modis": Collection(
        500.0,
        {
            "sur_refl_b01": (1072.0, 1643.0, 0.645),
            "sur_refl_b02": (1624.0, 1878.0, 0.858),
            "sur_refl_b03": (931.0, 1449.0, 0.469),
            "sur_refl_b04": (1023.0, 1538.0, 0.555),
            "sur_refl_b05": (1599.0, 1763.0, 1.24),
            "sur_refl_b06": (1404.0, 1618.0, 1.64),
            "sur_refl_b07": (1051.0, 1396.0, 2.13),
        },
    ),
    "planetscope-sr": Collection(
        5.0,
        {
            "coastal_blue": (1720.0, 747.0, 0.443),
            "blue": (1715.0, 698.0, 0.49),
            "green_i": (1913.0, 739.0, 0.531),
            "green": (2088.0, 768.0, 0.565),
            "yellow": (2274.0, 849.0, 0.61),
            "red": (2290.0, 868.0, 0.665),
            "rededge": (2613.0, 849.0, 0.705),
            "nir": (3970.0, 914.0, 0.865),
        },
        trained_on=False,
    ),
    "satellogic-MSI-L1D": Collection(
        1.0,
        {
            "red": (1451.54, 995.48, 0.64),
            "green": (1456.54, 771.29, 0.545),
            "blue": (1543.22, 708.86, 0.48),
            "nir": (2132.68, 1236.71, 0.825),
        },
        trained_on=False,
    ),
}
"""The last two came into the file after the training."""

_DN_SCALE, _DN_OFFSET = 1 / (10_000 * 2.75e-5), 0.2 / 2.75e-5
LANDSAT_DN = Affine(_DN_SCALE, _DN_OFFSET)
"""Reflectance * 10 000 back to the digital numbers of Collection 2 level 2 (USGS: ``DN * 0.0000275 - 0.2``)."""

_LOCAL_HOURS: Mapping[str, float] = {
    **{"sentinel-2-l2a": 10.5, "sentinel-2-l1c": 10.5, "landsat-c2-l2": 10.2, "modis-09ga": 10.5},
}
"""Local solar time at which satellites of a sun-synchronous orbit pass, hours (ESA; USGS; NASA, for Terra)."""


class ClaySensors:
    """From one image of any bands to the class token and one feature a patch."""

    def __init__(self, net: Any, sensor: str) -> None:
        self.net = net
        self.sensor = sensor

    def __call__(self, batch: Batch) -> Features:
        """Encode ``(N, 1, C, H, W)``, each sample with its own pixel size, place and time."""
        import torch

        (given,) = batch.inputs.values()
        pixels = given.pixels[:, 0]
        when = time_code(given.times[:, 0], batch.lonlat[:, 0], _LOCAL_HOURS.get(self.sensor))
        told = (when, latlon_code(batch.lonlat))
        time, latlon = (torch.from_numpy(each).to(pixels.device) for each in told)
        gsd, waves = (torch.from_numpy(each.astype(np.float32)) for each in (given.gsd, given.wavelengths))
        pooled, tokens = self.net(pixels, time, latlon, gsd, waves)
        return Features(grid=tokens, pooled=pooled)

    def head(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the vectors as they are."""
        return vectors


def time_code(
    times: NDArray[np.datetime64], longitude: NDArray[np.float64], local_hour: float | None
) -> NDArray[np.float32]:
    """Sine and cosine of the week of the year and of the hour of the day (UTC), zeros where unknown.

    Parameters
    ----------
    times : ndarray
        ``(N,)`` datetime64; NaT without a date. Noon and midnight to the second are the middle of whole days, as a
        composite's time is, and say nothing of the hour.
    longitude : ndarray
        ``(N,)`` degrees; NaN without a place.
    local_hour : float, optional
        Local solar time at which the sensor passes, from which an unknown hour follows.

    Returns
    -------
    ndarray
        ``(N, 4)`` float32: week of ISO 8601 by 52, hour by 24, as the authors' chips have them.
    """
    code = np.zeros((len(times), 4), np.float64)
    for row, moment, east in zip(code, times.astype("datetime64[s]").tolist(), longitude, strict=True):
        if moment is None:
            continue
        turns = [moment.isocalendar().week / 52]
        if (moment.minute, moment.second) != (0, 0) or moment.hour not in (0, 12):
            turns.append(moment.hour / 24)
        elif local_hour is not None and not math.isnan(east):
            turns.append(math.floor((local_hour - east / 15) % 24) / 24)
        angles = 2 * np.pi * np.array(turns)
        row[: 2 * len(turns)] = np.stack((np.sin(angles), np.cos(angles)), axis=-1).ravel()
    return code.astype(np.float32)


def latlon_code(lonlat: NDArray[np.float64]) -> NDArray[np.float32]:
    """Sine and cosine of the latitude, then of the longitude ``(N, 4)`` float32, zeros where they are NaN."""
    lon, lat = np.radians(lonlat).T
    code = np.stack((np.sin(lat), np.cos(lat), np.sin(lon), np.cos(lon)), axis=-1)
    return np.asarray(np.nan_to_num(code, nan=0.0), np.float32)


def _build(build: Build) -> Encoder:
    from rs_embed.nets.clay import ClayEncoder

    return ClaySensors(ClayEncoder(**build.variant.config), next(iter(build.sensors.values()), ""))


def _convert(state: Mapping[str, Any]) -> dict[str, Any]:
    from rs_embed.nets.clay import clean_state

    return clean_state(state)


def _certificate() -> Certificate:
    from rs_embed.models.certificates.clay import CERTIFICATE

    return CERTIFICATE


_GSD_RANGE = (0.5, 500.0)
"""Of all sensors of the training, LINZ to MODIS, metres."""

_S2 = COLLECTIONS["sentinel-2-l2a"]
_S2_BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")


def foreign(sensor: Sensor, bands: tuple[str, ...]) -> Source:
    """Return bands of a sensor without a source of its own.

    Collections of ``metadata.yaml`` have their own statistics; other reflectances those of the Sentinel-2 band that is
    nearest in wavelength.
    """
    own = {name.lower(): each for name, each in COLLECTIONS.items()}.get(sensor.id)
    if own is not None and sensor.id not in SENSORS:
        return _listed(sensor, bands, own)
    trained = dict(zip(_S2_BANDS, _S2.wavelengths, strict=True))
    of = nearest(sensor, bands, trained, model="clay", units="reflectance * 10000")
    indices = [_S2_BANDS.index(name) for name in of]
    known = trained if sensor.id.startswith("sentinel-2") else {}
    return Source(
        sensor.id,
        (Borrowed(bands, of, "sentinel-2-l2a"), _S2.normalize.pick(indices)),
        trained_on=sensor.id == "sentinel-2-l2a",
        bands=bands,
        fill=tuple(_S2.mean[i] for i in indices),
        wavelengths=tuple(known.get(name, sensor.band(name).wavelength) for name in bands),
        gsd_range=None if known else _GSD_RANGE,
    )


def _listed(sensor: Sensor, bands: tuple[str, ...], own: Collection) -> Source:
    """Bands of a collection that ``metadata.yaml`` names, by the file's names for them."""
    names = list(own.bands)
    strange = [name for name in bands if name.lower() not in names]
    if strange:
        raise ModelError(f"clay knows no band {strange[0]!r} of {sensor.id}; its bands are {', '.join(names)}")
    indices = [names.index(name.lower()) for name in bands]
    fill = tuple(own.mean[i] for i in indices)
    steps = (own.normalize.pick(indices),)
    span = (own.gsd, own.gsd) if own.trained_on else _GSD_RANGE
    return Source(sensor.id, steps, trained_on=own.trained_on, bands=bands, fill=fill, gsd_range=span)


def _input(
    collection: str,
    bands: tuple[str, ...],
    sensor: str,
    *,
    by_wavelength: bool = False,
    before: tuple[Affine, ...] = (),
    fill: tuple[float, ...] | None = None,
) -> InputSpec:
    """A sensor that ``metadata.yaml`` names; `before` makes its numbers of harmonised ones, in which `fill` is."""
    own = COLLECTIONS[collection]
    return InputSpec(
        sources=(Source(sensor, (*before, own.normalize), wavelengths=own.wavelengths),),
        bands=bands,
        gsd=own.gsd,
        gsd_range=(own.gsd, own.gsd),
        fill=own.mean if fill is None else fill,
        subset=True,
        foreign=foreign if by_wavelength else None,
    )


_PATCH, _SIDE, _CONTEXT = 8, 256, 64
"""The authors trained on 256 pixels a side, and say that the net takes any size. Regions up to that are taken as they
are; a class token that had seen a handful of patches only would be far from the training, so that a smaller region
grows to 64 pixels over the imagery around it."""

_CITATION = """@software{clay2024,
  title  = {Clay Foundation Model v1.5},
  author = {{Clay Foundation}},
  year   = {2024},
  url    = {https://github.com/Clay-foundation/model}
}"""

MODELS = (
    ModelSpec(
        name="clay",
        title="Clay v1.5: many sensors by wavelength, pixel size, place and time",
        inputs={
            "s2": _input("sentinel-2-l2a", _S2_BANDS, "sentinel-2-l2a", by_wavelength=True),
            "s1": _input("sentinel-1-rtc", ("VV", "VH"), "sentinel-1"),
            "landsat": _input(
                "landsat-c2l2-sr",
                ("SR_B4", "SR_B3", "SR_B2", "SR_B5", "SR_B6", "SR_B7"),
                "landsat-c2-l2",
                before=(LANDSAT_DN,),
                fill=tuple((mean - _DN_OFFSET) / _DN_SCALE for mean in COLLECTIONS["landsat-c2l2-sr"].mean),
            ),
            "naip": _input("naip", ("R", "G", "B", "N"), "naip"),
            "modis": _input("modis", tuple(COLLECTIONS["modis"].bands), "modis-09ga"),
        },
        modalities={name: (name,) for name in ("s2", "s1", "landsat", "naip", "modis")},
        variants={
            "v1.5": Variant(
                window=Window(
                    size=None, patch=_PATCH, min=_PATCH, max=_SIDE, multiple=_PATCH, context=_CONTEXT, square=True
                ),
                dims={"pooled": 1024, "grid": 1024},
                config={"patch_size": _PATCH, "dim": 1024, "depth": 24, "heads": 16, "dim_head": 64, "mlp_ratio": 4},
                checkpoint=Checkpoint(file="v1.5/clay-v1.5.ckpt", repository="made-with-clay/Clay", convert=_convert),
                parameters=311_442_944,
            )
        },
        options={"model_size": Option("large", "published size: of v1.5 there is only this", choices=("large",))},
        conditions=("gsd", "place", "time", "wavelengths"),
        encoder=_build,
        pooled="window",
        pooled_says="the class token after the last norm, as the authors' tutorials take it",
        citation=_CITATION,
        licence={"code": "Apache-2.0", "weights": "Apache-2.0"},
        source="https://github.com/Clay-foundation/model",
        certificate=_certificate,
        notes=(
            "Any of a sensor's bands, in any order; the window may be any square of 8 to 256 pixels whose side is a "
            "multiple of 8 (training: 256), and a region below 64 pixels grows to that. The net is told the size of a "
            "pixel, each band's wavelength, the place, the week, and the hour (UTC). A composite has no hour: for "
            "satellites of a sun-synchronous orbit it follows from their local solar time (Sentinel-2 10:30, Landsat "
            "10:12, MODIS on Terra 10:30) and the place, otherwise it is unknown. What is unknown is zero, as it was "
            "for a fifth of the training. Landsat's statistics are of digital numbers, which the reflectances are "
            "turned back into; level 1 (landsat-c2l1), LINZ, PlanetScope and Satellogic have statistics too, for data "
            "of one's own: UserData(collection='planetscope-sr', bands=[...], wavelengths=[...]) with the names of "
            "the authors' metadata.yaml and their raw numbers. Bands of other sensors are normalised as the "
            "Sentinel-2 band of nearest wavelength, which meta['normalization'] names. Whether the authors' "
            "Sentinel-2 data still had the offset of baseline 04.00 is not stated; here it is taken off. Their "
            "Sentinel-1 is terrain-corrected (gamma nought); ground-range data (sigma nought) lie 0.6 to 1.6 dB lower."
        ),
    ),
)
