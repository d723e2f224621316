"""DOFA: any bands of any sensor, told apart by their wavelengths (Xiong et al. 2024, arXiv 2403.15356).

The authors trained on the 8-bit pictures of SatlasPretrain, so sensor values become grey levels first, as there
(``allenai/satlas``, ``Normalization.md``): the visible bands of Sentinel-2 by the law of ESA's true-colour image of
level 1C, the others as ``DN // 32``, all limited to 0 to 255. Statistics are those of ``zhu-xlab/DOFA``
(``normalize_dataset.py``).

How Satlas made 8 bits of Sentinel-1 is not written down. Amplitudes as they stand in the products, cut at 255, fit the
authors' statistics: with the constant of `AMPLITUDE` a mean of 166 is -11.2 dB, that of VV over land, and 88 is
-16.7 dB, that of VH. The authors' sources disagree on which of the two comes first; both have one wavelength and
therefore one kernel, so that the order changes nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
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
from rs_embed.core.sensors import Sensor
from rs_embed.models._wavelengths import Borrowed, nearest
from rs_embed.preprocess.steps import Normalize, Resize, Stretch8bit

__all__ = ["AMPLITUDE", "MODELS", "NORMALIZE", "STRETCH", "WAVELENGTHS", "Amplitude8bit", "DofaBands"]

SIDE = 224

BANDS: Mapping[str, tuple[str, ...]] = {
    "s2": ("B4", "B3", "B2", "B5", "B6", "B7", "B8", "B11", "B12"),
    "s1": ("VV", "VH"),
    "naip": ("R", "G", "B"),
}

WAVELENGTHS: Mapping[str, tuple[float, ...]] = {
    "s2": (0.665, 0.56, 0.49, 0.705, 0.74, 0.783, 0.842, 1.61, 2.19),
    "s1": (5.405, 5.405),
    "naip": (0.665, 0.56, 0.49),
}
"""Of `BANDS`, µm (the authors' README); radar's is in centimetres, and passes for µm."""

NORMALIZE: Mapping[str, Normalize] = {
    "s2": Normalize(
        (
            *(114.1099739, 114.81779093, 126.63977424, 84.33539309, 97.84789168),
            *(103.94461911, 101.435633, 72.32804172, 56.66528851),
        ),
        (
            *(77.84352553, 69.96844919, 67.42465279, 64.57022983, 61.72545487),
            *(61.34187099, 60.29744676, 47.88519516, 42.55886798),
        ),
    ),
    "s1": Normalize((166.36275909, 88.45542715), (64.83126309, 43.07350145)),
    "naip": Normalize((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
"""Grey levels of `BANDS` to the net (``normalize_dataset.py``); NAIP's are ImageNet's, as there."""

_TRUE_COLOUR = 3558.0
_DIVIDED = 32.0 * 255
WHITE = (_TRUE_COLOUR,) * 3 + (_DIVIDED,) * 6
"""Reflectance * 10 000 that becomes 255: where ESA's true-colour image of level 1C saturates (product specification
document of Sentinel-2), and 32 a level."""

STRETCH = Stretch8bit(0.0, WHITE, rounding="down")

AMPLITUDE = 604.0
"""Amplitude of 0 dB in a Sentinel-1 GRD product: the calibration constant of beta nought, 474, as sigma nought at the
38° in the middle of the swath, ``474 / sqrt(sin 38°)``."""


@dataclass(frozen=True)
class Amplitude8bit:
    """Grey levels 0 to 255 of decibels: amplitudes ``scale * 10 ** (dB / 20)``, rounded down and cut at 255."""

    scale: float = AMPLITUDE

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map ``(T, C, H, W)`` to the same shape."""
        amplitude = np.float32(self.scale) * np.float32(10) ** (pixels / np.float32(20))
        out: NDArray[np.float32] = np.floor(np.minimum(amplitude, np.float32(255)))
        return out

    def describe(self) -> dict[str, Any]:
        """Return the step as JSON types."""
        return {"step": "amplitude_8bit", "scale": self.scale, "to": [0, 255], "clip": True, "rounding": "down"}


