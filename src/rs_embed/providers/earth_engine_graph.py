"""What Earth Engine is told to compute: scenes on the lattice, masked, fused to passes, reduced to a frame.

The policy is that of `rs_embed.providers.composite` and `rs_embed.providers.resample`, step by step, as a graph for the
server. What differs: beside pixels without data an interpolated band takes the nearest pixel, where we weigh the
neighbours that are left; at the seam of two elevation tiles the slope is taken across it; and coordinates are
transformed as exactly as the server does it. The graph is built with the module ``ee``, which is handed in: it has its
home in `rs_embed.providers.earth_engine_connection`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from rs_embed.core.imagery import Scene
from rs_embed.core.sensors import Sensor
from rs_embed.providers.earth_engine_catalog import Dataset
from rs_embed.providers.masks import FMASK_UNUSABLE, QA_PIXEL_UNUSABLE, SCL_CLEAR
from rs_embed.providers.resample import Grid, alignment
from rs_embed.providers.selection import Group

__all__ = [
    "COUNTS",
    "KNOWN",
    "Asset",
    "BandGrid",
    "Recipe",
    "frame_image",
    "single_image",
    "stored_image",
    "used_scenes",
    "used_words",
]

COUNTS = ("valid", "clear", "total")
"""Bands behind those of the sensor: whether a pixel is valid, and its clear and all observations."""
KNOWN = "known"
"""Band behind those of a stored image: one where all of them have data."""
WORD = 24
"""Scenes of a frame that one band of bits tells of: as many as a float32 holds exactly."""
_SAMPLES = 32
"""Most samples along a side of a coarse pixel, as in `rs_embed.providers.resample`."""


@dataclass(frozen=True)
class Asset:
    """What a scene is in Earth Engine."""

    id: str
    dataset: Dataset


@dataclass(frozen=True)
class BandGrid:
    """Where the pixels of a band lie."""

    crs: str
    transform: tuple[float, ...]
    is_float: bool = False
    size: tuple[int, int] | None = None
    """Height and width in pixels, where they are told."""

    def __post_init__(self) -> None:
        if len(self.transform) != 6:
            raise ValueError(f"a transform has six numbers, not {self.transform}")

    @property
    def grid(self) -> Grid:
        """The same for `alignment`; sizes do not matter there."""
        known = CRS(self.crs) if self.crs.startswith("EPSG:") else None
        return Grid(0, 0, Affine(*self.transform), known)


@dataclass(frozen=True)
class _Way:
    """How pixels get onto the lattice, as `rs_embed.providers.resample.resample` gets them there."""

    kind: str
    """``nearest``, ``bilinear``, ``mean`` of k × k pixels that lie exactly under one, or of k × k ``samples``."""
    k: int = 1
    coarse: bool = False
    """Whether pixels of the lattice are larger than the scene's."""


@dataclass(frozen=True)
class Recipe:
    """What all frames of a request share."""

    dataset: Dataset
    sensor: Sensor
    bands: tuple[str, ...]
    """Those that exist, in the order wanted."""
    mask: str | None
    composite: str
    lattice: GeoBox
    grids: Mapping[str, Mapping[str, BandGrid]]
    """By scene id and the band's canonical name."""

    def way(self, scene: Scene, band: str) -> _Way:
        """Decide as `rs_embed.providers.resample.resample` does."""
        own, declared = self.grids[scene.id][band].grid, self.sensor.band(band)
        found = alignment(own, self.lattice)
        same = own.crs is not None and own.crs == self.lattice.crs
        ratio = abs(self.lattice.affine.a) / (abs(own.affine.a) if same else declared.gsd)
        if declared.classes or (found is not None and found[0] == 1):
            return _Way("nearest", coarse=ratio > 1)
        if found is not None:
            return _Way("mean", found[0])
        return _Way("samples", min(math.ceil(ratio - 1e-6), _SAMPLES)) if ratio >= 2 else _Way("bilinear")

    def on_lattice(self, image: Any, k: int = 1) -> Any:
        """An image computed on the lattice, or on one of k × k pixels for each of its own."""
        crs, a = self.lattice.crs, self.lattice.affine
        assert crs is not None
        code = f"EPSG:{crs.epsg}" if crs.epsg is not None else crs.to_wkt()
        return image.reproject(code, [a.a / k, 0, a.c, 0, a.e / k, a.f])


