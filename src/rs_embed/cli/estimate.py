"""``estimate``: what a run would cost, before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rs_embed.cli import options as o
from rs_embed.cli.app import app, usage
from rs_embed.cli.embed import BatchSize, Device, Grid, InputPrep, Pooling, Precision
from rs_embed.cli.printing import counted, note, print_json, print_table, say_size
from rs_embed.cli.sources import Where, regions

if TYPE_CHECKING:
    from rs_embed.inference.estimate import Estimate

__all__: list[str] = []

SHOWN = 5
"""Failed regions that are listed."""

EXAMPLES = """\b
Examples:
  rs-embed estimate galileo --regions fields.gpkg --time 2022 --calibrate
  rs-embed estimate rcf --bbox 11.4 47.4 11.5 47.5 --time 2022-07 --backend synthetic
"""


@app.command("estimate", epilog=EXAMPLES)
def estimate_command(
    model: o.ModelName,
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
    modality: o.Modality = None,
    variant: o.VariantName = None,
    option: o.Pairs = None,
    grid: Grid = False,
    pooling: Pooling = None,
    input_prep: InputPrep = "resize",
    device: Device = "auto",
    batch_size: BatchSize = None,
    precision: Precision = "float32",
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Time the net for a few seconds, with random weights.")
    ] = False,
    bandwidth: Annotated[
        float | None, typer.Option("--bandwidth", metavar="MB/S", help="Rate at which imagery arrives [by backend].")
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Tell what an embed of the same options would find, read, run and write; no pixel is read.

    Exit code 1 where a region would have no embedding.
    """
    if grid and pooling is not None:
        usage("give one of --grid and --pooling")
    columns = {"id": id_column, "lon": lon, "lat": lat, "layer": layer, "time_col": time_col}
    where = Where(point, bbox, buffer, regions_file, columns, time, years)
    settings: dict[str, Any] = {
        "device": device,
        "input_prep": input_prep,
        "precision": precision,
        "batch_size": batch_size,
    }
    settings |= {"modality": modality, "calibrate": calibrate, "bandwidth_mb_s": bandwidth}
    settings |= o.model_options(option, variant)
    pixels = o.Pixels(collection, o.bands_of(bands), scale, cloudy, composite, None, backend, no_cache)
    found = _estimated(model, where, pixels, "grid" if grid else pooling or "mean", settings)
    print_json(found.to_dict()) if as_json else _show(found)
    if found.no_imagery or found.failed:
        raise typer.Exit(1)


def _estimated(model: str, where: Where, pixels: o.Pixels, output: str, settings: Mapping[str, Any]) -> Estimate:
    from rs_embed.core.registry import get_spec
    from rs_embed.core.specs import OutputSpec
    from rs_embed.estimation import estimate

    sensor, fetch = pixels.of(get_spec(model))
    found, span = regions(where)
    return estimate(
        model,
        spatials=found,
        temporal=span,
        sensor=sensor,
        fetch=fetch,
        output=OutputSpec.grid() if output == "grid" else OutputSpec.pooled(output),
        backend=o.source_of(pixels.backend, no_cache=pixels.no_cache, model=model),
        **settings,
    )


def _show(found: Estimate) -> None:
    """Print an estimate for people."""
    typer.secho(f"{found.model} {found.variant} on {found.device}, imagery from {found.backend}", bold=True)
    if found.intervals:
        titles = ("scenes", "least cloud", "median cloud", "regions without")
        print_table(("input", "from", "to", *titles), map(_interval_row, found.intervals), right=titles)
    elif found.intervals is None:
        typer.echo("scenes unknown: the backend does not tell them before it loads them")
    print_table(("", ""), _rows(found))
    _show_faults(found)
    for said in found.assumptions:
        typer.secho(said, dim=True)
    for said in found.missing:
        note(f"missing: {said}")


def _interval_row(each: Any) -> list[str]:
    clouds = ["-" if cloud is None else f"{cloud:.3g} %" for cloud in (each.cloud_min, each.cloud_median)]
    without = f"{each.empty_regions} of {each.regions}" if each.empty_regions else "none"
    return [each.input, each.start, each.end, str(len(each.scenes)), *clouds, without]


def _rows(found: Estimate) -> list[list[str]]:
    """Return what is added up, line by line."""
    passes = counted(found.forwards, "forward pass") if found.forwards == 1 else f"{found.forwards} forward passes"
    each = "" if found.output_shape is None else f" ({' x '.join(map(str, found.output_shape))} a region)"
    weights = found.weights + (f", {say_size(found.weights_bytes)}" if found.weights_bytes != 0 else "")
    rows = [
        ["regions", str(found.regions)],
        ["windows", f"{found.windows} in {passes} of at most {found.batch_size}"],
        ["to read", say_size(found.read_bytes)],
        ["weights", weights],
        ["output", say_size(found.output_bytes) + each],
        ["as a file", ", ".join(f"{suffix} about {say_size(size)}" for suffix, size in found.files.items()) or "-"],
        ["time", _times(found.seconds)],
    ]
    lacking = [
        f"{band} of {name} in {counted(count, 'region')}"
        for name, bands in found.missing_bands.items()
        for band, count in bands.items()
    ]
    return [*rows, ["bands missing", "; ".join(lacking)]] if lacking else rows


def _times(seconds: Mapping[str, float | None]) -> str:
    parts = ", ".join(f"{what} {_duration(took)}" for what, took in seconds.items() if what != "total" and took)
    total = seconds["total"]
    if total is not None:
        return f"about {_duration(total)} ({parts})"
    return f"{parts}; the net's is unknown: --calibrate" if seconds["encode"] is None else parts


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _show_faults(found: Estimate) -> None:
    """List the first regions that would have no embedding."""
    faults = sorted((*found.no_imagery, *found.failed), key=lambda each: each.index)
    for each in faults[:SHOWN]:
        typer.secho(f"region {each.index if each.id is None else each.id}: {each.message}", fg="yellow")
    if len(faults) > SHOWN:
        typer.secho(f"and {len(faults) - SHOWN} more regions would have no embedding", fg="yellow")
