"""What comes back: an array and everything that is known of how it came about."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.errors import SpecError

if TYPE_CHECKING:
    import xarray
    from odc.geo.geobox import GeoBox

__all__ = ["Embedding", "grid_array"]


@dataclass(eq=False)
class Embedding:
    """An embedding: a vector ``(D,)`` or a grid ``(D, H, W)``, float32.

    Attributes
    ----------
    data
        A numpy vector, or an ``xarray.DataArray`` with dimensions ("d", "y", "x"), coordinates of cell centres and a
        ``spatial_ref``.
    meta
        Model and input information, what was found and done; ``json.dumps`` takes it.
    """

    data: NDArray[np.float32] | xarray.DataArray
    meta: dict[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """``(D,)`` or ``(D, H, W)``."""
        return tuple(self.data.shape)

    @property
    def dim(self) -> int:
        """Length D of a vector."""
        return int(self.data.shape[0])

    @property
    def ok(self) -> bool:
        """Whether it is an embedding, and not the record of a failure."""
        return "error" not in self.meta

    @property
    def id(self) -> Any:
        """Name of the region, where it has one."""
        return self.meta.get("id")

    @property
    def crs(self) -> str | None:
        """Coordinate reference system of the grid, or of the imagery behind the vector."""
        return self.meta.get("crs")

    @property
    def geobox(self) -> dict[str, Any] | None:
        """``{crs, transform[6], shape[2]}`` of the grid, or of the imagery behind the vector."""
        return self.meta.get("geobox")

    def values(self) -> NDArray[np.float32]:
        """Return the plain array."""
        return np.asarray(self.data, dtype=np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        found = np.asarray(self.data, dtype=dtype)
        return found.copy() if copy else found

    def __repr__(self) -> str:
        state = "" if self.ok else " failed"
        name = "" if self.id is None else f" id={self.id!r}"
        return f"<Embedding{state} {self.meta.get('model')}{name} {' x '.join(map(str, self.shape))}>"

    def _cells(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the grid's cells ``(n, D)`` that hold numbers, and where they lie ``(H, W)``."""
        grid = self.values()
        if grid.ndim != 3:
            raise SpecError(f"this embedding is a vector of shape {self.shape}; ask for OutputSpec.grid()")
        there: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(grid), axis=0)
        return np.ascontiguousarray(grid[:, there].T), there

    def pca(
        self, n: int = 3, basis: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    ) -> tuple[NDArray[np.float32], tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Project a grid on its first principal components.

        Parameters
        ----------
        n
            Number of components.
        basis
            Mean ``(D,)`` and components ``(n, D)`` of another call, so that several areas share their colours.

        Returns
        -------
        components
            ``(n, H, W)``; NaN where the grid is.
        basis
            Mean and components used.
        """
        cells, there = self._cells()
        if basis is None:
            mean = cells.mean(0, dtype=np.float64)
            centred = cells - mean
            values, vectors = np.linalg.eigh(centred.T @ centred)
            found = vectors[:, np.argsort(values)[::-1][:n]].T
            found *= np.where(np.abs(found).max(1) > found.max(1) + 1e-12, -1.0, 1.0)[:, None]  # a stable sign
            basis = mean.astype(np.float32), found.astype(np.float32)
        out = np.full((len(basis[1]), *there.shape), np.nan, np.float32)
        out[:, there] = ((cells - basis[0]) @ basis[1].T).T
        return out, basis

    def similarity(self, other: Embedding | NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the cosine similarity to a vector: a scalar array for a vector, ``(H, W)`` for a grid."""
        if isinstance(other, Embedding) and self.meta.get("space") and other.meta.get("space"):
            mine, theirs = (str(e.meta["space"]).rsplit("/", 1)[0] for e in (self, other))
            if mine != theirs:
                raise SpecError(f"vectors of different spaces do not compare: {mine!r} and {theirs!r}")
        vector = np.asarray(other, dtype=np.float64)
        if vector.shape != (self.dim,):
            raise SpecError(f"similarity needs a vector of {self.dim} numbers, got shape {vector.shape}")
        grid = self.values().astype(np.float64)
        norm = np.linalg.norm(grid, axis=0) * np.linalg.norm(vector)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.tensordot(vector, grid, 1) / norm, np.float32)

    def to_xarray(self) -> xarray.DataArray:
        """Return a grid as it is, a vector as a DataArray with dimension "d"."""
        import xarray

        if isinstance(self.data, xarray.DataArray):
            return self.data
        return xarray.DataArray(self.data, dims=("d",), name="embedding", attrs=_attributes(self.meta))


def _attributes(meta: dict[str, Any]) -> dict[str, Any]:
    """Flat attributes, and all metadata as one JSON string: a nested dict would break netCDF."""
    flat = {k: meta[k] for k in ("model", "variant", "space", "backend") if isinstance(meta.get(k), str)}
    return flat | {"rs_embed_meta": json.dumps(meta, allow_nan=False)}


def grid_array(grid: NDArray[np.float32], geobox: GeoBox, meta: dict[str, Any]) -> xarray.DataArray:
    """Return ``(D, H, W)`` as a DataArray with coordinates of cell centres and CF grid mapping."""
    import xarray

    affine, (height, width) = geobox.affine, geobox.shape
    y = affine.f + affine.e * (np.arange(height) + 0.5)
    x = affine.c + affine.a * (np.arange(width) + 0.5)
    if meta.get("grid_orientation") == "native" and affine.e > 0:
        y = y[::-1]
    axes = {"x": {"units": "m", "axis": "X"}, "y": {"units": "m", "axis": "Y"}}
    if geobox.crs is not None:
        axes["x"] |= {"standard_name": "projection_x_coordinate"}
        axes["y"] |= {"standard_name": "projection_y_coordinate"}
    coords: dict[str, Any] = {
        "y": ("y", y, axes["y"]),
        "x": ("x", x, axes["x"]),
        "d": ("d", np.arange(len(grid)), {"long_name": "embedding dimension"}),
        "spatial_ref": ((), 0, _spatial_ref(geobox)),
    }
    attrs = _attributes(meta) | {"grid_mapping": "spatial_ref"}
    return xarray.DataArray(grid, coords=coords, dims=("d", "y", "x"), name="embedding", attrs=attrs)


def _spatial_ref(geobox: GeoBox) -> dict[str, Any]:
    """CF grid mapping and GDAL's GeoTransform."""
    a = geobox.affine
    found: dict[str, Any] = {"GeoTransform": " ".join(repr(float(v)) for v in (a.c, a.a, a.b, a.f, a.d, a.e))}
    if geobox.crs is not None:
        wkt = geobox.crs.to_wkt()
        found = {**geobox.crs.proj.to_cf(), **found, "crs_wkt": wkt, "spatial_ref": wkt}
    return found
