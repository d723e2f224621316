"""A file behind a URL as GDAL reads it: parts that are here already, else pieces that are fetched now."""

from __future__ import annotations

import io
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from rs_embed.core.errors import ProviderError
from rs_embed.providers.ranges import Bytes, Fault

__all__ = ["RangedFile", "holding"]

_PIECE = 2**16
"""Bytes fetched at a time where nobody said what will be read."""
_PIECES = 256
"""Pieces that are kept."""


class RangedFile(ABC):
    """What files behind URLs share; subclasses fetch, and say what they hold."""

    head: Bytes
    """The beginning of the file, which tells its size and version."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = PurePosixPath(unquote(urlsplit(url).path)).name or "file"
        self.fault: Fault | ProviderError | None = None
        """What went wrong while GDAL was reading, which it could not pass on."""
        self.replaced = False
        """Whether the file is another one than at the beginning."""
        self._lock = threading.Lock()
        self._pieces: OrderedDict[int, Bytes] = OrderedDict()

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.head.size

    @abstractmethod
    def ask(self, start: int, stop: int) -> Bytes:
        """Fetch a range."""

    @abstractmethod
    def held(self) -> Iterable[Bytes]:
        """Return the parts that are here."""

    def fetch(self, start: int, stop: int) -> Bytes:
        """Fetch a range of the very file that the beginning is of.

        Raises
        ------
        Fault
            If it cannot be had, or the file was replaced meanwhile.
        """
        part = self.ask(start, stop)
        if (part.size, part.tag) != (self.head.size, self.head.tag):
            self.replaced = True
            raise Fault("the file changed while it was read", "try again")
        return part

    def open(self) -> io.RawIOBase:
        """Return a new file object at the beginning."""
        return _Stream(self)

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes that are here already or are fetched now; nothing after a fault, which is kept."""
        if self.fault is None and stop <= len(self.head.content):  # nearly all that GDAL reads, two bytes at a time
            return self.head.content[start:stop]
        stop = min(stop, self.size)
        if self.fault is not None or start >= stop:
            return b""
        with self._lock:
            parts = (self.head, *self.held())
        known = holding(parts, start, stop)
        if known:
            return _cut(known, start, stop)
        first = start // _PIECE
        try:
            pieces = [self._piece(number) for number in range(first, -(-stop // _PIECE))]
        except (Fault, ProviderError) as fault:  # also what signing anew may raise
            self.fault = fault
            return b""
        return b"".join(piece.content for piece in pieces)[start - first * _PIECE : stop - first * _PIECE]

    def _piece(self, number: int) -> Bytes:
        """Return a numbered piece of the file, fetched once while it is among the last."""
        with self._lock:
            if number in self._pieces:
                self._pieces.move_to_end(number)
                return self._pieces[number]
        begun = number == 0 and len(self.head.content) >= min(_PIECE, self.size)
        found = self.head if begun else self.fetch(number * _PIECE, (number + 1) * _PIECE)
        with self._lock:
            self._pieces[number] = found
            while len(self._pieces) > _PIECES:
                self._pieces.popitem(last=False)
        return found


def holding(parts: Sequence[Bytes], start: int, stop: int) -> list[Bytes]:
    """Return the parts of a file that a range lies in, one or several that meet; none where a byte of it is in none."""
    found, at = list[Bytes](), start
    while at < stop:
        part = next((part for part in parts if part.start <= at < part.start + len(part.content)), None)
        if part is None:
            return []
        found.append(part)
        at = part.start + len(part.content)
    return found


def _cut(parts: Sequence[Bytes], start: int, stop: int) -> bytes:
    """A range out of the parts that it lies in, which may overlap: GDAL's memory ends where what it asked for does."""
    found, at = list[bytes](), start
    for part in parts:
        found.append(part.content[at - part.start : stop - part.start])
        at += len(found[-1])
    return found[0] if len(found) == 1 else b"".join(found)


class _Stream(io.RawIOBase):
    """A place in a file behind a URL, as GDAL wants it: reading it never raises."""

    def __init__(self, file: RangedFile) -> None:
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
