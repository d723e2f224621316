"""``rs-embed demo``: the main job on a painted landscape, without a download, an account or torch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.api import get_embedding, get_embeddings_batch
from rs_embed.core.embedding import Embedding
from rs_embed.core.specs import OutputSpec, PointBuffer, SensorSpec, TemporalSpec
from rs_embed.inspection import inspect_provider_patch
from rs_embed.store.files import save

__all__ = ["PLACE", "run_demo"]

PLACE = (11.457, 47.442)
"""Centre of the picture, degrees."""
HALF_M = 2560.0
"""Half its side, metres."""
SPRING = TemporalSpec.range("2022-04-15", "2022-06-01")
SUMMER = TemporalSpec.range("2022-07-15", "2022-09-01")
OPTIONS: dict[str, Any] = {"features": 256}
CELL = 3
"""Pixels along a side of a cell of the grid."""

Picture = NDArray[np.uint8]


def _neighbours() -> list[PointBuffer]:
    """Nine squares of 1 km, 1.5 km apart."""
    lon, lat = PLACE
    steps = (-1, 0, 1)
    return [PointBuffer(lon + 0.02 * i, lat + 0.0135 * j, 500) for j in steps for i in steps]


def _true_colour(area: PointBuffer) -> Picture:
    """Return red, green and blue as grey levels ``(H, W, 3)``: reflectance 0 to 0.25, brightened in the dark."""
    sensor = SensorSpec("COPERNICUS/S2_SR_HARMONIZED", ("B4", "B3", "B2"))
    patch = inspect_provider_patch(
        spatial=area, temporal=SUMMER, sensor=sensor, backend="synthetic", return_array=True
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


def _mark(side: int) -> tuple[int, int]:
    """Row and column of the marked place, on the river."""
    return int(side * 0.42), int(side * 0.38)


def _enlarge(picture: Picture, side: int) -> Picture:
    """Return the picture with square cells, ``side`` pixels wide."""
    rows = np.arange(side) * picture.shape[0] // side
    return np.ascontiguousarray(picture[np.ix_(rows, rows)])


def _similarity(grid: Embedding, row: int, col: int) -> Picture:
    """Return the cosine similarity to the cells around one, less the mean cell, from dark blue to yellow."""
    values = grid.values()
    centred = values - np.nanmean(values, axis=(1, 2), keepdims=True)
    near = centred[:, row - 1 : row + 2, col - 1 : col + 2].mean((1, 2))
    score = np.tensordot(near, centred, 1) / (np.linalg.norm(near) * np.linalg.norm(centred, axis=0) + 1e-9)
    stops = np.array([[13, 8, 60], [70, 30, 120], [190, 55, 85], [250, 150, 60], [252, 250, 160]], np.float64)
    place = np.clip((score + 0.4) / 1.4, 0, 1) * (len(stops) - 1)
    colours = [np.interp(place, range(len(stops)), stops[:, c]) for c in range(3)]
    return np.stack(colours, -1).astype(np.uint8)


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


def _table(spring: list[Embedding], summer: list[Embedding]) -> None:
    """Print how much each place changes from spring to summer."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="rcf on the painted landscape", title_justify="left", box=None, pad_edge=False)
    for column in ("place", "lon", "lat", "scenes", "clear", "spring ~ summer"):
        table.add_column(column, justify="left" if column == "place" else "right")
    for a, b in zip(spring, summer, strict=True):
        lon, lat = a.meta["center"]
        scenes = len(a.meta["scenes"]["s2"]) + len(b.meta["scenes"]["s2"])
        clear = (a.meta["clear_fraction"] + b.meta["clear_fraction"]) / 2
        alike = float(a.similarity(b.values()))
        table.add_row(str(a.id), f"{lon:.3f}", f"{lat:.3f}", str(scenes), f"{clear:.0%}", f"{alike:.3f}")
    Console().print(table)


def run_demo(folder: Path) -> None:
    """Embed nine places at two dates and one larger area as a grid; leave a table, a raster and a picture.

    Parameters
    ----------
    folder
        Gets ``embeddings.parquet``, ``grid.tif`` and ``picture.png``; files of an earlier run are replaced.
    """
    start = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    places = _neighbours()
    seasons = []
    for name, span in (("spring", SPRING), ("summer", SUMMER)):
        found = get_embeddings_batch("rcf", spatials=places, temporal=span, backend="synthetic", **OPTIONS)
        for number, embedding in enumerate(found):
            embedding.meta["id"] = f"place-{number + 1}-{name}"
        seasons.append(found)
    _table(*seasons)
    save([*seasons[0], *seasons[1]], folder / "embeddings.parquet", overwrite=True)
    area = PointBuffer(*PLACE, HALF_M)
    grid = get_embedding(
        "rcf", spatial=area, temporal=SUMMER, backend="synthetic", output=OutputSpec.grid(), cell=CELL, **OPTIONS
    )
    save(grid, folder / "grid.tif", overwrite=True)
    colour = _true_colour(area)
    side, evened = colour.shape[0], _evened(grid)
    panels = [
        ("true colour", colour),
        ("embedding: first three components", _enlarge(_components(evened), side)),
        ("similarity to the marked place", _enlarge(_similarity(evened, *_mark(grid.shape[1])), side)),
    ]
    _draw(panels, _mark(side), folder / "picture.png")
    print(
        f"{len(places) * 2} vectors of {seasons[0][0].dim} numbers in embeddings.parquet, a grid of "
        f"{' x '.join(map(str, grid.shape))} in grid.tif, and picture.png, all in {folder}/ "
        f"({time.perf_counter() - start:.1f} s)"
    )
