"""Embeddings as rows of a table: what stands in its columns beside the numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rs_embed.core.embedding import Embedding
from rs_embed.core.errors import SpecError
from rs_embed.core.footprints import outline_of, read_region
from rs_embed.core.georeference import json_meta

__all__ = ["OWN", "Column", "Columns", "Row", "check_same_space", "label_columns", "row_of"]

OWN = ("id", "geometry", "bbox", "start_datetime", "end_datetime", "error", "embedding", "meta")
"""Names of columns that are ours; a label column of such a name gets the prefix ``label_``."""

_INT64 = 2**63


@dataclass(frozen=True)
class Row:
    """One embedding without its numbers."""

    id: str | None
    wkb: bytes | None
    """Outline of the region, degrees."""
    kind: str | None
    """``Polygon`` or ``MultiPolygon``."""
    bounds: tuple[float, float, float, float] | None
    """West, south, east and north, degrees."""
    start: datetime | None
    end: datetime | None
    error: str | None
    """Why there are no numbers."""
    meta: str
    """All metadata, JSON."""
    labels: Mapping[str, Any]


def _moment(text: Any) -> datetime | None:
    """Return a date or time of ISO 8601 in UTC."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise SpecError(f"meta['temporal'] has {text!r}, which is no date") from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def row_of(embedding: Embedding) -> Row:
    """Return the row of an embedding.

    Raises
    ------
    SpecError
        If its metadata are none that JSON holds, or their region or dates none.
    """
    import shapely

    meta = embedding.meta
    region, time = meta.get("region"), meta.get("temporal") or {}
    shape = None if region is None else outline_of(read_region(region))
    labels = meta.get("labels") or {}
    if not isinstance(labels, Mapping):
        raise SpecError(f"meta['labels'] must be {{column: value}}, got {labels!r}")
    return Row(
        id=None if embedding.id is None else str(embedding.id),
        wkb=None if shape is None else bytes(shapely.to_wkb(shape)),
        kind=None if shape is None else str(shape.geom_type),
        bounds=None if shape is None else shape.bounds,
        start=_moment(time.get("start")),
        end=_moment(time.get("end")),
        error=None if embedding.ok else str(meta["error"]),
        meta=json_meta(meta),
        labels=dict(labels),
    )


def check_same_space(first: Embedding, other: Embedding, owner: str) -> None:
    """Refuse an embedding that does not belong into the table that ``first`` began.

    Raises
    ------
    SpecError
        If it is a grid, or of another length, model or space; failed ones are compared by model and length only.
    """
    if len(other.shape) != 1:
        raise SpecError(
            f"{owner}: a table holds vectors, and {_name(other)} is a grid of {' x '.join(map(str, other.shape))}; "
            "write a .tif, .nc or .npz, or .pool() it"
        )
    mine, theirs = first.meta.get("model"), other.meta.get("model")
    if mine != theirs:
        raise SpecError(
            f"{owner}: a table holds vectors of one model, got {mine!r} and {theirs!r}; write one file each"
        )
    if first.shape != other.shape:
        raise SpecError(
            f"{owner}: a table holds vectors of one length, got {first.dim} and {other.dim} ({_name(other)}); "
            "write one file for each"
        )
    spaces = first.meta.get("space"), other.meta.get("space")
    if first.ok and other.ok and spaces[0] != spaces[1]:
        raise SpecError(f"{owner}: vectors of different spaces do not compare: {spaces[0]!r} and {spaces[1]!r}")


def _name(embedding: Embedding) -> str:
    return "one of them" if embedding.id is None else f"{embedding.id!r}"


@dataclass
class Columns:
    """What label columns there are, and which kinds of values each has."""

    kinds: dict[str, set[str]] = field(default_factory=dict)
    """By name, in the order in which they were first seen."""

    def see(self, labels: Mapping[str, Any]) -> None:
        """Note the labels of a row."""
        for name, value in labels.items():
            kinds = self.kinds.setdefault(name, set())
            if value is not None:
                kinds.add(_kind(value))

    def type_of(self, name: str) -> str:
        """Return ``bool``, ``int``, ``float`` or ``str``: the narrowest that holds all values."""
        kinds = self.kinds[name]
        if len(kinds) == 1:
            return next(iter(kinds))
        return "float" if kinds == {"int", "float"} else "str"

    def names(self) -> dict[str, str]:
        """Return what each column is called in a table."""
        taken = {*OWN, *(name for name in self.kinds if name not in OWN)}
        found = {}
        for name in self.kinds:
            new = name
            while new in OWN or (new != name and new in taken):
                new = f"label_{new}"
            taken.add(new)
            found[name] = new
        return found


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -_INT64 <= value < _INT64 else "str"
    return "float" if isinstance(value, float) else "str"


@dataclass(frozen=True)
class Column:
    """One label column."""

    kind: str
    values: list[Any]

    @property
    def pandas(self) -> str:
        """The dtype of pandas; one that knows nulls only where there are some."""
        gaps = any(value is None for value in self.values)
        names = {"bool": "boolean", "int": "Int64"} if gaps else {"bool": "bool", "int": "int64"}
        return {"float": "float64", "str": "str"}.get(self.kind) or names[self.kind]


def label_columns(columns: Columns, rows: Sequence[Row]) -> dict[str, Column]:
    """Return the label columns of some rows by their names in the table; null where a row has none."""
    found = {}
    for name, new in columns.names().items():
        kind = columns.type_of(name)
        found[new] = Column(kind, [_as(kind, row.labels.get(name)) for row in rows])
    return found


def _as(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind == "float":
        return float(value)
    if kind == "str" and not isinstance(value, str):
        return json.dumps(value)
    return value
