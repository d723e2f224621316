"""``embed``: from places, tables or files to vectors and grids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rs_embed.cli import options as o
from rs_embed.cli.app import app, usage
from rs_embed.cli.sinks import Target, tracked, write
from rs_embed.cli.sources import Where, check_rasters, rasters, regions

if TYPE_CHECKING:
    from rs_embed.core.embedding import Embedding

__all__: list[str] = []

Files = Annotated[
    list[str] | None, typer.Argument(metavar="FILE", help="Rasters of your own; - is a table on standard input.")
]
Grid = Annotated[bool, typer.Option("--grid", help="A georeferenced grid instead of one vector.")]
Pooling = Annotated[
    str | None,
    typer.Option(
        "--pooling",
        metavar="HOW",
        help="mean (the model's own feature), cells, max, std, stats or gem [mean].",
        autocompletion=o.words("mean", "cells", "max", "std", "stats", "gem"),
    ),
]
Pca = Annotated[
    int | None, typer.Option("--pca", metavar="N", min=1, help="First N components of the grids, of one basis for all.")
]
InputPrep = Annotated[
    str,
    typer.Option(
        "--input-prep",
        metavar="MODE",
        help="resize (one window), tile (windows at the native resolution) or auto.",
        autocompletion=o.words("resize", "tile", "auto"),
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="D",
        help="auto, cpu, cuda or a torch device.",
        autocompletion=o.words("auto", "cpu", "cuda"),
    ),
]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", metavar="N", min=1, help="Windows of one forward pass [by device].")
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="TYPE",
        help="float32, bfloat16 or float16.",
        autocompletion=o.words("float32", "bfloat16", "float16"),
    ),
]
OnError = Annotated[
    str,
    typer.Option(
        "--on-error",
        metavar="HOW",
        help="raise leaves failed regions out, return writes them as NaN with the reason; exit code 1 either way.",
        autocompletion=o.words("raise", "return"),
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--out",
        metavar="OUT",
        help="A .npy, .npz, .parquet, .tif or .nc file, or a folder of GeoTIFFs named by id; without it, JSON lines.",
    ),
]


EXAMPLES = """\b
Examples:
  rs-embed embed rcf --point 11.46 47.44 --time 2022-07 --backend synthetic
  rs-embed embed galileo --regions fields.gpkg --years 2018-2024 -o f.parquet
  rs-embed embed rcf --bbox 11.4 47.4 11.5 47.5 --time 2022 --grid -o g.tif
  rs-embed embed remoteclip scenes/*.tif --collection s2 -o scenes.npz
  cat points.csv | rs-embed embed rcf - --buffer 320 --time 2022 > p.jsonl
"""


@app.command("embed", epilog=EXAMPLES)
def embed(
    model: o.ModelName,
    files: Files = None,
    point: o.Point = None,
    bbox: o.Box = None,
    buffer: o.Buffer = None,
    regions_file: o.Regions = None,
    id_column: o.IdColumn = None,
    lon: o.LonColumn = None,
    lat: o.LatColumn = None,
    layer: o.Layer = None,
    time: o.Time = None,
    time_col: o.TimeColumn = None,
    years: o.Years = None,
    backend: o.Backend = None,
    no_cache: o.NoCache = False,
    collection: o.Collection = None,
    bands: o.Bands = None,
    scale: o.Scale = None,
    cloudy: o.Cloudy = None,
    composite: o.Composite = None,
    units: o.Units = None,
    modality: o.Modality = None,
    variant: o.VariantName = None,
    option: o.Pairs = None,
    grid: Grid = False,
    pooling: Pooling = None,
    pca: Pca = None,
    input_prep: InputPrep = "resize",
    device: Device = "auto",
    batch_size: BatchSize = None,
    precision: Precision = "float32",
    on_error: OnError = "raise",
    out: Out = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> None:
    """Turn places and times, or rasters of your own, into embeddings."""
    target = Target(out, grid, pca, on_error == "return", overwrite)
    _check(target, pooling, on_error)
    columns = {"id": id_column, "lon": lon, "lat": lat, "layer": layer, "time_col": time_col}
    where = Where(point, bbox, buffer, regions_file, columns, time, years).with_files(files or [])
    settings = {"device": device, "input_prep": input_prep, "precision": precision, "batch_size": batch_size}
    settings |= {"modality": modality, "output": _output(grid, pooling)}
    settings |= o.model_options(option, variant)
    pixels = o.Pixels(collection, o.bands_of(bands), scale, cloudy, composite, units, backend, no_cache)
    work = (_own if where.files else _places)(model, where, pixels, settings)
    inputs = [*where.files, *([regions_file] if regions_file else [])]
    if _run(work, target, inputs):
        raise typer.Exit(1)


def _check(target: Target, pooling: str | None, on_error: str) -> None:
    if on_error not in ("raise", "return"):
        usage(f"--on-error {on_error!r} is not known; accepted: raise, return")
    if target.grid and pooling is not None:
        usage("give one of --grid and --pooling")
    target.check()


def _output(grid: bool, pooling: str | None) -> Any:
    from rs_embed.core.specs import OutputSpec

    return OutputSpec.grid() if grid else OutputSpec.pooled(pooling or "mean")


@dataclass(frozen=True)
class _Work:
    """Regions to embed, not begun."""

    ids: Sequence[Any]
    single: bool
    """Whether it can only ever be one region."""
    start: Callable[[], Iterator[Embedding]]
    """One embedding a region; a failed one says why in ``meta["error"]``."""


def _places(model: str, where: Where, pixels: o.Pixels, settings: dict[str, Any]) -> _Work:
    """Return the work over imagery of a backend."""
    from rs_embed.api import iter_embeddings
    from rs_embed.core.region_table import Regions
    from rs_embed.core.registry import get_spec

    if pixels.units is not None:
        usage("--units is of files of your own")
    spec = get_spec(model)
    sensor, fetch = pixels.of(spec)
    found, span = regions(where)
    start = partial(
        iter_embeddings,
        model,
        spatials=found,
        temporal=span,
        sensor=sensor,
        fetch=fetch,
        backend=o.source_of(pixels.backend, no_cache=pixels.no_cache, model=model),
        on_error="return",
        show_progress=False,
        **settings,
    )
    if isinstance(found, Regions):
        return _Work(found.ids or range(len(found)), False, start)
    return _Work([None], True, start)


def _own(model: str, where: Where, pixels: o.Pixels, settings: dict[str, Any]) -> _Work:
    """Return the work over rasters of one's own."""
    from rs_embed.core.registry import get_spec
    from rs_embed.core.sensors import find_sensor

    useless = [*where.places(), *pixels.fetching()]
    paths = check_rasters(where.files, pixels.collection, useless)
    get_spec(model)
    find_sensor(str(pixels.collection))
    about = {
        "collection": pixels.collection,
        "bands": pixels.bands,
        "temporal": o.span_of(where.time),
        "units": pixels.units,
    }
    ids = [path.stem for path in paths]
    return _Work(ids, len(ids) == 1, partial(rasters, model, paths, about, settings))


def _run(work: _Work, target: Target, inputs: Sequence[str]) -> int:
    """Do the work and write what comes; return how many regions failed."""
    total = len(work.ids)
    results = work.start()  # tells what is wrong with the call, and waits to be asked
    target.check_files(work.ids, single=work.single, inputs=inputs)
    with closing(results), tracked(results, total, target) as followed:  # type: ignore[type-var]
        return write(followed, target, total, single=work.single)
