"""Choosing scenes and reducing them: on a fake catalogue whose every pixel is known, and on real scenes."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from rs_embed.core.errors import NoImageryError, ProviderError
from rs_embed.core.geometry import footprint_of
from rs_embed.core.imagery import ImageRequest, Interval, Scene
from rs_embed.providers import composite
from rs_embed.providers.ahead import PASSES
from rs_embed.providers.base import SceneProvider
from rs_embed.providers.composite import compose, median, select_scenes
from rs_embed.providers.local import open_local
from rs_embed.providers.masks import clear_qa_pixel, clear_scl

BOX = GeoBox((6, 5), Affine(10, 0, 500000, 0, -10, 5100000), "EPSG:32633")
JUNE = (datetime(2023, 6, 1, tzinfo=UTC), datetime(2023, 7, 1, tzinfo=UTC))
JULY = (datetime(2023, 7, 1, tzinfo=UTC), datetime(2023, 8, 1, tzinfo=UTC))
REQUEST = ImageRequest("sentinel-2-l2a", ("B4",), footprint_of(BOX), BOX, (JUNE,), "median", "scl")
NAN = float("nan")


class Shelf(SceneProvider):
    """Scenes of constant pixels; ``item`` holds {band: number or array of the whole BOX}."""

    name = source = "shelf"

    def __init__(self, *scenes: Scene) -> None:
        self.scenes = scenes

    def offers(self, sensor: str) -> bool:
        return True

    def search(self, request: ImageRequest, interval: Interval) -> list[Scene]:
        return list(self.scenes)  # a service may answer with too much: filters are applied later

    def read(self, scene: Scene, bands: Sequence[str], geobox: GeoBox) -> np.ndarray:
        row = round((BOX.affine.f - geobox.affine.f) / 10)
        col = round((geobox.affine.c - BOX.affine.c) / 10)
        rows, cols = slice(row, row + geobox.shape[0]), slice(col, col + geobox.shape[1])
        whole = [np.broadcast_to(np.asarray(scene.item[b], np.float32), BOX.shape) for b in bands]
        return np.stack([w[rows, cols] for w in whole]).astype(np.float32)


def scene(day: int, pixels: float | np.ndarray = 100, scl: float | np.ndarray = 4, **more: object) -> Scene:
    time = datetime(2023, 6, 1, 10, tzinfo=UTC) + timedelta(days=day - 1)
    bands = {"B4": pixels, "SCL": scl} | more.pop("bands", {})  # type: ignore[operator]
    made = Scene(f"day{day}", time, frozenset(bands), item=bands)
    return replace(made, **more)  # type: ignore[arg-type]


def one(provider: SceneProvider, request: ImageRequest, part: GeoBox = BOX) -> composite.ImageStack:
    (stack,) = provider.load(request, [part])
    return stack


@given(
    st.lists(st.lists(st.floats(-1e4, 1e4, width=32) | st.just(NAN), min_size=3, max_size=3), min_size=1, max_size=9)
)
def test_median_is_numpys(rows: list[list[float]]) -> None:
    values = [np.array(r, np.float32) for r in rows]
    out = median(values)
    for i in range(3):
        known = [v[i] for v in values if not np.isnan(v[i])]
        if known:
            np.testing.assert_allclose(out[i], np.median(np.array(known, np.float64)), rtol=1e-6, atol=1e-3)
        else:
            assert np.isnan(out[i])


@pytest.mark.parametrize("count", range(1, 28))
def test_median_of_any_number_of_passes(count: int) -> None:
    values = np.random.default_rng(count).normal(size=(count, 40, 25)).astype(np.float32)
    values[np.random.default_rng(-count % 99).random(values.shape) < 0.3] = np.nan
    empty = np.isnan(values).all(0)
    expected = np.full(empty.shape, np.nan)
    expected[~empty] = np.nanmedian(values[:, ~empty].astype(np.float64), axis=0)
    np.testing.assert_allclose(median(list(values)), expected, rtol=1e-6)


@pytest.mark.parametrize(("how", "value"), [("median", 150.0), ("mean", 275.0), ("mosaic", 100.0)])
def test_composites(how: str, value: float) -> None:
    shelf = Shelf(scene(3, 200), scene(1, 100), scene(9, 800), scene(2, 0), scene(20, 7, 9))
    stack = one(shelf, replace(REQUEST, composite=how))
    expected = {"median": 150.0, "mean": 275.0, "mosaic": 100.0}[how]
    assert value == expected
    assert stack.valid.all() and (stack.pixels == expected).all()
    # a mosaic stops at the first, which fills all
    assert stack.observations == ((30, 30) if how == "mosaic" else (4 * 30, 5 * 30))
    used = [s["id"] for s in stack.scenes[0]]
    assert used == (["day1"] if how == "mosaic" else ["day1", "day2", "day3", "day9"])
    assert stack.times == np.array(["2023-06-16T00:00:00"], "datetime64[s]")


def test_frames_of_acquisitions() -> None:
    stack = one(Shelf(scene(5, 50), scene(2, 20, 9), scene(40)), replace(REQUEST, composite="none"))
    assert [str(t) for t in stack.times] == ["2023-06-02T10:00:00", "2023-06-05T10:00:00"]
    assert stack.valid.mean(axis=(1, 2)).tolist() == [0, 1]
    assert [len(s) for s in stack.scenes] == [0, 1]


def test_interval_without_imagery_is_an_invalid_frame() -> None:
    stack = one(Shelf(scene(5, 50)), replace(REQUEST, intervals=(JUNE, JULY)))
    assert stack.valid.mean(axis=(1, 2)).tolist() == [1, 0]
    assert stack.scenes[1] == () and (stack.pixels[1] == 0).all()


def test_tiles_of_a_pass_are_fused_before_they_are_masked() -> None:
    left = np.full(BOX.shape, NAN)
    left[:, :3] = 100
    right = np.full(BOX.shape, 300.0)
    late = timedelta(seconds=20)
    cloudy = scene(4, left, 9, id="left")
    clear = scene(4, right, id="right")
    shelf = Shelf(cloudy, replace(clear, time=clear.time + late))
    stack = one(shelf, replace(REQUEST, composite="none"))
    assert len(stack.times) == 1
    # the left tile has data there, so that its cloud is not replaced by another look at the same moment
    assert stack.valid[0].tolist() == [[False] * 3 + [True] * 2] * 6
    assert stack.observations == (12, 30)


def test_two_passes_of_one_day_are_two_acquisitions() -> None:
    morning, evening = scene(4, 100), scene(4, 300, id="evening")
    shelf = Shelf(morning, replace(evening, time=evening.time + timedelta(hours=10)))
    assert len(one(shelf, replace(REQUEST, composite="none")).times) == 2
    assert (one(shelf, REQUEST).pixels == 200).all()


def test_filters_are_exact() -> None:
    far = shapely.box(0, 0, 1, 1)
    shelf = Shelf(
        scene(1, 1, time=JUNE[0]),
        scene(30, 9, time=JUNE[1], id="end"),
        scene(5, 9, footprint=far),
        scene(6, 9, cloud_cover=50.5),
        scene(7, 1, cloud_cover=50.0),
        scene(8, 1, cloud_cover=None),
    )
    stack = one(shelf, replace(REQUEST, cloudy_pct=50))
    assert [s["id"] for s in stack.scenes[0]] == ["day1", "day7", "day8"]


def test_orbit() -> None:
    shelf = Shelf(scene(1, 1, orbit="ascending"), scene(2, 9, orbit="descending"), scene(3, 9))
    assert (one(shelf, replace(REQUEST, orbit="ascending")).pixels == 1).all()
    with pytest.raises(NoImageryError, match=r"1 was left out by orbit='descending'"):
        select_scenes(Shelf(scene(1, orbit="ascending")), replace(REQUEST, orbit="descending"))


def test_modes_of_a_radar() -> None:
    wide, strip, silent = scene(1, 1, mode="IW"), scene(2, 5, mode="SM"), scene(3, 3)
    wanted = replace(REQUEST, mode="IW", other_modes=True)
    found = one(Shelf(wide, strip, silent), wanted)
    assert (found.pixels == 2).all() and [s["id"] for s in found.scenes[0]] == ["day1", "day3"] and found.notes == ()
    found = one(Shelf(strip), wanted)
    assert (found.pixels == 5).all() and "no sentinel-2-l2a scene of mode IW: those of mode SM" in found.notes[0]
    with pytest.raises(NoImageryError, match="1 was left out by mode, not being IW"):
        select_scenes(Shelf(strip), replace(wanted, other_modes=False))
    assert (one(Shelf(wide, strip, silent), REQUEST).pixels == 3).all()


def test_nothing_says_what_exists() -> None:
    shelf = Shelf(scene(10, cloud_cover=81.25), scene(70, cloud_cover=3), scene(90, cloud_cover=12))
    with pytest.raises(NoImageryError) as caught:
        select_scenes(shelf, replace(REQUEST, cloudy_pct=30))
    said = str(caught.value)
    for words in (
        "sentinel-2-l2a",
        "2023-06-01",
        "2023-07-01",
        "1 was left out",
        "cloudy_pct=30",
        "81.2 %",
        "2023-08-09",
    ):
        assert words in said
    assert said.index("2023-06-10") < said.index("2023-08-09") < said.index("2023-08-29")


def test_nothing_ever() -> None:
    with pytest.raises(NoImageryError, match="none at any other date"):
        select_scenes(Shelf(), REQUEST)


def test_nearest_date_years_away() -> None:
    with pytest.raises(NoImageryError, match="2023-06-01"):
        select_scenes(
            Shelf(scene(1)), replace(REQUEST, intervals=((JUNE[0].replace(year=2030), JUNE[1].replace(year=2030)),))
        )


def test_missing_bands() -> None:
    request = replace(REQUEST, bands=("B8", "B4"))
    stack = one(Shelf(scene(1, 70), scene(2, 90)), request)
    assert stack.missing_bands == ("B8",) and stack.valid.all()
    assert (stack.pixels[0, 0] == 0).all() and (stack.pixels[0, 1] == 80).all()
    with pytest.raises(ProviderError, match=r"B8.*B4, SCL"):
        select_scenes(Shelf(scene(1)), replace(REQUEST, bands=("B8",)))


def test_an_observation_is_all_bands() -> None:
    shelf = Shelf(scene(1, 70), scene(2, 90, bands={"B8": 500.0}))
    stack = one(shelf, replace(REQUEST, bands=("B4", "B8")))
    assert (stack.pixels[0, 0] == 90).all() and [s["id"] for s in stack.scenes[0]] == ["day2"]


def test_a_scene_without_the_mask_band_says_so() -> None:
    bare = replace(scene(1, 70), bands=frozenset({"B4"}))
    stack = one(Shelf(bare, scene(2, 90)), REQUEST)
    assert [s["masked"] for s in stack.scenes[0]] == [False, True]


def test_without_dates() -> None:
    stack = one(Shelf(scene(1, 70)), replace(REQUEST, intervals=()))
    assert np.isnat(stack.times).all() and stack.valid.all()


@pytest.mark.parametrize(("how", "power"), [("median", 0.02), ("mean", 0.04), ("mosaic", 0.01)])
def test_radar_is_composited_in_linear_power(how: str, power: float) -> None:
    pixels = np.full(BOX.shape, 0.09)
    pixels[0, 0] = -1
    pixels[1, 1] = NAN
    scenes = [
        Scene(f"s{i}", JUNE[0] + timedelta(days=i), frozenset({"VV"}), item={"VV": v})
        for i, v in enumerate((0.01, 0.02, pixels))
    ]
    request = replace(REQUEST, sensor="sentinel-1", bands=("VV",), mask=None, composite=how)
    stack = one(Shelf(*scenes), request)
    np.testing.assert_allclose(stack.pixels[0, 0, 3, 3], 10 * np.log10(power), rtol=1e-5)
    only = one(Shelf(scenes[2]), request)
    assert not only.valid[0, 0, 0] and not only.valid[0, 1, 1] and only.valid.sum() == 28


@pytest.mark.parametrize("how", ["median", "mean", "mosaic", "none"])
def test_strips_and_parts_give_the_same_bits(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    scenes = []
    for day in range(1, 12):
        pixels = random.uniform(1, 5000, BOX.shape)
        pixels[random.random(BOX.shape) < 0.2] = NAN
        scenes.append(scene(day, pixels, random.integers(3, 9, BOX.shape).astype(float)))
    request = replace(REQUEST, composite=how)
    whole = one(Shelf(*scenes), request)
    monkeypatch.setattr(composite, "_MEMORY", 1)  # a strip of one row
    again = one(Shelf(*scenes), request)
    np.testing.assert_array_equal(whole.pixels, again.pixels)
    assert whole.observations == again.observations and whole.scenes == again.scenes
    for row, col, height, width in ((0, 0, 1, 1), (2, 1, 3, 4), (5, 4, 1, 1)):
        part = GeoBox((height, width), Affine(10, 0, 500000 + 10 * col, 0, -10, 5100000 - 10 * row), BOX.crs)
        cut = one(Shelf(*scenes), request, part)
        np.testing.assert_array_equal(cut.pixels, whole.pixels[..., row : row + height, col : col + width])
        np.testing.assert_array_equal(cut.valid, whole.valid[..., row : row + height, col : col + width])


def test_parts_share_one_search() -> None:
    shelf = Shelf(scene(1))
    chosen = select_scenes(shelf, REQUEST)
    shelf.scenes = ()
    assert compose(shelf, REQUEST, chosen, BOX).valid.all()


def test_masks() -> None:
    classes = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, np.nan], np.float32)
    assert clear_scl(classes).tolist() == [False] * 4 + [True] * 4 + [False] * 6
    # USGS: 21824 clear land, 21952 clear water, 22280 cloud, 23888 shadow, 1 fill, 54596 cirrus
    bits = np.array([21824, 21952, 22280, 23888, 1, 54596, np.nan], np.float32)
    assert clear_qa_pixel(bits).tolist() == [True, True, False, False, False, False, False]


WINDOW = GeoBox((65, 64), Affine(120, 0, 542220, 0, -120, 5200020), "EPSG:32633")
AUGUST = ((datetime(2023, 8, 1, tzinfo=UTC), datetime(2023, 9, 1, tzinfo=UTC)),)
REAL = ImageRequest("sentinel-2-l2a", ("B2", "B3", "B4", "B8"), footprint_of(WINDOW), WINDOW, AUGUST, "median", "scl")


def test_figures_of_the_real_window(test_data: Path) -> None:
    """The figures of ../shared/data/README.md."""
    provider = open_local(test_data / "s2_stac_catalog" / "catalog.json")
    frames = one(provider, replace(REAL, composite="none"), WINDOW)
    assert [str(t)[:10] for t in frames.times] == [f"2023-08-{d}" for d in (10, 13, 15, 18, 20)]
    assert frames.valid.mean(axis=(1, 2)).round(3).tolist() == [0.259, 1, 1, 0.458, 0.99]
    assert frames.observations == (int(frames.valid.sum()), 5 * 65 * 64)
    assert int((frames.valid.sum(axis=0) == 4).sum()) == 1846
    raw = one(provider, replace(REAL, composite="none", mask=None), WINDOW)
    assert np.median(raw.pixels[0], axis=(1, 2)).tolist() == [1606.5, 1644.5, 1498, 4898]
    whole = one(provider, REAL, WINDOW)
    assert whole.valid.all()
    assert np.median(whole.pixels[0], axis=(1, 2)).tolist() == [311, 520, 286.25, 3504]
    assert len(whole.scenes[0]) == 5


class Far(Shelf):
    """A shelf behind a network: every read waits, and is written down."""

    waits = True

    def __init__(self, *scenes: Scene, delay: float = 0.002, broken: str | None = None) -> None:
        super().__init__(*scenes)
        self.delay, self.broken = delay, broken
        self.lock, self.reads, self.flying, self.most = threading.Lock(), list[str](), 0, 0

    def read(self, scene: Scene, bands: Sequence[str], geobox: GeoBox) -> np.ndarray:
        with self.lock:
            self.reads.append(scene.id)
            self.flying += 1
            self.most = max(self.most, self.flying)
        try:
            time.sleep(self.delay * (1 + len(self.reads) % 3))  # they end in another order than they began
            if scene.id == self.broken:
                raise ProviderError(f"{scene.id} is lost")
            return super().read(scene, bands, geobox)
        finally:
            with self.lock:
                self.flying -= 1


def random_scenes(count: int, seed: int = 1) -> list[Scene]:
    random = np.random.default_rng(seed)
    scenes = []
    for day in range(1, count + 1):
        pixels = random.uniform(1, 5000, BOX.shape)
        pixels[random.random(BOX.shape) < 0.2] = NAN
        classes = random.integers(3, 9, BOX.shape).astype(float)
        scenes.append(scene(day, pixels, classes, cloud_cover=float(random.integers(0, 90))))
    return scenes


TWO_MONTHS = replace(REQUEST, intervals=(JUNE, JULY))


@pytest.mark.parametrize("memory", [composite._MEMORY, 3 * 2 * 4 * 2 * 5, 1])
@pytest.mark.parametrize("disk", [composite._DISK, 1])
@pytest.mark.parametrize("how", ["median", "mean", "mosaic", "none"])
def test_reading_ahead_changes_no_bit(
    how: str, disk: int, memory: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In memory, in strips of three rows on disk, and of one: what is read one after the other."""
    request = replace(TWO_MONTHS, composite=how)
    scenes = random_scenes(50)
    near = one(Shelf(*scenes), request)
    monkeypatch.setenv("RS_EMBED_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(composite, "_MEMORY", memory)
    monkeypatch.setattr(composite, "_DISK", disk)
    far = Far(*scenes)
    found = one(far, request)
    np.testing.assert_array_equal(found.pixels, near.pixels)
    np.testing.assert_array_equal(found.valid, near.valid)
    assert found.scenes == near.scenes and found.observations == near.observations
    assert far.most > 1 or how == "mosaic"
    assert not list(tmp_path.iterdir()), "what waited on disk is gone"


def test_sixteen_threads_of_composites_end(tmp_path: Path) -> None:
    """As the engine's loaders: none waits for a thread that waits for it."""
    far = Far(*random_scenes(30), delay=0.001)
    expected = one(Shelf(*far.scenes), REQUEST)
    with ThreadPoolExecutor(16) as pool:
        for found in pool.map(lambda _: one(far, REQUEST), range(48), timeout=60):
            np.testing.assert_array_equal(found.pixels, expected.pixels)
    assert far.most <= PASSES.count


def test_a_scene_that_is_lost_ends_the_composite_at_once() -> None:
    far = Far(*random_scenes(30), *(scene(day, time=JULY[0], id=f"july{day}") for day in range(40)), delay=0.05)
    far.broken = "day20"
    with pytest.raises(ProviderError, match="day20 is lost"):
        one(far, TWO_MONTHS)
    assert "july5" not in far.reads and len(far.reads) <= 2 * PASSES.count + 20


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RS_EMBED_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(composite, "_MEMORY", 1)
    with pytest.raises(ProviderError, match=r"cannot be kept on disk.*RS_EMBED_CACHE_DIR"):
        one(Far(*random_scenes(9)), REQUEST)


def test_a_mosaic_begins_with_the_least_cloudy_and_ends_when_it_is_full() -> None:
    half = np.full(BOX.shape, 50.0)
    half[:, :2] = NAN
    far = Far(
        scene(1, 10, cloud_cover=60),
        scene(2, 20, cloud_cover=None),
        scene(3, half, cloud_cover=1),
        scene(4, 40, cloud_cover=20),
        scene(5, 55, 9, cloud_cover=5),
    )
    stack = one(far, replace(REQUEST, composite="mosaic"))
    assert far.reads == ["day3", "day5", "day4"]
    assert stack.pixels[0, 0].tolist() == [[40.0] * 2 + [50.0] * 3] * 6
    assert [s["id"] for s in stack.scenes[0]] == ["day3", "day4"]
    # each pixel is observed until it is filled: 18, then 12 in cloud, then 12
    assert stack.observations == (30, 42)


def test_a_mosaic_of_radar_goes_by_time() -> None:
    scenes = [Scene(f"s{i}", JUNE[0] + timedelta(days=i), frozenset({"VV"}), item={"VV": 0.1}) for i in (3, 1, 2)]
    far = Far(*scenes)
    one(far, replace(REQUEST, sensor="sentinel-1", bands=("VV",), mask=None, composite="mosaic"))
    assert far.reads == ["s1"]


@pytest.mark.parametrize("how", ["median", "mean"])
def test_many_passes_are_cut_to_the_clearest_and_it_is_said(how: str) -> None:
    shelf = Shelf(*(scene(day, day, cloud_cover=(7.0 * day) % 30) for day in range(1, 31)))
    shelf.most_passes = 4
    stack = one(shelf, replace(REQUEST, composite=how))
    assert [s["id"] for s in stack.scenes[0]] == ["day9", "day13", "day26", "day30"]  # 3, 1, 2 and 0 % cloud
    assert stack.notes == (f"{how} of the 4 clearest of 30 passes from 2023-06-01 to 2023-06-30",)
    assert stack.observations == (4 * 30, 4 * 30)
    shelf.most_passes = None
    assert one(shelf, replace(REQUEST, composite=how)).notes == ()
    shelf.most_passes = 30
    assert one(shelf, replace(REQUEST, composite=how)).notes == ()


def test_many_passes_of_unknown_clouds_are_thinned_evenly() -> None:
    shelf = Shelf(*(scene(day, day) for day in range(1, 30)))
    shelf.most_passes = 3
    stack = one(shelf, REQUEST)
    assert [s["id"] for s in stack.scenes[0]] == ["day1", "day15", "day29"]
    assert stack.notes == ("median of 3 passes evenly spread over the 29 from 2023-06-01 to 2023-06-29",)
    assert len(one(shelf, replace(REQUEST, composite="none")).times) == 29, "acquisitions are no composite"


def test_a_scene_of_unknown_orbit_belongs_to_the_pass_around_it() -> None:
    told, untold = scene(4, 100, orbit="descending"), scene(4, 300, id="untold")
    assert len(one(Shelf(told, untold), replace(REQUEST, composite="none")).times) == 1
    other = scene(4, 300, id="other", orbit="ascending")
    assert len(one(Shelf(told, other), replace(REQUEST, composite="none")).times) == 2
