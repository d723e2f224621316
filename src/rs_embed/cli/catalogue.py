"""``models`` and ``describe``: the catalogue."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import typer

from rs_embed.cli.app import app, usage
from rs_embed.cli.options import Json, ModelName
from rs_embed.cli.printing import console, note, print_json, print_table, say_size

__all__: list[str] = []

ROOMY = 120
"""Columns of a terminal that has room for the names of variants."""


@app.command("models")
def models(
    aliases: Annotated[bool, typer.Option("--aliases", help="Also list other names of models.")] = False,
    as_json: Json = False,
) -> None:
    """List the models with what they take and give.

    D is the length of a vector, and weights the size of the download, of the variant that stands first: the default.
    """
    from rs_embed.core.describe import describe
    from rs_embed.core.registry import broken_plugins, get_spec, list_models

    facts = {name: describe(get_spec(name)) for name in list_models(include_aliases=aliases)}
    if as_json:
        print_json(facts)
    else:
        columns = ("model", "D", "D grid", "weights", "frames", "gsd (m)", "inputs", "variants", "licence")
        named = console().width >= ROOMY
        rows = (_model_row(name, fact, named=named) for name, fact in facts.items())
        print_table(columns, rows, right=("D", "D grid", "weights", "frames"))
    for plugin, reason in broken_plugins().items():
        note(f"warning: the plug-in {plugin!r} could not be loaded ({reason}); see rs-embed doctor")


def _model_row(name: str, fact: dict[str, Any], *, named: bool) -> list[str]:
    """Return a model's cells; its variants are named where there is room."""
    if name != fact["model"]:
        return [name, *[""] * 5, f"= {fact['model']}", "", ""]
    inputs, default = list(fact["inputs"].values()), fact["variants"][fact["defaults"]["variant"]]
    dims = [str(default["dims"].get(kind, "-")) for kind in ("pooled", "grid")]
    checkpoint = default["checkpoint"]
    frames = str(max((i["frames"]["max"] for i in inputs), default="-"))
    gsd = " ".join(dict.fromkeys(f"{i['gsd_m']:g}" for i in inputs)) or "-"
    size = say_size(checkpoint["size_bytes"]) if checkpoint else "none"
    licence = re.split(r" \(|[;,] ", fact["license"].get("weights", ""))[0]
    taken = ", ".join(fact["inputs"]) or ("chips" if fact["type"] == "precomputed" else "place")
    variants = ", ".join(fact["variants"]) if named else str(len(fact["variants"]))
    return [name, *dims, size, frames, gsd, taken, variants, licence]


@app.command("describe")
def describe_command(
    model: ModelName,
    cite: Annotated[bool, typer.Option("--cite", help="Print the BibTeX entry only.")] = False,
    as_json: Json = False,
) -> None:
    """Show the static facts of a model: tables on a terminal, JSON with --json or into a pipe."""
    if cite and as_json:
        usage("give one of --cite and --json")
    from rs_embed.core.describe import describe
    from rs_embed.core.registry import get_spec

    facts = describe(get_spec(model))
    if cite:
        typer.echo(facts["citation"])
    elif as_json or not sys.stdout.isatty():
        print_json(facts)
    else:
        _print_facts(facts)


def _print_facts(facts: dict[str, Any]) -> None:
    typer.secho(f"{facts['model']}: {facts['title']}", bold=True)
    general = {
        "other names": ", ".join(facts["aliases"]) or "none",
        "pooled vector": facts["pooled"],
        "a cell sees": {"pixel": "its own pixels", "place": "no imagery, its place only"}.get(
            facts["locality"], "its whole window"
        )
        if "grid" in facts["output"]
        else "there are no cells: vectors of chips",
        "modalities": ", ".join(f"{n} ({' + '.join(i)})" for n, i in facts["modalities"].items()) or "one",
        "licence": "; ".join(f"{what}: {text}" for what, text in facts["license"].items()),
        "source": facts["source"],
        "notes": facts["notes"] or "none",
    }
    print_table(("", ""), general.items())
    columns: tuple[str, ...] = ("input", "sensors", "bands", "gsd (m)", "frames", "a missing one")
    if facts["inputs"]:
        typer.secho("\ninputs", bold=True)
        print_table(columns, map(_input_row, *_items(facts["inputs"])))
    typer.secho("\nvariants (the first is the default)", bold=True)
    columns = ("variant", "parameters", "window (px)", "patch", "D", "D grid", "weights")
    rows = map(_variant_row, *_items(facts["variants"]))
    print_table(columns, rows, right=columns[1:])
    if published := {name: v["checkpoint"] for name, v in facts["variants"].items() if v["checkpoint"]}:
        typer.secho("\nweights (rs-embed pull)", bold=True)
        print_table(("", "", ""), map(_weights_row, *_items(published)))
    if facts["model_config"]:
        typer.secho("\noptions (--option NAME=VALUE)", bold=True)
        print_table(("option", "default", "accepted", "meaning"), map(_option_row, *_items(facts["model_config"])))
    typer.echo(f"\nTo cite: rs-embed describe {facts['model']} --cite")


def _items(table: dict[str, Any]) -> tuple[list[str], list[Any]]:
    return list(table), list(table.values())


def _input_row(name: str, item: dict[str, Any]) -> list[str]:
    sensors = ", ".join(s["sensor"] + ("" if s["trained_on"] else " (not trained on)") for s in item["sensors"])
    frames = item["frames"]
    count = f"{frames['min']}-{frames['max']}" if frames["min"] != frames["max"] else str(frames["max"])
    gsd, bands = f"{item['gsd_m']:g}", " ".join(item["bands"])
    return [name, sensors, bands, gsd, f"{count} {frames['kind']}", frames["missing"]]


def _variant_row(name: str, variant: dict[str, Any]) -> list[str]:
    window, checkpoint = variant["window"], variant["checkpoint"]
    size = window["size"] or f"{window['min']}-{window['max'] or 'any'}"
    parameters = f"{variant['parameters'] / 1e6:.1f} M" if variant["parameters"] else "-"
    dims = [str(variant["dims"].get(kind, "-")) for kind in ("pooled", "grid")]
    weight = say_size(checkpoint["size_bytes"]) if checkpoint else "none"
    return [name, parameters, str(size), str(window["patch"]), *dims, weight]


def _weights_row(name: str, checkpoint: dict[str, Any]) -> list[str]:
    where = f"{checkpoint['repository']} {checkpoint['file']}" if checkpoint["repository"] else checkpoint["url"]
    return [name, where, checkpoint["pin"]]


def _option_row(name: str, option: dict[str, Any]) -> list[str]:
    accepted = option["type"]
    if "choices" in option:
        accepted = ", ".join(map(str, option["choices"]))
    elif "low" in option or "high" in option:
        accepted += f" {option.get('low', '')}..{option.get('high', '')}"
    return [name, str(option["default"]), accepted, option["description"]]
