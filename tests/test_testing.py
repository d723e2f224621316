"""The contracts that plug-ins run: good ones pass, and every check finds a fault that was planted for it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes import FakeProvider, PatchMeans, fake_model
from odc.geo.geobox import GeoBox

from rs_embed import ModelError, NoImageryError, PointBuffer, ProviderError, SpecError, TemporalSpec, list_models
from rs_embed.core.encoding import Batch, Features
from rs_embed.core.imagery import ImageRequest, ImageStack
from rs_embed.core.model_spec import ModelSpec, Option, Window
from rs_embed.core.registry import get_spec
from rs_embed.core.sensors import SENSORS
from rs_embed.providers.synthetic import SyntheticProvider
from rs_embed.testing import ContractError, Report, check_model, check_provider
from rs_embed.testing.models import MODEL_CHECKS
from rs_embed.testing.providers import PROVIDER_CHECKS

QUICK, LARGEST = 5_000_000, 100_000_000
"""Weights of nets that are tried here every time, and in the full tests; the catalogue's own contract has them all."""
PIXEL_BY_PIXEL = ("presto",)
"""Small nets that run on every pixel, which takes as long as a large one."""
PLACE, JUNE = PointBuffer(11.5, 48.1, 65), TemporalSpec.range("2022-06-01", "2022-06-20")


def smallest(spec: ModelSpec) -> str:
    return min(spec.variants, key=lambda name: spec.variants[name].parameters or 0)


def weights(name: str) -> int:
    spec = get_spec(name)
    return spec.variants[smallest(spec)].parameters or 0


def ours() -> list[Any]:
    computed = [name for name in list_models() if get_spec(name).product is None]
    small = [name for name in computed if weights(name) <= LARGEST]
    slow = {name for name in small if weights(name) > QUICK or name in PIXEL_BY_PIXEL}
    return [pytest.param(n, marks=[pytest.mark.full] if n in slow else []) for n in small]


@pytest.mark.parametrize("name", ours())
def test_our_own_models_pass(name: str) -> None:
    spec = get_spec(name)
    if any(variant.checkpoint for variant in spec.variants.values()):
        pytest.importorskip("torch", reason="the extra torch is not installed")
    options = {"variant": smallest(spec)} if len(spec.variants) > 1 else {}
    report = check_model(name, options=options)
    assert report.ok and [check.name for check in report.checks] == list(MODEL_CHECKS)
    skipped = {check.name for check in report.checks if check.status == "skipped"}
    assert skipped == (set() if spec.locality == "pixel" else {"seams"})


WINDOWS = fake_model(Window(size=None, patch=4, multiple=4))
PIXELS = fake_model(Window(size=None), locality="pixel")


def checked(spec: ModelSpec, **more: Any) -> Report:
    return check_model(spec, backend=FakeProvider(), raises=False, **more)


@pytest.mark.parametrize("spec", [WINDOWS, PIXELS], ids=["window", "pixel"])
def test_a_sound_model_passes(spec: ModelSpec) -> None:
    assert checked(spec).ok, str(checked(spec))


class Faulty(PatchMeans):
    """Patch means that something is done to."""

    def __init__(self, patch: int, fault: Callable[[Batch, Features], Any]) -> None:
        super().__init__(patch)
        self.fault = fault

    def __call__(self, batch: Batch) -> Any:
        return self.fault(batch, super().__call__(batch))


def spoil(fault: Callable[[Batch, Any], Any], of: ModelSpec = WINDOWS) -> ModelSpec:
    """The model whose grid is what the fault makes of batch and grid."""

    def changed(batch: Batch, good: Features) -> Features:
        return replace(good, grid=fault(batch, good.grid))

    return replace(of, encoder=lambda build: Faulty(build.variant.window.patch, changed))


def seen(batch: Batch) -> Any:
    return batch.inputs["s2"].valid


