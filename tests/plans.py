"""Plans of made-up models, on regions of whole pixels."""

from __future__ import annotations

from typing import Any

from fakes import FakeProvider, fake_model

from rs_embed import BBox, InputPrepSpec, OutputSpec, TemporalSpec
from rs_embed.core.geometry import locate
from rs_embed.core.model_spec import ModelSpec, Window
from rs_embed.core.specs import FetchSpec, SpatialSpec
from rs_embed.inference.plan import Plan, make_plan
from rs_embed.inference.setup import resolve

SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")
PIXEL = Window(size=None, halo=2)


def region_px(height: int, width: int) -> BBox:
    """A region of that many 10 m pixels, on the lattice."""
    return BBox(500_000, 5_000_000 - 10 * height, 500_000 + 10 * width, 5_000_000, crs="EPSG:32632")


def planned(
    spatial: SpatialSpec,
    model: ModelSpec | Window,
    prep: InputPrepSpec | str = "resize",
    output: OutputSpec | None = None,
    fetch: FetchSpec | None = None,
    **options: Any,
) -> Plan:
    spec = model if isinstance(model, ModelSpec) else fake_model(model)
    setup = resolve(spec, FakeProvider(), fetch=fetch, options=options)
    prep = InputPrepSpec(prep) if isinstance(prep, str) else prep
    out = output or OutputSpec.grid()
    return make_plan(setup, locate(spatial), temporal=SUMMER, output=out, prep=prep)
