"""The tables of a store of chips, and which of their rows lie in a region or next to a place."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.chips import ChipSet, date_text, weights_of
from rs_embed.core.errors import NoImageryError, ProviderError
from rs_embed.core.notices import warn_user
from rs_embed.core.overlap import bounds_of, distances, farther_than, overlap, touching
from rs_embed.providers.products.chip_columns import Named
from rs_embed.providers.products.chip_files import ChipFile, Chips
from rs_embed.providers.products.chip_folders import ChipFolder
from rs_embed.providers.products.chip_index import ChipIndex, Progress, build_index
from rs_embed.providers.products.files import LocalFile

__all__ = ["ChipArchive", "Found", "Wanted", "missing"]

_OPEN = 256
"""Files that are kept open."""
_READERS = 8
"""Row groups that are read at the same time."""
_MUCH = 2**30
"""Bytes behind URLs of which users are told before they are fetched."""
_FIRST = 64
"""Chips whose distance is measured first."""

Interval = tuple[datetime, datetime]


@dataclass(frozen=True)
class Wanted:
    """What is looked for: a region, and when."""

    outline: Any
    """Shapely geometry in degrees, cut at the antimeridian."""
    interval: Interval | None = None
    """Start and end (excluded) of the dates; ``None``: of any, or no date."""


@dataclass
class Found:
    """Chips of a region, without their vectors."""

    group: NDArray[np.int64]
    """``(n,)``: number of the row group in the index."""
    row: NDArray[np.int64]
    chips: Chips
    areas: NDArray[np.float64]
    """Square metres of each within the region."""
    otherwise: set[Any] = field(default_factory=set)
    """Dates of chips there that lie outside of the interval."""

    def take(self, rows: NDArray[Any]) -> Found:
        """Return some of the chips."""
        return Found(self.group[rows], self.row[rows], _taken(self.chips, rows), self.areas[rows], self.otherwise)


def _taken(chips: Chips, rows: NDArray[Any]) -> Chips:
    numbers = np.arange(len(chips.ids))[rows].tolist()
    table = {name: [column[i] for i in numbers] for name, column in chips.table.items()}
    return Chips(chips.footprints[rows], chips.dates[rows], [chips.ids[i] for i in numbers], table)


def _joined(parts: Sequence[Found]) -> Found:
    """Return the chips of several row groups as one."""
    if not parts:
        none = np.zeros(0, np.int64)
        chips = Chips(np.empty(0, object), np.empty(0, "datetime64[s]"), [], {})
        return Found(none, none, chips, np.zeros(0))
    names = dict.fromkeys(name for part in parts for name in part.chips.table)
    table = {n: [v for p in parts for v in p.chips.table.get(n, [None] * len(p.row))] for n in names}
    chips = Chips(
        np.concatenate([part.chips.footprints for part in parts]),
        np.concatenate([part.chips.dates for part in parts]),
        [name for part in parts for name in part.chips.ids],
        table,
    )
    group, row, areas = (np.concatenate([getattr(part, each) for part in parts]) for each in ("group", "row", "areas"))
    return Found(group, row, chips, areas, set().union(*(part.otherwise for part in parts)))


class ChipArchive:
    """The tables of a store of chips; the index is learnt once.

    Parameters
    ----------
    folder
        The files.
    named
        Columns that the user names.
    dims
        Length of the vectors; ``None``: that of the first file.
    """

    def __init__(self, folder: ChipFolder, named: Named | None = None, dims: int | None = None) -> None:
        self.folder, self.named, self.dims, self.source = folder, named or Named(), dims, folder.source
        self._lock = threading.Lock()
        self._open: OrderedDict[int, ChipFile] = OrderedDict()
        self._opening: dict[int, threading.Lock] = {}
        self._index: ChipIndex | None = None

    def file(self, number: int) -> ChipFile:
        """Return a file, opened once."""
        with self._lock:
            alone = self._opening.setdefault(number, threading.Lock())
        with alone:
            found = self._open.get(number)
            if found is None:
                found = ChipFile(self.folder.files[number].open(), self.named, self.dims)
                with self._lock:
                    self._open[number] = found
                    while len(self._open) > _OPEN:
                        self._open.popitem(last=False)
        return found

    def index(self, progress: Progress = lambda items, count: items) -> ChipIndex:
        """Return what lies where.

        Raises
        ------
        NoImageryError
            If the files hold no chip.
        ProviderError
            If one of them cannot be read.
        """
        if self._index is None:
            self._index = build_index(self.folder, self.file, progress)
        if not self._index.rows.sum():
            raise NoImageryError(f"{self.source} holds no chips: its tables have no row")
        return self._index

    def _of(self, number: int) -> tuple[ChipFile, int]:
        """Return file and row group of a number of the index."""
        index = self.index()
        return self.file(int(index.file[number])), int(index.group[number])

    def find(self, wanted: Sequence[Wanted], others: Sequence[str] | None = ()) -> list[Found]:
        """Return the chips of regions; each row group is looked at once.

        Parameters
        ----------
        wanted
            The regions.
        others
            Columns that are read besides; ``None``: all that are plain.
        """
        index = self.index()
        asking: dict[int, list[int]] = defaultdict(list)
        for i, each in enumerate(wanted):
            for number in touching(index.bounds, each.outline).tolist():
                asking[number].append(i)

        def look(number: int) -> dict[int, Found]:
            return self._find(number, {i: wanted[i] for i in asking[number]}, others)

        parts: dict[int, list[Found]] = defaultdict(list)
        for found in self._each(look, sorted(asking)):
            for i, part in found.items():
                parts[i].append(part)
        return [_joined(parts[i]) for i in range(len(wanted))]

    @staticmethod
    def _each(look: Callable[[int], Any], numbers: Sequence[int]) -> Iterator[Any]:
        """Yield what each row group gives, in order, some read at the same time."""
        if len(numbers) < 2:
            yield from map(look, numbers)
            return
        with ThreadPoolExecutor(_READERS, thread_name_prefix="rs-embed-chips") as pool:
            for at in range(0, len(numbers), _READERS):
                yield from pool.map(look, numbers[at : at + _READERS])

    def _find(self, number: int, wanted: Mapping[int, Wanted], others: Sequence[str] | None) -> dict[int, Found]:
        """Return the chips of one row group by region."""
        file, group = self._of(number)
        places = file.places(group)
        union = np.unique(np.concatenate([touching(places, each.outline) for each in wanted.values()]))
        if not len(union):
            return {}
        chips = file.chips(group, union, file.others(others))
        bounds, found = bounds_of(chips.footprints), {}
        for i, each in wanted.items():
            at = touching(bounds, each.outline)
            if not len(at):
                continue
            part = Found(np.full(len(at), number), union[at], _taken(chips, at), np.zeros(len(at)))
            part.areas = overlap(part.chips.footprints, each.outline).areas
            part = part.take(weights_of(part.chips.footprints, part.areas, each.outline) > 0)
            found[i] = within(part, each.interval)
        return {i: part for i, part in found.items() if len(part.row) or part.otherwise}

    def everything(self, interval: Interval | None, others: Sequence[str] | None = ()) -> Found:
        """Return all chips, or all of a span of time."""
        index = self.index()

        def look(number: int) -> Found:
            file, group = self._of(number)
            rows = np.arange(int(index.rows[number]))
            chips = file.chips(group, rows, file.others(others))
            return within(Found(np.full(len(rows), number), rows, chips, np.zeros(len(rows))), interval)

        return _joined(list(self._each(look, range(len(index)))))

    def vectors(self, found: Sequence[Found]) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float32]]]:
        """Yield (which of ``found``, which of its chips, vectors): each row group is read once, for all of them."""
        asking: dict[int, list[tuple[int, NDArray[np.int64]]]] = defaultdict(list)
        for i, each in enumerate(found):
            for number in np.unique(each.group).tolist():
                asking[number].append((i, np.flatnonzero(each.group == number)))

        self._tell_of(asking)

        def look(number: int) -> tuple[int, NDArray[np.int64], NDArray[np.float32]]:
            file, group = self._of(number)
            rows = np.unique(np.concatenate([found[i].row[at] for i, at in asking[number]]))
            return number, rows, file.vectors(group, rows)

        for number, rows, vectors in self._each(look, sorted(asking)):
            for i, at in asking[number]:
                yield i, at, vectors[np.searchsorted(rows, found[i].row[at])]

    def files_of(self, found: Found) -> list[dict[str, Any]]:
        """Return the files that chips lie in, as JSON types: names, and the hub's hash and size where it lists them."""
        numbers = np.unique(self.index().file[np.unique(found.group)]).tolist()
        listed = [self.folder.files[number] for number in numbers]
        return [{"name": each.name, "version": each.tag} for each in listed]

    def size_of(self, found: Sequence[Found]) -> int:
        """Return the bytes of the vectors of all row groups that chips lie in: rows cannot be had alone."""
        return self._size({number for each in found for number in np.unique(each.group).tolist()})

    def _size(self, numbers: Iterable[int], *, elsewhere: bool = False) -> int:
        size = 0
        for number in numbers:
            file, group = self._of(number)
            here = elsewhere and isinstance(file.table.file, LocalFile)
            size += 0 if here else file.table.size(group, [file.columns.vector])
        return size

    def _tell_of(self, numbers: Iterable[int]) -> None:
        """Warn before very much is fetched."""
        size = self._size(numbers, elsewhere=True)
        if size > _MUCH:
            warn_user(
                f"fetching {size / 1e9:.1f} GB of {self.source}: its row groups are large, and are read whole; ask for "
                "many regions in one call, or read a copy on this machine"
            )

    def chip_set(self, found: Found, facts: Mapping[str, Any]) -> ChipSet:
        """Return chips with their vectors."""
        vectors: NDArray[np.float32] | None = None
        for _, at, part in self.vectors([found]):
            if vectors is None:
                vectors = np.full((len(found.row), part.shape[1]), np.nan, np.float32)
            if part.shape[1] != vectors.shape[1]:
                raise ProviderError(
                    f"{self.source} holds vectors of {vectors.shape[1]} and of {part.shape[1]} numbers: its files are "
                    "of several models; read them one by one"
                )
            vectors[at] = part
        chips = found.chips
        empty = np.zeros((0, self.dims or 0), np.float32)
        return ChipSet(
            empty if vectors is None else vectors, chips.footprints, chips.dates, chips.ids, chips.table, facts
        )

    def nearest(
        self, lon: float, lat: float, k: int = 1, *, interval: Interval | None = None, others: Sequence[str] | None = ()
    ) -> tuple[Found, NDArray[np.float64]]:
        """Return the ``k`` chips nearest to a point, nearest first, and their distances in metres.

        Row groups are looked at from the nearest on, until the next one cannot hold a nearer chip.
        """
        index = self.index()
        least = farther_than(index.bounds, lon, lat)
        best, metres = _joined([]), np.zeros(0)
        for number in np.argsort(least, kind="stable").tolist():
            if np.isnan(least[number]) or (len(metres) >= k and least[number] > metres[-1]):
                break
            part, far = self._near(number, (lon, lat), k, interval, others)
            best, metres = _joined([best, part] if len(best.row) else [part]), np.concatenate((metres, far))
            order = np.argsort(metres, kind="stable")[:k]
            best, metres = best.take(order), metres[order]
        return best, metres

    def _near(
        self,
        number: int,
        place: tuple[float, float],
        k: int,
        interval: Interval | None,
        others: Sequence[str] | None,
    ) -> tuple[Found, NDArray[np.float64]]:
        """Return the nearest chips of one row group and their distances: all that can be among the nearest ``k``."""
        file, group = self._of(number)
        least = farther_than(file.places(group), *place)
        order = np.argsort(least, kind="stable")
        order = order[~np.isnan(least[order])]
        count = max(_FIRST, 4 * k)
        while True:
            rows = np.sort(order[:count])
            chips = file.chips(group, rows, file.others(others))
            found = within(Found(np.full(len(rows), number), rows, chips, np.zeros(len(rows))), interval)
            metres = distances(found.chips.footprints, *place)
            sure = least[order[count]] if count < len(order) else np.inf
            if count >= len(order) or int((metres <= sure).sum()) >= k:
                return found, metres
            count *= 4


