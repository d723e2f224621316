"""Files of a store, here or behind a URL: their bytes by ranges, and whole files kept on this machine."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from rs_embed.core.errors import ProviderError
from rs_embed.core.folders import cache_dir
from rs_embed.providers.ranges import PATIENCE, Bytes, Fault, fetch, without_query

__all__ = ["Absent", "LocalFile", "RemoteFile", "Store", "StoredFile", "told"]

_HEAD = 2**16
"""Bytes fetched of a file first."""
_PIECE = 2**16
"""Bytes fetched at a time where nobody said what will be read."""
_GAP = 2**14
"""Ranges this near are one request: a request costs more than these bytes."""
_PART = 2**22
"""Longest request: longer ranges come in parts at the same time."""
_KEPT = 2**25
"""Bytes of a file that are kept."""
_AT_ONCE = 16


class Absent(ProviderError):  # noqa: N818 -- what it says, not that it is wrong
    """The store has no such file."""


def told(url: str, fault: Fault) -> ProviderError:
    """Return the error for a file that cannot be had."""
    if "HTTP 404" in fault.reason or "HTTP 410" in fault.reason:
        return Absent(f"{without_query(url)} does not exist (HTTP 404)")
    return ProviderError(f"{without_query(url)}: {fault.reason}; {fault.remedy}")


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads that wait for ranges, one set a process (a fork has none of its parent's)."""
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="rs-embed-ranges")


class LocalFile:
    """A file on this machine."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise Absent(f"{path.name} does not exist in the folder {path.parent.name!r}")
        self.path, self.name = path, path.name
        stat = path.stat()
        self.size = stat.st_size
        self.key = f"{path}|{stat.st_size}|{stat.st_mtime_ns}"

    def ranges(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each range (start, stop)."""
        found = []
        with self.path.open("rb") as stream:
            for start, stop in wanted:
                stream.seek(start)
                found.append(stream.read(stop - start))
        return found


class RemoteFile:
    """A file behind a URL: what was read last is kept, ranges come at the same time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = PurePosixPath(unquote(urlsplit(url).path)).name or "file"
        self.fault: Fault | None = None
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Bytes] = OrderedDict()
        self._held = 0
        self._pieces: OrderedDict[int, Bytes] = OrderedDict()
        try:
            self._head = fetch(url, 0, _HEAD, patience=PATIENCE)
        except Fault as fault:
            raise told(url, fault) from fault
        self.size = self._head.size
        self.key = f"{url}|{self._head.size}|{self._head.tag}"

    def _fetch(self, start: int, stop: int) -> Bytes:
        part = fetch(self.url, start, stop, patience=PATIENCE)
        if (part.size, part.tag) != (self._head.size, self._head.tag):
            raise Fault("the file changed while it was read", "try again")
        return part

    def _many(self, wanted: Sequence[tuple[int, int]]) -> list[Bytes]:
        """Fetch ranges at the same time."""
        if len(wanted) <= 1:
            return [self._fetch(*each) for each in wanted]
        return list(_pool(os.getpid()).map(lambda each: self._fetch(*each), wanted))

    def ranges(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each range (start, stop), near ones fetched together; nothing of it is kept.

        Raises
        ------
        ProviderError
            If they cannot be had.
        """
        try:
            joined = _joined(wanted, len(self._head.content))
            parts = {each[0]: part for each, part in zip(joined, self._many(joined), strict=True)}
        except Fault as fault:
            raise told(self.url, fault) from fault
        starts = sorted(parts)
        return [self._cut(parts, starts, start, stop) for start, stop in wanted]

    def _cut(self, parts: dict[int, Bytes], starts: list[int], start: int, stop: int) -> bytes:
        """Take a range out of what was fetched, piece by piece."""
        if stop <= len(self._head.content):
            return self._head.content[start:stop]
        found = []
        for at in starts:
            part = parts[at]
            low, high = max(start, at), min(stop, at + len(part.content))
            if low < high:
                found.append(part.content[low - at : high - at])
        return b"".join(found)

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Fetch what will be read, as far as it is not here yet."""
        late = [stop for _, stop in ranges if stop > self.size]
        if late:
            raise OSError(f"it ends at byte {self.size}, before a block that its header puts up to byte {late[0]}")
        with self._lock:
            missing = [each for each in ranges if not self._has(*each)]
        try:
            found = self._many(_joined(missing, len(self._head.content)))
        except Fault as fault:
            self.fault = fault
            raise told(self.url, fault) from fault
        with self._lock:
            for part in found:
                self._kept[part.start] = part
                self._held += len(part.content)
            while self._held > max(_KEPT, sum(len(part.content) for part in found)):
                _, oldest = self._kept.popitem(last=False)
                self._held -= len(oldest.content)

    def _has(self, start: int, stop: int) -> bool:
        return any(p.start <= start and stop <= p.start + len(p.content) for p in (self._head, *self._kept.values()))

    def open(self) -> io.RawIOBase:
        """A new file object at the beginning."""
        return _Stream(self)

    def read(self, start: int, stop: int) -> bytes:
        """Bytes that are here already or are fetched now; nothing after a fault, which is kept for the message."""
        stop = min(stop, self.size)
        if start >= stop:
            return b""
        with self._lock:
            parts = (self._head, *self._kept.values())
        held = [p for p in parts if p.start < stop and start < p.start + len(p.content)]
        for part in held:
            if part.start <= start and stop <= part.start + len(part.content):
                return part.content[start - part.start : stop - part.start]
        try:
            numbers = range(start // _PIECE, -(-stop // _PIECE))
            joined = b"".join(self._piece(number).content for number in numbers)
        except Fault as fault:
            self.fault = fault
            return b""
        offset = numbers[0] * _PIECE
        return joined[start - offset : stop - offset]

    def _piece(self, number: int) -> Bytes:
        """A numbered piece of the file, fetched once while it is among the last."""
        with self._lock:
            if number in self._pieces:
                self._pieces.move_to_end(number)
                return self._pieces[number]
        found = self._head if number == 0 else self._fetch(number * _PIECE, (number + 1) * _PIECE)
        with self._lock:
            self._pieces[number] = found
            while len(self._pieces) > 256:
                self._pieces.popitem(last=False)
        return found


def _joined(ranges: Sequence[tuple[int, int]], head: int) -> list[tuple[int, int]]:
    """Return what to ask for: near ranges together, long ones in parts, without what the head holds."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if stop <= head:
            continue
        if joined and start - joined[-1][1] <= _GAP:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((start, stop))
    return [(at, min(at + _PART, stop)) for start, stop in joined for at in range(start, stop, _PART)]


