"""GeoParquet 1.1 of vectors, written row by row with flat memory."""

from __future__ import annotations

import io
import json
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.embedding import Embedding
from rs_embed.core.errors import SpecError, StoreError
from rs_embed.core.georeference import flat_attributes
from rs_embed.store.atomic import atomic, check_writable
from rs_embed.store.convention import GEOEMB, convention_of
from rs_embed.store.records import SCHEMA, foreign, restore
from rs_embed.store.rows import Column, Columns, Row, check_same_space, label_columns, row_of

__all__ = ["TableWriter", "read_parquet"]

_BLOCK = 1000
"""Rows that are held before they are spooled."""
_GROUP_BYTES = 2**26
"""Numbers of a row group."""
_MAX_GROUP = 20_000
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_FLAT = ("model", "variant", "space", "license", "citation", "attribution")
_MOST = 100
"""Different citations or attributions that are kept for the footer; every row has its own in ``meta``."""


class _ArrowErrors:
    """Turns what arro3 raises, bare `Exception` and panics, into `StoreError`."""

    def __init__(self, said: str) -> None:
        self.said = said

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and (kind is Exception or kind.__name__ == "PanicException"):
            raise StoreError(f"{self.said}: {error}") from error


class TableWriter:
    """Writes vectors to a GeoParquet file one by one; the file is there when the block ends well.

    Rows are spooled to an unnamed file beside the target, for the types of label columns and the bounds of all
    regions, which the footer needs, are known at the end only. Memory holds a thousand rows and one row group.

    Columns: ``id`` (text), ``geometry`` (WKB, degrees: the region) with its ``bbox``, ``start_datetime`` and
    ``end_datetime`` (UTC, end excluded), the label columns, ``error`` (null where the row is sound), ``embedding`` (a
    list of D float32), ``meta`` (JSON). Footer: ``geo`` (GeoParquet 1.1, https://geoparquet.org/releases/v1.1.0/),
    ``geoemb`` (the community's convention for embeddings), ``rs_embed`` (model, space, licence, citation, attribution).

    Examples
    --------
    >>> with TableWriter("fields.parquet") as table:  # doctest: +SKIP
    ...     for embedding in iter_embeddings("galileo", spatials=regions):
    ...         table.write(embedding)

    Parameters
    ----------
    path
        Where to write.
    overwrite
        Whether a file that exists may be replaced.
    many
        Whether `load` gives a list, also where there is one row.

    Raises
    ------
    SpecError
        If ``path`` cannot be written.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False, many: bool = True) -> None:
        self.path, self.many = Path(path), many
        check_writable(self.path, overwrite=overwrite)
        self._spool: BinaryIO = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115 (closed by __exit__)
        self._vectors: list[NDArray[np.float32]] = []
        self._rows: list[Row] = []
        self._first: Embedding | None = None
        self._columns = Columns()
        self._kinds: set[str] = set()
        self._bounds: NDArray[np.float64] | None = None
        self._shared: dict[str, list[str]] = {name: [] for name in _FLAT}

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._spool.close()

    def write(self, embedding: Embedding) -> None:
        """Add a row.

        Raises
        ------
        SpecError
            If it is a grid, or of another model, length or space than the rows before.
        """
        check_same_space(self._first or embedding, embedding, self.path.name)
        row = row_of(embedding)
        if self._first is None or (embedding.ok and not self._first.ok):
            self._first = embedding
        self._columns.see(row.labels)
        if row.bounds is not None and row.kind is not None:
            self._kinds.add(row.kind)
            low, high = np.array(row.bounds[:2]), np.array(row.bounds[2:])
            before = np.concatenate((low, high)) if self._bounds is None else self._bounds
            self._bounds = np.concatenate((np.minimum(before[:2], low), np.maximum(before[2:], high)))
        for name, text in flat_attributes(embedding.meta).items():
            if name in _FLAT and len(self._shared[name]) < _MOST and text not in self._shared[name]:
                self._shared[name].append(text)
        self._vectors.append(embedding.values().copy())
        self._rows.append(row)
        if len(self._rows) >= _BLOCK:
            self._flush()

    def _flush(self) -> None:
        # Nobody else can reach the unnamed file that this is read back from.
        try:
            pickle.dump((np.stack(self._vectors), self._rows), self._spool, protocol=5)
        except OSError as error:
            raise StoreError(f"{self.path} could not be written: {error.strerror or error}") from error
        self._vectors, self._rows = [], []

    def _blocks(self) -> Iterator[tuple[NDArray[np.float32], list[Row]]]:
        self._spool.seek(0)
        while True:
            try:
                yield pickle.load(self._spool)
            except EOFError:
                return

    def _finish(self) -> None:
        from arro3.core import RecordBatchReader
        from arro3.io import write_parquet

        if self._first is None:
            raise SpecError(f"{self.path.name}: there is no embedding to write")
        if self._rows:
            self._flush()
        batches = (_batch(vectors, rows, self._columns) for vectors, rows in self._blocks())
        first = next(batches)

        def every() -> Iterator[Any]:
            yield first
            yield from batches

        footer = {"geo": self._geo(), GEOEMB: convention_of(self._first.meta, self._first.dim, grid=False)}
        size = min(_MAX_GROUP, max(500, _GROUP_BYTES // (4 * self._first.dim)))
        with atomic(self.path) as temporary, _ArrowErrors(f"{self.path} could not be written"):
            write_parquet(
                RecordBatchReader.from_batches(first.schema, every()),
                temporary,
                compression="zstd(3)",
                max_row_group_size=size,
                column_dictionary_enabled={("embedding", "list", "item"): False, "meta": False, "geometry": False},
                key_value_metadata=footer | {"rs_embed": self._said()},
            )

    def _geo(self) -> str:
        column: dict[str, Any] = {"encoding": "WKB", "geometry_types": sorted(self._kinds)}
        if self._bounds is not None:
            column["bbox"] = self._bounds.tolist()
        column["covering"] = {"bbox": {side: ["bbox", side] for side in _SIDES}}
        return json.dumps({"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}})

    def _said(self) -> str:
        """Return what all rows share: one text, or a list where rows differ."""
        shared = {name: texts[0] if len(texts) == 1 else texts for name, texts in self._shared.items() if texts}
        return json.dumps({"schema": SCHEMA, "many": self.many} | shared)


def _text(values: list[str | None]) -> Any:
    from arro3.core import Array, DataType

    return Array(values, DataType.utf8())


def _times(moments: list[Any]) -> Any:
    from arro3.core import Array, DataType

    ticks = [None if m is None else round(m.timestamp() * 1_000_000) for m in moments]
    return Array(ticks, DataType.int64()).cast(DataType.timestamp("us", tz="UTC"))


def _boxes(rows: list[Row]) -> Any:
    from arro3.core import Array, DataType, Field, struct_array

    sides = [[None if row.bounds is None else row.bounds[i] for row in rows] for i in range(4)]
    fields = [Field(side, DataType.float64(), nullable=True) for side in _SIDES]
    return struct_array([Array(values, DataType.float64()) for values in sides], fields=fields)


def _numbers(vectors: NDArray[np.float32]) -> Any:
    from arro3.core import Array, DataType, Field, fixed_size_list_array

    kind = DataType.list(Field("item", DataType.float32(), nullable=True), vectors.shape[1])
    return fixed_size_list_array(Array.from_numpy(vectors.ravel()), vectors.shape[1], type=kind)


def _label(column: Column) -> Any:
    from arro3.core import Array, DataType

    types = {"bool": DataType.bool, "int": DataType.int64, "float": DataType.float64, "str": DataType.utf8}
    return Array(column.values, types[column.kind]())


def _batch(vectors: NDArray[np.float32], rows: list[Row], columns: Columns) -> Any:
    """Return some rows as a record batch."""
    from arro3.core import Array, DataType, Field, RecordBatch, Schema

    arrays = {
        "id": _text([row.id for row in rows]),
        "geometry": Array([row.wkb for row in rows], DataType.binary()),
        "bbox": _boxes(rows),
        "start_datetime": _times([row.start for row in rows]),
        "end_datetime": _times([row.end for row in rows]),
        **{name: _label(column) for name, column in label_columns(columns, rows).items()},
        "error": _text([row.error for row in rows]),
        "embedding": _numbers(vectors),
        "meta": _text([row.meta for row in rows]),
    }
    schema = Schema([Field(name, array.type, nullable=True) for name, array in arrays.items()])
    return RecordBatch.from_arrays(list(arrays.values()), schema=schema)


def _check_ends(path: Path) -> None:
    """Refuse what does not begin and end as Parquet, which arro3 panics over."""
    with path.open("rb") as file:
        head, size = file.read(4), file.seek(0, io.SEEK_END)
        file.seek(max(0, size - 8))
        tail = file.read()
    if head != b"PAR1" or tail[-4:] != b"PAR1" or int.from_bytes(tail[:4], "little") + 12 > size:
        raise StoreError(f"{path.name} is no Parquet, or it is cut off")


def read_parquet(path: Path) -> tuple[list[Embedding], bool]:
    """Return what `TableWriter` wrote."""
    from arro3.core import list_flatten
    from arro3.io import read_parquet as read

    _check_ends(path)
    found: list[Embedding] = []
    with _ArrowErrors(f"{path.name} is damaged"):
        reader = read(path, batch_size=4096)
        footer, names = reader.schema.metadata_str.get("rs_embed"), reader.schema.names
        missing = sorted({"embedding", "meta"} - set(names))
        if footer is None or missing:
            said = f"column {' and '.join(missing)} (but {', '.join(names)})" if missing else "footer 'rs_embed'"
            raise foreign(path, said, "geopandas.read_parquet")
        for batch in reader:
            flat = list_flatten(batch["embedding"]).to_numpy()
            vectors = np.asarray(flat, np.float32).reshape(batch.num_rows, -1)
            texts = batch["meta"].to_pylist()
            found += [restore(v, {"meta": json.loads(t)}) for v, t in zip(vectors, texts, strict=True)]
    return found, bool(json.loads(footer)["many"])
