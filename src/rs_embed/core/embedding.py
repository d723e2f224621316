"""What comes back: an array and everything that is known of how it came about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.cells import POOLED_BY, Basis, pool_cells, principal_axes
from rs_embed.core.errors import SpecError
from rs_embed.core.georeference import flat_attributes, geobox_from_dict, geobox_of, json_meta

if TYPE_CHECKING:
    import xarray
    from odc.geo.geobox import GeoBox

__all__ = ["Embedding", "fit_basis"]


@dataclass(eq=False, repr=False)
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
    def geobox(self) -> GeoBox | None:
        """The ``odc.geo.GeoBox`` of the grid (by its coordinates, so after a crop too), or of a vector's imagery.

        ``meta["geobox"]`` is the same as ``{crs, transform[6], shape[2]}``; ``None`` where nothing is known of a place.
        """
        said = self.meta.get("geobox")
        known = geobox_from_dict(said) if said else None
        if len(self.shape) != 3:
            return known
        if not isinstance(self.data, np.ndarray):
            return geobox_of(self.data, known)
        return known if known is not None and tuple(known.shape) == self.shape[1:] else None

    def values(self) -> NDArray[np.float32]:
        """Return the plain array."""
        return np.asarray(self.data, dtype=np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.data, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        state = "" if self.ok else " failed"
        name = "" if self.id is None else f" id={self.id!r}"
        return f"<Embedding{state} {self.meta.get('model')}{name} {' x '.join(map(str, self.shape))}>"

    def _repr_html_(self) -> str:
        """Return the card that a notebook shows."""
        from rs_embed.core.notebook import draw_card

        return draw_card(self.values(), self.meta, ok=self.ok)

    def pool(self, pooling: str = "cells") -> Embedding:
        """Pool a grid to one vector over the region.

        Cells are weighted by their area inside the region where ``meta["region"]`` tells it, else all alike; cells
        that hold a NaN stay out. ``meta["pooled_from"]`` says which.

        Parameters
        ----------
        pooling
            ``"cells"`` (their mean), ``"max"``, ``"std"``, ``"stats"`` (mean, std, min and max, one after the other) or
            ``"gem"``: what ``OutputSpec.pooled(pooling)`` gives, but for cells that were seen in part.

        Raises
        ------
        SpecError
            If this is a vector, no cell holds numbers, or ``pooling`` is not known. ``"mean"`` is refused: it names the
            model's own feature, which is not made from a grid.
        """
        if pooling == "mean":
            raise SpecError(
                "pool('mean') would be the model's own feature, which is made from its windows and not from a grid; "
                "ask get_embedding(..., output=OutputSpec.pooled()) for it, or pool('cells') for the mean of the cells"
            )
        if pooling not in POOLED_BY:
            raise SpecError(f"pooling={pooling!r} is not known; accepted: {', '.join(map(repr, POOLED_BY))}")
        grid = self._grid()
        weight = self._coverage()
        meta = {k: v for k, v in self.meta.items() if k != "grid_shape"}
        if self.ok:
            vector = pool_cells(grid, weight, pooling)
        else:
            vector = np.full(len(grid) * len(POOLED_BY[pooling]), np.nan, np.float32)
        meta |= {"output": "pooled", "pooling": pooling, "pooled_shape": list(vector.shape)}
        meta["pooled_from"] = {"grid_shape": list(self.shape), "weights": "equal" if weight is None else "coverage"}
        if isinstance(meta.get("space"), str):
            meta["space"] = f"{_family(meta['space'])}/{pooling}"
        return Embedding(vector, meta)

    def _grid(self) -> NDArray[np.float32]:
        if len(self.shape) != 3:
            raise SpecError(f"this embedding is a vector of shape {self.shape}; ask for OutputSpec.grid()")
        return self.values()

    def _coverage(self) -> NDArray[np.float32] | None:
        """Return what each cell weighs: its area inside the region; ``None`` where the region is not known."""
        from rs_embed.core.footprints import coverage_of, read_region

        geobox, region = self.geobox, self.meta.get("region")
        if region is None or geobox is None or geobox.crs is None:
            return None
        inside = coverage_of(read_region(region), geobox)
        if not geobox.crs.geographic:
            return inside
        a = geobox.affine  # cells of degrees are as wide on the ground as the cosine of their latitude
        lat = np.deg2rad(a.f + a.e * (np.arange(geobox.shape[0]) + 0.5))
        return (inside * np.maximum(np.cos(lat), 1e-6)[:, None]).astype(np.float32)

    def _cells(self) -> NDArray[np.float32]:
        """Return the cells ``(n, D)`` that hold numbers; a vector is one cell."""
        flat = self.values().reshape(self.dim, -1).T
        return np.ascontiguousarray(flat[np.isfinite(flat).all(1)])

    def pca(
        self, n: int = 3, basis: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    ) -> tuple[NDArray[np.float32], Basis]:
        """Project on the first principal components.

        Parameters
        ----------
        n
            Number of components.
        basis
            Mean ``(D,)`` and components ``(n, D)`` of another call, or of `fit_basis` over several embeddings, so that
            areas share their colours. A vector needs one.

        Returns
        -------
        components
            ``(n, H, W)``, NaN where the grid is; ``(n,)`` of a vector.
        basis
            Mean and components used.
        """
        used = fit_basis([Embedding(self._grid(), {})], n) if basis is None else Basis(*basis)
        flat = self.values().reshape(self.dim, -1).T
        there = np.isfinite(flat).all(1)
        found = np.full((len(flat), len(used.components)), np.nan, np.float32)
        found[there] = used.project(flat[there])
        return np.ascontiguousarray(found.T).reshape(-1, *self.shape[1:]), used

    def similarity(self, other: Embedding | NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the cosine similarity to a vector, or cell by cell to a grid of the same shape.

        Returns
        -------
        ndarray
            A scalar array for two vectors, else ``(H, W)``; NaN where a norm is 0 or a value is missing.

        Raises
        ------
        SpecError
            If the two are of different spaces (``meta["space"]``) or shapes.
        """
        if isinstance(other, Embedding):
            _check_spaces(self, other)
        theirs = np.asarray(other, dtype=np.float32)
        if theirs.shape not in ((self.dim,), self.shape):
            raise SpecError(f"similarity needs a vector of {self.dim} numbers or {self.shape}, got {theirs.shape}")
        mine = self.values().reshape(self.dim, -1)
        theirs = theirs.reshape(self.dim, -1)
        dot, left, right = (np.zeros(mine.shape[1]) for _ in range(3))
        for a, b in zip(mine, theirs, strict=True):  # one dimension at a time: a grid in float64 is large
            a, b = a.astype(np.float64), b.astype(np.float64)
            dot, left, right = dot + a * b, left + a * a, right + b * b
        with np.errstate(invalid="ignore", divide="ignore"):
            found = dot / np.sqrt(left * right)
        return np.asarray(found, np.float32).reshape(self.shape[1:])

    def to_xarray(self) -> xarray.DataArray:
        """Return a grid with its coordinates, a vector as a DataArray with dimension "d".

        Raises
        ------
        SpecError
            If the metadata are none that JSON holds.
        """
        import xarray

        if isinstance(self.data, xarray.DataArray):
            return self.data
        dims = ("d", "y", "x")[: len(self.shape)]
        attrs = flat_attributes(self.meta) | {"rs_embed_meta": json_meta(self.meta)}
        return xarray.DataArray(self.data, dims=dims, name="embedding", attrs=attrs)


