"""``inspect --compare``: one request on two backends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from rs_embed.cli.options import source_of
from rs_embed.cli.printing import console, counted, print_table

__all__ = ["Compare", "Tolerance", "compare", "print_comparison", "print_notes"]

Compare = Annotated[
    tuple[str, str] | None,
    typer.Option("--compare", metavar="A B", help="Compare the imagery of two backends band by band, B - A."),
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        "--tolerance",
        metavar="UNITS",
        min=0,
        help="Of --compare: what 99 % of the pixels may differ by [1 of reflectance * 10000, 0.01 dB].",
    ),
]


def compare(
    backends: tuple[str, str], sensor: Any, tolerance: float | None, where: Mapping[str, Any], *, no_cache: bool
) -> dict[str, Any]:
    """Return the comparison of two backends."""
    from rs_embed.inspection import compare_backends

    a, b = (source_of(each, no_cache=no_cache) for each in backends)
    place = {key: where[key] for key in ("spatial", "temporal")}
    return compare_backends(a, b, sensor=sensor, tolerance=tolerance, **place)


def print_notes(notes: Sequence[str]) -> None:
    """Print what a backend said of how its pixels came about."""
    for said in notes:
        typer.secho(f"note: {said}", dim=True)


def print_comparison(found: Mapping[str, Any]) -> None:
    """Print a comparison for people: scenes, bands, the verdict."""
    for side in ("a", "b"):
        days = sorted({str(scene["datetime"])[:10] for scene in found[f"scenes_{side}"]})
        scenes = counted(len(found[f"scenes_{side}"]), "scene")
        about = f"{scenes} ({', '.join(days)}), {found[f'valid_{side}']:.1%} of the pixels valid"
        typer.echo(f"{side.upper()}: {found[f'backend_{side}']}: {about}")
        print_notes(found[f"notes_{side}"])
    titles = ("in both", "mean A", "mean B", "B - A", "median |d|", "99 % |d|", "r")
    print_table(("band", *titles, ""), map(_row, found["bands"]), right=titles)
    console().print(found["verdict"], style="green" if found["ok"] else "yellow", markup=False)


def _row(band: Mapping[str, Any]) -> list[str]:
    keys = ("mean_a", "mean_b", "mean_difference", "median_absolute", "p99_absolute")
    numbers = ["-" if band[key] is None else f"{band[key]:.5g}" for key in keys]
    alike = "-" if band["correlation"] is None else f"{band['correlation']:.4f}"
    return [band["band"], f"{band['valid_in_both']:.1%}", *numbers, alike, band["hint"] or ("" if band["ok"] else "!")]