def blurred(batch: Batch, grid: Any) -> Any:
    padded = np.pad(grid, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    return (padded[:, :, :-2, 1:-1] + padded[:, :, 2:, 1:-1] + grid) / 3


def spreading(batch: Batch, grid: Any) -> Any:
    return grid + np.where(seen(batch).all(), 0, np.nan).astype(np.float32)


def zeroed(batch: Batch, good: Features) -> Features:
    assert good.grid is not None and good.weight is not None
    return Features(grid=np.where(good.weight[:, None] > 0, good.grid, np.float32(0)))


def all_or_nothing(batch: Batch, grid: Any) -> Any:
    return grid if seen(batch).all() else np.zeros_like(grid)


def picky(batch: Batch, grid: Any) -> Any:
    if not seen(batch).any():
        raise ValueError("mean of nothing")
    return grid


def weighing(batch: Batch, good: Features) -> Features:
    assert good.grid is not None
    return replace(
        good, weight=np.linspace(1, 2, good.grid[:, 0].size, dtype=np.float32).reshape(good.grid[:, 0].shape)
    )


def shuffled(batch: Batch, grid: Any) -> Any:
    order = np.random.default_rng(0).permutation(grid[0, 0].size)
    return grid.reshape(*grid.shape[:2], -1)[:, :, order].reshape(grid.shape)


def blind(batch: Batch, grid: Any) -> Any:
    return np.ones_like(grid) * np.arange(3, dtype=np.float32)[:, None, None]


def partly_nan(batch: Batch, grid: Any) -> Any:
    return np.where(np.arange(3)[:, None, None] < 1, np.float32(np.nan), grid)


def without_corner(batch: Batch, grid: Any) -> Any:
    return np.where(np.indices(grid.shape[2:]).any(0), grid, np.float32(np.nan))


def with_columns(batch: Batch, grid: Any) -> Any:
    return grid + 9 * np.arange(grid.shape[3], dtype=np.float32)


def with_rows(batch: Batch, grid: Any) -> Any:
    return grid + 9 * np.arange(grid.shape[2], dtype=np.float32)[:, None]


def drawing(batch: Batch, grid: Any) -> Any:
    return grid + np.float32(0 * np.random.random())  # the fault


def numbered(batch: Batch, grid: Any) -> Any:
    return grid * (1 + np.arange(len(grid), dtype=np.float32))[:, None, None, None]


def standardised(batch: Batch, grid: Any) -> Any:
    return (grid - grid.mean((0, 2, 3), keepdims=True)) / grid.std()


def seeding(build: Any) -> PatchMeans:
    np.random.seed(0)  # the fault
    return PatchMeans(1)


def unseeded(build: Any) -> Faulty:
    factor = np.float32(np.random.default_rng().uniform(1, 2))
    return Faulty(4, lambda batch, good: replace(good, grid=good.grid * factor))


def misdescribed(spec: ModelSpec, **dims: int) -> ModelSpec:
    variant = spec.variants["default"]
    return replace(spec, variants={"default": replace(variant, dims={**variant.dims, **dims})})


MODEL_FAULTS: dict[str, tuple[str, ModelSpec]] = {
    "no BibTeX": ("description", replace(WINDOWS, citation="Somebody (2020)")),
    "an option without a word": ("options", replace(WINDOWS, options={"mode": Option("a", "", choices=("a", "b"))})),
    "wrong pooled dims": ("vector", misdescribed(WINDOWS, pooled=4)),
    "wrong grid dims": ("grid", misdescribed(WINDOWS, grid=4)),
    "zeros": ("vector", spoil(lambda batch, grid: np.zeros_like(grid))),
    "half a vector of NaN": ("vector", spoil(partly_nan)),
    "a NaN cell": ("grid", spoil(without_corner)),
    "rows from below": ("order of cells", spoil(lambda batch, grid: grid[:, :, ::-1])),
    "transposed tokens": ("order of cells", spoil(lambda batch, grid: grid.swapaxes(2, 3))),
    "columns from the right": ("order of cells", spoil(lambda batch, grid: grid[..., ::-1])),
    "shuffled tokens": ("order of cells", spoil(shuffled)),
    "blind": ("order of cells", spoil(blind)),
    "no halo": ("order of cells", spoil(blurred, PIXELS)),
    "weights of its own": ("mean of cells", replace(WINDOWS, encoder=lambda build: Faulty(4, weighing))),
    "statistics of a batch": ("alone and in a batch", spoil(standardised)),
    "a factor by the place in a batch": ("order of a batch", spoil(numbered)),
    "columns of the block": ("seams", spoil(with_columns, PIXELS)),
    "rows of the block": ("seams", spoil(with_rows, PIXELS)),
    "NaN that spreads": ("missing pixels", spoil(spreading)),
    "zeros in place of missing cells": ("missing pixels", replace(WINDOWS, encoder=lambda build: Faulty(4, zeroed))),
    "all or nothing": ("missing pixels", spoil(all_or_nothing)),
    "a crash without a pixel": ("no imagery", spoil(picky, PIXELS)),
    "a tuple in the licence": ("metadata", replace(WINDOWS, licence={**WINDOWS.licence, "terms": ("a", "b")})),  # type: ignore[dict-item]
    "an unseeded builder": ("repeats", replace(WINDOWS, encoder=unseeded)),
    "an unseeded encoder": (
        "repeats",
        spoil(lambda batch, grid: grid * np.float32(np.random.default_rng().uniform(1, 2))),
    ),
    "global random numbers drawn": ("random numbers", spoil(drawing)),
    "global random numbers seeded": ("random numbers", replace(PIXELS, encoder=seeding)),
}


@pytest.mark.parametrize("fault", MODEL_FAULTS)
def test_a_fault_of_a_model_is_found(fault: str) -> None:
    check, spec = MODEL_FAULTS[fault]
    report = checked(spec)
    assert check in {failed.name for failed in report.failures}, str(report)


def test_every_check_of_models_has_its_fault() -> None:
    assert {check for check, _ in MODEL_FAULTS.values()} == set(MODEL_CHECKS)


def test_the_error_lists_what_failed_and_the_report_what_did_not() -> None:
    with pytest.raises(ContractError, match=r"model fake fails 1 of 14 checks") as caught:
        check_model(MODEL_FAULTS["rows from below"][1], backend=FakeProvider())
    assert isinstance(caught.value, AssertionError)
    assert "order of cells: a change of the ground in row" in str(caught.value)
    report = caught.value.report
    assert "passed  vector" in str(report) and "skipped seams: " in str(report) and not report.ok


def test_a_wrong_call_is_no_failed_check() -> None:
    with pytest.raises(ModelError, match="Unknown model 'nonsense'"):
        check_model("nonsense")
    with pytest.raises(ModelError, match="does not accept the option 'size'"):
        check_model("rcf", options={"size": 3})
    with pytest.raises(ProviderError, match="neither a known name"):
        check_model("rcf", backend="nowhere")
    with pytest.raises(SpecError, match="collection 'nonsense' is not known"):
        check_provider("synthetic", spatial=PLACE, temporal=JUNE, sensor="nonsense")
    with pytest.raises(SpecError, match="must be a TemporalSpec"):
        check_provider("synthetic", spatial=PLACE, temporal="2022")  # type: ignore[arg-type]


def test_wrong_weights_are_an_error_of_the_call(tmp_path: Any) -> None:
    with pytest.raises(ModelError, match="is not a file"):
        check_model("remoteclip", checkpoint=tmp_path / "absent.pt")


# -- errors of encoders and builders ---------------------------------------------------------------------------------

BROKEN_ENCODERS: dict[str, tuple[Any, str]] = {
    "builder raises": (lambda build: 1 / 0, "the builder of fake failed: ZeroDivisionError"),
    "builder returns no encoder": (
        lambda build: 3,
        "an object of type int, no Encoder: it has no net, __call__, head",
    ),
    "no Features": (lambda build: Faulty(4, lambda batch, good: good.grid), "returned a ndarray, not Features"),
    "no grid": (lambda build: Faulty(4, lambda batch, good: Features(pooled=good.pooled)), "returned no grid"),
    "half a grid": (
        lambda build: Faulty(4, lambda batch, good: replace(good, grid=good.grid[:, :, :1])),
        r"grid of shape \(1, 3, 1, \d+\); its spec makes it \(1, D, \d+, \d+\)",
    ),
    "another batch": (
        lambda build: Faulty(4, lambda batch, good: replace(good, grid=good.grid.repeat(2, 0))),
        r"grid of shape \(2, 3",
    ),
    "fewer dimensions": (
        lambda build: Faulty(4, lambda batch, good: replace(good, grid=good.grid[:, :2])),
        "a grid of 2 dimensions; its spec says 3",
    ),
    "weight of another shape": (
        lambda build: Faulty(4, lambda batch, good: replace(good, weight=good.weight[:, 1:])),
        "returned weight of shape",
    ),
}


@pytest.mark.parametrize("case", BROKEN_ENCODERS)
def test_a_broken_encoder_is_told_apart_from_a_bug_of_ours(case: str) -> None:
    encoder, said = BROKEN_ENCODERS[case]
    report = checked(replace(WINDOWS, encoder=encoder))
    wrong = {failed.name: failed.message for failed in report.failures}
    assert wrong["grid"].startswith("ModelError: ")
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(wrong["grid"])


# -- providers -------------------------------------------------------------------------------------------------------


class Wrong(SyntheticProvider):
    """The painted landscape with a fault in its answers."""

    def __init__(self, fault: Callable[[ImageRequest, ImageStack], ImageStack] | None = None) -> None:
        self.fault = fault or (lambda request, stack: stack)

    def load(self, request: ImageRequest, parts: Sequence[GeoBox]) -> Iterator[ImageStack]:
        return (self.fault(request, stack) for stack in super().load(request, parts))


class Path(Wrong):
    source = "/data/scenes"


class Boundless(Wrong):
    """Answers for every sensor that it does not offer."""

    def load(self, request: ImageRequest, parts: Sequence[GeoBox]) -> Iterator[ImageStack]:
        if request.sensor != "sentinel-2-l2a":
            request = replace(request, sensor="sentinel-2-l2a", bands=("B4",))
        return super().load(request, parts)


class Blank(Wrong):
    """Gives frames without a pixel where there is no scene."""

    def load(self, request: ImageRequest, parts: Sequence[GeoBox]) -> Iterator[ImageStack]:
        try:
            yield from super().load(request, parts)
        except NoImageryError:
            for part in parts:
                frames, times = len(request.intervals), np.full(len(request.intervals), "NaT", "datetime64[s]")
                pixels = np.zeros((frames, len(request.bands), *part.shape), np.float32)
                yield ImageStack(pixels, np.zeros((frames, *part.shape), bool), times, part, (), ((),) * frames)


class Strict(Wrong):
    """Refuses a request as soon as one interval, or one band, has nothing."""

    def load(self, request: ImageRequest, parts: Sequence[GeoBox]) -> Iterator[ImageStack]:
        for stack in super().load(request, parts):
            if stack.missing_bands or not all(stack.scenes):
                raise ProviderError(f"incomplete: {stack.missing_bands}")
            yield stack


class Shared(Wrong):
    """Keeps the part that it reads where every thread finds it."""

    def load(self, request: ImageRequest, parts: Sequence[GeoBox]) -> Iterator[ImageStack]:
        for part in parts:
            self.part = part
            time.sleep(0.02)
            (stack,) = super().load(request, [self.part])
            yield replace(stack, valid=stack.valid & (self.part is part))


class Moody(Wrong):
    """Adds a little to whatever it loaded before."""

    def __init__(self) -> None:
        super().__init__()
        self.loads, self.lock = 0, threading.Lock()

    def load(self, request: ImageRequest, parts: Sequence[GeoBox]) -> Iterator[ImageStack]:
        for stack in super().load(request, parts):
            with self.lock:
                self.loads += 1
                yield replace(stack, pixels=stack.pixels + np.float32(self.loads))


def without(request: ImageRequest, stack: ImageStack) -> ImageStack:
    return replace(stack, missing_bands=())


def sorted_bands(request: ImageRequest, stack: ImageStack) -> ImageStack:
    return replace(stack, pixels=stack.pixels[:, np.argsort(request.bands)])


def another_lattice(request: ImageRequest, stack: ImageStack) -> ImageStack:
    return replace(stack, geobox=GeoBox(stack.geobox.shape, stack.geobox.affine, "EPSG:32633"))


def holes(request: ImageRequest, stack: ImageStack) -> ImageStack:
    return replace(stack, pixels=stack.pixels * (stack.pixels[:, :1] > np.median(stack.pixels[:, :1])))


def as_power(request: ImageRequest, stack: ImageStack) -> ImageStack:
    return replace(stack, pixels=10 ** (stack.pixels / 10))


PROVIDER_FAULTS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "a path as source": ("offers", Path(), {}),
    "another lattice": ("stack", Wrong(another_lattice), {}),
    "a lone frame": ("stack", Wrong(lambda r, s: replace(s, times=s.times + np.timedelta64(9000, "D"))), {}),
    "NaN that is valid": ("stack", Wrong(lambda r, s: replace(s, pixels=s.pixels * np.float32(np.nan))), {}),
    "reflectance from 0 to 1": ("units", Wrong(lambda r, s: replace(s, pixels=s.pixels / np.float32(1e4))), {}),
    "zeros for what is missing": ("units", Wrong(holes), {}),
    "linear power": ("units", Wrong(as_power), {"sensor": "sentinel-1"}),
    "statistics of a part": ("parts", Wrong(lambda r, s: replace(s, pixels=s.pixels - s.pixels.mean())), {}),
    "other pixels each time": ("again", Moody(), {}),
    "state that threads share": ("threads", Shared(), {}),
    "bands in the order of their names": ("order of bands", Wrong(sorted_bands), {"bands": ("B4", "B8", "B2")}),
    "a missing band that is not told": ("missing band", Wrong(without), {"sensor": "sentinel-1"}),
    "no frame without all its bands": ("missing band", Strict(), {"sensor": "sentinel-1"}),
    "a blank instead of an error": ("no scene", Blank(), {}),
    "no frame without imagery": ("empty frame", Strict(), {}),
    "imagery everywhere": ("elsewhere", Wrong(), {"elsewhere": PointBuffer(-60, -20, 100)}),
    "any sensor": ("other sensor", Boundless(), {}),
}


@pytest.mark.parametrize("fault", PROVIDER_FAULTS)
def test_a_fault_of_a_provider_is_found(fault: str) -> None:
    check, provider, more = PROVIDER_FAULTS[fault]
    report = check_provider(provider, **({"spatial": PLACE, "temporal": JUNE} | more), raises=False)
    assert check in {failed.name for failed in report.failures}, str(report)


def test_every_check_of_providers_has_its_fault() -> None:
    assert {check for check, _, _ in PROVIDER_FAULTS.values()} == set(PROVIDER_CHECKS)


def test_our_own_provider_passes() -> None:
    passed = set()
    for sensor in ("sentinel-2-l2a", "sentinel-1"):
        report = check_provider("synthetic", spatial=PLACE, temporal=JUNE, sensor=sensor)
        passed |= {check.name for check in report.checks if check.status == "passed"}
        assert SENSORS[sensor].id == sensor and report.ok
    assert passed == set(PROVIDER_CHECKS) - {"elsewhere"}  # it has imagery everywhere; a folder's test has that one


def test_the_contracts_load_no_torch() -> None:
    code = "import sys, rs_embed.testing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