RESIZE = Resize(SIDE, "bilinear")


class DofaBands:
    """From one image of any bands to one feature a patch.

    Parameters
    ----------
    net : nn.Module
        Of either version.
    block : int, optional
        Of version 2: the block whose output is taken, without the last norm.
    """

    def __init__(self, net: Any, *, version: int, block: int | None = None) -> None:
        self.net = net
        self.version = version
        self.block = block

    def __call__(self, batch: Batch) -> Features:
        """Encode ``(N, 1, C, 224, 224)``."""
        import torch

        from rs_embed.nets.vit import as_grid

        (given,) = batch.inputs.values()
        image, waves = given.pixels[:, 0], torch.from_numpy(given.wavelengths.astype(np.float32))
        if self.version == 1:
            tokens = self.net(image, waves)[1]
        elif self.block is None:
            tokens = self.net(image, waves)
        else:
            tokens = self.net.layers(image, waves)[self.block]
        return Features(grid=as_grid(tokens[:, self.net.prefix_tokens :], self.net.side, self.net.side))

    def head(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the vectors after ``fc_norm`` (version 1), or as they are (version 2)."""
        if self.version == 2:
            return vectors
        norm = self.net.fc_norm
        weight, bias = (each.detach().float().cpu().numpy() for each in (norm.weight, norm.bias))
        x = vectors.astype(np.float64)
        x = x - x.mean(-1, keepdims=True)
        out = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + norm.eps) * weight + bias
        return np.asarray(out, np.float32)


def _build(build: Build) -> Encoder:
    from rs_embed.nets.dofa import DofaV1, DofaV2

    config = dict(build.variant.config)
    version, block = config.pop("version"), config.pop("block", None)
    return DofaBands((DofaV1 if version == 1 else DofaV2)(**config), version=version, block=block)


def _convert_v1(state: Mapping[str, Any]) -> dict[str, Any]:
    from rs_embed.nets.dofa import v1_state

    return v1_state(state)


def _convert_v2(state: Mapping[str, Any]) -> dict[str, Any]:
    from rs_embed.nets.dofa import v2_state

    return v2_state(state)


def _certificate() -> Certificate:
    from rs_embed.models.certificates.dofa import CERTIFICATE

    return CERTIFICATE


def _adapt(variant: Variant, options: Mapping[str, Any]) -> Variant:
    block = options.get("block")
    if block is None:
        return variant
    if variant.config["version"] == 1:
        raise ModelError(f"block={block!r} is an option of dofa's version 2: say variant='v2_base' or 'v2_large'")
    if block >= variant.config["depth"]:
        raise ModelError(f"block={block!r} must be from 0 to {variant.config['depth'] - 1} for this variant of dofa")
    return dataclasses.replace(variant, config={**variant.config, "block": block})


def _variant(version: int, *, width: int, depth: int, heads: int, parameters: int, checkpoint: Checkpoint) -> Variant:
    """A published size."""
    patch = 16 if version == 1 else 14
    return Variant(
        window=Window(size=SIDE, patch=patch, min=SIDE, max=SIDE, multiple=patch, square=True),
        dims={"pooled": width, "grid": width},
        config={"version": version, "patch_size": patch, "embed_dim": width, "depth": depth, "num_heads": heads},
        checkpoint=checkpoint,
        parameters=parameters,
    )


def _v1_file(name: str) -> Checkpoint:
    """A file of version 1 as torchgeo mirrors it: at a fixed revision, and of the corrected layout for certain."""
    return Checkpoint(
        file=name,
        repository="torchgeo/dofa",
        revision="b8db318b64a90b9e085ec04ba8851233c5893666",
        convert=_convert_v1,
        may_miss=("fc_norm.*",),
    )


def _v2_file(name: str) -> Checkpoint:
    return Checkpoint(file=name, repository="earthflow/DOFA", convert=_convert_v2)


def _of(values: Any, indices: Sequence[int]) -> tuple[float, ...]:
    return tuple(values[i] for i in indices)


def _told(sensor: Sensor, bands: tuple[str, ...], kind: str) -> tuple[float, ...]:
    """The authors' wavelengths of the bands that they have, the sensor's of the others."""
    own = dict(zip(BANDS[kind], WAVELENGTHS[kind], strict=True)) if sensor.id in _LISTED[kind] else {}
    return tuple(own.get(name, sensor.band(name).wavelength) for name in bands)


def _by_wavelength(kind: str, sensor: Sensor, bands: tuple[str, ...], units: str) -> tuple[Borrowed, tuple[int, ...]]:
    trained = dict(zip(BANDS[kind], WAVELENGTHS[kind], strict=True))
    of = nearest(sensor, bands, trained, model="dofa", units=units)
    return Borrowed(bands, of, _LISTED[kind][0]), tuple(BANDS[kind].index(name) for name in of)


def foreign_reflectance(sensor: Sensor, bands: tuple[str, ...]) -> Source:
    """Return any optical bands as a source: the grey levels and statistics of the nearest of the authors' nine."""
    borrowed, indices = _by_wavelength("s2", sensor, bands, "reflectance * 10000")
    steps = (borrowed, STRETCH.pick(indices), RESIZE, NORMALIZE["s2"].pick(indices))
    fill = _of(_S2_FILL, indices)
    return Source(
        sensor.id,
        steps,
        trained_on=sensor.id == "sentinel-2-l1c",
        bands=bands,
        fill=fill,
        wavelengths=_told(sensor, bands, "s2"),
        gsd_range=None if sensor.id in _LISTED["s2"] else _GSD_RANGE,
    )


def foreign_grey(sensor: Sensor, bands: tuple[str, ...]) -> Source:
    """Return 8-bit bands as a source: the statistics of the nearest of red, green and blue."""
    borrowed, indices = _by_wavelength("naip", sensor, bands, "grey level")
    steps = (borrowed, RESIZE, NORMALIZE["naip"].pick(indices))
    fill = _of(NORMALIZE["naip"].mean, indices)
    return Source(sensor.id, steps, trained_on=False, bands=bands, fill=fill, wavelengths=_told(sensor, bands, "naip"))


_GSD_RANGE = (1.0, 30.0)
"""Of all sensors of the training, NAIP to EnMAP, metres."""

_LISTED: Mapping[str, tuple[str, ...]] = {"s2": ("sentinel-2-l1c", "sentinel-2-l2a"), "naip": ("naip",)}

_S2_STEPS = (STRETCH, RESIZE, NORMALIZE["s2"])
_S2_FILL = tuple(mean * white / 255 for mean, white in zip(_of(NORMALIZE["s2"].mean, range(9)), WHITE, strict=True))
_S1_FILL = tuple(20 * math.log10(mean / AMPLITUDE) for mean in _of(NORMALIZE["s1"].mean, range(2)))

_CITATION = """@misc{xiong2024dofa,
  title         = {Neural Plasticity-Inspired Foundation Model for Observing the {Earth} Crossing Modalities},
  author        = {Xiong, Zhitong and Wang, Yi and Zhang, Fahong and Stewart, Adam J. and Hanna, Jo{\\"e}lle and
                   Borth, Damian and Papoutsis, Ioannis and Le Saux, Bertrand and Camps-Valls, Gustau and
                   Zhu, Xiao Xiang},
  year          = {2024},
  eprint        = {2403.15356},
  archivePrefix = {arXiv},
  primaryClass  = {cs.CV}
}"""

MODELS = (
    ModelSpec(
        name="dofa",
        title="DOFA v1 and v2: any bands of any sensor by their wavelengths",
        inputs={
            "s2": InputSpec(
                sources=(
                    Source("sentinel-2-l1c", _S2_STEPS, wavelengths=WAVELENGTHS["s2"]),
                    Source("sentinel-2-l2a", _S2_STEPS, trained_on=False, wavelengths=WAVELENGTHS["s2"]),
                ),
                bands=BANDS["s2"],
                gsd=10.0,
                gsd_range=(10.0, 20.0),
                fill=_S2_FILL,
                subset=True,
                foreign=foreign_reflectance,
            ),
            "s1": InputSpec(
                sources=(
                    Source("sentinel-1", (Amplitude8bit(), RESIZE, NORMALIZE["s1"]), wavelengths=WAVELENGTHS["s1"]),
                ),
                bands=BANDS["s1"],
                gsd=10.0,
                gsd_range=(10.0, 20.0),
                fill=_S1_FILL,
                subset=True,
            ),
            "naip": InputSpec(
                sources=(Source("naip", (RESIZE, NORMALIZE["naip"]), wavelengths=WAVELENGTHS["naip"]),),
                bands=BANDS["naip"],
                gsd=1.0,
                gsd_range=(1.0, 2.0),
                fill=_of(NORMALIZE["naip"].mean, range(3)),
                subset=True,
                foreign=foreign_grey,
            ),
        },
        modalities={"s2": ("s2",), "s1": ("s1",), "naip": ("naip",)},
        variants={
            "base": _variant(
                1,
                width=768,
                depth=12,
                heads=12,
                parameters=111_312_128,
                checkpoint=_v1_file("dofa_base_patch16_224-a0275954.pth"),
            ),
            "large": _variant(
                1,
                width=1024,
                depth=24,
                heads=16,
                parameters=337_105_408,
                checkpoint=_v1_file("dofa_large_patch16_224-0ff904d3.pth"),
            ),
            "v2_base": _variant(
                2,
                width=768,
                depth=12,
                heads=12,
                parameters=105_432_320,
                checkpoint=_v2_file("dofav2_vit_base_e150.pth"),
            ),
            "v2_large": _variant(
                2,
                width=1024,
                depth=24,
                heads=16,
                parameters=329_290_240,
                checkpoint=_v2_file("dofav2_vit_large_e150.pth"),
            ),
        },
        options={
            "block": Option(
                None,
                "of version 2: take the tokens after this block (from 0) without the last norm, as the authors' own "
                "features are (4, 6, 10, 11 of v2_base; 5, 11, 17, 23 of v2_large); absent: after the last norm",
                type="int",
                low=0,
                high=23,
                optional=True,
            )
        },
        adapt=_adapt,
        conditions=("wavelengths",),
        encoder=_build,
        pooled="cells",
        pooled_says=(
            "version 1, forward_features: the mean of the patch tokens, then fc_norm (never trained: a plain layer "
            "norm); version 2, for which the authors define none: ours is the mean of the patch tokens after model.norm"
        ),
        citation=_CITATION,
        licence={
            "code": "MIT",
            "weights": "CC-BY-4.0 (as torchgeo states it; the authors' model card was not read)",
        },
        source="https://github.com/zhu-xlab/DOFA",
        certificate=_certificate,
        notes=(
            "Trained on 8-bit pictures of Sentinel-2 L1C, Sentinel-1, NAIP, Gaofen-2 and on EnMAP. Any of the nine "
            "Sentinel-2 bands, in any order. Bands of other sensors are taken by wavelength: reflectances become grey "
            "levels and are normalised as the nearest of the nine, which meta['normalization'] names. Cells of the "
            "grid are the patch tokens after the last block, without a norm in version 1, after model.norm in version "
            "2. Sentinel-1's 8 bits are our reading of the authors' statistics: amplitudes cut at 255. Version 2 is "
            "presumed to have the corrected layout of the kernel, as version 1 has."
        ),
    ),
)
