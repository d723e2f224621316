"""Files of a store, here or behind a URL: their bytes by ranges, and whole files kept on this machine."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from rs_embed.core.errors import ProviderError
from rs_embed.core.folders import cache_dir
from rs_embed.providers.ranged import RangedFile, holding
from rs_embed.providers.ranges import PATIENCE, Bytes, Fault, fetch, without_query

__all__ = ["Absent", "LocalFile", "RemoteFile", "Store", "StoredFile", "told"]

_HEAD = 2**16
"""Bytes fetched of a file first."""
_GAP = 2**14
"""Ranges this near are one request: a request costs more than these bytes."""
_PART = 2**22
"""Longest request: longer ranges come in parts at the same time."""
_KEPT = 2**25
"""Bytes of a file that are kept."""
_AT_ONCE = 16


class Absent(ProviderError):  # noqa: N818 -- what it says, not that it is wrong
    """The store has no such file."""


def told(url: str, fault: Fault | ProviderError) -> ProviderError:
    """Return the error for a file that cannot be had."""
    if isinstance(fault, ProviderError):
        return fault
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


class RemoteFile(RangedFile):
    """A file behind a URL: what was read last is kept, ranges come at the same time."""

    def __init__(self, url: str, head: int = _HEAD) -> None:
        super().__init__(url)
        self._kept: OrderedDict[int, Bytes] = OrderedDict()
        self._bytes = 0
        try:
            self.head = self.ask(0, head)
        except Fault as fault:
            raise told(url, fault) from fault
        self.key = f"{url}|{self.head.size}|{self.head.tag}"

    def ask(self, start: int, stop: int) -> Bytes:
        """Fetch a range."""
        return fetch(self.url, start, stop, patience=PATIENCE)

    def held(self) -> Iterable[Bytes]:
        """Return what was read last."""
        return self._kept.values()

    def _many(self, wanted: Sequence[tuple[int, int]]) -> list[Bytes]:
        """Fetch ranges at the same time."""
        if len(wanted) <= 1:
            return [self.fetch(*each) for each in wanted]
        return list(_pool(os.getpid()).map(lambda each: self.fetch(*each), wanted))

    def ranges(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each range (start, stop), near ones fetched together; nothing of it is kept.

        Raises
        ------
        ProviderError
            If they cannot be had.
        """
        try:
            joined = _joined(wanted, len(self.head.content))
            parts = {each[0]: part for each, part in zip(joined, self._many(joined), strict=True)}
        except Fault as fault:
            raise told(self.url, fault) from fault
        starts = sorted(parts)
        return [self._cut(parts, starts, start, stop) for start, stop in wanted]

    def _cut(self, parts: dict[int, Bytes], starts: list[int], start: int, stop: int) -> bytes:
        """Take a range out of what was fetched, piece by piece."""
        if stop <= len(self.head.content):
            return self.head.content[start:stop]
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
            found = self._many(_joined(missing, len(self.head.content)))
        except Fault as fault:
            self.fault = fault
            raise told(self.url, fault) from fault
        with self._lock:
            for part in found:
                self._kept[part.start] = part
                self._bytes += len(part.content)
            while self._bytes > max(_KEPT, sum(len(part.content) for part in found)):
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= len(oldest.content)

    def _has(self, start: int, stop: int) -> bool:
        return bool(holding((self.head, *self._kept.values()), start, stop))


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
        if found is None or isinstance(found, LocalFile) or found.replaced:
            found = self.fresh(path)
            with self._lock:
                self._open[path] = found
                while len(self._open) > 256:
                    self._open.popitem(last=False)
        return found

    def fresh(self, path: str, *, head: int = _HEAD) -> StoredFile:
        """Open a file without keeping it open; of one behind a URL so many of its first bytes come with it."""
        if self.remote:
            return RemoteFile(f"{self.address}/{quote(path)}", head)
        return LocalFile(Path(self.address) / path)

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
