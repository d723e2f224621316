"""What a net gets where frames are missing, and where an array has more frames than the net takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fakes import FakeProvider, fake_model
from odc.geo.geobox import GeoBox

from rs_embed import NoImageryError
from rs_embed.core.imagery import ImageStack
from rs_embed.core.model_spec import Frames, ModelSpec, Window
from rs_embed.inference.prepare import choose_frames, one_frame
from rs_embed.inference.setup import InputSetup, resolve

ANY = Window(size=None, patch=8, min=8, max=64, multiple=8)


def item(frames: Frames) -> InputSetup:
    spec: ModelSpec = fake_model(ANY)
    spec = replace(spec, inputs={"s2": replace(spec.inputs["s2"], frames=frames)})
    return resolve(spec, FakeProvider()).inputs["s2"]


SEEN = np.array([False, True, False, False, True])


@pytest.mark.parametrize(
    ("missing", "chosen"),
    [("mask", None), ("drop", [1, 4]), ("repeat", [1, 1, 1, 4, 4])],
    ids=["mask", "drop", "repeat"],
)
def test_missing_frames_become_what_the_spec_says(missing: str, chosen: list[int] | None) -> None:
    found = choose_frames(SEEN, item(Frames(step="month", max=24, missing=missing)))  # type: ignore[arg-type]
    assert (None if found is None else found.tolist()) == chosen


@pytest.mark.parametrize("frames", [Frames(step="month", max=24), Frames(step="month", min=3, max=24, missing="drop")])
def test_too_few_frames_are_an_error_that_counts_them(frames: Frames) -> None:
    with pytest.raises(NoImageryError, match="3 of 5 frames"):
        choose_frames(SEEN, item(frames))


def test_frames_that_are_all_there_stay_as_they_are() -> None:
    assert choose_frames(np.ones(5, bool), item(Frames(step="month", max=24))) is None


def test_several_frames_of_an_array_are_their_median_of_what_is_valid() -> None:
    pixels = np.arange(1, 13, dtype=np.float32).reshape(3, 1, 2, 2)
    valid = np.ones((3, 2, 2), bool)
    valid[2, 0, 0] = False
    valid[:, 1, 1] = False
    times = np.array(["2022-01-01", "2022-02-01", "2022-03-01"], "datetime64[s]")
    found = one_frame(ImageStack(pixels, valid, times, GeoBox((2, 2), None, None)), item(Frames()))
    assert found.pixels.shape == (1, 1, 2, 2)
    assert found.valid[0].tolist() == [[True, True], [True, False]]
    assert found.pixels[0, 0][found.valid[0]].tolist() == [3.0, 6.0, 7.0]
