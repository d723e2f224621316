"""``rs-embed demo``: the main job on a painted landscape, without a download, an account or torch."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from rs_embed.api import get_embedding, get_embeddings_batch
from rs_embed.core.embedding import Embedding
from rs_embed.core.errors import BatchError, NoImageryError, SpecError
from rs_embed.core.specs import OutputSpec, PointBuffer, SensorSpec, TemporalSpec
from rs_embed.inspection import inspect_provider_patch
from rs_embed.store.files import save

if TYPE_CHECKING:
    from rs_embed.providers.base import Provider

__all__ = ["HALF_M", "PLACE", "run_demo", "run_demo_at"]

PLACE = (11.457, 47.442)
"""Centre of the picture, degrees."""
HALF_M = 2560.0
"""Half its side, metres."""
SPRING = TemporalSpec.range("2022-04-15", "2022-06-01")
SUMMER = TemporalSpec.range("2022-07-15", "2022-09-01")
OPTIONS: dict[str, Any] = {"features": 256}
CELL, CELL_REAL = 3, 8
"""Pixels along a side of a cell of the grid; real pixels are noisier."""

PIXELS = 512
"""Pixels along a side of the picture; of less than 10 m there are none."""
COLLECTION = "COPERNICUS/S2_SR_HARMONIZED"
BANDS = ("B2", "B3", "B4", "B8")
"""Of a real place: those of 10 m, which every catalogue of Sentinel-2 has."""
KM = 0.009
"""Degrees of latitude in a kilometre."""

LARGEST_M = 100_000.0
"""Half the side of the largest picture, metres: the maps are of one zone."""
EARTH_M = 6_371_000.0
"""Mean radius, metres."""

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class _Tour:
    """What is shown."""

    title: str
    centre: tuple[float, float]
    half_m: float
    backend: str | Provider
    seasons: Mapping[str, TemporalSpec]
    """By name; the picture is of the last one."""
    bands: tuple[str, ...] | None
    """Of the model; ``None``: all that it takes."""
    cell: int
    mark: tuple[float, float]
    """What the rest is compared with, as shares of the picture's height and width."""

    @property
    def area(self) -> PointBuffer:
        """The square of the picture."""
        return PointBuffer(*self.centre, self.half_m)

    @property
    def span(self) -> TemporalSpec:
        """When the picture is of."""
        return list(self.seasons.values())[-1]

    def sensor(self, bands: tuple[str, ...]) -> SensorSpec:
        """Return Sentinel-2 at the picture's scale."""
        return SensorSpec(COLLECTION, bands, scale_m=max(10.0, 2 * self.half_m / PIXELS))

    def settings(self) -> dict[str, Any]:
        """Return what all calls of the model share."""
        sensor = None if self.bands is None else self.sensor(self.bands)
        return {"sensor": sensor, "backend": self.backend, **OPTIONS}


def _neighbours(tour: _Tour) -> list[PointBuffer]:
    """Nine squares around the centre: of 1 km, 1.5 km apart, in a picture of 5 km."""
    lon, lat = tour.centre
    up = 1.5 * KM * tour.half_m / HALF_M
    right = round(up / max(math.cos(math.radians(lat)), 0.05), 3)
    half, steps = 500 * tour.half_m / HALF_M, (-1, 0, 1)
    return [PointBuffer(_wrapped(lon + right * i), lat + up * j, half) for j in steps for i in steps]


def _wrapped(lon: float) -> float:
    """Return a longitude from -180 to 180."""
    return lon if -180 <= lon <= 180 else (lon + 180) % 360 - 180


def _true_colour(tour: _Tour) -> Picture:
    """Return red, green and blue as grey levels ``(H, W, 3)``: reflectance 0 to 0.25, brightened in the dark."""
    patch = inspect_provider_patch(
        spatial=tour.area,
        temporal=tour.span,
        sensor=tour.sensor(("B4", "B3", "B2")),
        backend=tour.backend,
        return_array=True,
    )["array_chw"]
    level = np.clip(patch / 2500.0, 0, 1) ** 0.7
    return np.moveaxis((level * 255).astype(np.uint8), 0, -1)


def _components(grid: Embedding) -> Picture:
    """Return the first three principal components as colours, stretched between the 1st and 99th percentile."""
    found, _ = grid.pca(3)
    low, high = np.nanquantile(found, [0.01, 0.99], axis=(1, 2))
    level = 0.08 + 0.84 * np.clip((found - low[:, None, None]) / (high - low)[:, None, None], 0, 1)
    return np.moveaxis((np.nan_to_num(level) * 255).astype(np.uint8), 0, -1)


