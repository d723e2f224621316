"""Folders on this machine that are ours."""

from __future__ import annotations

import os
from pathlib import Path

from rs_embed.core.errors import SpecError

__all__ = ["cache_dir"]


def cache_dir() -> Path:
    """Return the folder for downloads: ``RS_EMBED_CACHE_DIR``, or ``~/.cache/rs-embed``.

    Raises
    ------
    SpecError
        If that is in a home that is not known here.
    """
    named = os.environ.get("RS_EMBED_CACHE_DIR")
    try:
        return Path(named).expanduser() if named else Path.home() / ".cache" / "rs-embed"
    except RuntimeError as error:
        said = f"RS_EMBED_CACHE_DIR={named!r} names a home that is not known here" if named else "no home is known here"
        raise SpecError(f"{said}; set RS_EMBED_CACHE_DIR to the path of a folder for downloads") from error
