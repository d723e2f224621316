"""Earth Engine's REST API on loopback: its own discovery document and algorithm list, graphs on small images.

Only what the library's graphs use is there; a function that the algorithm list does not have, or an argument that it
does not name, is refused as the real server would refuse it. An image is a function of a grid: pixels are computed
where they are asked for, as there.
"""

from __future__ import annotations

import io
import itertools
import json
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from pyproj import Transformer
from shapely.geometry import box, mapping, shape

TOKEN = "stub-token"
LIMIT = 48 * 2**20
SIDE = 32768
PROJECTIONS = {"SR-ORG:6974": "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"}
Pair = tuple[np.ndarray, np.ndarray]
"""Values, and a mask: 1 valid, 0 masked, NaN outside of the footprint."""


@dataclass(frozen=True)
class Grid:
    """Where pixels lie."""

    crs: str
    affine: Affine
    height: int = 0
    width: int = 0

    def centres(self) -> Pair:
        y, x = np.mgrid[0 : self.height, 0 : self.width] + 0.5
        a = self.affine
        return a.a * x + a.c, a.e * y + a.f


@dataclass(frozen=True)
class Raster:
    """A band of an image as it is stored."""

    values: np.ndarray
    affine: Affine
    crs: str
    known: np.ndarray
    is_float: bool = False


@dataclass(frozen=True)
class Stored:
    """An image of the catalogue."""

    id: str
    bands: Mapping[str, Raster]
    properties: Mapping[str, Any]
    footprint: Any


class FaultError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@lru_cache(maxsize=32)
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(PROJECTIONS.get(source, source), PROJECTIONS.get(target, target), always_xy=True)


def place(grid: Grid, affine: Affine, crs: str) -> Pair:
    """Row and column, in the pixels of another grid, of a grid's pixel centres."""
    x, y = grid.centres()
    if crs != grid.crs:
        x, y = _transformer(grid.crs, crs).transform(x, y)
    return (y - affine.f) / affine.e, (x - affine.c) / affine.a


def nearest(raster: Raster, grid: Grid) -> Pair:
    rows, cols = (np.floor(v + 1e-9).astype(int) for v in place(grid, raster.affine, raster.crs))
    height, width = raster.values.shape
    inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    rows, cols = np.clip(rows, 0, height - 1), np.clip(cols, 0, width - 1)
    known = np.where(raster.known[rows, cols], 1.0, 0.0)
    return raster.values[rows, cols].astype(float), np.where(inside, known, np.nan)


def bilinear(raster: Raster, grid: Grid) -> Pair:
    """Four neighbours; masked where one of them is: nothing kinder is documented."""
    rows, cols = (v - 0.5 for v in place(grid, raster.affine, raster.crs))
    top, left = np.floor(rows + 1e-9), np.floor(cols + 1e-9)
    down, right = np.clip(rows - top, 0, 1), np.clip(cols - left, 0, 1)
    height, width = raster.values.shape
    total, known = np.zeros(grid.centres()[0].shape), np.ones((grid.height, grid.width), bool)
    for i, j in itertools.product((0, 1), (0, 1)):
        weight = (down if i else 1 - down) * (right if j else 1 - right)
        y, x = (top + i).astype(int), (left + j).astype(int)
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
        needed = weight > 1e-9
        known &= ~needed | (inside & raster.known[y, x])
        total += np.where(needed, weight * raster.values[y, x], 0)
    return total, np.where(np.isnan(nearest(raster, grid)[1]), np.nan, known.astype(float))


@dataclass(frozen=True, eq=False)
class Image:
    """Bands as functions of a grid."""

    names: tuple[str, ...]
    paint: Callable[[Grid], list[Pair]]
    stored: Stored | None = None
    """Of an image whose pixels are still the stored ones: only that can be resampled."""
    native: Grid | None = None
    """Default projection."""
    types: tuple[str, ...] = ()
    done: dict[Grid, list[Pair]] = field(default_factory=dict)

    def at(self, grid: Grid) -> list[Pair]:
        if grid not in self.done:
            self.done[grid] = self.paint(grid)
        return self.done[grid]

    def kinds(self) -> tuple[str, ...]:
        return self.types or ("<f8",) * len(self.names)


