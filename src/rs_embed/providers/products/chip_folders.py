"""Which files a set of chips consists of: one, a folder here or behind a URL, or a data set on Hugging Face."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

import requests

from rs_embed.core.errors import ProviderError
from rs_embed.providers.products.files import LocalFile, RemoteFile, StoredFile
from rs_embed.providers.ranges import without_query
from rs_embed.providers.sessions import TIMEOUT, open_session, trouble

__all__ = ["SUFFIXES", "ChipFolder", "Listed", "hub_address", "is_table", "open_folder"]

SUFFIXES = (".parquet", ".geoparquet", ".gpq")
_HUB = "https://huggingface.co"
_DATA_SET = re.compile(r"/datasets/([^/]+)/([^/]+)(?:/(?:resolve|tree|blob)/([^/]+))?(?:/(.*))?")
_HEAD = 2**10
"""Bytes fetched of the beginning of a file: what it says of itself stands at the end."""
_LINK = re.compile(r"""<a\s[^>]*?href\s*=\s*["']([^"'#?]+)""", re.IGNORECASE)


@dataclass(frozen=True)
class Listed:
    """A file of a folder."""

    name: str
    """Its path in the folder."""
    open: Callable[[], StoredFile]
    tag: str | None
    """What changes with its content, where the listing tells: then its index needs no look at the file."""


@dataclass(frozen=True)
class ChipFolder:
    """Files of chips."""

    address: str
    source: str
    """As metadata say it: no folders of this machine, no signatures."""
    files: tuple[Listed, ...]


def is_table(address: str) -> bool:
    """Whether an address is that of a Parquet file, by its name."""
    remote = "://" in address
    return (urlsplit(address).path if remote else address).strip().lower().endswith(SUFFIXES)


def _is_remote(address: str) -> bool:
    return address.lower().startswith(("http://", "https://"))


def open_folder(address: str, below: Sequence[str] = ("",), *, deep: bool = True) -> ChipFolder:
    """Return the files of chips at an address.

    Parameters
    ----------
    address
        Path or URL of a Parquet file or of a folder of them; of a data set on Hugging Face its page.
    below
        Folders below it that may hold the files: the first that does counts.
    deep
        Whether files in folders of folders belong to it.

    Raises
    ------
    ProviderError
        If there are none.
    """
    address = address.strip().rstrip("/")
    if is_table(address) and (_is_remote(address) or not Path(address).expanduser().is_dir()):
        return _single(address)
    if not _is_remote(address):
        return _local(address, below, deep)
    if _data_set(f"{address}/{below[0]}".rstrip("/")) is not None:
        return _hub(f"{address}/{below[0]}".rstrip("/"))
    return _remote(address, below)


def _single(address: str) -> ChipFolder:
    if _is_remote(address):
        name = Path(unquote(urlsplit(address).path)).name
        return ChipFolder(address, without_query(address), (Listed(name, _remote_file(address), None),))
    path = Path(address).expanduser()
    return ChipFolder(address, path.name, (Listed(path.name, lambda: LocalFile(path), None),))


def _local(address: str, below: Sequence[str], deep: bool) -> ChipFolder:
    root = Path(address).expanduser()
    if not root.is_dir():
        raise ProviderError(f"{address!r} is neither the URL of a store of embeddings nor a file or folder here")
    for each in below:
        folder = root / each
        paths = sorted(folder.rglob("*") if deep else folder.glob("*")) if folder.is_dir() else []
        found = [path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file()]
        if found:
            listed = (Listed(p.relative_to(root).as_posix(), _local_file(p), None) for p in found)
            return ChipFolder(f"{address}/{each}", root.name, tuple(listed))
    raise ProviderError(f"the folder {root.name!r} holds no {' or '.join(SUFFIXES)}{_where(below)}")


def _where(below: Sequence[str]) -> str:
    named = [repr(each) for each in below if each]
    return f", neither itself nor in {' or '.join(named)}" if named else ""


def hub_address() -> str:
    """Return the address of Hugging Face, or of what HF_ENDPOINT puts in its place."""
    return (os.environ.get("HF_ENDPOINT") or _HUB).rstrip("/")


def _data_set(address: str) -> re.Match[str] | None:
    """Return owner, name, revision and folder of an address on Hugging Face, or on what HF_ENDPOINT names."""
    for host in {_HUB, hub_address()}:
        if address.startswith(f"{host}/"):
            return _DATA_SET.fullmatch(address.removeprefix(host))
    return None


def _hub(address: str) -> ChipFolder:
    """List a data set's files by its tree (https://huggingface.co/docs/hub/api); they come page by page."""
    found = _data_set(address)
    assert found is not None
    owner, name, revision, folder = found[1], found[2], found[3] or "main", (found[4] or "").strip("/")
    whole = f"{owner}/{name}"
    below = f"/{quote(folder)}" if folder else ""
    url: str | None = f"{hub_address()}/api/datasets/{whole}/tree/{quote(revision, safe='')}{below}?recursive=true"
    entries: list[dict[str, Any]] = []
    with open_session() as session:
        while url is not None:
            answer = _get(session, url, f"the list of files of {whole} on Hugging Face")
            entries += _entries(answer, whole)
            url = answer.links.get("next", {}).get("url")
    root = f"{hub_address()}/datasets/{whole}/resolve/{quote(revision, safe='')}"
    files = [
        Listed(entry["path"], _remote_file(f"{root}/{quote(entry['path'])}"), _tag(entry))
        for entry in entries
        if entry.get("type") == "file" and str(entry.get("path")).lower().endswith(SUFFIXES)
    ]
    if not files:
        raise ProviderError(f"{whole} on Hugging Face has no {' or '.join(SUFFIXES)} in {folder or 'it'!r}")
    return ChipFolder(address, without_query(address), tuple(sorted(files, key=lambda each: each.name)))


def _entries(answer: requests.Response, whole: str) -> list[dict[str, Any]]:
    try:
        found = answer.json()
    except ValueError as error:
        raise trouble(f"the list of files of {whole}", None, error, remedy="use a copy (backend=folder)") from error
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ProviderError(f"the list of files of {whole} is none; check HF_ENDPOINT, or use a copy (backend=folder)")
    return found


def _tag(entry: dict[str, Any]) -> str | None:
    """Return the hash of a file's content, as the hub tells it, with its size."""
    told = (entry.get("lfs") or {}).get("oid") or entry.get("oid")
    return None if told is None else f"{told}|{entry.get('size')}"


def _local_file(path: Path) -> Callable[[], StoredFile]:
    return lambda: LocalFile(path)


def _remote_file(url: str) -> Callable[[], StoredFile]:
    return lambda: RemoteFile(url, head=_HEAD)


def _get(session: requests.Session, url: str, what: str) -> requests.Response:
    remedy = "use a copy (backend=folder)"
    try:
        answer = session.get(url, timeout=TIMEOUT)
    except (requests.RequestException, OSError) as error:
        raise trouble(what, None, error, remedy=remedy) from error
    if answer.status_code != 200:
        raise trouble(what, answer.status_code, None, remedy=remedy)
    return answer


def _remote(address: str, below: Iterable[str]) -> ChipFolder:
    """List a folder behind a URL by the links of its page, as file servers write it."""
    remedy = "name a file in it, or a copy in a folder here"
    with open_session() as session:
        for each in below:
            page = f"{address}/{each}".rstrip("/") + "/"
            try:
                answer = session.get(page, timeout=TIMEOUT)
            except (requests.RequestException, OSError) as error:
                raise trouble(f"the list of {without_query(page)}", None, error, remedy=remedy) from error
            links = dict.fromkeys(_LINK.findall(answer.text)) if answer.status_code == 200 else ()
            urls = [url for url in (urljoin(page, link) for link in links) if is_table(url)]
            if urls:
                named = [(Path(unquote(urlsplit(url).path)).name, url) for url in urls]
                files = tuple(Listed(name, _remote_file(url), None) for name, url in sorted(named))
                return ChipFolder(page, without_query(address), files)
    raise ProviderError(
        f"{without_query(address)} gives no list of {' or '.join(SUFFIXES)}{_where(tuple(below))}: {remedy}"
    )