def fit_basis(embeddings: Iterable[Embedding], n: int = 3) -> Basis:
    """Return the first principal axes of several embeddings together, for `Embedding.pca`.

    Parameters
    ----------
    embeddings
        Grids or vectors of one model, taken one by one: a generator needs no more memory than one of them. Failed ones
        and cells without numbers are left out.
    n
        Number of components.

    Raises
    ------
    SpecError
        If lengths differ, or there are fewer dimensions than components.
    """
    return principal_axes((each._cells() for each in _same_space(embeddings)), n)


def _same_space(embeddings: Iterable[Embedding]) -> Iterator[Embedding]:
    first: Embedding | None = None
    for each in embeddings:
        if not each.ok:
            continue
        if first is not None:
            _check_spaces(first, each)
        first = first or each
        yield each


def _family(space: str) -> str:
    """Return a space without its pooling."""
    return space.rpartition("/")[0]


def _check_spaces(one: Embedding, other: Embedding) -> None:
    """Refuse what does not compare: another model, or (unless one of them is a grid of cells) another pooling."""
    mine, theirs = one.meta.get("space"), other.meta.get("space")
    if not mine or not theirs or mine == theirs:
        return
    grids = [len(each.shape) == 3 for each in (one, other)]
    vectors = [each for each, grid in zip((one, other), grids, strict=True) if not grid]
    if _family(mine) == _family(theirs) and any(grids) and all(map(_lies_among_cells, vectors)):
        return
    hint = "; pool('cells') gives the vector that cells compare with" if any(grids) else ""
    raise SpecError(f"vectors of different spaces do not compare: {mine!r} and {theirs!r}{hint}")


def _lies_among_cells(vector: Embedding) -> bool:
    """Whether a pooled vector is a mean of cells: no class token, maximum or spread."""
    pooling = vector.meta.get("pooling")
    return pooling == "cells" or (pooling == "mean" and not vector.meta.get("cls_removed"))