def stored_image(stored: Stored, names: Sequence[str], way: Callable[[Raster, Grid], Pair] = nearest) -> Image:
    rasters = [stored.bands[name] for name in names]
    first = rasters[0]
    return Image(tuple(names), lambda grid: [way(r, grid) for r in rasters], stored, Grid(first.crs, first.affine))


def pixelwise(function: Callable[[np.ndarray, np.ndarray], Pair], image: Image) -> Image:
    return Image(image.names, lambda grid: [function(*band) for band in image.at(grid)], native=image.native)


def both(function: Callable[[np.ndarray, np.ndarray], np.ndarray], one: Image, two: Image) -> Image:
    """A binary operation: a single band goes with every one of the other image."""

    def paint(grid: Grid) -> list[Pair]:
        a, b = one.at(grid), two.at(grid)
        count = max(len(a), len(b))
        if min(len(a), len(b)) not in (1, count):
            raise FaultError(400, f"Images with {len(a)} and {len(b)} bands do not go together.")
        a, b = (side * count if len(side) == 1 else side for side in (a, b))
        with np.errstate(all="ignore"):
            return [(function(p[0], q[0]), np.minimum(p[1], q[1])) for p, q in zip(a, b, strict=True)]

    longer = one if len(one.names) >= len(two.names) else two
    return Image(longer.names, paint, native=longer.native)


def select(image: Image, bands: Sequence[str], names: Sequence[str] | None = None) -> Image:
    for band in bands:
        if band not in image.names:
            raise FaultError(
                400, f"Image.select: Band pattern '{band}' did not match any bands. Available: {image.names}"
            )
    if image.stored is not None:
        return stored_image(image.stored, bands)
    places = [image.names.index(band) for band in bands]
    types = tuple(image.kinds()[i] for i in places)
    chosen = Image(tuple(bands), lambda grid: [image.at(grid)[i] for i in places], None, image.native, types)
    return chosen if names is None else rename(chosen, names)


def rename(image: Image, names: Sequence[str]) -> Image:
    if len(names) != len(image.names):
        raise FaultError(400, f"Image.rename: {len(names)} names for {len(image.names)} bands.")
    return replace(image, names=tuple(names), stored=None, done={}, paint=image.at)


def add_bands(image: Image, other: Image) -> Image:
    names = (*image.names, *other.names)
    if len(set(names)) < len(names):
        raise FaultError(400, f"the stub wants distinct bands, not {names}")
    types = (*image.kinds(), *other.kinds())
    return Image(names, lambda grid: [*image.at(grid), *other.at(grid)], None, image.native, types)


def cast(kind: str, image: Image) -> Image:
    def convert(values: np.ndarray, mask: np.ndarray) -> Pair:
        with np.errstate(all="ignore"):
            return np.where(mask > 0, values, 0).astype(kind).astype(float), mask

    return replace(pixelwise(convert, image), types=(kind,) * len(image.names))


def mask_of(image: Image) -> Image:
    return pixelwise(lambda _, mask: (np.nan_to_num(mask), np.where(np.isnan(mask), np.nan, 1.0)), image)


def update_mask(image: Image, mask: Image) -> Image:
    def paint(grid: Grid) -> list[Pair]:
        own, new = image.at(grid), mask.at(grid)
        new = new * len(own) if len(new) == 1 else new
        return [
            (v, np.where(m > 0, np.where(n > 0, np.clip(w, 0, 1), 0), m))
            for (v, m), (w, n) in zip(own, new, strict=True)
        ]

    return Image(image.names, paint, None, image.native, image.types)


def unmask(image: Image, value: Image, same: bool) -> Image:
    def paint(grid: Grid) -> list[Pair]:
        own, other = image.at(grid), value.at(grid)
        other = other * len(own) if len(other) == 1 else other
        out = []
        for (v, m), (w, n) in zip(own, other, strict=True):
            take = (m == 0) if same else ~(m > 0)
            out.append((np.where(take, w, v), np.where(take, n, m)))
        return out

    return Image(image.names, paint, None, image.native, image.types)


