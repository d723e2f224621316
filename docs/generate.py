"""Write README's table, docs/models.md and a page for each model from the catalogue: `python docs/generate.py`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rs_embed import describe_model, list_models

HERE = Path(__file__).parent


def table(header: list[str], rows: list[list[Any]]) -> str:
    """Return a table of Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell(value) for value in line) + " |" for line in lines) + "\n"


def cell(value: Any) -> str:
    """Return a value as text for a cell."""
    if value is None:
        return "–"
    if isinstance(value, list | tuple):
        return ", ".join(cell(v) for v in value) or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).replace("|", "\\|").replace("\n", " ")


def number(value: float) -> str:
    """Return a number as short as it can be told apart."""
    return f"{value:.6g}"


def size(count: int | None) -> str | None:
    """Return bytes in MB."""
    return None if count is None else f"{count / 1e6:.0f} MB"


def millions(count: int | None) -> str | None:
    """Return a number of weights in millions."""
    return None if count is None else f"{count / 1e6:.1f} M"


def frames(facts: dict[str, Any]) -> str:
    """Return how time becomes frames."""
    step = facts["step"]
    if facts["kind"] == "static":
        return "none: data without a date"
    if facts["max"] == 1:
        return "one composite"
    each = {"month": "a composite a month", "whole": "composites"}.get(step, f"{step} composites")
    return f"{each}, {facts['min']} to {facts['max']}; one without imagery: {facts['missing']}"


def window(facts: dict[str, Any]) -> str:
    """Return what the net sees at once."""
    if facts["size"]:
        return f"{facts['size']} px"
    return f"{facts['min']} to {facts['max'] or '∞'} px"


def step(facts: dict[str, Any]) -> str:
    """Return a step of preprocessing in a line."""
    about = dict(facts)
    name = about.pop("step")
    parts = []
    for key, value in about.items():
        listed = value if isinstance(value, list) else [value]
        shown = [number(v) if isinstance(v, float) else str(v) for v in listed]
        parts.append(f"{key} {', '.join(shown)}")
    return f"`{name}`" + (": " + "; ".join(parts) if parts else "")


def overview(models: dict[str, dict[str, Any]]) -> str:
    """Return the page that lists all models."""
    rows = []
    for name, facts in models.items():
        first = next(iter(facts["inputs"].values()), None)
        rows.append(
            [
                f"[{name}](models/{name}.md)",
                facts["title"].partition(": ")[2] or facts["title"],
                list(facts["variants"]),
                "none: precomputed"
                if facts["type"] == "precomputed"
                else list(dict.fromkeys(s["sensor"] for i in facts["inputs"].values() for s in i["sensors"])),
                frames(first["frames"]) if first and facts["type"] != "precomputed" else facts["temporal"],
                facts["dims"]["pooled"],
                facts["license"]["weights"],
            ]
        )
    head = ["model", "what it is", "variants", "imagery", "time", "D", "licence of the weights"]
    return (
        "# Models\n\n"
        "This page and those of the models are made from the catalogue (`python docs/generate.py`); the same facts\n"
        "come from `describe_model(name)` and `rs-embed describe NAME`. D is the length of a pooled vector of the\n"
        "default variant. Each net is certified: `rs-embed verify` compares it with numbers that the authors' own\n"
        "code computed.\n\n" + table(head, rows)
    )


def readme(models: dict[str, dict[str, Any]], text: str) -> str:
    """Return README with its table of models."""
    rows = []
    for name, facts in models.items():
        title = facts["title"].partition(": ")[2] or facts["title"]
        dims = dict.fromkeys(str(v["dims"]["pooled"]) for v in facts["variants"].values())
        weights = facts["license"]["weights"].partition(" (")[0]
        rows.append([f"[`{name}`](docs/models/{name}.md)", title, list(dims), weights])
    before, _, rest = text.partition("<!-- models -->\n")
    _, _, after = rest.partition("<!-- /models -->")
    listed = table(["model", "what it is", "D", "licence of the weights"], rows)
    return f"{before}<!-- models -->\n{listed}<!-- /models -->{after}"


def inputs(facts: dict[str, Any]) -> str:
    """Return the section on inputs and preprocessing."""
    rows, steps = [], []
    if holds_chips(facts):
        return (
            "## What it reads\n\n"
            "Tables of chips: vectors with the ground that they stand for and a date. There is no grid. A region gets\n"
            "the mean of the chips that share ground with it, each weighted by the ground that it shares; of chips of\n"
            "one footprint the newest, within `temporal` where it is given. `read_chips` gives the chips themselves.\n"
            "`backend` may be the URL or folder of a copy of the store.\n"
        )
    if facts["type"] == "precomputed":
        scale = number(next(iter(facts["inputs"].values()))["gsd_m"])
        annual = facts["temporal"] == "annual"
        time = "one embedding a year; without `temporal` the newest" if annual else "no time"
        return (
            "## What it reads\n\n"
            f"Precomputed embeddings on their own grid of about {scale} m; {time}.\n"
            "`FetchSpec(scale_m=...)` resamples, and `meta` says so. A region across tiles and zones gets the lattice\n"
            "of the zone of its centre. `backend` may be the URL or folder of a copy of the store.\n"
        )
    for name, item in facts["inputs"].items():
        sensors = [s["sensor"] + ("" if s["trained_on"] else " (not trained on)") for s in item["sensors"]]
        low, high = (number(v) for v in item["gsd_range_m"])
        rows.append(
            [
                f"`{name}`",
                sensors,
                item["bands"],
                f"{number(item['gsd_m'])} m (trained {low} to {high} m)",
                frames(item["frames"]),
                "any may be left out" if item["subset"] else item["missing_band"],
            ]
        )
        lines = "".join(f"{i}. {step(each)}\n" for i, each in enumerate(item["preprocessing"], 1)) or "none\n"
        steps.append(f"`{name}`, from harmonised {item['sensors'][0]['sensor']} pixels to the net:\n\n{lines}")
    head = ["input", "sensors", "bands in the net's order", "ground sample distance", "time", "a missing band"]
    text = "## What it takes\n\n" + table(head, rows)
    if facts["modalities"]:
        listed = "; ".join(f"`{name}`" for name in facts["modalities"])
        text += f"\nModalities (`modality=`), the default first: {listed}.\n"
    if facts["conditions"]:
        text += f"\nBesides pixels the net is told: {cell(facts['conditions'])}"
        text += f"; it cannot run without: {cell(facts['requires'])}.\n" if facts["requires"] else ".\n"
    return text + "\n## Preprocessing\n\n" + "\n".join(steps)


