"""The folder of cached pixels: small files that are there whole or not at all, and no more of them than agreed.

A file holds a rectangle of one band of one scene on one lattice. It is written under a name of its own and renamed,
so that a process that is killed leaves at most a hidden file; its checksum covers its place, its rectangle and its
values, and is tested by every reader. Nothing is locked: a file that was taken away in the meantime is a miss.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.geometry import Rect
from rs_embed.core.notices import warn_user

__all__ = ["LIMIT", "PixelFiles", "pixel_files"]

LIMIT = 10 * 10**9
"""Bytes of all cached pixels."""
SUFFIX = ".pixels"
"""Of our files, so that nothing else is ever deleted."""

_KEPT = 3 / 4
"""Of the limit: what is left when the least recently used have gone."""
_STEPS = 64
"""A process looks at the whole folder each time it has written this part of the limit."""
_ATTEMPTS = 100
"""To write into a folder that others remove when it is empty."""
_STALE_S = 3600.0
"""Age of a hidden file whose writer must be dead."""
_UNIT = 4096
"""What a disk gives to a file, or to a folder, at least."""

_MAGIC = b"RSE1"
_HEAD = len(_MAGIC) + 1 + hashlib.sha256().digest_size
_SINGLE, _RAW = b"=", b"f"
_WHOLE: Mapping[bytes, np.dtype[Any]] = {b"b": np.dtype("<u1"), b"h": np.dtype("<u2")}
"""Whole numbers from zero; the largest number of the type stands for NaN."""

Values = NDArray[np.float32]


def _bits(values: Values) -> NDArray[np.uint32]:
    return np.ascontiguousarray(values, "<f4").view("<u4")


def _from_whole(stored: NDArray[Any]) -> Values:
    values = stored.astype(np.float32)
    values[stored == np.iinfo(stored.dtype).max] = np.nan
    return values


def encode(values: Values) -> tuple[bytes, bytes]:
    """Return the way and the bytes that give back every bit of ``values``, short where they are whole numbers."""
    bits = _bits(values)
    if bits.min() == bits.max():
        return _SINGLE, bits.flat[0].tobytes()
    empty = np.isnan(values)
    filled = np.where(empty, np.float32(0), values)
    lowest, highest = filled.min(), filled.max()
    for way, kind in _WHOLE.items():
        marker = np.iinfo(kind).max
        if lowest >= 0 and highest < marker:
            stored = filled.astype(kind)
            stored[empty] = marker
            return (
                (way, stored.tobytes()) if np.array_equal(_bits(_from_whole(stored)), bits) else (_RAW, bits.tobytes())
            )
    return _RAW, bits.tobytes()


def decode(way: bytes, payload: bytes, shape: tuple[int, int]) -> Values | None:
    """Return the values, None where there are too few or too many bytes or the way is unknown."""
    kind: np.dtype[Any] = _WHOLE.get(way, np.dtype("<f4"))
    count = 1 if way == _SINGLE else shape[0] * shape[1]
    if way not in (_SINGLE, _RAW, *_WHOLE) or len(payload) != count * kind.itemsize:
        return None
    stored = np.frombuffer(payload, kind)
    if way == _SINGLE:
        return np.full(shape, stored[0], np.float32)
    return _from_whole(stored.reshape(shape)) if way in _WHOLE else stored.reshape(shape).astype(np.float32)


def _digest(key: str, name: str, way: bytes, payload: bytes) -> bytes:
    return hashlib.sha256(f"{key}/{name}\n".encode() + way + payload).digest()


def _name(rect: Rect) -> str:
    return f"{rect.row}_{rect.col}_{rect.height}_{rect.width}{SUFFIX}"


def _rect(name: str) -> Rect | None:
    """The rectangle that a file's name tells, None of other files."""
    if not name.endswith(SUFFIX) or name.startswith("."):
        return None
    try:
        row, col, height, width = map(int, name.removesuffix(SUFFIX).split("_"))
    except ValueError:
        return None
    return Rect(row, col, height, width)