def reproject(image: Image, crs: str, affine: Affine) -> Image:
    """Pixels of a given lattice, and the nearest of them elsewhere."""

    def paint(grid: Grid) -> list[Pair]:
        rows, cols = (np.floor(v + 1e-9).astype(int) for v in place(grid, affine, crs))
        top, left = rows.min(), cols.min()
        shift = Affine(affine.a, 0, affine.c + affine.a * left, 0, affine.e, affine.f + affine.e * top)
        fixed = Grid(crs, shift, int(rows.max() - top + 1), int(cols.max() - left + 1))
        return [(v[rows - top, cols - left], m[rows - top, cols - left]) for v, m in image.at(fixed)]

    return Image(image.names, paint, None, Grid(crs, affine), image.types)


def reduce_resolution(image: Image, reducer: Reducer, most: int) -> Image:
    """The mean of the input's pixels under each output pixel."""
    native = image.native
    if native is None or reducer.name != "mean":
        raise FaultError(400, "reduceResolution needs a default projection and a mean")

    def paint(grid: Grid) -> list[Pair]:
        k = max(1, round(abs(grid.affine.a / native.affine.a)))
        if k * k > most:
            raise FaultError(400, f"reduceResolution: Too many input pixels per output pixel: {k * k} > {most}.")
        a = grid.affine
        fine = Grid(grid.crs, Affine(a.a / k, 0, a.c, 0, a.e / k, a.f), grid.height * k, grid.width * k)
        out = []
        for v, m in image.at(fine):
            cut = (grid.height, k, grid.width, k)
            weight = np.nan_to_num(m).reshape(cut)
            total, count = (weight * v.reshape(cut)).sum((1, 3)), weight.sum((1, 3))
            outside = np.isnan(m).reshape(cut).all((1, 3))
            out.append((total / np.maximum(count, 1e-9), np.where(outside, np.nan, (count > 0).astype(float))))
        return out

    return Image(image.names, paint, None, native)


def mosaic(images: Sequence[Image]) -> Image:
    def paint(grid: Grid) -> list[Pair]:
        painted = [image.at(grid) for image in images]
        out = []
        for bands in zip(*painted, strict=True):
            value, mask = bands[0][0].copy(), bands[0][1].copy()
            for v, m in bands[1:]:
                value, mask = np.where(m > 0, v, value), np.where(m > 0, m, np.where(mask > 0, mask, np.fmax(mask, m)))
            out.append((value, mask))
        return out

    if len({image.names for image in images}) != 1:
        raise FaultError(400, "Expected a homogeneous image collection")
    return Image(images[0].names, paint, None, Grid("EPSG:4326", Affine(1, 0, 0, 0, 1, 0)), images[0].types)


@dataclass(frozen=True)
class Reducer:
    name: str
    most: int | None = None

    def __call__(self, stack: np.ndarray) -> np.ndarray:
        """Reduce (N, H, W) with NaN where masked."""
        if self.name == "median" and (self.most is None or len(stack) > self.most):
            raise FaultError(400, "the stub computes medians directly: say maxRaw")
        functions = {"median": np.nanmedian, "mean": np.nanmean, "min": np.nanmin, "sum": np.nansum}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # pixels that are masked everywhere
            return functions[self.name](stack, axis=0)


def _reduced(bands: Sequence[Pair], reducer: Reducer) -> Pair:
    """Reduce bands or images: masked ones take no part."""
    stack = np.stack([np.where(m > 0, v, np.nan) for v, m in bands])
    mask = np.fmax.reduce([m for _, m in bands])
    return reducer(stack), mask


def reduce_collection(images: Sequence[Image], reducer: Reducer) -> Image:
    def paint(grid: Grid) -> list[Pair]:
        return [_reduced(bands, reducer) for bands in zip(*(image.at(grid) for image in images), strict=True)]

    names = tuple(f"{name}_{reducer.name}" for name in images[0].names)
    return Image(names, paint)


def reduce_bands(image: Image, reducer: Reducer) -> Image:
    def paint(grid: Grid) -> list[Pair]:
        bands = image.at(grid)
        value, mask = _reduced(bands, reducer)
        return [(value, mask)]

    return Image((reducer.name,), paint, native=image.native)