def used_words(count: int) -> int:
    """Return how many bands of bits tell of ``count`` scenes."""
    return -(-count // WORD)


def used_scenes(bits: Sequence[int], scenes: Sequence[Scene]) -> list[Scene]:
    """Return the scenes whose bits are set in the bands of bits, which are or-ed over all pixels."""
    return [scene for n, scene in enumerate(scenes) if bits[n // WORD] >> (n % WORD) & 1]


def _resampled(ee: Any, recipe: Recipe, source: Any, names: list[str], way: _Way) -> Any:
    """Bands of a scene as they lie on the lattice."""
    image = source.select(names)
    if way.kind == "nearest":
        return image
    if way.kind != "mean":
        # data only where the nearest pixel has some; beside pixels without, the nearest
        smooth = image.resample("bilinear").unmask(image, False).updateMask(image.mask())
        if way.kind == "bilinear":
            return smooth
        image = recipe.on_lattice(smooth, way.k)
    most = 4 * (way.k + 1) ** 2
    known = image.mask().reduceResolution(ee.Reducer.mean(), False, most).gte(0.5)
    return image.reduceResolution(ee.Reducer.mean(), False, most).updateMask(known)


def _slope(ee: Any, recipe: Recipe, group: Group) -> Any:
    """Slope of the pass's heights on the lattice, as `rs_embed.providers.relief.slope` takes it."""
    tiles = [_layer(ee, recipe, scene, ("elevation",)) for scene in group]
    heights = tiles[0] if len(tiles) == 1 else ee.ImageCollection.fromImages(tiles[::-1]).mosaic()
    return ee.Terrain.slope(recipe.on_lattice(heights)).rename(["slope"])


def _layer(ee: Any, recipe: Recipe, scene: Scene, bands: Sequence[str]) -> Any:
    """Bands of a scene on the lattice in the sensor's units."""
    source, by_way = ee.Image(scene.item.id), dict[_Way, list[str]]()
    for band in bands:
        by_way.setdefault(recipe.way(scene, band), []).append(band)
    names, dataset = recipe.dataset.bands, recipe.dataset
    parts = [
        _resampled(ee, recipe, source, [names[band] for band in group], way).rename(group)
        for way, group in by_way.items()
    ]
    image = parts[0] if len(parts) == 1 else ee.Image.cat(*parts).select(list(bands))
    scale = dataset.scale
    if dataset.float_scale is not None and recipe.grids[scene.id][bands[0]].is_float:
        scale = dataset.float_scale
    if scale != 1:
        image = image.multiply(scale)
    if dataset.offset:
        image = image.add(dataset.offset)
    return image.toFloat()


def _clear(ee: Any, recipe: Recipe, scene: Scene) -> Any:
    """One where the scene shows the ground, else zero."""
    band = recipe.sensor.mask_band
    if recipe.mask is None or band is None or band not in scene.bands:
        return ee.Image.constant(1).rename(["clear"])
    classes = ee.Image(scene.item.id).select([recipe.dataset.bands[band]])
    if recipe.way(scene, band).coarse:
        classes = classes.reproject(classes.projection())  # no class of the coarser levels that Earth Engine keeps
    if recipe.mask == "scl":
        clear = classes.remap(list(SCL_CLEAR), [1] * len(SCL_CLEAR), 0)
    else:
        bits = {"qa_pixel": QA_PIXEL_UNUSABLE, "fmask": FMASK_UNUSABLE}[recipe.mask]
        clear = classes.bitwiseAnd(bits).eq(0)
    return clear.unmask(0, False).rename(["clear"])


def _scene_image(ee: Any, recipe: Recipe, scene: Scene, slope: Any) -> Any:
    """The bands of a scene on the lattice, masked where one of them has no data."""
    own = tuple(band for band in recipe.bands if band != "slope")
    parts = ([_layer(ee, recipe, scene, own)] if own else []) + ([] if slope is None else [slope.toFloat()])
    image = parts[0] if len(parts) == 1 else ee.Image.cat(*parts).select(list(recipe.bands))
    return image.updateMask(image.mask().reduce(ee.Reducer.min()).gt(0))


def single_image(ee: Any, recipe: Recipe, scene: Scene) -> Any:
    """Return the bands of one scene on the lattice, each with a band ``…_known`` that is one where it has data."""
    numbers = [band for band in recipe.bands if not recipe.sensor.band(band).classes and band != "slope"]
    classes = [band for band in recipe.bands if recipe.sensor.band(band).classes]
    parts = [_layer(ee, recipe, scene, numbers)] if numbers else []
    if classes:
        parts.append(ee.Image(scene.item.id).select([recipe.dataset.bands[b] for b in classes]).rename(classes))
    if "slope" in recipe.bands:
        parts.append(_slope(ee, recipe, (scene,)))
    image = parts[0] if len(parts) == 1 else ee.Image.cat(*parts)
    image = image.select(list(recipe.bands)).toFloat()
    known = image.mask().gt(0).unmask(0, False).rename([f"{band}_known" for band in recipe.bands])
    return image.unmask(0, False).addBands(known.toByte())


def stored_image(ee: Any, asset: str, bands: Sequence[str]) -> Any:
    """Return bands of an image as float32, pixel for pixel as they are stored, and the band `KNOWN`."""
    image = ee.Image(asset).select(list(bands)).toFloat()
    known = image.mask().reduce(ee.Reducer.min()).gt(0).unmask(0, False)
    return image.unmask(0, False).addBands(known.rename([KNOWN]).toByte())


def _fused(ee: Any, recipe: Recipe, group: Group, numbers: Mapping[str, int], words: int) -> Any:
    """The scenes of a pass as one image, with where it is clear and which scene a pixel is from."""
    slope = _slope(ee, recipe, group) if "slope" in recipe.bands else None
    tiles = []
    for scene in group:
        image = _scene_image(ee, recipe, scene, slope)
        word, bit = divmod(numbers[scene.id], WORD)
        bits = ee.Image.constant([2**bit if w == word else 0 for w in range(words)])
        known = image.select([recipe.bands[0]]).mask()
        extra = _clear(ee, recipe, scene).addBands(bits.rename([f"used_{w}" for w in range(words)]))
        tiles.append(image.addBands(extra.updateMask(known)))
    # of overlapping images a mosaic shows the last
    return tiles[0] if len(tiles) == 1 else ee.ImageCollection.fromImages(tiles[::-1]).mosaic()


def frame_image(ee: Any, recipe: Recipe, groups: Sequence[Group], scenes: Sequence[Scene]) -> Any:
    """Return the image of a frame: the bands, `COUNTS`, and bands of bits that tell which scenes it is made from.

    Parameters
    ----------
    ee
        The module.
    recipe
        Of the request.
    groups
        Passes in the order in which they are looked at, of scenes that have all the bands.
    scenes
        The same scenes in the order of their bits.
    """
    numbers, words = {scene.id: n for n, scene in enumerate(scenes)}, used_words(len(scenes))
    bands, used = list(recipe.bands), [f"used_{w}" for w in range(words)]
    seen, passes = ee.Image.constant(0), []
    for group in groups:
        fused = _fused(ee, recipe, group, numbers, words)
        clear = fused.select(["clear"])
        seen = seen.add(clear.mask().unmask(0, False))
        passes.append(fused.addBands(seen.rename(["total"])).updateMask(clear))
    total = seen
    if recipe.composite == "mosaic" or len(passes) == 1:
        values = passes[0] if len(passes) == 1 else ee.ImageCollection.fromImages(passes[::-1]).mosaic()
        counts, values = values.select(["clear", *used]), values.select([*bands, "total"])
        if len(passes) > 1:  # a pixel counts as observed until it is filled
            total = values.select(["total"]).unmask(seen, False)
        values = values.select(bands)
    else:
        stack = ee.ImageCollection.fromImages(passes)
        # without maxRaw, more values than a bound that nobody states are counted in a histogram
        reducer = ee.Reducer.mean() if recipe.composite == "mean" else ee.Reducer.median(None, None, len(passes))
        values = stack.select(bands).reduce(reducer).rename(bands)
        counts = stack.select(["clear", *used]).reduce(ee.Reducer.sum()).rename(["clear", *used])
    if recipe.sensor.kind == "radar":
        values = values.updateMask(values.gt(0)).log10().multiply(10)
    return _finished(ee, values, counts.unmask(0, False), total, used)


def _finished(ee: Any, values: Any, counts: Any, total: Any, used: list[str]) -> Any:
    """All bands in few bytes, without a mask: zero is what masked pixels come as."""
    valid = values.mask().reduce(ee.Reducer.min()).gt(0).unmask(0, False)
    return (
        values.toFloat()
        .unmask(0, False)
        .addBands(valid.rename(["valid"]).toByte())
        .addBands(counts.select(["clear"]).toUint16())
        .addBands(total.rename(["total"]).toUint16())
        .addBands(counts.select(used).toFloat())
    )
