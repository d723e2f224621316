"""Folders on this machine that are ours."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_dir"]


def cache_dir() -> Path:
    """Return the folder for downloads: ``RS_EMBED_CACHE_DIR``, or ``~/.cache/rs-embed``."""
    named = os.environ.get("RS_EMBED_CACHE_DIR")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "rs-embed"
