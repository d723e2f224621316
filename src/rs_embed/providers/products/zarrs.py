"""Arrays of Zarr stores: the chunks that a window needs, fetched by ranges and decoded by zarr-python.

Of a shard (codec ``sharding_indexed``, https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/) the
index and the inner chunks that are needed are read, nothing else: the array is given to zarr-python as one without
shards, chunk by chunk. A chunk that does not exist (the index says so, or the store answers 404) has the fill value;
whatever else goes wrong is an error, never the fill value.
"""

from __future__ import annotations

import json
import lzma
import math
import threading
import warnings
import zlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.errors import MissingExtraError, ProviderError
from rs_embed.providers.ahead import READS, together
from rs_embed.providers.products.files import Absent, Store, StoredFile
from rs_embed.providers.products.memory import MEMORY
from rs_embed.providers.products.zarr_nodes import Node

__all__ = ["ZarrArray", "require_zarr"]

Window = tuple[slice, ...]
Chunk = tuple[int, ...]

_EMPTY = 2**64 - 1
"""Offset and length of an inner chunk that a shard lacks."""
_AT_ONCE = 2**26
"""Decoded bytes of chunks that are fetched at once."""
_MOST = 2**31
"""Decoded bytes of a chunk that is still read."""
_GLANCE = 16
"""Bytes fetched to learn how long a shard is."""
_FILES = 1024
"""Shards whose length is remembered."""
_NOTHING = np.zeros(256, np.uint8)
"""Stands in memory for a chunk that does not exist."""
_DAMAGE = (ValueError, RuntimeError, TypeError, OSError, EOFError, zlib.error, lzma.LZMAError)
"""What decoders raise on bytes that they make no sense of."""


def require_zarr(wanted: str) -> None:
    """Refuse to go on without zarr-python.

    Raises
    ------
    MissingExtraError
        With the command that installs it.
    """
    try:
        import zarr  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f'{wanted} is a Zarr store, which needs zarr: pip install "rs-embed[zarr]"') from error


class _Decoder:
    """Turns the bytes of an array's chunks into numbers, by zarr-python."""

    def __init__(self, document: Mapping[str, Any], name: str) -> None:
        require_zarr(name)
        import zarr
        from zarr.buffer.cpu import Buffer
        from zarr.storage import MemoryStore

        self.document, self.name, self._buffer = document, name, Buffer.from_bytes
        version = document["zarr_format"]
        key = "zarr.json" if version == 3 else ".zarray"
        self._held: dict[str, Any] = {key: self._buffer(json.dumps(document).encode())}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of codecs and types that other readers may lack
            try:
                self._array: Any = zarr.open_array(MemoryStore(self._held), mode="r", zarr_format=version)
            except (*_DAMAGE, LookupError, ImportError) as error:
                raise ProviderError(f"{name}: its metadata or codecs are not understood ({error})") from error
        self.fill = self._array.fill_value
        self.dtype: np.dtype[Any] = np.dtype(self._array.dtype).newbyteorder("=")

    def __call__(self, chunk: Chunk, content: bytes) -> NDArray[Any]:
        """Return the numbers of a chunk; of one at the end of the array only those inside."""
        key = chunk_key(self.document, chunk)
        window = tuple(
            slice(c * n, min(s, (c + 1) * n))
            for c, n, s in zip(chunk, _chunk_shape(self.document), self.document["shape"], strict=True)
        )
        self._held[key] = self._buffer(content)
        try:
            return np.array(self._array[window], self.dtype)
        except _DAMAGE as error:
            raise ProviderError(
                f"{self.name}: chunk {'/'.join(map(str, chunk))} cannot be decoded ({error}): the store is half-copied "
                "or damaged; copy it again"
            ) from error
        finally:
            del self._held[key]


def chunk_key(document: Mapping[str, Any], chunk: Chunk) -> str:
    """Return where a chunk lies below its array."""
    if document["zarr_format"] == 2:
        return str(document.get("dimension_separator", ".")).join(map(str, chunk))
    encoding = document.get("chunk_key_encoding") or {"name": "default"}
    given = encoding.get("configuration") or {}
    if encoding["name"] == "v2":
        return str(given.get("separator", ".")).join(map(str, chunk))
    return str(given.get("separator", "/")).join(["c", *map(str, chunk)])