def variants(facts: dict[str, Any]) -> str:
    """Return the section on variants and weights."""
    rows = []
    for name, each in facts["variants"].items():
        checkpoint = each["checkpoint"] or {}
        where = checkpoint.get("repository") or checkpoint.get("url")
        rows.append(
            [
                f"`{name}`",
                millions(each["parameters"]),
                each["dims"]["pooled"],
                each["dims"].get("grid"),
                window(each["window"]),
                f"{each['window']['patch']} px",
                f"{where}: `{checkpoint['file']}`" if where else None,
                size(checkpoint.get("size_bytes")),
                (checkpoint.get("revision") or "")[:12] or (checkpoint.get("sha256") or "")[:12] or None,
            ]
        )
    head = ["variant", "weights", "D pooled", "D grid", "window", "cell", "file", "size", "pinned to"]
    return "## Variants\n\n" + table(head, rows)


def options(facts: dict[str, Any]) -> str:
    """Return the section on options."""
    rows = [
        [f"`{name}`", o["type"], f"`{o['default']}`", o.get("choices"), o["description"]]
        for name, o in facts["model_config"].items()
    ]
    return "## Options\n\n" + table(["option", "type", "default", "choices", "meaning"], rows) if rows else ""


def time_of(facts: dict[str, Any]) -> str:
    """Return the line of the example that says when."""
    if holds_chips(facts):
        return 'time = TemporalSpec.range("2018-01-01", "2024-01-01")\n'
    if facts["temporal"] == "annual":
        return "time = TemporalSpec.year(2024)\n"
    return 'time = TemporalSpec.range("2022-06-01", "2022-08-01")\n'


def holds_chips(facts: dict[str, Any]) -> bool:
    """Whether a model is a product of chips: without a grid."""
    return facts["type"] == "precomputed" and "grid" not in facts["output"]


def example(name: str, facts: dict[str, Any]) -> str:
    """Return the code of an example: a vector, and a grid or the chips behind the vector."""
    names = "OutputSpec, PointBuffer, TemporalSpec, get_embedding"
    after = (
        "cells = OutputSpec.grid()\n"
        f'grid = get_embedding("{name}", spatial=place, temporal=time, backend="auto", output=cells)\n'
    )
    if holds_chips(facts):
        names = "PointBuffer, TemporalSpec, get_embedding, read_chips"
        after = f'chips = read_chips("{name}", spatial=place, temporal=time)\n'
    return (
        f"```python\nfrom rs_embed import {names}\n\n"
        "place = PointBuffer(11.5, 48.1, 320)\n"
        + time_of(facts)
        + f'vector = get_embedding("{name}", spatial=place, temporal=time, backend="auto")\n{after}```\n'
    )


def page(facts: dict[str, Any]) -> str:
    """Return the page of a model."""
    name = facts["model"]
    aliases = f" Also known as {', '.join(f'`{a}`' for a in facts['aliases'])}." if facts["aliases"] else ""
    licences = "; ".join(f"{part}: {text}" for part, text in facts["license"].items())
    parts = [
        f"# {name}\n\n{facts['title']}.{aliases}\n",
        example(name, facts),
        f"**Pooled**: {facts['pooled']}. "
        + (
            "Cropped to the region exactly."
            if facts["pooled_kind"] == "cells"
            else f"A vector of whole {'chips' if holds_chips(facts) else 'windows'}: it cannot be cropped to a region."
        )
        + "\n",
        facts["notes"] + "\n" if facts["notes"] else "",
        inputs(facts),
        variants(facts),
        options(facts),
        f"## Licence and citation\n\n{licences}. Source: <{facts['source']}>.\n\n```bibtex\n{facts['citation']}\n```\n",
    ]
    return "\n".join(part for part in parts if part)


def pages() -> dict[Path, str]:
    """Return the text of every generated page."""
    models = {name: describe_model(name) for name in list_models()}
    made = {HERE / "models" / f"{name}.md": page(facts) for name, facts in models.items()}
    front = HERE.parent / "README.md"
    return {front: readme(models, front.read_text(encoding="utf-8")), HERE / "models.md": overview(models), **made}


def main() -> int:
    """Write the pages; with --check, only tell which are out of date."""
    stale = []
    for path, text in pages().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(path)
            if "--check" not in sys.argv:
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
    print(f"{len(stale)} pages {'out of date' if '--check' in sys.argv else 'written'}")
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
