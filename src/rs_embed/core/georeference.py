"""Where a grid lies: from a geobox to coordinates of cell centres and the grid mapping of CF, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.errors import SpecError

if TYPE_CHECKING:
    import xarray
    from odc.geo.geobox import GeoBox

__all__ = ["flat_attributes", "geobox_from_dict", "geobox_of", "grid_array", "json_meta"]

_FLAT = ("model", "variant", "space", "backend")
_CELL_TOLERANCE = 1e-6
"""Fraction of a cell by which coordinates may miss the centres that a geobox says."""


def json_meta(meta: Mapping[str, Any]) -> str:
    """Return metadata as JSON.

    Raises
    ------
    SpecError
        If a value is none that JSON holds; the message names the first such entry.
    """
    try:
        return json.dumps(meta, allow_nan=False)
    except (TypeError, ValueError) as error:
        for key, value in meta.items():
            try:
                json.dumps({key: value}, allow_nan=False)
            except (TypeError, ValueError):
                raise SpecError(
                    f"meta[{key!r}] = {value!r} cannot be written as JSON ({error}); use str, int, float, bool, None, "
                    "lists and dicts of them, and None instead of NaN"
                ) from error
        raise


def _joined(value: Any) -> str:
    """Return text, a list of texts or a mapping of texts as one text."""
    if isinstance(value, Mapping):
        return "; ".join(f"{k}: {v}" for k, v in value.items())
    return "\n\n".join(str(v) for v in value) if isinstance(value, list) else str(value)


def flat_attributes(meta: Mapping[str, Any]) -> dict[str, str]:
    """Return what a reader looks for first as flat text: model, space, licence, citation and attribution.

    Files carry it beside the JSON of all metadata, for readers that do not know rs-embed.
    """
    flat = {k: meta[k] for k in _FLAT if isinstance(meta.get(k), str)}
    return flat | {k: _joined(meta[k]) for k in ("license", "citation", "attribution") if meta.get(k)}


def geobox_from_dict(found: Mapping[str, Any]) -> GeoBox:
    """Return the geobox of ``{crs, transform[6], shape[2]}``."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    rows, cols = found["shape"]
    return GeoBox((int(rows), int(cols)), Affine(*found["transform"]), found["crs"])


def _centres(geobox: GeoBox) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return y and x of the cell centres."""
    affine, (height, width) = geobox.affine, geobox.shape
    y = np.arange(height, dtype=np.float64) + 0.5
    x = np.arange(width, dtype=np.float64) + 0.5
    return np.asarray(affine.f + affine.e * y), np.asarray(affine.c + affine.a * x)


def geobox_of(data: xarray.DataArray, known: GeoBox | None = None) -> GeoBox | None:
    """Return the geobox of an array with dimensions y and x by its coordinates; ``None`` where it has none.

    Parameters
    ----------
    data
        Coordinates are cell centres.
    known
        What the metadata say; returned as it is where the coordinates agree with it.

    Raises
    ------
    SpecError
        If coordinates are not evenly spaced.
    """
    if "x" not in data.coords or "y" not in data.coords:
        return known if known is not None and tuple(known.shape) == data.shape[-2:] else None
    y, x = (np.asarray(data.coords[name].values, np.float64) for name in ("y", "x"))
    if known is not None and tuple(known.shape) == (len(y), len(x)):
        steps = (known.affine.e, known.affine.a)
        pairs = zip((y, x), _centres(known), steps, strict=True)
        if all(np.allclose(mine, said, rtol=0, atol=abs(step) * _CELL_TOLERANCE) for mine, said, step in pairs):
            return known
    attrs = data.coords["spatial_ref"].attrs if "spatial_ref" in data.coords else {}
    return _measured(y, x, attrs, known)


def _measured(y: NDArray[np.float64], x: NDArray[np.float64], attrs: Mapping[str, Any], known: GeoBox | None) -> GeoBox:
    """Return the geobox of cell centres; the size of a single cell is taken from the grid mapping."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    crs = attrs.get("crs_wkt") or attrs.get("spatial_ref") or (None if known is None else known.crs)
    written = [float(v) for v in str(attrs.get("GeoTransform", "")).split()]
    spare = (written[1], written[5]) if len(written) == 6 else (1.0, -1.0)
    across, down = _step("x", x, spare[0]), _step("y", y, spare[1])
    affine = Affine(across, 0, float(x[0]) - across / 2, 0, down, float(y[0]) - down / 2)
    return GeoBox((len(y), len(x)), affine, crs)


def _step(name: str, values: NDArray[np.float64], spare: float) -> float:
    if len(values) < 2:
        return spare
    step = float(values[-1] - values[0]) / (len(values) - 1)
    even = values[0] + step * np.arange(len(values))
    if step == 0 or not np.allclose(values, even, rtol=0, atol=abs(step) * 1e-3):
        raise SpecError(f"the {name} coordinates of the grid are not evenly spaced; resample it to a regular grid")
    return step


def grid_array(grid: NDArray[np.float32], geobox: GeoBox, meta: Mapping[str, Any]) -> xarray.DataArray:
    """Return ``(D, H, W)`` as a DataArray with coordinates of cell centres and the grid mapping of CF."""
    import xarray

    y, x = _centres(geobox)
    if meta.get("grid_orientation") == "native" and geobox.affine.e > 0:
        y = y[::-1]
    coords: dict[str, Any] = {
        "y": ("y", y, _axis("y", geobox)),
        "x": ("x", x, _axis("x", geobox)),
        "d": ("d", np.arange(len(grid)), {"long_name": "embedding dimension"}),
        "spatial_ref": ((), 0, _spatial_ref(geobox)),
    }
    attrs = flat_attributes(meta) | {"rs_embed_meta": json_meta(meta), "grid_mapping": "spatial_ref"}
    return xarray.DataArray(grid, coords=coords, dims=("d", "y", "x"), name="embedding", attrs=attrs)


def _axis(name: str, geobox: GeoBox) -> dict[str, str]:
    """CF attributes of a coordinate."""
    if geobox.crs is not None and geobox.crs.geographic:
        word, unit = ("longitude", "degrees_east") if name == "x" else ("latitude", "degrees_north")
        return {"units": unit, "standard_name": word, "axis": name.upper()}
    found = {"units": "m", "axis": name.upper()}
    return found if geobox.crs is None else found | {"standard_name": f"projection_{name}_coordinate"}


def _spatial_ref(geobox: GeoBox) -> dict[str, Any]:
    """CF grid mapping and GDAL's GeoTransform."""
    a = geobox.affine
    found: dict[str, Any] = {"GeoTransform": " ".join(repr(float(v)) for v in (a.c, a.a, a.b, a.f, a.d, a.e))}
    if geobox.crs is not None:
        wkt = geobox.crs.to_wkt()
        found = {**geobox.crs.proj.to_cf(), **found, "crs_wkt": wkt, "spatial_ref": wkt}
    return found