def slope(image: Image) -> Image:
    """Degrees from the four neighbours, in the image's own lattice; masked where one of them is."""
    native = image.native
    assert native is not None

    def paint(grid: Grid) -> list[Pair]:
        a = grid.affine
        wide = Grid(grid.crs, a @ Affine.translation(-1, -1), grid.height + 2, grid.width + 2)
        ((v, m),) = image.at(wide)
        across = (v[1:-1, 2:] - v[1:-1, :-2]) / (2 * a.a)
        down = (v[2:, 1:-1] - v[:-2, 1:-1]) / (2 * a.e)
        known = [m[1:-1, 2:], m[1:-1, :-2], m[2:, 1:-1], m[:-2, 1:-1], m[1:-1, 1:-1]]
        mask = np.where(np.isnan(known[-1]), np.nan, np.all([k > 0 for k in known], axis=0).astype(float))
        return [(np.degrees(np.arctan(np.hypot(across, down))), mask)]

    return reproject(Image(("slope",), paint), native.crs, native.affine)


def remap(image: Image, source: Sequence[float], target: Sequence[float], default: float | None) -> Image:
    def paint(grid: Grid) -> list[Pair]:
        value, mask = image.at(grid)[0]
        out = np.full(value.shape, np.nan if default is None else default, float)
        for before, after in zip(source, target, strict=True):
            out[value == before] = after
        return [(np.nan_to_num(out), np.where(np.isnan(out) & (mask > 0), 0, mask))]

    return Image(image.names[:1], paint, native=image.native)


def constant(value: Any) -> Image:
    values = value if isinstance(value, list) else [value]
    names = ("constant",) if len(values) == 1 else tuple(f"constant_{i}" for i in range(len(values)))
    return Image(
        names, lambda g: [(np.full((g.height, g.width), float(v)), np.ones((g.height, g.width))) for v in values]
    )


def as_image(value: Any) -> Any:
    return constant(value) if isinstance(value, int | float) else value


