"""Weights: locate, download, verify, and load them strictly into a net."""

from __future__ import annotations

import argparse
import dataclasses
import pickle
import struct
import zipfile
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rs_embed.core.encoding import Encoder
from rs_embed.core.errors import CheckpointError
from rs_embed.core.model_spec import Build, Checkpoint, ModelSpec
from rs_embed.inference.downloads import cache_dir, file_sha256, locate, place_of, require

__all__ = ["cache_dir", "differences", "load_weights", "place_of", "read_checkpoint", "require"]

_WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training frameworks put a state dict beside other things."""

_UNREADABLE = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AssertionError),
    *(AttributeError, TypeError, OverflowError, MemoryError, struct.error, zipfile.BadZipFile),
)
"""What torch.load raises at bytes that are no checkpoint: the unpickler fails wherever the bytes lead it."""

_COUNTER = "num_batches_tracked"  # BatchNorm's, no parameter

Shapes = Mapping[str, tuple[int, ...]]


def load_weights(
    encoder: Encoder, spec: ModelSpec, variant: str, build: Build, *, checkpoint: str | Path | None = None
) -> dict[str, Any]:
    """Load a variant's weights into an encoder's net, strictly.

    Parameters
    ----------
    encoder : Encoder
        What ``spec.encoder(build)`` returned; without a ``net`` there is nothing to do.
    spec : ModelSpec
        The model.
    variant : str
        Name of the variant, for messages.
    build : Build
        What the encoder was built from; its variant says where the weights are published.
    checkpoint : str or Path, optional
        A file of the user's own instead of the published one.

    Returns
    -------
    dict
        ``{"repository", "revision", "file", "sha256", "pinned"}`` for ``meta["checkpoint"]``, empty for an encoder
        without weights: ``repository`` is a URL where there is no repository, None for a file of the user's own;
        ``pinned`` says whether the catalogue knows which file it has to be, and it is that one.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or of another model or variant: the message names the first missing, misshapen
        or unexpected name, and the variant that the file fits.
    MissingExtraError
        If torch or huggingface_hub is needed and not installed.
    """
    if encoder.net is None:
        return {}
    who = f"{spec.name} {variant}"
    published = build.variant.checkpoint
    if checkpoint is not None:
        path = Path(checkpoint).expanduser()
        if not path.is_file():
            raise CheckpointError(f"checkpoint={str(checkpoint)!r} of {who} is not a file")
    elif published is not None:
        path = locate(published, who=who)
    else:
        raise CheckpointError(f"{who} has no published weights; pass checkpoint='path/to/file'")
    verified = checkpoint is None and published is not None and published.sha256 is not None
    state = _converted(read_checkpoint(path, check=not verified), published, path=path, who=who)
    _check(state, encoder, spec, variant, build, path=path)
    encoder.net.load_state_dict(state, strict=False)  # `_check` is the strict part
    encoder.net.eval()
    return _provenance(published, file_sha256(path), path, own=checkpoint is not None)


def _provenance(published: Checkpoint | None, digest: str, path: Path, *, own: bool) -> dict[str, Any]:
    if own or published is None:
        same = published is not None and published.sha256 == digest
        return {"repository": None, "revision": None, "file": path.name, "sha256": digest, "pinned": same}
    return {
        "repository": published.repository or published.url,
        "revision": published.revision,
        "file": published.file,
        "sha256": digest,
        "pinned": published.pinned,
    }


def read_checkpoint(path: Path, *, check: bool = True) -> dict[str, Any]:
    """Return the state dict of a file of torch (``weights_only=True``) or safetensors, as it stands there.

    A dict that holds it under ``state_dict``, ``model_state_dict`` or ``model`` is unwrapped.

    Parameters
    ----------
    path : Path
        The file.
    check : bool
        Compare the checksums that torch writes and does not read; not needed where a hash has been verified.

    Raises
    ------
    CheckpointError
        If the file is truncated, corrupt or something else.
    MissingExtraError
        If torch or safetensors is not installed.
    """
    torch = require("torch", why="loading weights")
    try:
        if _is_safetensors(path):
            return _read_safetensors(path)
        zipped = zipfile.is_zipfile(path)
        if zipped and check:
            _check_sums(path)
        # mapped, so that the part of a file that a net does not use never comes into memory
        with torch.serialization.safe_globals([argparse.Namespace]):  # training scripts save their arguments too
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except _UNREADABLE as error:
        first = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"{path.name} ({path.stat().st_size} bytes) cannot be read as a checkpoint: it is truncated, damaged or "
            f"something else ({type(error).__name__}: {first})"
        ) from error
    while isinstance(found, Mapping):
        inside = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if inside is None:
            return dict(found)
        found = inside
    raise CheckpointError(f"{path.name} holds a {type(found).__name__}, not a state dict of names and tensors")


def _check_sums(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of {damaged} is another")


def _is_safetensors(path: Path) -> bool:
    """Whether the file begins like one: the length of a JSON header, and the header."""
    with path.open("rb") as stream:
        start = stream.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _read_safetensors(path: Path) -> dict[str, Any]:
    library = require("safetensors", why="reading a .safetensors file")
    reader = require("safetensors.torch", why="reading a .safetensors file")
    try:
        loaded: dict[str, Any] = reader.load_file(path, device="cpu")
    except library.SafetensorError as error:
        raise ValueError(str(error)) from error
    return loaded


def _converted(state: Mapping[str, Any], published: Checkpoint | None, *, path: Path, who: str) -> dict[str, Any]:
    """The state dict under the net's names, without what is no tensor and BatchNorm's step counters."""
    torch = require("torch", why="loading weights")
    if published is not None and published.convert is not None:
        try:
            state = published.convert(state)
        except (ValueError, KeyError, RuntimeError, AttributeError, TypeError) as error:
            raise CheckpointError(f"{path.name} is not a checkpoint of {who}: {error}") from error
    kept = {name: value for name, value in state.items() if not name.endswith(_COUNTER)}
    if strange := next((name for name, value in kept.items() if not isinstance(value, torch.Tensor)), None):
        raise CheckpointError(
            f"{path.name} is not a checkpoint of {who}: {strange!r} is a {type(kept[strange]).__name__}, not a tensor"
        )
    return kept


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items() if not name.endswith(_COUNTER)}


def differences(got: Shapes, wanted: Shapes, may_miss: tuple[str, ...] = ()) -> list[str]:
    """Return what keeps a state dict from being a net's, in words, most telling first.

    Parameters
    ----------
    got : mapping
        ``{name: shape}`` of the state dict.
    wanted : mapping
        ``{name: shape}`` of the net; BatchNorm's step counters do not count.
    may_miss : tuple of str
        Patterns of the net's names that may be absent.
    """
    absent = [name for name in wanted if name not in got and not name.endswith(_COUNTER)]
    missing = [f"{name!r} is missing" for name in absent if not any(fnmatchcase(name, each) for each in may_miss)]
    misshapen = [
        f"{name!r} has the shape {got[name]}, not {wanted[name]}"
        for name in wanted
        if name in got and got[name] != wanted[name]
    ]
    unexpected = [f"{name!r} is not one of the net's" for name in got if name not in wanted]
    return misshapen + missing + unexpected


def _check(
    state: Mapping[str, Any], encoder: Encoder, spec: ModelSpec, variant: str, build: Build, *, path: Path
) -> None:
    """Refuse a state dict that is not exactly the net's."""
    published = build.variant.checkpoint
    may_miss = () if published is None else published.may_miss
    got = _shapes(state)
    faults = differences(got, _shapes(encoder.net.state_dict()), may_miss)
    if not faults:
        return
    fits = [name for name in spec.variants if name != variant and _fits(got, spec, name, build)]
    hint = f"; it fits the variant {fits[0]!r}: pass variant={fits[0]!r}" if fits else ""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    raise CheckpointError(f"{path.name} is not a checkpoint of {spec.name} {variant}: {faults[0]}{more}{hint}")


def _fits(got: Shapes, spec: ModelSpec, name: str, build: Build) -> bool:
    """Whether a state dict is another variant's, whose net is built without memory."""
    torch = require("torch", why="loading weights")
    other = spec.adapt(spec.variants[name], build.options)
    with torch.device("meta"):
        net = spec.encoder(dataclasses.replace(build, variant=other)).net
    may_miss = other.checkpoint.may_miss if other.checkpoint else ()
    return net is not None and not differences(got, _shapes(net.state_dict()), may_miss)
