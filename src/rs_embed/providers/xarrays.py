"""What an ``xarray.DataArray`` says of its pixels: bands, dates and georeference, without rioxarray."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from rs_embed.core.errors import SpecError
from rs_embed.core.specs import TemporalSpec

__all__ = ["Unpacked", "unpack_dataarray"]

_NAMES = {
    "time": ("t", "time", "date", "dates"),
    "band": ("band", "bands", "channel", "channels", "variable", "c"),
    "y": ("y", "lat", "latitude", "northing"),
    "x": ("x", "lon", "longitude", "easting"),
}
_EVEN = 1e-3
"""How far steps may differ from their mean, in pixels."""


@dataclass(frozen=True)
class Unpacked:
    """The parts of a DataArray, in the order (T?, C, H, W), north up."""

    data: NDArray[Any]
    bands: tuple[str, ...] | None
    temporal: tuple[TemporalSpec, ...] | None
    crs: Any
    transform: Affine | None
    nodata: float | None


def unpack_dataarray(da: Any) -> Unpacked:
    """Return the parts of an ``xarray.DataArray``.

    Raises
    ------
    SpecError
        If it is none, or if its dimensions or coordinates cannot be understood.
    """
    if not all(hasattr(da, name) for name in ("dims", "coords", "transpose", "attrs", "values")):
        raise SpecError(f"from_xarray takes a DataArray, got {type(da).__name__} (of a Dataset: .to_array('band'))")
    roles = _roles(da)
    if "band" not in roles:
        da = da.expand_dims("band")
        roles["band"] = "band"
    da = da.transpose(*(roles[role] for role in ("time", "band", "y", "x") if role in roles))
    data = np.asarray(da.values)
    crs, transform = _georeference(da, roles)
    if transform is not None and transform.e > 0 and not transform.b and not transform.d:
        height = data.shape[-2]
        data = data[..., ::-1, :]
        t = transform
        transform = Affine(t.a, 0, t.c, 0, -t.e, t.f + t.e * height)
    nodata = da.attrs.get("_FillValue", da.attrs.get("nodata", da.encoding.get("_FillValue")))
    listed = da.coords[roles["band"]].values if roles["band"] in da.coords else None
    bands = tuple(str(b) for b in listed) if listed is not None and listed.dtype.kind in "UOS" else None
    return Unpacked(data, bands, _dates(da, roles), crs, transform, None if nodata is None else float(nodata))


def _roles(da: Any) -> dict[str, str]:
    """Which dimension is which."""
    roles: dict[str, str] = {}
    for dim in da.dims:
        role = next((r for r, names in _NAMES.items() if str(dim).lower() in names), None)
        if role is None or role in roles:
            known = "; ".join(f"{r}: {', '.join(n)}" for r, n in _NAMES.items())
            raise SpecError(f"dimension {dim!r} of {tuple(da.dims)} is not understood; rename it ({known})")
        roles[role] = str(dim)
    if "y" not in roles or "x" not in roles:
        raise SpecError(f"a DataArray needs dimensions y and x, got {tuple(da.dims)}")
    return roles


def _dates(da: Any, roles: dict[str, str]) -> tuple[TemporalSpec, ...] | None:
    """The day of each frame, where the time coordinate is one of dates."""
    name = roles.get("time") or next((n for n in _NAMES["time"] if n in da.coords), None)
    if name is None or name not in da.coords:
        return None
    values = np.atleast_1d(da.coords[name].values)
    if values.dtype.kind != "M" or np.isnat(values).any():
        return None
    moments = [datetime.fromisoformat(str(v.astype("datetime64[s]"))).replace(tzinfo=UTC) for v in values]
    return tuple(TemporalSpec.range(m, m + timedelta(days=1)) for m in moments)


def _georeference(da: Any, roles: dict[str, str]) -> tuple[Any, Affine | None]:
    """CRS and transform of a grid mapping, or of the coordinates; (None, None) where there is no CRS."""
    mapping = da.attrs.get("grid_mapping", da.encoding.get("grid_mapping", "spatial_ref"))
    said = da.coords[mapping].attrs if mapping in da.coords else {}
    crs = said.get("crs_wkt") or said.get("spatial_ref") or da.attrs.get("crs")
    if crs is None and roles["y"].lower().startswith("lat"):
        crs = "EPSG:4326"
    if crs is None:
        return None, None
    if "GeoTransform" in said:
        c, a, b, f, d, e = (float(v) for v in str(said["GeoTransform"]).split())
        return crs, Affine(a, b, c, d, e, f)
    (x0, dx), (y0, dy) = (_steps(da, roles[axis]) for axis in ("x", "y"))
    return crs, Affine(dx, 0, x0 - dx / 2, 0, dy, y0 - dy / 2)


def _steps(da: Any, dim: str) -> tuple[float, float]:
    """First centre and step of a coordinate.

    Raises
    ------
    SpecError
        If it is absent or uneven.
    """
    if dim not in da.coords or da.sizes[dim] < 2:
        raise SpecError(f"the DataArray has a CRS but no coordinate {dim!r} of two or more pixels, and no GeoTransform")
    values = np.asarray(da.coords[dim].values, np.float64)
    step = (values[-1] - values[0]) / (len(values) - 1)
    if step == 0 or np.abs(values - values[0] - step * np.arange(len(values))).max() > _EVEN * abs(step):
        raise SpecError(f"coordinate {dim!r} has no even steps; resample to a regular grid first")
    return float(values[0]), float(step)
