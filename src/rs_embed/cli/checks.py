"""``inspect``, ``verify`` and ``doctor``: looking before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rs_embed.cli.app import app, usage
from rs_embed.cli.compare import Compare, Tolerance, print_comparison, print_notes
from rs_embed.cli.compare import compare as compare_two
from rs_embed.cli.options import (
    Backend,
    Bands,
    Box,
    Buffer,
    Cloudy,
    Collection,
    Composite,
    Json,
    Modality,
    ModelNames,
    NoCache,
    Pairs,
    Point,
    Scale,
    Time,
    VariantName,
    bands_of,
    fetch_of,
    given,
    model_option,
    model_options,
    one_place,
    source_of,
    span_of,
)
from rs_embed.cli.printing import console, counted, print_json, print_table

if TYPE_CHECKING:
    from rs_embed.core.specs import SensorSpec

__all__: list[str] = []


EXAMPLES = """\b
Examples:
  rs-embed inspect --point 11.46 47.44 --time 2022-07 --backend synthetic -o look.png
  rs-embed inspect --model galileo --point 11.46 47.44 --time 2022 --backend synthetic
  rs-embed inspect --compare earth-search planetary-computer --point 11.46 47.44 --time 2023-08
"""


ForModel = Annotated[
    str | None, model_option("--model", help="Show what this model would get, instead of --collection.")
]
Range = Annotated[
    tuple[float, float] | None,
    typer.Option("--range", metavar="LOW HIGH", help="Values to be expected, in the sensor's units."),
]
Picture = Annotated[
    Path | None, typer.Option("-o", "--out", metavar="PNG", help="Also write a picture; invalid pixels are magenta.")
]


@app.command("inspect", epilog=EXAMPLES)
def inspect_command(
    point: Point = None,
    bbox: Box = None,
    buffer: Buffer = None,
    time: Time = None,
    backend: Backend = None,
    no_cache: NoCache = False,
    collection: Collection = None,
    bands: Bands = None,
    model: ForModel = None,
    variant: VariantName = None,
    modality: Modality = None,
    option: Pairs = None,
    scale: Scale = None,
    cloudy: Cloudy = None,
    composite: Composite = None,
    compare: Compare = None,
    tolerance: Tolerance = None,
    value_range: Range = None,
    out: Picture = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a picture that exists.")] = False,
    as_json: Json = False,
) -> None:
    """Report the quality of imagery, or of a model's input, without running a model; or compare two backends.

    Exit code 1 where the report finds an issue, or the backends differ.
    """
    _check_inspect(model, out, given(collection=collection, bands=bands), overwrite=overwrite)
    if model is None and (useless := given(variant=variant, modality=modality, option=option)):
        usage(f"{' and '.join(useless)} needs --model")
    _check_compare(compare, tolerance, given(backend=backend, model=model, range=value_range, out=out))
    where: dict[str, Any] = {
        "spatial": one_place(point, bbox, buffer),
        "temporal": span_of(time),
        "backend": source_of(backend, no_cache=no_cache, model=model),
        "value_range": value_range,
        "picture": out,
    }
    fetch = fetch_of(scale, cloudy, composite)
    if compare is not None:
        sensor = _sensor(collection or "s2", bands_of(bands), fetch)
        found = compare_two(compare, sensor, tolerance, where, no_cache=no_cache)
    elif model is None:
        found = _imagery(_sensor(collection or "s2", bands_of(bands), fetch), where)
    else:
        options = model_options(option, variant)
        found = _input(model, fetch, modality, options, where)
    show = print_json if as_json else _print_report if compare is None else print_comparison
    show(found)
    if not found["ok"]:
        raise typer.Exit(1)


def _check_inspect(model: str | None, out: Path | None, imagery: list[str], *, overwrite: bool) -> None:
    from rs_embed.core.errors import SpecError

    if model is not None and imagery:
        usage(f"give {' and '.join(imagery)}, or --model, not both")
    if out is not None and out.exists() and not overwrite:
        raise SpecError(f"{out} exists; pass --overwrite to replace it")


def _check_compare(compare: tuple[str, str] | None, tolerance: float | None, others: list[str]) -> None:
    if compare is not None and others:
        usage(f"--compare names its backends, and {' and '.join(others)} does not go with it")
    if compare is None and tolerance is not None:
        usage("--tolerance needs --compare A B")


def _sensor(collection: str, bands: tuple[str, ...] | None, fetch: Any) -> SensorSpec:
    """Return a sensor; without bands, of those that a picture shows."""
    from rs_embed.core.sensors import find_sensor
    from rs_embed.core.specs import SensorSpec

    known = find_sensor(collection)
    shown = [b.name for light in ("red", "green", "blue") for b in known.bands if light in b.aliases]
    sensor = SensorSpec(collection, bands or tuple(shown) or known.default_bands, scale_m=known.gsd)
    found: SensorSpec = sensor if fetch is None else fetch.over(sensor)
    return found


def _imagery(sensor: SensorSpec, where: dict[str, Any]) -> dict[str, Any]:
    from rs_embed.inspection import inspect_provider_patch

    return inspect_provider_patch(sensor=sensor, **where)


def _input(model: str, fetch: Any, modality: str | None, options: dict[str, Any], where: Any) -> dict[str, Any]:
    from rs_embed.inspection import inspect_model_input

    return inspect_model_input(model, fetch=fetch, modality=modality, **where, **options)


def _print_report(found: dict[str, Any]) -> None:
    sensor, span = found["sensor"], found["temporal"]
    dates = "of no date" if span is None else f"{span['start']}..{span['end']}"
    typer.echo(f"{sensor['collection']} at {sensor['scale_m']:g} m, {dates}, {found['backend']}")
    if "report" in found:
        scenes = sum(len(frame) for frame in found["scenes"])
        _print_bands(found["report"], sensor["bands"], counted(scenes, "scene"))
    else:
        _print_frames(found)
    print_notes(found["notes"])
    for file in found["artifacts"].values():
        typer.echo(f"picture: {file} (invalid pixels are magenta)")


def _print_bands(report: dict[str, Any], bands: list[str], scenes: str) -> None:
    height, width = report["shape"][1:]
    typer.echo(f"{height} x {width} pixels from {scenes}, {report['valid_frac']:.1%} of them valid")
    if "band_mean" in report:
        keys = ("band_min", "band_p01", "band_p50", "band_p99", "band_max", "band_mean", "band_std")
        rows = [[name, *(f"{report[key][i]:.5g}" for key in keys)] for i, name in enumerate(bands)]
        titles = ("min", "1 %", "50 %", "99 %", "max", "mean", "std")
        print_table(("band", *titles), rows, right=titles)
    _print_issues(report["issues"])


def _print_frames(found: dict[str, Any]) -> None:
    typer.echo(f"{found['model']} would get {counted(found['n_frames'], 'frame')}, {found['n_empty']} empty")
    rows = []
    for frame in found["frames"]:
        report = frame.get("report")
        size = " x ".join(map(str, report["shape"])) if report else "-"
        valid = f"{report['valid_frac']:.1%}" if report else "0.0%"
        issues = "; ".join(report["issues"]) if report else "empty"
        rows.append([frame["input"], frame["start"] or "-", frame["end"] or "-", size, valid, issues or "none"])
    print_table(("input", "start", "end", "bands x pixels", "valid", "issues"), rows, right=("valid",))
    if found["n_empty"] == found["n_frames"]:
        _print_issues(["every frame is empty: choose a longer or another --time"])


def _print_issues(issues: list[str]) -> None:
    for issue in issues:
        console().print(f"issue: {issue}", style="yellow", markup=False)
    if not issues:
        console().print("no issue", style="green")


@app.command("verify")
def verify_command(
    names: ModelNames = None,
    case: Annotated[str | None, typer.Option("--case", help="Only cases that match, such as '*s2*'.")] = None,
    golden: Annotated[Path | None, typer.Option("--golden", metavar="DIR", help="Folder of golden files.")] = None,
    as_json: Json = False,
) -> None:
    """Check nets and preprocessing against numbers that the authors' own code computed.

    Without a MODEL, all that have a golden file. Exit code 1 where one differs.
    """
    from rs_embed.inference.verify import records, verify

    rows = verify(names or None, case=case, golden=golden)
    print_json(records(rows)) if as_json else _print_rows(rows)
    if not all(row.ok for row in rows):
        raise typer.Exit(1)


def _print_rows(rows: list[Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in ("model", "case", "output", "error", "tolerance", ""):
        table.add_column(column, justify="right" if column in ("error", "tolerance") else "left", overflow="fold")
    judged = [row for row in rows if not row.notice]
    for row in judged:
        mark = Text("ok", "green") if row.ok else Text(f"FAILED {row.note}", "red")
        table.add_row(row.model, row.case, row.output, f"{row.error:.1e}", f"{row.tolerance:.0e}", mark)
    terminal = console()
    terminal.print(table)
    if absent := [row.model for row in rows if row.notice]:
        terminal.print(f"not in the catalogue yet: {', '.join(absent)}", style="dim")
    terminal.print(f"{sum(row.ok for row in judged)} of {len(judged)} agree")


@app.command("doctor")
def doctor(
    offline: Annotated[bool, typer.Option("--offline", help="Ask no server.")] = False,
    as_json: Json = False,
) -> None:
    """Show what is installed, reachable and in order, and what to do about the rest.

    Exit code 1 where something is broken; what is merely absent is not.
    """
    from dataclasses import asdict

    from rs_embed.inference.doctor import examine

    findings = []
    for found in examine(offline=offline):
        findings.append(found)
        if not as_json:
            _print_finding(found, first=len(findings) == 1 or findings[-2].topic != found.topic)
    broken = sum(found.state == "broken" for found in findings)
    if as_json:
        print_json([asdict(found) for found in findings])
    else:
        typer.echo(f"\n{broken} broken" if broken else "\nnothing is broken")
    if broken:
        raise typer.Exit(1)


def _print_finding(found: Any, *, first: bool) -> None:
    """Print a finding at once: the next one may have to wait for a server."""
    if first:
        typer.secho(f"\n{found.topic}", bold=True)
    mark, colour = {"ok": ("ok", "green"), "absent": ("-", "yellow"), "broken": ("BROKEN", "red")}[found.state]
    typer.echo(f"  {typer.style(f'{mark:6}', fg=colour)} {found.name:<20} {found.said}")
    if found.remedy:
        typer.echo(f"{'':30}-> {found.remedy}")
