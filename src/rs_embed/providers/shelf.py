"""Pixels that wait on disk for their turn: what a composite needs of all its passes is more than memory should hold."""

from __future__ import annotations

import math
import tempfile
import threading
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.errors import ProviderError
from rs_embed.core.folders import cache_dir

__all__ = ["Shelf", "Shelved"]


class Shelf:
    """A file without a name that grows by arrays ``(C, H, W)``; it goes when it is closed or nobody holds it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file: Any = None
        self._end = 0

    def put(self, pixels: NDArray[np.float32]) -> Shelved:
        """Write an array and return where it lies.

        Raises
        ------
        ProviderError
            If there is no room for it.
        """
        with self._lock:
            try:
                if self._file is None:
                    folder = cache_dir()
                    folder.mkdir(parents=True, exist_ok=True)
                    self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 -- `close` closes it
                    weakref.finalize(self, self._file.close)
                self._file.seek(self._end)
                self._file.write(np.ascontiguousarray(pixels).data)
                self._file.flush()
            except OSError as error:
                raise ProviderError(
                    f"{pixels.nbytes / 1e6:.0f} MB of imagery cannot be kept on disk until they are composited "
                    f"({error.strerror}): make room, choose a shorter time, or another folder with RS_EMBED_CACHE_DIR"
                ) from error
            found = Shelved(self, self._end, pixels.shape)
            self._end += pixels.nbytes
            return found

    def close(self) -> None:
        """Give the room back."""
        with self._lock:
            if self._file is not None:
                self._file.close()

    def read(self, start: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return an array that begins at a byte."""
        out = np.empty(shape, np.float32)
        with self._lock:
            self._file.seek(start)
            have = self._file.readinto(out.data.cast("B"))
        if have != out.nbytes:
            raise ProviderError("the file of imagery that waits to be composited was cut short: is the disk full?")
        return out


@dataclass(frozen=True, eq=False)
class Shelved:
    """An array on a shelf, of which rows can be had as of an array in memory."""

    shelf: Shelf
    start: int
    shape: tuple[int, ...]

    def __getitem__(self, key: tuple[int | slice, slice]) -> NDArray[np.float32]:
        """Rows of one channel, ``[c, top:bottom]``, or of all, ``[:, top:bottom]``."""
        channel, rows = key
        if isinstance(channel, slice):
            return np.stack([self[c, rows] for c in range(*channel.indices(self.shape[0]))])
        top, bottom, _ = rows.indices(self.shape[1])
        line = 4 * math.prod(self.shape[2:])
        start = self.start + (channel * self.shape[1] + top) * line
        return self.shelf.read(start, (bottom - top, *self.shape[2:]))
