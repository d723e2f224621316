"""A file is there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rs_embed.core.errors import SpecError, StoreError

__all__ = ["atomic", "check_writable"]


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Say before any work that a file cannot be written.

    Raises
    ------
    SpecError
        If the folder is missing or read-only, or something of that name exists.
    """
    if not path.parent.is_dir():
        raise SpecError(f"{path}: the folder {str(path.parent)!r} does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise SpecError(f"{path}: the folder {str(path.parent)!r} cannot be written to")
    if path.is_dir():
        raise SpecError(f"{path} is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise SpecError(f"{path} exists; pass --overwrite (overwrite=True) to replace it")


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk; Windows knows no such thing of folders."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends well.

    A process that is killed leaves ``path`` as it was, and at most a hidden file ``.<name>-*`` beside it. Of several
    writers, the one that ends last wins.

    Raises
    ------
    StoreError
        If the disk is full, or a write fails otherwise.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o644)
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path} could not be written: {error.strerror or error}") from error
