"""One Parquet file of chips: where they lie, what they are called, and their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.errors import ProviderError
from rs_embed.core.overlap import bounds_of
from rs_embed.providers.products.chip_columns import (
    Columns,
    Named,
    date_of_all,
    dates_of,
    facts_of,
    find_columns,
    shapes_of,
)
from rs_embed.providers.products.files import StoredFile
from rs_embed.providers.products.memory import MEMORY
from rs_embed.providers.products.parquet import ParquetTable, vectors_of

__all__ = ["ChipFile", "Chips"]

_DEGREE = 110_574.0
"""Metres of a degree of latitude at least."""
_KEPT = 2**25
"""Bytes of the vectors of a row group that is kept: of a larger one, only the rows that are wanted are held."""
_EDGE = 1e-7
"""Degrees by which boxes are larger than told: numbers of single precision, and WKB that was rounded."""
_OURS = ("meta", "error")
"""Columns of our own tables that are no facts of a chip."""
_WORLD = (-180.0, -90.0, 180.0, 90.0)

Box = tuple[float, float, float, float]


class Chips(NamedTuple):
    """Chips without their vectors."""

    footprints: NDArray[Any]
    dates: NDArray[np.datetime64]
    ids: list[Any]
    table: dict[str, list[Any]]


class ChipFile:
    """A Parquet file whose rows are chips.

    Parameters
    ----------
    file
        Where its bytes come from.
    named
        Columns that the user names.
    dims
        Length that its vectors must have; ``None``: any.

    Raises
    ------
    ProviderError
        If it cannot be read, has no vectors or no places, or holds vectors of another length.
    """

    def __init__(self, file: StoredFile, named: Named, dims: int | None = None) -> None:
        self.table = ParquetTable(file)
        self.name, self.key = self.table.name, self.table.key
        self.columns: Columns = find_columns(self.table, named)
        self.dims, self.facts = dims, facts_of(self.table)

    @property
    def groups(self) -> int:
        """Number of row groups."""
        return self.table.groups

    def others(self, wanted: Sequence[str] | None) -> list[str]:
        """Return the columns that `chips` reads besides: those asked for, or all that are plain.

        Raises
        ------
        ProviderError
            If one that is asked for does not exist.
        """
        import pyarrow.types as types

        if wanted is not None:
            lacking = [name for name in wanted if name not in self.table.columns]
            if lacking:
                raise ProviderError(f"{self.name} has no column {lacking[0]!r}, but {', '.join(self.table.columns)}")
            return [name for name in wanted if name not in self.columns.own()]
        own = self.columns.own() | (set(_OURS) if "rs_embed" in self.table.texts else set())
        kinds = {name: self.table.schema.field(name).type for name in self.table.columns if name not in own}
        bytes_or_nested = (types.is_nested, types.is_binary, types.is_large_binary, types.is_fixed_size_binary)
        return [name for name, kind in kinds.items() if not any(is_kind(kind) for is_kind in bytes_or_nested)]

    def bounds(self, group: int) -> Box | None:
        """Return the box around all chips of a row group, by its statistics where they tell; ``None``: no place.

        East is above 180 where the box crosses the antimeridian.
        """
        columns = self.columns
        box = None if columns.geometry is None or columns.crs is not None else self.table.box(group, columns.geometry)
        if box is not None:
            return _spread(box if box[0] <= box[2] else (box[0], box[1], box[2] + 360, box[3]))
        if columns.bbox is not None:
            sides = [self.table.limits(group, path) for path in columns.bbox]
            if None not in sides:
                (west, w), (south, _), (e, east), (_, north) = (side for side in sides if side is not None)
                crosses = w > east or e < west  # then a row's west lies beyond its east
                return _WORLD if crosses else _spread((west, south, east, north))
        if columns.centre is not None and columns.reach is not None:
            limits = [self.table.limits(group, name) for name in columns.centre]
            if None not in limits:
                (west, east), (south, north) = (side for side in limits if side is not None)
                box = _around(np.array([west, east]), np.array([south, north]), columns.reach)
                torn = columns.geometry is not None and box[0] <= 0 <= box[2]
                return _spread((-180, box[1], 180, box[3]) if torn else box)
        return _spread(self.places(group))

    def places(self, group: int) -> NDArray[np.float64]:
        """Return a box ``(n, 4)`` around each chip of a row group, NaN where it lies nowhere; kept in memory."""
        return MEMORY.get((self.key, "places", group), lambda: self._places(group))

    def _places(self, group: int) -> NDArray[np.float64]:
        columns = self.columns
        if columns.bbox is not None:
            return self._covering(group, columns.bbox)
        if columns.centre is not None and columns.reach is not None:
            found = self.table.read(group, columns.centre)
            lon, lat = (_numbers(found.column(name)) for name in columns.centre)
            boxes = np.column_stack((lon, lat, lon, lat))
            down, across = _margins(lat, columns.reach)
            boxes = boxes + np.column_stack((-across, -down, across, down))
            if columns.geometry is not None:
                # The centroid of corners on both sides of the antimeridian lies near Greenwich.
                torn = np.flatnonzero(np.abs(lon) <= across)
                boxes[torn] = self._outlines(group, torn)
            return np.asarray(boxes)
        return self._outlines(group)

    def _outlines(self, group: int, rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Return the boxes around the geometries themselves."""
        columns = self.columns
        assert columns.geometry is not None
        if rows is not None and not len(rows):
            return np.zeros((0, 4))
        column = self.table.read(group, [columns.geometry], rows).column(0)
        return bounds_of(shapes_of(column, self.name, columns.crs))

    def _covering(self, group: int, paths: Sequence[str]) -> NDArray[np.float64]:
        import pyarrow.compute as compute

        tops = {path: path.split(".") for path in paths}
        found = self.table.read(group, sorted({parts[0] for parts in tops.values()}))
        sides = []
        for parts in tops.values():
            column = found.column(parts[0])
            sides.append(_numbers(compute.struct_field(column, parts[1:]) if parts[1:] else column))
        boxes = np.column_stack(sides)
        boxes[:, 2] += np.where(boxes[:, 0] > boxes[:, 2], 360.0, 0.0)
        return np.asarray(boxes + np.array([-_EDGE, -_EDGE, _EDGE, _EDGE]))

    def chips(self, group: int, rows: NDArray[np.int64], others: Sequence[str] = ()) -> Chips:
        """Return footprints, dates and names of rows (ascending) of a row group, and the columns ``others``."""
        columns = self.columns
        centre = columns.centre if columns.geometry is None else None
        wanted = {name for name in (columns.geometry, columns.date, columns.id) if name} | set(centre or ())
        found = self.table.read(group, sorted(wanted | set(others)), rows)
        if columns.geometry is not None:
            footprints = shapes_of(found.column(columns.geometry), self.name, columns.crs)
        else:
            import shapely

            assert centre is not None
            footprints = np.asarray(shapely.points(*(_numbers(found.column(name)) for name in centre)), object)
        if columns.date is not None:
            dates = dates_of(found.column(columns.date), self.name)
        else:
            dates = np.full(len(rows), date_of_all(self.facts, self.name))
        return Chips(
            footprints.reshape(len(rows)),
            dates,
            self._ids(found, group, rows),
            {name: found.column(name).to_pylist() for name in others},
        )

    def _ids(self, found: Any, group: int, rows: NDArray[np.int64]) -> list[Any]:
        """Return the names of chips; file and row where they have none."""
        first = sum(self.table.rows_of(i) for i in range(group))
        numbered = [f"{PurePosixPath(self.name).stem}:{first + row}" for row in rows.tolist()]
        if self.columns.id is None:
            return numbered
        named = found.column(self.columns.id).to_pylist()
        return [other if name is None else name for name, other in zip(named, numbered, strict=True)]

    def vectors(self, group: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors ``(n, D)`` of rows (ascending) of a row group; small row groups are kept in memory."""
        count = self.table.rows_of(group)
        if 4 * count * (self.dims or self.table.width(self.columns.vector)) > _KEPT:
            return self._vectors(group, rows)
        key = self.key, "vectors", self.columns.vector, group
        return MEMORY.get(key, lambda: self._vectors(group, np.arange(count)))[rows]

    def _vectors(self, group: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        name = self.columns.vector
        found = vectors_of(self.table.read(group, [name], rows).column(name), self.name)
        if self.dims is None or not found.shape[1]:  # nothing but nulls tells no length
            self.dims = self.dims or found.shape[1] or self.table.width(name)
        if not found.shape[1]:
            return np.full((len(rows), self.dims), np.nan, np.float32)
        if found.shape[1] != self.dims:
            raise ProviderError(
                f"{self.name}: its vectors are of {found.shape[1]} numbers, not of {self.dims}: it is of another model "
                "or damaged"
            )
        return found


def _numbers(column: Any) -> NDArray[np.float64]:
    """Return a column of numbers, NaN where it is null."""
    return np.asarray(column.to_numpy(), np.float64)


def _margins(lat: NDArray[np.float64], reach: float) -> tuple[Any, Any]:
    """Return the degrees of latitude and longitude that ``reach`` metres are."""
    down = reach / _DEGREE
    top = np.abs(lat) + down
    across = np.where(top < 89, down / np.maximum(np.cos(np.radians(np.minimum(top, 89))), 1e-9), 180.0)
    return np.full_like(lat, down), across * (reach > 0)


def _around(lon: NDArray[np.float64], lat: NDArray[np.float64], reach: float) -> Box:
    down, across = (float(np.max(side)) for side in _margins(lat, reach))
    return float(lon[0]) - across, float(lat[0]) - down, float(lon[1]) + across, float(lat[1]) + down


def _spread(boxes: Any) -> Box | None:
    """Return the box around boxes, a little larger; the world where it comes near the antimeridian on both sides."""
    sides = np.asarray(boxes, np.float64).reshape(-1, 4)
    sides = sides[np.isfinite(sides).all(1)]
    if not len(sides):
        return None
    west, south = sides[:, :2].min(0).tolist()
    east, north = sides[:, 2:].max(0).tolist()
    if west < -179 and east > 179:
        west, east = -180.0, 180.0
    return west - _EDGE, south - _EDGE, east + _EDGE, north + _EDGE
