"""The command line: parsing and printing only."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rs_embed import __version__
from rs_embed.core.errors import RSEmbedError, SpecError

__all__ = ["app", "main"]

app = typer.Typer(
    name="rs-embed",
    help="One call turns a place and a time into an embedding of any remote-sensing foundation model.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help starts in half the time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_state = {"debug": False}


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold what all commands share."""
    _state["debug"] = debug


@app.command("models")
def models(
    aliases: Annotated[bool, typer.Option("--aliases", help="Also list other names of models.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models with what they take and give."""
    from rs_embed.core.describe import describe
    from rs_embed.core.registry import get_spec, list_models

    names = list_models(include_aliases=aliases)
    facts = {name: describe(get_spec(name)) for name in names}
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("model", "variants", "inputs", "frames", "pooled", "grid", "licence of the weights"):
        table.add_column(column)
    for name, fact in facts.items():
        first = next(iter(fact["inputs"].values()))
        dims = {key: " ".join(str(v["dims"][key]) for v in fact["variants"].values()) for key in ("pooled", "grid")}
        inputs = " + ".join(fact["inputs"])
        frames = str(first["frames"]["max"])
        table.add_row(
            name, " ".join(fact["variants"]), inputs, frames, dims["pooled"], dims["grid"], fact["license"]["weights"]
        )
    Console().print(table)


@app.command("describe")
def describe_command(
    model: Annotated[str, typer.Argument(help="A model id or alias.")],
    cite: Annotated[bool, typer.Option("--cite", help="Print the BibTeX entry only.")] = False,
) -> None:
    """Print the static facts of a model as JSON."""
    from rs_embed.core.describe import describe
    from rs_embed.core.registry import get_spec

    facts = describe(get_spec(model))
    typer.echo(facts["citation"] if cite else json.dumps(facts, indent=2))


def _options(pairs: list[str]) -> dict[str, Any]:
    """Return ``K=V`` pairs; values are read as JSON where they are JSON."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise SpecError(f"--option {pair!r} must be NAME=VALUE")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def _geojson(path: Path) -> tuple[list[Any], list[Any]]:
    """Return the geometries and ids of a GeoJSON file (``-``: standard input)."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        content = json.loads(text)
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise SpecError(f"{path}: is not JSON ({error})") from error
    features = content.get("features") if isinstance(content, dict) else None
    features = features if features is not None else [content]
    if not features:
        raise SpecError(f"{path}: holds no region")
    ids = [f.get("id", (f.get("properties") or {}).get("id", i)) for i, f in enumerate(features)]
    return features, ids


def _regions(
    point: tuple[float, float] | None,
    buffer: float,
    bbox: tuple[float, float, float, float] | None,
    regions: Path | None,
) -> tuple[list[Any], list[Any]]:
    from rs_embed.core.specs import BBox, PointBuffer

    given = [name for name, value in (("--point", point), ("--bbox", bbox), ("--regions", regions)) if value]
    if len(given) != 1:
        raise SpecError(f"give one of --point, --bbox and --regions, got {' and '.join(given) or 'none'}")
    if point:
        return [PointBuffer(point[0], point[1], buffer)], [None]
    if bbox:
        return [BBox(*bbox)], [None]
    assert regions is not None
    return _geojson(regions)


def _write(embeddings: list[Any], spatials: list[Any], out: Path) -> None:
    from rs_embed.core.geometry import locate
    from rs_embed.core.specs import norm_spatial
    from rs_embed.store.files import write_geotiff, write_npy, write_parquet

    suffix = out.suffix.lower()
    if suffix == ".parquet":
        shapes = [locate(norm_spatial(s)).footprint for s in spatials]
        write_parquet(embeddings, shapes, out)
        return
    if len(embeddings) != 1:
        raise SpecError(f"{out.name} holds one region, and there are {len(embeddings)}; write a .parquet")
    (write_npy if suffix == ".npy" else write_geotiff)(embeddings[0], out)


def _check_out(out: Path, *, grid: bool, overwrite: bool) -> None:
    """Say before any work what cannot be written."""
    from rs_embed.store.files import check_target

    check_target(out, overwrite=overwrite)
    if out.suffix.lower() in (".tif", ".tiff") and not grid:
        raise SpecError(f"{out.name}: a GeoTIFF holds a grid; add --grid")
    if out.suffix.lower() == ".parquet" and grid:
        raise SpecError(f"{out.name}: a table holds vectors; leave --grid out, or write a .tif")


@app.command("embed")
def embed(
    model: Annotated[str, typer.Argument(help="A model id or alias.")],
    point: Annotated[
        tuple[float, float] | None, typer.Option("--point", metavar="LON LAT", help="Centre, degrees.")
    ] = None,
    buffer: Annotated[float, typer.Option("--buffer", help="Half the side of the square at --point, metres.")] = 640.0,
    bbox: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option("--bbox", metavar="MINLON MINLAT MAXLON MAXLAT", help="A box, degrees."),
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option("--regions", help="A GeoJSON file of polygons; - is standard input."),
    ] = None,
    time: Annotated[
        str, typer.Option("--time", help="2022, 2022-06 or 2022-06-01/2022-09-01 (end excluded).")
    ] = "2022-06-01/2022-09-01",
    backend: Annotated[
        str, typer.Option("--backend", help="auto, gee, synthetic, or the path of a catalogue or folder of rasters.")
    ] = "auto",
    modality: Annotated[str | None, typer.Option("--modality", help="Which input of a model with several.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="A model's own option; repeatable.")
    ] = None,
    grid: Annotated[bool, typer.Option("--grid", help="A georeferenced grid instead of one vector.")] = False,
    pooling: Annotated[str, typer.Option("--pooling", help="mean, cells, max, std, stats or gem.")] = "mean",
    input_prep: Annotated[str, typer.Option("--input-prep", help="resize, tile or auto.")] = "resize",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or a torch device.")] = "auto",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="A .npy, .tif or .parquet file; without it, JSON lines are printed."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
) -> None:
    """Embed a point, a box or the polygons of a GeoJSON file."""
    from rs_embed.api import get_embeddings_batch
    from rs_embed.core.specs import OutputSpec, TemporalSpec

    spatials, ids = _regions(point, buffer, bbox, regions)
    if out is not None:
        _check_out(out, grid=grid, overwrite=overwrite)
    embeddings = get_embeddings_batch(
        model,
        spatials=spatials,
        temporal=TemporalSpec.parse(time),
        backend=backend,
        modality=modality,
        output=OutputSpec.grid() if grid else OutputSpec.pooled(pooling),
        input_prep=input_prep,
        device=device,
        **_options(option or []),
    )
    for found, name in zip(embeddings, ids, strict=True):
        found.meta["id"] = name
    if out is not None:
        _write(embeddings, spatials, out)
        return
    for found in embeddings:
        typer.echo(json.dumps({"id": found.id, "embedding": found.values().tolist(), "meta": found.meta}))


@app.command("verify")
def verify_command(
    names: Annotated[list[str] | None, typer.Argument(help="Models; without any, all.", metavar="[MODEL]...")] = None,
    case: Annotated[str | None, typer.Option("--case", help="Only cases that match, such as '*s2*'.")] = None,
    golden: Annotated[Path | None, typer.Option("--golden", help="Folder of golden files.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check nets and preprocessing against numbers that the authors' own code computed."""
    from rs_embed.inference.verify import records, verify

    rows = verify(names or None, case=case, golden=golden)
    if as_json:
        typer.echo(json.dumps(records(rows), indent=1))
    else:
        _print_rows(rows)
    if not all(row.ok for row in rows):
        raise typer.Exit(1)


def _print_rows(rows: list[Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("model", "case", "output", "error", "tolerance", ""):
        table.add_column(column, justify="right" if column in ("error", "tolerance") else "left")
    absent = []
    for row in rows:
        if row.notice:
            absent.append(row.model)
            continue
        mark = "[green]ok[/]" if row.ok else f"[red]FAILED[/] {row.note}"
        table.add_row(row.model, row.case, row.output, f"{row.error:.1e}", f"{row.tolerance:.0e}", mark)
    console = Console()
    console.print(table)
    if absent:
        console.print(f"not in the catalogue yet: {', '.join(absent)}", style="dim")
    judged = [row for row in rows if not row.notice]
    console.print(f"{sum(row.ok for row in judged)} of {len(judged)} agree")


@app.command("demo")
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the files go.")] = Path("demo"),
) -> None:
    """Embed a painted landscape over two dates: a table, a GeoParquet, a GeoTIFF and a picture."""
    from rs_embed.demo import run_demo

    run_demo(folder)


def main() -> None:
    """Run the command line: exit 0 = done, 1 = an error or a failed check, 2 = wrong usage."""
    try:
        app()
    except RSEmbedError as error:
        if _state["debug"]:
            raise
        typer.secho(f"error: {' '.join(str(error).split())}", fg="red", err=True)
        sys.exit(1)
