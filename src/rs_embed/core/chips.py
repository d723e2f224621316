"""Precomputed embeddings of pieces of imagery: vectors with their footprints and dates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.cells import GEM_FLOOR, GEM_POWER, POOLED_BY
from rs_embed.core.checks import check_choice, check_number
from rs_embed.core.embedding import Embedding
from rs_embed.core.errors import MissingExtraError, NoImageryError, SpecError
from rs_embed.core.footprints import outline_of, region_dict
from rs_embed.core.overlap import bounds_of, cell_keys, distances, overlap, touching
from rs_embed.core.regions import WGS84, BBox, SpatialSpec, norm_spatial

if TYPE_CHECKING:
    import geopandas

__all__ = ["ChipPool", "ChipSet", "check_count", "date_text", "newest_rows", "region_outline", "weights_of"]

POOLINGS = ("mean", *POOLED_BY)
_WHOLE = 1 - 1e-6
"""Share that counts as all: rounding of coordinates is forgiven."""
_TOLD = 1000
"""Chips that metadata list at most."""

Doubles = NDArray[np.float64]
Dates = NDArray[np.datetime64]


@dataclass(frozen=True, eq=False, repr=False)
class ChipSet:
    """Vectors of chips: pieces of imagery that somebody has embedded before.

    Attributes
    ----------
    vectors
        ``(N, D)``, float32; a row that holds a NaN never enters a mean.
    footprints
        ``(N,)``: the ground of each, shapely polygons in degrees, or points where the file says no more.
    dates
        ``(N,)``, ``datetime64[s]``, UTC: of the imagery, or the start of its span; NaT where it is unknown.
    ids
        ``(N,)``: names; file and row where the table has none, numbers where none are given.
    table
        The other columns, by name.
    facts
        What all rows share: ``model``, ``space``, ``license``, ``attribution``, ``source``, ...

    Raises
    ------
    SpecError
        If lengths differ, or ``vectors`` is no table of numbers.
    """

    vectors: NDArray[np.float32]
    footprints: NDArray[Any]
    dates: Dates
    ids: Sequence[Any] = ()
    table: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if np.ndim(self.vectors) != 2:
            raise SpecError(f"ChipSet.vectors must be (N, D), got the shape {np.shape(self.vectors)}")
        footprints = np.empty(len(self.footprints), object)
        footprints[:] = self.footprints
        for name, value in (
            ("vectors", np.asarray(self.vectors, np.float32)),
            ("footprints", footprints),
            ("dates", np.asarray(self.dates, "datetime64[s]")),
            ("ids", self.ids if len(self.ids) else range(len(self.vectors))),
        ):
            object.__setattr__(self, name, value)
        lengths = {"footprints": len(self.footprints), "dates": len(self.dates), "ids": len(self.ids)}
        lengths |= {f"table[{name!r}]": len(column) for name, column in self.table.items()}
        wrong = {name: count for name, count in lengths.items() if count != len(self.vectors)}
        if wrong:
            raise SpecError(f"ChipSet has {len(self.vectors)} vectors, but {wrong}: all must be as long")

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        """Length D of a vector."""
        return int(self.vectors.shape[1])

    def __repr__(self) -> str:
        name = self.facts.get("model") or "chips"
        known = self.dates[~np.isnat(self.dates)]
        when = f" {known.min().item().date()}..{known.max().item().date()}" if len(known) else ""
        return f"<ChipSet {name} {len(self)} x {self.dim}{when}>"

    def take(self, rows: Any) -> ChipSet:
        """Return some of the chips, by their numbers or a mask ``(N,)``."""
        chosen = np.arange(len(self))[rows]
        table = {name: [column[i] for i in chosen] for name, column in self.table.items()}
        parts = {name: getattr(self, name)[chosen] for name in ("vectors", "footprints", "dates")}
        return replace(self, **parts, ids=[self.ids[i] for i in chosen], table=table)

    def overlaps(self, spatial: Any) -> Doubles:
        """Return the square metres of ground ``(N,)`` of each chip that lie in a region; 0 for points."""
        outline = region_outline(norm_spatial(spatial))
        near = touching(bounds_of(self.footprints), outline)
        found = np.zeros(len(self))
        found[near] = overlap(self.footprints[near], outline).areas
        return found

    def covering(self, spatial: Any) -> ChipSet:
        """Return the chips that share ground with a region, and the points within it.

        The column ``overlap_m2`` says how many square metres each shares, 0 for points.
        """
        outline = region_outline(norm_spatial(spatial))
        near = touching(bounds_of(self.footprints), outline)
        areas = overlap(self.footprints[near], outline).areas
        inside = weights_of(self.footprints[near], areas, outline) > 0
        found = self.take(near[inside])
        return replace(found, table={**found.table, "overlap_m2": areas[inside].tolist()})

    def nearest(self, lon: float, lat: float, k: int = 1) -> ChipSet:
        """Return the ``k`` chips nearest to a point, nearest first; the column ``distance_m`` is 0 within a chip.

        Raises
        ------
        SpecError
            If the point lies nowhere, or ``k`` is no whole number above 0.
        """
        place = [check_number("nearest", name, value) for name, value in (("lon", lon), ("lat", lat))]
        metres = distances(self.footprints, *place)
        order = np.argsort(metres, kind="stable")[: check_count("k", k)]
        found = self.take(order)
        return replace(found, table={**found.table, "distance_m": metres[order].tolist()})

    def newest(self) -> ChipSet:
        """Return the newest chip of each cell: of chips with the same footprint."""
        rows, _ = newest_rows(self.footprints, self.dates)
        return self if len(rows) == len(self) else self.take(rows)

    def pool(self, spatial: Any, pooling: str = "mean") -> Embedding:
        """Pool the chips of a region: their mean, each weighted by the ground that it shares with the region.

        A chip counts whole: its vector cannot be cropped to the part that lies inside. ``meta["region_exact"]`` is true
        only where the chips used cover the region and nothing else. Points have no area: those within the region weigh
        alike. Chips of several dates all count, unless `newest` chose among them.

        Parameters
        ----------
        spatial
            The region.
        pooling
            ``"mean"``, or another way to pool the chips as cells: ``"cells"`` (the same), ``"max"``, ``"std"``,
            ``"stats"``, ``"gem"``.

        Raises
        ------
        NoImageryError
            If no chip shares ground with the region, or none that does holds numbers.
        """
        check_choice("ChipSet.pool", "pooling", pooling, POOLINGS)
        region = norm_spatial(spatial)
        outline = region_outline(region)
        near = touching(bounds_of(self.footprints), outline)
        weight = weights_of(self.footprints[near], overlap(self.footprints[near], outline).areas, outline)
        rows = near[weight > 0]
        if not len(rows):
            raise NoImageryError(f"none of the {len(self)} chips shares ground with {region}")
        pool = ChipPool(pooling)
        pool.add(self.take(rows), weight[weight > 0])
        vector, about = pool.result(outline, str(region))
        meta: dict[str, Any] = {**self.facts, "output": "pooled", "pooling": pooling, "region": region_dict(region)}
        if isinstance(meta.get("space"), str):
            meta["space"] += f"/{pooling}"
        return Embedding(vector, meta | {"pooled_shape": list(vector.shape)} | about)

    def to_geodataframe(self) -> geopandas.GeoDataFrame:
        """Return a GeoDataFrame in EPSG:4326: other columns, ``date``, ``embedding`` and ``geometry``; index the ids.

        Raises
        ------
        MissingExtraError
            If geopandas is not installed.
        """
        try:
            import geopandas
            import pandas
        except ImportError as error:
            raise MissingExtraError('to_geodataframe needs geopandas: pip install "rs-embed[geopandas]"') from error
        own = ("date", "embedding", "geometry")
        columns: dict[str, Any] = {name: list(column) for name, column in self.table.items() if name not in own}
        columns |= {"date": pandas.to_datetime(self.dates), "embedding": list(self.vectors)}
        index = pandas.Index(list(self.ids), name="id")
        return geopandas.GeoDataFrame(columns, geometry=list(self.footprints), crs="EPSG:4326", index=index)


class ChipPool:
    """Pools the chips of one region as they come, without keeping their vectors.

    Parameters
    ----------
    pooling
        ``"mean"`` or a key of `POOLED_BY`.
    """

    def __init__(self, pooling: str) -> None:
        self.statistics = POOLED_BY.get(pooling, ("mean",))
        self.total, self.lost = 0.0, 0
        self.shift: Doubles | None = None
        self.sums: dict[str, Doubles] = {}
        self.footprints: list[NDArray[Any]] = []
        self.weights: list[Doubles] = []
        self.told: list[tuple[Any, np.datetime64]] = []

    def add(self, chips: ChipSet, weight: Doubles) -> None:
        """Take chips with their weights ``(n,)``; those whose vectors hold a NaN stay out."""
        good = np.isfinite(chips.vectors).all(1)
        self.lost += int((~good).sum())
        if not good.any():
            return
        values, weight = chips.vectors[good].astype(np.float64), weight[good]
        self.footprints.append(chips.footprints[good])
        self.weights.append(weight)
        self.told += [(chips.ids[i], chips.dates[i]) for i in np.flatnonzero(good).tolist()]
        self.total += float(weight.sum())
        if self.shift is None:  # sums of differences: squares of large means would swallow a small spread
            self.shift = values[0]
        apart = values - self.shift
        self._sum("sum", weight @ apart, np.add)
        if "std" in self.statistics:
            self._sum("squares", weight @ np.square(apart), np.add)
        if "gem" in self.statistics:
            self._sum("powers", weight @ np.maximum(values, GEM_FLOOR) ** GEM_POWER, np.add)
        if "min" in self.statistics:
            self._sum("min", values.min(0), np.minimum)
        if "max" in self.statistics:
            self._sum("max", values.max(0), np.maximum)

    def _sum(self, name: str, value: Doubles, join: np.ufunc) -> None:
        self.sums[name] = join(self.sums[name], value) if name in self.sums else value

    def result(self, outline: Any, place: str) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Return the vector and what metadata say of the chips behind it.

        Raises
        ------
        NoImageryError
            If no chip held numbers; ``place`` names the region.
        """
        if self.shift is None:
            raise NoImageryError(f"the {self.lost} chips of {place} hold no numbers (NaN); choose another place")
        vector = np.concatenate([self._statistic(name) for name in self.statistics]).astype(np.float32)
        weight = np.concatenate(self.weights)
        return vector, _about(np.concatenate(self.footprints), weight / self.total, self.told, outline, self.lost)

    def _statistic(self, name: str) -> Doubles:
        assert self.shift is not None
        apart = self.sums["sum"] / self.total
        if name == "mean":
            return np.asarray(self.shift + apart)
        if name == "std":
            return np.asarray(np.sqrt(np.maximum(self.sums["squares"] / self.total - np.square(apart), 0.0)))
        if name == "gem":
            return np.asarray((self.sums["powers"] / self.total) ** (1 / GEM_POWER))
        return self.sums[name]


