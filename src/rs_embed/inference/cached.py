"""What was downloaded to this machine: weights of the catalogue, bringing others, and indexes of product stores."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rs_embed.core.errors import ModelError
from rs_embed.core.model_spec import ModelSpec
from rs_embed.core.registry import get_spec, list_models
from rs_embed.inference.downloads import Progress, cache_dir, file_sha256, locate, place_of

__all__ = [
    "Pulled",
    "cached_weights",
    "clear_products",
    "clear_weights",
    "folder_size",
    "products_size",
    "pull",
    "variants_of",
    "weights_size",
]


@dataclass(frozen=True)
class Pulled:
    """Weights of one variant, as they lie on this machine."""

    model: str
    variant: str
    path: Path | None
    """``None``: the variant has no weights."""
    size_bytes: int
    sha256: str | None
    verified: str
    """What the hash was compared with."""
    licence: str

    def record(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self) | {"path": None if self.path is None else str(self.path)}


def variants_of(spec: ModelSpec, variant: str | None = None, *, every: bool = False) -> list[str]:
    """Return the variants that are meant: the named one, all, or the default.

    Raises
    ------
    ModelError
        If there is none of that name.
    """
    if variant is not None and variant not in spec.variants:
        raise ModelError(f"{spec.name} has no variant {variant!r}; accepted: {', '.join(spec.variants)}")
    return list(spec.variants) if every else [variant or next(iter(spec.variants))]


def pull(model: str, variant: str, *, progress: Progress | None = None) -> Pulled:
    """Bring the weights of a variant into the cache, or find them there, and verify them.

    Raises
    ------
    CheckpointError
        If they cannot be had, or are another file than expected.
    MissingExtraError
        If huggingface_hub is needed and not installed.
    """
    spec = get_spec(model)
    checkpoint = spec.variants[variants_of(spec, variant)[0]].checkpoint
    licence = spec.licence.get("weights", "not stated")
    if checkpoint is None:
        return Pulled(spec.name, variant, None, 0, None, "the model has no weights", licence)
    told = "the hash in the catalogue"
    if checkpoint.sha256 is None:
        place = place_of(checkpoint)
        seen = place.with_name(f"{place.name}.sha256").is_file()
        told = "the hash of the first download" if seen else "nothing yet: its hash is required from now on"
        told += f"; revision {checkpoint.revision}" if checkpoint.revision else ""
    path = locate(checkpoint, who=f"{spec.name} {variant}", progress=progress)
    return Pulled(spec.name, variant, path, path.stat().st_size, file_sha256(path), told, licence)


def cached_weights(models: Sequence[str] | None = None) -> list[tuple[str, str, Path, int]]:
    """Return (model, variant, path, bytes) of the weights that lie in our cache; nothing is hashed."""
    found = []
    for name in models or list_models():
        spec = get_spec(name)
        for variant, item in spec.variants.items():
            place = None if item.checkpoint is None else place_of(item.checkpoint)
            if place is not None and place.is_file():
                found.append((spec.name, variant, place, place.stat().st_size))
    return found


def _weights() -> tuple[Path, ...]:
    """The folders of weights and of what is known of their hashes."""
    return cache_dir() / "weights", cache_dir() / "hashes"


def weights_size() -> int:
    """Return the bytes that `clear_weights` would delete."""
    return sum(folder_size(folder) for folder in _weights())


def clear_weights() -> int:
    """Delete all downloaded weights and return their bytes.

    Raises
    ------
    OSError
        If one cannot be deleted.
    """
    size = weights_size()
    for folder in _weights():
        if folder.is_dir():
            shutil.rmtree(folder)
    return size


def products_size() -> int:
    """Return the bytes of indexes and tiles of products' stores, which `clear_products` would delete."""
    return folder_size(cache_dir() / "products")


def clear_products() -> int:
    """Delete what is kept of products' stores and return its bytes.

    Raises
    ------
    OSError
        If a file cannot be deleted.
    """
    size, folder = products_size(), cache_dir() / "products"
    if folder.is_dir():
        shutil.rmtree(folder)
    return size


def folder_size(folder: Path | None = None) -> int:
    """Return the bytes of all files below a folder (our cache where absent)."""
    root = folder or cache_dir()
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())
