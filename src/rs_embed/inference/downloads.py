"""Where a weights file lies, how it comes there, and how it is known to be the right one."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import importlib
import json
import os
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from rs_embed.core.errors import CheckpointError, MissingExtraError
from rs_embed.core.folders import cache_dir
from rs_embed.core.model_spec import Checkpoint

__all__ = ["at_hand", "cache_dir", "file_sha256", "locate", "place_of", "require"]

Progress = Callable[[int, int | None], None]
"""Told the bytes that are there and the bytes that are coming in all, where the server says."""

_CHUNK = 1 << 20
_READABLE = 0o644  # a cache may be shared, and temporary files are their owner's only
_TIMEOUT_S = 60


def require(module: str, *, why: str) -> ModuleType:
    """Import an optional dependency of the extra ``torch``.

    Raises
    ------
    MissingExtraError
        If it is not installed; the message says `why` it is needed and how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(f'{why} needs {module}: pip install "rs-embed[torch]"') from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file; one of the same size and time of change is not read again."""
    stat = path.stat()
    marker = cache_dir() / "hashes" / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]}.json"
    seen = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    known = _read_json(marker)
    if {name: known.get(name) for name in seen} == seen and "sha256" in known:
        return str(known["sha256"])
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    _remember(marker, json.dumps(seen | {"sha256": digest.hexdigest()}))
    return digest.hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # absent, or half written by a process that was stopped: hash again
        return {}
    return found if isinstance(found, dict) else {}


def _remember(path: Path, text: str) -> None:
    """Write a small file whole or not at all; a cache that cannot be written costs time only."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(stream.name, _READABLE)
        os.replace(stream.name, path)
    except OSError:
        return


def place_of(checkpoint: Checkpoint) -> Path:
    """Return the path in the cache to which a published file is downloaded."""
    folder = cache_dir() / "weights"
    if checkpoint.repository is None:
        return (
            folder / "url" / hashlib.sha256(str(checkpoint.url).encode()).hexdigest()[:16] / Path(checkpoint.file).name
        )
    return folder / checkpoint.repository.replace("/", "--") / (checkpoint.revision or "unpinned") / checkpoint.file


def at_hand(checkpoint: Checkpoint) -> Path | None:
    """Return where a published file lies on this machine, its hash untested; None where it has to be downloaded."""
    place = place_of(checkpoint)
    if place.is_file():
        return place
    try:
        return _in_hub_cache(checkpoint, None)
    except MissingExtraError:
        return None


def locate(checkpoint: Checkpoint, *, who: str, progress: Progress | None = None) -> Path:
    """Return the verified local path of a published file, downloaded where it is not there yet.

    Looked for in our cache, then in huggingface_hub's, then on the network. Where neither the catalogue nor an earlier
    download knows a hash, this one's is written down beside the file and required from then on.

    Parameters
    ----------
    checkpoint : Checkpoint
        Where it is published.
    who : str
        Model and variant, for messages.
    progress : callable, optional
        Told how a download from a plain URL goes on; huggingface_hub draws a bar of its own on terminals.

    Raises
    ------
    CheckpointError
        If the file cannot be had, or is another than expected.
    MissingExtraError
        If huggingface_hub is needed and not installed.
    """
    place = place_of(checkpoint)
    record = place.with_name(place.name + ".sha256")
    expected = checkpoint.sha256 or (record.read_text(encoding="utf-8").strip() if record.is_file() else None)
    found = place if place.is_file() else _in_hub_cache(checkpoint, expected)
    fresh = found is None
    if found is None:
        _download(checkpoint, place, who, progress)
        found = place
    digest = file_sha256(found)
    if expected is not None and digest != expected:
        if fresh:
            place.unlink()  # so that the next call may try again
        raise CheckpointError(_other_file(checkpoint, found, who=who, digest=digest, expected=expected, fresh=fresh))
    if checkpoint.sha256 is None:
        _remember(record, digest)
    return found


def _other_file(checkpoint: Checkpoint, path: Path, *, who: str, digest: str, expected: str, fresh: bool) -> str:
    size = "" if fresh or checkpoint.size is None else f" ({path.stat().st_size} of {checkpoint.size} bytes)"
    told = "the catalogue" if checkpoint.sha256 else "the first download"
    remedy = (
        "what is published there has changed, or the download was damaged; try again, or pass checkpoint='path/to/file'"
        if fresh
        else f"delete {path} to download it again, or pass checkpoint='path/to/file'"
    )
    return (
        f"{checkpoint.file} of {who}{size} has the SHA-256 {digest}, and {told} has {expected}: "
        f"not the same file; {remedy}"
    )


