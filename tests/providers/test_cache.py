"""The cache of pixels: equal to the bit with and without it, whoever writes, is killed, or takes away files."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rs_embed.core.errors import ProviderError
from rs_embed.core.geometry import Rect
from rs_embed.core.imagery import ImageRequest, Interval, Scene
from rs_embed.core.sensors import SENSORS
from rs_embed.providers.backends import open_provider
from rs_embed.providers.base import SceneProvider
from rs_embed.providers.cache import PIXELS, RECENT, CachedProvider, cached, pixel_folder
from rs_embed.providers.cache_files import SUFFIX, PixelFiles, decode, encode
from rs_embed.providers.harmonise import decoding_of_item
from rs_embed.providers.local import open_local
from rs_embed.providers.resample import Grid, resample
from rs_embed.providers.stac_items import item_version

UTM = "EPSG:32633"
BANDS = ("B4", "B8", "SCL", "VV")


def box(
    row: int, col: int, height: int, width: int, *, gsd: float = 10.0, offset: float = 0.0, crs: str = UTM
) -> GeoBox:
    """A window by the numbers of its pixels; rows count downwards from y = 0."""
    corner = Affine(gsd, 0, (col + offset) * gsd, 0, -gsd, -(row + offset) * gsd)
    return GeoBox((height, width), corner, crs)


def drawn(scene: Scene, band: str, geobox: GeoBox) -> NDArray[np.float32]:
    """Pixels by their place alone: classes, whole and broken numbers, with holes, and NaN east of a line."""
    a, (height, width) = geobox.affine, geobox.shape
    x = np.round(a.c / 0.5 + a.a / 0.5 * np.arange(width)).astype(np.int64)[None]
    y = np.round(a.f / 0.5 + a.e / 0.5 * np.arange(height)).astype(np.int64)[:, None]
    mixed = (x * 7919 ^ y * 104729) + sum(map(ord, scene.id + band)) * 31
    whole = (mixed % {"SCL": 12}.get(band, 10007)).astype(np.float32)
    values = whole / np.float32(7) if band == "VV" else whole
    values[(mixed % 11 == 0) | np.broadcast_to(x > 30_000, mixed.shape)] = np.nan
    return values


class Shelf(SceneProvider):
    """Scenes of `drawn` pixels that writes down what is read of it."""

    name = "shelf"

    def __init__(
        self, source: str = "shelf", *, key: str | None = "one", fails: Callable[[GeoBox], bool] | None = None
    ) -> None:
        self.source, self.key, self.fails = source, key, fails
        self.reads: list[tuple[str, tuple[str, ...], tuple[int, int]]] = []

    def offers(self, sensor: str) -> bool:
        return True

    def search(self, request: ImageRequest, interval: Interval) -> list[Scene]:
        return [OLD]

    def scene_key(self, scene: Scene) -> str | None:
        return self.key and f"{self.key} {scene.id}"

    def read(self, scene: Scene, bands: Sequence[str], geobox: GeoBox) -> NDArray[np.float32]:
        if self.fails is not None and self.fails(geobox):
            raise ProviderError("cut")
        self.reads.append((scene.id, tuple(bands), tuple(geobox.shape)))
        return np.stack([drawn(scene, band, geobox) for band in bands])

    @property
    def pixels(self) -> int:
        """Pixels of all bands that were read since this was last asked."""
        found = sum(len(bands) * height * width for _, bands, (height, width) in self.reads)
        self.reads.clear()
        return found


def scene(name: str = "old", *, age: timedelta = timedelta(days=400)) -> Scene:
    return Scene(name, datetime.now(UTC) - age, frozenset(BANDS))


OLD = scene()


def same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()


def kept(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob(f"*{SUFFIX}") if not path.name.startswith("."))


windows = st.builds(box, st.integers(-300, 600), st.integers(-300, 2900), st.integers(1, 700), st.integers(1, 700))
requests = st.lists(
    st.tuples(windows, st.lists(st.sampled_from(BANDS), min_size=1, max_size=4, unique=True), st.sampled_from("ab")),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25)
@given(asked=requests)
def test_pixels_are_the_same_with_and_without(asked: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    shelf = Shelf()
    provider = cached(shelf, folder=tmp_path_factory.mktemp("pixels"))
    seen: set[str] = set()
    for geobox, bands, name in asked:
        found = provider.read(scene(name), bands, geobox)
        assert same(found, Shelf().read(scene(name), bands, geobox))
        border = 0 if name not in seen else 2 * 255  # a first request reads not one pixel more than without a cache
        assert shelf.pixels <= len(bands) * (geobox.shape[0] + border) * (geobox.shape[1] + border)
        seen.add(name)
    for geobox, bands, name in asked:
        assert same(provider.read(scene(name), bands, geobox), Shelf().read(scene(name), bands, geobox))
    assert not shelf.reads, "all of it was read before"


def test_a_part_is_the_crop_of_the_whole_and_the_whole_is_made_of_parts(tmp_path: Path) -> None:
    shelf = Shelf()
    provider = cached(shelf, folder=tmp_path / "whole")
    whole = provider.read(OLD, BANDS, box(-20, 100, 600, 500))
    shelf.reads.clear()
    assert same(provider.read(OLD, BANDS, box(100, 200, 300, 37)), whole[:, 120:420, 100:137].copy())
    assert not shelf.reads
    provider = cached(shelf, folder=tmp_path / "parts")
    for row in range(-20, 580, 150):
        provider.read(OLD, BANDS, box(row, 100, 150, 500))
    shelf.reads.clear()
    assert same(provider.read(OLD, BANDS, box(-20, 100, 600, 500)), whole)
    assert not shelf.reads


def test_a_first_request_is_read_as_it_was_asked(tmp_path: Path) -> None:
    shelf = Shelf()
    cached(shelf, folder=tmp_path).read(OLD, BANDS, box(7, 9, 1000, 900))
    assert shelf.reads == [("old", BANDS, (1000, 900))]


def test_another_model_reads_only_the_bands_that_are_not_there(tmp_path: Path) -> None:
    shelf = Shelf()
    provider = cached(shelf, folder=tmp_path)
    provider.read(OLD, ["B4", "SCL"], box(7, 9, 300, 300))
    shelf.reads.clear()
    found = provider.read(OLD, ["VV", "SCL", "B8"], box(7, 9, 300, 300))
    assert shelf.reads == [("old", ("VV", "B8"), (300, 300))]
    assert same(found, Shelf().read(OLD, ["VV", "SCL", "B8"], box(7, 9, 300, 300)))


def test_neighbours_read_what_they_do_not_share(tmp_path: Path) -> None:
    shelf = Shelf()
    provider = cached(shelf, folder=tmp_path)
    provider.read(OLD, ["B4"], box(0, 0, 2000, 2000))
    shelf.reads.clear()
    provider.read(OLD, ["B4"], box(0, 900, 2000, 2000))
    assert 2000 * 900 <= shelf.pixels <= 1.2 * 2000 * 900
    provider.read(OLD, ["B4"], box(1000, 1900, 2000, 2000))  # an L of 1000 x 1000 and 1000 x 2000
    missing = 1000 * 2000 + 1000 * 1000
    assert len(shelf.reads) == 2 and missing <= shelf.pixels <= 1.2 * missing


def test_a_block_that_is_asked_for_again_is_read_whole(tmp_path: Path) -> None:
    shelf = Shelf()
    provider = cached(shelf, folder=tmp_path)
    provider.read(OLD, ["B4"], box(10, 10, 64, 64))
    assert shelf.pixels == 64 * 64
    provider.read(OLD, ["B4"], box(20, 20, 64, 64))
    assert shelf.reads == [("old", ("B4",), (256, 256))]
    for place in range(0, 190, 40):
        geobox = box(place, 190 - place, 64, 64)
        assert same(provider.read(OLD, ["B4"], geobox), Shelf().read(OLD, ["B4"], geobox))
    assert len(shelf.reads) == 1
    assert [path.name for path in kept(tmp_path)] == [f"0_0_256_256{SUFFIX}"]


def test_what_cannot_be_read_beside_a_window_does_no_harm(tmp_path: Path) -> None:
    shelf = Shelf(fails=lambda geobox: geobox.shape[0] > 200)  # a damaged file, beside the windows
    provider = cached(shelf, folder=tmp_path)
    for place in (10, 20, 20):
        geobox = box(place, place, 64, 64)
        assert same(provider.read(OLD, ["B4", "VV"], geobox), Shelf().read(OLD, ["B4", "VV"], geobox))


def test_a_small_corner_is_not_worth_a_read_of_its_own(tmp_path: Path) -> None:
    shelf = Shelf()
    provider = cached(shelf, folder=tmp_path)
    provider.read(OLD, ["B4"], box(0, 0, 64, 64))
    provider.read(OLD, ["B4"], box(32, 32, 64, 64))
    assert len(shelf.reads) == 2


@pytest.mark.parametrize(
    "other",
    [
        box(0, 0, 50, 50, gsd=20.0),
        box(0, 0, 50, 50, offset=0.5),
        box(0, 0, 50, 50, crs="EPSG:32634"),
        GeoBox((50, 50), Affine(10, 0, 0, 0, 10, 0), UTM),
    ],
    ids=["size", "offset", "zone", "upside down"],
)
def test_lattices_do_not_mix(tmp_path: Path, other: GeoBox) -> None:
    shelf = Shelf()
    provider = cached(shelf, folder=tmp_path)
    provider.read(OLD, ["B4"], box(0, 0, 50, 50))
    assert same(provider.read(OLD, ["B4"], other), Shelf().read(OLD, ["B4"], other))
    assert len(shelf.reads) == 2


def test_noise_of_a_crop_makes_no_other_lattice(tmp_path: Path) -> None:
    shelf = Shelf()
    provider = cached(shelf, folder=tmp_path)
    provider.read(OLD, ["B4"], box(-510_000, 49_800, 50, 50))
    noisy = GeoBox((50, 50), Affine(10, 0, 498_000.00000001, 0, -10, 5_099_999.9999999), UTM)
    assert same(provider.read(OLD, ["B4"], noisy), Shelf().read(OLD, ["B4"], box(-510_000, 49_800, 50, 50)))
    assert len(shelf.reads) == 1


@pytest.mark.parametrize(
    "change",
    [{"source": "another service"}, {"key": "reprocessed"}, {"version": PIXELS + 1}, {"id": "another scene"}],
    ids=lambda change: next(iter(change)),
)
def test_other_pixels_are_read_anew(tmp_path: Path, change: dict[str, Any]) -> None:
    files = PixelFiles(tmp_path)
    CachedProvider(Shelf(), files).read(OLD, ["B4"], box(0, 0, 50, 50))
    shelf = Shelf(change.get("source", "shelf"), key=change.get("key", "one"))
    provider = CachedProvider(shelf, files, version=change.get("version", PIXELS))
    provider.read(scene(change.get("id", "old")), ["B4"], box(0, 0, 50, 50))
    assert len(shelf.reads) == 1


@pytest.mark.parametrize(
    ("key", "age", "geobox"),
    [
        (None, timedelta(days=400), box(0, 0, 50, 50)),
        ("one", RECENT - timedelta(hours=1), box(0, 0, 50, 50)),
        ("one", timedelta(days=400), GeoBox((50, 50), Affine(10, 1, 0, 1, -10, 0), UTM)),
        ("one", timedelta(days=400), GeoBox((50, 50), Affine(10, 0, 0, 0, -10, 0), None)),
    ],
    ids=["no key", "recent", "rotated", "no place"],
)
def test_some_pixels_are_not_kept(tmp_path: Path, key: str | None, age: timedelta, geobox: GeoBox) -> None:
    shelf = Shelf(key=key)
    provider = cached(shelf, folder=tmp_path)
    one, two = (provider.read(scene(age=age), ["B4"], geobox) for _ in range(2))
    assert same(one, two) and len(shelf.reads) == 2 and not kept(tmp_path)


def test_a_scene_is_kept_from_its_thirtieth_day_on(tmp_path: Path) -> None:
    shelf = Shelf()
    provider = cached(shelf, folder=tmp_path)
    for _ in range(2):
        provider.read(scene(age=RECENT + timedelta(hours=1)), ["B4"], box(0, 0, 50, 50))
    assert len(shelf.reads) == 1


def test_a_read_that_fails_leaves_nothing_and_harms_nothing(tmp_path: Path) -> None:
    broken = threading.Event()
    shelf = Shelf(fails=lambda _: broken.is_set())
    provider = cached(shelf, folder=tmp_path)
    provider.read(OLD, ["B4"], box(0, 0, 300, 300))
    before = kept(tmp_path)
    broken.set()
    with pytest.raises(ProviderError, match="cut"):
        provider.read(OLD, ["B4", "B8"], box(0, 100, 300, 300))
    assert kept(tmp_path) == before
    broken.clear()
    found = provider.read(OLD, ["B4", "B8"], box(0, 100, 300, 300))
    assert same(found, Shelf().read(OLD, ["B4", "B8"], box(0, 100, 300, 300)))


def test_larger_rectangles_take_the_place_of_those_that_they_hold(tmp_path: Path) -> None:
    provider = cached(Shelf(), folder=tmp_path)
    for number in range(5):
        provider.read(OLD, ["B4"], box(10 * number, 10, 10, 10))
    provider.read(OLD, ["B4"], box(0, 0, 256, 256))
    assert [path.name for path in kept(tmp_path)] == [f"0_0_256_256{SUFFIX}"]


def test_what_else_a_provider_can_do_goes_through(tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.waits, shelf.most_passes = True, 7
    shelf.stored_bytes = lambda *_: 5  # type: ignore[attr-defined]
    provider = cached(shelf, folder=tmp_path)
    assert (provider.name, provider.source, provider.waits, provider.most_passes) == ("shelf", "shelf", True, 7)
    assert provider.stored_bytes() == 5  # type: ignore[attr-defined]
    assert provider.offers("sentinel-2-l2a") and provider.scene_key(OLD) == "one old"
    with pytest.raises(AttributeError, match="nothing"):
        _ = provider.nothing  # type: ignore[attr-defined]


def test_it_travels_to_another_process(tmp_path: Path) -> None:
    provider = cached(Shelf(), folder=tmp_path)
    provider.read(OLD, ["B4"], box(0, 0, 50, 50))
    other: Any = pickle.loads(pickle.dumps(provider))
    other.provider.reads.clear()
    other.read(OLD, ["B4"], box(0, 0, 50, 50))
    assert not other.provider.reads and other.files is provider.files  # type: ignore[attr-defined]


class Keyed(SceneProvider):
    """Files on this machine, as if they lay behind a network."""

    def __init__(self, place: Path) -> None:
        self.inner = open_local(place)
        self.name, self.source = self.inner.name, self.inner.source

    def offers(self, sensor: str) -> bool:
        return self.inner.offers(sensor)

    def search(self, request: ImageRequest, interval: Interval) -> list[Scene]:
        return self.inner.search(request, interval)

    def scene_key(self, scene: Scene) -> str | None:
        return scene.id

    def read(self, scene: Scene, bands: Sequence[str], geobox: GeoBox) -> NDArray[np.float32]:
        return self.inner.read(scene, bands, geobox)


@pytest.mark.parametrize(
    ("gsd", "crs", "corner"),
    [
        (120.0, "EPSG:32633", (511_980, 5_188_020)),
        (100.0, "EPSG:32633", (510_000, 5_190_000)),
        (100.0, "EPSG:32632", (976_000, 5_200_000)),
    ],
    ids=["aligned", "another size", "another zone"],
)
def test_real_scenes_are_the_same_with_and_without(
    test_data: Path, tmp_path: Path, gsd: float, crs: str, corner: tuple[int, int]
) -> None:
    plain = Keyed(test_data / "s2_stac_catalog" / "catalog.json")
    provider = cached(plain, folder=tmp_path)
    whole = GeoBox((600, 600), Affine(gsd, 0, corner[0], 0, -gsd, corner[1]), crs)
    found = plain.search(
        ImageRequest("sentinel-2-l2a", ("B4",), None, whole, ()),
        (datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)),
    )
    random = np.random.default_rng(5)
    seen = 0
    for one in found[:2]:
        for _ in range(6):
            row, col = random.integers(0, 500, 2)
            height, width = random.integers(20, 100, 2)
            part = GeoBox((height, width), Affine(gsd, 0, corner[0] + gsd * col, 0, -gsd, corner[1] - gsd * row), crs)
            expected = plain.read(one, ["B4", "SCL"], part)
            seen += int(np.isfinite(expected).sum())
            assert same(provider.read(one, ["B4", "SCL"], part), expected)
        assert same(provider.read(one, ["B4", "SCL"], whole), plain.read(one, ["B4", "SCL"], whole))
    assert seen and kept(tmp_path)


def test_whole_requests_are_the_same_with_and_without(tmp_path: Path) -> None:
    shelf = Shelf()
    provider = cached(shelf, folder=tmp_path)
    geobox = box(3, 5, 100, 90)
    interval = (OLD.time - timedelta(days=1), OLD.time + timedelta(days=1))
    request = ImageRequest("sentinel-2-l2a", ("B4", "B8"), None, geobox, (interval,), mask="scl")
    (plain,) = Shelf().load(request, [geobox])
    for _ in range(2):
        (found,) = provider.load(request, [geobox])
        assert same(found.pixels, plain.pixels) and same(found.valid, plain.valid)
    assert len(shelf.reads) == 1


# The files.


@settings(max_examples=200)
@given(
    values=arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.one_of(
            st.integers(0, 70_000).map(float), st.just(float("nan")),
            st.sampled_from([0.0, -0.0, 254.0, 255.0, 65534.0]), st.floats(width=32),
        ),
    )
)  # fmt: skip
def test_every_bit_comes_back(values: NDArray[np.float32]) -> None:
    way, payload = encode(values)
    found = decode(way, payload, values.shape)
    assert found is not None and same(found, values)


@pytest.mark.parametrize(("values", "size"), [(3.0, 4), (np.nan, 4), (range(100), 100), (range(0, 30_000, 300), 200)])
def test_whole_numbers_take_little(values: Any, size: int) -> None:
    filled = np.broadcast_to(np.asarray(values, np.float32), 100).reshape(10, 10)
    assert len(encode(filled)[1]) == size


def test_bits_of_unusual_nan_come_back() -> None:
    values = np.frombuffer(struct.pack("<4I", 0x7FC00000, 0x7FC00001, 0xFFC00000, 0x40000000), "<f4").reshape(2, 2)
    found = decode(*encode(values), (2, 2))
    assert found is not None and same(found, values)


RECT = Rect(-5, 300, 40, 30)


def spoil(content: bytes, how: str, at: int) -> bytes:
    at %= len(content)
    return {
        "cut": content[:at],
        "flipped": content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :],
        "longer": content + b"\0" * (at + 1),
        "zeros": bytes(len(content)),
        "empty": b"",
    }[how]


@settings(max_examples=60)
@given(how=st.sampled_from(["cut", "flipped", "longer", "zeros", "empty"]), at=st.integers(0, 10**6))
def test_a_damaged_file_is_dropped_and_read_anew(how: str, at: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("pixels")
    shelf = Shelf()
    provider = cached(shelf, folder=folder)
    expected = provider.read(OLD, ["B4"], box(0, 0, 30, 40))
    (path,) = kept(folder)
    good = path.read_bytes()
    path.write_bytes(spoil(good, how, at))
    assert same(provider.read(OLD, ["B4"], box(0, 0, 30, 40)), expected)
    assert len(shelf.reads) == 2 and path.read_bytes() == good


def test_a_file_in_the_place_of_another_is_not_taken(tmp_path: Path) -> None:
    files = PixelFiles(tmp_path)
    values = np.arange(1200, dtype=np.float32).reshape(40, 30)
    files.save("ab1", RECT, values)
    (path,) = kept(tmp_path)
    content = path.read_bytes()
    for other in (path.with_name(f"-5_301_40_30{SUFFIX}"), tmp_path / "ab" / "2" / path.name):
        other.parent.mkdir(exist_ok=True)
        other.write_bytes(content)
    assert files.load("ab1", Rect(-5, 301, 40, 30)) is None
    assert files.load("ab2", RECT) is None
    found = files.load("ab1", RECT)
    assert found is not None and same(found, values)


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "ab" / "1").mkdir(parents=True)
    strangers = [tmp_path / "notes.txt", tmp_path / "ab" / "1" / "notes.txt", tmp_path / "ab" / "1" / "1_2_3.pixels"]
    for stranger in strangers:
        stranger.write_text("mine")
    files = PixelFiles(tmp_path, limit=1000)
    files.save("ab1", RECT, np.ones((40, 30), np.float32))
    assert files.rects("ab1") == [] or files.rects("ab1") == [RECT]
    files.clear()
    assert all(stranger.exists() for stranger in strangers[:2])


def block(number: int) -> tuple[str, Rect, NDArray[np.float32]]:
    """A file of 64 kB on the disk; from number 10 000 on of 37 MB, which takes a while to write."""
    scale = 24 if number >= 10_000 else 1
    height, width = 125 * scale, 128 * scale
    values = np.arange(number, number + height * width, dtype=np.float32).reshape(height, width) / 3
    return f"{number % 7:02x}{number:038x}", Rect(0, 0, height, width), values


CHARGED = 64 * 1024 + 4096  # with its folder


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    files = PixelFiles(tmp_path, limit=100 * CHARGED)
    for number in range(60):
        files.save(*block(number))
    past = time.time() - 1000
    for number in range(60):
        key, rect, _ = block(number)
        path = tmp_path / key[:2] / key[2:] / f"{rect.row}_{rect.col}_{rect.height}_{rect.width}{SUFFIX}"
        os.utime(path, (past + number, past + number))
    for number in range(0, 60, 3):
        key, rect, values = block(number)
        found = files.load(key, rect)  # used again
        assert found is not None and same(found, values)
    smaller = PixelFiles(tmp_path, limit=40 * CHARGED)
    smaller.trim()
    left = {number for number in range(60) if smaller.rects(block(number)[0])}
    unused = [number for number in range(60) if number % 3]
    assert left == {*range(0, 60, 3), *unused[-10:]}  # three quarters of 40


def test_it_stays_within_its_limit(tmp_path: Path) -> None:
    limit = 20 * CHARGED
    files = PixelFiles(tmp_path, limit=limit)
    for number in range(200):
        files.save(*block(number))
        count, size = files.size()
        assert size + 4096 * count <= limit
    assert files.size()[0] >= 10 and files.rects(block(199)[0])


WRITER = """
    import sys
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    import numpy as np

    from rs_embed.core.geometry import Rect
    from rs_embed.providers.cache_files import PixelFiles

    {block}
    files = PixelFiles(Path(sys.argv[1]), limit=int(sys.argv[2]))
    first, count = int(sys.argv[3]), int(sys.argv[4])
    print("ready", flush=True)
    sys.stdin.readline()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: files.save(*block(number)), range(first, first + count)))
