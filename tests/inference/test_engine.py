"""The stream: concurrent loading, shared forward passes, bounded memory, and errors that end their own region only."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from affine import Affine
from fakes import FakeProvider, PatchMeans, fake_model, painted
from odc.geo.geobox import GeoBox

from rs_embed import (
    BBox,
    Embedding,
    InputPrepSpec,
    ModelError,
    NoImageryError,
    OutputSpec,
    PointBuffer,
    ProviderError,
    TemporalSpec,
)
from rs_embed.core.errors import RSEmbedError
from rs_embed.core.imagery import ImageRequest
from rs_embed.core.model_spec import Build, ModelSpec, Window
from rs_embed.core.specs import SpatialSpec
from rs_embed.inference import engine, runtime
from rs_embed.inference.session import Session, open_session

SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")
FIXED = Window(size=32, patch=8, min=32, max=32, multiple=8, square=True)
ANY = Window(size=None, patch=8, min=8, max=256, multiple=8)
Result = tuple[int, Embedding | RSEmbedError]


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """No test meets the encoder of another: they share a name."""
    runtime.reset()
    yield
    runtime.reset()


def places(count: int, buffer: float = 160) -> list[PointBuffer]:
    return [PointBuffer(11.0 + 0.05 * i, 48.0, buffer) for i in range(count)]


def opened(model: ModelSpec | Window, provider: FakeProvider, **more: Any) -> Session:
    spec = model if isinstance(model, ModelSpec) else fake_model(model)
    return open_session(spec, provider, **more)


def run(session: Session, provider: FakeProvider, spatials: list[SpatialSpec]) -> list[Result]:
    return list(session.stream(iter(list(session.jobs(spatials, [SUMMER] * len(spatials), provider)))))


def encoder_of(session: Session) -> PatchMeans:
    found = session.runtime().encoder
    assert isinstance(found, PatchMeans)
    return found


def place_of(request: ImageRequest) -> int:
    """Which of `places` a request is of."""
    return round((request.footprint.centroid.x - 11.0) / 0.05)


def test_loads_run_at_the_same_time() -> None:
    barrier = threading.Barrier(8)  # passes only if eight loads wait in it together
    provider = FakeProvider(lambda request, part: barrier.wait(timeout=20) and None)
    found = run(opened(FIXED, provider), provider, places(16))
    assert sorted(i for i, _ in found) == list(range(16))
    assert all(isinstance(r, Embedding) for _, r in found)


def test_loading_goes_on_while_a_batch_is_encoded() -> None:
    encoding, later = threading.Event(), threading.Event()

    class Waiting(PatchMeans):
        def __call__(self, batch: Any) -> Any:
            encoding.set()
            assert later.wait(20), "no load came while the encoder ran"
            return super().__call__(batch)

    def loading(request: ImageRequest, part: Any) -> None:
        if place_of(request) >= 4:
            assert encoding.wait(20)
            later.set()

    provider = FakeProvider(loading)
    spec = fake_model(FIXED, encoder=lambda build: Waiting(8))
    assert len(run(opened(spec, provider, batch_size=2), provider, places(8))) == 8


def test_windows_of_many_regions_share_forward_passes() -> None:
    provider = FakeProvider()
    session = opened(FIXED, provider, batch_size=8)
    run(session, provider, places(20))
    assert encoder_of(session).batches == [8, 8, 4]


def test_windows_of_one_region_share_forward_passes_too() -> None:
    provider = FakeProvider()
    session = opened(FIXED, provider, batch_size=8, input_prep="tile")
    run(session, provider, places(3, buffer=480))  # 97 or 96 pixels: 9 or 16 tiles each
    sizes = encoder_of(session).batches
    assert sum(sizes) >= 27 and set(sizes[:-1]) == {8}


def test_a_batch_holds_one_shape() -> None:
    provider = FakeProvider()
    session = opened(ANY, provider, batch_size=4)
    mixed = [PointBuffer(11.0 + 0.05 * i, 48.0, 50 + 100 * (i % 3)) for i in range(12)]
    found = run(session, provider, mixed)
    assert sorted(encoder_of(session).batches) == [4, 4, 4]
    assert len(found) == 12


def test_results_come_once_and_do_not_depend_on_the_batch() -> None:
    provider = FakeProvider()
    mixed = [PointBuffer(11.0 + 0.05 * i, 48.0 + i, 40 + 70 * (i % 4)) for i in range(9)]
    alone = [run(opened(ANY, provider), provider, [place])[0][1] for place in mixed]
    for order in (range(9), reversed(range(9)), [3, 0, 8, 1, 7, 2, 6, 4, 5]):
        numbers = list(order)
        for batch_size in (1, 4, None):
            found = run(opened(ANY, provider, batch_size=batch_size), provider, [mixed[i] for i in numbers])
            assert sorted(i for i, _ in found) == list(range(9))
            for index, result in found:
                assert isinstance(result, Embedding)
                assert np.allclose(result.data, alone[numbers[index]].data, rtol=1e-6)  # type: ignore[union-attr]


def test_a_slow_region_does_not_hold_memory_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    # The bound is 512 MB: filling it would make the test slow, and it is no option of any caller.
    limit = 12 * 64 * 64 * 3 * 4
    monkeypatch.setattr(engine, "LOAD_BYTES", limit)
    held, most, lock = [0], [0], threading.Lock()

    class Releasing(PatchMeans):
        def __call__(self, batch: Any) -> Any:
            (images,) = batch.inputs.values()
            time.sleep(0.002)
            with lock:
                held[0] -= images.pixels.nbytes
            return super().__call__(batch)

    def loading(request: ImageRequest, part: Any) -> None:
        with lock:
            held[0] += part.shape[0] * part.shape[1] * 3 * 4
            most[0] = max(most[0], held[0])

    provider = FakeProvider(loading)
    window = Window(size=64, patch=8, min=64, max=64, multiple=8, square=True)
    spec = fake_model(window, encoder=lambda build: Releasing(8))
    exact = [PointBuffer(11.0 + 0.05 * i, 48.0, 316) for i in range(60)]
    found = run(opened(spec, provider, batch_size=4, input_prep="tile"), provider, exact)
    assert len(found) == 60 and held[0] == 0
    assert most[0] <= limit


def test_a_block_above_the_limit_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LOAD_BYTES", 1)  # as above: the real one would need blocks of 512 MB
    together, lock, most = [0], threading.Lock(), [0]

    def loading(request: ImageRequest, part: Any) -> None:
        with lock:
            together[0] += 1
            most[0] = max(most[0], together[0])
        time.sleep(0.005)
        with lock:
            together[0] -= 1

    provider = FakeProvider(loading)
    assert len(run(opened(FIXED, provider), provider, places(6))) == 6
    assert most[0] == 1


def failing(at: int, error: Exception) -> FakeProvider:
    def loading(request: ImageRequest, part: Any) -> None:
        if place_of(request) == at:
            raise error

    return FakeProvider(loading)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.parametrize("prep", ["resize", "tile"])
def test_one_regions_error_is_its_own(batch_size: int, prep: str) -> None:
    provider = failing(2, ProviderError("the disk is gone"))
    session = opened(FIXED, provider, batch_size=batch_size, input_prep=prep)
    found = dict(run(session, provider, places(6, buffer=300)))
    assert sorted(found) == list(range(6))
    assert isinstance(found[2], ProviderError)
    assert all(isinstance(found[i], Embedding) for i in (0, 1, 3, 4, 5))


def test_a_region_without_a_valid_pixel_is_an_error_of_its_own() -> None:
    provider = FakeProvider(valid=lambda request, stack: place_of(request) != 3)
    for output in (OutputSpec.pooled(), OutputSpec.grid()):
        found = dict(run(opened(FIXED, provider, output=output), provider, places(5)))
        assert isinstance(found[3], NoImageryError)
        assert "clear fraction" in str(found[3]) and "2022-06-01/2022-09-01" in str(found[3])
        assert sum(isinstance(r, Embedding) for r in found.values()) == 4


def test_a_plan_that_fails_is_an_error_of_its_own() -> None:
    provider = FakeProvider()
    session = opened(FIXED, provider, input_prep=InputPrepSpec.tile(max_tiles_hard=4))
    mixed = places(4)
    mixed[1] = replace(mixed[1], buffer_m=5000)
    found = dict(run(session, provider, mixed))
    assert isinstance(found[1], ModelError) and "max_tiles_hard=4" in str(found[1])
    assert sum(isinstance(r, Embedding) for r in found.values()) == 3
    assert not [request for request, _ in provider.loaded if place_of(request) == 1]


def test_an_error_of_the_encoder_on_purpose_ends_the_regions_of_its_batch_only() -> None:
    class Picky(PatchMeans):
        def __call__(self, batch: Any) -> Any:
            if next(iter(batch.inputs.values())).pixels.shape[-1] > 16:
                raise ModelError("too wide for this net")
            return super().__call__(batch)

    provider = FakeProvider()
    spec = fake_model(ANY, encoder=lambda build: Picky(8))
    found = dict(run(opened(spec, provider), provider, [*places(2, 50), *places(1, 300), *places(2, 50)]))
    assert isinstance(found[2], ModelError)
    assert sum(isinstance(r, Embedding) for r in found.values()) == 4


def test_any_other_exception_is_a_bug_and_stops_everything() -> None:
    provider = failing(3, ZeroDivisionError("a bug"))
    session = opened(FIXED, provider, batch_size=1)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run(session, provider, places(200))
    assert len(provider.loaded) < 150  # what was queued is cancelled
    assert not [t for t in threading.enumerate() if t.name.startswith("rs-embed-load")]


def test_a_bug_of_the_encoder_propagates() -> None:
    class Broken(PatchMeans):
        def __call__(self, batch: Any) -> Any:
            raise ZeroDivisionError("a bug")

    provider = FakeProvider()
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run(opened(fake_model(FIXED, encoder=lambda build: Broken(8)), provider), provider, places(5))
    assert not [t for t in threading.enumerate() if t.name.startswith("rs-embed-load")]


def test_closing_the_stream_cancels_what_is_queued() -> None:
    provider = FakeProvider(lambda request, part: time.sleep(0.005))
    session = opened(FIXED, provider, batch_size=1)
    spatials = places(400)
    stream = session.stream(session.jobs(spatials, [SUMMER] * 400, provider))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    count = len(provider.loaded)
    assert count < 200
    time.sleep(0.05)
    assert len(provider.loaded) == count
    assert not [t for t in threading.enumerate() if t.name.startswith("rs-embed-load")]


def test_regions_are_planned_as_they_are_wanted() -> None:
    provider = FakeProvider()
    session = opened(FIXED, provider, batch_size=1)
    drawn = []

    def jobs() -> Iterator[Any]:
        for job in session.jobs(places(1000), [SUMMER] * 1000, provider):
            drawn.append(job.index)
            yield job

    stream = session.stream(jobs())
    for _ in range(3):
        next(stream)
    assert len(drawn) < 200
    stream.close()  # type: ignore[attr-defined]


def test_nothing_comes_of_nothing() -> None:
    provider = FakeProvider()
    assert run(opened(FIXED, provider), provider, []) == []


@pytest.mark.parametrize("mode", ["resize", "tile"])
@pytest.mark.parametrize("output", [OutputSpec.pooled(), OutputSpec.pooled("stats"), OutputSpec.grid()], ids=repr)
def test_the_numbers_are_those_of_the_pixels(mode: str, output: OutputSpec) -> None:
    """Patch means of painted pixels, computed here without engine, plan or accumulator."""
    provider = FakeProvider()
    session = opened(
        Window(size=64, patch=8, min=64, max=64, multiple=8, square=True), provider, output=output, input_prep=mode
    )
    region = BBox(500_000, 5_000_000 - 640, 500_640, 5_000_000, crs="EPSG:32632")
    ((_, found),) = run(session, provider, [region])
    assert isinstance(found, Embedding)
    pixels = painted(GeoBox((64, 64), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32632"), 3)
    cells = pixels.astype(np.float64).reshape(3, 8, 8, 8, 8).mean((2, 4))
    if output.mode == "grid":
        assert np.allclose(found.values(), cells, rtol=1e-6)
    elif output.pooling == "mean":
        assert np.allclose(found.data, cells.mean((1, 2)), rtol=1e-6)
    else:
        flat = cells.reshape(3, -1)
        wanted = np.concatenate([flat.mean(1), flat.std(1), flat.min(1), flat.max(1)])
        assert np.allclose(found.data, wanted, rtol=1e-5)


def test_a_build_knows_bands_and_sensor() -> None:
    seen: list[Build] = []

    def build(given: Build) -> PatchMeans:
        seen.append(given)
        return PatchMeans(8)

    provider = FakeProvider()
    opened(fake_model(FIXED, encoder=build), provider).runtime()
    assert seen[0].bands == {"s2": ("B4", "B3", "B2")} and seen[0].sensors == {"s2": "sentinel-2-l2a"}