def _evened(grid: Embedding) -> Embedding:
    """Return the square root of a grid of rectified responses, which evens out their spread for the eye."""
    return Embedding(np.sqrt(grid.values()), grid.meta)


def _mark(grid: Embedding, share: tuple[float, float]) -> tuple[int, int]:
    """Row and column of the marked cell: the nearest to its place whose neighbours are known too."""
    known = np.isfinite(grid.values()).all(0)
    rows, cols = np.nonzero(sliding_window_view(known, (3, 3)).all((2, 3)))
    if not rows.size:
        raise NoImageryError("too little of the place is clear for a picture; choose a longer or another --time")
    wanted = [int(share[i] * known.shape[i]) - 1 for i in (0, 1)]
    nearest = int(np.argmin((rows - wanted[0]) ** 2 + (cols - wanted[1]) ** 2))
    return int(rows[nearest]) + 1, int(cols[nearest]) + 1


def _enlarge(picture: Picture, side: int) -> Picture:
    """Return the picture with square cells, ``side`` pixels high and wide."""
    rows, cols = (np.arange(side) * length // side for length in picture.shape[:2])
    return np.ascontiguousarray(picture[np.ix_(rows, cols)])


def _similarity(grid: Embedding, row: int, col: int) -> Picture:
    """Return the cosine similarity to the cells around one, less the mean cell, from dark blue to yellow."""
    values = grid.values()
    centred = values - np.nanmean(values, axis=(1, 2), keepdims=True)
    near = centred[:, row - 1 : row + 2, col - 1 : col + 2].mean((1, 2))
    score = np.tensordot(near, centred, 1) / (np.linalg.norm(near) * np.linalg.norm(centred, axis=0) + 1e-9)
    stops = np.array([[13, 8, 60], [70, 30, 120], [190, 55, 85], [250, 150, 60], [252, 250, 160]], np.float64)
    place = np.clip((np.nan_to_num(score, nan=-1.0) + 0.4) / 1.4, 0, 1) * (len(stops) - 1)
    colours = np.stack([np.interp(place, range(len(stops)), stops[:, c]) for c in range(3)], -1)
    return np.where(np.isfinite(score)[..., None], colours, 0).astype(np.uint8)


def _draw(panels: list[tuple[str, Picture]], mark: tuple[int, int], path: Path) -> None:
    """Set panels side by side under their titles, with the marked place as a ring."""
    from PIL import Image, ImageDraw, ImageFont

    side, gap, head = panels[0][1].shape[0], 16, 44
    canvas = Image.new("RGB", (len(panels) * (side + gap) + gap, side + head + gap), (250, 250, 248))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=20)
    for i, (title, picture) in enumerate(panels):
        left = gap + i * (side + gap)
        canvas.paste(Image.fromarray(picture), (left, head))
        pen.text((left, 12), title, font=font, fill=(40, 40, 40))
        x, y = left + mark[1], head + mark[0]
        pen.ellipse((x - 9, y - 9, x + 9, y + 9), outline=(255, 255, 255), width=3)
        pen.ellipse((x - 11, y - 11, x + 11, y + 11), outline=(20, 20, 20), width=1)
    canvas.save(path)


def _table(title: str, seasons: Mapping[str, Sequence[Embedding]]) -> None:
    """Print how much each place changes between two seasons, or how much it is like the one in the middle."""
    from rich.console import Console
    from rich.table import Table

    found = list(seasons.values())
    first, last = found[0], found[-1]
    change = len(seasons) > 1
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("place", "lon", "lat", "scenes", "clear", " ~ ".join(seasons) if change else "~ place-5"):
        table.add_column(column, justify="left" if column == "place" else "right")
    for a, b in zip(first, last, strict=True):
        lon, lat = a.meta["center"]
        each = [a, b] if change else [a]
        scenes = sum(len(one.meta["scenes"]["s2"]) for one in each)
        clear = sum(one.meta["clear_fraction"] for one in each) / len(each)
        alike = float(a.similarity(b.values())) if change else _alike(a, first)
        table.add_row(str(a.id), f"{lon:.3f}", f"{lat:.3f}", str(scenes), f"{clear:.0%}", f"{alike:.3f}")
    Console().print(table)