"""


def writer(folder: Path, limit: int, first: int, count: int) -> subprocess.Popen[str]:
    """A process that waits for a line before it writes blocks in four threads."""
    code = textwrap.dedent(WRITER).replace("{block}", inspect.getsource(block))
    given = [str(folder), str(limit), str(first), str(count)]
    started = subprocess.Popen(
        [sys.executable, "-c", "from __future__ import annotations\n" + code, *given],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None and started.stdout.readline() == "ready\n"
    return started


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def end(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=60)
    return process.returncode


def test_processes_that_write_at_once_keep_within_the_limit(tmp_path: Path) -> None:
    limit = 100 * CHARGED
    processes = [writer(tmp_path, limit, 1000 * i, 150) for i in range(3)]
    for process in processes:
        go(process)
    files, largest = PixelFiles(tmp_path, limit=limit), 0
    while any(process.poll() is None for process in processes):
        largest = max(largest, files.size()[1])
    assert [end(process) for process in processes] == [0, 0, 0]
    assert 0.5 * limit < max(largest, files.size()[1]) <= limit
    assert not [path for path in tmp_path.rglob(".*")]


def test_two_processes_write_the_same_and_a_third_reads_only_whole_files(tmp_path: Path) -> None:
    processes = [writer(tmp_path, 10**9, 0, 400) for _ in range(2)]
    for process in processes:
        go(process)
    files, blocks, seen = PixelFiles(tmp_path), [block(number) for number in range(400)], 0
    while any(process.poll() is None for process in processes):
        for key, rect, _ in blocks:
            if files.rects(key):
                assert files.load(key, rect) is not None
                seen += 1
    assert [end(process) for process in processes] == [0, 0] and seen
    for key, rect, values in blocks:
        found = files.load(key, rect)
        assert files.rects(key) == [rect] and found is not None and same(found, values)


def test_a_killed_writer_leaves_whole_files_and_what_is_swept_later(tmp_path: Path) -> None:
    hidden: set[Path] = set()
    for attempt in range(4):
        process = writer(tmp_path, 10**9, 0, 4000)
        go(process)
        before = len(kept(tmp_path))
        while len(kept(tmp_path)) < before + 5 and process.poll() is None:
            pass
        process.send_signal(signal.SIGKILL)
        assert end(process) == -signal.SIGKILL
        hidden = {path for path in tmp_path.rglob(f".*{SUFFIX}")}
        for path in kept(tmp_path):
            path.unlink() if attempt < 3 else None
    files = PixelFiles(tmp_path)
    there = 0
    for number in range(4000):
        key, rect, values = block(number)
        for found in files.rects(key):
            assert found == rect
            loaded = files.load(key, rect)
            assert loaded is not None and same(loaded, values)
            there += 1
    assert there >= 5
    half = tmp_path / "ab" / "1" / f".0123456789abcdef{SUFFIX}"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"RSE1half")
    assert files.rects("ab1") == []
    for path in {*hidden, half}:
        os.utime(path, (1, 1))
    young = half.with_name(f".fedcba9876543210{SUFFIX}")
    young.write_bytes(b"RSE1half")  # its writer may be alive
    files.trim()
    assert [path for path in tmp_path.rglob(f".*{SUFFIX}")] == [young]


def test_a_file_that_is_half_written_is_never_there(tmp_path: Path) -> None:
    (key, _, values), files, cut = block(10_000), PixelFiles(tmp_path), 0
    for _ in range(20):
        process = writer(tmp_path, 10**10, 10_000, 1)
        go(process)
        while process.poll() is None and not list(tmp_path.rglob(f"*{SUFFIX}")):
            pass
        process.kill()
        end(process)
        cut += bool(list(tmp_path.rglob(f".*{SUFFIX}")))
        for there in files.rects(key):
            found = files.load(key, there)
            assert found is not None and same(found, values)
        for path in tmp_path.rglob(f"*{SUFFIX}"):
            path.unlink()
        if cut == 3:
            break
    assert cut, "no process was killed while it wrote"


def test_files_may_go_while_others_read(tmp_path: Path) -> None:
    provider = CachedProvider(Shelf(), PixelFiles(tmp_path, limit=400_000))
    rival = PixelFiles(tmp_path, limit=1)
    random = np.random.default_rng(1)
    asked = [(int(row), int(col)) for row, col in random.integers(0, 600, (60, 2))]
    done = threading.Event()

    def take_away() -> None:
        while not done.is_set():
            rival.trim()

    thief = threading.Thread(target=take_away)
    thief.start()

    def right(place: tuple[int, int]) -> bool:
        geobox = box(*place, 300, 200)
        return same(provider.read(OLD, ["B4", "VV"], geobox), Shelf().read(OLD, ["B4", "VV"], geobox))

    try:
        with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
            assert all(pool.map(right, asked))
    finally:
        done.set()
        thief.join()


def test_a_folder_that_cannot_be_used_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    shelf = Shelf()
    provider = cached(shelf, folder=tmp_path / "file" / "pixels")
    with pytest.warns(UserWarning, match="no longer cached.*RS_EMBED_CACHE_DIR") as told:
        found = [provider.read(OLD, ["B4"], box(row, 0, 20, 20)) for row in (0, 50)]
    assert len(told) == 1 and len(shelf.reads) == 2
    assert same(found[1], Shelf().read(OLD, ["B4"], box(50, 0, 20, 20)))


def test_a_folder_that_can_only_be_read_still_serves(
    open_folder: Path, as_nobody: Callable[[], AbstractContextManager[None]]
) -> None:
    shelf = Shelf()
    cached(shelf, folder=open_folder).read(OLD, ["B4"], box(0, 0, 20, 20))
    for path in [open_folder, *open_folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    provider = CachedProvider(shelf, PixelFiles(open_folder))
    with as_nobody():
        provider.read(OLD, ["B4"], box(0, 0, 20, 20))
        assert len(shelf.reads) == 1
        with pytest.warns(UserWarning, match="no longer cached"):
            provider.read(OLD, ["B8"], box(0, 0, 20, 20))
    for path in [open_folder, *open_folder.rglob("*")]:
        path.chmod(0o755)  # so that it can be removed again


FULL = """
    import resource, signal, sys, warnings
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from providers.test_cache import OLD, Shelf, box, kept, same
    from rs_embed.providers.cache import cached

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    shelf = Shelf()
    provider = cached(shelf, folder=Path(sys.argv[2]))
    provider.read(OLD, ["B4"], box(0, 0, 100, 100))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for row in (300, 600):
            geobox = box(row, 0, 200, 200)
            assert same(provider.read(OLD, ["VV"], geobox), Shelf().read(OLD, ["VV"], geobox))
    assert [str(one.message).count("no longer cached") for one in told] == [1], told
    assert len(kept(Path(sys.argv[2]))) == 1 and not list(Path(sys.argv[2]).rglob(".*"))
    shelf.reads.clear()
    provider.read(OLD, ["B4"], box(0, 0, 100, 100))
    assert not shelf.reads, "what is there still serves"
