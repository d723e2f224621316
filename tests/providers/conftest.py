"""Servers on loopback that tests of services share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from range_server import RangeServer
from real_catalogue import CATALOGUE, real_items
from servers import stac_api

from rs_embed.providers.earth_engine_login import KEYS, PROJECTS


@pytest.fixture(scope="module")
def files(test_data: Path) -> Iterator[RangeServer]:
    """The files of the real catalogue."""
    with RangeServer(test_data / CATALOGUE) as server:
        yield server


@pytest.fixture(scope="module")
def api(test_data: Path, files: RangeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A STAC API of them."""
    with stac_api(real_items(test_data, files), tmp_path_factory.mktemp("api")) as url:
        yield url


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without any login."""
    for name in (*KEYS, *PROJECTS, "CLOUDSDK_CONFIG", "GCE_METADATA_HOST", "K_SERVICE", "COLAB_RELEASE_TAG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path
