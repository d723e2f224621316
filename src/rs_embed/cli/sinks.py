"""Where ``embed`` writes: lines of JSON, one file, or a folder of GeoTIFFs."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rs_embed.cli.app import usage
from rs_embed.cli.printing import fail

if TYPE_CHECKING:
    from rs_embed.core.embedding import Embedding

__all__ = ["Target", "tracked", "write"]

RASTERS = (".tif", ".tiff")
TABLES = (".parquet",)


@dataclass(frozen=True)
class Target:
    """Where embeddings go."""

    out: Path | None
    """``None``: standard output."""
    grid: bool
    pca: int | None
    keep_failed: bool
    """Whether a failed region is written too: NaN, with its error."""
    overwrite: bool

    @property
    def folder(self) -> bool:
        """Whether ``out`` is a folder of GeoTIFFs: one that exists, or a name without a suffix."""
        return self.out is not None and (self.out.is_dir() or not self.out.suffix)

    def check(self) -> None:
        """End with exit code 2 where the options contradict each other."""
        if self.pca is not None and not self.grid:
            usage("--pca is of grids; add --grid")
        if self.out is None or self.grid == (self.folder or self.out.suffix.lower() not in TABLES):
            return
        suffix = self.out.suffix.lower()
        if self.folder and not self.grid:
            usage(f"{self.out}: a folder gets one GeoTIFF a region; add --grid, or name a .parquet file")
        if suffix in RASTERS and not self.grid:
            usage(f"{self.out}: a GeoTIFF holds a grid; add --grid, or name a .parquet file")
        if suffix in TABLES and self.grid:
            usage(f"{self.out}: a table holds vectors; leave --grid out, or name a .tif file or a folder")

    def check_files(self, ids: Sequence[Any], *, single: bool, inputs: Sequence[str]) -> None:
        """Say before any work what cannot be written.

        Raises
        ------
        SpecError
            If a file exists, a folder is missing or read-only, two regions would share a file, or one of the inputs
            would be replaced.
        """
        if self.out is None:
            return
        from rs_embed.core.errors import SpecError
        from rs_embed.store.files import check_target

        read = {_inode(Path(each)) for each in inputs if Path(each).exists()}
        if not self.folder:
            if self.grid and not single and self.out.suffix.lower() != ".npz":
                folder = f"{self.out.with_suffix('')}/"
                raise SpecError(
                    f"{self.out} holds one grid, and there are {len(ids)} regions; name a folder for a GeoTIFF each "
                    f"(-o {folder}), or a .npz file"
                )
            _spare(self.out, read)
            check_target(self.out, overwrite=self.overwrite)
            return
        self.out.mkdir(exist_ok=True)
        names: dict[Path, Any] = {}
        for name in ids:
            path = self.file_of(name)
            if path in names:
                raise SpecError(f"the ids {names[path]!r} and {name!r} would both become {path.name}; rename one")
            names[path] = name
            _spare(path, read)
            check_target(path, overwrite=self.overwrite)

    def file_of(self, name: Any) -> Path:
        """Return the GeoTIFF of a region in the folder."""
        assert self.out is not None
        plain = re.sub(r"[^\w.-]+", "_", str("grid" if name is None else name)).lstrip(".") or "_"
        return self.out / f"{plain[:200]}.tif"


def _inode(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def _spare(path: Path, read: set[tuple[int, int]]) -> None:
    """Refuse to replace what is read, whatever ``--overwrite`` says."""
    from rs_embed.core.errors import SpecError

    if path.exists() and _inode(path) in read:
        raise SpecError(f"{path} is what is to be embedded, and would be replaced; write elsewhere")


@contextmanager
def tracked(results: Iterable[Embedding], total: int, target: Target) -> Iterator[Iterator[Embedding]]:
    """Yield the results under a progress bar on standard error, where somebody watches and no lines run by."""
    if total < 2 or not sys.stderr.isatty() or (target.out is None and sys.stdout.isatty()):
        yield iter(results)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # standard output is somebody's file or pipe: not the bar's to write to
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        yield iter(bar.track(results, total=total))


def write(results: Iterator[Embedding], target: Target, total: int, *, single: bool) -> int:
    """Write embeddings as they come, or all at the end where the format wants it; return how many regions failed.

    A failed region is told on standard error; whatever else succeeded is written all the same.
    """
    failures: list[tuple[Any, str]] = []
    kept = _sorted_out(results, failures, keep_failed=target.keep_failed)
    if target.pca is not None:
        kept = iter(_components(kept, target.pca))
    if target.out is None:
        for found in kept:
            _print_line(found)
    elif target.folder:
        for found in kept:
            if found.ok:
                _save(found, target.file_of(found.id), target.overwrite)
    else:
        _save_all(kept, target.out, single=single, overwrite=target.overwrite)
    _tell(failures, total, single=single)
    return len(failures)


def _tell(failures: list[tuple[Any, str]], total: int, *, single: bool) -> None:
    """Print which regions failed, those of one reason together."""
    names: dict[str, list[str]] = {}
    for name, said in failures:
        names.setdefault(said, []).append(str(name))
    for said, which in names.items():
        fail(said if single else f"region{'s' if len(which) > 1 else ''} {', '.join(which)}: {said}")
    if failures and not single:
        rest = "the others are written" if len(failures) < total else "no embedding was made"
        fail(f"{len(failures)} of {total} regions failed; {rest}")


def _sorted_out(
    results: Iterator[Embedding], failures: list[tuple[Any, str]], *, keep_failed: bool
) -> Iterator[Embedding]:
    """Yield what is to be written, and note what failed."""
    for number, found in enumerate(results):
        if not found.ok:
            name = number if found.id is None else found.id
            failures.append((name, str(found.meta["error"]).partition(": ")[2] or str(found.meta["error"])))
        if found.ok or keep_failed:
            yield found


def _components(results: Iterator[Embedding], count: int) -> list[Embedding]:
    """Return the first principal components of grids, of one basis for all."""
    from rs_embed.core.embedding import fit_basis
    from rs_embed.core.errors import SpecError

    grids = []
    for found in results:
        if found.dim < count:  # before the work on all the others
            raise SpecError(f"--pca {count}: the grids have {found.dim} dimensions")
        grids.append(found)
    if not any(grid.ok for grid in grids):
        return grids
    basis = fit_basis(grids, count)
    return [_projected(grid, basis) if grid.ok else grid for grid in grids]


def _finite(values: Any) -> Any:
    """Return nested lists with None for what JSON has no number for."""
    if isinstance(values, list):
        return [_finite(each) for each in values]
    return values if math.isfinite(values) else None


def _print_line(found: Embedding) -> None:
    """Print an embedding as one line of JSON, at once: somebody may be waiting in the pipe."""
    values = _finite(found.values().tolist()) if found.ok else None
    line = json.dumps({"id": found.id, "embedding": values, "meta": found.meta}, allow_nan=False)
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _projected(grid: Embedding, basis: Any) -> Embedding:
    """Return a grid of components; its space is its own, so that it is compared with no embedding."""
    import hashlib

    from rs_embed.core.embedding import Embedding
    from rs_embed.core.georeference import flat_attributes, json_meta

    components, _ = grid.pca(basis=basis)
    mark = hashlib.sha256(basis.mean.tobytes() + basis.components.tobytes()).hexdigest()[:8]
    meta = {**grid.meta, "pca": {"components": len(components), "of": grid.dim, "basis": mark}}
    meta |= {"space": f"pca-{mark}/{grid.meta['space']}", "grid_shape": list(components.shape)}
    whole = grid.to_xarray()
    found = whole.isel(d=slice(0, len(components))).copy(data=components)
    found.attrs = {**whole.attrs, **flat_attributes(meta), "rs_embed_meta": json_meta(meta)}
    return Embedding(found, meta)


def _save_all(kept: Iterator[Embedding], path: Path, *, single: bool, overwrite: bool) -> None:
    """Write one file, a table as it comes; none where there is nothing to write."""
    first = next(kept, None)
    if first is not None:
        _save(first if single and path.suffix.lower() not in TABLES else chain([first], kept), path, overwrite)


def _save(found: Any, path: Path, overwrite: bool) -> None:
    from rs_embed.store.files import save

    save(found, path, overwrite=overwrite)
