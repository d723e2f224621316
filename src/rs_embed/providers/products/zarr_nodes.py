"""Groups and arrays of a Zarr store as their metadata tell them, of both formats, consolidated or not.

Version 3 keeps a ``zarr.json`` a node, and consolidated metadata inside that of the root
(https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html); version 2 keeps ``.zgroup``, ``.zarray`` and
``.zattrs``, and consolidated metadata in ``.zmetadata`` (https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rs_embed.core.errors import ProviderError
from rs_embed.providers.products.files import Absent, RemoteFile, Store

__all__ = ["Hierarchy", "Node", "is_zarr", "looks_like_zarr"]

_ROOTS = ("zarr.json", ".zgroup", ".zarray")
_USUAL = ("embeddings", "embedding", "emb")
"""Names that an array of embeddings has, where a server does not list what it holds."""
_LARGE = 2**16
"""Bytes of consolidated metadata above which they are kept on this machine, if the server says their version."""


@dataclass(frozen=True)
class Node:
    """A group or an array."""

    path: str
    """Below the root; empty for the root itself."""
    document: Mapping[str, Any]
    """The metadata as they are stored; of version 2 without attributes."""
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_array(self) -> bool:
        """Whether it holds numbers."""
        return "shape" in self.document

    @property
    def version(self) -> int:
        """Of the format: 2 or 3."""
        return int(self.document["zarr_format"])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an array."""
        return tuple(int(n) for n in self.document["shape"])

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of an array's dimensions; none where its metadata do not name all of them."""
        named = self.document.get("dimension_names") or self.attrs.get("_ARRAY_DIMENSIONS") or ()
        whole = len(named) == len(self.shape) and all(isinstance(each, str) for each in named)
        return tuple(named) if whole else ()


def looks_like_zarr(address: str) -> bool:
    """Whether the address itself says that a Zarr store lies there: it ends with ``.zarr``, or lies below ``zarr``."""
    parts = address.rstrip("/").lower().split("/")
    return parts[-1].endswith(".zarr") or "zarr" in parts[-2:]


def is_zarr(store: Store) -> bool:
    """Whether a store is the root of a Zarr hierarchy."""
    for name in _ROOTS[: 1 if store.remote else None]:
        try:
            store.file(name)
        except Absent:
            continue
        return True
    return False


class Hierarchy:
    """The nodes of one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._nodes: dict[str, Node] | None = None
        self._listed = False

    def node(self, path: str = "") -> Node:
        """Return a group or array.

        Raises
        ------
        Absent
            If there is none of that path.
        ProviderError
            If its metadata cannot be read.
        """
        with self._lock:
            if self._nodes is None:
                self._nodes = self._consolidated()
            if path not in self._nodes:
                if self._listed and path:
                    raise Absent(self._lacking(path, self._nodes))
                self._nodes[path] = self._read(path)
            return self._nodes[path]

    def _lacking(self, path: str, nodes: Mapping[str, Node]) -> str:
        """Say that there is no such node, and what lies beside it."""
        parent = path.rpartition("/")[0]
        beside = sorted(each for each in nodes if each and each.rpartition("/")[0] == parent)
        told = f"; it has {', '.join(beside[:12])}{' …' if len(beside) > 12 else ''}" if beside else ""
        return f"{self.store.name} has no {path!r}{told}"

    def arrays(self, path: str = "") -> list[Node]:
        """Return the arrays right below a group: all of them where the store tells what it has, else those found."""
        self.node(path)
        assert self._nodes is not None
        if self._listed:
            names = [each.rpartition("/") for each in self._nodes if each]
            below = [f"{parent}/{name}".lstrip("/") for parent, _, name in names if parent == path]
        elif self.store.remote:
            below = [f"{path}/{name}".lstrip("/") for name in _USUAL]
        else:
            folder = Path(self.store.address) / path
            below = [f"{path}/{each.name}".lstrip("/") for each in sorted(folder.iterdir()) if each.is_dir()]
        found = [node for each in below if (node := self.maybe(each)) is not None]
        return [node for node in found if node.is_array]

    def maybe(self, path: str) -> Node | None:
        """Return a node, or ``None`` where there is none."""
        try:
            return self.node(path)
        except Absent:
            return None

    def _consolidated(self) -> dict[str, Node]:
        """Return the root, and all nodes where the store says them in one place."""
        try:
            root = self._document("zarr.json")
        except Absent:
            return self._consolidated_2()
        found = {"": _node_3("", root)}
        inside = (root.get("consolidated_metadata") or {}).get("metadata") or {}
        self._listed = bool(inside)
        return found | {path: _node_3(path, document) for path, document in inside.items()}

    def _consolidated_2(self) -> dict[str, Node]:
        try:
            inside = self._document(".zmetadata").get("metadata", {})
        except Absent:
            return {}
        self._listed = True
        found = {}
        for key in inside:
            path, _, name = key.rpartition("/")
            if name in (".zgroup", ".zarray"):
                found[path] = Node(path, inside[key], inside.get(f"{path}/.zattrs".lstrip("/"), {}))
        return found

    def _read(self, path: str) -> Node:
        """Read the metadata of one node, of either version."""
        begin = f"{path}/" if path else ""
        try:
            return _node_3(path, self._document(f"{begin}zarr.json"))
        except Absent:
            pass
        for name in (".zarray", ".zgroup"):
            try:
                document = self._document(begin + name)
            except Absent:
                continue
            try:
                return Node(path, document, self._document(f"{begin}.zattrs"))
            except Absent:
                return Node(path, document)
        where = f"{self.store.name}/{path}".rstrip("/")
        raise Absent(f"{where} has no zarr.json, .zarray or .zgroup: it is no Zarr store, or half-copied")

    def _document(self, name: str) -> dict[str, Any]:
        file = self.store.file(name)
        content = self.store.whole(
            name, keep=isinstance(file, RemoteFile) and file.size > _LARGE and bool(file.head.tag)
        )
        try:
            found = json.loads(content.read_bytes() if isinstance(content, Path) else content)
        except ValueError as error:
            raise ProviderError(
                f"{self.store.name}/{name} is no JSON ({error}): the store is half-copied or damaged; copy it again"
            ) from error
        if not isinstance(found, dict):
            raise ProviderError(f"{self.store.name}/{name} holds no metadata of Zarr; copy the store again")
        return found


def _node_3(path: str, document: Mapping[str, Any]) -> Node:
    if document.get("zarr_format") != 3:
        raise ProviderError(
            f"{path or 'the root'} says zarr_format={document.get('zarr_format')!r} in a zarr.json, which is version 3"
        )
    return Node(path, document, document.get("attributes") or {})
