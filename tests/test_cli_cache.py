"""``cache info``, ``cache clear`` and ``--no-cache``, with imagery behind a server on loopback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import Caller
from range_server import RangeServer

from rs_embed.core.geometry import Rect
from rs_embed.providers.cache import pixel_folder
from rs_embed.providers.cache_files import SUFFIX, pixel_files

NAME = "S2A_33TWM_20230815_0_L2A"
ASKED = ("--point", "15.6", "46.6", "--buffer", "2400", "--time", "2023-08")
LOOK = (*ASKED, "--scale", "120", "--cloudy", "100", "--collection", "s2", "--bands", "B4,B3,B2", "--json")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Caller:
    return Caller(capsys)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RS_EMBED_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(test_data: Path, tmp_path: Path) -> Iterator[RangeServer]:
    """A static catalogue of one real scene, its files beside it."""
    real, place = test_data / "s2_stac_catalog" / "sentinel-2-l2a" / NAME, tmp_path / "served"
    place.mkdir()
    for file in real.glob("*.tif"):
        shutil.copy(file, place)
    item = json.loads((real / f"{NAME}.json").read_text())
    item["assets"] = {key: asset for key, asset in item["assets"].items() if (place / asset["href"]).is_file()}
    item["links"] = []
    (place / "item.json").write_text(json.dumps(item))
    links = [{"rel": "item", "href": "item.json", "type": "application/geo+json"}]
    root = {"type": "Catalog", "id": "one", "stac_version": "1.0.0", "description": "one scene", "links": links}
    (place / "catalog.json").write_text(json.dumps(root))
    with RangeServer(place) as served:
        yield served


def rasters(server: RangeServer) -> int:
    """Requests of raster files since this was last asked."""
    found = sum(request.path.endswith(".tif") for request in server.requests)
    server.reset()
    return found


def files(cache: Path) -> list[Path]:
    return sorted((cache / "pixels").rglob(f"*{SUFFIX}"))


def test_imagery_is_fetched_once_unless_told_otherwise(command: Caller, cache: Path, server: RangeServer) -> None:
    backend = ("--backend", server.url("catalog.json"))
    anew = json.loads(command.ok("inspect", *LOOK, *backend, "--no-cache").out)
    assert rasters(server) and not files(cache)
    first = json.loads(command.ok("inspect", *LOOK, *backend).out)
    assert rasters(server) and files(cache)
    again = json.loads(command.ok("inspect", *LOOK, *backend).out)
    assert not rasters(server)
    assert anew == first == again
    assert json.loads(command.ok("inspect", *LOOK, *backend, "--no-cache").out) == first
    assert rasters(server)


def test_embedding_with_and_without_is_the_same(command: Caller, cache: Path, server: RangeServer) -> None:
    asked = ("embed", "imagestats", *(each for each in LOOK if each != "--json"))
    asked = (*asked, "--backend", server.url("catalog.json"))
    vectors = [json.loads(command.ok(*asked, *more).out)["embedding"] for more in ((), (), ("--no-cache",))]
    assert vectors[0] == vectors[1] == vectors[2]


def test_without_a_cache_a_wrong_backend_is_told_as_always(command: Caller) -> None:
    said = command("inspect", *LOOK, "--backend", "earth-serch", "--no-cache")
    assert said.code == 1 and "did you mean 'earth-search'" in said.err


def test_rasters_of_ones_own_are_not_cached(command: Caller, tmp_path: Path) -> None:
    said = command("embed", "rcf", tmp_path / "a.tif", "--collection", "s2", "--no-cache")
    assert said.code == 2 and "--no-cache" in said.err


def fill(cache: Path) -> None:
    """A file of pixels, and one of weights with what is known of it."""
    pixel_files(pixel_folder()).save("ab1", Rect(0, 0, 99, 99), np.ones((99, 99), np.float32))
    (cache / "weights" / "url").mkdir(parents=True)
    (cache / "weights" / "url" / "net.pt").write_bytes(b"1" * 1_500_000)
    (cache / "hashes").mkdir()
    (cache / "hashes" / "net.json").write_text("{}")
    (cache / "products" / "chips").mkdir(parents=True)
    (cache / "products" / "chips" / "index.json").write_bytes(b"1" * 3000)


def test_weights_and_pixels_are_shown_apart(command: Caller, cache: Path) -> None:
    assert "pixels: 0 B in 0 files (at most 10.0 GB" in command.ok("cache", "info").out
    fill(cache)
    found = json.loads(command.ok("cache", "info", "--json").out)
    assert found["pixels"] == {
        "path": str(cache / "pixels"), "files": 1, "size_bytes": 4096, "limit_bytes": 10_000_000_000
    }  # fmt: skip
    assert found["products"] == {"path": str(cache / "products"), "size_bytes": 3000}
    assert found["size_bytes"] == 1_500_002 + 4096 + 3000
    assert "pixels: 4.1 kB in 1 file (" in command.ok("cache", "info").out


def test_pixels_are_deleted_at_once(command: Caller, cache: Path) -> None:
    fill(cache)
    (cache / "pixels" / "notes.txt").write_text("not ours")
    assert command.ok("cache", "clear", "--pixels").out == "pixels: 4.1 kB deleted\n"
    assert not files(cache)
    assert [path.name for path in (cache / "pixels").iterdir()] == ["notes.txt"]
    assert (cache / "weights" / "url" / "net.pt").exists()
    assert command.ok("cache", "clear", "--pixels").out == "pixels: 0 B deleted\n"


def test_what_is_kept_of_products_is_deleted_alone(command: Caller, cache: Path) -> None:
    fill(cache)
    assert "products: 3.0 kB of indexes" in command.ok("cache", "info").out
    assert command.ok("cache", "clear", "--products").out == "products: 3.0 kB deleted\n"
    assert not (cache / "products").exists() and files(cache) and (cache / "weights").exists()


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, False), ("n\n", 130, True), ("", 130, True)])
def test_weights_are_deleted_when_the_answer_is_yes(
    command: Caller, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str, code: int, left: bool
) -> None:
    fill(cache)
    (tmp_path / "answer").write_text(answer)
    with (tmp_path / "answer").open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        said = command("cache", "clear", "--weights", "--pixels")
    assert said.code == code
    assert "Delete 1.5 MB of downloaded weights?" in said.err
    assert (cache / "weights").exists() is left and (cache / "hashes").exists() is left
    assert bool(files(cache)) is left  # nothing at all where the answer is no


def test_weights_are_deleted_without_a_question_where_that_was_said(command: Caller, cache: Path) -> None:
    fill(cache)
    assert command.ok("cache", "clear", "--weights", "--yes").out == "weights: 1.5 MB deleted\n"
    assert files(cache) and not (cache / "weights").exists()
    assert command.ok("cache", "clear", "--weights").out == "weights: 0 B deleted\n"  # nothing to ask about


def test_what_to_delete_must_be_said(command: Caller, cache: Path) -> None:
    said = command("cache", "clear")
    assert said.code == 2 and "--pixels, --weights or --products" in said.err


def test_a_cache_in_a_home_that_nobody_has(command: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RS_EMBED_CACHE_DIR", "~nobody-of-that-name/cache")
    for call in (("cache", "info"), ("embed", "imagestats", *ASKED, "--backend", "earth-search")):
        said = command(*call)
        assert said.code == 1
        assert "RS_EMBED_CACHE_DIR='~nobody-of-that-name/cache' names a home that is not known here" in said.err
    said = command("doctor")
    assert "names a home that is not known here" in said.out
    said = command("embed", "imagestats", *ASKED, "--backend", "~nobody-of-that-name/rasters")
    assert "neither a known name" in said.err
    said = command("embed", "imagestats", *ASKED, "--backend", "a" * 5000)
    assert "neither a known name" in said.err
