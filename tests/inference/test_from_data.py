"""Arrays in memory through a model: one or several of one place, in order, and what cannot be taken together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fakes import PatchMeans
from numpy.typing import NDArray

from rs_embed import (
    BatchError,
    ModelError,
    OutputSpec,
    PointBuffer,
    SpecError,
    TemporalSpec,
    UserData,
    get_embedding_from_data,
    get_embeddings_batch_from_data,
    list_models_for_data,
)
from rs_embed.core import registry
from rs_embed.core.encoding import Batch, Features
from rs_embed.core.model_spec import Frames, InputSpec, ModelSpec, Source, Variant, Window

MONTHS = Frames("composite", "month", max=4, missing="mask")
GRID = OutputSpec.grid()
SIDE = 8


class Means(PatchMeans):
    """The mean over frames of red, near infrared, VV and elevation at each pixel; 0 where they are not given."""

    def __call__(self, batch: Batch) -> Features:
        return Features(grid=laid({name: each.pixels.mean(1) for name, each in batch.inputs.items()}))


class First(PatchMeans):
    """The first frame of the same bands."""

    def __call__(self, batch: Batch) -> Features:
        return Features(grid=laid({name: each.pixels[:, 0] for name, each in batch.inputs.items()}))


def laid(given: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """``(N, 4, H, W)``: the bands of each input in their place."""
    N, _, H, W = next(iter(given.values())).shape
    out = np.zeros((N, 4, H, W), np.float32)
    for name, values in given.items():
        out[:, {"s2": slice(0, 2), "s1": slice(2, 3), "dem": slice(3, 4)}[name]] = values
    return out


def spec(**more: Any) -> ModelSpec:
    inputs = {
        "s2": InputSpec((Source("sentinel-2-l1c"), Source("sentinel-2-l2a")), ("B4", "B8"), frames=MONTHS),
        "s1": InputSpec((Source("sentinel-1"),), ("VV",), frames=MONTHS),
        "dem": InputSpec((Source("dem"),), ("elevation",), frames=Frames("static")),
    }
    said: dict[str, Any] = {
        "name": "means",
        "title": "means of bands",
        "inputs": inputs,
        "modalities": {"s2": ("s2",), "s1": ("s1",), "s2+s1": ("s2", "s1"), "all": ("s2", "s1", "dem")},
        "variants": {"default": Variant(Window(None), {"pooled": 4, "grid": 4})},
        "encoder": lambda build: Means(1),
        "pooled": "cells",
        "pooled_says": "means",
        "citation": "@misc{means}",
        "licence": {"code": "none", "weights": "none"},
        "source": "tests",
        "locality": "pixel",
    }
    return ModelSpec(**(said | more))


@pytest.fixture(autouse=True)
def means() -> Iterator[None]:
    before = dict(registry._registered)
    registry.register(spec())
    yield
    registry._registered.clear()
    registry._registered.update(before)


def rows(bands: int, frames: int = 3, seed: int = 0, side: int = SIDE) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(100, 3000, (frames, bands, side, side)).astype(np.float32)


def s2(**more: Any) -> UserData:
    return UserData(rows(2), "s2", **({"bands": ["B4", "B8"]} | more))


def s1(frames: int = 3, **more: Any) -> UserData:
    return UserData(rows(2, frames, 1) / -300, "s1", **more)


def dem(**more: Any) -> UserData:
    return UserData(rows(2, 1, 2)[0], "dem", **more)


def test_several_arrays_are_the_modality_of_their_sensors() -> None:
    arrays = s2(), s1(), dem()
    found = get_embedding_from_data("means", arrays, output=GRID)
    assert found.meta["modality"] == "all" and list(found.meta["inputs"]) == ["s2", "s1", "dem"]
    wanted = [arrays[0].data.mean(0), arrays[1].data[:, :1].mean(0), arrays[2].data[:1]]
    np.testing.assert_allclose(found.values(), np.concatenate(wanted), rtol=1e-5)
    assert get_embedding_from_data("means", (s1(), s2()), output=GRID).meta["modality"] == "s2+s1"


def test_a_tuple_of_one_is_the_one() -> None:
    for data in ((s2(),), [s2()]):
        np.testing.assert_array_equal(
            get_embedding_from_data("means", data).data, get_embedding_from_data("means", s2()).data
        )


def test_the_first_array_says_where_and_when() -> None:
    place, time = PointBuffer(11.5, 48.1, 500), TemporalSpec.parse("2022-04")
    found = get_embedding_from_data("means", (s2(spatial=place, temporal=time), s1()), output=GRID)
    assert found.meta["center"] == pytest.approx([11.5, 48.1]) and found.meta["temporal"]["start"] == "2022-04-01"


def test_regions_of_one_and_of_several_arrays_keep_their_order() -> None:
    some = [(s2(), s1()), (s2(bands=["B8", "B4"]), s1()), (s1(), s2())]
    found = get_embeddings_batch_from_data("means", some)
    assert [each.meta["modality"] for each in found] == ["s2+s1"] * 3
    np.testing.assert_allclose(found[0].data, found[2].data)
    np.testing.assert_allclose(found[0].data[[1, 0, 2, 3]], found[1].data, rtol=1e-6)


def test_a_region_that_cannot_be_taken_ends_alone() -> None:
    with pytest.raises(BatchError) as caught:
        get_embeddings_batch_from_data("means", [(s2(), s1()), (s2(), dem())])
    assert list(caught.value.errors) == [1] and caught.value.results[0].ok


@pytest.mark.parametrize(
    ("data", "more", "kind", "said"),
    [
        ((s2(), dem()), {}, ModelError, r"takes no dem together with sentinel-2-l2a; its modalities are s2 \("),
        ((s2(), s1()), {"modality": "s2"}, ModelError, "modality='s2' takes sentinel-2-l2a, not sentinel-1"),
        ((s2(), s1(2)), {}, ModelError, "as many frames .* 3 of sentinel-2-l2a, 2 of sentinel-1"),
        ((s2(), s1(5)), {}, ModelError, "at most 4 frames, the array has 5"),
        ((s2(bands=["B2", "B8"]), s1()), {}, ModelError, "needs the bands B4, B8 of sentinel-2-l2a; .* no B4"),
        ((s2(), s2()), {}, SpecError, "two of the arrays of one place are of sentinel-2-l2a"),
        ((s2(), 7), {}, SpecError, "tuple must be UserData"),
        ((), {}, SpecError, "tuple must be UserData"),
        ("s2", {}, SpecError, "str must be UserData"),
    ],
)
def test_what_cannot_be_taken_together(data: Any, more: dict[str, Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        get_embedding_from_data("means", data, **more)


def test_models_of_one_input_say_what_they_take() -> None:
    with pytest.raises(ModelError, match=r"takes no sentinel-1 together with .*; its input is sentinel-2-l2a or"):
        get_embedding_from_data("rcf", (s2(), s1()))


def test_frames_are_put_in_the_order_of_their_dates() -> None:
    registry.register(spec(encoder=lambda build: First(1)), replace=True)
    days = [TemporalSpec.parse(day) for day in ("2022-05", "2022-03", "2022-04")]
    found = get_embedding_from_data("means", s2(temporal=days), output=GRID)
    np.testing.assert_array_equal(found.values()[:2], s2().data[1])
    undated = get_embedding_from_data("means", s2(), output=GRID)
    np.testing.assert_array_equal(undated.values()[:2], s2().data[0])


def test_a_pixel_that_any_input_sees_counts() -> None:
    blind = rows(2)
    blind[:, :, 0, 0] = np.nan
    found = get_embedding_from_data("means", (UserData(blind, "s2", bands=["B4", "B8"]), s1()), output=GRID)
    assert np.isfinite(found.values()).all()
    alone = get_embedding_from_data("means", UserData(blind, "s2", bands=["B4", "B8"]), output=GRID)
    assert np.isnan(alone.values()[:, 0, 0]).all() and np.isfinite(alone.values()[:, 0, 1:]).all()


def test_models_for_several_arrays() -> None:
    found = {each["model"]: each for each in list_models_for_data((s2(), s1()))}
    assert found["means"]["compatible"] and found["means"]["bands_used"] == ["B4", "B8", "VV"]
    assert not found["rcf"]["compatible"] and "together" in found["rcf"]["reason"]
    assert found["galileo"]["compatible"] and found["galileo"]["bands_used"] == ["B4", "B8", "VV", "VH"]
