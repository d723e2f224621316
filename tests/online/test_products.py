"""The real stores of products, a few pixels each: run with ``-m online``; indexes are some 80 MB the first time."""

from __future__ import annotations

import numpy as np
import pytest

from rs_embed import NoImageryError, OutputSpec, PointBuffer, TemporalSpec, get_embedding

pytestmark = pytest.mark.online
FARM = PointBuffer(11.55, 48.15, 50)
GRID = OutputSpec.grid()


def test_alphaearth_has_vectors_of_length_one() -> None:
    found = get_embedding("gse", spatial=FARM, temporal=TemporalSpec.year(2022), output=GRID)
    assert found.shape[0] == 64 and min(found.shape[1:]) >= 10 and found.meta["effective_gsd"] == 10
    assert np.abs(np.linalg.norm(found.values(), axis=0) - 1).max() < 0.05
    with pytest.raises(NoImageryError, match="there are"):
        get_embedding("gse", spatial=FARM, temporal=TemporalSpec.year(2001))


def test_tessera_has_tiles_of_version_1() -> None:
    found = get_embedding("tessera", spatial=FARM, temporal=TemporalSpec.year(2024), output=GRID)
    assert found.shape[0] == 128 and np.isfinite(found.values()).any()


def test_copernicus_has_the_cell_of_munich() -> None:
    found = get_embedding("copernicus", spatial=FARM)
    assert found.shape == (768,) and np.isfinite(found.data).all()