def _alike(one: Embedding, places: Sequence[Embedding]) -> float:
    """Return the cosine similarity of a place and the one in the middle, both less the mean place."""
    mean = np.mean([place.values() for place in places], axis=0)
    a, b = one.values() - mean, places[len(places) // 2].values() - mean
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-9))


def run_demo(folder: Path) -> None:
    """Embed nine painted places at two dates and one larger area as a grid; leave a table, a raster and a picture.

    Parameters
    ----------
    folder
        Gets ``embeddings.parquet``, ``grid.tif`` and ``picture.png``; files of an earlier run are replaced.
    """
    seasons = {"spring": SPRING, "summer": SUMMER}
    _show(_Tour("rcf on the painted landscape", PLACE, HALF_M, "synthetic", seasons, None, CELL, (0.42, 0.38)), folder)


def run_demo_at(
    folder: Path,
    place: tuple[float, float],
    *,
    temporal: TemporalSpec | None = None,
    backend: str | Provider = "auto",
    half_m: float = HALF_M,
) -> None:
    """Do the same at a real place, at one time: the rest of the picture is compared with its middle.

    Parameters
    ----------
    folder
        As for `run_demo`.
    place
        Longitude and latitude of the middle, degrees.
    temporal
        ``None``: the painted landscape's summer.
    backend
        As for `get_embedding`.
    half_m
        Half the side of the picture, metres; of more than 2560 pixels are coarser than 10 m.

    Raises
    ------
    SpecError
        If the place or the size cannot be meant.
    ProviderError
        If there is no imagery, or it cannot be reached; nothing is written then.
    """
    lon, lat = place
    PointBuffer(lon, lat, half_m)  # says what else is wrong
    if half_m > LARGEST_M or abs(lat) + math.degrees(half_m / EARTH_M) > 90:
        raise SpecError(
            f"--buffer {half_m:g} around --place {lon:g} {lat:g} is too large: at most {LARGEST_M:g} m, not over a pole"
        )
    tour = _Tour(
        f"rcf at {place[0]:g} {place[1]:g}",
        place,
        half_m,
        backend,
        {"": temporal or SUMMER},
        BANDS,
        CELL_REAL,
        (0.5, 0.5),
    )
    _show(tour, folder)


def _embedded(places: Sequence[PointBuffer], span: TemporalSpec, tour: _Tour) -> list[Embedding]:
    """Return the vectors of the places; of those that have none the first says why."""
    try:
        return get_embeddings_batch("rcf", spatials=places, temporal=span, **tour.settings())
    except BatchError as error:
        raise error.errors[min(error.errors)] from error


def _show(tour: _Tour, folder: Path) -> None:
    """Embed, print and draw a tour."""
    start = time.perf_counter()
    places, seasons = _neighbours(tour), {}
    for name, span in tour.seasons.items():
        seasons[name] = _embedded(places, span, tour)
        for number, embedding in enumerate(seasons[name]):
            embedding.meta["id"] = f"place-{number + 1}-{name}".rstrip("-")
    output = OutputSpec.grid()
    grid = get_embedding("rcf", spatial=tour.area, temporal=tour.span, output=output, cell=tour.cell, **tour.settings())
    evened = _evened(grid)
    mark = _mark(grid, tour.mark)
    colour = _true_colour(tour)
    side = colour.shape[0]
    folder.mkdir(parents=True, exist_ok=True)
    _table(tour.title, seasons)
    vectors = [embedding for found in seasons.values() for embedding in found]
    save(vectors, folder / "embeddings.parquet", overwrite=True)
    save(grid, folder / "grid.tif", overwrite=True)
    panels = [
        ("true colour", _enlarge(colour, side)),
        ("embedding: first three components", _enlarge(_components(evened), side)),
        ("similarity to the marked place", _enlarge(_similarity(evened, *mark), side)),
    ]
    rows, cols = grid.shape[1:]
    ring = int((mark[0] + 0.5) * side / rows), int((mark[1] + 0.5) * side / cols)
    _draw(panels, ring, folder / "picture.png")
    print(
        f"{len(vectors)} vectors of {vectors[0].dim} numbers in embeddings.parquet, a grid of "
        f"{' x '.join(map(str, grid.shape))} in grid.tif, and picture.png, all in {folder}/ "
        f"({time.perf_counter() - start:.1f} s)"
    )
