"""Many regions: an immutable sequence with names, dates and labels, and what users give for one."""

from __future__ import annotations

import json
import math
import operator
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import Any, overload

import numpy as np

from rs_embed.core.errors import ModelError, SpecError
from rs_embed.core.regions import SpatialSpec, norm_spatial
from rs_embed.core.times import TemporalSpec

__all__ = [
    "RegionId",
    "Regions",
    "Scalar",
    "check_ids",
    "feature_of",
    "id_of",
    "is_absent",
    "is_frame",
    "is_list",
    "label_of",
    "list_regions",
    "norm_regions",
    "properties_of",
    "single_region",
]

Scalar = str | int | float | bool | None
RegionId = str | int

_TOLD = 5
"""Duplicates that a message names."""


def is_absent(value: Any) -> bool:
    """Return whether a cell of a table is empty: None, NaN, pandas' NA and NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    return isinstance(value, float | np.floating) and math.isnan(value)


def label_of(value: Any) -> Scalar:
    """Return a cell of a table as JSON knows it: dates as ISO text, nested values as JSON text, NaN as None."""
    if is_absent(value):
        return None
    if isinstance(value, np.datetime64):
        return str(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str | bool | int):
        return value
    if isinstance(value, float | Decimal):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes | bytearray):
        return bytes(value).hex()
    if isinstance(value, Mapping):
        return json.dumps({str(k): label_of(v) for k, v in value.items()})
    if isinstance(value, list | tuple | np.ndarray):
        return json.dumps([label_of(v) for v in value])
    return str(value)


def id_of(value: Any) -> RegionId:
    """Return a cell of a table as the name of a region, or raise `SpecError`."""
    found = label_of(value)
    if isinstance(found, float) and found.is_integer():
        return int(found)
    if found is None or isinstance(found, bool) or found == "":
        raise SpecError(f"the id {value!r} of a region must be text or a whole number")
    return found if isinstance(found, str | int) else str(found)


def check_ids(ids: Sequence[Hashable], owner: str = "regions") -> None:
    """Raise `SpecError` where an id is given twice; it names them."""
    twice = [(name, count) for name, count in Counter(ids).items() if count > 1]
    if twice:
        told = ", ".join(f"{name!r} ({count} times)" for name, count in twice[:_TOLD])
        more = f" and {len(twice) - _TOLD} more" if len(twice) > _TOLD else ""
        raise SpecError(f"{owner}: duplicate ids: {told}{more}; every region needs an id of its own")


@dataclass(frozen=True, repr=False)
class Regions(Sequence[SpatialSpec]):
    """An immutable sequence of regions with their names, dates and labels.

    ``len``, iteration and ``regions[3]`` give regions; a slice, a boolean mask or a list of numbers gives `Regions`.
    `read_regions` makes them from files and frames.

    Parameters
    ----------
    spatials
        `BBox`, `PointBuffer`, `Polygon`, shapely geometries or GeoJSON.
    ids
        One name a region, text or whole numbers, no two alike; ``None``: the regions have no names.
    temporals
        One `TemporalSpec` a region, taken where a call gives none.
    table
        Label columns ``{name: values}``, one value a region: they go to ``meta["labels"]`` and to tables. Dates become
        ISO text, nested values JSON text, NaN ``None``.

    Raises
    ------
    SpecError
        If something is no region, an id is given twice, or a column is not as long as there are regions.
    """

    spatials: tuple[SpatialSpec, ...]
    ids: tuple[RegionId, ...] | None = None
    temporals: tuple[TemporalSpec, ...] | None = None
    table: Mapping[str, Sequence[Scalar]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.spatials, str | Mapping) or not isinstance(self.spatials, Iterable):
            raise SpecError(f"Regions.spatials must be a sequence of regions, got {type(self.spatials).__name__}")
        self._set("spatials", tuple(norm_spatial(each) for each in self.spatials))
        if self.ids is not None:
            self._set("ids", tuple(id_of(each) for each in self._as_long("ids", self.ids)))
            check_ids(self.ids)
        if self.temporals is not None:
            self._set("temporals", tuple(self._as_long("temporals", self.temporals)))
            for each in self.temporals:
                if not isinstance(each, TemporalSpec):
                    raise SpecError(
                        f"Regions.temporals holds {each!r}; give TemporalSpec, such as TemporalSpec.year(2022)"
                    )
        columns = {
            str(name): tuple(label_of(v) for v in self._as_long(f"table[{name!r}]", values))
            for name, values in self.table.items()
        }
        self._set("table", MappingProxyType(columns))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _as_long(self, name: str, values: Any) -> Any:
        if isinstance(values, str) or len(values) != len(self.spatials):
            count = "one text" if isinstance(values, str) else len(values)
            raise SpecError(f"Regions.{name} must hold {len(self.spatials)} values, one a region; got {count}")
        return values

    def __len__(self) -> int:
        return len(self.spatials)

    def __iter__(self) -> Iterator[SpatialSpec]:
        return iter(self.spatials)

    def __repr__(self) -> str:
        count = f"{len(self)} region{'' if len(self) == 1 else 's'}"
        ids = f" {self.ids[0]!r}…{self.ids[-1]!r}" if self.ids else ""
        when = ""
        if self.temporals:
            spans = [t.interval for t in self.temporals]
            when = f", {min(s for s, _ in spans).date()}…{max(e for _, e in spans).date()}"
        return f"<Regions {count}{ids}{when}{', labels: ' if self.table else ''}{', '.join(self.table)}>"

    def __hash__(self) -> int:
        return hash((self.spatials, self.ids, self.temporals))

    def __reduce__(self) -> tuple[Any, ...]:  # a MappingProxyType does not pickle
        return Regions, (self.spatials, self.ids, self.temporals, dict(self.table))

    @overload
    def __getitem__(self, index: int) -> SpatialSpec: ...
    @overload
    def __getitem__(self, index: slice | Sequence[bool] | Sequence[int] | np.ndarray[Any, Any]) -> Regions: ...
    def __getitem__(self, index: Any) -> SpatialSpec | Regions:
        if hasattr(index, "__index__") and not isinstance(index, np.ndarray):
            return self.spatials[operator.index(index)]
        if isinstance(index, slice):
            return self._take(range(len(self))[index])
        return self._take(_numbers(index, len(self)))

    def _take(self, numbers: Sequence[int]) -> Regions:
        def pick(values: Any) -> Any:
            return None if values is None else tuple(values[i] for i in numbers)

        columns = {name: pick(values) for name, values in self.table.items()}
        return Regions(pick(self.spatials), pick(self.ids), pick(self.temporals), columns)

    def labels(self, index: int) -> dict[str, Scalar]:
        """Return the labels of one region, ``{column: value}``."""
        return {name: values[index] for name, values in self.table.items()}

    def without(self, *columns: str) -> Regions:
        """Return the regions without some label columns."""
        self._known(columns)
        return replace(self, table={name: values for name, values in self.table.items() if name not in columns})

    def _known(self, columns: Iterable[str]) -> None:
        for column in columns:
            if column not in self.table:
                raise SpecError(f"no label column {column!r}; there are: {', '.join(self.table) or 'none'}")

    def each(self, temporals: TemporalSpec | Iterable[TemporalSpec]) -> Regions:
        """Return every region at every time, region by region: ``regions.each(TemporalSpec.years(2018, 2024))``.

        A region ``field7`` becomes ``field7/2018``, ``field7/2019``, …; the label columns ``region`` and ``year``
        (where all spans are calendar years, else ``time``) keep what the name was made of. A region without a name is
        called by its number.

        Raises
        ------
        SpecError
            If there is no span, a span is given twice, the regions have dates of their own, or a label column has one
            of the two names.
        """
        spans = (temporals,) if isinstance(temporals, TemporalSpec) else tuple(temporals)
        if not spans or not all(isinstance(each, TemporalSpec) for each in spans):
            raise SpecError(f"each({temporals!r}) needs spans, such as TemporalSpec.years(2018, 2024)")
        if self.temporals is not None:
            raise SpecError("these regions have dates of their own; read them without a time column to use each(...)")
        yearly = all(span.mode == "year" for span in spans)
        added = ("region", "year" if yearly else "time")
        for name in added:
            if name in self.table:
                raise SpecError(
                    f"a label column {name!r} exists, and each() adds one; leave it out: .without({name!r})"
                )
        texts = [_span_text(span) for span in spans]
        check_ids(texts, "each()")
        names = range(len(self)) if self.ids is None else self.ids
        count, rows = len(spans), range(len(self))
        columns = {column: tuple(values[i] for i in rows for _ in spans) for column, values in self.table.items()}
        columns[added[0]] = tuple(name for name in names for _ in spans)
        columns[added[1]] = tuple(int(text) if yearly else text for _ in rows for text in texts)
        return Regions(
            tuple(place for place in self.spatials for _ in range(count)),
            tuple(f"{name}/{text}" for name in names for text in texts),
            spans * len(self),
            columns,
        )


def _span_text(span: TemporalSpec) -> str:
    start, end = span.interval
    return f"{start.year:04d}" if span.mode == "year" else f"{span.start or start}/{span.end or end}"


def _numbers(index: Any, count: int) -> list[int]:
    """Return the rows that a mask or a list of numbers picks."""
    found = np.asarray(index)
    if found.ndim != 1 or (found.dtype != bool and found.dtype.kind not in "iu" and found.size):
        raise SpecError(f"Regions[{index!r}]: give a number, a slice, a mask of {count} booleans or a list of numbers")
    if found.dtype == bool:
        if len(found) != count:
            raise SpecError(f"a mask of {len(found)} booleans does not fit {count} regions")
        return [int(i) for i in np.flatnonzero(found)]
    return [int(i) for i in found]


def is_frame(value: Any) -> bool:
    """Whether a value is a pandas or geopandas table or series, told by what it has."""
    return hasattr(value, "index") and hasattr(value, "iloc")


def is_list(value: Any) -> bool:
    """Whether a value is a bare sequence of regions: no table, no text."""
    if isinstance(value, Regions | str | bytes | Mapping) or is_frame(value):
        return False
    return isinstance(value, Sequence) or (isinstance(value, np.ndarray) and value.ndim == 1)


def norm_regions(spatials: Any) -> Regions:
    """Return whatever is accepted for many regions as `Regions`.

    Parameters
    ----------
    spatials
        `Regions`; a sequence of specs, shapely geometries or GeoJSON (Features bring their ids and properties); a
        GeoJSON FeatureCollection; a GeoDataFrame or GeoSeries (its CRS; its index are the ids, other columns labels).

    Raises
    ------
    ModelError
        If it is no list of regions.
    SpecError
        If some of it is no region; all faults are told at once.
    """
    if isinstance(spatials, Regions):
        return spatials
    if is_frame(spatials):
        from rs_embed.core.region_rows import Asked, make_regions
        from rs_embed.core.region_sources import table_of_frame

        return make_regions(table_of_frame(spatials), Asked())
    if isinstance(spatials, Mapping) and spatials.get("type") == "FeatureCollection":
        from rs_embed.core.region_rows import Asked, make_regions
        from rs_embed.core.region_sources import table_of_features

        return make_regions(table_of_features(spatials, "the FeatureCollection"), Asked(), number=False)
    if not is_list(spatials):
        raise ModelError(f"spatials must be a non-empty list of regions, got {type(spatials).__name__}")
    found = [feature_of(each) for each in spatials]
    if found and all(name is not None for name, _ in found):
        ids: Any = [name for name, _ in found]
    else:
        ids = None
    columns = list(dict.fromkeys(column for _, labels in found for column in labels))
    return Regions(tuple(spatials), ids, None, {c: [labels.get(c) for _, labels in found] for c in columns})


def list_regions(spatials: Any) -> Sequence[Any]:
    """Return `Regions`, or a bare sequence as it is, whose members may fail each on its own account.

    Raises
    ------
    ModelError
        If it is no list of at least one region.
    SpecError
        If a table has faulty rows, or two Features of a list have one id.
    """
    found = list(spatials) if is_list(spatials) else norm_regions(spatials)
    if not len(found):
        raise ModelError("spatials must be a non-empty list of regions")
    if isinstance(found, list):
        check_ids([name for name, _ in map(feature_of, found) if name is not None], "spatials")
    return found


def single_region(spatial: Any) -> Sequence[Any]:
    """Return one region as a sequence of one: of a table or a FeatureCollection with its name and labels.

    Raises
    ------
    SpecError
        If it holds another number of regions.
    """
    table = isinstance(spatial, Mapping) and spatial.get("type") == "FeatureCollection"
    if not (table or isinstance(spatial, Regions) or is_frame(spatial)):
        return [spatial]
    count = len(spatial.get("features") or ()) if table else len(spatial)
    if count != 1:
        what = "a FeatureCollection" if table else type(spatial).__name__
        raise SpecError(f"{what} as one region must hold one, got {count}; use get_embeddings_batch(spatials=...)")
    return norm_regions(spatial)


def properties_of(feature: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the properties of a GeoJSON Feature; none where there are none."""
    found = feature.get("properties") or {}
    if not isinstance(found, Mapping):
        raise SpecError(f"the properties of a Feature must be an object, got {type(found).__name__}")
    return found


def feature_of(spatial: Any) -> tuple[RegionId | None, dict[str, Scalar]]:
    """Return name and labels of a GeoJSON Feature; none of anything else."""
    if not isinstance(spatial, Mapping) or spatial.get("type") != "Feature":
        return None, {}
    labels = {str(k): label_of(v) for k, v in properties_of(spatial).items()}
    name = spatial["id"] if spatial.get("id") is not None else labels.pop("id", None)
    return (None if name is None else id_of(name)), labels
