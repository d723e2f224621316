"""Metadata by the community's convention for embeddings of Earth observation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["GEOEMB", "convention_of"]

GEOEMB = "geoemb"
"""Key of a footer, tag or attribute that holds the JSON of `convention_of`."""


def convention_of(meta: Mapping[str, Any], dim: int, *, grid: bool) -> str:
    """Return the ``geoemb:`` properties of an embedding as JSON.

    They are those of the geo-embeddings convention for Zarr groups, v1
    (https://github.com/geo-embeddings/embeddings-zarr-convention/blob/v1/README.md), which says nothing of where other
    formats keep them; names and meaning are the same here. ``geoemb:type`` is ``pixel`` for grids of models that look
    at pixels one by one, else ``chip``; a chip is a cell of a grid, or the window of a vector. ``geoemb:model`` and
    ``geoemb:source_data`` ought to be URLs: they are where the model and the provider of the imagery name one, else
    their names.
    """
    prep, gsd = meta.get("input_prep") or {}, meta.get("effective_gsd")
    pixels = grid and prep.get("resolved_mode") == "pixel"
    chip = prep.get("window_px")
    cell = abs(((meta.get("geobox") or {}).get("transform") or [0.0])[0])
    if grid and gsd and cell > gsd / 2:  # metres; a grid in degrees does not tell
        chip, gsd = [round(cell / gsd)] * 2, cell if pixels else gsd
    found: dict[str, Any] = {
        "geoemb:type": "pixel" if pixels else "chip",
        "geoemb:dimensions": dim,
        "geoemb:model": meta.get("model_source") or meta.get("model"),
        "geoemb:source_data": meta.get("source") or meta.get("backend"),
        "geoemb:data_type": "float32",
    }
    if gsd:
        found["geoemb:gsd"] = gsd
    if chip and not pixels:
        found["geoemb:chip_layout"] = {"layout_type": "regular_grid" if grid else "irregular", "chip_size": chip}
    return json.dumps(found)