class Evaluator:
    """Evaluates one expression."""

    def __init__(self, world: EarthEngineStub, expression: Mapping[str, Any]) -> None:
        self.world, self.values = world, expression["values"]
        self.known: dict[str, Any] = {}
        self.result = expression["result"]

    def run(self) -> Any:
        return self.reference(self.result, {})

    def reference(self, name: str, arguments: Mapping[str, Any]) -> Any:
        if arguments:
            return self.node(self.values[name], arguments)
        if name not in self.known:
            self.known[name] = self.node(self.values[name], arguments)
        return self.known[name]

    def node(self, node: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
        ((kind, content),) = node.items()
        if kind == "constantValue":
            return content
        if kind == "integerValue":
            return int(content)
        if kind == "valueReference":
            return self.reference(content, arguments)
        if kind == "argumentReference":
            return arguments[content]
        if kind == "arrayValue":
            return [self.node(each, arguments) for each in content["values"]]
        if kind == "dictionaryValue":
            return {name: self.node(each, arguments) for name, each in content["values"].items()}
        if kind == "functionDefinitionValue":
            return lambda *given: self.reference(
                content["body"], dict(zip(content["argumentNames"], given, strict=True))
            )
        assert kind == "functionInvocationValue", kind
        given = {name: self.node(each, arguments) for name, each in content["arguments"].items()}
        return self.call(content["functionName"], given)

    def call(self, name: str, given: dict[str, Any]) -> Any:
        signature = self.world.algorithms.get(name)
        if signature is None or name not in FUNCTIONS:
            raise FaultError(400, f"Unknown algorithm: {name}")
        allowed = {each["argumentName"]: each.get("optional", False) for each in signature.get("arguments", [])}
        unknown = given.keys() - allowed.keys()
        missing = {each for each, optional in allowed.items() if not optional} - given.keys()
        if unknown or missing:
            raise FaultError(400, f"{name}: unknown arguments {sorted(unknown)}, missing {sorted(missing)}")
        self.world.called.add(name)
        return FUNCTIONS[name](self.world, **given)


def load_image(world: EarthEngineStub, id: str) -> Image:
    found = next((s for s in world.images if s.id == id), None)
    if found is None:
        raise FaultError(
            404, f"Image.load: Image asset '{id}' not found (does not exist or caller does not have access)."
        )
    return stored_image(found, tuple(found.bands))


def load_collection(world: EarthEngineStub, id: str) -> list[Image]:
    found = [s for s in world.images if s.id.rpartition("/")[0] == id]
    if not found and id not in world.collections:
        raise FaultError(
            404,
            f"ImageCollection.load: ImageCollection asset '{id}' not found (does not exist or caller does not have "
            "access).",
        )
    return [stored_image(s, tuple(s.bands)) for s in found]


def keeps(world: EarthEngineStub, collection: list[Any], filter: Callable[[Any], bool]) -> list[Any]:
    return [each for each in collection if filter(each)]


def properties_of(element: Any) -> Mapping[str, Any]:
    if isinstance(element, Image):
        assert element.stored is not None
        return {"system:index": element.stored.id.rpartition("/")[2], **element.stored.properties}
    return element["properties"]


def set_property(world: EarthEngineStub, object: Any, key: str, value: Any = None) -> Any:
    return {**object, "properties": {**object["properties"], key: value}}


def copy_properties(world: EarthEngineStub, destination: Any, source: Any, properties: list[str]) -> Any:
    had = properties_of(source)
    copied = {name: had[name] for name in properties if name in had}
    return {**destination, "properties": {**destination["properties"], **copied}}


def feature(world: EarthEngineStub, geometry: Any = None, metadata: Any = None) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": dict(metadata or {})}


def projection_of(world: EarthEngineStub, image: Image) -> Grid:
    assert image.native is not None
    return image.native


def to_projection(world: EarthEngineStub, image: Image, crs: Grid, crsTransform: list[float] | None = None) -> Image:
    affine = crs.affine if crsTransform is None else Affine(*crsTransform)
    return reproject(image, crs.crs, affine)


def resample(world: EarthEngineStub, image: Image, mode: str = "bilinear") -> Image:
    if image.stored is None:
        raise FaultError(400, "the stub resamples stored images only: a composite has no projection of its own")
    return stored_image(image.stored, image.names, {"bilinear": bilinear}[mode])


def in_dates(world: EarthEngineStub, leftValue: tuple[int, int], rightField: str) -> Callable[[Any], bool]:
    start, end = leftValue
    return lambda each: start <= properties_of(each)[rightField] < end


def meets(world: EarthEngineStub, leftField: str, rightValue: Any) -> Callable[[Any], bool]:
    assert leftField == ".all"
    wanted = shape(rightValue["geometry"])
    return lambda each: each.stored.footprint.intersects(wanted)


def map_collection(world: EarthEngineStub, collection: list[Any], baseAlgorithm: Callable[[Any], Any]) -> Any:
    mapped = [baseAlgorithm(each) for each in collection]
    return mapped if mapped and isinstance(mapped[0], Image) else {"type": "FeatureCollection", "features": mapped}


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Image.load": load_image,
    "ImageCollection.load": load_collection,
    "ImageCollection.fromImages": lambda world, images: images,
    "Collection.filter": keeps,
    "Collection.limit": lambda world, collection, limit: collection[:limit],
    "Collection.map": map_collection,
    "DateRange": lambda world, start, end: (start, end),
    "Filter.dateRangeContains": in_dates,
    "Filter.intersects": meets,
    "GeometryConstructors.Rectangle": lambda world, coordinates, geodesic: mapping(box(*coordinates)),
    "Feature": feature,
    "Element.set": set_property,
    "Element.get": lambda world, object, property: properties_of(object).get(property),
    "Element.copyProperties": copy_properties,
    "Image.geometry": lambda world, feature: mapping(feature.stored.footprint),
    "Image.bandNames": lambda world, image: list(image.names),
    "Image.select": lambda world, input, bandSelectors: select(input, bandSelectors),
    "Image.rename": lambda world, input, names: rename(input, names),
    "Image.addBands": lambda world, dstImg, srcImg: add_bands(dstImg, as_image(srcImg)),
    "Image.constant": lambda world, value: constant(value),
    "Image.mask": lambda world, image: mask_of(image),
    "Image.updateMask": lambda world, image, mask: update_mask(image, as_image(mask)),
    "Image.unmask": lambda world, input, value, sameFootprint=True: unmask(input, as_image(value), sameFootprint),
    "Image.resample": resample,
    "Image.reduceResolution": lambda world, image, reducer, bestEffort=False, maxPixels=64: reduce_resolution(
        image, reducer, maxPixels
    ),
    "Image.projection": projection_of,
    "Image.reproject": to_projection,
    "Projection": lambda world, crs: Grid(crs, Affine.identity()),
    "Image.reduce": lambda world, image, reducer: reduce_bands(image, reducer),
    "Image.remap": lambda world, image, to, defaultValue=None, **given: remap(image, given["from"], to, defaultValue),
    "Image.log10": lambda world, value: pixelwise(lambda v, m: (np.log10(np.where(v > 0, v, 1)), m), value),
    "Image.toFloat": lambda world, value: cast("<f4", value),
    "Image.toByte": lambda world, value: cast("|u1", value),
    "Image.toUint16": lambda world, value: cast("<u2", value),
    "Image.toUint32": lambda world, value: cast("<u4", value),
    "ImageCollection.mosaic": lambda world, collection: mosaic(collection),
    "ImageCollection.reduce": lambda world, collection, reducer: reduce_collection(collection, reducer),
    "Reducer.median": lambda world, maxRaw=None: Reducer("median", maxRaw),
    "Reducer.mean": lambda world: Reducer("mean"),
    "Reducer.min": lambda world: Reducer("min"),
    "Reducer.sum": lambda world: Reducer("sum"),
    "Terrain.slope": lambda world, input: slope(input),
}
for _name, _function in {
    "add": np.add,
    "multiply": np.multiply,
    "eq": np.equal,
    "gt": np.greater,
    "gte": np.greater_equal,
    "bitwiseAnd": lambda a, b: np.bitwise_and(a.astype(np.int64), b.astype(np.int64)),
}.items():
    FUNCTIONS[f"Image.{_name}"] = partial(
        lambda world, image1, image2, function: both(
            lambda a, b: function(a, b).astype(float), as_image(image1), as_image(image2)
        ),
        function=_function,
    )