def _chunk_shape(document: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the shape of what is stored as one file."""
    if document["zarr_format"] == 2:
        return tuple(document["chunks"])
    grid = document["chunk_grid"]
    if grid["name"] != "regular":
        raise ProviderError(
            f"an array of Zarr with a {grid['name']} grid of chunks cannot be read; write a regular one"
        )
    return tuple(grid["configuration"]["chunk_shape"])


@dataclass(frozen=True)
class _Shards:
    """How the inner chunks of a shard are told."""

    counts: tuple[int, ...]
    """Inner chunks along each side."""
    codecs: Sequence[Mapping[str, Any]]
    """Of the index."""
    at_end: bool

    @property
    def size(self) -> int:
        """Bytes of an index."""
        return 16 * math.prod(self.counts) + 4 * len([c for c in self.codecs if c["name"] == "crc32c"])

    @property
    def document(self) -> dict[str, Any]:
        """The index as an array ``(..., 2)`` of one chunk: offset and length."""
        shape = [*self.counts, 2]
        return {
            **{"zarr_format": 3, "node_type": "array", "shape": shape, "data_type": "uint64", "fill_value": _EMPTY},
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}},
            "chunk_key_encoding": {"name": "default"},
            "codecs": list(self.codecs),
            "attributes": {},
        }


def _unsharded(document: Mapping[str, Any], name: str) -> tuple[dict[str, Any], _Shards | None]:
    """Return the metadata of an array as if its inner chunks were files, and how to find them in its shards."""
    codecs = document.get("codecs") or []
    if len(codecs) != 1 or codecs[0]["name"] != "sharding_indexed":
        return dict(document), None
    given = codecs[0]["configuration"]
    outer, inner = _chunk_shape(document), tuple(given["chunk_shape"])
    index = given.get("index_codecs") or [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    strange = [codec["name"] for codec in index if codec["name"] not in ("bytes", "crc32c")]
    if strange or len(outer) != len(inner) or any(o % i for o, i in zip(outer, inner, strict=True)):
        raise ProviderError(f"{name}: shards of {outer} with chunks of {inner} and {strange} cannot be read")
    shards = _Shards(
        tuple(o // i for o, i in zip(outer, inner, strict=True)), index, given.get("index_location", "end") == "end"
    )
    plain = {
        **document,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(inner)}},
        "chunk_key_encoding": {"name": "default"},
        "codecs": given["codecs"],
    }
    return plain, shards


@dataclass(frozen=True)
class _Place:
    """Where the bytes of a chunk lie."""

    chunk: Chunk
    path: str
    key: Hashable
    """In memory: the chunk of this version of its file."""
    file: StoredFile | None = None
    """The shard; ``None`` where the chunk is a file of its own."""
    start: int = 0
    stop: int = 0


class ZarrArray:
    """An array, read chunk by chunk; what was decoded last is kept in memory."""

    def __init__(self, store: Store, node: Node) -> None:
        self.store, self.node = store, node
        self.name = f"{store.name}/{node.path}".rstrip("/")
        self.shape = node.shape
        plain, self._shards = _unsharded(node.document, self.name)
        self._decode = _Decoder(plain, self.name)
        self._index_of = None if self._shards is None else _Decoder(self._shards.document, self.name)
        self.chunks = _chunk_shape(plain)
        self.dtype, self.fill = self._decode.dtype, self._decode.fill
        self.checked = "crc32c" if any(c["name"] == "crc32c" for c in plain.get("codecs") or []) else None
        self._lock = threading.Lock()
        self._files: dict[str, StoredFile | None] = {}
        if math.prod(self.chunks) * self.dtype.itemsize > _MOST:
            raise ProviderError(f"{self.name}: chunks of {self.chunks} are too large to be read; write smaller ones")

    def read(self, window: Window) -> NDArray[Any]:
        """Return the numbers of a window as they are stored.

        Raises
        ------
        ProviderError
            If a chunk that exists cannot be had or decoded.
        """
        out = np.full([s.stop - s.start for s in window], self.fill, self.dtype)
        most = max(1, _AT_ONCE // (math.prod(self.chunks) * self.dtype.itemsize))
        wanted = product(*(range(s.start // n, -(-s.stop // n)) for s, n in zip(window, self.chunks, strict=True)))
        while some := list(islice(wanted, most)):
            places = {place.key: place for place in self._places(some)}
            for key, block in MEMORY.many(places, partial(self._load, places)).items():
                if block is not _NOTHING:
                    _place(out, window, block, [c * n for c, n in zip(places[key].chunk, self.chunks, strict=True)])
        return out

    def whole(self) -> NDArray[Any]:
        """Return all numbers."""
        return self.read(tuple(slice(0, n) for n in self.shape))

    def has(self, window: Window) -> bool:
        """Whether any chunk of a window exists."""
        if any(s.start >= s.stop for s in window):
            return False
        if self._shards is None:
            chunks = product(*(range(s.start // n, -(-s.stop // n)) for s, n in zip(window, self.chunks, strict=True)))
            return any(self._open(self._path(chunk)) is not None for chunk in chunks)
        inner = [slice(s.start // n, -(-s.stop // n)) for s, n in zip(window, self.chunks, strict=True)]
        counts = self._shards.counts
        for shard in product(*(range(s.start // n, -(-s.stop // n)) for s, n in zip(inner, counts, strict=True))):
            found = self._index(shard)
            part = tuple(
                slice(max(0, s.start - k * n), min(n, s.stop - k * n))
                for s, k, n in zip(inner, shard, counts, strict=True)
            )
            if found is not None and (found[1][part][..., 1] != _EMPTY).any():
                return True
        return False

    def _path(self, stored: Chunk) -> str:
        return f"{self.node.path}/{chunk_key(self.node.document, stored)}".lstrip("/")

    def _open(self, path: str) -> StoredFile | None:
        """Open a shard, or nothing where there is none; of one elsewhere only its length is fetched."""
        if not self.store.remote:
            try:
                return self.store.fresh(path)
            except Absent:
                return None
        with self._lock:
            if path in self._files:
                return self._files[path]
        try:
            found = self.store.fresh(path, head=_GLANCE)
        except Absent:
            found = None
        with self._lock:
            self._files[path] = found
            while len(self._files) > _FILES:
                self._files.pop(next(iter(self._files)))
        return found

    def _index(self, shard: Chunk) -> tuple[StoredFile, NDArray[np.uint64]] | None:
        """Return a shard and its index ``(..., 2)``, or ``None`` where there is no shard."""
        assert self._shards is not None
        file = self._open(self._path(shard))
        if file is None:
            return None
        size = self._shards.size
        if file.size < size:
            raise ProviderError(f"{self._path(shard)} of {self.store.name} has {file.size} bytes: it is half-copied")
        start = file.size - size if self._shards.at_end else 0

        def load() -> NDArray[Any]:
            assert self._index_of is not None
            (content,) = file.ranges([(start, start + size)])
            with self._lock:  # all indexes have one key in the decoder
                return self._index_of((0,) * (len(self.shape) + 1), content)

        return file, MEMORY.get((file.key, "index"), load)

    def _places(self, chunks: Sequence[Chunk]) -> Iterator[_Place]:
        """Yield where chunks lie, but for those that do not exist."""
        if self._shards is None:
            for chunk in chunks:
                path = self._path(chunk)
                file = None if self.store.remote else self._open(path)
                if file is not None or self.store.remote:
                    yield _Place(chunk, path, (self.store.address, path, None if file is None else file.key))
            return
        counts = self._shards.counts
        where = {chunk: tuple(c // n for c, n in zip(chunk, counts, strict=True)) for chunk in chunks}
        shards = list(dict.fromkeys(where.values()))
        opened = dict(zip(shards, together(READS, [partial(self._index, shard) for shard in shards]), strict=True))
        for chunk, shard in where.items():
            found = opened[shard]
            if found is None:
                continue
            inner = tuple(c % n for c, n in zip(chunk, counts, strict=True))
            start, length = (int(n) for n in found[1][inner])
            if start == length == _EMPTY:
                continue
            if start + length > found[0].size:
                raise ProviderError(
                    f"{self._path(shard)} of {self.store.name} ends at byte {found[0].size}, its index puts a chunk up "
                    f"to byte {start + length}: it is half-copied; copy it again"
                )
            yield _Place(chunk, self._path(shard), (found[0].key, *inner), found[0], start, start + length)

    def _load(self, known: Mapping[Hashable, _Place], keys: Sequence[Hashable]) -> list[NDArray[Any]]:
        """Fetch and decode chunks."""
        places = [known[key] for key in keys]
        contents: Sequence[bytes | None]
        if self._shards is None:
            contents = together(READS, [partial(self._whole_file, place.path) for place in places])
        else:
            contents = self._ranges(places)
        return [
            _NOTHING if content is None else self._decode(place.chunk, content)
            for place, content in zip(places, contents, strict=True)
        ]

    def _whole_file(self, path: str) -> bytes | None:
        try:
            file = self.store.fresh(path, head=2**22)
        except Absent:
            return None
        return b"".join(file.ranges([(0, file.size)])) if file.size else b""

    def _ranges(self, places: Sequence[_Place]) -> list[bytes]:
        """Fetch inner chunks, shard by shard."""
        files = {place.path: place.file for place in places if place.file is not None}
        found: dict[Chunk, bytes] = {}
        for path, file in files.items():
            mine = [place for place in places if place.path == path]
            contents = file.ranges([(place.start, place.stop) for place in mine])
            found |= {place.chunk: content for place, content in zip(mine, contents, strict=True)}
        return [found[place.chunk] for place in places]


def _place(out: NDArray[Any], window: Window, block: NDArray[Any], at: Sequence[int]) -> None:
    """Put the part of a block that a window holds where it belongs."""
    low = [max(s.start, a) for s, a in zip(window, at, strict=True)]
    high = [min(s.stop, a + n) for s, a, n in zip(window, at, block.shape, strict=True)]
    if all(a < b for a, b in zip(low, high, strict=True)):
        into = tuple(slice(a - s.start, b - s.start) for a, b, s in zip(low, high, window, strict=True))
        out[into] = block[tuple(slice(a - c, b - c) for a, b, c in zip(low, high, at, strict=True))]
