"""Files of embeddings, told apart by suffix: ``.npy``, ``.npz``, ``.parquet``, ``.tif`` and ``.nc``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rs_embed.core.embedding import Embedding
from rs_embed.core.errors import SpecError, StoreError
from rs_embed.store.arrays import read_npy, read_npz, write_npy, write_npz
from rs_embed.store.atomic import check_writable
from rs_embed.store.geotiff import read_geotiff, write_geotiff
from rs_embed.store.netcdf import check_netcdf, read_netcdf, write_netcdf
from rs_embed.store.parquet import TableWriter, read_parquet

__all__ = ["SUFFIXES", "TableWriter", "check_target", "load", "save"]

_Found = tuple[list[Embedding], bool]

_READERS: dict[str, Callable[[Path], _Found]] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".parquet": read_parquet,
    ".tif": read_geotiff,
    ".tiff": read_geotiff,
    ".nc": read_netcdf,
}
SUFFIXES = tuple(_READERS)


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise SpecError(f"{path.name}: suffix {path.suffix!r} is not known; accepted: {', '.join(SUFFIXES)}")
    return suffix


def check_target(path: str | Path, *, overwrite: bool = False) -> None:
    """Say before any work that a file cannot be written.

    Raises
    ------
    SpecError
        If the suffix is unknown, the folder is missing or read-only, or the file exists.
    MissingExtraError
        If the format needs a library that is not installed.
    """
    path = Path(path)
    if _suffix(path) == ".nc":
        check_netcdf(path)
    check_writable(path, overwrite=overwrite)


def save(embeddings: Embedding | Iterable[Embedding], path: str | Path, *, overwrite: bool = False) -> Path:
    """Write embeddings to a file; `load` gives them back as they are, metadata and failed ones too.

    ============  =========================================================================================
    ``.npz``      anything: one embedding or many, vectors and grids
    ``.npy``      one embedding, or vectors of one length; `numpy.load` gives the bare array
    ``.parquet``  vectors of one model: GeoParquet with places, dates and labels, streamed (`TableWriter`)
    ``.tif``      one grid: cloud-optimised GeoTIFF, a band a dimension
    ``.nc``       one grid, or vectors of one model: netCDF-4 by the CF conventions (extra ``[netcdf]``)
    ============  =========================================================================================

    Parameters
    ----------
    embeddings
        One embedding, or several; `load` tells the two apart. Several for ``.parquet`` may be a generator, which is
        written as it comes.
    path
        Where to write; the file is there whole or not at all.
    overwrite
        Whether a file that exists may be replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    SpecError
        If the file cannot be written, or the format cannot hold these embeddings; nothing is written then.
    MissingExtraError
        If the format needs a library that is not installed.
    StoreError
        If writing fails, as on a full disk; what was there before stays.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    many = not isinstance(embeddings, Embedding)
    items: Iterable[Embedding] = [embeddings] if isinstance(embeddings, Embedding) else embeddings
    if path.suffix.lower() == ".parquet":
        with TableWriter(path, overwrite=overwrite, many=many) as table:
            for each in items:
                table.write(each)
        return path
    found = list(items)
    if not found:
        raise SpecError(f"{path.name}: there is no embedding to write")
    _write(found, path, many=many)
    return path


def _write(found: Sequence[Embedding], path: Path, *, many: bool) -> None:
    suffix = path.suffix.lower()
    if suffix in (".tif", ".tiff"):
        if len(found) != 1:
            raise SpecError(f"{path.name} holds one grid, and there are {len(found)}; write a .npz, or one file each")
        write_geotiff(found[0], path, many=many)
        return
    {".npy": write_npy, ".npz": write_npz, ".nc": write_netcdf}[suffix](found, path, many=many)


def load(path: str | Path) -> Embedding | list[Embedding]:
    """Return the embeddings of a file that `save` wrote: one, or a list where a list was saved.

    Raises
    ------
    SpecError
        If there is no such file, or its suffix is unknown.
    StoreError
        If it is damaged, or was not written by rs-embed; the message says what is missing.
    MissingExtraError
        If the format needs a library that is not installed.
    """
    path = Path(path)
    suffix = _suffix(path)
    if not path.is_file():
        raise SpecError(f"{path}: there is no such file")
    try:
        found, many = _READERS[suffix](path)
    except OSError as error:
        raise StoreError(f"{path.name} cannot be read: {error.strerror or error}") from error
    return found if many else found[0]