@dataclass
class Broken:
    """What is answered in place of the right thing."""

    path: str
    """Part of the path of requests that it concerns."""
    status: int
    body: str | bytes
    times: int = 1_000_000
    headers: Mapping[str, str] = field(default_factory=dict)
    mime: str = "application/json"
    after: int = 0
    """How many requests are answered rightly before."""
    cut: bool = False
    """Whether the connection ends after half of the body."""


def error_body(status: int, message: str, kind: str = "", details: Any = None) -> str:
    fault = {"code": status, "message": message, "status": kind or "ERROR", **({"details": details} if details else {})}
    return json.dumps({"error": fault})


@dataclass
class EarthEngineStub:
    """What the server has and remembers."""

    discovery: bytes
    algorithm_list: bytes
    images: list[Stored] = field(default_factory=list)
    collections: set[str] = field(default_factory=set)
    broken: list[Broken] = field(default_factory=list)
    requests: list[tuple[str, Mapping[str, Any], Mapping[str, str]]] = field(default_factory=list)
    called: set[str] = field(default_factory=set)
    most_pixels: int = 2**62
    """More pixels in a request run out of memory."""
    delay: float = 0.0
    """Seconds that a computation takes."""
    gets: list[str] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        listed = json.loads(self.algorithm_list)["algorithms"]
        self.algorithms = {each["name"].removeprefix("algorithms/"): each for each in listed}

    @classmethod
    def of(cls, folder: Path) -> EarthEngineStub:
        return cls(
            (folder / "cloud_api_discovery_document.json").read_bytes(), (folder / "algorithms.json").read_bytes()
        )

    def posted(self, method: str) -> list[Mapping[str, Any]]:
        """Bodies of the requests of a method."""
        return [body for path, body, _ in self.requests if path.endswith(method)]

    def value(self, body: Mapping[str, Any]) -> Any:
        return described(Evaluator(self, body["expression"]).run())

    def pixels(self, body: Mapping[str, Any]) -> bytes:
        given, size = body["grid"]["affineTransform"], body["grid"]["dimensions"]
        affine = Affine(*(given[k] for k in ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")))
        grid = Grid(body["grid"]["crsCode"], affine, size["height"], size["width"])
        image = Evaluator(self, body["expression"]).run()
        kinds = np.dtype(list(zip(image.names, image.kinds(), strict=True)))
        asked = kinds.itemsize * grid.height * grid.width
        if asked > LIMIT:
            raise FaultError(400, f"Total request size ({asked} bytes) must be less than or equal to {LIMIT} bytes.")
        if max(grid.height, grid.width) > SIDE:
            raise FaultError(
                400, f"Pixel grid dimensions ({grid.width}x{grid.height}) must be less than or equal to {SIDE}."
            )
        if grid.height * grid.width > self.most_pixels:
            raise FaultError(400, "User memory limit exceeded.")
        out = np.zeros((grid.height, grid.width), kinds)
        for name, (values, mask) in zip(image.names, image.at(grid), strict=True):
            with np.errstate(all="ignore"):
                out[name] = np.where(mask > 0, values, 0).astype(kinds[name])
        file = io.BytesIO()
        np.save(file, out)
        return file.getvalue()


def described(value: Any) -> Any:
    """A result as JSON."""
    if isinstance(value, list):
        return [described(each) for each in value]
    if isinstance(value, Image):
        assert value.stored is not None
        bands = [_band(name, value.stored.bands[name]) for name in value.names]
        return {"type": "Image", "id": value.stored.id, "bands": bands, "properties": dict(value.stored.properties)}
    return value


def _band(name: str, raster: Raster) -> dict[str, Any]:
    kind = {"type": "PixelType", "precision": "float" if raster.is_float else "int"}
    size = [raster.values.shape[1], raster.values.shape[0]]
    return {
        "id": name, "data_type": kind, "dimensions": size, "crs": raster.crs, "crs_transform": list(raster.affine[:6])
    }  # fmt: skip


def _handler(world: EarthEngineStub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, status: int, body: bytes | str, mime: str = "application/json", **headers: str) -> None:
            content = body.encode() if isinstance(body, str) else body
            self.send_response(status)
            for name, value in {"Content-Type": mime, "Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def refused(self) -> bool:
            with world.lock:
                concerned = [b for b in world.broken if b.path in self.path and b.times > 0]
                fault = next((b for b in concerned if not b.after), None)
                for each in concerned:
                    each.after -= bool(each.after)
                if fault is not None:
                    fault.times -= 1
            if fault is not None and fault.cut:
                self.close_connection = True
                half = len(fault.body) // 2
                self.answer(fault.status, fault.body[:half], fault.mime, **{"Content-Length": str(len(fault.body))})
            elif fault is not None:
                self.answer(fault.status, fault.body, fault.mime, **fault.headers)
            return fault is not None

        def do_GET(self) -> None:
            with world.lock:
                world.gets.append(self.path)
            if self.refused():
                return
            if self.path.startswith("/$discovery"):
                self.answer(200, world.discovery)
            elif "/algorithms" in self.path:
                self.answer(200, world.algorithm_list)
            else:
                self.answer(404, error_body(404, "Not found"))

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.refused():
                return
            if self.path == "/token":
                self.answer(200, json.dumps({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}))
                return
            body = json.loads(content)
            self.path = self.path.partition("?")[0]
            with world.lock:
                world.requests.append((self.path, body, dict(self.headers)))
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                self.answer(401, error_body(401, "Request had invalid authentication credentials.", "UNAUTHENTICATED"))
                return
            with world.lock:
                world.running += 1
                world.most_running = max(world.most_running, world.running)
            time.sleep(world.delay)
            try:
                if self.path.endswith("value:compute"):
                    self.answer(200, json.dumps({"result": world.value(body)}))
                elif self.path.endswith("image:computePixels"):
                    self.answer(200, world.pixels(body), "application/octet-stream")
                else:
                    self.answer(404, error_body(404, f"no method {self.path}"))
            except FaultError as fault:
                self.answer(fault.status, error_body(fault.status, fault.message, "INVALID_ARGUMENT"))
            finally:
                with world.lock:
                    world.running -= 1

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # five, as by default, are too few where many threads connect to a busy machine


@contextmanager
def serving(world: EarthEngineStub) -> Iterator[EarthEngineStub]:
    """Serve on loopback."""
    server = _Server(("127.0.0.1", 0), _handler(world))
    world.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield world
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
