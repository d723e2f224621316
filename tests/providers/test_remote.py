"""Files behind URLs: the same bits as the file on this machine, no byte too many, every fault told, none decoded."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from range_server import RangeServer

from rs_embed.core.errors import ProviderError
from rs_embed.providers import raster, remote
from rs_embed.providers.ahead import READS, together
from rs_embed.providers.harmonise import Decoding
from rs_embed.providers.ranges import PATIENCE, Patience, without_query

SIDE, TILE = 400, 64
ORIGIN = (600000.0, 5200000.0)
BOX = GeoBox((SIDE, SIDE), Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1]), "EPSG:32633")
QUICK = replace(PATIENCE, first_wait=0.01, silence=1.0)
LABEL = "scene S2B_X of collection sentinel-2-l2a at service earth-search"
TILED = {"tiled": True, "blockxsize": TILE, "blockysize": TILE}
KINDS: dict[str, dict[str, Any]] = {
    "deflate": {**TILED, "compress": "deflate", "predictor": 2},
    "lzw": {**TILED, "compress": "lzw"},
    "plain": TILED,
    "strips": {"compress": "deflate"},
    "big": {**TILED, "compress": "zstd", "BIGTIFF": "YES"},
    "pixel": {**TILED, "compress": "deflate", "interleave": "pixel", "count": 3},
    "planes": {**TILED, "compress": "deflate", "interleave": "band", "count": 3},
    "sparse": {**TILED, "compress": "deflate", "SPARSE_OK": True},
    "float": {**TILED, "compress": "deflate", "predictor": 3, "dtype": "float32"},
    "jpeg2000": {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES", "blockxsize": 128, "blockysize": 128},
}


def texture(count: int = 1) -> np.ndarray:
    data = np.random.default_rng(5).integers(1, 10_000, (count, SIDE, SIDE)).astype(np.uint16)
    data[:, 100:150, 30:90] = 0
    return data


def write(path: Path, kind: str) -> None:
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 1, **KINDS[kind]}
    if kind != "jpeg2000":  # GDAL would put it into a second file
        profile["nodata"] = 0
    data = texture(profile["count"])
    with rasterio.open(
        path, "w", height=SIDE, width=SIDE, crs="EPSG:32633", transform=BOX.affine, **profile
    ) as dataset:
        if kind == "sparse":
            dataset.write(data[:, :200, :200], window=((0, 200), (0, 200)))
        else:
            dataset.write(data.astype(profile["dtype"]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("files")
    for kind in KINDS:
        write(place / f"{kind}{'.jp2' if kind == 'jpeg2000' else '.tif'}", kind)
    whole = (place / "deflate.tif").read_bytes()
    (place / "half.tif").write_bytes(whole[: len(whole) // 2])
    (place / "stub.tif").write_bytes(whole[:200])
    (place / "text.tif").write_text("bands and pixels")
    (place / "empty.tif").write_bytes(b"")
    spoilt = bytearray(whole)
    spoilt[len(whole) // 2 : len(whole) // 2 + 3000] = b"\x55" * 3000
    (place / "spoilt.tif").write_bytes(spoilt)
    with rasterio.open(
        place / "nowhere.tif", "w", driver="GTiff", dtype="uint8", count=1, height=9, width=9,
        transform=Affine(1, 0, 3, 0, -1, 3),
    ) as dataset:  # fmt: skip
        dataset.write(np.ones((1, 9, 9), np.uint8))
    return place


@pytest.fixture
def server(folder: Path) -> Iterator[RangeServer]:
    remote.forget_heads()
    with RangeServer(folder) as running:
        yield running


def crop(row: int, col: int, height: int, width: int, step: float = 10.0) -> GeoBox:
    return GeoBox((height, width), Affine(step, 0, ORIGIN[0] + 10 * col, 0, -step, ORIGIN[1] - 10 * row), "EPSG:32633")


LATTICES = {
    "aligned": crop(70, 60, 90, 50),
    "beyond": crop(-20, 380, 60, 60),
    "coarser": crop(10, 20, 30, 40, 20.0),
    "askew": crop(3, 4, 40, 50, 13.0),
    "zone": GeoBox((60, 50), Affine(10, 0, 1057100, 0, -10, 5224800), "EPSG:32632"),
    "elsewhere": crop(5000, 5000, 9, 9),
}


@pytest.mark.parametrize("where", LATTICES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_bits_are_those_of_the_file_here(server: RangeServer, folder: Path, kind: str, where: str) -> None:
    name = f"{kind}{'.jp2' if kind == 'jpeg2000' else '.tif'}"
    indexes = [3, 1] if "count" in KINDS[kind] else [1]
    for classes, decoding in ((False, Decoding(0.0, offset=-1000.0, floor=0.0)), (True, None)):
        box = LATTICES[where]
        here = raster.read_bands(str(folder / name), indexes, box, decoding=decoding, classes=classes)
        there = remote.read_bands(server.url(name), indexes, box, decoding=decoding, classes=classes)
        np.testing.assert_array_equal(here, there)
        # a lattice must show what it is there for; the sparse file has nothing in its east
        assert np.isfinite(here).any() == (where != "elsewhere" and (kind, where) != ("sparse", "beyond"))


def test_real_scenes_have_the_same_bits(test_data: Path) -> None:
    jpeg = next((test_data / "s2_stac_antimeridian").rglob("B04.jp2"))
    cog = next((test_data / "s2_stac_catalog").rglob("B04.tif"))
    landsat = next((test_data / "landsat_scene").glob("*SR_B4.TIF"))
    with RangeServer(test_data) as server:
        for file in (jpeg, cog, landsat):
            with rasterio.open(file) as dataset:
                a = dataset.transform
                box = GeoBox((60, 70), Affine(a.a, 0, a.c + 200 * a.a, 0, a.e, a.f + 150 * a.e), str(dataset.crs))
            found = remote.read_bands(server.url(str(file.relative_to(test_data))), [1], box)
            np.testing.assert_array_equal(found, raster.read_bands(str(file), [1], box))


def tile_bytes(file: Path, rows: slice, cols: slice) -> int:
    """Stored bytes of the tiles that a window touches."""
    with rasterio.open(file) as dataset:
        return sum(
            int(dataset.get_tag_item(f"BLOCK_SIZE_{c}_{r}", "TIFF", bidx=1))
            for r in range(rows.start // TILE, (rows.stop - 1) // TILE + 1)
            for c in range(cols.start // TILE, (cols.stop - 1) // TILE + 1)
        )


def test_only_the_touched_tiles_are_fetched(server: RangeServer, folder: Path) -> None:
    box = crop(70, 60, 90, 50)
    strictly = tile_bytes(folder / "plain.tif", slice(70, 160), slice(60, 110))
    remote.read_bands(server.url("plain.tif"), [1], box)
    head = server.requests[0].sent
    # of the tiles that lie side by side one request is made, with the few bytes between them
    assert head <= 2**14 and strictly <= server.sent - head <= 1.02 * strictly
    assert len(server.requests) <= 1 + 2
    server.reset()
    remote.read_bands(server.url("plain.tif"), [1], box)
    assert server.requests[0].start > 0, "the beginning of a file is fetched once"
    assert server.sent <= 1.02 * strictly


def test_nothing_is_fetched_of_a_place_beside_the_file(server: RangeServer) -> None:
    assert np.isnan(remote.read_bands(server.url("plain.tif"), [1], LATTICES["elsewhere"])).all()
    assert len(server.requests) == 1


def read(server: RangeServer, name: str = "deflate.tif", **more: Any) -> np.ndarray:
    options = {"names": ["B4"], "label": LABEL, "patience": QUICK} | more
    return remote.read_bands(server.url(name, sig="secret"), [1], LATTICES["aligned"], **options)


@pytest.fixture(scope="module")
def right(folder: Path) -> np.ndarray:
    return raster.read_bands(str(folder / "deflate.tif"), [1], LATTICES["aligned"])


# fault, where it begins, what the user reads, requests that it takes (None: several)
FAULTS: dict[str, tuple[dict[str, Any], str, int | None]] = {
    "not found": ({"kind": "status", "status": 404}, r"does not exist \(HTTP 404\); the catalogue lists", 1),
    "gone": ({"kind": "status", "status": 410}, r"does not exist \(HTTP 410\)", 1),
    "refused": ({"kind": "status", "status": 403}, r"refused \(HTTP 403\); the URL's signature has expired or", 1),
    "login": ({"kind": "status", "status": 401}, r"refused \(HTTP 401\)", 1),
    "bad request": ({"kind": "status", "status": 400}, r"HTTP 400", 1),
    "unwilling": ({"kind": "status", "status": 429}, r"asks for fewer requests \(HTTP 429\) \(6 attempts\); try", 6),
    "in trouble": ({"kind": "status", "status": 503}, r"is in trouble \(HTTP 503\) \(6 attempts\); try again later", 6),
    "bad gateway": ({"kind": "status", "status": 502}, r"HTTP 502", 6),
    "rest": (
        {"kind": "status", "status": 429, "headers": {"Retry-After": "3600"}},
        r"HTTP 429\) and asks to wait 3600 s; try again later",
        1,
    ),
    "page": ({"kind": "html"}, r"a web page came in place of the file; .*HTTPS_PROXY", 1),
    "whole": ({"kind": "whole"}, r"sends the whole file for a range of it; .*does not keep to HTTP ranges", 1),
    "shifted": ({"kind": "shifted", "from_byte": 1}, r"asked for bytes .* it answers with", 2),
    "unsized": ({"kind": "unsized"}, r"answers a range request with Content-Range ''", 1),
    "short": ({"kind": "short", "from_byte": 1}, r"asked for bytes .* it answers with", 2),
    "lying": ({"kind": "lying", "from_byte": 1}, r"cannot be read \(.*\); the file is damaged", 3),
    "cut": ({"kind": "cut"}, r"connection was cut .*\(6 attempts\); check the network", 6),
    "cut tiles": ({"kind": "cut", "from_byte": 1}, r"connection was cut .*\(6 attempts\); check the network", 7),
    "replaced": ({"kind": "swapped", "from_byte": 1}, r"the file changed while it was read; try again", 4),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults_are_told_and_never_decoded(server: RangeServer, case: str) -> None:
    fault, said, requests = FAULTS[case]
    server.break_(**fault)
    with pytest.raises(ProviderError, match=said) as caught:
        read(server)
    assert str(caught.value).startswith(f"{LABEL}: band B4 ({server.url('deflate.tif')}): ")
    assert "secret" not in str(caught.value)
    assert len(server.requests) == requests


@pytest.mark.parametrize("case", [case for case in FAULTS if case not in ("rest",)])
def test_a_fault_that_passes_leaves_no_trace(server: RangeServer, right: np.ndarray, case: str) -> None:
    """Once only: what is worth another attempt succeeds, what is not fails and succeeds when it is read again."""
    server.break_(**FAULTS[case][0], times=1)
    again = {"unwilling", "in trouble", "bad gateway", "cut", "cut tiles", "replaced"}
    if case not in again:
        with pytest.raises(ProviderError):
            read(server)
    np.testing.assert_array_equal(read(server)[0], right[0])


DAMAGED = {
    "half.tif": r"ends at byte \d+, before a tile that its header puts at",
    "stub.tif": r"cannot be read",
    "text.tif": r"cannot be read \(.*not recognized as being in a supported file format",
    "empty.tif": r"shorter than its own header says",
    "spoilt.tif": r"cannot be read",
    "nowhere.tif": r"has no georeference",
    "missing.tif": r"does not exist",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_files_that_are_none(server: RangeServer, name: str) -> None:
    box = crop(0, 0, SIDE, SIDE)
    with pytest.raises(ProviderError, match=DAMAGED[name]) as caught:
        remote.read_bands(server.url(name, sig="secret"), [1], box, names=["B4"], label=LABEL, patience=QUICK)
    said = str(caught.value)
    assert LABEL in said and "secret" not in said and "vsi" not in said
    assert len(server.requests) < 12


def test_half_a_jpeg_2000_is_no_image(server: RangeServer, folder: Path, tmp_path: Path) -> None:
    whole = (folder / "jpeg2000.jp2").read_bytes()
    (tmp_path / "half.jp2").write_bytes(whole[: len(whole) // 2])
    with RangeServer(tmp_path) as other, pytest.raises(ProviderError, match=r"half\.jp2\): it cannot be read"):
        remote.read_bands(other.url("half.jp2"), [1], crop(300, 300, 90, 90), patience=QUICK)


@pytest.mark.parametrize("kind", ["cut", "status", "whole", "lying"])
def test_jpeg_2000_meets_faults_in_the_middle(server: RangeServer, kind: str) -> None:
    """GDAL asks for what it wants; what does not come must not be taken for an end of the file."""
    server.break_(kind, from_byte=1)
    with pytest.raises(ProviderError, match=r"jpeg2000\.jp2\): "):
        remote.read_bands(server.url("jpeg2000.jp2"), [1], crop(300, 300, 90, 90), patience=QUICK)


def test_a_wait_that_the_server_asks_for_is_kept(server: RangeServer, right: np.ndarray) -> None:
    server.break_("status", status=429, times=1, headers={"Retry-After": "1"})
    np.testing.assert_array_equal(read(server)[0], right[0])
    assert server.requests[1].at - server.requests[0].at >= 1
    remote.forget_heads()
    server.reset()
    server.mend()
    when = format_datetime(datetime.fromtimestamp(datetime.now(UTC).timestamp() + 7200, UTC), usegmt=True)
    server.break_("status", status=503, headers={"Retry-After": when})
    with pytest.raises(ProviderError, match=r"asks to wait 7[12]\d\d s"):
        read(server)
    assert len(server.requests) == 1


def test_attempts_end(server: RangeServer) -> None:
    server.break_("status")
    with pytest.raises(ProviderError, match="3 attempts"):
        read(server, patience=replace(QUICK, attempts=3))
    server.reset()
    with pytest.raises(ProviderError, match="HTTP 503"):
        read(server, patience=replace(QUICK, seconds=0.0))
    assert len(server.requests) == 1


def test_silence_and_drops(server: RangeServer) -> None:
    impatient = Patience(first_wait=0.01, attempts=2, silence=0.2)
    server.break_("hang", seconds=30.0)
    with pytest.raises(ProviderError, match=r"does not answer in time \(2 attempts\)"):
        read(server, patience=impatient)
    server.mend()
    server.break_("slow", seconds=0.1)
    with pytest.raises(ProviderError, match=r"only .* kB/s arrive \(2 attempts\)"):
        read(server, patience=replace(impatient, slowest=1e6))


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a.tif?sig=secret"
        with pytest.raises(ProviderError, match=r"cannot be reached; check the network and HTTPS_PROXY") as caught:
            remote.read_bands(url, [1], LATTICES["aligned"], label=LABEL, patience=QUICK)
    assert "secret" not in str(caught.value)


def test_an_expired_signature_is_renewed_once(folder: Path, right: np.ndarray) -> None:
    remote.forget_heads()
    with RangeServer(folder, signature="current") as server:
        asked = []

        def renew() -> str:
            asked.append(1)
            return server.url("deflate.tif", sig="current")

        old = server.url("deflate.tif", sig="old")
        found = remote.read_bands(old, [1], LATTICES["aligned"], refresh=renew, patience=QUICK)
        np.testing.assert_array_equal(found[0], right[0])
        assert len(asked) == 1, "the new URL serves all that follows"
        asked.clear()
        # the beginning is known by now, and its token ends before the tiles are fetched
        server.signature = "newer"
        with pytest.raises(ProviderError, match="refused"):
            remote.read_bands(old, [1], LATTICES["aligned"], refresh=renew, patience=QUICK)
        assert len(asked) == 1, "no token helps where the service refuses"


def test_what_signing_anew_raises_reaches_the_user(folder: Path) -> None:
    def refuse() -> str:
        raise ProviderError("no token today")

    remote.forget_heads()
    with RangeServer(folder, signature="current") as server:
        with pytest.raises(ProviderError, match="no token today"):
            remote.read_bands(server.url("deflate.tif"), [1], LATTICES["aligned"], refresh=refuse)
        old = server.url("jpeg2000.jp2", sig="current")
        remote.read_bands(old, [1], crop(0, 0, 9, 9))
        server.signature = "newer"
        with pytest.raises(ProviderError, match="no token today"):
            remote.read_bands(old, [1], crop(300, 300, 90, 90), refresh=refuse)


def test_a_file_that_was_replaced_is_read_anew(folder: Path, tmp_path: Path, right: np.ndarray) -> None:
    file = tmp_path / "scene.tif"
    file.write_bytes((folder / "lzw.tif").read_bytes())
    with RangeServer(tmp_path) as server:
        remote.read_bands(server.url("scene.tif"), [1], LATTICES["aligned"])
        file.write_bytes((folder / "deflate.tif").read_bytes())
        found = remote.read_bands(server.url("scene.tif"), [1], LATTICES["aligned"])
    np.testing.assert_array_equal(found[0], right[0])


def test_reads_in_flight_are_bounded(folder: Path) -> None:
    remote.forget_heads()
    with RangeServer(folder, latency=0.02) as server:
        calls = [
            lambda n=n: remote.read_bands(server.url("deflate.tif", n=str(n)), [1], LATTICES["aligned"])
            for n in range(3 * READS.count)
        ]
        found = together(READS, calls)
        assert 8 < server.most_flying <= READS.count
    assert all(np.array_equal(one, found[0], equal_nan=True) for one in found)


def test_the_first_fault_ends_the_others(server: RangeServer) -> None:
    """What has not begun is not begun, and nobody waits for what runs."""
    server.break_("hang", path="lzw", seconds=30.0)
    server.break_("status", status=404, path="big")
    slow = [lambda: read(server, "lzw.tif", patience=PATIENCE)] * 8
    with pytest.raises(ProviderError, match=r"big\.tif\): the file does not exist"):
        together(READS, [*slow, lambda: read(server, "big.tif"), *slow * READS.count])
    assert len(server.requests) <= READS.count + 1


def test_readers_of_many_threads_share_nothing(server: RangeServer, right: np.ndarray) -> None:
    barrier = threading.Barrier(16)

    def one(_: int) -> bool:
        barrier.wait()
        return all(np.array_equal(read(server)[0], right[0], equal_nan=True) for _ in range(4))

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(16)))


def test_urls_without_what_is_secret() -> None:
    assert without_query("https://me:pass@host.org:8/a/b.tif?sig=1#x") == "https://host.org:8/a/b.tif"
