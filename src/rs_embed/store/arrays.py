"""numpy's files: ``.npy`` and ``.npz``."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from zlib import error as ZlibError

import numpy as np

from rs_embed.core.embedding import Embedding
from rs_embed.core.errors import SpecError, StoreError
from rs_embed.store.atomic import atomic
from rs_embed.store.records import foreign, pack, restore, unpack

__all__ = ["read_npy", "read_npz", "write_npy", "write_npz"]

_DAMAGED = (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile, ZlibError)


def write_npy(embeddings: Sequence[Embedding], path: Path, *, many: bool) -> None:
    """Write one array, ``(D,)`` or ``(D, H, W)``, or ``(N, D)`` of several vectors, and behind it the metadata.

    `numpy.load` reads the array and stops. A ``.npy`` may hold further arrays behind the first, as `numpy.save` to an
    open file writes them: the second one is the JSON of the metadata as bytes. So one file holds both, and neither
    is ever there without the other.
    """
    shapes = {e.shape for e in embeddings}
    if len(shapes) != 1 or (many and len(next(iter(shapes))) != 1):
        said = ", ".join(" x ".join(map(str, s)) for s in sorted(shapes))
        raise SpecError(f"{path.name}: a .npy holds one array, and these are of shape {said}; write a .npz")
    text = pack(embeddings, many=many)
    array = np.stack([e.values() for e in embeddings]) if many else embeddings[0].values()
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)
        np.save(file, np.frombuffer(text.encode("ascii"), np.uint8))


def read_npy(path: Path) -> tuple[list[Embedding], bool]:
    """Return what `write_npy` wrote."""
    try:
        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
            bare = not file.read(1)
            file.seek(0 if bare else -1, 1)
            text = b"" if bare else np.load(file, allow_pickle=False).tobytes()
    except _DAMAGED as error:
        raise StoreError(f"{path.name} is damaged or no .npy: {error}") from error
    if bare:
        raise foreign(path, "metadata behind its array", "numpy.load")
    records, many = unpack(text, path)
    arrays = array if many else [array]
    if len(arrays) != len(records):
        raise StoreError(f"{path.name} holds {len(arrays)} arrays and the metadata of {len(records)}")
    return [restore(each, record) for each, record in zip(arrays, records, strict=True)], many


def write_npz(embeddings: Sequence[Embedding], path: Path, *, many: bool) -> None:
    """Write arrays and metadata, compressed.

    Vectors of one length stand together as ``data`` ``(N, D)``, one embedding as ``data``; arrays of several shapes as
    ``data_0``, ``data_1``, …. ``meta`` is the JSON of all metadata: ``json.loads(file["meta"].item())``.
    """
    text = pack(embeddings, many=many)
    arrays = [e.values() for e in embeddings]
    if not many:
        named = {"data": arrays[0]}
    elif len({a.shape for a in arrays}) == 1 and arrays[0].ndim == 1:
        named = {"data": np.stack(arrays)}
    else:
        named = {f"data_{i}": array for i, array in enumerate(arrays)}
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, meta=np.array(text.encode("ascii")), **named)  # type: ignore[arg-type]


def read_npz(path: Path) -> tuple[list[Embedding], bool]:
    """Return what `write_npz` wrote."""
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            found = dict(file) if hasattr(file, "files") else {}
    except _DAMAGED as error:
        raise StoreError(f"{path.name} is damaged or no .npz: {error}") from error
    if "meta" not in found or not found["meta"].dtype.kind == "S":
        raise foreign(path, "array 'meta' with the metadata", "numpy.load")
    records, many = unpack(found["meta"].item(), path)
    names = ["data"] if "data" in found else [f"data_{i}" for i in range(len(records))]
    missing = [name for name in names if name not in found]
    if missing:
        raise StoreError(f"{path.name} has no array {', '.join(missing)}")
    arrays = list(found["data"]) if names == ["data"] and many else [found[name] for name in names]
    if len(arrays) != len(records):
        raise StoreError(f"{path.name} holds {len(arrays)} arrays and the metadata of {len(records)}")
    return [restore(each, record) for each, record in zip(arrays, records, strict=True)], many
