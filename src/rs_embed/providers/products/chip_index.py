"""What lies where in the files of chips: the box of every row group, learnt once from the footers and kept."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.folders import cache_dir
from rs_embed.providers.products.chip_files import Box, ChipFile
from rs_embed.providers.products.chip_folders import ChipFolder, Listed

__all__ = ["ChipIndex", "Progress", "build_index"]

Progress = Callable[[Iterator[Any], int], Iterator[Any]]
"""Draws how far an iterator of so many items is."""
_AT_ONCE = 16
_FORMAT = "1"


@dataclass(frozen=True)
class ChipIndex:
    """The row groups of all files, one a row."""

    file: NDArray[np.int64]
    """Number of the file."""
    group: NDArray[np.int64]
    """Number of the row group in the file."""
    rows: NDArray[np.int64]
    bounds: NDArray[np.float64]
    """``(G, 4)``: west, south, east, north in degrees; NaN where no chip of the group has a place."""

    def __len__(self) -> int:
        return len(self.group)


def build_index(folder: ChipFolder, open_file: Callable[[int], ChipFile], progress: Progress) -> ChipIndex:
    """Return the index: of files that are as they were from this machine, of others from their footers.

    Parameters
    ----------
    folder
        The files.
    open_file
        From the number of a file to the file.
    progress
        Draws how far it is, where footers have to be read.
    """
    place = _place(folder)
    known = _load(place)
    keys: list[str] = [_key(listed) for listed in folder.files]
    new = [i for i, key in enumerate(keys) if not key or key not in known]

    def look(i: int) -> tuple[int, str, list[list[Any]]]:
        file = open_file(i)
        key = keys[i] or _hashed(file.key)
        return i, key, known[key] if key in known else _groups(file)

    found = {key: groups for key, groups in known.items() if key in keys}
    before = dict(found)
    try:
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="rs-embed-footers") as pool:
            for i, key, groups in progress(pool.map(look, new), len(new)):
                keys[i], found[key] = key, groups
    finally:  # what was learnt before something went wrong is not lost
        if found != before or len(found) < len(known):
            _save(place, found if len(found) >= len(folder.files) else known | found)
    return _index([found[key] for key in keys])


def _key(listed: Listed) -> str:
    """Return what a file is known by, where its listing tells; else nothing."""
    return "" if listed.tag is None else _hashed(f"{listed.name}|{listed.tag}")


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _groups(file: ChipFile) -> list[list[Any]]:
    """Return rows and box of each row group."""

    def told(box: Box | None) -> list[float] | None:
        return None if box is None else list(box)

    return [[file.table.rows_of(group), told(file.bounds(group))] for group in range(file.groups)]


def _index(files: list[list[list[Any]]]) -> ChipIndex:
    rows = [(i, group, count, box) for i, groups in enumerate(files) for group, (count, box) in enumerate(groups)]
    boxes = np.array([[np.nan] * 4 if box is None else box for *_, box in rows], np.float64).reshape(-1, 4)
    numbers = np.array([row[:3] for row in rows], np.int64).reshape(-1, 3)
    return ChipIndex(numbers[:, 0], numbers[:, 1], numbers[:, 2], boxes)


def _place(folder: ChipFolder) -> Path:
    return cache_dir() / "products" / "chips" / f"{_hashed(folder.address)}-{_FORMAT}.json"


def _load(place: Path) -> dict[str, list[list[Any]]]:
    """Return what is kept; nothing where there is none, or it was damaged."""
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _save(place: Path, found: dict[str, list[list[Any]]]) -> None:
    """Keep an index; a machine whose cache cannot be written reads the footers again."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch = place.with_name(f".{place.name}-{os.getpid()}-{threading.get_ident()}")
        scratch.write_text(json.dumps(found), encoding="utf-8")
        scratch.replace(place)
    except OSError:
        return
