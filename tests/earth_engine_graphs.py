"""What Earth Engine is told for each sensor and composite, as lines that a person can read: the golden files.

``python tests/earth_engine_graphs.py`` writes them anew; look at what changed before committing it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import earth_engine_scenes as painted
from earth_engine_stub import TOKEN, EarthEngineStub, Stored, serving
from google.oauth2.credentials import Credentials
from product_images import image_of
from product_stores import AefTile, codes

from rs_embed import BBox, TemporalSpec, get_embedding
from rs_embed.core.imagery import ImageRequest
from rs_embed.providers.earth_engine import EarthEngineProvider

FOLDER = Path(__file__).parent / "golden" / "earth_engine"
COMPOSITES = ("median", "mean", "mosaic")


def images() -> list[Stored]:
    """Few scenes of every collection."""
    optical = [
        stored
        for number, collection in enumerate(list(painted.LOOKS)[:6])
        for stored in painted.optical(collection, dates=2, seed=number)
    ]
    return [*optical, *painted.modis(), *painted.weather(), *painted.relief(2), *painted.photographs()]


def cases() -> Iterator[tuple[str, ImageRequest]]:
    """Requests by the name of their golden file."""
    for sensor, bands, changes in (
        ("sentinel-2-l2a", ("B4", "B8", "B11"), {}),
        ("sentinel-2-l1c", ("B4", "B10"), {}),
        ("sentinel-1", ("VV", "VH"), {}),
        ("landsat-c2-l2", ("SR_B4", "SR_B5"), {}),
        ("hls-s30", ("B04", "B8A"), {}),
        ("hls-l30", ("B04", "B05"), {}),
        ("modis-09ga", ("sur_refl_b01", "sur_refl_b02"), {"radius": 6000}),
        ("naip", ("R", "N"), {"radius": 30}),
        ("era5", ("temperature_2m", "total_precipitation"), {"radius": 40000}),
        ("dem", ("elevation", "slope"), {"intervals": ()}),
    ):
        for composite in COMPOSITES:
            yield f"{sensor}-{composite}", painted.request(sensor, bands, composite=composite, **changes)
    yield "sentinel-2-l2a-none", painted.request("sentinel-2-l2a", ("B4",), composite="none")
    yield "sentinel-2-l2a-coarse", painted.request("sentinel-2-l2a", ("B4", "B11"), gsd=40.0)
    yield "sentinel-2-l2a-unmasked", painted.request("sentinel-2-l2a", ("B4",), mask=None)


def product_request() -> tuple[list[Stored], dict[str, Any]]:
    """Tiles of AlphaEarth that meet, and a call of `get_embedding` across them."""
    tiles = [
        AefTile(f"2024/32N/x-{n}.tiff", "EPSG:32632", 686_080.0 + 2560 * n, 5_335_040.0, codes(n, 64, 256, 256))
        for n in range(2)
    ]
    region = BBox(688_540, 5_334_500, 688_740, 5_334_640, crs="EPSG:32632")
    return [image_of(tile) for tile in tiles], {"spatial": region, "temporal": TemporalSpec.year(2024)}


def recorded_product(world: EarthEngineStub) -> list[dict[str, Any]]:
    """The requests for pixels that AlphaEarth makes."""
    provider = EarthEngineProvider("my-project", credentials=Credentials(TOKEN), url=world.url, attempts=1)
    get_embedding("gse", backend=provider, **product_request()[1])
    bodies = ({**body, "expression": readable(body["expression"])} for body in world.posted("computePixels"))
    return sorted(bodies, key=lambda body: json.dumps(body, sort_keys=True))


def readable(expression: Mapping[str, Any]) -> list[str]:
    """A graph in order of its evaluation, whatever numbers and nesting the client gave it."""
    values, lines, known = expression["values"], list[str](), dict[str, str]()

    def told(node: Mapping[str, Any]) -> str:
        ((kind, content),) = node.items()
        if kind == "valueReference":
            return told(values[content])
        if kind == "arrayValue":
            return f"[{', '.join(told(each) for each in content['values'])}]"
        if kind == "functionDefinitionValue":
            return f"({', '.join(content['argumentNames'])}) -> {told(values[content['body']])}"
        if kind != "functionInvocationValue":
            return json.dumps(content)
        given = ", ".join(f"{name}={told(each)}" for name, each in sorted(content["arguments"].items()))
        call = f"{content['functionName']}({given})"
        if call not in known:
            known[call] = f"%{len(known)}"
            lines.append(f"{known[call]} = {call}")
        return known[call]

    told(values[expression["result"]])
    return lines


def recorded(world: EarthEngineStub, request: ImageRequest) -> list[dict[str, Any]]:
    """The requests for pixels that a request makes, in order of what they say."""
    provider = EarthEngineProvider("my-project", credentials=Credentials(TOKEN), url=world.url, attempts=1)
    before = len(world.posted("computePixels"))
    list(provider.load(request, [request.geobox] if request.geobox else []))
    bodies = world.posted("computePixels")[before:]
    return sorted(
        ({**body, "expression": readable(body["expression"])} for body in bodies), key=lambda body: body["expression"]
    )


def main() -> None:
    data = Path(__file__).parents[2] / "shared" / "data" / "earth_engine_rest"
    world = EarthEngineStub.of(data)
    world.images, world.collections = images(), {"LANDSAT/LC09/C02/T1_L2"}
    FOLDER.mkdir(parents=True, exist_ok=True)
    with serving(world):
        for name, request in cases():
            text = json.dumps(recorded(world, request), indent=1, sort_keys=True)
            (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    world = EarthEngineStub.of(data)
    world.images = product_request()[0]
    with serving(world):
        text = json.dumps(recorded_product(world), indent=1, sort_keys=True)
        (FOLDER / "gse.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
