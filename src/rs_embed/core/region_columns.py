"""A table of regions as a reader found it, what the caller says of it, and what is wrong with its rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rs_embed.core.checks import check_number
from rs_embed.core.errors import SpecError
from rs_embed.core.region_table import is_absent
from rs_embed.core.regions import WGS84

__all__ = ["Asked", "Faults", "Table", "geometry_of_text", "norm_crs"]

_TOLD = 5
"""Faulty rows that a message tells one by one."""


@dataclass(frozen=True)
class Asked:
    """What the caller says of a table."""

    id: str | None = None
    lon: str | None = None
    lat: str | None = None
    buffer_m: float | None = None
    time: str | None = None
    crs: Any = None

    def __post_init__(self) -> None:
        if (self.lon is None) != (self.lat is None):
            raise SpecError(f"lon={self.lon!r} and lat={self.lat!r} name columns: give both or neither")
        if self.buffer_m is not None and check_number("read_regions", "buffer_m", self.buffer_m) <= 0:
            raise SpecError(f"buffer_m={self.buffer_m} must be above 0 metres")


@dataclass(frozen=True)
class Table:
    """Rows as a reader found them."""

    owner: str
    """What messages call it: a file's name."""
    columns: Mapping[str, Sequence[Any]]
    geometry: Sequence[Any] | None = None
    """shapely geometries, None, or text that says what is wrong with one; ``None``: to be found in the columns."""
    crs: Any = None
    """Of the geometries; ``None``: unknown."""
    ids: Sequence[Any] | None = None
    """Names that the format itself has."""
    noun: str = "row"
    numbers: Sequence[int] | None = None
    """What messages call the rows; ``None``: from 1 on."""
    key: str | None = None
    """Column that ``ids`` are, where they are numbers of rows rather than names: a column ``id`` goes first."""

    def number(self, row: int) -> int:
        """Return what messages call a row."""
        return row + 1 if self.numbers is None else self.numbers[row]

    def column(self, name: str, argument: str) -> Sequence[Any]:
        """Return a column, or raise `SpecError` with the names of those that there are."""
        if name not in self.columns:
            raise SpecError(
                f"{self.owner}: no column {name!r} ({argument}=); there are: {', '.join(self.columns) or 'none'}"
            )
        return self.columns[name]


@dataclass
class Faults:
    """What is wrong with rows, told together."""

    table: Table
    found: dict[int, str] = field(default_factory=dict)

    def add(self, row: int, what: str) -> None:
        """Note a fault of a row."""
        self.found[row] = f"{self.found[row]}, {what}" if row in self.found else what

    def tell(self, count: int) -> None:
        """Raise `SpecError` if there is any: rows with one fault together, the first few and how many more."""
        if not self.found:
            return
        kinds: dict[str, list[int]] = {}
        for row in sorted(self.found):
            kinds.setdefault(self.found[row], []).append(row)
        told = [f"{self._rows(rows)}: {what}" for what, rows in list(kinds.items())[:_TOLD]]
        left = sum(len(rows) for rows in list(kinds.values())[_TOLD:])
        told += [f"and {left} more"] if left else []
        noun = f"{self.table.noun}{'' if count == 1 else 's'}"
        raise SpecError(f"{self.table.owner}: {len(self.found)} of {count} {noun} cannot be used: {'; '.join(told)}")

    def _rows(self, rows: list[int]) -> str:
        numbers = [str(self.table.number(row)) for row in rows[:_TOLD]]
        more = f" and {len(rows) - _TOLD} more" if len(rows) > _TOLD else ""
        return f"{self.table.noun}{'' if len(rows) == 1 else 's'} {', '.join(numbers)}{more}"


def norm_crs(crs: Any, owner: str) -> str:
    """Return a CRS (text, code, WKT, PROJJSON, pyproj) as ``EPSG:code`` where it has one, else as WKT.

    Raises
    ------
    SpecError
        If PROJ does not know it, or it is neither geographic nor projected.
    """
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        found = CRS.from_user_input(crs).to_2d()
    except (CRSError, ValueError, TypeError) as error:
        raise SpecError(f"{owner}: crs={crs!r} is not a coordinate reference system that PROJ knows") from error
    if found.is_compound:
        found = found.sub_crs_list[0]
    if not (found.is_geographic or found.is_projected):
        raise SpecError(f"{owner}: the CRS {found.name!r} has no place on Earth; give coordinates in degrees or metres")
    if found.to_authority() == ("OGC", "CRS84"):
        return WGS84
    code = found.to_epsg()
    return found.to_wkt() if code is None else f"EPSG:{code}"


def geometry_of_text(value: Any) -> Any:
    """Return the geometry of WKT, EWKT, hexadecimal WKB, WKB or GeoJSON; text that says what is wrong otherwise."""
    import shapely

    if is_absent(value) or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, str | bytes | bytearray):
        return value if hasattr(value, "geom_type") else f"{value!r} is no geometry"
    text = value.strip() if isinstance(value, str) else bytes(value)
    try:
        if isinstance(text, bytes):
            return shapely.from_wkb(text)
        if text.startswith("{"):
            return shapely.from_geojson(text)
        if re.fullmatch(r"[0-9A-Fa-f]{10,}", text):
            return shapely.from_wkb(text)
        srid, sign, rest = text.partition(";")
        if sign and srid.upper().startswith("SRID=") and srid[5:].isdigit():
            return shapely.set_srid(shapely.from_wkt(rest), int(srid[5:]))
        return shapely.from_wkt(text)
    except shapely.errors.ShapelyError as error:
        return f"its geometry is neither WKT, WKB nor GeoJSON ({str(error).strip()[:80]})"