class _Stream(io.RawIOBase):
    """A place in a remote file, as GDAL wants it: reading it never raises."""

    def __init__(self, file: RemoteFile) -> None:
        super().__init__()
        self._file, self._at = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        stop = self._file.size if size is None or size < 0 else self._at + size
        found = self._file.read(self._at, stop)
        self._at += len(found)
        return found


StoredFile = LocalFile | RemoteFile


class Store:
    """A folder here or below a URL; files are opened once."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/") if "://" in address else str(Path(address).expanduser())
        self.remote = self.address.lower().startswith(("http://", "https://"))
        if not self.remote and not Path(self.address).exists():
            raise ProviderError(f"{address!r} is neither the URL of a product's store nor a folder of this machine")
        self._lock = threading.Lock()
        self._open: OrderedDict[str, StoredFile] = OrderedDict()

    @property
    def name(self) -> str:
        """The address as metadata say it: of a folder its last part, of a URL no query."""
        return without_query(self.address) if self.remote else Path(self.address).name

    def file(self, path: str) -> StoredFile:
        """Open a file by its path in the store; raises `Absent` where there is none."""
        with self._lock:
            found = self._open.get(path)
        if found is None or isinstance(found, LocalFile):
            found = RemoteFile(f"{self.address}/{quote(path)}") if self.remote else LocalFile(Path(self.address) / path)
            with self._lock:
                self._open[path] = found
                while len(self._open) > 256:
                    self._open.popitem(last=False)
        return found

    def whole(self, path: str, *, keep: bool = False, sha256: str | None = None) -> Path | bytes:
        """Return a file as a path on this machine, or its bytes where it lies elsewhere and is not kept.

        Raises
        ------
        ProviderError
            If its bytes have another checksum.
        """
        file = self.file(path)
        if isinstance(file, LocalFile):
            if sha256 is not None:
                _require(file.name, _hash_of(file.key, file.path), sha256)
            return file.path
        target = cache_dir() / "products" / hashlib.sha256(file.key.encode()).hexdigest()[:20] / file.name
        if keep and target.is_file() and target.stat().st_size == file.size:
            return target
        (content,) = file.ranges([(0, file.size)])
        if sha256 is not None:
            _require(file.name, hashlib.sha256(content).hexdigest(), sha256)
        if not keep:
            return content
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{target.name}-{os.getpid()}-{threading.get_ident()}")
        scratch.write_bytes(content)
        scratch.replace(target)
        return target


@lru_cache(maxsize=256)
def _hash_of(key: str, path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _require(name: str, got: str, wanted: str) -> None:
    """Refuse a file whose checksum is not the registry's."""
    if got != wanted.lower():
        raise ProviderError(
            f"{name}: its checksum (sha256 {got[:12]}…) is not the registry's ({wanted[:12]}…): the tile is "
            "half-copied or damaged; copy it again from the store, or leave the registry's folder out"
        )