def within(found: Found, interval: Interval | None) -> Found:
    """Return the chips of a span of time; the dates of the others are noted."""
    if interval is None or not len(found.row):
        return found
    start, end = (np.datetime64(t.astimezone(UTC).replace(tzinfo=None), "s") for t in interval)
    dates = found.chips.dates
    good = (dates >= start) & (dates < end)
    kept = found.take(good)
    kept.otherwise = set(dates[~good].tolist()) if not good.all() else set()
    return kept


def missing(archive: ChipArchive, name: str, wanted: Wanted, place: tuple[float, float], found: Found) -> str:
    """Say that a region has no chip: which dates there are, or how far the nearest one is."""
    lon, lat = place
    where = f"the region at {lat:.4f}° N, {lon:.4f}° E"
    if found.otherwise and wanted.interval is not None:
        known = sorted(str(date)[:10] for date in found.otherwise if date is not None)
        start, end = (moment.date() for moment in wanted.interval)
        dates = f"there are some of {', '.join(known[:6])}" if known else "those there have no date"
        more = " …" if len(known) > 6 else ""
        return f"{name} has no chip of {start}/{end} in {where}; {dates}{more}: say another time, or none"
    nearest, metres = archive.nearest(lon, lat, interval=wanted.interval)
    if not len(metres):
        return f"{name} has no chip {'of that time ' if wanted.interval else ''}that says where it lies"
    date = date_text(nearest.chips.dates[0])
    return (
        f"{name} has no chip that shares ground with {where}; the nearest is {metres[0] / 1000:.1f} km from its "
        f"middle: {nearest.chips.ids[0]}{f' of {date}' if date else ''} (read_chips(..., nearest=1) reads it)"
    )