def _about(
    footprints: NDArray[Any], share: Doubles, told: Sequence[tuple[Any, np.datetime64]], outline: Any, lost: int
) -> dict[str, Any]:
    """Return what metadata say of chips that were pooled; the heaviest are listed first."""
    import shapely

    found = overlap(footprints, outline)
    by_area = bool((found.areas > 0).any())
    covered = min(1.0, found.covered / found.region)
    exact = by_area and covered >= _WHOLE and bool((found.areas >= _WHOLE * found.sizes).all())
    order = np.argsort(-share, kind="stable")[:_TOLD]
    notes = [f"{lost} chips without numbers (NaN) were left out"] if lost else []
    if by_area and covered < 0.5:
        notes.append(f"less than half of the region is covered by chips ({covered:.2f})")
    every = shapely.union_all(shapely.envelope(footprints))
    return {
        "region_exact": exact,
        "valid_fraction": round(covered, 6) if by_area else None,
        "weights": "area" if by_area else "equal",
        "chips": [
            {"id": _plain(told[i][0]), "date": date_text(told[i][1]), "share": round(float(share[i]), 6)} for i in order
        ],
        "chip_count": len(share),
        "footprint": [round(float(side), 6) for side in every.bounds],
        "warnings": notes,
    }


def weights_of(footprints: NDArray[Any], areas: Doubles, outline: Any) -> Doubles:
    """Return what chips weigh in a region: their areas, or 1 for each point within it where none has an area."""
    import shapely

    if (areas > 0).any() or not len(footprints):
        return areas
    points = np.asarray(shapely.get_dimensions(footprints)) == 0
    return np.asarray(points & shapely.intersects(footprints, outline), np.float64)