def _charged(size: int) -> int:
    return -(-size // _UNIT) * _UNIT


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        os.unlink(path)


def _listed(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _below(folder: str, depth: int) -> Iterator[str]:
    """The folders that lie ``depth`` levels deeper."""
    if depth == 0:
        yield folder
        return
    for entry in _listed(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path, depth - 1)


class PixelFiles:
    """The files of one folder; threads share it, and processes share the folder.

    Parameters
    ----------
    folder
        Where the files lie; made by the first write.
    limit
        Bytes that they may take, folders counted too. Up to eight processes that write at once keep within it; each
        more can exceed it by 1/32, until one of them has written 1/64 of it.
    """

    def __init__(self, folder: Path, *, limit: int = LIMIT) -> None:
        self.folder, self.limit = folder, limit
        self._lock = threading.Lock()
        self._writable = True
        # a random start, so that many short processes look at the folder as often as one long one
        self._written = int(limit / _STEPS * secrets.SystemRandom().random())

    def __reduce__(self) -> tuple[object, ...]:
        return pixel_files, (self.folder, self.limit)

    def _place(self, key: str) -> Path:
        return self.folder / key[:2] / key[2:]

    def rects(self, key: str) -> list[Rect]:
        """Return the rectangles that there are under a key."""
        try:
            names = os.listdir(self._place(key))
        except FileNotFoundError:
            return []
        except OSError as error:
            self._give_up(error)
            return []
        return [rect for name in names if (rect := _rect(name)) is not None]

    def load(self, key: str, rect: Rect) -> Values | None:
        """Return the values of a rectangle, None where they have gone; a damaged file is deleted."""
        path = self._place(key) / _name(rect)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._give_up(error)
            return None
        way, told, payload = content[len(_MAGIC) :][:1], content[len(_MAGIC) + 1 : _HEAD], content[_HEAD:]
        good = content.startswith(_MAGIC) and told == _digest(key, path.name, way, payload)
        values = decode(way, payload, (rect.height, rect.width)) if good else None
        with contextlib.suppress(OSError):  # a folder that can only be read keeps what it has
            if values is None:
                path.unlink()
            else:
                os.utime(path)  # the time of use: many disks keep none of their own
        return values

    def save(self, key: str, rect: Rect, values: Values) -> None:
        """Keep the values of a rectangle; where nothing can be written, warn once and go on without."""
        if not self._writable:
            return
        name, (way, payload) = _name(rect), encode(values)
        content = _MAGIC + way + _digest(key, name, way, payload) + payload
        try:
            self._write(self._place(key), name, content)
            self._count(_charged(len(content)))
        except OSError as error:
            self._give_up(error)

    def _write(self, place: Path, name: str, content: bytes) -> None:
        part = place / f".{secrets.token_hex(8)}{SUFFIX}"
        try:
            for attempt in range(_ATTEMPTS):
                try:
                    place.mkdir(parents=True, exist_ok=True)
                    part.write_bytes(content)
                    os.replace(part, place / name)
                    return
                except (FileNotFoundError, FileExistsError):  # another process has just removed folder or file
                    if attempt == _ATTEMPTS - 1:
                        raise
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()
            raise

    def drop(self, key: str, rect: Rect) -> None:
        """Delete a rectangle that another one holds as well."""
        with contextlib.suppress(OSError):
            (self._place(key) / _name(rect)).unlink()

    def _give_up(self, error: OSError) -> None:
        with self._lock:
            first, self._writable = self._writable, False
        if first:
            warn_user(
                f"pixels are no longer cached: {self.folder} cannot be used ({error.strerror or error}); free space "
                "there or set RS_EMBED_CACHE_DIR to another folder"
            )

    def _count(self, size: int) -> None:
        """Add to what this process has written, and make room when that is much."""
        with self._lock:  # who writes more than a step waits for the one that makes room
            self._written += size
            if self._written >= self.limit / _STEPS:
                self._written = 0
                self.trim()

    def trim(self) -> None:
        """Delete the least recently used files where there are more than the limit allows."""
        found = list(self._scan())
        folders = Counter(os.path.dirname(path) for _, _, path in found)
        total = sum(size for _, size, _ in found) + _UNIT * len(folders)
        if total <= self.limit * _KEPT:
            return
        for _, size, path in sorted(found):
            if total <= self.limit * _KEPT:
                break
            folder, name = os.path.split(path)
            if not name.startswith("."):  # somebody is writing it
                _unlink(path)
                folders[folder] -= 1
                total -= size if folders[folder] else size + _UNIT
        for folder in folders:
            with contextlib.suppress(OSError):
                os.rmdir(folder)  # only empty ones go

    def _scan(self) -> Iterator[tuple[int, int, str]]:
        """Time of use, bytes on the disk and path of each file; those that dead writers have left are deleted."""
        old = time.time() - _STALE_S
        for place in _below(str(self.folder), 2):
            for entry in _listed(place):
                if not entry.name.endswith(SUFFIX):
                    continue
                with contextlib.suppress(OSError):  # gone in the meantime
                    found = entry.stat()
                    if entry.name.startswith(".") and found.st_mtime < old:
                        os.unlink(entry.path)
                    else:
                        yield found.st_mtime_ns, _charged(found.st_size), entry.path

    def size(self) -> tuple[int, int]:
        """Return how many files there are, and the bytes that they take on the disk."""
        sizes = [size for _, size, _ in self._scan()]
        return len(sizes), sum(sizes)

    def clear(self) -> int:
        """Delete all files and return their bytes; other processes may go on reading and writing."""
        freed = 0
        for _, size, path in list(self._scan()):
            _unlink(path)
            freed += size
        for folder in [*_below(str(self.folder), 2), *_below(str(self.folder), 1), str(self.folder)]:
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        return freed


@lru_cache(maxsize=16)
def pixel_files(folder: Path, limit: int = LIMIT) -> PixelFiles:
    """Return the files of a folder, the same object for all of a process, so that it counts what it writes once."""
    return PixelFiles(folder, limit=limit)
