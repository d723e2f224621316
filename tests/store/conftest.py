"""Embeddings that every format has to hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rs_embed import BBox, Embedding, OutputSpec, PointBuffer, Polygon, TemporalSpec, get_embeddings_batch

RING = [[11.44, 47.43], [11.46, 47.431], [11.45, 47.44], [11.44, 47.43]]
PLACES = [
    PointBuffer(11.457, 47.442, 150),
    Polygon({"type": "Polygon", "coordinates": [RING]}),
    BBox(11, 47, 11.01, 47.01),
]
LABELS: list[dict[str, Any]] = [
    {"crop": "wheat", "count": 3, "yield": 2.5, "irrigated": True, "id": 9},
    {"crop": None, "count": None, "yield": 4, "irrigated": False, "id": None},
    {"crop": "Grünland", "count": -1, "yield": None, "irrigated": None, "id": 1, "late": "only here"},
]


def embed(output: OutputSpec, places: list[Any]) -> list[Embedding]:
    time = TemporalSpec.parse("2022-07")
    return get_embeddings_batch("imagestats", spatials=places, temporal=time, backend="synthetic", output=output)


@pytest.fixture(scope="session")
def _made() -> tuple[list[Embedding], list[Embedding]]:
    return embed(OutputSpec.pooled(), PLACES), embed(OutputSpec.grid(), PLACES[:2])


def _copy(embedding: Embedding) -> Embedding:
    return Embedding(embedding.data.copy(), json.loads(json.dumps(embedding.meta)))


@pytest.fixture
def vectors(_made: tuple[list[Embedding], list[Embedding]]) -> list[Embedding]:
    """Three vectors with names and labels, and one that failed."""
    found = [_copy(each) for each in _made[0]]
    for each, name, labels in zip(found, (7, "Feld ü", None), LABELS, strict=True):
        each.meta |= {"id": name, "labels": labels}
    error = {"model": "imagestats", "id": "lost", "warnings": [], "error": "NoImageryError: nothing there"}
    return [*found, Embedding(np.full(found[0].dim, np.nan, np.float32), error)]


@pytest.fixture
def grids(_made: tuple[list[Embedding], list[Embedding]]) -> list[Embedding]:
    """A square grid, and one of a triangle, which has NaN in its corners."""
    return [_copy(each) for each in _made[1]]


Same = Callable[[Embedding, Embedding], None]


@pytest.fixture(scope="session")
def same() -> Same:
    """Asserts that two embeddings are equal to the bit, coordinates and metadata included."""

    def check(one: Embedding, other: Embedding) -> None:
        assert one.values().tobytes() == other.values().tobytes()
        assert one.shape == other.shape and type(one.data) is type(other.data)
        assert json.dumps(one.meta) == json.dumps(other.meta)
        assert (one.id, one.ok) == (other.id, other.ok)
        if not isinstance(one.data, np.ndarray):
            assert one.data.identical(other.data)

    return check