"""


def test_a_full_disk_is_told_once(tmp_path: Path) -> None:
    given = [str(Path(__file__).parents[1]), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), *given], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# The keys.

ITEM: dict[str, Any] = {
    "type": "Feature",
    "id": "S2A_33TWM_20230815_0_L2A",
    "collection": "sentinel-2-l2a",
    "properties": {"updated": "2023-08-16T00:00:00Z", "s2:processing_baseline": "05.09", "title": "a scene"},
    "assets": {
        "red": {"href": "https://example.org/B04.tif?sig=one", "raster:bands": [{"offset": -0.1, "scale": 0.0001}]}
    },
    "links": [{"rel": "self", "href": "https://example.org/item"}],
}


def changed(**paths: Any) -> dict[str, Any]:
    item = json.loads(json.dumps(ITEM))
    for path, value in paths.items():
        at, *rest = path.split("__")
        inside = item
        for name in rest:
            inside, at = inside[at], name
        inside[at] = value
    return item


@pytest.mark.parametrize(
    "item",
    [
        changed(id="S2A_33TWM_20230815_1_L2A"),
        changed(collection="sentinel-2-c1-l2a"),
        changed(properties__updated="2024-01-01T00:00:00Z"),
        changed(properties=ITEM["properties"] | {"s2:processing_baseline": "05.10"}),
        changed(assets__red__href="https://example.org/again/B04.tif?sig=one"),
        changed(assets={"red": ITEM["assets"]["red"] | {"raster:bands": [{"offset": 0, "scale": 0.0001}]}}),
        changed(properties=ITEM["properties"] | {"sentinel:boa_offset_applied": True}),
        changed(assets={"red": ITEM["assets"]["red"] | {"raster:unit": "dB"}}),
    ],
    ids=["id", "collection", "updated", "baseline", "file", "offset", "offset of version 0", "unit"],
)
def test_what_makes_other_pixels_makes_another_key(item: dict[str, Any]) -> None:
    assert item_version(item) != item_version(ITEM)


@pytest.mark.parametrize(
    "item",
    [
        changed(assets__red__href="https://example.org/B04.tif?sig=two"),
        changed(links=[]),
        changed(properties__title="another title"),
        dict(reversed(changed().items())),
    ],
    ids=["signature", "links", "title", "order"],
)
def test_what_makes_no_other_pixels_makes_no_other_key(item: dict[str, Any]) -> None:
    assert item_version(item) == item_version(ITEM)


def test_open_services_are_cached_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RS_EMBED_CACHE_DIR", str(tmp_path))
    assert pixel_folder() == tmp_path / "pixels"
    for name in ("earth-search", "planetary-computer", "https://stac.example.org/v1"):
        found = open_provider(name)
        assert isinstance(found, CachedProvider) and found.files.folder == tmp_path / "pixels"
        assert open_provider(name) is found
        plain = open_provider(name, cache=False)
        assert type(plain) is type(found.provider) and plain.source == found.source
    several: Any = open_provider("auto")
    assert all(isinstance(each, CachedProvider) for each in several.services)
    without: Any = open_provider("auto", cache=False)
    assert not any(isinstance(each, CachedProvider) for each in without.services)
    assert not isinstance(open_provider("synthetic"), CachedProvider)


FIRST_VERSION = {
    ("s2", "as it is"): [7018.0, 7019.0, 7026.0, 7027.0],
    ("s2", "mean"): [7022.5, 7024.5, 7038.5, 7040.5],
    ("s2", "bilinear"): [7019.9, 7020.7, 7026.3, 7027.1],
    ("l8", "as it is"): [204.95, 205.225, 207.15, 207.425],
    ("l8", "mean"): [206.188, 206.738, 210.588, 211.138],
    ("l8", "bilinear"): [205.473, 205.693, 207.233, 207.453],
}


def test_the_version_of_our_pixels_is_that_of_these() -> None:
    """Where this fails because pixels have changed on purpose: add one to PIXELS, and take the new numbers."""
    stored = np.arange(8000, 8064, dtype=np.uint16).reshape(8, 8)
    grid = Grid(8, 8, Affine(10, 0, 500_000, 0, -10, 5_100_000), box(0, 0, 1, 1).crs)
    s2 = decoding_of_item(SENSORS["sentinel-2-l2a"], "B4", "sentinel-2-l2a", {"s2:processing_baseline": "05.09"}, {})
    l8 = decoding_of_item(SENSORS["landsat-c2-l2"], "SR_B4", "landsat-c2-l2", {}, {})
    lattices = {
        "as it is": GeoBox((2, 2), Affine(10, 0, 500_020, 0, -10, 5_099_980), UTM),
        "mean": GeoBox((2, 2), Affine(20, 0, 500_020, 0, -20, 5_099_980), UTM),
        "bilinear": GeoBox((2, 2), Affine(8, 0, 500_016, 0, -8, 5_099_976), UTM),
    }
    found = {
        (kind, name): resample(
            lambda rows, cols, decode=decode: decode(stored[rows, cols])[None], 1, grid, lattice
        ).ravel().astype(float).round(3).tolist()
        for kind, decode in (("s2", s2), ("l8", l8))
        for name, lattice in lattices.items()
    }  # fmt: skip
    assert (PIXELS, found) == (1, FIRST_VERSION)
