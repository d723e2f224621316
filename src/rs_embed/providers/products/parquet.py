"""Some columns and rows of a Parquet file, here or behind a URL, and nothing else of it."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.errors import MissingExtraError, NoImageryError, ProviderError
from rs_embed.providers.products.files import StoredFile

__all__ = ["ParquetTable", "require_pyarrow", "vectors_of"]

_SMALL = 2**26
"""Bytes of a row group's columns that are fetched at once; larger ones are read through, piece by piece."""
_BUFFER = 2**23
"""Bytes of such a piece."""
_KEPT = 2**21
"""Bytes of a file that are kept: small columns are read twice, to find rows and to tell of them."""
_DECODED = 2**26
"""Bytes that are decoded at a time."""


def require_pyarrow() -> None:
    """Raise `MissingExtraError`, which says how it is installed, where pyarrow is not."""
    _arrow()


def _arrow() -> Any:
    """Return pyarrow, or say how it is installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(
            'embeddings in GeoParquet files are read with pyarrow: pip install "rs-embed[parquet]"'
        ) from error
    return pyarrow


@contextmanager
def _told(name: str, said: str) -> Iterator[None]:
    """Turn what pyarrow raises over a file into an error that names it."""
    arrow = _arrow()
    try:
        yield
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, ProviderError):
            raise
        text = " ".join(str(error).split())[:200]
        raise ProviderError(f"{name}: {said} ({text}); copy it again, or leave it out") from error


class _Reader(io.RawIOBase):
    """A file as pyarrow reads it: what was fetched before, else ranges that are fetched now."""

    def __init__(self, file: StoredFile, parts: Sequence[tuple[int, bytes]] = ()) -> None:
        self.file, self.parts, self.at = file, parts, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.file.size}[whence]
        return self.at

    def read(self, size: int = -1) -> bytes:
        stop = self.file.size if size is None or size < 0 else min(self.at + size, self.file.size)
        start, self.at = self.at, max(self.at, stop)
        if start >= stop:
            return b""
        for begin, content in self.parts:
            if begin <= start and stop <= begin + len(content):
                return content[start - begin : stop - begin]
        (found,) = self.file.ranges([(start, stop)])
        return found


class ParquetTable:
    """A Parquet file whose footer has been read.

    Parameters
    ----------
    file
        Where its bytes come from.

    Raises
    ------
    ProviderError
        If it is no Parquet, or is cut off.
    MissingExtraError
        If pyarrow is not installed.
    """

    def __init__(self, file: StoredFile) -> None:
        arrow = _arrow()
        self.file, self.name, self.key = file, file.name, file.key
        if not file.size:
            raise ProviderError(f"{file.name} is empty (0 bytes): copy it again, or leave it out")
        with _told(self.name, "it is no Parquet, or cut off"):
            self._footer = arrow.parquet.read_metadata(arrow.PythonFile(_Reader(file), mode="r"))
            self.schema = self._footer.schema.to_arrow_schema()
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.schema.names)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self._footer.num_rows)

    @property
    def groups(self) -> int:
        """Number of row groups."""
        return int(self._footer.num_row_groups)

    def rows_of(self, group: int) -> int:
        """Return the rows of a row group."""
        return int(self._footer.row_group(group).num_rows)

    @cached_property
    def texts(self) -> dict[str, str]:
        """Texts of the footer by their keys."""
        found = self._footer.metadata or {}
        return {key.decode("utf-8", "replace"): text.decode("utf-8", "replace") for key, text in found.items()}

    @cached_property
    def _leaves(self) -> dict[str, list[int]]:
        """Numbers of the stored columns by the name of the table's column."""
        found: dict[str, list[int]] = {}
        for i in range(self._footer.num_columns):
            found.setdefault(self._footer.schema.column(i).path.split(".")[0], []).append(i)
        return found

    def _chunks(self, group: int, columns: Sequence[str]) -> list[Any]:
        about = self._footer.row_group(group)
        return [about.column(i) for name in columns for i in self._leaves.get(name, ())]

    def limits(self, group: int, path: str) -> tuple[float, float] | None:
        """Return least and greatest number of a stored column by its statistics; ``None`` where they do not tell."""
        for chunk in self._chunks(group, [path.split(".")[0]]):
            told = chunk.statistics if chunk.path_in_schema == path else None
            if told is not None and told.has_min_max:
                low, high = float(told.min), float(told.max)
                return (low, high) if low <= high else None  # NaN says nothing
        return None

    def box(self, group: int, column: str) -> tuple[float, float, float, float] | None:
        """Return west, south, east and north of a column of Parquet's own type GEOMETRY, by its statistics."""
        for chunk in self._chunks(group, [column]):
            told = getattr(chunk, "geo_statistics", None)
            if told is not None and None not in (told.xmin, told.ymin, told.xmax, told.ymax):
                return told.xmin, told.ymin, told.xmax, told.ymax
        return None

    def width(self, column: str) -> int:
        """Return the length of the vectors of a column: as the schema says, or as their numbers are counted."""
        size = getattr(self.schema.field(column).type, "list_size", None)
        if size is not None:
            return int(size)
        count = sum(chunk.num_values for group in range(self.groups) for chunk in self._chunks(group, [column]))
        if self.rows and count % self.rows == 0 and count > self.rows:
            return int(count // self.rows)
        for group in range(self.groups):  # rows without a vector are counted too: one has to be looked at
            found = vectors_of(self.read(group, [column]).column(column), self.name)
            if np.isfinite(found).any():
                return int(found.shape[1])
        raise NoImageryError(f"{self.name} holds no vector in its column {column!r}")

    def size(self, group: int, columns: Sequence[str]) -> int:
        """Return the bytes that columns of a row group take in the file."""
        return sum(int(chunk.total_compressed_size) for chunk in self._chunks(group, columns))

    def read(self, group: int, columns: Sequence[str], rows: NDArray[np.int64] | None = None) -> Any:
        """Return columns of a row group as a ``pyarrow.Table``, or some of its rows (ascending).

        Raises
        ------
        ProviderError
            If they are damaged, or their bytes cannot be had.
        """
        arrow = _arrow()
        large = self.size(group, columns) > _SMALL
        parts = [] if large else self._fetched(group, columns)
        with _told(self.name, f"its row group {group} cannot be read"):
            source = arrow.PythonFile(_Reader(self.file, parts), mode="r")
            opened = arrow.parquet.ParquetFile(
                source, metadata=self._footer, pre_buffer=False, buffer_size=_BUFFER if large else 0
            )
            found, at = [], 0
            count = self._at_once(group, columns)
            for batch in opened.iter_batches(count, row_groups=[group], columns=list(columns), use_threads=False):
                if rows is None:
                    found.append(batch)
                else:
                    inside = rows[np.searchsorted(rows, at) : np.searchsorted(rows, at + batch.num_rows)] - at
                    found += [batch.take(arrow.array(inside))] if len(inside) else []
                at += batch.num_rows
            schema = arrow.schema([self.schema.field(name) for name in self.schema.names if name in columns])
            return arrow.Table.from_batches(found, None if found else schema)

    def _at_once(self, group: int, columns: Sequence[str]) -> int:
        """Return how many rows are decoded together."""
        plain = sum(int(chunk.total_uncompressed_size) for chunk in self._chunks(group, columns))
        return max(64, min(2**16, _DECODED * self.rows_of(group) // max(plain, 1)))

    def _fetched(self, group: int, columns: Sequence[str]) -> list[tuple[int, bytes]]:
        """Return the stored bytes of columns, those that are not here yet fetched together."""
        wanted = []
        for chunk in self._chunks(group, columns):
            offsets = (chunk.data_page_offset, chunk.dictionary_page_offset)
            start = min(offset for offset in offsets if offset is not None and offset > 0)
            wanted.append((start, start + int(chunk.total_compressed_size)))
        late = [stop for _, stop in wanted if stop > self.file.size]
        if late:
            raise ProviderError(
                f"{self.name} ends at byte {self.file.size}, before a column that its footer puts up to byte "
                f"{late[0]}: it is damaged; copy it again"
            )
        with self._lock:
            have = {span: self._kept[span] for span in wanted if span in self._kept}
        missing = [span for span in wanted if span not in have]
        have |= dict(zip(missing, self.file.ranges(missing), strict=True)) if missing else {}
        with self._lock:
            self._kept |= {span: have[span] for span in missing if span[1] - span[0] <= _KEPT // 4}
            while sum(map(len, self._kept.values())) > _KEPT:
                self._kept.popitem(last=False)
        return [(span[0], have[span]) for span in wanted]


def vectors_of(column: Any, name: str) -> NDArray[np.float32]:
    """Return the vectors ``(n, D)`` of a list column; rows and numbers that are null become NaN.

    Raises
    ------
    ProviderError
        If it holds no lists of numbers, or they are not of one length; ``name`` is the file's.
    """
    arrow = _arrow()
    import pyarrow.compute as compute

    array = column.combine_chunks() if isinstance(column, arrow.ChunkedArray) else column
    if isinstance(array, arrow.ChunkedArray):  # without a row there is no chunk
        array = arrow.array([], column.type)
    array = getattr(array, "storage", array)
    lengths = compute.list_value_length(array).drop_null().unique().to_pylist()
    if len(lengths) > 1:
        told = ", ".join(map(str, sorted(lengths)[:4]))
        raise ProviderError(f"{name}: its vectors are not of one length but of {told}; they are of several models")
    numbers = np.asarray(array.flatten().to_numpy(zero_copy_only=False))
    if numbers.dtype == object or numbers.dtype.kind not in "fiu":
        raise ProviderError(f"{name}: its vectors are lists of {array.type.value_type}, not of numbers")
    found = np.full((len(array), lengths[0] if lengths else 0), np.nan, np.float32)
    with np.errstate(over="ignore"):
        found[~np.asarray(array.is_null())] = numbers.reshape(-1, found.shape[1]) if len(numbers) else np.nan
    return found