def newest_rows(footprints: NDArray[Any], dates: Dates) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the newest chip of each cell, ascending, and for each chip ``(N,)`` the one of its cell.

    Of several of one date the first counts, and any date before none.
    """
    last = np.where(np.isnat(dates), np.datetime64(-(2**62), "s"), dates)
    best: dict[Any, int] = {}
    keys = cell_keys(footprints)
    for row, key in enumerate(keys):
        if key not in best or last[row] > last[best[key]]:
            best[key] = row
    return np.array(sorted(best.values()), np.int64), np.array([best[key] for key in keys], np.int64)


def region_outline(region: SpatialSpec) -> Any:
    """Return a region in degrees, cut at the antimeridian.

    Raises
    ------
    SpecError
        If it is wider than 180°: then it cannot be told from one across the antimeridian.
    """
    if isinstance(region, BBox) and region.crs == WGS84 and region.maxlon - region.minlon > 180:
        width = region.maxlon - region.minlon
        raise SpecError(f"{region} is {width:g}° wide, and chips are found in at most 180°; split it")
    return outline_of(region)


def check_count(name: str, value: Any) -> int:
    """Return a whole number above 0, or raise `SpecError`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise SpecError(f"{name}={value!r} must be a whole number above 0")
    return int(value)


def date_text(moment: np.datetime64) -> str | None:
    """Return a date as text, with its time where it has one."""
    return None if np.isnat(moment) else str(moment.astype("datetime64[s]")).removesuffix("T00:00:00")


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int) or value is None else str(value)