def _source(checkpoint: Checkpoint) -> str:
    if checkpoint.repository is None:
        return str(checkpoint.url)
    at = f" at revision {checkpoint.revision}" if checkpoint.revision else ""
    return f"huggingface.co/{checkpoint.repository}{at}"


def _unreachable(checkpoint: Checkpoint, place: Path, who: str, why: str) -> CheckpointError:
    return CheckpointError(
        f"the weights of {who} are not on this machine and could not be downloaded ({why}). Put {checkpoint.file} from "
        f"{_source(checkpoint)} to {place}, or pass checkpoint='path/to/{Path(checkpoint.file).name}'"
    )


def _in_hub_cache(checkpoint: Checkpoint, expected: str | None) -> Path | None:
    """The file in huggingface_hub's own cache, where it is the right one."""
    if checkpoint.repository is None:
        return None
    hub = require("huggingface_hub", why="downloading published weights")
    found = hub.try_to_load_from_cache(checkpoint.repository, checkpoint.file, revision=checkpoint.revision)
    if not isinstance(found, str) or (expected is not None and file_sha256(Path(found)) != expected):
        return None
    return Path(found)


def _download(checkpoint: Checkpoint, place: Path, who: str, progress: Progress | None) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"the cache {cache_dir()} cannot be written ({error}); set RS_EMBED_CACHE_DIR to a folder that can"
        ) from error
    if checkpoint.repository is not None:
        _download_from_hub(checkpoint, place, who)
    elif checkpoint.url is not None:
        _download_from_url(checkpoint, checkpoint.url, place, who, progress)
    else:
        raise CheckpointError(f"{who} has no published weights; pass checkpoint='path/to/file'")


def _download_from_hub(checkpoint: Checkpoint, place: Path, who: str) -> None:
    hub = require("huggingface_hub", why="downloading published weights")
    constants = importlib.import_module("huggingface_hub.constants")
    if constants.HF_HUB_OFFLINE:
        raise _unreachable(checkpoint, place, who, "HF_HUB_OFFLINE is set")
    if why := _no_answer(constants.ENDPOINT):
        raise _unreachable(checkpoint, place, who, why)
    base = place.parents[len(Path(checkpoint.file).parts) - 1]
    try:
        hub.hf_hub_download(
            checkpoint.repository,
            checkpoint.file,
            revision=checkpoint.revision,
            local_dir=base,
            library_name="rs-embed",
        )
    except _hub_errors() as error:
        cause = error.__cause__ or error  # huggingface_hub speaks of the connection whatever the server said
        first = str(cause).strip().partition("\n")[0]
        raise _unreachable(checkpoint, place, who, f"{type(cause).__name__}: {first}") from error


def _hub_errors() -> tuple[type[BaseException], ...]:
    """What a failing download raises: huggingface_hub speaks through requests (below 1.0) or httpx."""
    errors: list[type[BaseException]] = [OSError, ValueError]
    with contextlib.suppress(ImportError):  # requests' errors are OSErrors
        errors.append(importlib.import_module("httpx").HTTPError)
    return tuple(errors)


def _no_answer(endpoint: str) -> str | None:
    """Why a server does not answer at all, or None; huggingface_hub would try six times and take 23 s to say so."""
    try:
        with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=10):
            return None
    except urllib.error.HTTPError:
        return None  # an answer, whatever it says
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        # certificates are httpx' own matter: it may know more of them than this Python
        return None if isinstance(reason, ssl.SSLError) else f"{endpoint} does not answer: {reason}"


def _download_from_url(checkpoint: Checkpoint, url: str, place: Path, who: str, progress: Progress | None) -> None:
    part = None
    try:
        with (
            urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer,
            tempfile.NamedTemporaryFile(dir=place.parent, suffix=".part", delete=False) as stream,
        ):
            part = Path(stream.name)
            announced = answer.headers.get("Content-Length")
            while chunk := answer.read(_CHUNK):
                stream.write(chunk)
                if progress is not None:
                    progress(stream.tell(), None if announced is None else int(announced))
            if announced is not None and stream.tell() != int(announced):
                raise OSError(f"the connection ended after {stream.tell()} of {announced} bytes")
        part.chmod(_READABLE)
        os.replace(part, place)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreachable(checkpoint, place, who, f"{type(error).__name__}: {error}") from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
